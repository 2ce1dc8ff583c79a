package fakes_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
)

const verifier = "verifier-verifier-verifier-verifier-verifier-0"

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// rig speaks to a fake by hand.
type rig struct {
	*fakes.Fake
	t         *testing.T
	authorize string
	tokens    string
	redirect  string
	scope     string
	pkce      bool
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (a answer) str(name string) string { s, _ := a.body[name].(string); return s }

func (r *rig) send(method, path, contentType, body string, auth ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.URL+"/"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	switch len(auth) {
	case 1:
		req.Header.Set("Authorization", "Bearer "+auth[0])
	case 2:
		req.SetBasicAuth(url.QueryEscape(auth[0]), url.QueryEscape(auth[1]))
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal("no answer")
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(b)}
	_ = json.Unmarshal(b, &a.body)
	return a
}

func (r *rig) post(path string, v url.Values, auth ...string) answer {
	r.t.Helper()
	return r.send(http.MethodPost, path, "application/x-www-form-urlencoded", v.Encode(), auth...)
}

func (r *rig) get(path string, auth ...string) answer {
	r.t.Helper()
	return r.send(http.MethodGet, path, "", "", auth...)
}

// request is a right authorization request; pairs replace, "" drops.
func (r *rig) request(pairs ...string) string {
	v := url.Values{"client_id": {r.ClientID}, "response_type": {"code"}, "redirect_uri": {r.redirect}, "state": {"s1"}, "scope": {r.scope}}
	if r.pkce {
		v.Set("code_challenge", challenge())
		v.Set("code_challenge_method", "S256")
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return r.URL + "/" + r.authorize + "?" + v.Encode()
}

// callback returns the parameters that come back.
func (r *rig) callback(pairs ...string) url.Values {
	r.t.Helper()
	loc, err := r.Consent(r.t.Context(), r.request(pairs...))
	if err != nil {
		r.t.Fatal(err)
	}
	u, err := url.Parse(loc)
	if err != nil {
		r.t.Fatal(err)
	}
	if u.Query().Get("state") != "s1" && u.Fragment == "" {
		r.t.Error("the state did not come back")
	}
	return u.Query()
}

func (r *rig) exchangeForm(code string, pairs ...string) url.Values {
	v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {r.redirect}, "client_id": {r.ClientID}}
	if r.pkce {
		v.Set("code_verifier", verifier)
	}
	return change(v, pairs)
}

func change(v url.Values, pairs []string) url.Values {
	for i := 0; i+1 < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return v
}

// exchange redeems a code with the secret in the body.
func (r *rig) exchange(code string, pairs ...string) answer {
	r.t.Helper()
	return r.post(r.tokens, r.exchangeForm(code, append([]string{"client_secret", r.ClientSecret.Reveal()}, pairs...)...))
}

func (r *rig) connect(pairs ...string) answer {
	r.t.Helper()
	a := r.exchange(r.callback(pairs...).Get("code"))
	if a.status != 200 || a.str("access_token") == "" {
		r.t.Fatalf("connect: status %d, error %q", a.status, a.str("error"))
	}
	return a
}

func (r *rig) refresh(token string, pairs ...string) answer {
	r.t.Helper()
	return r.post(r.tokens, change(url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {r.ClientID}, "client_secret": {r.ClientSecret.Reveal()},
	}, pairs))
}

func want(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.str("error") != code || a.str("access_token") != "" {
		t.Errorf("status %d, error %q; want %d, %q", a.status, a.str("error"), status, code)
	}
}

// pages asks for authorization and expects a page with an error, no redirect.
func (r *rig) pages(text string, pairs ...string) {
	r.t.Helper()
	if _, err := r.Consent(r.t.Context(), r.request(pairs...)); err == nil || !strings.Contains(err.Error(), text) {
		r.t.Errorf("%v: got %v, want a page with %q", pairs, err, text)
	}
}

func (r *rig) comesBack(code string, pairs ...string) {
	r.t.Helper()
	if q := r.callback(pairs...); q.Get("error") != code || q.Has("code") {
		r.t.Errorf("%v: error %q, want %q", pairs, q.Get("error"), code)
	}
}

func spotify(t *testing.T) *rig {
	return &rig{Fake: fakes.Spotify(t), t: t, authorize: "accounts.spotify.com/authorize", tokens: "accounts.spotify.com/api/token",
		redirect: "http://127.0.0.1:4711/callback/spotify", scope: "user-read-private user-read-email", pkce: true}
}

