package connection_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// crash ends a process at its nth point. Files and keychain stay as they are at
// that moment, and the system takes the locks away.
type crash struct {
	at    int // 1 is the first point; 0 never
	seen  int
	name  string // of the point where it ended
	end   func()
	guard connection.Guard
}

func (c *crash) point(name string) {
	c.seen++
	if c.seen == c.at {
		c.name = name
		c.end()
	}
}

func around[T any](c *crash, name string, do func() T) T {
	c.point("before " + name)
	v := do()
	c.point("after " + name)
	return v
}

type crashStore struct {
	connection.Store
	*crash
}

func (s crashStore) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	g, err := s.Store.Lock(ctx, key, wait)
	if err != nil {
		return nil, err
	}
	s.crash.guard = g
	s.point("after Lock")
	return crashGuard{g, s.crash}, nil
}

func (s crashStore) PromoteNext(ctx context.Context, r *connection.Registration, used secret.Text) error {
	return around(s.crash, "PromoteNext", func() error { return s.Store.PromoteNext(ctx, r, used) })
}

type crashGuard struct {
	connection.Guard
	*crash
}

func (g crashGuard) Begin(ctx context.Context, in connection.Intent) error {
	return around(g.crash, "Begin", func() error { return g.Guard.Begin(ctx, in) })
}

func (g crashGuard) Seal(ctx context.Context, raw []byte) error {
	return around(g.crash, "Seal", func() error { return g.Guard.Seal(ctx, raw) })
}

func (g crashGuard) Commit(ctx context.Context, rec *connection.Record) error {
	return around(g.crash, "Commit", func() error { return g.Guard.Commit(ctx, rec) })
}

func (g crashGuard) SetGrant(ctx context.Context, grant connection.Grant) error {
	return around(g.crash, "SetGrant", func() error { return g.Guard.SetGrant(ctx, grant) })
}

func (g crashGuard) Drop() error { return around(g.crash, "Drop", g.Guard.Drop) }

type crashIssuer struct {
	*oauth.HTTP
	*crash
}

func (i crashIssuer) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	i.point("before the request")
	a, err := i.HTTP.PostToken(ctx, r)
	i.point("after the answer")
	return a, err
}

// crashing runs do in a process that ends at point n, and returns where that
// was, or nothing when it got through.
func (r *rig) crashing(n int, do func(src *connection.Source)) string {
	src := r.process()
	c := &crash{at: n}
	src.Store = crashStore{src.Store, c}
	src.Issuer = crashIssuer{src.Issuer.(*oauth.HTTP), c}
	c.end = func() {
		c.guard.Unlock()
		runtime.Goexit()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(src)
	}()
	<-done
	return c.name
}

// lossy says where a strict issuer's rotation may be lost: between its commit
// and the return of the write-ahead's sync.
func lossy(point string) bool { return point == "after the answer" || point == "before Seal" }

func TestCrashDuringRefresh(t *testing.T) {
	for name, o := range map[string]sandbox.Options{"with grace": gracious(), "strict": strict()} {
		t.Run(name, func(t *testing.T) {
			bothKinds(t, o, func(r *rig) {
				for n := 1; ; n++ {
					conn := fmt.Sprintf("c%d", n)
					r.connect(conn)
					r.clock.add(pastExpiry)
					point := r.crashing(n, func(src *connection.Source) { _, _ = src.Token(r.Context(), conn, connection.Option{}) })
					if point == "" {
						if n < 8 {
							r.Errorf("only %d points", n)
						}
						break
					}
					if name == "strict" && lossy(point) {
						_, err := r.token(conn, connection.Option{})
						r.wantErr(err, connection.ErrNeedsConnect)
						if !strings.Contains(err.Error(), "interrupted") {
							r.Errorf("%s: not explained: %v", point, err)
						}
						r.read(conn)
						continue
					}
					want := 1
					if strings.HasSuffix(point, "Commit") || strings.HasSuffix(point, "SetGrant") || point == "after Seal" {
						want = 0 // promoted or there already
					}
					if got := r.requests(func() { r.alive(conn) }); got != want {
						r.Errorf("%s: %d requests to recover, want %d", point, got, want)
					}
					for range 3 { // and it goes on
						r.clock.add(pastExpiry)
						r.alive(conn)
					}
				}
				if name == "with grace" && r.issuer.Stats().Reuse != 0 {
					r.Errorf("%d reuses", r.issuer.Stats().Reuse)
				}
			})
		})
	}
}

