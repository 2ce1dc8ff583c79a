package proxy

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// wallet is where the rig's tokens come from: token-1, and one number more with
// each refresh that renews.
type wallet struct {
	mu        sync.Mutex
	n         int
	refreshes int
	stuck     bool  // a refresh gives the same token
	err       error // instead of a token
	norefresh error // instead of a refresh
}

const firstToken = "canary-token-0001"

func (s *wallet) Token(_ context.Context, _ string, refresh bool) (secret.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return secret.Text{}, s.err
	}
	if refresh {
		s.refreshes++
		if s.norefresh != nil {
			return secret.Text{}, s.norefresh
		}
		if !s.stuck {
			s.n++
		}
	}
	return secret.New(fmt.Sprintf("canary-token-%04d", s.n+1)), nil
}

func (s *wallet) refreshed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// reverseRig is a reverse proxy before a real API on loopback.
type reverseRig struct {
	*Reverse
	t      *testing.T
	api    *httptest.Server
	tokens *wallet
	client *http.Client // follows nothing

	mu      sync.Mutex
	clock   time.Time
	entries []Entry
}

// newReverseRig serves api as the connection "one". change may change the options.
func newReverseRig(t *testing.T, api http.HandlerFunc, change func(*ReverseOptions)) *reverseRig {
	t.Helper()
	r := &reverseRig{t: t, tokens: &wallet{}, clock: time.Now()}
	r.api = httptest.NewServer(api)
	t.Cleanup(r.api.Close)
	o := ReverseOptions{
		Tokens: r.tokens,
		Routes: []Route{{
			Connection: "one", Base: r.api.URL + "/v1", Hosts: []string{r.api.Listener.Addr().String()},
			Auth: bearer(), InsecureLoopback: true,
		}},
		UserAgent: "apiauth/test",
		Now: func() time.Time {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.clock
		},
		Log: func(e Entry) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.entries = append(r.entries, e)
		},
	}
	if change != nil {
		change(&o)
	}
	p, err := StartReverse(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	r.Reverse = p
	transport := &http.Transport{DisableCompression: true}
	r.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.Shutdown(ctx)
	})
	return r
}

func (r *reverseRig) later(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock = r.clock.Add(d)
}

// logged returns the entries so far.
func (r *reverseRig) logged() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Entry(nil), r.entries...)
}

// request makes one with the key; header lines are added.
func (r *reverseRig) request(method, path string, body io.Reader, header ...string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL()+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Apiauth-Key", r.Key().Reveal())
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	return req
}

func (r *reverseRig) do(req *http.Request) (*http.Response, string) {
	r.t.Helper()
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(body)
}

func (r *reverseRig) get(path string, header ...string) (*http.Response, string) {
	r.t.Helper()
	return r.do(r.request(http.MethodGet, path, nil, header...))
}

// word returns what an answer of the proxy's own says is wrong.
func word(t *testing.T, body string) string {
	t.Helper()
	var doc refusal
	if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Message == "" {
		t.Fatalf("not an answer of the proxy's own: %.200q", body)
	}
	return doc.Error
}

// seen answers with the request as it came: the request line and its headers.
func seen(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
	for name, values := range r.Header {
		for _, v := range values {
			fmt.Fprintf(w, "%s: %s\n", name, strings.ReplaceAll(v, "canary", "CANARY"))
		}
	}
	body, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "\n%s", body)
}

