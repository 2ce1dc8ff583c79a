package connection_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// rotation is a rig with the confidential client and its two secrets.
type rotation struct {
	*rig
	old, next secret.Text
}

func rotating(r *rig) *rotation {
	r.Helper()
	r.define(r.issuer.ConfidentialYAML("sandbox"))
	id, old := r.issuer.ConfidentialClient()
	def, err := r.catalogue.Get("sandbox")
	r.must(err)
	c := connection.Registration{Provider: "sandbox", ClientID: id, TokenEndpoint: def.TokenEndpoint, AuthMethod: def.TokenEndpointAuthMethod}
	r.must(r.store.SetClient(r.Context(), c, old))
	return &rotation{r, old, secret.New("a-new-secret")}
}

// connectAs stores a grant of the confidential client; given is the secret that
// the person's registration holds.
func (r *rotation) connectAs(name string, given secret.Text) {
	r.Helper()
	l := r.login(name, "alice")
	l.Request.Client.Secret = given
	_, err := r.process().Enroll(r.Context(), l)
	r.must(err)
}

// byItself stores a connection of the client itself.
func (r *rotation) byItself(name string, given secret.Text) error {
	r.Helper()
	def, err := r.catalogue.Get("sandbox")
	r.must(err)
	pins, err := def.Pin(providers.PinOptions{Flow: connection.FlowClientCredentials, HasSecret: true})
	r.must(err)
	_, err = r.process().Enroll(r.Context(), connection.Login{
		Draft: connection.Header{Name: name, Provider: "sandbox", ProviderDigest: def.Digest, Flow: connection.FlowClientCredentials, ScopesAsked: []string{"items.read"}, Pins: pins},
		Request: &oauth.TokenRequest{
			Endpoint: pins.TokenEndpoint, Client: connection.Client(&pins, given), AllowInsecureLoopback: true,
			Form: oauth.ClientCredentialsForm("items.read", nil),
		},
	})
	return err
}

func (r *rotation) registration() *connection.Registration {
	r.Helper()
	c, err := r.store.Registration("sandbox", projectID)
	r.must(err)
	return c
}

func (r *rotation) setNext() {
	r.Helper()
	r.must(r.store.SetNext(r.Context(), r.registration(), r.next))
}

// present reports whether t is the present secret, and whether there is a next.
func (r *rotation) present(t secret.Text) (same, pending bool) {
	r.Helper()
	c := r.registration()
	now, err := r.store.ClientSecret(r.Context(), c)
	r.must(err)
	return now.Equal(t), !c.NextSetAt.IsZero()
}

func (r *rotation) wantPromoted(when string) {
	r.Helper()
	if same, pending := r.present(r.next); !same || pending {
		r.Errorf("%s: the next secret is the present one: %t; a next one is left: %t", when, same, pending)
	}
}

func (r *rotation) wantBoth(when string) {
	r.Helper()
	if same, pending := r.present(r.old); !same || !pending {
		r.Errorf("%s: the old secret is the present one: %t; the next one is kept: %t", when, same, pending)
	}
}

