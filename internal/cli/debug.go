package cli

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// trace writes what --debug tells, a line each. Nothing that holds a credential
// is meant to reach it: its callers pass names, hosts, durations and errors. What
// an error of somebody else repeats all the same is masked, in every form, as far
// as the credential has been in our hands.
type trace struct {
	w   io.Writer
	now func() time.Time

	mu    sync.Mutex
	known []leak.Secret
	set   *leak.Set // of known; nil when it has to be made anew
}

// learn adds credentials that must not be told.
func (t *trace) learn(values ...secret.Text) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, v := range values {
		if !v.IsZero() && !slices.ContainsFunc(t.known, func(k leak.Secret) bool { return k.Value.Equal(v) }) {
			t.known = append(t.known, leak.Secret{Value: v})
			t.set = nil
		}
	}
}

func (t *trace) line(format string, a ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.set == nil {
		t.set = leak.NewSet(t.known)
	}
	text := fmt.Sprintf(format, a...)
	var masked strings.Builder
	m := t.set.NewMasker(&masked)
	_, _ = io.WriteString(m, text)
	_ = m.Close()
	_, _ = fmt.Fprintf(t.w, "apiauth: debug: %s\n", oauth.Clean(masked.String()))
}

// done reports one operation and how it went.
func (t *trace) done(began time.Time, err error, format string, a ...any) {
	outcome := "ok"
	if err != nil {
		outcome = err.Error()
	}
	t.line("%s: %s (%s)", fmt.Sprintf(format, a...), outcome, t.now().Sub(began).Round(100*time.Microsecond))
}

// debug returns the trace when --debug asks for it, else nil.
func (ws *workspace) debug() *trace {
	if ws.cfg.Debug && ws.trace == nil {
		ws.trace = &trace{w: ws.app.Stderr, now: ws.app.Now}
	}
	return ws.trace
}

// learnItem adds what a keychain item holds: a grant stands behind its numbers.
func (t *trace) learnItem(v secret.Text) {
	t.learn(v)
	if fields := strings.Fields(v.Reveal()); len(fields) > 1 {
		t.learn(secret.New(fields[len(fields)-1]))
	}
}

// tracedKeychain tells of each keychain call. Values are not told.
type tracedKeychain struct {
	store.Keychain
	t *trace
}

func (k tracedKeychain) Get(ctx context.Context, service, account string) (secret.Text, error) {
	began := k.t.now()
	v, err := k.Keychain.Get(ctx, service, account)
	k.t.learnItem(v)
	k.t.done(began, err, "keychain: get %s %s", service, account)
	return v, err
}

func (k tracedKeychain) Set(ctx context.Context, service, account string, value secret.Text) error {
	began := k.t.now()
	k.t.learnItem(value)
	err := k.Keychain.Set(ctx, service, account, value)
	k.t.done(began, err, "keychain: set %s %s", service, account)
	return err
}

func (k tracedKeychain) Delete(ctx context.Context, service, account string) error {
	began := k.t.now()
	err := k.Keychain.Delete(ctx, service, account)
	k.t.done(began, err, "keychain: delete %s %s", service, account)
	return err
}

// tracedIssuer tells of each request to an issuer: where it went and what came
// of it, never what was in it.
type tracedIssuer struct {
	*oauth.HTTP
	t *trace
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "?"
	}
	return u.Host + u.Path
}

func (i tracedIssuer) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	grant := ""
	i.t.learn(r.Client.Secret)
	for _, p := range r.Form {
		i.t.learn(p.Secret)
		if p.Name == "grant_type" {
			grant = p.Value
		}
	}
	began := i.t.now()
	a, err := i.HTTP.PostToken(ctx, r)
	i.t.done(began, err, "token request to %s, grant %s, client authentication %s, HTTP status %d", hostOf(r.Endpoint), grant, r.Client.Method, a.Status)
	return a, err
}

func (i tracedIssuer) Identity(ctx context.Context, r oauth.IdentityRequest) (oauth.Account, error) {
	began := i.t.now()
	i.t.learn(r.Access)
	a, err := i.HTTP.Identity(ctx, r)
	i.t.done(began, err, "identity request to %s", hostOf(r.Endpoint))
	return a, err
}

func (i tracedIssuer) Revoke(ctx context.Context, r oauth.RevokeRequest) error {
	began := i.t.now()
	i.t.learn(r.Access, r.Refresh, r.Client.Secret)
	err := i.HTTP.Revoke(ctx, r)
	i.t.done(began, err, "revocation request to %s", hostOf(r.Endpoint))
	return err
}

// traced puts the trace around what a Source works with.
func (ws *workspace) traced(src *connection.Source, client *oauth.HTTP) {
	t := ws.debug()
	if t == nil {
		return
	}
	t.line("project %s, store %s (%s), state in %s", src.Project, src.Store.ID(), src.Store.Kind(), ws.dirs.State)
	src.Issuer = tracedIssuer{client, t}
}
