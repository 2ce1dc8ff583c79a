// Package fakes imitates OAuth providers as their documentation describes them,
// each with its own rules and its own ways to break the standard, so that tests
// can follow the steps that people follow. They stand for what is written down,
// not for the live services, and share no code with the client they judge. The
// codes of errors are the documented ones; the words beside them and on pages
// are approximations, as are Google's iss and Keycloak's rule for ports, which
// rest on observation and source code.
//
// A fake serves each real origin below its own URL under the origin's host:
// https://api.github.com/user is URL + "/api.github.com/user".
package fakes

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Fake is a running provider. It ends with the test.
type Fake struct {
	// ID is the id of the catalogue entry that the fake stands for.
	ID string
	// URL is the fake's own origin, http://127.0.0.1:PORT, without a path.
	URL string
	// ClientID and ClientSecret are the registered client.
	ClientID     string
	ClientSecret secret.Text
	// Definition is a provider definition file that names the fake's endpoints.
	Definition []byte

	server  *httptest.Server
	mux     *http.ServeMux
	origins []string // real origins, such as https://api.github.com

	// mayRegister refuses a redirect URI as the provider's own form does, and
	// matches compares a registered one with that of a request.
	mayRegister func(u *url.URL) string
	matches     func(registered, given string) bool

	mu        sync.Mutex
	offset    time.Duration
	redirects []string
	person    person
	deny      bool
	narrow    int // grant only so many scopes; 0: all
	codes     map[string]*code
	access    map[string]*access
	refresh   map[string]*refresh
	devices   map[string]*device
	stats     Stats
}

// Stats counts what a fake has seen.
type Stats struct {
	Authorize     int // authorization requests
	TokenRequests int
	Exchanges     int // codes and device codes exchanged
	Refreshes     int
	Rotations     int // refreshes that gave a new refresh token
	Reuse         int // families that died by a reused token or code
	Refused       int // OAuth errors answered, whatever the HTTP status
	DevicePolls   int
	Revocations   int // grants or tokens ended by request
	APICalls      int // API calls with a live token
	Unauthorized  int // API calls with a dead token or none
}

type person struct{ Login, Name, Email, ID string }

func people() map[string]person {
	return map[string]person{
		"alice": {"alice", "Alice Example", "alice@example.com", "1001"},
		"bob":   {"bob", "Bob Example", "bob@example.com", "1002"},
	}
}

// grant is what a person agreed to.
type grant struct {
	client  string
	person  person
	scopes  []string
	consent time.Time
	pkce    bool
	offline bool
	live    bool // Stripe: live mode
	dead    bool
}

type code struct {
	grant     *grant
	redirect  string
	challenge string
	made      time.Time
	used      bool
}

type access struct {
	id      string
	grant   *grant
	made    time.Time
	expires time.Time // zero: never
	dead    bool
}

type refresh struct {
	grant *grant
	made  time.Time
	dead  bool
}

type device struct {
	client   string
	userCode string
	scopes   []string
	made     time.Time
	polled   time.Time
	interval time.Duration
	grant    *grant
	denied   bool
	used     bool
}

// newFake starts the server; the caller registers the handlers afterwards.
func newFake(t testing.TB, id string, origins ...string) *Fake {
	t.Helper()
	f := &Fake{
		ID: id, mux: http.NewServeMux(), origins: origins, person: people()["alice"],
		codes: map[string]*code{}, access: map[string]*access{}, refresh: map[string]*refresh{}, devices: map[string]*device{},
		mayRegister: func(*url.URL) string { return "" },
		matches:     func(registered, given string) bool { return registered == given },
	}
	f.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.server.Close)
	f.URL = f.server.URL
	return f
}

// Host returns the fake's host and port, the only API host of its definition.
func (f *Fake) Host() string { return strings.TrimPrefix(f.URL, "http://") }

