//go:build unix

package e2e

import (
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// herdSize is how many processes want a token at once.
const herdSize = 100

// Many processes at once on an expired connection whose refresh token rotates:
// one asks the issuer, all print the token that it got.
func TestHerdWithKeychain(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{AccessTTL: time.Second})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Public, "client_id: "+is.Public.ID+"\n"))
	if r := visitConnect(p, &peers.Visitor{}, "peer"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	first := tap.lastAccess()
	eventually(t, "the token has expired", func() bool { return !is.Active(t, secret.New(first)) })
	p.waitExpired("peer") // by our clock, too, which may be up to a second behind the issuer's whole seconds
	is.Set(t, peers.IssuerOptions{})
	got := herd(t, p, tap)
	if !is.Active(t, secret.New(got)) {
		t.Error("the token that all of them print is dead")
	}
	if s := is.Stats(t); s.Tokens["refresh_token"] != 1 || s.Reused != 0 {
		t.Errorf("the issuer counts %d refreshes and %d reuses", s.Tokens["refresh_token"], s.Reused)
	}
	p.holdsNone(tap.secrets()...)
}

func TestHerdWithFileStore(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{RotateRefresh: true})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	h.tap.shortenNext()
	h.mustConnect(p, "peer")
	p.waitExpired("peer")
	if got := herd(t, p, h.tap); got != h.tap.lastAccess() {
		t.Error("the token is not the issuer's last one")
	}
	p.holdsNone(h.tap.secrets()...)
}

// herd lets all processes loose at once and returns the token that they print.
func herd(t *testing.T, p *person, tap *tap) string {
	t.Helper()
	before := tap.count("refresh_token")
	results := make([]result, herdSize)
	var running sync.WaitGroup
	gates := make([]func(), herdSize)
	for i := range herdSize {
		// Each waits at a gate until all are there.
		cmd := exec.CommandContext(t.Context(), "sh", "-c", `read -r _ && exec "$0" token peer`, binary())
		cmd.Dir, cmd.Env = p.dir, p.env()
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		gates[i] = func() {
			_, _ = stdin.Write([]byte("go\n"))
			_ = stdin.Close()
		}
		running.Go(func() {
			err := cmd.Wait()
			results[i] = result{args: []string{"token", "peer"}, code: p.status(t.Context(), err), out: stdout.String(), err: stderr.String()}
		})
	}
	for _, open := range gates {
		open()
	}
	running.Wait()

	failed := 0
	tokens := map[string]int{}
	for _, r := range results {
		if r.code != 0 {
			if failed++; failed <= 3 {
				t.Error(r.redacted())
			}
			continue
		}
		tokens[r.token()]++
	}
	if failed > 0 {
		t.Errorf("%d of %d processes failed", failed, herdSize)
	}
	if len(tokens) != 1 {
		t.Errorf("%d different tokens were printed", len(tokens))
	}
	if n := tap.count("refresh_token") - before; n != 1 {
		t.Errorf("the issuer counts %d token requests for %d processes", n, herdSize)
	}
	for token := range tokens {
		return token
	}
	return ""
}