func TestNextSecret(t *testing.T) {
	for name, c := range map[string]struct {
		accepts  func(r *rotation) []secret.Text
		requests int
		promoted bool
	}{
		"old only": {func(r *rotation) []secret.Text { return []secret.Text{r.old} }, 2, false},
		"both":     {func(r *rotation) []secret.Text { return []secret.Text{r.old, r.next} }, 1, true},
		"new only": {func(r *rotation) []secret.Text { return []secret.Text{r.next} }, 1, true},
	} {
		check := func(r *rotation, when string, do func()) {
			r.Helper()
			if n := r.requests(do); n != c.requests {
				r.Errorf("%s: %d requests, want %d", when, n, c.requests)
			}
			if c.promoted {
				r.wantPromoted(when)
			} else {
				r.wantBoth(when)
			}
		}
		t.Run(name+"/refresh", func(t *testing.T) {
			bothKinds(t, strict(), func(rig *rig) {
				r := rotating(rig)
				r.connectAs("a", r.old)
				r.setNext()
				accepted := c.accepts(r)
				r.issuer.AcceptSecrets(accepted[0], accepted[1:]...)
				for range 2 { // the grant is not used up by a refused client
					r.clock.add(pastExpiry)
					check(r, "refresh", func() { r.alive("a") })
					if c.promoted {
						break
					}
				}
				r.clock.add(pastExpiry)
				r.alive("a")
				if n := r.issuer.Stats().Reuse; n != 0 {
					r.Errorf("%d reuses", n)
				}
			})
		})
		t.Run(name+"/login of the client itself", func(t *testing.T) {
			bothKinds(t, strict(), func(rig *rig) {
				r := rotating(rig)
				r.setNext()
				accepted := c.accepts(r)
				r.issuer.AcceptSecrets(accepted[0], accepted[1:]...)
				check(r, "login", func() { r.must(r.byItself("a", r.old)) })
				r.alive("a")
			})
		})
		t.Run(name+"/revoke", func(t *testing.T) {
			bothKinds(t, strict(), func(rig *rig) {
				r := rotating(rig)
				r.connectAs("a", r.old)
				r.setNext()
				accepted := c.accepts(r)
				r.issuer.AcceptSecrets(accepted[0], accepted[1:]...)
				if f, err := r.process().Revoke(r.Context(), "a"); err != nil || !f.Revoked {
					r.Errorf("revoked %t, %v", f.Revoked, err)
				}
			})
		})
	}
}

// TestNextSecretAndCode: a code is sent once, with the secret that was good last.
func TestNextSecretAndCode(t *testing.T) {
	bothKinds(t, strict(), func(rig *rig) {
		r := rotating(rig)
		r.setNext()
		r.issuer.AcceptSecrets(r.old, r.next)
		if n := r.requests(func() { r.connectAs("a", r.old) }); n != 1 {
			r.Errorf("%d requests", n)
		}
		r.wantBoth("login")
		r.issuer.AcceptSecrets(r.next)
		l := r.login("b", "alice")
		l.Request.Client.Secret = r.old
		if n := r.requests(func() {
			_, err := r.process().Enroll(r.Context(), l)
			r.wantErr(err, connection.ErrClient)
		}); n != 1 {
			r.Errorf("%d requests with one code", n)
		}
		if !r.warned("'apiauth client set sandbox --promote'") {
			r.Errorf("not told: %q", r.warnings)
		}
	})
}

// TestNeitherSecret: two requests and no more, and the grant stays.
func TestNeitherSecret(t *testing.T) {
	bothKinds(t, strict(), func(rig *rig) {
		r := rotating(rig)
		r.connectAs("a", r.old)
		r.setNext()
		r.issuer.AcceptSecrets(secret.New("another"))
		r.clock.add(pastExpiry)
		if n := r.requests(func() {
			_, err := r.token("a", connection.Option{})
			r.wantErr(err, connection.ErrClient)
		}); n != 2 {
			r.Errorf("%d requests", n)
		}
		r.wantBoth("refused")
		r.issuer.AcceptSecrets(r.old)
		r.alive("a")
	})
}

// TestSecretOfOneLogin: a secret that a person gives for a login alone is sent
// as it is.
func TestSecretOfOneLogin(t *testing.T) {
	r := rotating(start(t, strict(), store.KindFile))
	r.setNext()
	given := secret.New("given")
	r.issuer.AcceptSecrets(given, r.next)
	if n := r.requests(func() { r.must(r.byItself("a", given)) }); n != 1 {
		t.Errorf("%d requests", n)
	}
	r.wantBoth("login")
}

