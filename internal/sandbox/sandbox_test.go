package sandbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	verifier = "verifier-verifier-verifier-verifier-verifier-0"
	redirect = "http://127.0.0.1:45454/callback/sandbox"
)

// clock is a settable clock.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is a sandbox and a client that speaks to it by hand.
type rig struct {
	*sandbox.Server
	t     *testing.T
	clock *clock
	http  *http.Client
}

func start(t *testing.T, o sandbox.Options) *rig {
	t.Helper()
	c := &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	if o.Now == nil {
		o.Now = c.now
	}
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &rig{Server: s, t: t, clock: c, http: hc}
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

func (r *rig) do(req *http.Request) (answer, error) {
	resp, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(b)}
	_ = json.Unmarshal(b, &a.body)
	return a, nil
}

func (r *rig) must(req *http.Request) answer {
	r.t.Helper()
	a, err := r.do(req)
	if err != nil {
		r.t.Fatal("the request got no answer")
	}
	return a
}

func (r *rig) request(method, path, body string) *http.Request {
	r.t.Helper()
	target := path
	if strings.HasPrefix(path, "/") {
		target = r.Issuer() + path
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req
}

func (r *rig) post(path string, pairs ...string) answer {
	r.t.Helper()
	return r.must(r.request(http.MethodPost, path, form(pairs...)))
}

func (r *rig) api(path, token string) answer {
	r.t.Helper()
	req := r.request(http.MethodGet, path, "")
	req.Header.Set("Authorization", "Bearer "+token)
	return r.must(req)
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is a right authorization request; pairs replace parameters, an
// empty value drops one.
func (r *rig) authorizeURL(pairs ...string) string {
	v := url.Values{
		"response_type": {"code"}, "client_id": {r.ClientID()}, "redirect_uri": {redirect},
		"state": {"the-state"}, "scope": {"profile items.read"},
		"code_challenge": {challenge()}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return r.Issuer() + "/authorize?" + v.Encode()
}

// callback walks consent and returns the parameters of the redirect.
func (r *rig) callback(c sandbox.Choice, pairs ...string) url.Values {
	r.t.Helper()
	loc, err := r.Consent(r.t.Context(), r.authorizeURL(pairs...), c)
	if err != nil {
		r.t.Fatal(err)
	}
	u, err := url.Parse(loc)
	if err != nil {
		r.t.Fatal(err)
	}
	return u.Query()
}

func (r *rig) exchange(code string, pairs ...string) answer {
	r.t.Helper()
	return r.post("/token", append([]string{
		"grant_type", "authorization_code", "client_id", r.ClientID(), "code", code,
		"redirect_uri", redirect, "code_verifier", verifier,
	}, pairs...)...)
}

func (r *rig) connect(pairs ...string) (access, refresh string) {
	r.t.Helper()
	a := r.exchange(r.callback(sandbox.Choice{}, pairs...).Get("code"))
	if a.status != http.StatusOK {
		r.t.Fatalf("connect: status %d, error %q", a.status, a.str("error"))
	}
	return a.str("access_token"), a.str("refresh_token")
}

func (r *rig) refresh(token string, pairs ...string) answer {
	r.t.Helper()
	return r.post("/token", append([]string{"grant_type", "refresh_token", "client_id", r.ClientID(), "refresh_token", token}, pairs...)...)
}

func wantError(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.str("error") != code {
		t.Errorf("got status %d, error %q; want %d, %q", a.status, a.str("error"), status, code)
	}
	if a.str("access_token") != "" {
		t.Error("a refused request carried a token")
	}
}

func TestCodeFlow(t *testing.T) {
	r := start(t, sandbox.Options{})
	q := r.callback(sandbox.Choice{Account: "bob"})
	if q.Get("state") != "the-state" || q.Get("iss") != r.Issuer() || q.Get("code") == "" || q.Has("error") {
		t.Fatalf("state %q, iss %q, error %q", q.Get("state"), q.Get("iss"), q.Get("error"))
	}
	a := r.exchange(q.Get("code"))
	if a.status != http.StatusOK || a.str("token_type") != "Bearer" || a.str("scope") != "profile items.read" || a.body["expires_in"] != 3600.0 {
		t.Errorf("status %d, type %q, scope %q, expires_in %v", a.status, a.str("token_type"), a.str("scope"), a.body["expires_in"])
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" {
		t.Error("the token response may be cached")
	}
	if !strings.HasPrefix(a.str("access_token"), "sbx_at_") || !strings.HasPrefix(a.str("refresh_token"), "sbx_rt_") {
		t.Error("tokens without their prefix")
	}
	me := r.api("/userinfo", a.str("access_token"))
	if me.str("sub") != "user-bob" || me.str("name") != "Bob Example" || me.str("email") != "bob@sandbox.example" {
		t.Errorf("userinfo: %v", me.body)
	}
	if st := r.Stats(); st.CodeExchanges != 1 || st.TokenRequests != 1 || st.AuthorizeRequests != 1 || st.Userinfo != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	r := start(t, sandbox.Options{RedirectURIs: []string{"https://app.example/done"}})
	t.Run("without redirect", func(t *testing.T) {
		for name, pairs := range map[string][]string{
			"unknown client":   {"client_id", "nobody"},
			"no client":        {"client_id", ""},
			"no redirect":      {"redirect_uri", ""},
			"other path":       {"redirect_uri", "http://127.0.0.1:45454/other"},
			"path below":       {"redirect_uri", redirect + "/x"},
			"localhost":        {"redirect_uri", "http://localhost:45454/callback/sandbox"},
			"other host":       {"redirect_uri", "http://127.0.0.1.evil.example:45454/callback/sandbox"},
			"userinfo":         {"redirect_uri", "http://127.0.0.1:45454@evil.example/callback/sandbox"},
			"query":            {"redirect_uri", redirect + "?x=1"},
			"empty query":      {"redirect_uri", redirect + "?"},
			"fragment":         {"redirect_uri", redirect + "#x"},
			"https":            {"redirect_uri", "https://127.0.0.1:45454/callback/sandbox"},
			"empty port":       {"redirect_uri", "http://127.0.0.1:/callback/sandbox"},
			"other 127":        {"redirect_uri", "http://127.0.0.2:45454/callback/sandbox"},
			"port of https":    {"redirect_uri", "https://app.example:444/done"},
			"https path below": {"redirect_uri", "https://app.example/done/x"},
		} {
			a := r.must(r.request(http.MethodGet, r.authorizeURL(pairs...), ""))
			if a.status != http.StatusBadRequest || a.header.Get("Location") != "" {
				t.Errorf("%s: status %d, redirected %t", name, a.status, a.header.Get("Location") != "")
			}
		}
	})
	t.Run("by redirect", func(t *testing.T) {
		for name, c := range map[string]struct {
			pairs []string
			code  string
		}{
			"no PKCE":             {[]string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
			"PKCE without method": {[]string{"code_challenge_method", ""}, "invalid_request"},
			"plain":               {[]string{"code_challenge", verifier[:43], "code_challenge_method", "plain"}, "invalid_request"},
			"short challenge":     {[]string{"code_challenge", "short"}, "invalid_request"},
			"implicit":            {[]string{"response_type", "token"}, "unsupported_response_type"},
			"fragment mode":       {[]string{"response_mode", "fragment"}, "invalid_request"},
			"unknown scope":       {[]string{"scope", "profile everything"}, "invalid_scope"},
			"prompt none":         {[]string{"prompt", "none"}, "interaction_required"},
			"request object":      {[]string{"request", "x.y.z"}, "request_not_supported"},
		} {
			a := r.must(r.request(http.MethodGet, r.authorizeURL(c.pairs...), ""))
			loc, err := url.Parse(a.header.Get("Location"))
			if err != nil || a.status != http.StatusSeeOther {
				t.Errorf("%s: status %d", name, a.status)
				continue
			}
			q := loc.Query()
			if q.Get("error") != c.code || q.Get("state") != "the-state" || q.Get("iss") != r.Issuer() || q.Has("code") {
				t.Errorf("%s: error %q, state %q, iss %q", name, q.Get("error"), q.Get("state"), q.Get("iss"))
			}
		}
		a := r.must(r.request(http.MethodGet, r.authorizeURL()+"&scope=email", ""))
		if loc, _ := url.Parse(a.header.Get("Location")); loc.Query().Get("error") != "invalid_request" {
			t.Error("a repeated parameter was accepted")
		}
	})
	t.Run("allowed", func(t *testing.T) {
		for _, u := range []string{redirect, "http://127.0.0.1:1/callback/sandbox", "http://[::1]:9/callback/sandbox", "http://127.0.0.1/callback/sandbox", "https://app.example/done"} {
			if q := r.callback(sandbox.Choice{}, "redirect_uri", u); q.Get("code") == "" {
				t.Errorf("%s was refused", u)
			}
		}
	})
}

func TestTokenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		ask    func(r *rig, code string) answer
	}{
		"no verifier": {400, "invalid_grant", func(r *rig, code string) answer {
			return r.post("/token", "grant_type", "authorization_code", "client_id", r.ClientID(), "code", code, "redirect_uri", redirect)
		}},
		"wrong verifier": {400, "invalid_grant", func(r *rig, code string) answer {
			return r.post("/token", "grant_type", "authorization_code", "client_id", r.ClientID(), "code", code, "redirect_uri", redirect, "code_verifier", strings.Repeat("x", 43))
		}},
		"challenge as verifier": {400, "invalid_grant", func(r *rig, code string) answer {
			return r.post("/token", "grant_type", "authorization_code", "client_id", r.ClientID(), "code", code, "redirect_uri", redirect, "code_verifier", challenge())
		}},
		"other redirect": {400, "invalid_grant", func(r *rig, code string) answer {
			return r.post("/token", "grant_type", "authorization_code", "client_id", r.ClientID(), "code", code, "redirect_uri", "http://127.0.0.1:45455/callback/sandbox", "code_verifier", verifier)
		}},
		"expired code": {400, "invalid_grant", func(r *rig, code string) answer {
			r.clock.add(61 * time.Second)
			return r.exchange(code)
		}},
		"unknown code":  {400, "invalid_grant", func(r *rig, _ string) answer { return r.exchange("sbx_code_x") }},
		"repeated code": {400, "invalid_request", func(r *rig, code string) answer { return r.exchange(code, "code", code) }},
		"public client with a secret": {401, "invalid_client", func(r *rig, code string) answer {
			return r.exchange(code, "client_secret", "x")
		}},
		"other client": {400, "invalid_grant", func(r *rig, code string) answer {
			id, s := r.ConfidentialClient()
			return r.post("/token", "grant_type", "authorization_code", "client_id", id, "client_secret", s.Reveal(), "code", code, "redirect_uri", redirect, "code_verifier", verifier)
		}},
		"password grant": {400, "unsupported_grant_type", func(r *rig, _ string) answer {
			return r.post("/token", "grant_type", "password", "client_id", r.ClientID(), "username", "alice", "password", "x")
		}},
		"no grant type": {400, "invalid_request", func(r *rig, _ string) answer { return r.post("/token", "client_id", r.ClientID()) }},
		"parameters in the URL": {400, "invalid_request", func(r *rig, code string) answer {
			return r.post("/token?code="+code, "grant_type", "authorization_code", "client_id", r.ClientID())
		}},
		"JSON body": {400, "invalid_request", func(r *rig, _ string) answer {
			req := r.request(http.MethodPost, "/token", `{"grant_type":"refresh_token"}`)
			req.Header.Set("Content-Type", "application/json")
			return r.must(req)
		}},
		"public client with client credentials": {400, "unauthorized_client", func(r *rig, _ string) answer {
			return r.post("/token", "grant_type", "client_credentials", "client_id", r.ClientID())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, sandbox.Options{})
			wantError(t, c.ask(r, r.callback(sandbox.Choice{}).Get("code")), c.status, c.code)
			if st := r.Stats(); st.TokenErrors != 1 || st.CodeExchanges != 0 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
	t.Run("GET", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		if a := r.must(r.request(http.MethodGet, "/token", "")); a.status != http.StatusMethodNotAllowed {
			t.Errorf("status %d", a.status)
		}
	})
}

func TestFailedExchangeBurnsTheCode(t *testing.T) {
	r := start(t, sandbox.Options{})
	code := r.callback(sandbox.Choice{}).Get("code")
	wantError(t, r.exchange(code+"x"), 400, "invalid_grant")
	r.post("/token", "grant_type", "authorization_code", "client_id", r.ClientID(), "code", code, "redirect_uri", redirect, "code_verifier", strings.Repeat("x", 43))
	wantError(t, r.exchange(code), 400, "invalid_grant")
}

func TestReusedCodeRevokesItsTokens(t *testing.T) {
	r := start(t, sandbox.Options{})
	code := r.callback(sandbox.Choice{}).Get("code")
	a := r.exchange(code)
	wantError(t, r.exchange(code), 400, "invalid_grant")
	if r.Active(secret.New(a.str("access_token"))) || r.Active(secret.New(a.str("refresh_token"))) {
		t.Error("tokens of a code that came twice still live")
	}
	wantError(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
	if st := r.Stats(); st.Reuse != 1 {
		t.Errorf("stats: %+v", st)
	}
}

func TestRefresh(t *testing.T) {
	t.Run("without rotation the token stays", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		_, rt := r.connect()
		for range 2 {
			if a := r.refresh(rt); a.status != 200 || a.str("refresh_token") != "" {
				t.Fatalf("status %d, new refresh token %t", a.status, a.str("refresh_token") != "")
			}
		}
	})
	t.Run("reuse kills the family", func(t *testing.T) {
		r := start(t, sandbox.Options{RotateRefresh: true})
		at, rt := r.connect()
		a := r.refresh(rt)
		if a.status != 200 || a.str("refresh_token") == "" || a.str("refresh_token") == rt {
			t.Fatalf("status %d", a.status)
		}
		if r.api("/api/me", at).status != 200 {
			t.Error("rotation ended the earlier access token")
		}
		wantError(t, r.refresh(rt), 400, "invalid_grant")
		wantError(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
		for _, token := range []string{at, a.str("access_token")} {
			if r.api("/api/me", token).status != 401 {
				t.Error("an access token outlived its family")
			}
		}
		if st := r.Stats(); st.Reuse != 1 || st.Refreshes != 1 || st.RefreshRequests != 3 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("other grants are not touched", func(t *testing.T) {
		r := start(t, sandbox.Options{RotateRefresh: true})
		_, one := r.connect()
		_, two := r.connect()
		r.refresh(one)
		r.refresh(one)
		if a := r.refresh(two); a.status != 200 {
			t.Errorf("status %d", a.status)
		}
	})
	t.Run("grace", func(t *testing.T) {
		r := start(t, sandbox.Options{RotateRefresh: true, Grace: 10 * time.Second})
		_, rt := r.connect()
		r.refresh(rt) // this answer is lost
		r.clock.add(9 * time.Second)
		a := r.refresh(rt)
		if a.status != 200 || a.str("refresh_token") == "" {
			t.Fatalf("status %d", a.status)
		}
		if st := r.Stats(); st.GraceReuse != 1 || st.Reuse != 0 {
			t.Errorf("stats: %+v", st)
		}
		if b := r.refresh(a.str("refresh_token")); b.status != 200 {
			t.Fatalf("status %d", b.status)
		}
		// The successor was used, so the client has it: no lost answer.
		wantError(t, r.refresh(rt), 400, "invalid_grant")
		if st := r.Stats(); st.Reuse != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("grace ends", func(t *testing.T) {
		r := start(t, sandbox.Options{RotateRefresh: true, Grace: 10 * time.Second})
		_, rt := r.connect()
		r.refresh(rt)
		r.clock.add(11 * time.Second)
		wantError(t, r.refresh(rt), 400, "invalid_grant")
		if st := r.Stats(); st.Reuse != 1 || st.GraceReuse != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("expired", func(t *testing.T) {
		r := start(t, sandbox.Options{RefreshTTL: time.Hour})
		_, rt := r.connect()
		r.clock.add(time.Hour)
		wantError(t, r.refresh(rt), 400, "invalid_grant")
		if st := r.Stats(); st.Reuse != 0 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("scope", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		_, rt := r.connect()
		a := r.refresh(rt, "scope", "profile")
		if a.str("scope") != "profile" || r.api("/api/items", a.str("access_token")).status != 403 {
			t.Errorf("scope %q", a.str("scope"))
		}
		if a = r.refresh(rt); a.str("scope") != "profile items.read" {
			t.Errorf("the grant shrank to %q", a.str("scope"))
		}
		wantError(t, r.refresh(rt, "scope", "profile items.write"), 400, "invalid_scope")
	})
	t.Run("other client", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		_, rt := r.connect()
		id, s := r.ConfidentialClient()
		wantError(t, r.post("/token", "grant_type", "refresh_token", "client_id", id, "client_secret", s.Reveal(), "refresh_token", rt), 400, "invalid_grant")
	})
	t.Run("many at once", func(t *testing.T) {
		r := start(t, sandbox.Options{RotateRefresh: true})
		_, rt := r.connect()
		var wg sync.WaitGroup
		var mu sync.Mutex
		good := 0
		for range 10 {
			wg.Go(func() {
				if a := r.refresh(rt); a.status == 200 {
					mu.Lock()
					defer mu.Unlock()
					good++
				}
			})
		}
		wg.Wait()
		if st := r.Stats(); good != 1 || st.Reuse != 1 || st.Refreshes != 1 {
			t.Errorf("%d succeeded, stats: %+v", good, st)
		}
	})
}

func TestClientAuthentication(t *testing.T) {
	basic := func(r *rig, user, pass string, pairs ...string) answer {
		req := r.request(http.MethodPost, "/token", form(append([]string{"grant_type", "client_credentials"}, pairs...)...))
		req.SetBasicAuth(user, pass)
		return r.must(req)
	}
	body := func(r *rig, user, pass string) answer {
		return r.post("/token", "grant_type", "client_credentials", "client_id", user, "client_secret", pass)
	}
	t.Run("basic", func(t *testing.T) {
		r := start(t, sandbox.Options{ClientSecretBasic: true})
		id, s := r.ConfidentialClient()
		a := basic(r, id, s.Reveal(), "scope", "items.read")
		if a.status != 200 || a.str("refresh_token") != "" || a.str("scope") != "items.read" {
			t.Errorf("status %d, scope %q", a.status, a.str("scope"))
		}
		if me := r.api("/userinfo", a.str("access_token")); me.str("sub") != id {
			t.Errorf("userinfo: %v", me.body)
		}
		wantError(t, body(r, id, s.Reveal()), 401, "invalid_client")
		a = basic(r, id, "wrong")
		wantError(t, a, 401, "invalid_client")
		if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Error("no challenge")
		}
		wantError(t, basic(r, "nobody", s.Reveal()), 401, "invalid_client")
		wantError(t, basic(r, id, s.Reveal(), "client_secret", s.Reveal()), 400, "invalid_request")
		wantError(t, basic(r, id, s.Reveal(), "client_id", r.ClientID()), 400, "invalid_request")
		wantError(t, basic(r, id, s.Reveal(), "scope", "items.read offline_access"), 400, "invalid_scope")
	})
	t.Run("post", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		id, s := r.ConfidentialClient()
		if a := body(r, id, s.Reveal()); a.status != 200 {
			t.Errorf("status %d", a.status)
		}
		wantError(t, body(r, id, "wrong"), 401, "invalid_client")
		wantError(t, basic(r, id, s.Reveal()), 401, "invalid_client")
		wantError(t, r.post("/token", "grant_type", "client_credentials", "client_id", id), 401, "invalid_client")
		wantError(t, r.post("/token", "grant_type", "client_credentials"), 401, "invalid_client")
	})
}

func TestRevocation(t *testing.T) {
	t.Run("refresh token takes all", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		at, rt := r.connect()
		if a := r.post("/revoke", "client_id", r.ClientID(), "token", rt, "token_type_hint", "access_token"); a.status != 200 || a.text != "" {
			t.Errorf("status %d", a.status)
		}
		if r.api("/api/me", at).status != 401 {
			t.Error("the access token lives on")
		}
		wantError(t, r.refresh(rt), 400, "invalid_grant")
		r.post("/revoke", "client_id", r.ClientID(), "token", rt)
		if st := r.Stats(); st.Revocations != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("access token goes alone", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		at, rt := r.connect()
		r.post("/revoke", "client_id", r.ClientID(), "token", at)
		if r.api("/api/me", at).status != 401 || r.refresh(rt).status != 200 {
			t.Error("wrong tokens were revoked")
		}
	})
	t.Run("refusals", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		_, rt := r.connect()
		id, s := r.ConfidentialClient()
		if a := r.post("/revoke", "client_id", r.ClientID(), "token", "unknown"); a.status != 200 {
			t.Errorf("unknown token: status %d", a.status)
		}
		wantError(t, r.post("/revoke", "client_id", r.ClientID()), 400, "invalid_request")
		wantError(t, r.post("/revoke", "token", rt), 401, "invalid_client")
		wantError(t, r.post("/revoke", "client_id", id, "client_secret", s.Reveal(), "token", rt), 400, "unauthorized_client")
		if !r.Active(secret.New(rt)) {
			t.Error("a refused revocation revoked")
		}
	})
}

func TestIntrospection(t *testing.T) {
	r := start(t, sandbox.Options{})
	at, rt := r.connect()
	id, s := r.ConfidentialClient()
	ask := func(token string) answer {
		return r.post("/introspect", "client_id", id, "client_secret", s.Reveal(), "token", token)
	}
	a := ask(at)
	if a.body["active"] != true || a.str("sub") != "user-alice" || a.str("client_id") != r.ClientID() || a.str("scope") != "profile items.read" {
		t.Errorf("access token: %v", a.body)
	}
	if ask(rt).body["active"] != true || ask("unknown").body["active"] != false {
		t.Error("refresh or unknown token told wrong")
	}
	r.clock.add(time.Hour)
	if a := ask(at); a.body["active"] != false || len(a.body) != 1 {
		t.Errorf("expired token: %v", a.body)
	}
	wantError(t, r.post("/introspect", "client_id", r.ClientID(), "token", at), 401, "invalid_client")
	wantError(t, r.post("/introspect", "token", at), 401, "invalid_client")
}

func TestAPI(t *testing.T) {
	r := start(t, sandbox.Options{})
	at, _ := r.connect()
	t.Run("refuses", func(t *testing.T) {
		a := r.must(r.request(http.MethodGet, "/api/me", ""))
		if a.status != 401 || strings.Contains(a.header.Get("WWW-Authenticate"), "error") || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("no token: status %d, %q", a.status, a.header.Get("WWW-Authenticate"))
		}
		if a := r.api("/api/me", "sbx_at_wrong"); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("wrong token: status %d, %q", a.status, a.header.Get("WWW-Authenticate"))
		}
		if a := r.must(r.request(http.MethodGet, "/api/me?access_token="+at, "")); a.status != 400 {
			t.Errorf("token in the URL: status %d", a.status)
		}
		req := r.request(http.MethodGet, "/api/me", "")
		req.SetBasicAuth(at, "")
		if a := r.must(req); a.status != 400 {
			t.Errorf("token in Basic: status %d", a.status)
		}
	})
	t.Run("echo", func(t *testing.T) {
		req := r.request(http.MethodPost, "/api/echo?a="+at, "body "+at)
		req.Header.Set("Authorization", "bearer "+at)
		req.Header.Set("X-Copy", at)
		a := r.must(req)
		if a.status != 200 || a.str("method") != "POST" || a.str("path") != "/api/echo" || strings.Contains(a.text, at) {
			t.Errorf("status %d, method %q, token shown %t", a.status, a.str("method"), strings.Contains(a.text, at))
		}
		if fp := a.str("token"); !strings.HasPrefix(fp, "sha256:") || a.str("body") != "body "+fp {
			t.Errorf("body %q, fingerprint %q", a.str("body"), fp)
		}
	})
	t.Run("items", func(t *testing.T) {
		next, seen := "/api/items", 0
		for range 3 {
			a := r.api(next, at)
			items, _ := a.body["items"].([]any)
			seen += len(items)
			next = ""
			for _, l := range strings.Split(a.header.Get("Link"), ", ") {
				if u, ok := strings.CutSuffix(l, `>; rel="next"`); ok {
					next = strings.TrimPrefix(u, "<")
				}
			}
			if next == "" {
				break
			}
		}
		if seen != 9 || next != "" {
			t.Errorf("%d items, next %q", seen, next)
		}
		if r.api("/api/items?page=4", at).status != 404 {
			t.Error("page 4 exists")
		}
	})
	t.Run("status", func(t *testing.T) {
		for path, want := range map[string]int{"418": 418, "204": 204, "503": 503, "999": 404, "x": 404} {
			if a := r.api("/api/status/"+path, at); a.status != want {
				t.Errorf("%s: status %d", path, a.status)
			}
		}
	})
	t.Run("expiry", func(t *testing.T) {
		r.clock.add(time.Hour)
		if a := r.api("/api/me", at); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), "expired") {
			t.Errorf("status %d, %q", a.status, a.header.Get("WWW-Authenticate"))
		}
	})
}

func TestConsentPage(t *testing.T) {
	r := start(t, sandbox.Options{})
	a := r.must(r.request(http.MethodGet, r.authorizeURL("scope", "profile items.write", "login_hint", "bob"), ""))
	for _, want := range []string{"Allow Sandbox app", "http://127.0.0.1:45454", "Change items", "items.write", "alice@sandbox.example", "checked value=\"bob\"", "Approve", "Deny"} {
		if !strings.Contains(a.text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	csp := a.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self' http://127.0.0.1:45454"} {
		if !strings.Contains(csp, want) {
			t.Errorf("CSP %q lacks %q", csp, want)
		}
	}
	if a.header.Get("X-Frame-Options") != "DENY" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a security header is wrong")
	}
	if strings.Contains(a.text, "the-state") || strings.Contains(a.text, challenge()) {
		t.Error("the page shows state or challenge")
	}
	a = r.must(r.request(http.MethodGet, r.authorizeURL("login_hint", "<script>", "state", "<script>", "client_id", "<script>"), ""))
	if strings.Contains(a.text, "<script>") {
		t.Error("the page echoes input")
	}
	q := r.callback(sandbox.Choice{Deny: true})
	if q.Get("error") != "access_denied" || q.Has("code") || q.Get("state") != "the-state" || q.Get("iss") != r.Issuer() {
		t.Errorf("denied: error %q, state %q", q.Get("error"), q.Get("state"))
	}
}

func TestConsentCannotBeForged(t *testing.T) {
	r := start(t, sandbox.Options{})
	open := func() (client *http.Client, fields url.Values) {
		jar, _ := cookiejar.New(nil)
		client = &http.Client{Jar: jar, Transport: r.http.Transport, CheckRedirect: r.http.CheckRedirect}
		resp, err := client.Get(r.authorizeURL())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		fields = url.Values{"account": {"alice"}, "decision": {"approve"}}
		for _, name := range []string{"id", "csrf"} {
			_, rest, _ := strings.Cut(string(b), `name="`+name+`" value="`)
			v, _, _ := strings.Cut(rest, `"`)
			fields.Set(name, v)
		}
		return client, fields
	}
	send := func(c *http.Client, v url.Values, headers map[string]string) (int, string) {
		req := r.request(http.MethodPost, "/authorize/decision", v.Encode())
		for k, h := range headers {
			req.Header.Set(k, h)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal("no answer")
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Location")
	}
	own, fields := open()
	other, otherFields := open()
	for name, c := range map[string]struct {
		client  *http.Client
		change  func(url.Values)
		headers map[string]string
	}{
		"no cookie":            {client: r.http},
		"cookie of another":    {client: other},
		"no csrf":              {client: own, change: func(v url.Values) { v.Del("csrf") }},
		"csrf of another":      {client: own, change: func(v url.Values) { v.Set("csrf", otherFields.Get("csrf")) }},
		"unknown id":           {client: own, change: func(v url.Values) { v.Set("id", "x") }},
		"repeated id":          {client: own, change: func(v url.Values) { v.Add("id", "x") }},
		"foreign origin":       {client: own, headers: map[string]string{"Origin": "http://evil.example"}},
		"null origin":          {client: own, headers: map[string]string{"Origin": "null"}},
		"other port as origin": {client: own, headers: map[string]string{"Origin": "http://127.0.0.1:1"}},
		"cross-site fetch":     {client: own, headers: map[string]string{"Sec-Fetch-Site": "cross-site"}},
		"same-site fetch":      {client: own, headers: map[string]string{"Sec-Fetch-Site": "same-site"}},
	} {
		v := url.Values{}
		for k := range fields {
			v.Set(k, fields.Get(k))
		}
		if c.change != nil {
			c.change(v)
		}
		if status, loc := send(c.client, v, c.headers); status != http.StatusForbidden || loc != "" {
			t.Errorf("%s: status %d", name, status)
		}
	}
	headers := map[string]string{"Origin": r.Issuer(), "Sec-Fetch-Site": "same-origin"}
	if status, loc := send(own, fields, headers); status != http.StatusSeeOther || !strings.Contains(loc, "code=") {
		t.Errorf("the real answer: status %d", status)
	}
	if status, _ := send(own, fields, headers); status != http.StatusForbidden {
		t.Errorf("the same answer twice: status %d", status)
	}
	r.clock.add(11 * time.Minute)
	if status, _ := send(other, otherFields, headers); status != http.StatusForbidden {
		t.Errorf("a late answer: status %d", status)
	}
}

func TestHostGuard(t *testing.T) {
	r := start(t, sandbox.Options{})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.Issuer(), "http://"))
	for _, host := range []string{"evil.example", "localhost:" + port, "127.0.0.1", "127.0.0.1.evil.example:" + port} {
		req := r.request(http.MethodGet, "/", "")
		req.Host = host
		if a := r.must(req); a.status != http.StatusMisdirectedRequest {
			t.Errorf("%s: status %d", host, a.status)
		}
	}
	for _, page := range []string{"/", "/style.css", "/device"} {
		if a := r.must(r.request(http.MethodGet, page, "")); a.status != 200 || a.text == "" {
			t.Errorf("%s: status %d", page, a.status)
		}
	}
}

func TestMetadata(t *testing.T) {
	r := start(t, sandbox.Options{ClientSecretBasic: true})
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		a := r.must(r.request(http.MethodGet, path, ""))
		if a.str("issuer") != r.Issuer() || a.str("token_endpoint") != r.Issuer()+"/token" || a.body["authorization_response_iss_parameter_supported"] != true {
			t.Errorf("%s: %v", path, a.body)
		}
		methods, _ := a.body["token_endpoint_auth_methods_supported"].([]any)
		if !slices.Equal(methods, []any{"none", "client_secret_basic"}) {
			t.Errorf("%s: methods %v", path, methods)
		}
	}
}

func TestIDToken(t *testing.T) {
	r := start(t, sandbox.Options{})
	a := r.exchange(r.callback(sandbox.Choice{}, "scope", "openid", "nonce", "n1").Get("code"))
	parts := strings.Split(a.str("id_token"), ".")
	if len(parts) != 3 {
		t.Fatal("no ID token")
	}
	raw := func(s string) []byte { b, _ := base64.RawURLEncoding.DecodeString(s); return b }
	var claims map[string]any
	if err := json.Unmarshal(raw(parts[1]), &claims); err != nil {
		t.Fatal(err)
	}
	if claims["iss"] != r.Issuer() || claims["aud"] != r.ClientID() || claims["sub"] != "user-alice" || claims["nonce"] != "n1" {
		t.Errorf("claims: %v", claims)
	}
	jwks := r.must(r.request(http.MethodGet, "/jwks", ""))
	keys, _ := jwks.body["keys"].([]any)
	key, _ := keys[0].(map[string]any)
	x, y := raw(key["x"].(string)), raw(key["y"].(string))
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	sig := raw(parts[2])
	if !ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("the signature does not verify")
	}
}