// TestReverseKey is R-32: whoever does not show the key of the run gets nothing,
// and the API never sees the key.
func TestReverseKey(t *testing.T) {
	var calls sync.Map
	r := newReverseRig(t, func(w http.ResponseWriter, req *http.Request) {
		var b bytes.Buffer
		_ = req.Write(&b)
		calls.Store(b.String(), true)
	}, nil)
	key := r.Key().Reveal()
	if len(key) < 43 {
		t.Fatalf("the key has %d characters, which is less than 256 bits", len(key))
	}
	for _, c := range []struct {
		name   string
		header []string
		path   string
		want   int
	}{
		{"nothing", nil, "/one/me", 401},
		{"wrong key", []string{"X-Apiauth-Key: " + key[1:] + "A"}, "/one/me", 401},
		{"part of the key", []string{"Authorization: Bearer " + key[:20]}, "/one/me", 401},
		{"empty key", []string{"X-Apiauth-Key: "}, "/one/me", 401},
		{"another scheme", []string{"Authorization: Token " + key}, "/one/me", 401},
		{"the key in the path, which is off", nil, "/k/" + key + "/one/me", 401},
		{"the key in the query", nil, "/one/me?access_token=" + key, 401},
		{"unknown connection without a key", nil, "/two/me", 401},
		{"bearer", []string{"Authorization: Bearer " + key}, "/one/me", 200},
		{"bearer in lower case", []string{"Authorization: bearer " + key}, "/one/me", 200},
		{"own header", []string{"X-Apiauth-Key: " + key}, "/one/me", 200},
		{"own header beside a token of the caller's", []string{"X-Apiauth-Key: " + key, "Authorization: Bearer other"}, "/one/me", 200},
		{"unknown connection", []string{"X-Apiauth-Key: " + key}, "/two/me", 404},
		{"no connection", []string{"X-Apiauth-Key: " + key}, "/", 404},
	} {
		req := r.request(http.MethodGet, c.path, nil)
		req.Header = http.Header{}
		for _, h := range c.header {
			name, value, _ := strings.Cut(h, ": ")
			req.Header.Set(name, value)
		}
		if resp, _ := r.do(req); resp.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.name, resp.StatusCode, c.want)
		}
	}
	calls.Range(func(call, _ any) bool {
		if strings.Contains(call.(string), key) || strings.Contains(call.(string), "other") || !strings.Contains(call.(string), "Bearer "+firstToken) {
			t.Error("the API saw the key or a foreign token, or not its own")
		}
		return true
	})
}

func TestReverseForeignHostAndOrigin(t *testing.T) {
	r := newReverseRig(t, seen, nil)
	req := r.request(http.MethodGet, "/one/me", nil)
	req.Host = "evil.example"
	if resp, _ := r.do(req); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a foreign Host: status %d", resp.StatusCode)
	}
	if resp, _ := r.get("/one/me", "Origin: http://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a page of another origin: status %d", resp.StatusCode)
	}
}

func TestReverseForwards(t *testing.T) {
	r := newReverseRig(t, seen, func(o *ReverseOptions) {
		o.Routes[0].Headers = map[string]string{"x-api-version": "2026-01-01", "Accept": "application/vnd.one+json"}
	})
	host := r.api.Listener.Addr().String()
	_, got := r.do(r.request(http.MethodPatch, "/one/a%2Fb/%C3%A9;x=1/?q=a+b%20c&q=&%zz", strings.NewReader("hello"),
		"Content-Type: text/plain", "X-Custom: 1", "Accept: text/html", "Cookie: s=1", "Referer: http://127.0.0.1:1/k/x", "Forwarded: for=1.2.3.4",
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil.example", "X-Real-Ip: 1.2.3.4", "Via: 1.1 x", "Proxy-Authorization: Basic eDp5", "Proxy-Connection: keep-alive",
		"Te: trailers", "Keep-Alive: 5", "Sec-Fetch-Site: cross-site", "Sec-Ch-Ua: x", "Connection: X-Hop", "X-Hop: 1", "Accept-Encoding: br"))
	for _, want := range []string{
		"PATCH /v1/a%2Fb/%C3%A9;x=1/?q=a+b%20c&q=&%zz\n", "Host: " + host + "\n", "Authorization: Bearer CANARY-token-0001\n", "X-Custom: 1\n",
		"Content-Type: text/plain\n", "X-Api-Version: 2026-01-01\n", "Accept: text/html\n", "Accept-Encoding: identity\n", "User-Agent: Go-http-client/1.1\n", "\n\nhello",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the API did not see %q", want)
		}
	}
	for _, never := range []string{"Cookie", "Referer", "Forwarded", "X-Real-Ip", "Via", "Proxy-", "Te:", "Keep-Alive", "Sec-", "X-Hop", "Apiauth", "br\n", "1.2.3.4"} {
		if strings.Contains(got, never) {
			t.Errorf("the API saw %q", never)
		}
	}
	if _, got := r.get("/one"); !strings.HasPrefix(got, "GET /v1\n") || !strings.Contains(got, "Accept: application/vnd.one+json") {
		t.Errorf("the base itself: %.80q", got)
	}
	req := r.request(http.MethodGet, "/one/x", nil)
	req.Header["User-Agent"] = nil
	if _, got := r.do(req); !strings.Contains(got, "User-Agent: apiauth/test\n") {
		t.Error("a request without a User-Agent was not given ours")
	}
}

