//go:build unix

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

// Nobody is sent to a browser for a grant that cannot be kept.
func TestConnectProvesTheStoreFirst(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	states := map[string]func(*testing.T) *keyringtest.Bus{}
	for _, s := range []keyringtest.State{keyringtest.NoBus, keyringtest.NoService, keyringtest.Locked, keyringtest.NoPassword} {
		states[string(s)] = func(t *testing.T) *keyringtest.Bus { return keyringtest.StartGnomeKeyring(t, s) }
	}
	for _, f := range []keyringtest.Behaviour{keyringtest.LoseWrites, keyringtest.HangAlways, keyringtest.HangWrites, keyringtest.WrongTypes} {
		states["fake: "+string(f)] = func(t *testing.T) *keyringtest.Bus {
			b := keyringtest.StartBus(t)
			keyringtest.StartFake(t, b, f)
			return b
		}
	}
	for name, bus := range states {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPerson(t, bus(t))
			p.addProvider(h.definition("peer"))
			browser := p.recordBrowser()
			r := p.run("connect", "peer", "--timeout", "20s")
			if r.code != 5 || r.out != "" {
				t.Error(r.redacted())
			}
			if opened := browser.opened(); len(opened) > 0 {
				t.Errorf("a browser was opened %d times", len(opened))
			}
			if strings.Contains(r.err, "code_challenge=") {
				t.Error("an address to log in at was shown")
			}
			if left := p.grants(); len(left) > 0 {
				t.Errorf("files are left: %v", left)
			}
			// Nothing was decided by the failure: the file store is free to take.
			q := p.as("APIAUTH_STORE", "file", "APIAUTH_STORE_KEY", p.storeKey())
			h.mustConnect(q, "peer")
			q.must("token", "peer")
		})
	}
}

// Many logins to one connection at once are one login.
func TestParallelConnectsOpenOneBrowser(t *testing.T) {
	t.Parallel()
	const logins = 20
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	browser := p.recordBrowser()
	var all []*running
	for range logins {
		all = append(all, p.start("connect", "peer", "--flow", "browser"))
	}
	address := browser.wait(1)
	waiting := 0
	for _, r := range all {
		if strings.HasPrefix(r.waitLine("peer"), "Another login to peer is under way") {
			waiting++
		}
	}
	if waiting != logins-1 {
		t.Errorf("%d of %d wait for the one", waiting, logins)
	}
	if err := h.Approve(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if res := r.wait(); res.code != 0 || !strings.Contains(res.err, "Connected peer") {
			t.Error(res.redacted())
		}
	}
	if n := len(browser.opened()); n != 1 {
		t.Errorf("%d browsers were opened for %d logins", n, logins)
	}
	if n := h.tap.count("authorization_code"); n != 1 {
		t.Errorf("%d codes were exchanged", n)
	}
	p.must("token", "peer")
}

// A login that waited for another, which was then broken off, goes on by itself
// and loses nothing by it: neither the folder's project nor the store.
func TestTheNextLoginTakesOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	browser := p.recordBrowser()
	p.addProvider(h.definition("peer"))
	p.write("apiauth.yaml", manifest)
	first := p.start("connect", "peer", "--flow", "browser")
	browser.wait(1)
	var others []*running
	for range 3 {
		r := p.start("connect", "peer", "--flow", "browser")
		r.waitLine("Another login to peer is under way")
		others = append(others, r)
	}
	first.signal(syscall.SIGINT)
	if res := first.wait(); res.code != 130 {
		t.Error(res.redacted())
	}
	must(t, h.Approve(t.Context(), browser.wait(2)))
	for _, r := range others {
		if res := r.wait(); res.code != 0 {
			t.Error(res.redacted())
		}
	}
	if n := len(browser.opened()); n != 2 {
		t.Errorf("%d browsers were opened", n)
	}
	if got := p.must("token", "peer").token(); got != h.tap.lastAccess() {
		t.Error("another token")
	}
	if n := len(p.grants()); n != 1 {
		t.Errorf("%d records", n)
	}
}

// Two connections of a new project on their way at once: one that is broken off
// does not take the project away from the other, whichever ends first.
func TestABrokenLoginTakesNothingAlong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	for _, order := range []string{"before", "after"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			p := withFileStore(t)
			p.addProvider(h.definition("peer"))
			p.write("apiauth.yaml", "connections:\n  one: {provider: peer}\n  two: {provider: peer}\n")
			one := p.start("connect", "one", "--flow", "browser", "--no-browser") // begins the project
			one.authorizeURL()
			two := p.start("connect", "two", "--flow", "browser", "--no-browser")
			address := two.authorizeURL()
			breakOff := func() {
				one.signal(syscall.SIGINT)
				if res := one.wait(); res.code != 130 {
					t.Error(res.redacted())
				}
			}
			if order == "before" {
				breakOff()
			}
			must(t, h.Approve(t.Context(), address))
			if res := two.wait(); res.code != 0 {
				t.Error(res.redacted())
			}
			if order == "after" {
				breakOff()
			}
			p.must("token", "two")
			if r := p.run("token", "one"); r.code != 4 {
				t.Error(r.redacted())
			}
		})
	}
}

func TestSignalsDuringConnect(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	for sig, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143, syscall.SIGHUP: 129} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
			p.addProvider(h.definition("peer"))
			p.write("apiauth.yaml", manifest)
			r := p.start("connect", "peer", "--flow", "browser", "--no-browser")
			r.authorizeURL()
			r.signal(sig)
			res := r.wait()
			if res.code != code || res.out != "" {
				t.Error(res.redacted())
			}
			if res.took > 20*time.Second {
				t.Errorf("took %v to end", res.took)
			}
			if left := p.grants(); len(left) > 0 {
				t.Errorf("files are left: %v", left)
			}
			if n := keychainItems(t, p.bus); n != 0 {
				t.Errorf("%d items are left in the keychain", n)
			}
			if r := p.run("token", "peer"); r.code != 6 {
				t.Errorf("the folder was bound to a project by a login that came to nothing: %s", r.redacted())
			}
		})
	}
}