func TestSpotify(t *testing.T) {
	t.Run("public client with PKCE", func(t *testing.T) {
		r := spotify(t)
		a := r.exchange(r.callback().Get("code"), "client_secret", "")
		if a.status != 200 || a.str("token_type") != "Bearer" || a.str("scope") != r.scope || a.body["expires_in"] != 3600.0 {
			t.Fatalf("status %d, error %q", a.status, a.str("error"))
		}
		me := r.get("api.spotify.com/v1/me", a.str("access_token"))
		if me.str("id") != "alice" || me.str("display_name") != "Alice Example" || me.str("email") == "" {
			t.Errorf("me: %v", me.body)
		}
		b := r.refresh(a.str("refresh_token"), "client_secret", "")
		if b.str("refresh_token") == "" {
			t.Fatal("the first refresh did not rotate")
		}
		want(t, r.refresh(a.str("refresh_token"), "client_secret", ""), 400, "invalid_grant")
		c := r.refresh(b.str("refresh_token"), "client_secret", "")
		if c.status != 200 || c.str("refresh_token") != "" {
			t.Error("the second refresh rotated")
		}
		if d := r.refresh(b.str("refresh_token"), "client_secret", ""); d.status != 200 {
			t.Errorf("the token that was kept: status %d", d.status)
		}
		if st := r.Stats(); st.Refreshes != 3 || st.Rotations != 2 || st.Exchanges != 1 {
			t.Errorf("stats: %+v", st)
		}
	})
	t.Run("six months from consent", func(t *testing.T) {
		r := spotify(t)
		rt := r.exchange(r.callback().Get("code")).str("refresh_token")
		r.Advance(181 * 24 * time.Hour)
		if a := r.refresh(rt); a.status != 200 || a.str("refresh_token") != "" {
			t.Fatalf("status %d, rotated with a secret: %t", a.status, a.str("refresh_token") != "")
		}
		r.Advance(2 * 24 * time.Hour)
		want(t, r.refresh(rt), 400, "invalid_grant")
	})
	t.Run("redirects", func(t *testing.T) {
		r := spotify(t)
		for _, u := range []string{"http://127.0.0.1:1/callback/spotify", "http://127.0.0.1/callback/spotify"} {
			if !r.callback("redirect_uri", u).Has("code") {
				t.Errorf("%s was refused", u)
			}
		}
		r.pages("Insecure redirect URI", "redirect_uri", "http://localhost:4711/callback/spotify")
		r.pages("Insecure redirect URI", "redirect_uri", "http://evil.example/callback/spotify")
		r.pages("Invalid redirect URI", "redirect_uri", "http://127.0.0.1:4711/other")
		r.pages("Invalid redirect URI", "redirect_uri", "http://[::1]:4711/callback/spotify")
		r.pages("Invalid redirect URI", "redirect_uri", "")
		if r.Register("http://localhost:8080/cb") == nil || r.Register("http://[::1]/cb") != nil || r.Register("https://app.example/cb") != nil {
			t.Error("the dashboard takes the wrong redirect URIs")
		}
		if err := r.Register("http://127.0.0.1:9000/fixed"); err != nil {
			t.Fatal(err)
		}
		r.pages("Invalid redirect URI", "redirect_uri", "http://127.0.0.1:9001/fixed")
	})
	t.Run("refusals", func(t *testing.T) {
		r := spotify(t)
		r.pages("Invalid client", "client_id", "x")
		r.comesBack("unsupported_response_type", "response_type", "token")
		r.comesBack("invalid_scope", "scope", "everything")
		r.pages("S256", "code_challenge_method", "plain")
		code := func() string { return r.callback().Get("code") }
		want(t, r.exchange("x"), 400, "invalid_grant")
		want(t, r.exchange(code(), "code_verifier", ""), 400, "invalid_request")
		want(t, r.exchange(code(), "code_verifier", strings.Repeat("x", 43)), 400, "invalid_grant")
		want(t, r.exchange(code(), "client_secret", "wrong"), 400, "invalid_client")
		want(t, r.exchange(code(), "redirect_uri", "http://127.0.0.1:1/callback/spotify"), 400, "invalid_grant")
		want(t, r.post(r.tokens, r.exchangeForm(code()), r.ClientID, "wrong"), 400, "invalid_client")
		want(t, r.exchange(r.callback("code_challenge", "", "code_challenge_method", "").Get("code"), "client_secret", "", "code_verifier", ""), 400, "invalid_client")
		want(t, r.post(r.tokens, url.Values{"grant_type": {"client_credentials"}, "client_id": {r.ClientID}}), 400, "invalid_client")
		want(t, r.refresh("x"), 400, "invalid_grant")
		k := code()
		r.exchange(k)
		want(t, r.exchange(k), 400, "invalid_grant")
		r.Deny(true)
		r.comesBack("access_denied")
	})
	t.Run("client credentials", func(t *testing.T) {
		r := spotify(t)
		a := r.post(r.tokens, url.Values{"grant_type": {"client_credentials"}}, r.ClientID, r.ClientSecret.Reveal())
		if a.status != 200 || a.body["refresh_token"] != nil || a.body["scope"] != nil {
			t.Errorf("status %d", a.status)
		}
		if me := r.get("api.spotify.com/v1/me", a.str("access_token")); me.status != 401 {
			t.Errorf("me: status %d", me.status)
		}
	})
}

func gitHub(t *testing.T) *rig {
	return &rig{Fake: fakes.GitHub(t), t: t, authorize: "github.com/login/oauth/authorize", tokens: "github.com/login/oauth/access_token",
		redirect: "http://127.0.0.1:4711/callback/github", scope: "repo gist repo:status", pkce: true}
}