// Register adds a redirect URI to the client, or returns the refusal that the
// provider's registration form gives.
func (f *Fake) Register(redirectURI string) error {
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme == "" || u.Host == "" {
		return fmt.Errorf("%s: the redirect URI is not a URL", f.ID)
	}
	if refusal := f.mayRegister(u); refusal != "" {
		return fmt.Errorf("%s: %s", f.ID, refusal)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.redirects = append(f.redirects, redirectURI)
	return nil
}

// SignInAs chooses who sits at the browser: alice (default) or bob.
func (f *Fake) SignInAs(login string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := people()[login]; ok {
		f.person = p
	}
}

// Deny makes the person refuse from now on, or agree again.
func (f *Fake) Deny(deny bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deny = deny
}

// GrantOnly lets the person untick all but the first n scopes, where the
// provider lets people do that. 0 grants all.
func (f *Fake) GrantOnly(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.narrow = n
}

// Advance moves the provider's clock.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offset += d
}

// RemoveAccess ends every grant, as a person does on the provider's page.
func (f *Fake) RemoveAccess() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.access {
		a.grant.dead = true
	}
	for _, r := range f.refresh {
		r.grant.dead = true
	}
}

// Active reports whether the provider accepts the token now.
func (f *Fake) Active(token secret.Text) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a := f.access[token.Reveal()]; a != nil {
		return f.live(a)
	}
	r := f.refresh[token.Reveal()]
	return r != nil && !r.dead && !r.grant.dead
}

// Stats returns the counters.
func (f *Fake) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// The rest runs with mu held: every handler does, from start to end.

func (f *Fake) now() time.Time { return time.Now().Add(f.offset) }

func (f *Fake) live(a *access) bool {
	return !a.dead && !a.grant.dead && (a.expires.IsZero() || f.now().Before(a.expires))
}

// call is one request to a fake.
type call struct {
	f    *Fake
	w    http.ResponseWriter
	r    *http.Request
	form url.Values // of the body only
}

// on registers a handler for a method and a path below a real host.
func (f *Fake) on(pattern string, h func(c *call)) {
	method, path, _ := strings.Cut(pattern, " ")
	f.mux.HandleFunc(method+" /"+path, func(w http.ResponseWriter, r *http.Request) {
		c := &call{f: f, w: w, r: r}
		if method == http.MethodPost && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			if r.ParseForm() != nil {
				http.Error(w, "bad form", http.StatusBadRequest)
				return
			}
			c.form = r.PostForm
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		h(c)
	})
}

func (c *call) json(status int, v any) {
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	_ = json.NewEncoder(c.w).Encode(v)
}

// refuse answers with an OAuth error.
func (c *call) refuse(status int, errorCode, desc string) {
	c.f.stats.Refused++
	c.json(status, map[string]any{"error": errorCode, "error_description": desc})
}

// page answers with a web page for a person.
func (c *call) page(status int, text string) {
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.Header().Set("Content-Security-Policy", "default-src 'none'")
	c.w.WriteHeader(status)
	_, _ = fmt.Fprintf(c.w, "<!doctype html><title>%s</title><h1>%[1]s</h1>", template.HTMLEscapeString(text))
}

// basic returns Basic credentials as they were sent, form-decoded.
func (c *call) basic() (user, pass string, ok bool) {
	user, pass, ok = c.r.BasicAuth()
	u, err1 := url.QueryUnescape(user)
	p, err2 := url.QueryUnescape(pass)
	if err1 != nil || err2 != nil {
		return "", "", false
	}
	return u, p, ok
}

// inBody reports whether the right client id and secret stand in the body and
// nowhere else.
func (c *call) inBody() bool {
	return c.r.Header.Get("Authorization") == "" && c.form.Get("client_id") == c.f.ClientID && secret.New(c.form.Get("client_secret")).Equal(c.f.ClientSecret)
}

// inBasic reports whether the right client id and secret stand in the header
// and no secret in the body.
func (c *call) inBasic() bool {
	u, p, ok := c.basic()
	return ok && u == c.f.ClientID && secret.New(p).Equal(c.f.ClientSecret) && !c.form.Has("client_secret")
}

// redirectAllowed compares with the registered redirect URIs.
func (f *Fake) redirectAllowed(given string) bool {
	return slices.ContainsFunc(f.redirects, func(reg string) bool { return f.matches(reg, given) })
}

