package peers_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// The tests here prove the peer, not apiauth: what they find out by hand is what
// the tests of apiauth rely on.

const redirect = "http://127.0.0.1:9/callback/peer"

// token posts to the token end point and returns the status and the answer.
func token(t *testing.T, is *peers.IssuerProc, client peers.Client, form url.Values) (int, map[string]any) {
	t.Helper()
	if client.Method != "client_secret_basic" {
		form.Set("client_id", client.ID)
	}
	if client.Method == "client_secret_post" {
		form.Set("client_secret", client.Secret.Reveal())
	}
	return post(t, is.URL+"/token", client, form)
}

func post(t *testing.T, address string, client peers.Client, form url.Values) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if client.Method == "client_secret_basic" {
		req.SetBasicAuth(url.QueryEscape(client.ID), url.QueryEscape(client.Secret.Reveal()))
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, nil
	}
	answer := map[string]any{}
	if len(body) > 0 && json.Unmarshal(body, &answer) != nil {
		return res.StatusCode, nil
	}
	return res.StatusCode, answer
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

// authorize walks the browser's part of a login and returns what the client's
// redirect URI was called with.
func authorize(t *testing.T, is *peers.IssuerProc, v *peers.Visitor, client peers.Client, verifier, scope string) url.Values {
	t.Helper()
	query := url.Values{
		"client_id": {client.ID}, "response_type": {"code"}, "redirect_uri": {redirect}, "state": {"from the test"},
		"scope": {scope}, "code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
	return visit(t, v, is.URL+"/auth?"+query.Encode())
}

func visit(t *testing.T, v *peers.Visitor, address string) url.Values {
	t.Helper()
	at, err := v.Visit(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(at.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// connect does a whole login and returns the token answer.
func connect(t *testing.T, is *peers.IssuerProc, client peers.Client, scope string) map[string]any {
	t.Helper()
	verifier := oauth2.GenerateVerifier()
	back := authorize(t, is, &peers.Visitor{Stay: true}, client, verifier, scope)
	if back.Get("state") != "from the test" || back.Get("iss") != is.URL || back.Get("code") == "" {
		t.Fatalf("the callback lacks state, iss or code: %v", keys(back))
	}
	status, answer := token(t, is, client, url.Values{
		"grant_type": {"authorization_code"}, "code": {back.Get("code")}, "code_verifier": {verifier}, "redirect_uri": {redirect},
	})
	if status != http.StatusOK || text(answer, "access_token") == "" || text(answer, "refresh_token") == "" {
		t.Fatalf("the exchange answered %d with error %q", status, text(answer, "error"))
	}
	return answer
}

func keys(v url.Values) (names []string) {
	for k := range v {
		names = append(names, k)
	}
	return names
}

func refresh(t *testing.T, is *peers.IssuerProc, client peers.Client, refreshToken string) (int, map[string]any) {
	t.Helper()
	return token(t, is, client, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
}

func TestIssuer(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{})

	for name, client := range map[string]peers.Client{"public": is.Public, "basic": is.Confidential, "post": is.Post} {
		t.Run("login with a "+name+" client", func(t *testing.T) {
			answer := connect(t, is, client, "openid profile api:read")
			if got := text(answer, "scope"); got != "openid profile api:read" {
				t.Errorf("granted %q", got)
			}
			if !is.Active(t, secret.New(text(answer, "access_token"))) || !is.Active(t, secret.New(text(answer, "refresh_token"))) {
				t.Error("the tokens do not live")
			}
		})
	}

	t.Run("without PKCE there is no code", func(t *testing.T) {
		query := url.Values{"client_id": {is.Public.ID}, "response_type": {"code"}, "redirect_uri": {redirect}, "scope": {"openid"}}
		if back := visit(t, &peers.Visitor{Stay: true}, is.URL+"/auth?"+query.Encode()); back.Get("error") != "invalid_request" || back.Has("code") {
			t.Errorf("the callback got error %q", back.Get("error"))
		}
	})

	t.Run("consent denied", func(t *testing.T) {
		back := authorize(t, is, &peers.Visitor{Stay: true, Deny: true}, is.Public, oauth2.GenerateVerifier(), "openid")
		if back.Get("error") != "access_denied" || back.Get("state") == "" {
			t.Errorf("the callback got error %q", back.Get("error"))
		}
	})

	t.Run("an https redirect is not followed", func(t *testing.T) {
		query := url.Values{
			"client_id": {is.Paste.ID}, "response_type": {"code"}, "redirect_uri": {"https://app.example.test/callback"}, "scope": {"openid"},
			"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
		}
		if back := visit(t, &peers.Visitor{}, is.URL+"/auth?"+query.Encode()); back.Get("code") == "" {
			t.Errorf("no code; error %q", back.Get("error"))
		}
	})

	t.Run("reuse of a refresh token ends the family", func(t *testing.T) {
		first := connect(t, is, is.Public, "openid")
		status, second := refresh(t, is, is.Public, text(first, "refresh_token"))
		if status != http.StatusOK || text(second, "refresh_token") == text(first, "refresh_token") {
			t.Fatalf("the refresh answered %d, or did not rotate", status)
		}
		before := is.Stats(t)
		if status, answer := refresh(t, is, is.Public, text(first, "refresh_token")); status != http.StatusBadRequest || text(answer, "error") != "invalid_grant" {
			t.Errorf("the reuse answered %d, error %q", status, text(answer, "error"))
		}
		for _, name := range []string{"access_token", "refresh_token"} {
			if is.Active(t, secret.New(text(second, name))) {
				t.Errorf("the newest %s still lives", name)
			}
		}
		after := is.Stats(t)
		if after.Reused != before.Reused+1 || after.Revoked == before.Revoked {
			t.Errorf("reuses went from %d to %d, ended grants from %d to %d", before.Reused, after.Reused, before.Revoked, after.Revoked)
		}
	})

	t.Run("revocation", func(t *testing.T) {
		answer := connect(t, is, is.Public, "openid")
		status, _ := post(t, is.URL+"/token/revocation", is.Public, url.Values{"client_id": {is.Public.ID}, "token": {text(answer, "refresh_token")}})
		if status != http.StatusOK || is.Active(t, secret.New(text(answer, "refresh_token"))) || is.Active(t, secret.New(text(answer, "access_token"))) {
			t.Errorf("revocation answered %d, or something still lives", status)
		}
	})

	t.Run("device flow", func(t *testing.T) {
		_, start := post(t, is.URL+"/device/auth", is.Public, url.Values{"client_id": {is.Public.ID}, "scope": {"openid api:read"}})
		poll := func() (int, map[string]any) {
			return token(t, is, is.Public, url.Values{
				"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {text(start, "device_code")},
			})
		}
		if _, answer := poll(); text(answer, "error") != "authorization_pending" {
			t.Fatalf("before consent the error is %q", text(answer, "error"))
		}
		v := &peers.Visitor{UserCode: text(start, "user_code")}
		at, err := v.Visit(t.Context(), text(start, "verification_uri"))
		if err != nil || !strings.Contains(at.Text, "Device connected") {
			t.Fatalf("the visit ended with status %d, error %v", at.Status, err)
		}
		if status, answer := poll(); status != http.StatusOK || text(answer, "refresh_token") == "" {
			t.Errorf("after consent %d, error %q", status, text(answer, "error"))
		}
	})

	t.Run("client credentials", func(t *testing.T) {
		status, answer := token(t, is, is.Machine, url.Values{"grant_type": {"client_credentials"}, "scope": {"api:read"}})
		if status != http.StatusOK || text(answer, "access_token") == "" || text(answer, "refresh_token") != "" {
			t.Errorf("answered %d, error %q", status, text(answer, "error"))
		}
	})

	t.Run("the API knows a live token from a dead one", func(t *testing.T) {
		answer := connect(t, is, is.Public, "openid")
		call := func() int {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, is.API+"me", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+text(answer, "access_token"))
			res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			return res.StatusCode
		}
		if got := call(); got != http.StatusOK {
			t.Errorf("live: %d", got)
		}
		post(t, is.URL+"/token/revocation", is.Public, url.Values{"client_id": {is.Public.ID}, "token": {text(answer, "access_token")}})
		if got := call(); got != http.StatusUnauthorized {
			t.Errorf("dead: %d", got)
		}
	})
}

func TestIssuerFaults(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{Auto: true})
	machine := func() (int, map[string]any) {
		return token(t, is, is.Machine, url.Values{"grant_type": {"client_credentials"}})
	}
	for mode, want := range map[string]int{
		"drop-before-commit": 0, "truncate": 0, "429": 429, "500": 500, "503": 503, "html": 200, "invalid_grant": 400,
	} {
		is.Fail(t, peers.Fault{Mode: mode})
		if got, answer := machine(); got != want || text(answer, "access_token") != "" {
			t.Errorf("%s: status %d, want %d and no token", mode, got, want)
		}
		if got, _ := machine(); got != http.StatusOK {
			t.Errorf("after %s: status %d, want 200", mode, got)
		}
	}
	is.Fail(t, peers.Fault{Mode: "503", Count: 3})
	is.Fail(t, peers.Fault{Mode: "clear"})
	if got, _ := machine(); got != http.StatusOK {
		t.Errorf("after clear: status %d, want 200", got)
	}

	answer := connect(t, is, is.Public, "openid")
	is.Fail(t, peers.Fault{Mode: "drop-after-commit"})
	if got, _ := refresh(t, is, is.Public, text(answer, "refresh_token")); got != 0 {
		t.Errorf("the lost answer came with status %d", got)
	}
	if _, again := refresh(t, is, is.Public, text(answer, "refresh_token")); text(again, "error") != "invalid_grant" {
		t.Error("the rotation behind the lost answer did not happen")
	}
	s := is.Stats(t)
	if s.Tokens["refresh_token"] != 2 || s.Granted["refresh_token"] != 1 || s.Refused["refresh_token invalid_grant"] != 1 {
		t.Errorf("counted requests %v, granted %v, refused %v", s.Tokens, s.Granted, s.Refused)
	}
}

func TestIssuerOptions(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{NoRotation: true, Auto: true, Account: "bob", WithholdScopes: []string{"api:write"}})
	answer := connect(t, is, is.Public, "openid api:read api:write")
	if got := text(answer, "scope"); got != "openid api:read" {
		t.Errorf("granted %q, want less than was asked for", got)
	}
	if _, next := refresh(t, is, is.Public, text(answer, "refresh_token")); text(next, "refresh_token") != text(answer, "refresh_token") {
		t.Error("the refresh token changed")
	}
	is.Set(t, peers.IssuerOptions{Auto: true, AccessTTL: 2e9})
	_, next := refresh(t, is, is.Public, text(answer, "refresh_token"))
	if got := next["expires_in"]; got != 2.0 {
		t.Errorf("expires_in is %v, want 2", got)
	}
	if text(next, "refresh_token") == text(answer, "refresh_token") {
		t.Error("the refresh token did not change")
	}
	is.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := (&peers.Visitor{}).Visit(ctx, is.URL); err == nil {
		t.Error("the issuer still answers after Stop")
	}
}
