package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// forcedEvery is how often a connection's token is refreshed because an API
// refused it. An API that refuses every token must not cost the grant.
const forcedEvery = time.Minute

// renewal finds another token in place of one that an API has refused.
type renewal struct {
	mu   sync.Mutex
	last time.Time // of the last forced refresh
}

// instead returns a token other than the refused one: the one that somebody else
// has got meanwhile, or a new one, at most one in each minute.
func (n *renewal) instead(ctx context.Context, tokens Tokens, connection string, refused secret.Text, now time.Time) (secret.Text, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, err := tokens.Token(ctx, connection, false); err == nil && !t.Equal(refused) {
		return t, true
	}
	if since := now.Sub(n.last); !n.last.IsZero() && since >= 0 && since < forcedEvery {
		return secret.Text{}, false
	}
	n.last = now
	t, err := tokens.Token(ctx, connection, true)
	if err != nil || t.Equal(refused) {
		return secret.Text{}, false
	}
	return t, true
}
