package connection_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

func TestWarmTokenMakesNoRequest(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		rec := r.connect("a")
		if n := r.requests(func() {
			if a := r.alive("a"); a.Refreshed || !a.Token.Equal(rec.Body.Access) {
				r.Error("another token than the stored one")
			}
		}); n != 0 {
			r.Errorf("%d requests", n)
		}
		_, err := r.token("nobody", connection.Option{})
		r.wantErr(err, connection.ErrNotConnected)
	})
}

func TestHundredAtOnce(t *testing.T) {
	for name, o := range map[string]connection.Option{"expired": {}, "refused by the API": {Refresh: true}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, strict(), store.KindKeychain)
			r.connect("a")
			if !o.Refresh {
				r.clock.add(pastExpiry)
			}
			// All have read the old record before the first one may refresh.
			src := r.process()
			gate := &gatedStore{Store: src.Store, opened: make(chan struct{})}
			gate.waiting.Add(100)
			src.Store = gate
			var (
				wg     sync.WaitGroup
				mu     sync.Mutex
				tokens = map[string]int{}
			)
			n := r.requests(func() {
				for range 100 {
					wg.Go(func() {
						a, err := src.Token(t.Context(), "a", o)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						defer mu.Unlock()
						tokens[a.Token.Reveal()]++
					})
				}
				gate.waiting.Wait()
				close(gate.opened)
				wg.Wait()
			})
			if n != 1 || len(tokens) != 1 || r.issuer.Stats().Reuse != 0 {
				t.Errorf("%d requests, %d different tokens, %d reuses", n, len(tokens), r.issuer.Stats().Reuse)
			}
			r.alive("a")
		})
	}
}

// gatedStore lets nobody take a lock before all have come.
type gatedStore struct {
	connection.Store
	waiting sync.WaitGroup
	opened  chan struct{}
}

func (s *gatedStore) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	if wait == 0 {
		return nil, &connection.LockedError{Key: key} // nobody gets it ahead of the others
	}
	if wait <= 0 {
		return nil, &connection.LockedError{Key: key} // who only looks does not wait
	}
	s.waiting.Done()
	select {
	case <-s.opened:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Store.Lock(ctx, key, wait)
}

func TestRotationForWeeks(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		for range 12 {
			r.clock.add(pastExpiry)
			if n := r.requests(func() { r.alive("a") }); n != 1 {
				r.Errorf("%d requests", n)
			}
		}
		if s := r.issuer.Stats(); s.Reuse+s.GraceReuse != 0 {
			r.Errorf("%d reuses", s.Reuse+s.GraceReuse)
		}
	})
}

// TestEveryFailureThenHealth: nothing that an issuer does costs the grant,
// although each of the answers that carry tokens has rotated.,
//
func TestEveryFailureThenHealth(t *testing.T) {
	for _, f := range []struct {
		fault string
		want  error // of the command that meets it; nil: it copes
	}{
		{"token-500", connection.ErrTemporary},
		{"once:token-500", nil},
		{"token-429", connection.ErrTemporary},
		{"once:token-429", nil},
		{"token-html", connection.ErrTemporary},
		{"token-drop-before", connection.ErrTemporary},
		{"once:token-drop-before", nil},
		{"no-expires-in", nil},
		{"expires-in-string", nil},
		{"bad-type", connection.ErrTemporary},
		{"no-refresh-token", nil},
		{"once:invalid-grant", nil},
		{"narrow-scope", nil},
	} {
		t.Run(f.fault, func(t *testing.T) {
			bothKinds(t, strict(), func(r *rig) {
				r.connect("a")
				for range 3 {
					r.clock.add(pastExpiry)
					r.must(r.issuer.SetFaults(f.fault))
					var err error
					n := r.requests(func() { _, err = r.token("a", connection.Option{}) })
					if n > 4 {
						r.Errorf("%d requests", n)
					}
					if !errors.Is(err, f.want) {
						r.Fatalf("got %v, want %v", err, f.want)
					}
				}
				r.must(r.issuer.SetFaults())
				r.clock.add(pastExpiry)
				r.alive("a")
				r.clock.add(pastExpiry)
				r.alive("a")
				if n := r.issuer.Stats().Reuse; n != 0 {
					r.Errorf("%d reuses", n)
				}
			})
		})
	}
}

