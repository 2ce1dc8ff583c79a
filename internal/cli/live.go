package cli

import (
	"context"
	"errors"
	"sync"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// liveTokens hands out tokens for as long as a run lasts. What it has given once
// it gives again while the record and the token live, so that a request does
// not ask the keychain; a connection that was removed is refused at once.
type liveTokens struct {
	ws     *workspace
	source *connection.Source
	option connection.Option

	mu   sync.Mutex
	last map[string]connection.Access
}

// live makes one for connections whose tokens were handed out at the start.
func (ws *workspace) live(accesses []connection.Access, o connection.Option) (*liveTokens, error) {
	s, err := ws.store()
	if err != nil {
		return nil, err
	}
	source, err := ws.source(s)
	if err != nil {
		return nil, err
	}
	l := &liveTokens{ws: ws, source: source, option: o, last: make(map[string]connection.Access)}
	for _, a := range accesses {
		l.last[a.Name] = a
	}
	return l, nil
}

// Token returns a live token of the named connection. With refresh it asks for
// another one than before, which an API has refused.
func (l *liveTokens) Token(ctx context.Context, name string, refresh bool) (secret.Text, error) {
	option := l.option
	option.Refresh = refresh
	l.mu.Lock()
	last, given := l.last[name]
	l.mu.Unlock()
	if given && !refresh && l.source.Current(last, option) {
		return last.Token, nil
	}
	access, err := l.source.Token(ctx, name, option)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		delete(l.last, name)
		if errors.Is(err, connection.ErrNotConnected) {
			err = l.ws.notConnected(name)
		}
		return secret.Text{}, err
	}
	l.last[name] = access
	return access.Token, nil
}