func TestGitHub(t *testing.T) {
	t.Run("web flow", func(t *testing.T) {
		r := gitHub(t)
		a := r.connect()
		if a.str("scope") != "repo,gist" || a.body["expires_in"] != nil || a.body["refresh_token"] != nil || a.str("token_type") != "bearer" {
			t.Errorf("scope %q", a.str("scope"))
		}
		me := r.get("api.github.com/user", a.str("access_token"))
		if me.str("login") != "alice" || me.body["id"] != 1001.0 || me.header.Get("X-OAuth-Scopes") != "repo, gist" {
			t.Errorf("user: %v", me.body)
		}
	})
	t.Run("answers are forms unless JSON is asked for", func(t *testing.T) {
		r := gitHub(t)
		v := r.exchangeForm(r.callback().Get("code"), "client_secret", r.ClientSecret.Reveal())
		resp, err := http.PostForm(r.URL+"/"+r.tokens, v)
		if err != nil {
			t.Fatal("no answer")
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		q, err := url.ParseQuery(string(b))
		if err != nil || !strings.HasPrefix(q.Get("access_token"), "gho_") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
			t.Errorf("content type %q", resp.Header.Get("Content-Type"))
		}
	})
	t.Run("errors come with 200", func(t *testing.T) {
		r := gitHub(t)
		code := func() string { return r.callback().Get("code") }
		want(t, r.exchange(code(), "client_secret", ""), 200, "incorrect_client_credentials")
		want(t, r.exchange(code(), "client_secret", "wrong"), 200, "incorrect_client_credentials")
		want(t, r.exchange("x"), 200, "bad_verification_code")
		want(t, r.exchange(code(), "code_verifier", "x"), 200, "bad_verification_code")
		want(t, r.exchange(code(), "redirect_uri", "http://127.0.0.1:1/callback/github"), 200, "redirect_uri_mismatch")
		want(t, r.exchange(code(), "grant_type", "password"), 200, "unsupported_grant_type")
		want(t, r.refresh("x"), 200, "bad_refresh_token")
		k := code()
		r.exchange(k)
		want(t, r.exchange(k), 200, "bad_verification_code")
		late := code()
		r.Advance(11 * time.Minute)
		want(t, r.exchange(late), 200, "bad_verification_code")
	})
	t.Run("redirects", func(t *testing.T) {
		r := gitHub(t)
		for _, u := range []string{"http://127.0.0.1:1/callback/github", "http://127.0.0.1/callback/github/below"} {
			if !r.callback("redirect_uri", u).Has("code") {
				t.Errorf("%s was refused", u)
			}
		}
		for _, u := range []string{"http://localhost:1/callback/github", "http://127.0.0.1:1/callback", "http://127.0.0.1:1/callback/githubs", "https://127.0.0.1:1/callback/github"} {
			r.comesBack("redirect_uri_mismatch", "redirect_uri", u)
		}
		r.pages("not found", "client_id", "x")
	})
	t.Run("offline_access", func(t *testing.T) {
		r := gitHub(t)
		a := r.connect("scope", "repo offline_access")
		if a.body["expires_in"] != 28800.0 || a.body["refresh_token_expires_in"] != 15897600.0 {
			t.Errorf("expires_in %v", a.body["expires_in"])
		}
		b := r.refresh(a.str("refresh_token"))
		if b.status != 200 || b.str("refresh_token") == "" || r.Active(secret.New(a.str("access_token"))) {
			t.Error("a refresh must end the old access token")
		}
		want(t, r.refresh(a.str("refresh_token")), 200, "bad_refresh_token")
		want(t, r.refresh(b.str("refresh_token"), "client_secret", ""), 200, "incorrect_client_credentials")
	})
	t.Run("device flow", func(t *testing.T) {
		r := gitHub(t)
		d := r.post("github.com/login/device/code", url.Values{"client_id": {r.ClientID}, "scope": {"repo"}})
		if d.body["interval"] != 5.0 || len(d.str("user_code")) != 9 || len(d.str("device_code")) != 40 || !strings.HasPrefix(d.str("verification_uri"), r.URL) {
			t.Fatalf("status %d", d.status)
		}
		if page := r.get(strings.TrimPrefix(d.str("verification_uri"), r.URL+"/")); page.status != 200 || !strings.Contains(page.text, "<form") {
			t.Errorf("the page: status %d", page.status)
		}
		poll := func() answer {
			return r.post(r.tokens, url.Values{"client_id": {r.ClientID}, "device_code": {d.str("device_code")}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}})
		}
		want(t, poll(), 200, "authorization_pending")
		slow := poll()
		want(t, slow, 200, "slow_down")
		if slow.body["interval"] != 10.0 {
			t.Errorf("interval %v", slow.body["interval"])
		}
		if err := r.ApproveDevice(t.Context(), "WRONG"); err == nil {
			t.Error("a wrong code was accepted")
		}
		if err := r.ApproveDevice(t.Context(), strings.ToLower(d.str("user_code"))); err != nil {
			t.Fatal(err)
		}
		r.Advance(10 * time.Second)
		if a := poll(); a.status != 200 || a.str("access_token") == "" {
			t.Errorf("status %d, error %q", a.status, a.str("error"))
		}
		want(t, poll(), 200, "incorrect_device_code")
		if bad := r.post("github.com/login/device/code", url.Values{"client_id": {"x"}}); bad.status != 404 {
			t.Errorf("unknown client: status %d", bad.status)
		}
	})
	t.Run("device flow ends", func(t *testing.T) {
		r := gitHub(t)
		begin := func() answer {
			return r.post("github.com/login/device/code", url.Values{"client_id": {r.ClientID}, "scope": {"repo"}})
		}
		poll := func(d answer) answer {
			return r.post(r.tokens, url.Values{"client_id": {r.ClientID}, "device_code": {d.str("device_code")}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}})
		}
		denied, late := begin(), begin()
		r.Deny(true)
		if err := r.ApproveDevice(t.Context(), denied.str("user_code")); err != nil {
			t.Fatal(err)
		}
		want(t, poll(denied), 200, "access_denied")
		r.Advance(16 * time.Minute)
		want(t, poll(late), 200, "expired_token")
	})
	t.Run("revocation", func(t *testing.T) {
		r := gitHub(t)
		one, two := r.connect().str("access_token"), r.connect().str("access_token")
		path := "api.github.com/applications/" + r.ClientID + "/grant"
		body := `{"access_token":"` + one + `"}`
		if a := r.send(http.MethodDelete, path, "application/json", body, r.ClientID, "wrong"); a.status != 404 {
			t.Errorf("wrong secret: status %d", a.status)
		}
		if a := r.send(http.MethodDelete, path, "application/json", body, r.ClientID, r.ClientSecret.Reveal()); a.status != 204 {
			t.Errorf("status %d", a.status)
		}
		if r.get("api.github.com/user", one).status != 401 || r.Active(secret.New(two)) {
			t.Error("the grant lives on")
		}
		if a := r.send(http.MethodDelete, path, "application/json", body, r.ClientID, r.ClientSecret.Reveal()); a.status != 404 {
			t.Errorf("gone: status %d", a.status)
		}
		three := r.connect().str("access_token")
		list := `{"credentials":["` + three + `"]}`
		if a := r.send(http.MethodPost, "api.github.com/credentials/revoke", "application/json", list, three); a.status != 403 {
			t.Errorf("authenticated: status %d", a.status)
		}
		if a := r.send(http.MethodPost, "api.github.com/credentials/revoke", "application/json", list); a.status != 202 || r.Active(secret.New(three)) {
			t.Errorf("status %d", a.status)
		}
	})
}