func TestDeviceFlow(t *testing.T) {
	begin := func(r *rig) (deviceCode, userCode string) {
		a := r.post("/device_authorization", "client_id", r.ClientID(), "scope", "profile")
		if a.status != 200 || a.body["interval"] != 5.0 || a.body["expires_in"] != 900.0 || a.str("verification_uri") != r.Issuer()+"/device" {
			r.t.Fatalf("device authorization: status %d, %v", a.status, a.body["interval"])
		}
		return a.str("device_code"), a.str("user_code")
	}
	poll := func(r *rig, deviceCode string) answer {
		return r.post("/token", "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", r.ClientID(), "device_code", deviceCode)
	}
	t.Run("approved", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		dc, uc := begin(r)
		wantError(t, poll(r, dc), 400, "authorization_pending")
		typed := strings.ToLower(strings.ReplaceAll(uc, "-", " "))
		if err := r.AnswerDevice(t.Context(), typed, sandbox.Choice{Account: "bob"}); err != nil {
			t.Fatal(err)
		}
		r.clock.add(5 * time.Second)
		a := poll(r, dc)
		if a.status != 200 || a.str("refresh_token") == "" || r.api("/userinfo", a.str("access_token")).str("sub") != "user-bob" {
			t.Errorf("status %d", a.status)
		}
		r.clock.add(5 * time.Second)
		wantError(t, poll(r, dc), 400, "invalid_grant")
		if err := r.ApproveDevice(t.Context(), uc); err == nil {
			t.Error("the user code was accepted twice")
		}
	})
	t.Run("slow down", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		dc, uc := begin(r)
		wantError(t, poll(r, dc), 400, "authorization_pending")
		r.clock.add(4 * time.Second)
		wantError(t, poll(r, dc), 400, "slow_down")
		if err := r.ApproveDevice(t.Context(), uc); err != nil {
			t.Fatal(err)
		}
		r.clock.add(5 * time.Second) // the interval is 10 s now
		wantError(t, poll(r, dc), 400, "slow_down")
		r.clock.add(15 * time.Second)
		if a := poll(r, dc); a.status != 200 {
			t.Errorf("status %d, error %q", a.status, a.str("error"))
		}
		if st := r.Stats(); st.SlowDowns != 2 || st.DevicePolls != 4 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("expired", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		dc, uc := begin(r)
		r.clock.add(15 * time.Minute)
		wantError(t, poll(r, dc), 400, "expired_token")
		if err := r.ApproveDevice(t.Context(), uc); err == nil {
			t.Error("an expired user code was accepted")
		}
	})
	t.Run("denied", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		dc, uc := begin(r)
		if err := r.AnswerDevice(t.Context(), uc, sandbox.Choice{Deny: true}); err != nil {
			t.Fatal(err)
		}
		wantError(t, poll(r, dc), 400, "access_denied")
	})
	t.Run("refusals", func(t *testing.T) {
		r := start(t, sandbox.Options{})
		dc, uc := begin(r)
		wantError(t, poll(r, "unknown"), 400, "invalid_grant")
		wantError(t, poll(r, ""), 400, "invalid_request")
		id, s := r.ConfidentialClient()
		wantError(t, r.post("/token", "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", id, "client_secret", s.Reveal(), "device_code", dc), 400, "invalid_grant")
		wantError(t, r.post("/device_authorization", "client_id", r.ClientID(), "scope", "everything"), 400, "invalid_scope")
		wantError(t, r.post("/device_authorization", "client_id", "nobody"), 401, "invalid_client")
		if a := r.must(r.request(http.MethodGet, "/device?user_code=%3Cscript%3E", "")); a.status != 404 || strings.Contains(a.text, "<script>") {
			t.Errorf("status %d", a.status)
		}
		if a := r.post("/device/decision", "id", uc, "csrf", "", "account", "alice", "decision", "approve"); a.status != 403 {
			t.Errorf("forged answer: status %d", a.status)
		}
		wantError(t, poll(r, dc), 400, "authorization_pending")
	})
	t.Run("auto approve", func(t *testing.T) {
		r := start(t, sandbox.Options{AutoApprove: true})
		dc, _ := begin(r)
		if a := poll(r, dc); a.status != 200 {
			t.Errorf("status %d", a.status)
		}
	})
}