// authorize answers an authorization request with a code at once: the person is
// signed in and quick. extra are more parameters of the callback.
func (c *call) authorize(q url.Values, scopes []string, change func(*grant), extra url.Values) {
	f := c.f
	if f.deny {
		c.back(q, url.Values{"error": {"access_denied"}, "error_description": {"The user denied the request"}})
		return
	}
	if f.narrow > 0 && f.narrow < len(scopes) {
		scopes = scopes[:f.narrow]
	}
	g := &grant{client: q.Get("client_id"), person: f.person, scopes: scopes, consent: f.now(), pkce: q.Has("code_challenge")}
	if change != nil {
		change(g)
	}
	k := random(43)
	f.codes[k] = &code{grant: g, redirect: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), made: f.now()}
	v := url.Values{"code": {k}}
	for name := range extra {
		v.Set(name, extra.Get(name))
	}
	c.back(q, v)
}

// back redirects to the client with state.
func (c *call) back(q, v url.Values) {
	if v.Has("error") {
		c.f.stats.Refused++
	}
	u, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		c.page(http.StatusBadRequest, "Bad redirect")
		return
	}
	p := u.Query()
	if q.Has("state") {
		p.Set("state", q.Get("state"))
	}
	for name := range v {
		p.Set(name, v.Get(name))
	}
	u.RawQuery = p.Encode()
	http.Redirect(c.w, c.r, u.String(), http.StatusFound)
}

// states of a code that comes to the token endpoint.
const (
	codeGood = iota
	codeUnknown
	codeExpired
	codeUsed
)

// take looks a code up and uses it.
func (f *Fake) take(value string, lifetime time.Duration) (*code, int) {
	k := f.codes[value]
	switch {
	case k == nil:
		return nil, codeUnknown
	case k.used:
		return k, codeUsed
	}
	k.used = true
	if f.now().Sub(k.made) > lifetime {
		return k, codeExpired
	}
	return k, codeGood
}

// pkceOK checks the verifier against the challenge, if there was one.
func (k *code) pkceOK(verifier string) bool {
	if k.challenge == "" {
		return true
	}
	sum := sha256.Sum256([]byte(verifier))
	return len(verifier) >= 43 && len(verifier) <= 128 && base64.RawURLEncoding.EncodeToString(sum[:]) == k.challenge
}

func (f *Fake) newAccess(g *grant, value string, ttl time.Duration) string {
	a := &access{id: random(20), grant: g, made: f.now()}
	if ttl > 0 {
		a.expires = a.made.Add(ttl)
	}
	f.access[value] = a
	return value
}

func (f *Fake) newRefresh(g *grant, value string) string {
	f.refresh[value] = &refresh{grant: g, made: f.now()}
	return value
}

// bearer returns the live access token of an API request, nil otherwise.
func (c *call) bearer() *access {
	kind, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	a := c.f.access[token]
	if a == nil || !strings.EqualFold(kind, "Bearer") || !c.f.live(a) {
		c.f.stats.Unauthorized++
		return nil
	}
	c.f.stats.APICalls++
	return a
}

// random returns n letters and digits.
func random(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return string(b)
}

func isLoopbackIP(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// anyPort compares two loopback URLs without their ports; hosts says which
// hosts have that freedom.
func anyPort(registered, given string, hosts func(host string) bool) bool {
	reg, err1 := url.Parse(registered)
	u, err2 := url.Parse(given)
	if err1 != nil || err2 != nil || !hosts(reg.Hostname()) || u.User != nil || u.Fragment != "" {
		return false
	}
	return reg.Scheme == u.Scheme && reg.Hostname() == u.Hostname() && reg.Path == u.Path && reg.RawQuery == u.RawQuery
}

// splitScopes splits a scope parameter at its separators.
func splitScopes(param, separators string) []string {
	return slices.Compact(strings.FieldsFunc(param, func(r rune) bool { return strings.ContainsRune(separators, r) }))
}

// unknown returns the first of names that is not in known.
func unknown(names []string, known ...string) string {
	for _, n := range names {
		if !slices.Contains(known, n) {
			return n
		}
	}
	return ""
}
