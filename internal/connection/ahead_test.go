package connection_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
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

// The record is the durable point of a rotation, and the keychain follows.
func TestTheKeychainFollowsTheRecord(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	before := r.connect("a").Generation
	r.clock.add(pastExpiry)
	writes := 0
	r.mem.Slow(keyringtest.Set, func() {
		writes++
		h, err := r.store.Header(connection.Key{Project: projectID, Name: "a"})
		if err != nil || h.Generation <= before {
			t.Errorf("the keychain is written, and the record is not: %v", err)
		}
	})
	r.alive("a")
	if writes == 0 {
		t.Error("the keychain was not written")
	}
}

// unwritable is a store whose record cannot be replaced.
type unwritable struct{ connection.Store }

func (s unwritable) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	g, err := s.Store.Lock(ctx, key, wait)
	return unwritableGuard{g}, err
}

type unwritableGuard struct{ connection.Guard }

func (unwritableGuard) Commit(context.Context, *connection.Record) error {
	return fmt.Errorf("write the record: %w", connection.ErrStoreFull)
}

// a token is handed out when it is durable, and not before. Its answer is
// kept, so that the next process needs no request.
func TestNothingIsHandedOutThatIsNotStored(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.clock.add(pastExpiry)
		src := r.process()
		src.Store = unwritable{src.Store}
		a, err := src.Token(r.Context(), "a", connection.Option{})
		r.wantErr(err, connection.ErrStoreFull)
		if !a.Token.IsZero() {
			r.Error("a token came with the error")
		}
		if n := r.requests(func() { r.alive("a") }); n != 0 {
			r.Errorf("%d requests for an answer that lay there", n)
		}
	})
}

// a clock that stands before the moment when a token arrived says nothing
// about its age. A little is forgiven.
func TestClockBeforeTheToken(t *testing.T) {
	for back, want := range map[time.Duration]int{time.Minute: 0, 24 * time.Hour: 1, 240 * time.Hour: 1} {
		r := start(t, strict(), store.KindFile)
		r.connect("a")
		r.clock.add(-back)
		if n := r.requests(func() { r.alive("a") }); n != want {
			t.Errorf("%v back: %d requests, want %d", back, n, want)
		}
	}
}