// TestReversePlaces puts the token where each provider wants it, and takes what
// an SDK puts there for the key.
func TestReversePlaces(t *testing.T) {
	for _, c := range []struct {
		name      string
		auth      providers.APIAuthPin
		path, key string // with KEY
		want      string
	}{
		{"own header", providers.APIAuthPin{In: "header", Name: "x-api-key"}, "/one/me", "x-api-key: KEY", "\nX-Api-Key: CANARY-token-0001\n"},
		{"prefix", providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "token "}, "/one/me", "Authorization: token KEY", "\nAuthorization: token CANARY-token-0001\n"},
		{"basic", providers.APIAuthPin{In: "basic"}, "/one/me", "Authorization: Basic " + "BASIC", "\nAuthorization: Basic Y2FuYXJ5LXRva2VuLTAwMDE6\n"},
		{"query", providers.APIAuthPin{In: "query", Name: "key"}, "/one/me?a=1&key=KEY&b=2&k%65y=x", "", "GET /v1/me?a=1&b=2&key=canary-token-0001\n"},
	} {
		r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Seen", "yes")
			fmt.Fprintf(w, "%s\n", strings.ToUpper(r.URL.RawQuery))
			if v := r.Header.Get("Authorization"); strings.HasPrefix(v, "Basic") {
				user, _, _ := r.BasicAuth()
				fmt.Fprintf(w, "user %s\n", strings.ToUpper(user))
			} else {
				seen(w, r)
			}
		}, func(o *ReverseOptions) { o.Routes[0].Auth = c.auth })
		key := r.Key().Reveal()
		req := r.request(http.MethodGet, strings.ReplaceAll(c.path, "KEY", key), nil)
		req.Header = http.Header{}
		if c.auth.In == "basic" {
			req.SetBasicAuth(key, "")
			c.want = "user CANARY-TOKEN-0001\n"
		} else if name, value, ok := strings.Cut(c.key, ": "); ok {
			req.Header.Set(name, strings.ReplaceAll(value, "KEY", key))
		}
		if c.auth.In == "query" {
			c.want = "A=1&B=2&KEY=CANARY-TOKEN-0001\n"
		}
		resp, got := r.do(req)
		if resp.StatusCode != 200 || !strings.Contains("\n"+got, c.want) || strings.Contains(got, key) {
			t.Errorf("%s: status %d, want %q in %q", c.name, resp.StatusCode, c.want, strings.ReplaceAll(got, key, "KEY"))
		}
		for _, e := range r.logged() {
			if line := fmt.Sprintf("%+v", e); strings.Contains(line, key) || strings.Contains(line, "canary") {
				t.Errorf("%s: the log holds the key or the token", c.name)
			}
		}
	}
}

func TestReverseLimits(t *testing.T) {
	r := newReverseRig(t, seen, func(o *ReverseOptions) {
		o.Routes[0].Quota = Rate{10, 24 * time.Hour}
		second := o.Routes[0]
		second.Connection, second.Quota, second.Limit = "two", Rate{}, Rate{2, time.Second}
		o.Routes = append(o.Routes, second)
	})
	for i := range 10 {
		if resp, _ := r.get("/one/x"); resp.StatusCode != 200 {
			t.Fatalf("call %d of 10: status %d", i+1, resp.StatusCode)
		}
	}
	r.later(time.Hour)
	resp, body := r.get("/one/x")
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "82800" || word(t, body) != "too_many_requests" {
		t.Errorf("call 11 of 10: status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	for i, want := range []int{200, 200, 429, 429} {
		if resp, _ := r.get("/two/x"); resp.StatusCode != want {
			t.Errorf("call %d at 2/s: status %d, want %d", i+1, resp.StatusCode, want)
		}
	}
	if resp, _ := r.get("/two/x"); resp.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q, want 1", resp.Header.Get("Retry-After"))
	}
	r.later(500 * time.Millisecond)
	for i, want := range []int{200, 429} {
		if resp, _ := r.get("/two/x"); resp.StatusCode != want {
			t.Errorf("half a second later, call %d: status %d, want %d", i+1, resp.StatusCode, want)
		}
	}
	r.later(23 * time.Hour)
	if resp, _ := r.get("/one/x"); resp.StatusCode != 200 {
		t.Errorf("the next day: status %d", resp.StatusCode)
	}
}

