package flow_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	issuer = "https://issuer.example"
	code   = "canary-code-81f2"
)

// attempt is a public client at a provider with an issuer.
func attempt() flow.Attempt {
	return flow.Attempt{
		Pins: providers.Pins{
			Provider:              "acme",
			Issuer:                issuer,
			AuthorizationEndpoint: issuer + "/authorize?tenant=1",
			TokenEndpoint:         issuer + "/token",
			PKCE:                  "S256",
			RedirectURI:           "http://127.0.0.1:*/callback/acme",
		},
		Provider: &providers.Provider{ID: "acme", Name: "Acme"},
		Client:   oauth.Client{ID: "client-1", Method: oauth.AuthNone},
		Scopes:   []string{"read", "write"},
	}
}

// running is a flow under way, with the test as its browser and terminal.
type running struct {
	t        *testing.T
	authURL  *url.URL
	query    url.Values // of the authorization request
	redirect *url.URL
	paste    chan string
	cancel   context.CancelFunc
	done     chan struct{}
	result   *flow.Result
	err      error

	mu  sync.Mutex
	out []string
}

// begin starts Authcode and waits until it has shown its address.
func begin(t *testing.T, a flow.Attempt, paste bool) *running {
	t.Helper()
	return beginWith(t, a, paste, flow.Authcode)
}

func beginWith(t *testing.T, a flow.Attempt, paste bool, run func(context.Context, flow.Env, flow.Attempt) (*flow.Result, error)) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, cancel: cancel, done: make(chan struct{})}
	opened := make(chan string, 1)
	env := flow.Env{
		OpenBrowser: func(_ context.Context, url string) error { opened <- url; return nil },
		Out: func(format string, args ...any) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.out = append(r.out, fmt.Sprintf(format, args...))
		},
	}
	if paste {
		r.paste = make(chan string)
		env.ReadPaste = func(ctx context.Context) (string, error) {
			select {
			case s, ok := <-r.paste:
				if !ok {
					return "", io.EOF
				}
				return s, nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
	}
	go func() {
		defer close(r.done)
		r.result, r.err = run(ctx, env, a)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	select {
	case u := <-opened:
		var err error
		if r.authURL, err = url.Parse(u); err != nil {
			t.Fatal(err)
		}
	case <-r.done:
		t.Fatalf("the flow ended before it opened a browser: %v", r.err)
	}
	r.query = r.authURL.Query()
	var err error
	if r.redirect, err = url.Parse(r.query.Get("redirect_uri")); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.out, "\n")
}

// final is the address of the last page, with the right parameters as changed
// by pairs of name and value; a value of "-" leaves the name out.
func (r *running) final(pairs ...string) string {
	v := url.Values{"code": {code}, "state": {r.query.Get("state")}, "iss": {issuer}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "-" {
			v.Del(pairs[i])
		}
	}
	u := *r.redirect
	u.RawQuery = v.Encode()
	return u.String()
}

// browse does what a browser does with an address; change may spoil the request.
func (r *running) browse(address string, change func(*http.Request)) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), resp.Header
}

func (r *running) waiting() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// wantCode waits for the end and checks that the result is the one exchange.
func (r *running) wantCode(via string) {
	r.t.Helper()
	<-r.done
	if r.err != nil {
		r.t.Fatalf("the flow failed: %v", r.err)
	}
	if r.result.Via != via {
		r.t.Errorf("via %q, want %q", r.result.Via, via)
	}
	form := formOf(r.result.Request)
	if form["code"] != code || form["grant_type"] != "authorization_code" || form["redirect_uri"] != r.query.Get("redirect_uri") {
		r.t.Errorf("the code exchange lacks the code, the grant type or the redirect URI that was sent")
	}
	if len(form["code_verifier"]) < 43 {
		r.t.Errorf("the code verifier has %d characters, want 43 or more", len(form["code_verifier"]))
	}
	if out := r.output(); strings.Contains(out, code) || strings.Contains(out, form["code_verifier"]) {
		r.t.Error("the code or the verifier was printed")
	}
}