func google(t *testing.T) *rig {
	return &rig{Fake: fakes.Google(t), t: t, authorize: "accounts.google.com/o/oauth2/v2/auth", tokens: "oauth2.googleapis.com/token",
		redirect: "http://127.0.0.1:4711/callback/google", scope: "openid email", pkce: true}
}

func TestGoogle(t *testing.T) {
	offline := []string{"access_type", "offline", "prompt", "consent"}
	t.Run("installed app", func(t *testing.T) {
		r := google(t)
		q := r.callback(offline...)
		if q.Get("iss") != r.URL+"/accounts.google.com" || !q.Has("scope") {
			t.Errorf("iss %q", q.Get("iss"))
		}
		a := r.exchange(q.Get("code"))
		if a.status != 200 || a.body["expires_in"] != 3599.0 || a.str("scope") != "openid https://www.googleapis.com/auth/userinfo.email" || a.str("refresh_token") == "" {
			t.Fatalf("status %d, scope %q", a.status, a.str("scope"))
		}
		me := r.get("openidconnect.googleapis.com/v1/userinfo", a.str("access_token"))
		if me.str("email") != "alice@example.com" || me.body["name"] != nil {
			t.Errorf("userinfo: %v", me.body)
		}
		if b := r.refresh(a.str("refresh_token")); b.status != 200 || b.str("refresh_token") != "" {
			t.Errorf("refresh: status %d", b.status)
		}
		rev := r.post("oauth2.googleapis.com/revoke", url.Values{"token": {a.str("access_token")}})
		if rev.status != 200 || r.Active(secret.New(a.str("refresh_token"))) {
			t.Errorf("revoke: status %d", rev.status)
		}
		want(t, r.post("oauth2.googleapis.com/revoke", url.Values{"token": {a.str("access_token")}}), 400, "invalid_token")
		want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
	})
	t.Run("when a refresh token comes", func(t *testing.T) {
		r := google(t)
		for _, c := range []struct {
			pairs []string
			want  bool
		}{
			{nil, false}, // first consent, but online
			{[]string{"access_type", "offline"}, false},
			{offline, true},
			{[]string{"prompt", "consent"}, false},
		} {
			if a := r.connect(c.pairs...); (a.str("refresh_token") != "") != c.want {
				t.Errorf("%v: refresh token %t", c.pairs, !c.want)
			}
		}
	})
	t.Run("redirects", func(t *testing.T) {
		r := google(t)
		for _, u := range []string{"http://127.0.0.1:1", "http://[::1]:2/any/path"} {
			if !r.callback("redirect_uri", u).Has("code") {
				t.Errorf("%s was refused", u)
			}
		}
		for _, u := range []string{"http://localhost:1/", "https://127.0.0.1:1/", "http://evil.example/", ""} {
			r.pages("redirect_uri_mismatch", "redirect_uri", u)
		}
	})
	t.Run("refusals", func(t *testing.T) {
		r := google(t)
		code := func() string { return r.callback(offline...).Get("code") }
		r.pages("invalid_client", "client_id", "x")
		r.pages("invalid_scope", "scope", "everything")
		r.pages("Missing required parameter: scope", "scope", "")
		want(t, r.exchange(code(), "client_secret", ""), 400, "invalid_request")
		want(t, r.exchange(code(), "client_secret", "wrong"), 401, "invalid_client")
		want(t, r.exchange(code(), "code_verifier", ""), 400, "invalid_grant")
		want(t, r.exchange(code(), "code_verifier", "x"), 400, "invalid_grant")
		want(t, r.exchange(code(), "redirect_uri", "http://127.0.0.1:1/"), 400, "redirect_uri_mismatch")
		want(t, r.exchange("x"), 400, "invalid_grant")
		want(t, r.exchange("x", "client_id", "x"), 401, "invalid_client")
	})
	t.Run("device flow", func(t *testing.T) {
		r := google(t)
		id := fakes.GoogleDevice(r.Fake)
		want(t, r.post("oauth2.googleapis.com/device/code", url.Values{"client_id": {r.ClientID}, "scope": {"email"}}), 401, "invalid_client")
		want(t, r.post("oauth2.googleapis.com/device/code", url.Values{"client_id": {id}, "scope": {"https://www.googleapis.com/auth/drive"}}), 400, "invalid_scope")
		d := r.post("oauth2.googleapis.com/device/code", url.Values{"client_id": {id}, "scope": {"openid email"}})
		if d.status != 200 || d.str("verification_url") == "" || d.body["verification_uri"] != nil {
			t.Fatalf("status %d", d.status)
		}
		poll := func(s string) answer {
			return r.post(r.tokens, url.Values{"client_id": {id}, "client_secret": {s}, "device_code": {d.str("device_code")}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}})
		}
		want(t, poll("wrong"), 401, "invalid_client")
		want(t, poll(r.ClientSecret.Reveal()), 428, "authorization_pending")
		want(t, poll(r.ClientSecret.Reveal()), 403, "slow_down")
		if err := r.ApproveDevice(t.Context(), d.str("user_code")); err != nil {
			t.Fatal(err)
		}
		r.Advance(5 * time.Second)
		if a := poll(r.ClientSecret.Reveal()); a.status != 200 || a.str("refresh_token") == "" {
			t.Errorf("status %d, error %q", a.status, a.str("error"))
		}
	})
}