func TestApprove(t *testing.T) {
	var got url.Values
	status := http.StatusOK
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got = r.URL.Query()
		w.WriteHeader(status)
	}))
	defer app.Close()
	for _, auto := range []bool{false, true} {
		r := start(t, sandbox.Options{AutoApprove: auto})
		if err := r.Approve(t.Context(), r.authorizeURL("redirect_uri", app.URL+"/callback/sandbox")); err != nil {
			t.Fatal(err)
		}
		if got.Get("code") == "" || got.Get("state") != "the-state" {
			t.Errorf("auto %t: the callback got no code", auto)
		}
	}
	r := start(t, sandbox.Options{RedirectURIs: []string{"https://app.example/done"}})
	for name, u := range map[string]string{
		"unknown client": r.authorizeURL("client_id", "x"),
		"foreign URL":    app.URL + "/authorize?x=1",
		"https redirect": r.authorizeURL("redirect_uri", "https://app.example/done"),
	} {
		if err := r.Approve(t.Context(), u); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	status = http.StatusInternalServerError
	err := r.Approve(t.Context(), r.authorizeURL("redirect_uri", app.URL+"/callback/sandbox"))
	if err == nil || strings.Contains(err.Error(), "sbx_code_") {
		t.Error("an application that fails gave no error, or one with the code")
	}
}