func formOf(req *oauth.TokenRequest) map[string]string {
	m := make(map[string]string)
	if req == nil {
		return m
	}
	for _, p := range req.Form {
		m[p.Name] = p.Value + p.Secret.Reveal()
	}
	return m
}

func TestAuthcode(t *testing.T) {
	r := begin(t, attempt(), false)
	if r.query.Get("code_challenge_method") != "S256" || len(r.query.Get("code_challenge")) != 43 ||
		len(r.query.Get("state")) < 22 || r.query.Get("client_id") != "client-1" ||
		r.query.Get("scope") != "read write" || r.query.Get("response_type") != "code" || r.query.Get("tenant") != "1" {
		t.Errorf("the authorization request is not complete: %v", slices.Sorted(maps.Keys(r.query)))
	}
	if r.redirect.Hostname() != "127.0.0.1" || r.redirect.Path != "/callback/acme" {
		t.Errorf("the redirect URI is %s", r.redirect)
	}
	if !slices.Contains(strings.Split(r.output(), "\n"), r.authURL.String()) {
		t.Errorf("the address does not stand on a line of its own:\n%s", r.output())
	}
	for line := range strings.Lines(r.output()) {
		if len(line) > 80 && !strings.HasPrefix(line, "https://") {
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
	status, body, header := r.browse(r.final(), func(q *http.Request) { q.Header.Set("Sec-Fetch-Mode", "navigate") })
	if status != http.StatusOK || !strings.Contains(body, "You can close this window") {
		t.Errorf("the final page: status %d, %q", status, body)
	}
	if strings.Contains(body, "http:") || strings.Contains(body, "https:") || strings.Contains(body, "<script") {
		t.Errorf("the final page has an external resource: %s", body)
	}
	if !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("Cache-Control") != "no-store" {
		t.Errorf("the final page lacks its headers: %v", header)
	}
	r.wantCode(flow.FlowBrowser)
}

// Every hostile request is refused, the login goes on, and the real callback is
// taken exactly once.
func TestHostileCallbacks(t *testing.T) {
	method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }

	for _, withIss := range []bool{true, false} {
		a := attempt()
		if a.Pins.IssParameterSupported = withIss; !withIss {
			a.Pins.Issuer = "" // not known: an iss must at least come from its host
		}
		r := begin(t, a, false)
		state := r.query.Get("state")
		base := r.redirect.Scheme + "://" + r.redirect.Host
		cases := []struct {
			name    string
			address string
			change  func(*http.Request)
		}{
			{"wrong state", r.final("state", "wrong"), nil},
			{"no state", r.final("state", "-"), nil},
			{"empty state", r.final("state", ""), nil},
			{"shortened state", r.final("state", state[:len(state)-1]), nil},
			{"lengthened state", r.final("state", state+"A"), nil},
			{"state in other case", r.final("state", swapCase(state)), nil},
			{"repeated state", r.final() + "&state=" + state, nil},
			{"repeated code", r.final() + "&code=" + code, nil},
			{"repeated iss", r.final() + "&iss=" + url.QueryEscape(issuer), nil},
			{"repeated parameter of no meaning", r.final() + "&x=1&x=2", nil},
			{"error and code", r.final("error", "access_denied"), nil},
			{"error without state", r.final("code", "-", "error", "access_denied", "state", "-"), nil},
			{"error with wrong state", r.final("code", "-", "error", "access_denied", "state", "wrong"), nil},
			{"neither code nor error", r.final("code", "-"), nil},
			{"empty code", r.final("code", ""), nil},
			{"code with a line break", r.final("code", "a\nb"), nil},
			{"code with a NUL", r.final("code", "a\x00b"), nil},
			{"code that is huge", r.final("code", strings.Repeat("a", 9000)), nil},
			{"empty error", r.final("code", "-", "error", ""), nil},
			{"error with control characters", r.final("code", "-", "error", "\x1b[2J"), nil},
			{"foreign issuer", r.final("iss", "https://honest.example"), nil},
			{"issuer by http", r.final("iss", "http://issuer.example"), nil},
			{"issuer that begins right", r.final("iss", issuer+".evil.example"), nil},
			{"issuer with a user", r.final("iss", "https://u@issuer.example"), nil},
			{"empty issuer", r.final("iss", ""), nil},
			{"broken query", r.redirect.String() + "?state=" + state + "&code=%zz", nil},
			{"semicolons", r.redirect.String() + "?state=" + state + ";code=" + code, nil},
			{"root", base + "/", nil},
			{"root with parameters", base + "/?" + strings.SplitN(r.final(), "?", 2)[1], nil},
			{"another provider's path", strings.Replace(r.final(), "/acme", "/other", 1), nil},
			{"path with a slash behind", strings.Replace(r.final(), "/acme?", "/acme/?", 1), nil},
			{"path in other case", strings.Replace(r.final(), "/acme", "/Acme", 1), nil},
			{"escaped path", strings.Replace(r.final(), "/acme", "/%61cme", 1), nil},
			{"double slash", strings.Replace(r.final(), "/callback", "//callback", 1), nil},
			{"POST", r.final(), method("POST")},
			{"HEAD", r.final(), method("HEAD")},
			{"OPTIONS", r.final(), method("OPTIONS")},
			{"PUT", r.final(), method("PUT")},
			{"DELETE", r.final(), method("DELETE")},
			{"a method of no meaning", r.final(), method("LOGIN")},
			{"Origin of a page", r.final(), header("Origin", "https://evil.example")},
			{"Origin of the issuer", r.final(), header("Origin", issuer)},
			{"Origin of our own", r.final(), header("Origin", base)},
			{"Origin null", r.final(), header("Origin", "null")},
			{"cors fetch", r.final(), header("Sec-Fetch-Mode", "cors")},
			{"no-cors fetch", r.final(), header("Sec-Fetch-Mode", "no-cors")},
			{"same-origin fetch", r.final(), header("Sec-Fetch-Mode", "same-origin")},
			{"websocket", r.final(), header("Sec-Fetch-Mode", "websocket")},
			{"foreign host", r.final(), host("evil.example")},
			{"foreign host with our port", r.final(), host("evil.example:" + r.redirect.Port())},
			{"host that begins right", r.final(), host("127.0.0.1.evil.example:" + r.redirect.Port())},
			{"localhost, not registered", r.final(), host("localhost:" + r.redirect.Port())},
		}
		if withIss {
			cases = append(cases, struct {
				name    string
				address string
				change  func(*http.Request)
			}{"no issuer though announced", r.final("iss", "-"), nil})
		}
		for _, c := range cases {
			status, body, head := r.browse(c.address, c.change)
			if status < 400 || status > 499 {
				t.Errorf("%s: status %d, want 4xx", c.name, status)
			}
			for _, echo := range []string{state, code, "evil", "honest", r.query.Get("code_challenge"), issuer} {
				if strings.Contains(body, echo) {
					t.Errorf("%s: the answer holds part of the request or of the login", c.name)
				}
			}
			if head.Get("Location") != "" || head.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: the answer redirects or allows another origin", c.name)
			}
			if !r.waiting() {
				t.Fatalf("%s: the login ended: %v", c.name, r.err)
			}
		}
		if n := strings.Count(r.output(), "\n"); n > 20 {
			t.Errorf("%d lines on the terminal for %d hostile requests", n, len(cases))
		}
		if strings.Contains(r.output(), "\x1b") || strings.Contains(r.output(), "evil") {
			t.Error("the terminal shows what came from outside")
		}
		r.browse(r.final(), nil)
		r.wantCode(flow.FlowBrowser)
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 32
		case r >= 'A' && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

func TestDenied(t *testing.T) {
	r := begin(t, attempt(), false)
	status, body, header := r.browse(r.final("code", "-", "error", "access_denied",
		"error_description", "<script>alert(1)</script>\r\nX-Evil: 1\x1b[31m\u202e"), nil)
	if status != http.StatusOK || strings.Contains(body, "script>") || strings.Contains(body, "alert") || header.Get("X-Evil") != "" {
		t.Errorf("the page: %d %q", status, body)
	}
	<-r.done
	denied, ok := errors.AsType[*flow.DeniedError](r.err)
	if !ok || denied.Code != "access_denied" || denied.Provider != "Acme" {
		t.Fatalf("%v, want a DeniedError with access_denied", r.err)
	}
	if strings.ContainsAny(denied.Description, "\r\n\x1b\u202e") {
		t.Errorf("the description is not cleaned: %q", denied.Description)
	}
}

// one response, whoever repeats it, and then nobody listens.
func TestOneShot(t *testing.T) {
	r := begin(t, attempt(), false)
	final, err := url.Parse(r.final())
	if err != nil {
		t.Fatal(err)
	}
	// All requests lie before the listener but for their last bytes, so that it
	// cannot have closed before it sees the second one.
	var conns []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", r.redirect.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", final.RequestURI(), r.redirect.Host); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		_, _ = io.WriteString(c, "\r\n") // the last ones may find it closed
	}
	accepted := 0
	for _, c := range conns {
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
			if resp.StatusCode == http.StatusOK {
				accepted++
			}
			_ = resp.Body.Close()
		}
	}
	r.wantCode(flow.FlowBrowser)
	if accepted != 1 {
		t.Errorf("%d of 20 equal callbacks were accepted, want 1", accepted)
	}
	if c, err := net.Dial("tcp", r.redirect.Host); err == nil {
		_ = c.Close()
		t.Error("the listener outlived the login")
	}
}