func keycloak(t *testing.T) *rig {
	base := "sso.example.com/realms/x/protocol/openid-connect/"
	return &rig{Fake: fakes.Keycloak(t), t: t, authorize: base + "auth", tokens: base + "token",
		redirect: "http://127.0.0.1:4711/callback/keycloak", scope: "openid offline_access", pkce: true}
}

func TestKeycloak(t *testing.T) {
	base := "sso.example.com/realms/x/protocol/openid-connect/"
	t.Run("discovery", func(t *testing.T) {
		r := keycloak(t)
		for _, path := range []string{"sso.example.com/realms/x/.well-known/openid-configuration", ".well-known/oauth-authorization-server/sso.example.com/realms/x"} {
			m := r.get(path)
			if m.str("issuer") != fakes.KeycloakIssuer(r.Fake) || m.str("token_endpoint") != r.URL+"/"+r.tokens {
				t.Errorf("%s: status %d, issuer %q", path, m.status, m.str("issuer"))
			}
		}
		if r.get("sso.example.com/realms/y/.well-known/openid-configuration").status != 404 {
			t.Error("another realm exists")
		}
	})
	t.Run("rotation", func(t *testing.T) {
		r := keycloak(t)
		q := r.callback()
		if q.Get("iss") != fakes.KeycloakIssuer(r.Fake) {
			t.Errorf("iss %q", q.Get("iss"))
		}
		a := r.post(r.tokens, r.exchangeForm(q.Get("code")), r.ClientID, r.ClientSecret.Reveal())
		if a.status != 200 || a.body["refresh_expires_in"] != 0.0 || a.str("id_token") == "" {
			t.Fatalf("status %d, error %q", a.status, a.str("error"))
		}
		r.Advance(time.Hour)
		b := r.refresh(a.str("refresh_token"))
		if b.status != 200 || b.str("refresh_token") == "" {
			t.Fatalf("status %d", b.status)
		}
		want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
		me := r.get(base+"userinfo", b.str("access_token"))
		if me.str("preferred_username") != "alice" {
			t.Errorf("userinfo: %v", me.body)
		}
		in := r.post(base+"token/introspect", url.Values{"token": {b.str("access_token")}}, r.ClientID, r.ClientSecret.Reveal())
		if in.body["active"] != true {
			t.Error("introspection says dead")
		}
		r.post(base+"revoke", url.Values{"token": {b.str("refresh_token")}}, r.ClientID, r.ClientSecret.Reveal())
		if r.get(base+"userinfo", b.str("access_token")).status != 401 {
			t.Error("revocation left the access token")
		}
		want(t, r.refresh(b.str("refresh_token")), 400, "invalid_grant")
	})
	t.Run("without offline_access", func(t *testing.T) {
		r := keycloak(t)
		a := r.connect("scope", "profile")
		if a.body["refresh_expires_in"] != 1800.0 || a.body["id_token"] != nil {
			t.Errorf("refresh_expires_in %v", a.body["refresh_expires_in"])
		}
		if me := r.get(base+"userinfo", a.str("access_token")); me.status != 403 {
			t.Errorf("userinfo without openid: status %d", me.status)
		}
		r.Advance(31 * time.Minute)
		want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
	})
	t.Run("refusals", func(t *testing.T) {
		r := keycloak(t)
		r.pages("Client not found", "client_id", "x")
		r.pages("redirect_uri", "redirect_uri", "http://localhost:1/callback/keycloak")
		r.pages("redirect_uri", "redirect_uri", "http://127.0.0.1:1/other")
		r.comesBack("invalid_request", "code_challenge_method", "")
		r.comesBack("invalid_request", "code_challenge_method", "plain")
		r.comesBack("invalid_scope", "scope", "openid everything")
		code := func() string { return r.callback().Get("code") }
		want(t, r.exchange(code(), "client_secret", ""), 401, "unauthorized_client")
		want(t, r.exchange(code(), "code_verifier", "x"), 400, "invalid_grant")
		want(t, r.exchange(code(), "code_verifier", ""), 400, "invalid_grant")
		want(t, r.exchange(code(), "redirect_uri", "http://127.0.0.1:1/callback/keycloak"), 400, "invalid_grant")
		k := code()
		a := r.exchange(k)
		want(t, r.exchange(k), 400, "invalid_grant")
		if r.Active(secret.New(a.str("access_token"))) {
			t.Error("a code that came twice left its session")
		}
		r.Deny(true)
		if q := r.callback(); q.Get("error") != "access_denied" || q.Get("iss") == "" {
			t.Errorf("error %q", q.Get("error"))
		}
	})
	t.Run("device and client credentials", func(t *testing.T) {
		r := keycloak(t)
		want(t, r.post(base+"auth/device", url.Values{"client_id": {r.ClientID}}), 401, "unauthorized_client")
		d := r.post(base+"auth/device", url.Values{"scope": {"openid"}}, r.ClientID, r.ClientSecret.Reveal())
		poll := func() answer {
			return r.post(r.tokens, url.Values{"device_code": {d.str("device_code")}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}}, r.ClientID, r.ClientSecret.Reveal())
		}
		want(t, poll(), 400, "authorization_pending")
		if err := r.ApproveDevice(t.Context(), d.str("user_code")); err != nil {
			t.Fatal(err)
		}
		r.Advance(5 * time.Second)
		if a := poll(); a.status != 200 {
			t.Errorf("status %d", a.status)
		}
		a := r.post(r.tokens, url.Values{"grant_type": {"client_credentials"}}, r.ClientID, r.ClientSecret.Reveal())
		if a.status != 200 || a.body["refresh_token"] != nil {
			t.Errorf("status %d", a.status)
		}
	})
}