func TestTokenThatIsStillAliveIsServed(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	r.clock.add(57 * time.Minute) // due, not dead
	for _, fault := range []string{"token-500", "token-html", "token-drop-before", "bad-type"} {
		r.must(r.issuer.SetFaults(fault))
		if a := r.alive("a"); a.Refreshed {
			t.Error("a new token from nowhere")
		}
	}
	_, err := r.token("a", connection.Option{MinTTL: 10 * time.Minute})
	r.wantErr(err, connection.ErrTemporary)
	if !r.warned("still alive") {
		t.Error("nobody was told")
	}
}

func TestGrantEnded(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.connect("b")
		r.must(r.issuer.SetFaults("invalid-grant"))
		r.clock.add(57 * time.Minute)
		a, err := r.process().Token(r.Context(), "b", connection.Option{})
		if err != nil || a.Refreshed || a.Header.State != connection.StateNeedsConnect {
			r.Errorf("the last token of an ended grant was not served: %v", err)
		}
		if _, err = r.process().Token(r.Context(), "b", connection.Option{}); err != nil {
			r.Error(err)
		}
		r.clock.add(pastExpiry)
		n := r.requests(func() {
			_, err := r.token("a", connection.Option{})
			r.wantErr(err, connection.ErrNeedsConnect)
		})
		if n < 2 || n > 4 {
			r.Errorf("%d requests", n)
		}
		rec := r.read("a")
		if rec.State != connection.StateNeedsConnect || rec.Body.Refresh.IsZero() && rec.Keychain == connection.KeychainPending {
			r.Error("the record was not kept as it was")
		}
		if n := r.requests(func() {
			_, err := r.token("a", connection.Option{})
			r.wantErr(err, connection.ErrNeedsConnect)
		}); n != 0 {
			r.Errorf("%d requests for a grant that is known to have ended", n)
		}
		r.must(r.issuer.SetFaults())
		r.connect("a")
		r.alive("a")
	})
}

func TestLostAnswer(t *testing.T) {
	t.Run("with grace", func(t *testing.T) {
		r := start(t, gracious(), store.KindKeychain)
		r.connect("a")
		r.clock.add(pastExpiry)
		r.must(r.issuer.SetFaults("once:refresh:token-drop-after"))
		if n := r.requests(func() { r.alive("a") }); n != 2 {
			t.Errorf("%d requests", n)
		}
		if s := r.issuer.Stats(); s.GraceReuse != 1 || s.Reuse != 0 {
			t.Errorf("grace %d, reuse %d", s.GraceReuse, s.Reuse)
		}
	})
	t.Run("strict", func(t *testing.T) {
		r := start(t, strict(), store.KindKeychain)
		r.connect("a")
		r.clock.add(pastExpiry)
		r.must(r.issuer.SetFaults("once:refresh:token-drop-after"))
		_, err := r.token("a", connection.Option{})
		r.wantErr(err, connection.ErrNeedsConnect)
		if !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("not explained: %v", err)
		}
	})
	t.Run("for ever", func(t *testing.T) {
		r := start(t, gracious(), store.KindFile)
		r.connect("a")
		r.clock.add(pastExpiry)
		r.must(r.issuer.SetFaults("refresh:token-drop-after"))
		if n := r.requests(func() {
			_, err := r.token("a", connection.Option{})
			r.wantErr(err, connection.ErrTemporary)
		}); n != 2 {
			t.Errorf("%d requests", n)
		}
		r.must(r.issuer.SetFaults())
		r.alive("a")
	})
}

// scripted answers token requests one after the other; the last answer stays.
type scripted struct {
	steps []func(ctx context.Context) (oauth.Answer, error)
	sent  []oauth.TokenRequest
}

func (s *scripted) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	step := s.steps[min(len(s.sent), len(s.steps)-1)]
	s.sent = append(s.sent, r)
	return step(ctx)
}

func (s *scripted) Sites(context.Context, oauth.SitesRequest) ([]oauth.Site, error) {
	return nil, errors.New("nobody asks here which sites there are")
}

func (s *scripted) Identity(context.Context, oauth.IdentityRequest) (oauth.Account, error) {
	return oauth.Account{Subject: "s"}, nil
}
func (s *scripted) Revoke(context.Context, oauth.RevokeRequest) error { return nil }

func fails(err error) func(context.Context) (oauth.Answer, error) {
	return func(context.Context) (oauth.Answer, error) { return oauth.Answer{}, err }
}