func TestParseRate(t *testing.T) {
	for s, want := range map[string]Rate{"10/s": {10, time.Second}, "600/m": {600, time.Minute}, "5/h": {5, time.Hour}, "1000/d": {1000, 24 * time.Hour}} {
		if got, err := ParseRate(s); err != nil || got != want || got.String() != s {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "10", "/s", "0/s", "-1/s", "1.5/s", "10/", "10/y", "10/s ", "10 /s", "99999999999/s", "1/s/s"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("%q was read as %v", s, got)
		}
	}
}

func TestReverseRules(t *testing.T) {
	rules, err := ParseRules([]string{"GET /me", "* /items/*"})
	if err != nil {
		t.Fatal(err)
	}
	r := newReverseRig(t, seen, func(o *ReverseOptions) { o.Routes[0].Allow = rules })
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/one/me", 200}, {"GET", "/one/me?x=1", 200}, {"POST", "/one/me", 403}, {"GET", "/one/me/x", 403}, {"DELETE", "/one/items/7", 200},
		{"GET", "/one", 403}, {"CONNECT", "/one/items/7", 400}, {"GET", "/one/items/%2e%2e/admin", 400}, {"GET", "/one/items/..%2fadmin", 403}, {"GET", "/one/items//x", 403},
		{"GET", "/one/~" + r.api.Listener.Addr().String() + "/v1/me", 403},
	} {
		resp, body := r.do(r.request(c.method, c.path, nil))
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, resp.StatusCode, c.want)
		}
		if resp.StatusCode == 403 && word(t, body) != "not_allowed" {
			t.Errorf("%s %s: %s", c.method, c.path, body)
		}
	}
	resp, body := r.get("/one/me", "X-HTTP-Method-Override: DELETE")
	if resp.StatusCode != 403 || word(t, body) != "not_allowed" || !strings.Contains(body, "X-Http-Method-Override") {
		t.Errorf("with another method in a header: %d %s", resp.StatusCode, body)
	}
}

