//go:build unix

package dropin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/test/peers"
)

// receiving is a running 'apiauth receive' and the address that it printed.
func (p *person) receiving(origin string, more ...string) (address string, stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	cmd := p.command(ctx, nil, append([]string{"apiauth", "receive", "spotify", "--origin", origin, "--yes"}, more...)...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		p.t.Fatalf("receive printed no address: %v", err)
	}
	return strings.TrimSpace(line), func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		cancel()
	}
}

// response is a token response as the stand-in gives it to the page, with what
// the SDK adds.
func (p *person) response(f *fakes.Fake, login string) map[string]any {
	p.t.Helper()
	f.SignInAs(login)
	other := newPerson(p.t)
	other.must("apiauth", "project", "init", "spotify", "--label", "page")
	other.connect(f)
	token := strings.TrimSpace(other.must("apiauth", "token", "spotify"))
	return map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": 3600, "refresh_token": "page-refresh-token", "scope": "user-read-private",
		"expires": time.Now().Add(time.Hour).UnixMilli(),
	}
}

// post sends a token response as a page of an origin would.
func post(t *testing.T, address, method, origin, kind string, doc any) *http.Response {
	t.Helper()
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "page-refresh-token") {
		t.Error("the answer repeats what was posted")
	}
	return resp
}

func TestReceive(t *testing.T) {
	p := newPerson(t)
	f := fakes.Spotify(t)
	p.must("apiauth", "project", "init", "spotify", "--label", "music")
	p.standIn(f)
	p.must("apiauth", "client", "set", "spotify", "--client-id", f.ClientID)
	alice, bob := p.response(f, "alice"), p.response(f, "bob")
	const origin = "http://127.0.0.1:5173"
	address, stop := p.receiving(origin)
	defer stop()

	empty := map[string]any{"access_token": "emptyAccessToken", "token_type": "", "expires_in": 0, "refresh_token": "", "expires": -1}
	dead := map[string]any{"access_token": "BQdead", "token_type": "Bearer", "expires_in": 3600}
	for _, test := range []struct {
		name, address, method, origin, kind string
		doc                                 any
		status                              int
	}{
		{"another address", address + "0", "POST", origin, "application/json", alice, 404},
		{"another origin", address, "POST", "http://127.0.0.1:5174", "application/json", alice, 403},
		{"the origin null", address, "POST", "null", "application/json", alice, 403},
		{"no origin", address, "POST", "", "application/json", alice, 403},
		{"another method", address, "PUT", origin, "application/json", alice, 405},
		{"a form", address, "POST", origin, "text/plain", alice, 415},
		{"the SDK's empty token", address, "POST", origin, "application/json", empty, 400},
		{"no object", address, "POST", origin, "application/json", []string{}, 400},
		{"too large", address, "POST", origin, "application/json", map[string]string{"access_token": strings.Repeat("x", 70<<10)}, 413},
		{"a token that the provider refuses", address, "POST", origin, "application/json", dead, 403},
	} {
		if got := post(t, test.address, test.method, test.origin, test.kind, test.doc); got.StatusCode != test.status {
			t.Errorf("%s: status %d, want %d", test.name, got.StatusCode, test.status)
		}
	}
	if r := p.run("apiauth", "token", "spotify"); r.err == nil {
		t.Fatal("a refused post was kept")
	}
	preflight := post(t, address, "OPTIONS", origin, "", nil)
	if preflight.StatusCode != 204 || preflight.Header.Get("Access-Control-Allow-Origin") != origin || preflight.Header.Get("Access-Control-Allow-Headers") != "content-type" {
		t.Errorf("preflight: %d %v", preflight.StatusCode, preflight.Header)
	}

	if got := post(t, address, "POST", origin, "application/json", alice); got.StatusCode != 204 {
		t.Fatalf("the token was not taken: %d", got.StatusCode)
	}
	if got := strings.TrimSpace(p.must("apiauth", "token", "spotify")); got != alice["access_token"] {
		t.Error("another token is handed out than the one that was posted")
	}
	var status []struct {
		Account    string `json:"account"`
		HasRefresh bool   `json:"has_refresh"`
		Flow       string `json:"flow"`
	}
	if err := json.Unmarshal([]byte(p.must("apiauth", "status", "--json")), &status); err != nil || len(status) != 1 || status[0].Account != "Alice Example" || status[0].Flow != "receive" || status[0].HasRefresh {
		t.Errorf("status %+v, %v", status, err)
	}
	calls := f.Stats().APICalls
	if got := post(t, address, "POST", origin, "application/json", alice); got.StatusCode != 204 {
		t.Errorf("the same token again: %d", got.StatusCode)
	}
	if f.Stats().APICalls != calls {
		t.Error("a page that is loaded again costs a call")
	}
	if got := post(t, address, "POST", origin, "application/json", bob); got.StatusCode != 403 {
		t.Errorf("a token of another account: %d", got.StatusCode)
	}
	if got := strings.TrimSpace(p.must("apiauth", "token", "spotify")); got != alice["access_token"] {
		t.Error("another account took the connection over")
	}
	// The page's refresh token stays the page's: it may be replaced.
	before := f.Stats().Refreshes
	if r := p.run("apiauth", "token", "spotify", "--refresh"); r.err == nil || f.Stats().Refreshes != before {
		t.Error("the grant of the page was refreshed behind its back")
	}
}

// The published SDK posts back from a page in Chromium, preflight included.
func TestSpotifySDKPostsBack(t *testing.T) {
	p := newPerson(t)
	f := fakes.Spotify(t)
	p.must("apiauth", "project", "init", "spotify", "--label", "music")
	p.standIn(f)
	p.must("apiauth", "client", "set", "spotify", "--client-id", f.ClientID)
	token := p.response(f, "alice")
	cached, err := json.Marshal(token)
	if err != nil {
		t.Fatal(err)
	}
	var address string
	mux := http.NewServeMux()
	sdk := filepath.Join(peers.NodeModules(t), "@spotify", "web-api-ts-sdk", "dist", "mjs")
	mux.Handle("GET /sdk/", http.StripPrefix("/sdk/", http.FileServer(http.Dir(sdk))))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>music</title><body><script type="module">
import { SpotifyApi } from '/sdk/index.js'
localStorage.setItem('spotify-sdk:AuthorizationCodeWithPKCEStrategy:token', %q)
const text = await SpotifyApi.performUserAuthorization('client', location.href, [], %q)
  .then((r) => 'posted, authenticated: ' + r.authenticated, (error) => 'failed: ' + error)
document.body.innerHTML = '<p id="done"></p>'
document.getElementById('done').textContent = text
</script>`, cached, address)
	})
	page := httptest.NewServer(mux)
	defer page.Close()
	var stop func()
	address, stop = p.receiving(page.URL)
	defer stop()

	browser := peers.Browser(t, peers.BrowserOptions{})
	cmd := p.command(t.Context(), nil, browser.Script, page.URL+"/")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "posted, authenticated: true") {
		t.Fatalf("the page: %v: %s", err, out)
	}
	if got := strings.TrimSpace(p.must("apiauth", "token", "spotify")); got != token["access_token"] {
		t.Error("the token that the SDK posted is not the one that is handed out")
	}
}