func TestFlood(t *testing.T) {
	r := begin(t, attempt(), false)
	for range 300 {
		c, err := net.Dial("tcp", r.redirect.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for range 250 {
				r.browse(r.final("state", fmt.Sprint("wrong", i)), nil)
			}
		})
	}
	wg.Wait()
	if out := r.output(); len(out) > 4000 {
		t.Errorf("the flood wrote %d bytes to the terminal", len(out))
	}
	r.browse(r.final(), nil)
	r.wantCode(flow.FlowBrowser)
}

func TestBothAddressFamilies(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		a := attempt()
		a.Pins.RedirectURI = "http://localhost:*/callback/acme"
		r := begin(t, a, false)
		if r.redirect.Hostname() != "localhost" {
			t.Fatalf("the redirect URI is %s, want the registered name", r.redirect)
		}
		address := strings.Replace(r.final(), "//localhost:", "//"+ip+":", 1)
		if status, _, _ := r.browse(address, func(q *http.Request) { q.Host = r.redirect.Host }); status == 0 && ip == "[::1]" {
			t.Skip("this machine has no IPv6 loopback")
		}
		r.wantCode(flow.FlowBrowser)
	}
}

func TestRedirects(t *testing.T) {
	cases := []struct {
		uri  string
		port int
		want string // "" for an error; PORT stands for any
	}{
		{"http://127.0.0.1:*/callback/acme", 0, "http://127.0.0.1:PORT/callback/acme"},
		{"http://127.0.0.1:*", 0, "http://127.0.0.1:PORT"},
		{"http://127.0.0.1:*/", 0, "http://127.0.0.1:PORT/"},
		{"http://127.0.0.1:*/cb?x=1", 0, "http://127.0.0.1:PORT/cb?x=1"},
		{"", 0, "http://127.0.0.1:PORT/callback/acme"},
		{"http://127.0.0.1/cb", 0, ""},
		{"http://example.com:*/cb", 0, ""},
		{"http://127.0.0.1.evil.example:*/cb", 0, ""},
		{"http://u@127.0.0.1:*/cb", 0, ""},
		{"http://127.0.0.1:*/cb#x", 0, ""},
		{"http://127.0.0.1:99999/cb", 0, ""},
		{"https://app.example:*/cb", 0, ""},
		{"myapp://callback", 0, ""},
	}
	for _, c := range cases {
		t.Run(c.uri, func(t *testing.T) {
			a := attempt()
			a.Pins.RedirectURI, a.Port = c.uri, c.port
			if c.want == "" {
				_, err := flow.Authcode(t.Context(), flow.Env{OpenBrowser: func(context.Context, string) error {
					t.Error("the browser was opened")
					return nil
				}}, a)
				if err == nil {
					t.Error("the redirect URI was accepted")
				}
				return
			}
			r := begin(t, a, false)
			if want := strings.Replace(c.want, "PORT", r.redirect.Port(), 1); r.redirect.String() != want {
				t.Errorf("sent %s, want %s", r.redirect, want)
			}
			r.browse(r.final(), nil)
			r.wantCode(flow.FlowBrowser)
		})
	}
}