// TestReversePinnedHosts is R-88 for the reverse proxy: no way of writing a path
// leads the token to a host that is not pinned.
func TestReversePinnedHosts(t *testing.T) {
	second := httptest.NewServer(http.HandlerFunc(seen))
	defer second.Close()
	stranger := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a host that is not pinned was called, a token with it: %v", strings.Contains(r.Header.Get("Authorization"), "canary"))
	}))
	defer stranger.Close()
	r := newReverseRig(t, seen, func(o *ReverseOptions) {
		o.Routes[0].Hosts = append(o.Routes[0].Hosts, second.Listener.Addr().String())
	})
	if resp, got := r.get("/one/~" + second.Listener.Addr().String() + "/v2/x?y"); resp.StatusCode != 200 || !strings.HasPrefix(got, "GET /v2/x?y\nHost: "+second.Listener.Addr().String()) {
		t.Errorf("another pinned host: status %d, %.60q", resp.StatusCode, got)
	}
	evil := stranger.Listener.Addr().String()
	api := r.api.Listener.Addr().String()
	for _, path := range []string{
		"/~" + evil + "/x", "/~" + api + "@" + evil + "/x", "/~" + evil + "%23" + api + "/x", "/~" + api + "." + evil + "/x", "/~/x", "/~",
		"/~" + api + "%2f@" + evil + "/x", "/~http:%2f%2f" + evil + "/x", "/~localhost:" + portOf(t, evil) + "/x", "/..", "/../x", "/a/%2e%2E/b", "/.",
	} {
		if resp, body := r.get("/one" + path); resp.StatusCode != 400 || word(t, body) != "bad_path" {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/@" + evil + "/x", "//" + evil + "/x", `/\` + evil + "/x", "/http://" + evil + "/x", "/%2f%2f" + evil} {
		if resp, got := r.get("/one" + path); resp.StatusCode == 200 && !strings.Contains(got, "Host: "+api+"\n") {
			t.Errorf("%s led elsewhere", path)
		}
	}
	for _, base := range []string{"https://api.example.com/v1", "http://" + evil, "http://" + api + "@" + evil, "ftp://" + api, "http://" + api + "?x", ":"} {
		_, err := StartReverse(t.Context(), ReverseOptions{Tokens: r.tokens, Routes: []Route{{Connection: "one", Base: base, Hosts: []string{api}, InsecureLoopback: true}}})
		if err == nil {
			t.Errorf("the base %s is served", base)
		}
	}
	if _, err := StartReverse(t.Context(), ReverseOptions{Tokens: r.tokens, Routes: []Route{{Connection: "one", Base: "http://" + api, Hosts: []string{api}}}}); err == nil {
		t.Error("http is served although the definition does not allow it")
	}
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestReverseAddresses is R-86: a pinned name is looked up once, and a token
// goes to no address that a public name has no business with.
func TestReverseAddresses(t *testing.T) {
	for address, c := range map[string]struct{ public, private bool }{
		"93.184.216.34": {true, true}, "2606:2800:220:1::1": {true, true}, "64:ff9b::5db8:d822": {true, true},
		"10.1.2.3": {false, true}, "172.16.0.1": {false, true}, "192.168.1.1": {false, true}, "100.64.0.1": {false, true}, "fd00::1": {false, true}, "::ffff:10.0.0.1": {false, true},
		"127.0.0.1": {}, "127.9.9.9": {}, "::1": {}, "::ffff:127.0.0.1": {}, "0.0.0.0": {}, "::": {}, "169.254.169.254": {}, "fe80::1": {}, "fd00:ec2::254": {},
		"224.0.0.1": {}, "ff02::1": {}, "255.255.255.255": {}, "64:ff9b::a9fe:a9fe": {}, "64:ff9b::7f00:1": {}, "2002:7f00:1::": {}, "198.18.0.1": {},
	} {
		a := netip.MustParseAddr(address)
		if got := addressFault(a, false) == ""; got != c.public {
			t.Errorf("%s may have a token: %v", address, got)
		}
		if got := addressFault(a, true) == ""; got != c.private {
			t.Errorf("%s may have a token with --private: %v", address, got)
		}
	}
	lookups := 0
	r := newReverseRig(t, seen, func(o *ReverseOptions) {
		port := portOf(t, strings.TrimPrefix(o.Routes[0].Base, "http://")[:strings.IndexByte(o.Routes[0].Base[7:], '/')])
		o.Routes[0].Base, o.Routes[0].Hosts = "https://api.example.com:"+port, []string{"api.example.com:" + port}
		o.Resolve = func(context.Context, string, string) ([]netip.Addr, error) {
			lookups++
			return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")}, nil
		}
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	})
	if resp, body := r.get("/one/x"); resp.StatusCode != http.StatusBadGateway || word(t, body) != "refused_address" || lookups != 1 {
		t.Errorf("a name that leads to this machine: status %d after %d lookups", resp.StatusCode, lookups)
	}
}

func TestReverseTLS(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(seen))
	defer api.Close()
	with := func(trusted bool) *reverseRig {
		return newReverseRig(t, seen, func(o *ReverseOptions) {
			o.Routes[0].Base, o.Routes[0].Hosts, o.Routes[0].InsecureLoopback = api.URL, []string{api.Listener.Addr().String()}, false
			if trusted {
				o.Roots = func() (*x509.CertPool, error) {
					pool := x509.NewCertPool()
					pool.AddCert(api.Certificate())
					return pool, nil
				}
			}
		})
	}
	if resp, got := with(true).get("/one/x"); resp.StatusCode != 200 || !strings.Contains(got, "Bearer CANARY") {
		t.Errorf("an API with TLS: status %d", resp.StatusCode)
	}
	if resp, body := with(false).get("/one/x"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "certificate could not be verified") {
		t.Errorf("an unknown authority: status %d, %s", resp.StatusCode, body)
	}
}

func TestReverseWithoutToken(t *testing.T) {
	r := newReverseRig(t, func(http.ResponseWriter, *http.Request) { t.Error("the API was called without a token") }, nil)
	r.tokens.err = &TokenError{Word: "needs_connect", Err: errors.New("run 'apiauth connect one'")}
	resp, body := r.get("/one/x")
	if resp.StatusCode != http.StatusServiceUnavailable || word(t, body) != "needs_connect" || !strings.Contains(body, "apiauth connect one") {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
	if e := r.logged(); len(e) != 1 || !strings.Contains(e[0].Why, "apiauth connect") {
		t.Errorf("the log does not say what to do: %+v", e)
	}
	r.tokens.err = errors.New("canary of an unknown error")
	if resp, body := r.get("/one/x"); resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "canary") {
		t.Errorf("status %d, %s", resp.StatusCode, body)
	}
}

