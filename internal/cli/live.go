package cli

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/proxy"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	// lookEvery is how often the clear header of a connection is read while its
	// token is in use, so that a disconnect counts within a second.
	lookEvery = 500 * time.Millisecond
	// failEvery is how often a token is asked for again while there is none.
	failEvery = time.Second
	// tellEvery is how often calls are written to the audit log, together.
	tellEvery = time.Second
)

// liveTokens hands out tokens for as long as a command runs. It keeps the last
// one of each connection in memory, so that neither the keychain nor the network
// is asked for every request.
type liveTokens struct {
	ws   *workspace
	kept map[string]*liveToken // filled before use
}

type liveToken struct {
	from   *origin
	mu     sync.Mutex
	access connection.Access
	pins   providers.Pins // as the command began with them
	looked time.Time      // when the record was last seen unchanged
	failed error
	since  time.Time // of failed

	told  time.Time // when calls were last written to the audit log
	calls callCount // since then
}

// callCount is calls and what came of them.
type callCount struct{ made, refused, failed int }

// add counts an answer, if it counts at all.
func (c *callCount) add(status int) {
	switch {
	case status == http.StatusUnauthorized:
		c.refused++
	case audit.Fails(status):
		c.failed++
	}
}

// live gets a token for each named connection, and then keeps them alive.
func (ws *workspace) live(ctx context.Context, names []string) (*liveTokens, error) {
	l := &liveTokens{ws: ws, kept: map[string]*liveToken{}}
	for _, name := range names {
		from, err := ws.origin(name)
		if err != nil {
			return nil, err
		}
		access, err := from.token(ctx, name, connection.Option{})
		if err != nil {
			return nil, err
		}
		l.kept[name] = &liveToken{from: from, access: access, pins: access.Header.Pins, looked: ws.app.Now()}
	}
	return l, nil
}

// Token returns a live token. Its errors are *proxy.TokenError.
func (l *liveTokens) Token(ctx context.Context, name string, refresh bool) (secret.Text, error) {
	t, ok := l.kept[name]
	if !ok {
		return secret.Text{}, &proxy.TokenError{Word: "refused", Err: errors.New("this run was not given that connection")}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := l.ws.app.Now()
	if !refresh { // else the call is counted already
		t.calls.made++
		t.tell(ctx, name, now, tellEvery)
	}
	switch {
	case t.failed != nil && now.Sub(t.since) < failEvery && !now.Before(t.since):
		return secret.Text{}, t.failed
	case t.failed == nil && !refresh && l.unchanged(t, name, now):
		return t.access.Token, nil
	}
	access, err := t.from.obtain(ctx, name, connection.Option{Refresh: refresh})
	switch {
	case ctx.Err() != nil:
		return secret.Text{}, ctx.Err()
	case err != nil && refresh:
		return secret.Text{}, tokenError(err) // the token at hand may be refused by one address only
	case err == nil && !samePlaces(&access.Header.Pins, &t.pins):
		err = failf(exitRefused, "start this command anew", "%q was connected again, and leads to other addresses now", name)
	}
	if err != nil {
		t.failed, t.since = tokenError(err), now
		return secret.Text{}, t.failed
	}
	t.access, t.looked, t.failed = access, now, nil
	return access.Token, nil
}

// Answered counts what an API answered.
func (l *liveTokens) Answered(ctx context.Context, name string, status int) {
	t, ok := l.kept[name]
	if !ok || status != http.StatusUnauthorized && !audit.Fails(status) { // most are: they wait for no lock
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.add(status)
	t.tell(ctx, name, l.ws.app.Now(), tellEvery)
}

// tell writes calls to the audit log, together, one line in a span at most.
func (t *liveToken) tell(ctx context.Context, name string, now time.Time, span time.Duration) {
	if since := now.Sub(t.told); since >= 0 && since < span {
		return
	}
	if t.calls != (callCount{}) {
		t.from.log.calls(ctx, name, t.access, t.calls)
	}
	t.told, t.calls = now, callCount{}
}

// end writes the last calls to the audit log.
func (l *liveTokens) end(ctx context.Context) {
	for name, t := range l.kept {
		t.mu.Lock()
		t.tell(context.WithoutCancel(ctx), name, l.ws.app.Now(), 0)
		t.mu.Unlock()
	}
}

// unchanged reports whether the token at hand can be used: it is not about to
// end, and the record is still the one that it came from.
func (l *liveTokens) unchanged(t *liveToken, name string, now time.Time) bool {
	if end := t.access.FreshUntil(); !end.IsZero() && !now.Before(end) {
		return false
	}
	if since := now.Sub(t.looked); since >= 0 && since < lookEvery {
		return true
	}
	h, err := t.from.store.Header(connection.Key{Project: t.from.src.Project, Name: name})
	if err != nil || h.Generation != t.access.Header.Generation {
		return false
	}
	t.looked = now
	return true
}

// samePlaces reports whether tokens may go to the same places by both.
func samePlaces(a, b *providers.Pins) bool {
	return a.APIBase == b.APIBase && a.APIAuth == b.APIAuth && a.AllowInsecureLoopback == b.AllowInsecureLoopback && a.APICertificate == b.APICertificate &&
		reflect.DeepEqual(a.APIHosts, b.APIHosts)
}

// tokenError puts an error of a source into the words of a proxy.
func tokenError(err error) *proxy.TokenError {
	code, hint := explain(err)
	word := map[int]string{
		exitTemporary:    "temporary",
		exitNeedsConnect: "needs_connect",
		exitStore:        "store",
		exitRefused:      "refused",
	}[code]
	if word == "" {
		word = "failed"
	}
	text := oauth.Clean(err.Error())
	if hint != "" {
		text += "; " + hint
	}
	return &proxy.TokenError{Word: word, Err: errors.New(text)}
}