func box(t *testing.T) *rig {
	return &rig{Fake: fakes.Box(t), t: t, authorize: "account.box.com/api/oauth2/authorize", tokens: "api.box.com/oauth2/token",
		redirect: "http://127.0.0.1:4711/callback/box", scope: "root_readonly"}
}

func TestBox(t *testing.T) {
	t.Run("pair", func(t *testing.T) {
		r := box(t)
		a := r.connect()
		if a.body["scope"] != nil || a.str("token_type") != "bearer" || a.body["restricted_to"] == nil {
			t.Errorf("answer without its oddities")
		}
		if me := r.get("api.box.com/2.0/users/me", a.str("access_token")); me.str("login") != "alice@example.com" || me.str("id") != "1001" {
			t.Errorf("me: %v", me.body)
		}
		b := r.refresh(a.str("refresh_token"))
		want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
		r.Advance(59 * 24 * time.Hour)
		c := r.refresh(b.str("refresh_token"))
		if c.status != 200 {
			t.Fatalf("status %d", c.status)
		}
		revoke := url.Values{"client_id": {r.ClientID}, "client_secret": {r.ClientSecret.Reveal()}, "token": {c.str("access_token")}}
		if rev := r.post("api.box.com/oauth2/revoke", revoke); rev.status != 200 || rev.text != "" || r.Active(secret.New(c.str("refresh_token"))) {
			t.Errorf("revoke: status %d", rev.status)
		}
		want(t, r.post("api.box.com/oauth2/revoke", url.Values{"client_id": {r.ClientID}, "token": {"x"}}), 400, "invalid_client")
	})
	t.Run("60 days", func(t *testing.T) {
		r := box(t)
		rt := r.connect().str("refresh_token")
		r.Advance(61 * 24 * time.Hour)
		want(t, r.refresh(rt), 400, "invalid_grant")
	})
	t.Run("refusals", func(t *testing.T) {
		r := box(t)
		r.pages("client_id", "client_id", "x")
		r.pages("redirect_uri_mismatch", "redirect_uri", "http://127.0.0.1:1/other")
		r.comesBack("invalid_scope", "scope", "everything")
		want(t, r.exchange(r.callback().Get("code"), "client_secret", ""), 400, "invalid_client")
		want(t, r.post(r.tokens, r.exchangeForm(r.callback().Get("code")), r.ClientID, r.ClientSecret.Reveal()), 400, "invalid_client")
		k := r.callback().Get("code")
		r.Advance(31 * time.Second)
		want(t, r.exchange(k), 400, "invalid_grant")
		if err := r.Register("http://localhost/cb"); err != nil {
			t.Fatal(err)
		}
		if !r.callback("redirect_uri", "http://localhost:99/cb").Has("code") {
			t.Error("localhost with a port was refused")
		}
		r.pages("redirect_uri_missing", "redirect_uri", "")
	})
}

func salesforce(t *testing.T) *rig {
	return &rig{Fake: fakes.Salesforce(t), t: t, authorize: "login.salesforce.com/services/oauth2/authorize", tokens: "login.salesforce.com/services/oauth2/token",
		redirect: "http://localhost:8914/callback/salesforce", scope: "api refresh_token openid", pkce: true}
}