// a fixed port that is taken ends the flow before anything is shown.
func TestPortTaken(t *testing.T) {
	held, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	port := held.Addr().(*net.TCPAddr).Port
	fixed := attempt()
	fixed.Pins.RedirectURI = fmt.Sprintf("http://localhost:%d/callback/acme", port)
	chosen := attempt()
	chosen.Port = port
	for _, a := range []flow.Attempt{fixed, chosen} {
		_, err := flow.Authcode(t.Context(), flow.Env{
			OpenBrowser: func(context.Context, string) error { t.Error("the browser was opened"); return nil },
			Out:         func(string, ...any) { t.Error("something was printed") },
		}, a)
		if taken, ok := errors.AsType[*loopback.PortTakenError](err); !ok || taken.Port != port {
			t.Errorf("%v, want a PortTakenError for %d", err, port)
		}
	}
	_ = held.Close()
	r := begin(t, fixed, false)
	if r.redirect.Port() != fmt.Sprint(port) {
		t.Errorf("the redirect URI is %s, want port %d", r.redirect, port)
	}
	r.browse(r.final(), nil)
	r.wantCode(flow.FlowBrowser)
}

func TestBrowserFailureIsANote(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var lines []string
	_, err := flow.Authcode(ctx, flow.Env{
		OpenBrowser: func(context.Context, string) error { return errors.New("no\x1b[31mne\nat all") },
		Out: func(format string, a ...any) {
			lines = append(lines, fmt.Sprintf(format, a...))
			if strings.Contains(lines[len(lines)-1], "could not be opened") {
				cancel()
			}
		},
	}, attempt())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the cancellation", err)
	}
	if last := lines[len(lines)-1]; strings.ContainsAny(last, "\x1b\n") {
		t.Errorf("the note is not clean: %q", last)
	}
}

