//go:build unix

package e2e

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// status is what status and list print with --json, as far as it is looked at.
type status struct {
	Name     string   `json:"name"`
	Provider string   `json:"provider"`
	Account  string   `json:"account"`
	State    string   `json:"state"`
	Keychain string   `json:"keychain"`
	Asked    []string `json:"scopes_asked"`
	Granted  []string `json:"scopes_granted"`
}

// The main job, with everything real: a certified issuer, a browser that signs
// in and consents, the keychain of the desktop.
func TestJourneyWithBrowserAndKeychain(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{AccessTTL: shortLife})
	chromium := peers.Browser(t, peers.BrowserOptions{Account: "carol"})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	p.vars["BROWSER"] = chromium.Script
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Public, "client_id: "+is.Public.ID+"\n"))

	r := p.must("connect", "peer", "--scope", "api:read", "--scope", "profile")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	page, err := chromium.Wait(ctx)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.redacted())
	}
	if !strings.Contains(page.Text, "You can close this window") || strings.Contains(page.URL, "code=") && !strings.Contains(page.URL, "/callback/peer") {
		t.Errorf("the browser landed on a page that says %q", page.Text)
	}
	if !strings.Contains(r.err, "Test carol") {
		t.Errorf("connect does not say who signed in:\n%s", r.err)
	}
	if r.out != "" {
		t.Errorf("connect printed on stdout: %d bytes", len(r.out))
	}
	journey(t, p, is, tap)
}

// The same with the sealed file, under a raw key and under a passphrase.
func TestJourneyWithFileStore(t *testing.T) {
	t.Parallel()
	for name, variable := range map[string]string{"key": "APIAUTH_STORE_KEY", "passphrase": "APIAUTH_STORE_PASSPHRASE"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := peers.Issuer(t, peers.IssuerOptions{AccessTTL: shortLife})
			p := newPerson(t, nil)
			p.vars["APIAUTH_STORE"] = "file"
			p.vars[variable] = "correct horse battery staple"
			if name == "key" {
				p.vars[variable] = p.storeKey()
			}
			tap := newTap(t, is.URL+"/token")
			p.addProvider(definition("peer", is, tap.url, is.Confidential, ""))
			r := p.startIn(is.Confidential.Secret.Reveal(), "connect", "peer", "--flow", "browser", "--no-browser",
				"--client-id", is.Confidential.ID, "--client-secret-stdin",
				"--scope", "api:read", "--scope", "profile")
			if _, err := (&peers.Visitor{Account: "carol"}).Visit(t.Context(), r.authorizeURL()); err != nil {
				t.Fatal(err)
			}
			if res := r.wait(); res.code != 0 || !strings.Contains(res.err, "Test carol") {
				t.Fatal(res.redacted())
			}
			p.holdsNone(is.Confidential.Secret.Reveal(), p.vars[variable])
			journey(t, p, is, tap)
			p.holdsNone(is.Confidential.Secret.Reveal(), p.vars[variable])
			// A client is for all projects, so it outlives a connection.
			if res := p.must("client", "list"); !strings.Contains(res.out, is.Confidential.ID) {
				t.Errorf("%s", res.redacted())
			}
			p.must("client", "remove", "peer")
			p.holdsNone(is.Confidential.Secret.Reveal(), p.vars[variable])
		})
	}
}

// shortLife is how long the first access tokens of a journey live.
const shortLife = 6 * time.Second