func TestSalesforce(t *testing.T) {
	t.Run("answer", func(t *testing.T) {
		r := salesforce(t)
		a := r.connect()
		if a.body["expires_in"] != nil || a.str("instance_url") != r.URL || !strings.HasPrefix(a.str("id"), r.URL+"/id/") || !strings.Contains(a.str("access_token"), "!") {
			t.Errorf("instance_url %q", a.str("instance_url"))
		}
		if me := r.get("login.salesforce.com/services/oauth2/userinfo", a.str("access_token")); me.str("preferred_username") != "alice@example.com" {
			t.Errorf("userinfo: status %d", me.status)
		}
		if id := r.get(strings.TrimPrefix(a.str("id"), r.URL+"/"), a.str("access_token")); id.str("user_id") != "0051001" {
			t.Errorf("identity: status %d", id.status)
		}
		r.Advance(3 * time.Hour)
		if q := r.get("services/data/v60.0/query", a.str("access_token")); q.status != 401 || !strings.Contains(q.text, "INVALID_SESSION_ID") {
			t.Errorf("query: status %d", q.status)
		}
	})
	t.Run("reuse ends the grant", func(t *testing.T) {
		r := salesforce(t)
		a := r.connect()
		b := r.refresh(a.str("refresh_token"))
		if b.str("refresh_token") == "" {
			t.Fatal("no rotation")
		}
		want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
		want(t, r.refresh(b.str("refresh_token")), 400, "invalid_grant")
		if r.Active(secret.New(b.str("access_token"))) || r.Stats().Reuse != 1 {
			t.Error("the access token survived")
		}
	})
	t.Run("refusals", func(t *testing.T) {
		r := salesforce(t)
		r.pages("invalid_client_id", "client_id", "x")
		r.pages("redirect_uri_mismatch", "redirect_uri", "http://localhost:8915/callback/salesforce")
		r.pages("redirect_uri_mismatch", "redirect_uri", "http://127.0.0.1:8914/callback/salesforce")
		r.comesBack("invalid_request", "code_challenge", "", "code_challenge_method", "")
		r.comesBack("invalid_scope", "scope", "everything")
		if r.Register("http://127.0.0.1:8914/cb") == nil {
			t.Error("a loopback address was registered")
		}
		want(t, r.exchange(r.callback().Get("code"), "client_secret", ""), 400, "invalid_client")
		want(t, r.exchange(r.callback().Get("code"), "code_verifier", ""), 400, "invalid_request")
		want(t, r.exchange(r.callback().Get("code"), "code_verifier", "x"), 400, "invalid_grant")
		if r.connect("scope", "api").body["refresh_token"] != nil {
			t.Error("a refresh token without the scope for it")
		}
	})
	t.Run("revocation", func(t *testing.T) {
		r := salesforce(t)
		a := r.connect()
		path := "login.salesforce.com/services/oauth2/revoke"
		if rev := r.post(path, url.Values{"token": {a.str("refresh_token")}}); rev.status != 200 || r.Active(secret.New(a.str("access_token"))) {
			t.Errorf("status %d", rev.status)
		}
		want(t, r.post(path, url.Values{"token": {a.str("refresh_token")}}), 400, "invalid_token")
	})
}

func stripe(t *testing.T) *rig {
	return &rig{Fake: fakes.StripeConnect(t), t: t, authorize: "connect.stripe.com/oauth/authorize", tokens: "connect.stripe.com/oauth/token",
		redirect: "http://localhost:8914/callback/stripe", scope: "read_write"}
}

func TestStripeConnect(t *testing.T) {
	r := stripe(t)
	code := r.callback().Get("code")
	a := r.post(r.tokens, r.exchangeForm(code), r.ClientSecret.Reveal(), "")
	if a.status != 200 || a.str("stripe_user_id") != "acct_1001" || a.body["livemode"] != false || a.body["expires_in"] != nil {
		t.Fatalf("status %d, error %q", a.status, a.str("error"))
	}
	if b := r.refresh(a.str("refresh_token")); b.status != 200 || b.str("refresh_token") != a.str("refresh_token") {
		t.Errorf("refresh: status %d", b.status)
	}
	if acct := r.get("api.stripe.com/v1/account", a.str("access_token")); acct.str("id") != "acct_1001" {
		t.Errorf("account: status %d", acct.status)
	}
	want(t, r.post(r.tokens, r.exchangeForm("x"), r.ClientID, r.ClientSecret.Reveal()), 401, "invalid_client")
	want(t, r.exchange("x", "client_secret", ""), 401, "invalid_client")
	want(t, r.exchange("x"), 400, "invalid_grant")
	r.pages("redirect", "redirect_uri", "http://localhost:8915/callback/stripe")
	r.pages("client identifier", "client_id", "x")
	r.comesBack("invalid_scope", "scope", "everything")

	deauthorize := func(account string) answer {
		return r.post("connect.stripe.com/oauth/deauthorize", url.Values{"client_id": {r.ClientID}, "stripe_user_id": {account}}, r.ClientSecret.Reveal(), "")
	}
	want(t, deauthorize("acct_other"), 401, "invalid_client")
	if d := deauthorize("acct_1001"); d.status != 200 || d.str("stripe_user_id") != "acct_1001" || r.Active(secret.New(a.str("access_token"))) {
		t.Errorf("deauthorize: status %d", d.status)
	}
	want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")

	again := r.callback().Get("code")
	b := r.exchange(again)
	want(t, r.exchange(again), 400, "invalid_grant")
	if r.Active(secret.New(b.str("access_token"))) {
		t.Error("a code that came twice left its token")
	}
}