func (r *rig) answers(status int, body, retryAfter string) func(context.Context) (oauth.Answer, error) {
	return func(context.Context) (oauth.Answer, error) {
		return oauth.Answer{Status: status, ContentType: "application/json", RetryAfter: retryAfter, Date: r.clock.now(), ReceivedAt: r.clock.now(), Body: []byte(body)}, nil
	}
}

const good = `{"access_token":"new-access","token_type":"bearer","expires_in":3600,"refresh_token":"new-refresh"}`

func TestRequestsAreFew(t *testing.T) {
	for name, c := range map[string]struct {
		steps  func(r *rig) []func(context.Context) (oauth.Answer, error)
		want   error
		sent   int
		waited time.Duration // at least; at most 31 s
		says   string
	}{
		"no way there": {func(*rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){fails(oauth.ErrNotSent)}
		}, connection.ErrTemporary, 3, 0, ""},
		"not allowed by ourselves": {func(*rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){fails(errors.Join(oauth.ErrNotSent, oauth.ErrRefused))}
		}, connection.ErrRefused, 1, 0, ""},
		"answers get lost": {func(*rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){fails(oauth.ErrNoAnswer)}
		}, connection.ErrTemporary, 2, 0, ""},
		"a lost answer that took long": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){func(context.Context) (oauth.Answer, error) {
				r.clock.add(30 * time.Second)
				return oauth.Answer{}, oauth.ErrNoAnswer
			}}
		}, connection.ErrTemporary, 1, 30 * time.Second, ""},
		"a redirect": {func(*rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){fails(oauth.ErrUnusable)}
		}, connection.ErrTemporary, 1, 0, ""},
		"429 with an error in it": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, `{"error":"slow_down"}`, "2"), r.answers(200, good, "")}
		}, nil, 2, 2 * time.Second, ""},
		"429 without": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, ``, "2"), r.answers(200, good, "")}
		}, nil, 2, 2 * time.Second, ""},
		"429 until the year 2099": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, ``, "Fri, 20 Nov 2099 12:00:00 GMT")}
		}, connection.ErrTemporary, 1, 0, "wait"},
		"429 for an eternity, with an error in it": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, `{"error":"temporarily_unavailable"}`, "999999999999")}
		}, connection.ErrTemporary, 1, 0, "wait"},
		"429 for ever": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, ``, "")}
		}, connection.ErrTemporary, 4, 3 * time.Second, ""},
		"429 ten seconds each": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(429, ``, "12")}
		}, connection.ErrTemporary, 3, 24 * time.Second, ""},
		"503 for ever": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(503, `{"error":"temporarily_unavailable"}`, "")}
		}, connection.ErrTemporary, 2, time.Second, ""},
		"invalid_grant for ever": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(400, `{"error":"invalid_grant"}`, "")}
		}, connection.ErrNeedsConnect, 2, 0, ""},
		"everything in turn": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){
				fails(oauth.ErrNoAnswer), r.answers(500, ``, ""), r.answers(429, ``, ""), r.answers(400, `{"error":"invalid_grant"}`, ""),
			}
		}, connection.ErrNeedsConnect, 4, 0, ""},
		"invalid_client": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(401, `{"error":"invalid_client"}`, "")}
		}, connection.ErrClient, 1, 0, ""},
		"invalid_scope": {func(r *rig) []func(context.Context) (oauth.Answer, error) {
			return []func(context.Context) (oauth.Answer, error){r.answers(400, `{"error":"invalid_scope"}`, "")}
		}, connection.ErrRefused, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, strict(), store.KindFile)
			r.connect("a")
			r.clock.add(pastExpiry)
			before := r.clock.now()
			far := &scripted{steps: c.steps(r)}
			src := r.process()
			src.Issuer = far
			_, err := src.Token(t.Context(), "a", connection.Option{})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if len(far.sent) != c.sent {
				t.Errorf("%d requests, want %d", len(far.sent), c.sent)
			}
			if waited := r.clock.now().Sub(before); waited < c.waited || waited > 31*time.Second {
				t.Errorf("waited %v", waited)
			}
			if c.says != "" && !strings.Contains(err.Error(), c.says) {
				t.Errorf("the message is %q", err)
			}
			if errors.Is(c.want, connection.ErrTemporary) { // nothing was lost
				r.alive("a")
			}
		})
	}
}