// TestCrashWhileSecretsRotate: wherever a process ends, what the issuer knows is
// still here, and the next process goes on.
func TestCrashWhileSecretsRotate(t *testing.T) {
	for _, knows := range []string{"old", "new"} {
		t.Run(knows, func(t *testing.T) {
			bothKinds(t, gracious(), func(rig *rig) {
				r := rotating(rig)
				accept := func() {
					r.issuer.AcceptSecrets(r.old)
					if knows == "new" {
						r.issuer.AcceptSecrets(r.next)
					}
				}
				points := map[string]bool{}
				for n := 1; ; n++ {
					name := fmt.Sprintf("c%d", n)
					r.issuer.AcceptSecrets(r.old)
					c := *r.registration()
					r.must(r.store.SetClient(r.Context(), c, r.old))
					r.connectAs(name, r.old)
					r.setNext()
					accept()
					r.clock.add(pastExpiry)
					point := r.crashing(n, func(src *connection.Source) { _, _ = src.Token(r.Context(), name, connection.Option{}) })
					r.alive(name)
					r.clock.add(pastExpiry)
					r.alive(name)
					if knows == "old" {
						r.wantBoth(point)
					} else {
						r.wantPromoted(point)
					}
					if point == "" {
						break
					}
					points[point] = true
				}
				if want := knows != "old"; points["before PromoteNext"] != want || points["after PromoteNext"] != want {
					r.Errorf("it ended at %v", points)
				}
				if n := r.issuer.Stats().Reuse; n != 0 {
					r.Errorf("%d reuses", n)
				}
			})
		})
	}
}

// TestProcessesRotateAtOnce: twenty connections of one client, each refreshed by
// a process of its own.
func TestProcessesRotateAtOnce(t *testing.T) {
	const count = 20
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("both=%t", both), func(t *testing.T) {
			r := rotating(start(t, sandbox.Options{RotateRefresh: true}, store.KindFile))
			for i := range count {
				r.connectAs(fmt.Sprintf("c%d", i), r.old)
			}
			r.setNext()
			r.issuer.AcceptSecrets(r.next)
			if both {
				r.issuer.AcceptSecrets(r.old, r.next)
			}
			r.clock.add(pastExpiry)
			if n := r.requests(func() {
				var waits []func() (string, error)
				for i := range count {
					waits = append(waits, r.spawn(fmt.Sprintf("c%d", i), 0))
				}
				for _, wait := range waits {
					if _, err := wait(); err != nil {
						t.Error(err)
					}
				}
			}); n != count {
				t.Errorf("%d requests", n)
			}
			r.wantPromoted("after all of them")
			if n := r.issuer.Stats().Reuse; n != 0 {
				t.Errorf("%d reuses", n)
			}
		})
	}
}

// TestSourcesRotateAtOnce: the same with a keychain, in one process.
func TestSourcesRotateAtOnce(t *testing.T) {
	const count = 20
	bothKinds(t, strict(), func(rig *rig) {
		r := rotating(rig)
		for i := range count {
			r.connectAs(fmt.Sprintf("c%d", i), r.old)
		}
		r.setNext()
		r.issuer.AcceptSecrets(r.next)
		r.clock.add(pastExpiry)
		failures := make(chan error, count)
		if n := r.requests(func() {
			for i := range count {
				src := r.process()
				go func() {
					_, err := src.Token(r.Context(), fmt.Sprintf("c%d", i), connection.Option{})
					failures <- err
				}()
			}
			for range count {
				if err := <-failures; err != nil {
					r.Error(err)
				}
			}
		}); n != count {
			r.Errorf("%d requests", n)
		}
		r.wantPromoted("after all of them")
		for name := range r.mem.Contents() {
			if _, account, _ := strings.Cut(name, "/"); strings.HasPrefix(account, "client.") && !strings.HasSuffix(account, ".2") {
				r.Error("an item of the old secret is left")
			}
		}
	})
}

// TestNextSecretCannotBeRead: the present one does, and a person is told.
func TestNextSecretCannotBeRead(t *testing.T) {
	r := rotating(start(t, strict(), store.KindKeychain))
	r.connectAs("a", r.old)
	r.setNext()
	for name := range r.mem.Contents() {
		if service, account, _ := strings.Cut(name, "/"); strings.HasSuffix(account, ".2") {
			r.mem.Remove(service, account)
		}
	}
	r.clock.add(pastExpiry)
	r.alive("a")
	if !r.warned("the next client secret of sandbox was left alone") {
		t.Errorf("not told: %q", r.warnings)
	}
	if same, _ := r.present(r.old); !same {
		t.Error("the present secret is gone")
	}
}