func TestNoBrowserPrintsTheAddress(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var address string
	_, err := flow.Authcode(ctx, flow.Env{Out: func(format string, a ...any) {
		if line := fmt.Sprintf(format, a...); strings.HasPrefix(line, issuer) {
			address = line
			cancel()
		}
	}}, attempt())
	if address == "" || !errors.Is(err, context.Canceled) {
		t.Errorf("no address was printed: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(20*time.Millisecond))
	defer cancel()
	_, err := flow.Authcode(ctx, flow.Env{}, attempt())
	if !errors.Is(err, flow.ErrTimeout) || !strings.Contains(err.Error(), "--timeout") {
		t.Errorf("%v, want ErrTimeout that says what to do", err)
	}
}

func TestIncompleteAttempts(t *testing.T) {
	for name, spoil := range map[string]func(*flow.Attempt){
		"no client":                 func(a *flow.Attempt) { a.Client.ID = "" },
		"no authorization endpoint": func(a *flow.Attempt) { a.Pins.AuthorizationEndpoint = "" },
		"no token endpoint":         func(a *flow.Attempt) { a.Pins.TokenEndpoint = "" },
		"file endpoint":             func(a *flow.Attempt) { a.Pins.AuthorizationEndpoint = "file:///etc/passwd" },
		"javascript endpoint":       func(a *flow.Attempt) { a.Pins.AuthorizationEndpoint = "javascript:alert(1)" },
		"endpoint like a flag":      func(a *flow.Attempt) { a.Pins.AuthorizationEndpoint = "-x" },
		"http endpoint":             func(a *flow.Attempt) { a.Pins.AuthorizationEndpoint = "http://issuer.example/" },
		"reserved parameter": func(a *flow.Attempt) {
			a.Provider.Authorize = map[string]string{"redirect_uri": "https://evil.example"}
		},
		"https redirect, no terminal": func(a *flow.Attempt) { a.Pins.RedirectURI = "https://app.example/cb" },
		"paste, no terminal":          func(a *flow.Attempt) { a.Flow = flow.FlowPaste },
	} {
		a := attempt()
		spoil(&a)
		_, err := flow.Authcode(t.Context(), flow.Env{
			OpenBrowser: func(context.Context, string) error { t.Errorf("%s: the browser was opened", name); return nil },
		}, a)
		if err == nil {
			t.Errorf("%s: the flow went on", name)
		}
	}
}

func TestProviderFacts(t *testing.T) {
	a := attempt()
	a.Provider.Authorize = map[string]string{"access_type": "offline", "audience": "https://{region}.api.example"}
	a.Provider.Variables = []providers.Variable{{Name: "region"}, {Name: "shop", From: "callback"}, {Name: "absent", From: "callback"}}
	a.Pins.Variables = map[string]string{"region": "eu"}
	a.Pins.Token.Params = map[string]string{"resource": "r1"}
	a.Pins.Token.Headers = map[string]string{"X-Version": "2"}
	a.Provider.Scopes.Separator = ","
	a.AccountHint = "alice@example.com"
	a.Client = oauth.Client{ID: "client-1", Secret: secret.New("canary-secret"), Method: oauth.AuthBasic}
	a.Provider.LoginHintParam = "login"
	a.Provider.Scopes.Callback = "granted"
	r := begin(t, a, false)
	for name, want := range map[string]string{
		"access_type": "offline", "audience": "https://eu.api.example", "scope": "read,write", "login": "alice@example.com", "login_hint": "",
	} {
		if got := r.query.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.query.Get("code_challenge_method") != "S256" {
		t.Error("a confidential client went without PKCE")
	}
	for name, bad := range map[string]string{
		"long shop":        r.final("shop", strings.Repeat("s", 1025)),
		"very long scopes": r.final("granted", strings.Repeat("s", 8<<10+1)),
	} {
		if status, _, _ := r.browse(bad, nil); status != http.StatusBadRequest || !r.waiting() {
			t.Errorf("%s: status %d, still waiting: %v", name, status, r.waiting())
		}
	}
	granted := strings.Repeat("https://api.example/auth/some.scope ", 100)
	r.browse(r.final("shop", "s-17", "granted", granted), nil)
	r.wantCode(flow.FlowBrowser)
	if !maps.Equal(r.result.Callback, map[string]string{"shop": "s-17", providers.CallbackScopes: granted}) {
		t.Errorf("callback parameters: %v", r.result.Callback)
	}
	req := r.result.Request
	if formOf(req)["resource"] != "r1" || req.Headers["X-Version"] != "2" || req.Client.Method != oauth.AuthBasic ||
		req.Endpoint != issuer+"/token" || strings.Contains(fmt.Sprintf("%+v", r.result), "canary") {
		t.Error("the exchange lacks the provider's facts, or prints a credential")
	}
}

// TestExchangeSends: what the provider wants back with the code comes from a
// callback that passed every check, and none without it is taken.
func TestExchangeSends(t *testing.T) {
	a := attempt()
	a.Provider.Token.ExchangeSends = []string{"device_id", "state", "scope"}
	r := begin(t, a, false)
	for name, bad := range map[string]string{
		"missing":     r.final(),
		"empty":       r.final("device_id", ""),
		"twice":       r.final("device_id", "d1") + "&device_id=d2",
		"line feed":   r.final("device_id", "d1\ncode=x"),
		"too long":    r.final("device_id", strings.Repeat("d", 1025)),
		"no state":    r.final("device_id", "d1", "state", "-"),
		"not its own": r.final("device_id", "d1", "state", "canary"),
	} {
		if status, _, _ := r.browse(bad, nil); status != http.StatusBadRequest || !r.waiting() {
			t.Errorf("%s: status %d, still waiting: %v", name, status, r.waiting())
		}
	}
	if status, _, _ := r.browse(r.final("device_id", "d1&code=x"), nil); status != http.StatusOK {
		t.Errorf("the real one: status %d", status)
	}
	r.wantCode(flow.FlowBrowser)
	form := formOf(r.result.Request)
	if form["device_id"] != "d1&code=x" || form["state"] != r.query.Get("state") || form["scope"] != "read write" {
		t.Errorf("the exchange carries device_id %q and scope %q, or another state", form["device_id"], form["scope"])
	}
	if len(r.result.Callback) != 0 {
		t.Errorf("kept %q", r.result.Callback)
	}
}

func TestNoPKCEOnlyWhereTheEntrySaysSo(t *testing.T) {
	a := attempt()
	a.Pins.PKCE = "none"
	r := begin(t, a, false)
	if r.query.Has("code_challenge") {
		t.Error("a challenge was sent to a provider that takes none")
	}
	r.browse(r.final(), nil)
	<-r.done
	if r.err != nil || formOf(r.result.Request)["code_verifier"] != "" {
		t.Errorf("%v, or a verifier without a challenge", r.err)
	}
	b := attempt()
	b.Pins.PKCE = ""
	if r := begin(t, b, false); r.query.Get("code_challenge_method") != "S256" {
		t.Error("without a word in the entry, PKCE was left out")
	}
}

func TestUnknownIssuerOnItsOwnHost(t *testing.T) {
	a := attempt()
	a.Pins.Issuer = ""
	r := begin(t, a, false)
	r.browse(r.final("iss", issuer+"/oauth"), nil)
	r.wantCode(flow.FlowBrowser)
}

func TestExplainNamesNoSecret(t *testing.T) {
	var told strings.Builder
	var address *url.URL
	opened := make(chan string, 1)
	env := flow.Env{
		OpenBrowser: func(_ context.Context, u string) error { opened <- u; return nil },
		Explain:     func(step string, lines ...string) { told.WriteString(step + "\n" + strings.Join(lines, "\n") + "\n") },
	}
	go func() {
		address, _ = url.Parse(<-opened)
		resp, err := http.Get(address.Query().Get("redirect_uri") + "?iss=" + issuer + "&code=" + code + "&state=" + address.Query().Get("state"))
		if err == nil {
			_ = resp.Body.Close()
		}
	}()
	result, err := flow.Authcode(t.Context(), env, attempt())
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{code, formOf(result.Request)["code_verifier"], address.Query().Get("state")} {
		if strings.Contains(told.String(), hidden) {
			t.Error("a credential was explained in the clear")
		}
	}
	if !strings.Contains(told.String(), "RFC 6749 section 4.1.1") {
		t.Errorf("the request was not explained: %s", told.String())
	}
}