func TestCallerGivesUpInFlight(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.clock.add(pastExpiry)
		ctx, cancel := context.WithCancel(r.Context())
		src := r.process()
		src.Issuer = cancelling{src.Issuer.(*oauth.HTTP), cancel}
		if n := r.requests(func() {
			if _, err := src.Token(ctx, "a", connection.Option{}); err != nil {
				r.Error(err)
			}
			if a := r.alive("a"); a.Refreshed {
				r.Error("the answer was not stored")
			}
		}); n != 1 {
			r.Errorf("%d requests", n)
		}
		r.clock.add(pastExpiry)
		if n := r.requests(func() {
			if _, err := src.Token(ctx, "a", connection.Option{}); err == nil {
				r.Error("a cancelled call went on")
			}
		}); n != 0 {
			r.Errorf("%d requests after the cancellation", n)
		}
	})
}

// cancelling ends the caller's context while the request is under way.
type cancelling struct {
	*oauth.HTTP
	cancel context.CancelFunc
}

func (c cancelling) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	c.cancel()
	return c.HTTP.PostToken(ctx, r)
}

func TestClockJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back": -240 * time.Hour, "ahead": 240 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			r := start(t, strict(), store.KindFile)
			r.connect("a")
			// The machine's clock alone: the issuer keeps its own.
			ours := &clock{t: r.clock.now()}
			process := func() *connection.Source {
				src := r.process()
				client, err := oauth.NewHTTP(oauth.Options{Now: ours.now})
				r.must(err)
				src.Issuer, src.Now = client, ours.now
				return src
			}
			live := func() {
				t.Helper()
				if n := r.requests(func() {
					a, err := process().Token(t.Context(), "a", connection.Option{})
					if err != nil || !r.issuer.Active(a.Token) {
						t.Errorf("no live token: %v", err)
					}
				}); n > 2 {
					t.Errorf("%d requests", n)
				}
			}
			ours.add(jump)
			live()
			live()
			ours.add(-jump)
			live()
			live()
			if n := r.issuer.Stats().Reuse; n != 0 {
				t.Errorf("%d reuses", n)
			}
		})
	}
}

func TestClockBackWithoutRefreshToken(t *testing.T) {
	r := start(t, strict(), store.KindFile)
	l := r.login("a", "alice")
	r.must(r.issuer.SetFaults("no-refresh-token"))
	_, err := r.process().Enroll(t.Context(), l)
	r.must(err)
	r.clock.add(-240 * time.Hour)
	r.alive("a")
	r.clock.add(240*time.Hour + pastExpiry)
	_, err = r.token("a", connection.Option{})
	r.wantErr(err, connection.ErrNeedsConnect)
}

func TestShortLivedTokens(t *testing.T) {
	r := start(t, sandbox.Options{RotateRefresh: true, TokenTTL: 20 * time.Second}, store.KindFile)
	r.connect("a")
	for range 5 {
		r.clock.add(12 * time.Second) // more than half its life
		for i, want := range []int{1, 0, 0} {
			if n := r.requests(func() {
				_, err := r.token("a", connection.Option{MinTTL: time.Minute})
				r.must(err)
			}); n != want {
				t.Errorf("command %d: %d requests, want %d", i, n, want)
			}
		}
	}
	r.clock.add(12 * time.Second)
	// Those who waited take what was just issued, though it is short.
	src := r.process()
	gate := &gatedStore{Store: src.Store, opened: make(chan struct{})}
	gate.waiting.Add(20)
	src.Store = gate
	if n := r.requests(func() {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := src.Token(t.Context(), "a", connection.Option{MinTTL: time.Minute}); err != nil {
					t.Error(err)
				}
			})
		}
		gate.waiting.Wait()
		close(gate.opened)
		wg.Wait()
	}); n != 1 {
		t.Errorf("%d requests for 20 at once", n)
	}
}

func TestUnknownExpiry(t *testing.T) {
	r := start(t, strict(), store.KindFile)
	r.must(r.issuer.SetFaults("no-expires-in"))
	if rec := r.connect("a"); !rec.ExpiryKnown || rec.TTL != 3600 {
		t.Errorf("with a refresh token: known %t, %d s", rec.ExpiryKnown, rec.TTL)
	}
	r.must(r.issuer.SetFaults("no-expires-in", "no-refresh-token"))
	if rec := r.connect("b"); rec.ExpiryKnown || rec.HasRefresh {
		t.Error("without one: an expiry from nowhere")
	}
}