func TestProviderYAML(t *testing.T) {
	r := start(t, sandbox.Options{RotateRefresh: true})
	var p struct {
		ID       string `yaml:"id"`
		Token    string `yaml:"token_endpoint"`
		Redirect string `yaml:"redirect_uri"`
		Client   string `yaml:"client_id"`
		Env      string `yaml:"env"`
		Insecure bool   `yaml:"allow_insecure_loopback"`
		API      struct {
			Hosts []string `yaml:"hosts"`
		} `yaml:"api"`
	}
	if err := yaml.Unmarshal(r.ProviderYAML("my-api"), &p); err != nil {
		t.Fatal(err)
	}
	if p.ID != "my-api" || p.Token != r.Issuer()+"/token" || p.Client != r.ClientID() || p.Env != "MY_API_ACCESS_TOKEN" || !p.Insecure ||
		len(p.API.Hosts) != 1 || "http://"+p.API.Hosts[0] != r.Issuer() {
		t.Errorf("%+v", p)
	}
	if q := r.callback(sandbox.Choice{}, "redirect_uri", strings.Replace(p.Redirect, "*", "7", 1)); q.Get("code") == "" {
		t.Error("the redirect of the definition is not registered")
	}
	if err := yaml.Unmarshal(r.ConfidentialYAML("9ci"), &p); err != nil || p.Env != "_9CI_ACCESS_TOKEN" || p.Client == r.ClientID() {
		t.Errorf("%+v, %v", p, err)
	}
	for _, id := range []string{"", "a b", "a\nb: c", "-a", "A", strings.Repeat("a", 64)} {
		if r.ProviderYAML(id) != nil {
			t.Errorf("%q was taken for an id", id)
		}
	}
}