func contentful(t *testing.T) *rig {
	return &rig{Fake: fakes.Contentful(t), t: t, authorize: "be.contentful.com/oauth/authorize", tokens: "be.contentful.com/oauth/token",
		redirect: "https://localhost/callback/contentful", scope: "content_management_read"}
}

func TestContentful(t *testing.T) {
	r := contentful(t)
	a := r.connect()
	if a.body["scope"] != nil || a.body["refresh_token"] != nil {
		t.Error("an answer with scope or refresh token")
	}
	if r.Register("http://127.0.0.1/cb") == nil {
		t.Error("http was registered")
	}
	r.pages("redirect uri", "redirect_uri", "http://127.0.0.1:1/callback/contentful")
	r.comesBack("invalid_scope", "scope", "everything")
	want(t, r.exchange(r.callback().Get("code"), "client_secret", ""), 401, "invalid_client")
	want(t, r.exchange("x"), 400, "invalid_grant")
	if err := r.Approve(t.Context(), r.request()); err == nil || !strings.Contains(err.Error(), "paste") {
		t.Errorf("approve: %v", err)
	}
	loc, err := r.Consent(t.Context(), r.request("response_type", "token"))
	if err != nil || !strings.Contains(loc, "#access_token=") {
		t.Error("the implicit flow gave no token in the fragment")
	}

	list := r.get("api.contentful.com/users/me/access_tokens", a.str("access_token"))
	items, _ := list.body["items"].([]any)
	token := a.str("access_token")
	id := ""
	for _, i := range items {
		sys, _ := i.(map[string]any)["sys"].(map[string]any)
		if sys["redactedValue"] == token[len(token)-4:] {
			id, _ = sys["id"].(string)
		}
	}
	if id == "" || strings.Contains(list.text, token) {
		t.Fatalf("%d items, token shown %t", len(items), strings.Contains(list.text, token))
	}
	put := r.send(http.MethodPut, "api.contentful.com/users/me/access_tokens/"+id+"/revoked", "", "", token)
	if put.status != 200 || r.get("api.contentful.com/users/me", token).status != 401 {
		t.Errorf("revoke: status %d", put.status)
	}
}

func TestApprove(t *testing.T) {
	var got url.Values
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Query() }))
	defer app.Close()
	r := spotify(t)
	r.SignInAs("bob")
	r.GrantOnly(1)
	r.redirect = app.URL + "/callback/spotify"
	if err := r.Approve(t.Context(), r.request()); err != nil {
		t.Fatal(err)
	}
	a := r.exchange(got.Get("code"))
	if a.str("scope") != "user-read-private" || r.get("api.spotify.com/v1/me", a.str("access_token")).str("id") != "bob" {
		t.Errorf("scope %q", a.str("scope"))
	}
	r.RemoveAccess()
	want(t, r.refresh(a.str("refresh_token")), 400, "invalid_grant")
	if err := r.Approve(t.Context(), app.URL); err == nil {
		t.Error("a foreign URL was opened")
	}
}

// all starts every fake.
func all(t *testing.T) []*fakes.Fake {
	return []*fakes.Fake{
		fakes.Spotify(t), fakes.GitHub(t), fakes.Google(t), fakes.Keycloak(t), fakes.Box(t), fakes.Salesforce(t), fakes.StripeConnect(t), fakes.Contentful(t),
	}
}

// TestDefinitions holds what the fakes say about themselves, and the catalogue
// entries turned toward them, against the strict parser.
func TestDefinitions(t *testing.T) {
	for _, f := range all(t) {
		p, err := providers.Parse(f.ID+".yaml", f.Definition, providers.User)
		if err != nil {
			t.Errorf("%s: %v", f.ID, err)
		} else if p.ClientID != f.ClientID || p.ID != f.ID {
			t.Errorf("%s: id %q", f.ID, p.ID)
		}
		entry := entryOf(t, f)
		if entry == nil {
			continue
		}
		out, err := f.Rewrite(entry)
		if err != nil {
			t.Error(err)
			continue
		}
		p, err = providers.Parse(f.ID+".yaml", out, providers.User)
		if err != nil {
			t.Errorf("%s: %v", f.ID, err)
			continue
		}
		for _, u := range []string{p.AuthorizationEndpoint, p.TokenEndpoint, p.RevocationEndpoint, p.UserinfoEndpoint, p.DeviceAuthorizationEndpoint, p.IntrospectionEndpoint} {
			if u != "" && !strings.HasPrefix(u, f.URL+"/") {
				t.Errorf("%s: %s does not lead to the fake", f.ID, u)
			}
		}
		if !slices.Equal(p.API.Hosts, []string{f.Host()}) {
			t.Errorf("%s: hosts %v", f.ID, p.API.Hosts)
		}
		pins, err := (&providers.Definition{Provider: p, Origin: providers.User}).Pin(providers.PinOptions{Flow: "browser", ClientID: f.ClientID, HasSecret: true})
		if err != nil {
			t.Errorf("%s: %v", f.ID, err)
			continue
		}
		kept := map[string]string{}
		for _, k := range p.Token.Keep {
			if kept[k] = "x"; k == "instance_url" {
				kept[k] = f.URL
			}
		}
		if err := pins.BindAPI(kept); err != nil {
			t.Errorf("%s: %v", f.ID, err)
		} else if !pins.AllowsHost(f.Host()) {
			t.Errorf("%s: the pins do not allow %s", f.ID, f.Host())
		}
	}
}