// An environment that holds nothing at all: what is missing is said, and what
// needs nothing works.
func TestEmptyEnvironment(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	run := func(vars []string, args ...string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary(), args...)
		cmd.Dir, cmd.Env = p.dir, append([]string{}, vars...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		return result{args: args, code: p.status(ctx, err), out: stdout.String(), err: stderr.String()}
	}
	for _, args := range [][]string{{"--help"}, {"--version"}, {"token", "--help"}} {
		if r := run([]string{}, args...); r.code != 0 || r.out == "" {
			t.Error(r.redacted())
		}
	}
	if r := run([]string{}, "token", "peer"); r.code == 0 || r.out != "" || !strings.Contains(r.err, "HOME") {
		t.Error(r.redacted())
	}
	home, key := "HOME="+p.home, "APIAUTH_STORE_KEY="+p.vars["APIAUTH_STORE_KEY"]
	if r := run([]string{home, key}, "token", "peer"); r.code != 0 || r.token() != h.tap.lastAccess() {
		t.Error(r.redacted())
	}
	if r := run([]string{home}, "token", "peer"); r.code != 5 || !strings.Contains(r.err, "key") {
		t.Error(r.redacted())
	}
	if r := run([]string{home}, "status"); r.code != 0 || !strings.Contains(r.out, "peer") {
		t.Error(r.redacted())
	}
}

// A token that could not be handed over is a failure, and not lost.
func TestBrokenStdout(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	token := p.must("token", "peer").token()

	shell := func(script string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", script, binary())
		cmd.Dir, cmd.Env = p.dir, p.env()
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		return result{args: []string{script}, code: p.status(ctx, err), out: stdout.String(), err: stderr.String()}
	}
	for _, format := range []string{"plain", "header", "json"} {
		// The Go runtime opens /dev/null in place of a closed descriptor, so that
		// this cannot be told from a reader who wants to see nothing.
		if r := shell(`"$0" token peer --format ` + format + ` >&-`); r.code > 1 || strings.Contains(r.err, token) {
			t.Errorf("closed stdout: %s", r.redacted())
		}
		if _, err := os.Stat("/dev/full"); err == nil {
			if r := shell(`"$0" token peer --format ` + format + ` >/dev/full`); r.code != 1 || !strings.Contains(r.err, "no space left") {
				t.Errorf("/dev/full: %s", r.redacted())
			}
		}
	}
	for _, args := range []string{"env -c peer --format sh", "status", "list", "status --json", "provider list", "api peer me"} {
		if _, err := os.Stat("/dev/full"); err == nil {
			if r := shell(`"$0" ` + args + ` >/dev/full`); r.code == 0 {
				t.Errorf("/dev/full: %s", r.redacted())
			}
		}
	}
	// A reader that has gone ends the writer as it ends any other.
	if r := shell(`{ "$0" token peer; echo "code $?" >&2; } | true`); strings.Contains(r.err, token) {
		t.Error("the token came out on stderr")
	}
	if got := p.must("token", "peer").token(); got != token {
		t.Error("the token was lost")
	}
	// With a closed descriptor 1 no file may be opened in its place and be
	// written to.
	hits, _ := find(t, []string{token}, filepath.Join(p.home))
	if len(hits) > 0 {
		t.Errorf("the token was written into %v", hits)
	}
}

// Somebody else who signs in takes nothing over without a yes, and what was
// there stays alive.
func TestReconnectAsSomebodyElse(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{RotateRefresh: true})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	h.mustConnect(p, "peer")
	token := p.must("token", "peer").token()

	as := func(account string, more ...string) result {
		t.Helper()
		r := p.start(append([]string{"connect", "peer", "--flow", "browser", "--no-browser"}, more...)...)
		must(t, h.Answer(t.Context(), r.authorizeURL(), sandbox.Choice{Account: account}))
		return r.wait()
	}
	if r := as("bob"); r.code != 1 || !strings.Contains(r.err, "Bob") {
		t.Error(r.redacted())
	}
	if got := p.must("token", "peer").token(); got != token {
		t.Error("the grant was replaced without a yes")
	}
	if r := as("bob", "--yes"); r.code != 0 {
		t.Error(r.redacted())
	}
	if r := p.must("api", "peer", "me"); !strings.Contains(r.out, "bob") {
		t.Error(r.redacted())
	}
	p.must("token", "peer", "--refresh")
	p.holdsNone(h.tap.secrets()...)
}

// Denied in the browser: our page says so, and so does the command.
func TestDeniedInTheBrowser(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{})
	chromium := peers.Browser(t, peers.BrowserOptions{Deny: true})
	p := withFileStore(t)
	// Not $BROWSER but the system's opener.
	p.vars["PATH"] = chromium.Dir + ":" + os.Getenv("PATH")
	p.addProvider(definition("peer", is, is.URL+"/token", is.Public, "client_id: "+is.Public.ID+"\n"))
	r := p.run("connect", "peer", "--flow", "browser")
	if r.code != 1 || !strings.Contains(r.err, "was not granted") {
		t.Error(r.redacted())
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if page, err := chromium.Wait(ctx); err != nil || !strings.Contains(page.Text, "Access was not granted") {
		t.Errorf("the page says %q (%v)", page.Text, err)
	}
	if left := p.grants(); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}
