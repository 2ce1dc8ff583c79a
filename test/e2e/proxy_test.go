//go:build unix

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// acme is an API on loopback that knows one key, and a person who has it.
type acme struct {
	*person
	api *httptest.Server
	key string

	mu    sync.Mutex
	calls []string // method and path of each
}

// newAcme connects to an API that answers {"name":"Ada"} everywhere.
func newAcme(t *testing.T, answer http.HandlerFunc) *acme {
	t.Helper()
	a := &acme{person: withFileStore(t), key: "acme-" + rand.Text() + rand.Text()}
	a.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+a.key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		a.mu.Lock()
		a.calls = append(a.calls, r.Method+" "+r.URL.Path)
		a.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(a.api.Close)
	a.addProvider(fmt.Sprintf(`id: acme
name: Acme
flows: [key]
scopes: {omit: true}
token: {expires_in: never}
allow_insecure_loopback: true
api: {base_url: %q, hosts: [%q]}
env: ACME_TOKEN
register: {page: "https://example.com/", redirect_uri: none}
`, a.api.URL+"/v1", a.api.Listener.Addr().String()))
	if r := a.runIn(a.key, "connect", "acme", "--flow", "key", "--import-stdin"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	return a
}

func ada(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"name":"Ada"}`)
}

// served is a proxy on its way.
type served struct {
	cmd      *exec.Cmd
	url, key string
	stderr   *strings.Builder
}

// serve starts apiauth proxy acme and reads its address and key.
func (a *acme) serve(args ...string) *served {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), patience)
	s := &served{cmd: a.command(ctx, append([]string{"proxy", "acme"}, args...)...), stderr: &strings.Builder{}}
	s.cmd.Stderr = s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		cancel()
	})
	lines := bufio.NewScanner(out)
	for s.key == "" && lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "APIAUTH_PROXY_URL":
			s.url = value
		case "APIAUTH_PROXY_KEY":
			s.key = value
		}
	}
	if s.key == "" {
		a.t.Fatal("the proxy did not print address and key")
	}
	return s
}

func (a *acme) get(url, key string) *http.Response {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("X-Apiauth-Key", key)
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// TestProxyAsksForItsKey is R-32: another process of this machine gets nothing
// without the key of the run, and the key of a run that is over is worth nothing.
func TestProxyAsksForItsKey(t *testing.T) {
	t.Parallel()
	a := newAcme(t, ada)
	first, second := a.serve(), a.serve()
	if resp := a.get(first.url+"/acme/me", first.key); resp.StatusCode != http.StatusOK {
		t.Errorf("with the key: status %d", resp.StatusCode)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		peers.Missing(t, "curl", "apt-get install curl")
	}
	for name, header := range map[string]string{"no key": "X-None: 1", "the key of another run": "X-Apiauth-Key: " + first.key} {
		out, err := exec.CommandContext(t.Context(), curl, "-s", "-w", "%{http_code}", "-H", header, second.url+"/acme/me").Output()
		if err != nil || !strings.HasSuffix(string(out), "401") || strings.Contains(string(out), "Ada") || strings.Contains(string(out), a.key) {
			t.Errorf("%s: %v, the answer has %d bytes", name, err, len(out))
		}
	}
	if len(a.calls) != 1 {
		t.Errorf("the API was called %d times, want once", len(a.calls))
	}
}

// TestProxyEndsWithItsSignal: what is under way comes to its end first.
func TestProxyEndsWithItsSignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		next := make(chan struct{})
		a := newAcme(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first ")
			_ = http.NewResponseController(w).Flush()
			<-next
			_, _ = io.WriteString(w, "last")
		})
		s := a.serve()
		resp := a.get(s.url+"/acme/slow", s.key)
		if err := s.cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the proxy takes nothing more", func() bool {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			other := &http.Transport{DisableKeepAlives: true}
			answer, err := other.RoundTrip(req)
			if err == nil {
				_ = answer.Body.Close()
			}
			return err != nil
		})
		close(next)
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "first last" {
			t.Errorf("%v: the answer under way: %q, %v", sig, body, err)
		}
		_ = s.cmd.Wait()
		if code := s.cmd.ProcessState.ExitCode(); code != 128+int(sig) {
			t.Errorf("%v: status %d\n%s", sig, code, strings.ReplaceAll(s.stderr.String(), s.key, "KEY"))
		}
	}
}

// page makes requests and shows what came of each.
const proxyPage = `<!doctype html><title>page</title><div id="root"></div><script type="module">
const say = (text) => { document.querySelector('#root').append(text, document.createElement('br')); };
const at = %q, headers = { 'X-Apiauth-Key': %q };
const ask = async (name, url, init) => {
  try { const r = await fetch(url, init); say(name + ' ' + r.status + ' ' + await r.text()); } catch (e) { say(name + ' refused'); }
};
await ask('get', at + '/acme/me', { headers });
await ask('post', at + '/acme/items', { method: 'POST', headers: { ...headers, 'Content-Type': 'application/json' }, body: '{}' });
await ask('odd-header', at + '/acme/me', { headers: { ...headers, 'X-Odd': '1' } });
await ask('cookies', at + '/acme/me', { headers, credentials: 'include' });
await ask('no-key', at + '/acme/me', {});
const p = document.createElement('p'); p.id = 'done'; document.body.append(p);
</script>`

// TestProxyInABrowser holds the exact origins against a real browser.
func TestProxyInABrowser(t *testing.T) {
	t.Parallel()
	a := newAcme(t, ada)
	var html string
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, html) })
	own, foreign := httptest.NewServer(page), httptest.NewServer(page)
	defer own.Close()
	defer foreign.Close()
	s := a.serve("--origin", own.URL)
	html = fmt.Sprintf(proxyPage, s.url, s.key)
	browser := peers.Browser(t, peers.BrowserOptions{})
	for url, want := range map[string]string{
		own.URL:     "get 200 {\"name\":\"Ada\"}\npost 200 {\"name\":\"Ada\"}\nodd-header refused\ncookies refused\nno-key 401 {\"error\":\"unauthorized\"",
		foreign.URL: "get refused\npost refused\nodd-header refused\ncookies refused\nno-key refused",
	} {
		if got := look(t, browser, url); !strings.HasPrefix(got, want) {
			t.Errorf("the page saw %q, want %q", strings.ReplaceAll(got, s.key, "KEY"), want)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := strings.Join(a.calls, ", "); got != "GET /v1/me, POST /v1/items" {
		t.Errorf("the API was called with %s", got)
	}
}

// look opens a page and returns its text.
func look(t *testing.T, b *peers.BrowserPeer, url string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, b.Script, url).CombinedOutput(); err != nil {
		t.Fatalf("the browser: %v: %s", err, out)
	}
	visit, err := b.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return visit.Text
}

// TestProxyRecipeForVite runs the recipe of docs/proxy.md: a real dev server, a
// real browser, and neither key nor token in anything that the browser gets.
func TestProxyRecipeForVite(t *testing.T) {
	t.Parallel()
	vite := filepath.Join(peers.NodeModules(t), "vite", "bin", "vite.js")
	node := peers.Program(t, "apt-get install nodejs", "node")
	browser := peers.Browser(t, peers.BrowserOptions{})
	a := newAcme(t, ada)
	doc, err := os.ReadFile(filepath.Join(peers.Root(t), "docs", "proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	recipe := regexp.MustCompile("(?s)`vite.config.js`:\n\n```js\n(.*?)```").FindStringSubmatch(string(doc))
	if recipe == nil {
		t.Fatal("docs/proxy.md has no vite.config.js")
	}
	a.write("vite.config.js", recipe[1])
	a.write("package.json", `{"type": "module"}`)
	a.write("index.html", `<!doctype html><title>page</title><div id="root"></div><script type="module" src="/main.js"></script>`)
	a.write("main.js", `const say = (text) => { document.querySelector('#root').append(text, document.createElement('br')); };
for (const method of ['GET', 'POST']) {
  const r = await fetch('/api/acme/me', { method });
  say(method + ' ' + r.status + ' ' + (await r.json()).name);
}
const p = document.createElement('p'); p.id = 'done'; document.body.append(p);
`)
	if err := os.Symlink(peers.NodeModules(t), filepath.Join(a.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	url := "http://localhost:" + port
	r := a.start("proxy", "acme", "--origin", url, "--", "sh", "-c",
		`printf %s "$APIAUTH_PROXY_KEY" >key; exec "$0" "$1" --port "$2" --strictPort`, node, vite, port)
	var html string
	eventually(t, "the dev server answers", func() bool {
		resp, err := http.Get(url) //nolint:noctx // it is asked again
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		html = string(body)
		return err == nil && resp.StatusCode == http.StatusOK
	})
	if got := look(t, browser, url); !strings.HasPrefix(got, "GET 200 Ada\nPOST 200 Ada") {
		t.Errorf("the page shows %q", got)
	}
	key, err := os.ReadFile(filepath.Join(a.dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	all := html
	for _, path := range []string{"/main.js", "/@vite/client", "/api/acme/me"} {
		resp := a.get(url+path, "")
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		all += string(body) + fmt.Sprint(resp.Header)
	}
	if strings.Contains(all, string(key)) || strings.Contains(all, a.key) {
		t.Error("what the browser gets holds the key or the token")
	}
	// What another site sends to the dev server is refused.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/acme/items", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.example")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a request of another site: status %d, want 403", resp.StatusCode)
	}
	r.signal(syscall.SIGTERM)
	r.wait()
	for _, call := range a.calls {
		if strings.Contains(call, "items") {
			t.Error("a request of another site reached the API")
		}
	}
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	return port
}