func TestReverseFailures(t *testing.T) {
	hang := make(chan struct{})
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/hang":
			<-hang
		case "/v1/cut", "/v1/half":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			if r.URL.Path == "/v1/half" {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
		}
	}, func(o *ReverseOptions) {
		o.Timeout = 50 * time.Millisecond
		o.Routes[0].Auth = providers.APIAuthPin{In: "query", Name: "key"}
	})
	if resp, body := r.get("/one/hang"); resp.StatusCode != http.StatusGatewayTimeout || word(t, body) != "timeout" {
		t.Errorf("an API that hangs: status %d", resp.StatusCode)
	}
	close(hang)
	if resp, body := r.get("/one/cut"); resp.StatusCode != http.StatusBadGateway || word(t, body) != "no_answer" {
		t.Errorf("an API that hangs up: status %d", resp.StatusCode)
	}
	resp, err := r.client.Do(r.request(http.MethodGet, "/one/half", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("an answer that broke off came as a whole one")
	}
	_ = resp.Body.Close()
	r.api.Close()
	resp, body := r.get("/one/x")
	if resp.StatusCode != http.StatusBadGateway || strings.Contains(body, "canary") || strings.Contains(body, "key=") {
		t.Errorf("an API that is gone: status %d, %s", resp.StatusCode, body)
	}
	for _, e := range r.logged() {
		if strings.Contains(fmt.Sprintf("%+v", e), "canary") {
			t.Error("the log holds the token")
		}
	}
}

// TestReverseKeyInPath: with the switch on, the key may come in the path, and is
// not in the log.
func TestReverseKeyInPath(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/v1/b")
		w.Header().Set("Referrer-Policy", "unsafe-url") // would carry the key on from a style sheet
		seen(w, r)
	}, func(o *ReverseOptions) { o.KeyInPath = true })
	key := r.Key().Reveal()
	for path, want := range map[string]int{"/k/" + key + "/one/a": 200, "/k/" + key[1:] + "/one/a": 401, "/k//one/a": 401, "/k/" + key + "/two": 404, "/k/" + key: 404, "/one/a": 401} {
		req := r.request(http.MethodGet, path, nil)
		req.Header = http.Header{}
		resp, got := r.do(req)
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", strings.ReplaceAll(path, key, "KEY"), resp.StatusCode, want)
		}
		if want == 200 && (!strings.HasPrefix(got, "GET /v1/a\n") || resp.Header.Get("Location") != r.URL()+"/k/"+key+"/one/b") {
			t.Error("the path was not taken apart, or a redirect does not come back with the key")
		}
		if got := resp.Header["Referrer-Policy"]; want == 200 && (len(got) != 1 || got[0] != "no-referrer") {
			t.Errorf("the address with the key is sent on as a referrer: %q", got)
		}
	}
	for _, path := range []string{"/one/k/" + key + "/x", "/k/" + key + "/one/k/" + key + "/x", "/one/x?k=" + key} {
		if resp, body := r.get(path); resp.StatusCode != 400 || word(t, body) != "bad_path" || strings.Contains(body, key) {
			t.Errorf("%s: status %d, the key went on", strings.ReplaceAll(path, key, "KEY"), resp.StatusCode)
		}
	}
	if log := fmt.Sprintf("%+v", r.logged()); strings.Contains(log, key) || !strings.Contains(log, "Path:/a") {
		t.Error("the log holds the key, or not the path")
	}
	off := newReverseRig(t, seen, nil)
	req := off.request(http.MethodGet, "/k/"+off.Key().Reveal()+"/one/a", nil)
	req.Header = http.Header{}
	if resp, _ := off.do(req); resp.StatusCode != 401 {
		t.Errorf("with the switch off: status %d", resp.StatusCode)
	}
}

// TestReverseShutdown: an answer under way comes to its end, and nothing new
// begins.
func TestReverseShutdown(t *testing.T) {
	next := make(chan struct{})
	r := newReverseRig(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "last")
	}, nil)
	resp, err := r.client.Do(r.request(http.MethodGet, "/one/x", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(t.Context()) }()
	addr := strings.TrimPrefix(r.URL(), "http://")
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	close(next)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "first last" {
		t.Errorf("the answer under way: %q, %v", body, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// TestReverseLog: a line holds no query, and what was called.
func TestReverseLog(t *testing.T) {
	r := newReverseRig(t, seen, nil)
	_, body := r.get("/one/a/b?secret=canary-query")
	for _, e := range r.logged() {
		if e.Connection != "one" || e.Method != "GET" || e.Path != "/a/b" || e.Status != 200 || e.Bytes != int64(len(body)) || strings.Contains(fmt.Sprintf("%+v", e), "canary") {
			t.Errorf("logged %+v", e)
		}
	}
}