// journey is everything after connect: token, expiry, token, exec, status,
// disconnect.
func journey(t *testing.T, p *person, is *peers.IssuerProc, tap *tap) {
	t.Helper()
	keychain := p.bus != nil

	first := p.must("token", "peer", "--min-ttl", "0s").token()
	if first != tap.lastAccess() || len(strings.Fields(first)) != 1 {
		t.Fatal("token printed something else than what the issuer gave")
	}
	if !is.Active(t, secret.New(first)) {
		t.Error("the issuer does not know the token")
	}
	if got := p.must("token", "peer", "--min-ttl", "0s", "--format", "header").out; got != "Authorization: Bearer "+tap.lastAccess()+"\n" {
		t.Error("--format header prints another line")
	}
	firstRefresh := tap.lastRefresh()
	if keychain {
		// A process after the one that stored it has seen the item: from now on
		// it is the only place.
		if shown := p.secretTool("service", "apiauth."+p.stores()[0]); !strings.Contains(shown, firstRefresh) || strings.Contains(shown, first) {
			t.Error("secret-tool shows no refresh token, or an access token")
		}
		if n := keychainItems(t, p.bus); n < 2 {
			t.Errorf("the keychain holds %d items", n)
		}
	}
	p.holdsNone(tap.secrets()...)

	// On a slow machine the first one was renewed on the way here.
	first, firstRefresh = tap.lastAccess(), tap.lastRefresh()
	eventually(t, "the issuer says that the token has expired", func() bool { return !is.Active(t, secret.New(first)) })
	p.waitExpired("peer")            // by our clock, too
	is.Set(t, peers.IssuerOptions{}) // from here on tokens live an hour
	refreshes := tap.count("refresh_token")
	second := p.must("token", "peer", "--min-ttl", "0s").token()
	if second == first || second != tap.lastAccess() || !is.Active(t, secret.New(second)) {
		t.Error("an expired token was handed out, or one that does not live")
	}
	if n := tap.count("refresh_token") - refreshes; n != 1 {
		t.Errorf("%d refreshes after the expiry", n)
	}
	if tap.lastRefresh() == firstRefresh {
		t.Error("the issuer did not rotate the refresh token: the test proves nothing")
	}
	if s := is.Stats(t); s.Reused != 0 {
		t.Errorf("a refresh token was used twice: %+v", s)
	}
	if keychain {
		shown := p.secretTool("service", "apiauth."+p.stores()[0])
		if !strings.Contains(shown, tap.lastRefresh()) || strings.Contains(shown, firstRefresh) {
			t.Error("the keychain does not hold the rotated refresh token alone")
		}
	}

	if got := p.must("exec", "-c", "peer=MY_TOKEN", "--", "printenv", "MY_TOKEN").token(); got != second {
		t.Error("exec handed over another token")
	}
	if r := p.run("exec", "-c", "peer", "--", "sh", "-c", `test -n "$PEER_ACCESS_TOKEN" && test -z "$APIAUTH_STORE_KEY$APIAUTH_STORE_PASSPHRASE" && exit 7`); r.code != 7 {
		t.Errorf("the child's exit code: %s", r.redacted())
	}
	if r := p.must("api", "peer", "me"); !strings.Contains(r.out, `"sub":"carol"`) {
		t.Errorf("api: %s", r.redacted())
	}

	st := fromJSON[[]status](t, p.must("status", "--json"))
	if len(st) != 1 || st[0].Name != "peer" || st[0].State != "ok" || st[0].Account != "Test carol" || !slices.Contains(st[0].Granted, "api:read") {
		t.Errorf("status: %+v", st)
	}
	for _, args := range [][]string{{"status"}, {"list"}, {"status", "--live"}} {
		if r := p.must(args...); !strings.Contains(r.out, "peer") {
			t.Errorf("%s", r.redacted())
		}
	}
	p.holdsNone(tap.secrets()...)

	if r := p.must("disconnect", "peer"); !strings.Contains(r.err, "revoked") {
		t.Errorf("%s", r.redacted())
	}
	for i, token := range tap.secrets() {
		if is.Active(t, secret.New(token)) {
			t.Errorf("token %d of %d lives on after disconnect", i+1, len(tap.secrets()))
		}
	}
	if status := callAPI(t, is, tap.lastAccess()); status != http.StatusUnauthorized {
		t.Errorf("the API answers %d to a revoked token", status)
	}
	if left := p.grants(); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
	if keychain {
		if shown := p.secretTool("service", "apiauth."+p.stores()[0]); strings.TrimSpace(shown) != "" {
			t.Error("the keychain still shows items")
		}
		if n := keychainItems(t, p.bus); n != 0 {
			t.Errorf("the keychain still holds %d items", n)
		}
	}
	p.holdsNone(tap.secrets()...)
	if r := p.run("token", "peer"); r.code != 4 || r.out != "" {
		t.Errorf("token after disconnect: %s", r.redacted())
	}
}

func callAPI(t *testing.T, is *peers.IssuerProc, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, is.API+"me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestDeviceFlow(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{})
	p := withFileStore(t)
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Public, "client_id: "+is.Public.ID+"\n"))
	r := p.start("connect", "peer", "--flow", "device", "--no-browser")
	line := r.waitLine("enter the code ")
	_, rest, _ := strings.Cut(line, "enter the code ")
	code, _, _ := strings.Cut(rest, " ")
	if _, err := (&peers.Visitor{Account: "dave", UserCode: code}).Visit(t.Context(), is.URL+"/device"); err != nil {
		t.Fatal(err)
	}
	if res := r.wait(); res.code != 0 || !strings.Contains(res.err, "Test dave") {
		t.Fatal(res.redacted())
	}
	if got := p.must("token", "peer").token(); got != tap.lastAccess() || !is.Active(t, secret.New(got)) {
		t.Error("no live token after the device flow")
	}
	p.holdsNone(tap.secrets()...)
	p.must("disconnect", "peer")
	for _, s := range tap.secrets() {
		if is.Active(t, secret.New(s)) {
			t.Error("a token lives on after disconnect")
		}
	}
}

func TestClientCredentials(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{AccessTTL: 90 * time.Second})
	p := withFileStore(t)
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("machine", is, tap.url, is.Machine, ""))
	r := p.runIn(is.Machine.Secret.Reveal()+"\n", "connect", "machine", "--client-id", is.Machine.ID, "--client-secret-stdin", "--scope", "api:read")
	if r.code != 0 {
		t.Fatal(r.redacted())
	}
	first := p.must("token", "machine").token()
	if first != tap.lastAccess() || !is.Active(t, secret.New(first)) {
		t.Error("no live token")
	}
	second := p.must("token", "machine", "--min-ttl", "89s", "--refresh").token()
	if second == first || tap.count("client_credentials") != 2 {
		t.Errorf("not renewed: %d requests", tap.count("client_credentials"))
	}
	p.holdsNone(append(tap.secrets(), is.Machine.Secret.Reveal())...)
	p.must("disconnect", "machine")
	p.holdsNone(append(tap.secrets(), is.Machine.Secret.Reveal())...)
	if left := p.grants(); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}