func TestFaults(t *testing.T) {
	status := func(r *rig, rt string) answer { return r.refresh(rt) }
	check := map[string]func(t *testing.T, r *rig, at, rt string){
		"token-500": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.status != 500 {
				t.Errorf("status %d", a.status)
			}
		},
		"token-429": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.status != 429 || a.header.Get("Retry-After") != "2" {
				t.Errorf("status %d", a.status)
			}
		},
		"token-html": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
				t.Errorf("status %d", a.status)
			}
		},
		"token-hang": func(t *testing.T, r *rig, _, rt string) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req := r.request(http.MethodPost, "/token", form("grant_type", "refresh_token", "client_id", r.ClientID(), "refresh_token", rt)).WithContext(ctx)
			if _, err := r.do(req); err == nil || ctx.Err() == nil {
				t.Error("an answer came")
			}
		},
		"token-drop-before": func(t *testing.T, r *rig, _, rt string) {
			if _, err := r.do(r.request(http.MethodPost, "/token", form("grant_type", "refresh_token", "client_id", r.ClientID(), "refresh_token", rt))); err == nil {
				t.Error("an answer came")
			}
		},
		"token-drop-after": func(t *testing.T, r *rig, _, rt string) {
			if _, err := r.do(r.request(http.MethodPost, "/token", form("grant_type", "refresh_token", "client_id", r.ClientID(), "refresh_token", rt))); err == nil {
				t.Error("an answer came")
			}
			if st := r.Stats(); st.Refreshes != 1 || r.Active(secret.New(rt)) {
				t.Errorf("nothing was committed: %+v", st)
			}
		},
		"invalid-grant": func(t *testing.T, r *rig, _, rt string) { wantError(t, status(r, rt), 400, "invalid_grant") },
		"slow": func(t *testing.T, r *rig, _, rt string) {
			began := time.Now()
			if a := status(r, rt); a.status != 200 || time.Since(began) < 20*time.Millisecond {
				t.Errorf("status %d after %s", a.status, time.Since(began))
			}
		},
		"no-expires-in": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.status != 200 || a.body["expires_in"] != nil {
				t.Errorf("status %d, %v", a.status, a.body["expires_in"])
			}
		},
		"expires-in-string": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.body["expires_in"] != "3600" {
				t.Errorf("%v", a.body["expires_in"])
			}
		},
		"narrow-scope": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.str("scope") != "profile" {
				t.Errorf("scope %q", a.str("scope"))
			}
			if a := r.exchange(r.callback(sandbox.Choice{}).Get("code")); a.str("scope") != "profile" {
				t.Errorf("scope %q", a.str("scope"))
			}
		},
		"no-refresh-token": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.status != 200 || a.str("refresh_token") != "" || !r.Active(secret.New(rt)) {
				t.Errorf("status %d", a.status)
			}
		},
		"bad-type": func(t *testing.T, r *rig, _, rt string) {
			if a := status(r, rt); a.str("token_type") != "mac" {
				t.Errorf("type %q", a.str("token_type"))
			}
		},
		"userinfo-500": func(t *testing.T, r *rig, at, _ string) {
			if a := r.api("/userinfo", at); a.status != 500 {
				t.Errorf("status %d", a.status)
			}
		},
		"revoke-500": func(t *testing.T, r *rig, _, rt string) {
			if a := r.post("/revoke", "client_id", r.ClientID(), "token", rt); a.status != 500 || !r.Active(secret.New(rt)) {
				t.Errorf("status %d", a.status)
			}
		},
		"device-slow-down": func(t *testing.T, r *rig, _, _ string) {
			d := r.post("/device_authorization", "client_id", r.ClientID())
			wantError(t, r.post("/token", "grant_type", "urn:ietf:params:oauth:grant-type:device_code", "client_id", r.ClientID(), "device_code", d.str("device_code")), 400, "slow_down")
		},
	}
	for _, f := range sandbox.Faults() {
		t.Run(f.Name, func(t *testing.T) {
			if check[f.Name] == nil || f.Does == "" {
				t.Fatal("the fault is not tested or not described")
			}
			r := start(t, sandbox.Options{RotateRefresh: true, SlowBy: 20 * time.Millisecond})
			at, rt := r.connect()
			if err := r.SetFaults(f.Name); err != nil {
				t.Fatal(err)
			}
			check[f.Name](t, r, at, rt)
			if r.Stats().Faults == 0 {
				t.Error("the fault was not counted")
			}
			if st := r.Stats(); st.Reuse != 0 {
				t.Errorf("stats: %+v", st)
			}
		})
	}
	t.Run("modifiers", func(t *testing.T) {
		r := start(t, sandbox.Options{Fail: []string{"once:refresh:token-500"}})
		_, rt := r.connect()
		if a, b := r.refresh(rt), r.refresh(rt); a.status != 500 || b.status != 200 {
			t.Errorf("status %d, then %d", a.status, b.status)
		}
		for _, bad := range []string{"nonsense", "once:", "refresh:once:token-500", ""} {
			if err := r.SetFaults("slow", bad); err == nil {
				t.Errorf("%q was taken for a fault", bad)
			}
		}
		if _, err := sandbox.Start(t.Context(), sandbox.Options{Fail: []string{"nonsense"}}); err == nil {
			t.Error("Start took an unknown fault")
		}
	})
}

func TestLogHasNoSecrets(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	r := start(t, sandbox.Options{Log: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	}})
	at, rt := r.connect()
	r.refresh(rt)
	r.api("/api/echo?x="+at, at)
	r.api("/nowhere%0a::add-mask::", at)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(lines, "\n")
	for _, leak := range []string{at, rt, "sbx_", verifier, "the-state"} {
		if strings.Contains(all, leak) {
			t.Error("the log holds a secret")
		}
	}
	if !slices.Contains(lines, "POST /token: 200") || strings.Count(all, "\n")+1 != len(lines) {
		t.Errorf("%d lines", len(lines))
	}
}

func TestLife(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := sandbox.Start(ctx, sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(s.Issuer(), "http://")); err == nil {
		_ = c.Close()
		t.Error("the sandbox still listens")
	}
	r := start(t, sandbox.Options{})
	at, rt := r.connect()
	r.ExpireAccess()
	if r.Active(secret.New(at)) || !r.Active(secret.New(rt)) {
		t.Error("ExpireAccess ended the wrong token")
	}
	r.RevokeAll()
	if r.Active(secret.New(rt)) || r.Active(secret.New("")) {
		t.Error("RevokeAll left a token")
	}
}