func TestChangedDefinition(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	yaml := string(r.issuer.ProviderYAML("sandbox"))
	r.define([]byte(yaml + "# only a comment\n"))
	r.alive("a")
	r.define([]byte(strings.Replace(yaml, "/token\n", "/elsewhere\n", 1)))
	for _, expired := range []bool{false, true} {
		if expired {
			r.clock.add(pastExpiry)
		}
		if n := r.requests(func() {
			_, err := r.token("a", connection.Option{})
			var changed *connection.ChangedError
			if !errors.As(err, &changed) || len(changed.Changes) != 1 || changed.Changes[0].Field != "token_endpoint" {
				t.Errorf("got %v", err)
			}
		}); n != 0 {
			t.Errorf("%d requests", n)
		}
	}
	r.must(os.Remove(r.definitions + "/sandbox.yaml")) // leads nowhere new
	r.alive("a")
}

func TestStoreFailsBeforeTheRequest(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	r.clock.add(pastExpiry)
	r.mem.Lock()
	if n := r.requests(func() {
		if _, err := r.token("a", connection.Option{}); err == nil {
			t.Error("a token without a key")
		}
	}); n != 0 {
		t.Errorf("%d requests with a locked keychain", n)
	}
	r.mem.Heal()
	path := r.store.Dir() + "/" + projectID + "/a.wal"
	r.must(os.Mkdir(path, 0o700)) // the write-ahead file cannot be written
	if n := r.requests(func() {
		if _, err := r.token("a", connection.Option{}); err == nil {
			t.Error("a token without writing ahead")
		}
	}); n != 0 {
		t.Errorf("%d requests without writing ahead", n)
	}
	r.must(os.Remove(path))
	r.alive("a")
}

func TestClientSecretGoesNowhereElse(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	h := r.connect("a").Header
	h.Pins.AuthMethod = oauth.AuthPost
	reg := connection.Registration{Provider: "sandbox", ClientID: h.Pins.ClientID, TokenEndpoint: h.Pins.TokenEndpoint, AuthMethod: oauth.AuthPost}
	_, err := connection.StoredSecret(t.Context(), r.store, projectID, &h)
	r.wantErr(err, connection.ErrClient)
	r.must(r.store.SetClient(t.Context(), reg, secret.New("s3cret")))
	got, err := connection.StoredSecret(t.Context(), r.store, projectID, &h)
	if err != nil || !got.Equal(secret.New("s3cret")) {
		t.Error("not found", err)
	}
	for name, change := range map[string]func(h *connection.Header){
		"client":   func(h *connection.Header) { h.Pins.ClientID = "other" },
		"endpoint": func(h *connection.Header) { h.Pins.TokenEndpoint = "https://evil.example/token" },
		"method":   func(h *connection.Header) { h.Pins.AuthMethod = oauth.AuthBasic },
	} {
		h := h
		change(&h)
		if got, err := connection.StoredSecret(t.Context(), r.store, projectID, &h); !errors.Is(err, connection.ErrClient) || !got.IsZero() {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

// TestBrokenAnswerWithARefreshToken: the token in an answer of no other use is
// tried first, and the one before it is not forgotten.
func TestBrokenAnswerWithARefreshToken(t *testing.T) {
	for name, body := range map[string]string{
		"a lie":    `{"token_type":"mac","access_token":"x","refresh_token":"no-such-token"}`,
		"no text":  `{"token_type":"mac","refresh_token":{"a":1}}`,
		"an error": `{"error":"x","refresh_token":"no-such-token"}`,
	} {
		t.Run(name, func(t *testing.T) {
			bothKinds(t, sandbox.Options{}, func(r *rig) {
				r.connect("a")
				r.clock.add(pastExpiry)
				r.alive("a")
				r.clock.add(pastExpiry)
				src := r.process()
				src.Issuer = &scripted{steps: []func(context.Context) (oauth.Answer, error){r.answers(200, body, "")}}
				if _, err := src.Token(r.Context(), "a", connection.Option{}); err == nil {
					r.Fatal("a token out of nothing")
				}
				for range 3 {
					r.alive("a")
					r.clock.add(pastExpiry)
				}
				if !r.read("a").Body.Spare.IsZero() {
					r.Error("the token before it is kept for ever")
				}
			})
		})
	}
}
