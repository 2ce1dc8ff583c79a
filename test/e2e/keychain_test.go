//go:build unix

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// A client secret lies in the keychain, and in no file.
func TestClientSecretInTheKeychain(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Post, ""))
	clientSecret := is.Post.Secret.Reveal()
	if r := p.runIn(clientSecret, "client", "set", "peer", "--client-id", is.Post.ID, "--client-secret-stdin"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	if r := visitConnect(p, &peers.Visitor{}, "peer"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	if got := p.must("token", "peer", "--refresh").token(); !is.Active(t, secret.New(got)) {
		t.Error("the token is dead")
	}
	if shown := p.secretTool("service", "apiauth."+p.stores()[0]); strings.Count(shown, `p:`) == 0 {
		t.Error("secret-tool does not show the client secret")
	}
	p.holdsNone(append(tap.secrets(), clientSecret)...)
	p.must("disconnect", "peer")
	p.must("client", "remove", "peer")
	if n := keychainItems(t, p.bus); n != 0 {
		t.Errorf("%d items are left in the keychain", n)
	}
	p.holdsNone(append(tap.secrets(), clientSecret)...)
}

// A keychain that stops answering, or that answers success and keeps nothing,
// in the middle of a rotation costs no grant: each later process gets a token.
func TestRotationWithAFailingKeychain(t *testing.T) {
	t.Parallel()
	for _, behaviour := range []keyringtest.Behaviour{
		keyringtest.HangWrites, keyringtest.LateWrites, keyringtest.LoseWrites, keyringtest.RefuseOverwrite, keyringtest.EchoSecret, keyringtest.WritePromptDismissed,
	} {
		t.Run(string(behaviour), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, sandbox.Options{RotateRefresh: true})
			b := keyringtest.StartBus(t)
			fake := keyringtest.StartFake(t, b, keyringtest.OK)
			p := newPerson(t, b)
			p.addProvider(h.definition("peer"))
			h.mustConnect(p, "peer")
			p.must("token", "peer", "--refresh")

			fake.Behave(behaviour)
			r := p.must("token", "peer", "--refresh")
			if r.token() != h.tap.lastAccess() {
				t.Error("another token than the issuer's last")
			}
			if r.took > 20*time.Second {
				t.Errorf("it took %v", r.took)
			}
			// The next three have only what the last one could keep.
			for range 3 {
				if got := p.must("token", "peer", "--refresh").token(); got != h.tap.lastAccess() {
					t.Error("another token than the issuer's last")
				}
			}
			if strings.Contains(r.err, h.tap.lastRefresh()) {
				t.Error("a refresh token stands on stderr")
			}
			p.holdsNone(h.tap.secrets()...)

			fake.Behave(keyringtest.OK)
			p.must("token", "peer", "--refresh")
			p.must("disconnect", "peer")
			if left := fake.Contents(); len(left) != 0 {
				t.Errorf("%d items are left in the keychain", len(left))
			}
		})
	}
}

// A keychain that never answers ends every command within 5 s, with what to do
// about it, whether the token lives or has to be renewed. Nothing is sent.
func TestKeychainThatNeverAnswers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{RotateRefresh: true})
	b := keyringtest.StartBus(t)
	fake := keyringtest.StartFake(t, b, keyringtest.OK)
	p := newPerson(t, b)
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	p.must("token", "peer", "--refresh")
	live := h.tap.lastAccess()
	asked := h.Stats().TokenRequests

	fake.Behave(keyringtest.HangAlways)
	var all []*running
	for _, args := range [][]string{
		{"token", "peer"}, {"token", "peer", "--refresh"}, {"exec", "-c", "peer", "--", "true"}, {"env", "-c", "peer"}, {"api", "peer", "/"},
	} {
		all = append(all, p.start(args...))
	}
	for _, started := range all {
		r := started.wait()
		if r.code != 5 || r.out != "" {
			t.Error(r.redacted())
		}
		if !strings.Contains(r.err, "apiauth: hint: see whether the keychain waits for an answer on the screen") {
			t.Errorf("no remedy: %s", r.redacted())
		}
	}
	if took := time.Since(all[0].begin); took > 5*time.Second {
		t.Errorf("they took %v", took)
	}
	if n := h.Stats().TokenRequests - asked; n != 0 {
		t.Errorf("%d token requests", n)
	}
	fake.Behave(keyringtest.OK)
	if p.must("token", "peer").token() != live {
		t.Error("another token than before")
	}
	p.must("token", "peer", "--refresh")
}

// The sandbox needs nothing of a machine and leaves nothing on it.
func TestSandboxDemo(t *testing.T) {
	t.Parallel()
	p := newPerson(t, nil)
	must(t, os.Remove(p.dir))
	p.dir = p.home
	r := p.as("PATH", "/nonexistent").run("sandbox", "--demo")
	if r.code != 0 {
		t.Fatal(r.redacted())
	}
	said := r.out + r.err
	for _, word := range []string{"connect", "expire", "refresh", "disconnect"} {
		if !strings.Contains(strings.ToLower(said), word) {
			t.Errorf("the demo does not speak of %q", word)
		}
	}
	left, err := os.ReadDir(p.home)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}