// TestCrashTwiceAtAStrictIssuer: a refresh is cut off while the stored token is
// good, and then the process that asks for the lost answer is cut off as well. Who
// comes next gets a token that lives, or is told to connect: never one that ended
// with its grant.
func TestCrashTwiceAtAStrictIssuer(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		lost := 0
		for n, first := 1, "?"; first != ""; n++ {
			for m, second := 1, "?"; second != ""; m++ {
				conn := fmt.Sprintf("c%d-%d", n, m)
				r.connect(conn)
				first = r.crashing(n, func(src *connection.Source) { _, _ = src.Token(r.Context(), conn, connection.Option{Refresh: true}) })
				if first == "" {
					break
				}
				second = r.crashing(m, func(src *connection.Source) { _, _ = src.Token(r.Context(), conn, connection.Option{}) })
				access, err := r.token(conn, connection.Option{})
				switch {
				case err == nil && !r.issuer.Active(access.Token):
					r.Errorf("%s, then %s: a dead token is handed out", first, second)
				case err != nil:
					r.wantErr(err, connection.ErrNeedsConnect)
					if !lossy(first) && !lossy(second) {
						r.Errorf("%s, then %s: the grant is lost: %v", first, second, err)
					}
					if !strings.Contains(err.Error(), "interrupted") {
						r.Errorf("%s, then %s: not explained: %v", first, second, err)
					}
					lost++
				}
			}
		}
		if lost == 0 {
			r.Error("no moment was lost: the issuer is not strict")
		}
	})
}

// TestCrashWithGoodToken: a reader that needs no refresh completes one too.
func TestCrashWithGoodToken(t *testing.T) {
	bothKinds(t, gracious(), func(r *rig) {
		for n := 1; ; n++ {
			conn := fmt.Sprintf("c%d", n)
			r.connect(conn)
			point := r.crashing(n, func(src *connection.Source) { _, _ = src.Token(r.Context(), conn, connection.Option{Refresh: true}) })
			if point == "" {
				break
			}
			r.alive(conn)
			r.clock.add(pastExpiry)
			r.alive(conn)
		}
		if n := r.issuer.Stats().Reuse; n != 0 {
			r.Errorf("%d reuses", n)
		}
		// Much later nobody asks for a lost answer before a token is needed.
		r.connect("late")
		r.crashing(4, func(src *connection.Source) { _, _ = src.Token(r.Context(), "late", connection.Option{Refresh: true}) })
		r.clock.add(10 * time.Minute)
		if n := r.requests(func() { r.alive("late") }); n != 0 {
			r.Errorf("%d requests for a good token", n)
		}
	})
}

func TestCrashDuringLogin(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		for _, again := range []bool{false, true} {
			for n := 1; ; n++ {
				conn := fmt.Sprintf("c%d-%t", n, again)
				if again {
					r.connect(conn)
				}
				l := r.login(conn, "alice")
				point := r.crashing(n, func(src *connection.Source) { _, _ = src.Enroll(r.Context(), l) })
				if point == "" {
					break
				}
				sealed := strings.HasSuffix(point, "Commit") || strings.HasSuffix(point, "SetGrant") || point == "after Seal"
				switch {
				case sealed:
					if n := r.requests(func() { r.alive(conn) }); n != 0 {
						r.Errorf("%s: %d requests", point, n)
					}
				case again:
					r.alive(conn) // the grant before it
				default:
					_, err := r.token(conn, connection.Option{})
					r.wantErr(err, connection.ErrNotConnected)
				}
				r.connect(conn)
				r.clock.add(pastExpiry)
				r.alive(conn)
			}
		}
		if n := r.issuer.Stats().Reuse; n != 0 {
			r.Errorf("%d reuses", n)
		}
	})
}

// TestInterruptedLoginRevives: the record needs connect, or has expired without
// a refresh token, and a login was cut off when its answer was sealed.
func TestInterruptedLoginRevives(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	r.issuer.RevokeAll()
	r.clock.add(pastExpiry)
	_, err := r.token("a", connection.Option{})
	r.wantErr(err, connection.ErrNeedsConnect)
	l := r.login("a", "alice")
	for n := 1; ; n++ {
		if point := r.crashing(n, func(src *connection.Source) { _, _ = src.Enroll(t.Context(), l) }); point == "after Seal" || point == "" {
			break
		}
		l = r.login("a", "alice")
	}
	if n := r.requests(func() { r.alive("a") }); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestCrashBeforeTheKeychain: the copy is kept, the keychain written once more,
// and believed after a later process has read it.
func TestCrashBeforeTheKeychain(t *testing.T) {
	r := start(t, gracious(), store.KindKeychain)
	r.connect("a")
	r.alive("a")
	r.clock.add(pastExpiry)
	for n := 1; ; n++ {
		if p := r.crashing(n, func(src *connection.Source) { _, _ = src.Token(t.Context(), "a", connection.Option{}) }); p == "before SetGrant" {
			break
		} else if p == "" {
			t.Fatal("never came there")
		}
		for range 2 { // so that the keychain has caught up
			r.alive("a")
			r.clock.add(pastExpiry)
		}
	}
	for range 3 {
		r.clock.add(pastExpiry)
		r.alive("a")
		if rec := r.read("a"); rec.Keychain != connection.KeychainPending || rec.Body.Refresh.IsZero() {
			t.Errorf("the keychain is %q", rec.Keychain)
		}
	}
	if r.warned("lost") {
		t.Error("the keychain was blamed")
	}
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childSpec); spec != "" { //nolint:forbidigo // the test binary as a process of its own
		os.Exit(child(spec)) //nolint:forbidigo // see above
	}
	os.Exit(m.Run()) //nolint:forbidigo // as testing documents it
}
