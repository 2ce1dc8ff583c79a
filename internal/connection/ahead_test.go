package connection_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
)

// watched is an issuer that tells when a token request is about to be sent.
type watched struct {
	*oauth.HTTP
	before func()
}

func (w watched) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	w.before()
	return w.HTTP.PostToken(ctx, r)
}

// fullStore has no room for an intent.
type fullStore struct{ connection.Store }

func (s fullStore) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	g, err := s.Store.Lock(ctx, key, wait)
	return fullGuard{g}, err
}

type fullGuard struct{ connection.Guard }

func (fullGuard) Begin(context.Context, connection.Intent) error {
	return fmt.Errorf("write ahead: %w", connection.ErrStoreFull)
}

// when the request leaves, the intent lies there, with space for the answer.
func TestTheIntentComesBeforeTheRequest(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.clock.add(pastExpiry)
		src := r.process()
		sent := 0
		src.Issuer = watched{src.Issuer.(*oauth.HTTP), func() {
			sent++
			wal, err := os.Stat(filepath.Join(r.store.Dir(), projectID, "a.wal"))
			if err != nil || wal.Size() < 192<<10 {
				r.Errorf("nothing lies in the write-ahead file, or no space is reserved: %v, %v", wal, err)
			}
		}}
		if _, err := src.Token(r.Context(), "a", connection.Option{}); err != nil || sent != 1 {
			r.Errorf("%d requests, %v", sent, err)
		}
	})
}

// without an intent nothing is sent, and nothing is lost.
func TestNothingIsSentWithoutAnIntent(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.clock.add(pastExpiry)
		if n := r.requests(func() {
			src := r.process()
			src.Store = fullStore{src.Store}
			_, err := src.Token(r.Context(), "a", connection.Option{})
			r.wantErr(err, connection.ErrStoreFull)
		}); n != 0 {
			r.Errorf("%d requests went out", n)
		}
		r.alive("a")
	})
}

// an answer is durable before anybody looks whether it is of use. What a
// process leaves behind that is killed while it deals with a broken one still
// has the new refresh token.
func TestCrashWithABrokenAnswer(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		for n := 1; ; n++ {
			conn := fmt.Sprintf("c%d", n)
			r.connect(conn)
			r.clock.add(pastExpiry)
			r.must(r.issuer.SetFaults("once:refresh:bad-type"))
			point := r.crashing(n, func(src *connection.Source) { _, _ = src.Token(r.Context(), conn, connection.Option{}) })
			r.must(r.issuer.SetFaults())
			if point == "" {
				if n < 8 {
					r.Errorf("only %d points", n)
				}
				break
			}
			if lossy(point) {
				continue
			}
			if _, err := r.token(conn, connection.Option{}); err != nil {
				r.Errorf("killed %s: %v", point, err)
			}
		}
	})
}
