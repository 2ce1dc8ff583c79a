package oauth

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

func TestNewVerifier(t *testing.T) {
	a, err := NewVerifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := NewVerifier(nil)
	if a.Len() != 43 || a.Equal(b) {
		t.Errorf("two verifiers of %d characters, equal %v", a.Len(), a.Equal(b))
	}
	if strings.Trim(a.Reveal(), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Error("a verifier holds characters that RFC 7636 does not allow")
	}
	if v, err := NewVerifier(bytes.NewReader(make([]byte, 31))); err == nil || !v.IsZero() {
		t.Error("a short read of random is an error")
	}
}

func TestAuthorizeURL(t *testing.T) {
	// RFC 7636 appendix B.
	verifier := secret.New("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
	base := func() AuthorizeRequest {
		return AuthorizeRequest{
			Endpoint: "https://issuer.example/authorize", ClientID: "id", RedirectURI: "http://127.0.0.1:1/callback/x",
			Scopes: []string{"a", "b"}, State: "st", PKCE: true, Verifier: verifier,
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*AuthorizeRequest)
		want   url.Values // besides those that every request has
	}{
		{"plain", func(*AuthorizeRequest) {}, url.Values{"scope": {"a b"}}},
		{"separator", func(r *AuthorizeRequest) { r.ScopeSeparator = "," }, url.Values{"scope": {"a,b"}}},
		{"no scope", func(r *AuthorizeRequest) { r.Scopes = nil }, url.Values{}},
		{"omitted scope", func(r *AuthorizeRequest) { r.OmitScope = true }, url.Values{}},
		{"own query", func(r *AuthorizeRequest) { r.Endpoint += "?tenant=1&x=a%20b" }, url.Values{"scope": {"a b"}, "tenant": {"1"}, "x": {"a b"}}},
		{"empty query", func(r *AuthorizeRequest) { r.Endpoint += "?" }, url.Values{"scope": {"a b"}}},
		{"parameters", func(r *AuthorizeRequest) {
			r.Params = map[string]string{"access_type": "offline", "prompt": "$(id)", "response_mode": "query"}
			r.LoginHint = "me@example.com"
		}, url.Values{"scope": {"a b"}, "access_type": {"offline"}, "prompt": {"$(id)"}, "response_mode": {"query"}, "login_hint": {"me@example.com"}}},
		{"challenge in hexadecimal", func(r *AuthorizeRequest) { r.HexChallenge = true }, url.Values{
			"scope": {"a b"}, "code_challenge": {"13d31e961a1ad8ec2f16b10c4c982e0876a878ad6df144566ee1894acb70f9c3"},
		}},
		{"another name for the hint", func(r *AuthorizeRequest) {
			r.LoginHint, r.LoginHintParam = "me", "login"
		}, url.Values{"scope": {"a b"}, "login": {"me"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := base()
			tt.change(&r)
			got, err := AuthorizeURL(r)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(got)
			if err != nil || !strings.HasPrefix(got, "https://issuer.example/authorize?") {
				t.Fatalf("%s, %v", got, err)
			}
			want := tt.want
			for name, value := range map[string]string{
				"response_type": "code", "client_id": "id", "redirect_uri": "http://127.0.0.1:1/callback/x", "state": "st",
				"code_challenge_method": "S256", "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
			} {
				if !want.Has(name) {
					want.Set(name, value)
				}
			}
			if got, want := u.Query().Encode(), want.Encode(); got != want {
				t.Errorf("query %s\nwant  %s", got, want)
			}
			if strings.Contains(got, verifier.Reveal()) {
				t.Error("the URL shows the verifier")
			}
		})
	}
	r := base()
	r.PKCE, r.Verifier, r.RedirectURI = false, secret.Text{}, ""
	if got, err := AuthorizeURL(r); err != nil || strings.Contains(got, "code_challenge") || strings.Contains(got, "redirect_uri") {
		t.Errorf("without PKCE and redirect: %s, %v", got, err)
	}
	for name, change := range map[string]func(*AuthorizeRequest){
		"no client id":       func(r *AuthorizeRequest) { r.ClientID = "" },
		"no state":           func(r *AuthorizeRequest) { r.State = "" },
		"no verifier":        func(r *AuthorizeRequest) { r.Verifier = secret.Text{} },
		"short verifier":     func(r *AuthorizeRequest) { r.Verifier = secret.New("short") },
		"plain http":         func(r *AuthorizeRequest) { r.Endpoint = "http://issuer.example/" },
		"loopback":           func(r *AuthorizeRequest) { r.Endpoint = "http://127.0.0.1:1/" },
		"javascript":         func(r *AuthorizeRequest) { r.Endpoint = "javascript:alert(1)" },
		"option":             func(r *AuthorizeRequest) { r.Endpoint = "-flag" },
		"fragment":           func(r *AuthorizeRequest) { r.Endpoint += "#x" },
		"state in the query": func(r *AuthorizeRequest) { r.Endpoint += "?state=mine" },
		"broken query":       func(r *AuthorizeRequest) { r.Endpoint += "?a=%zz" },
		"redirect as parameter": func(r *AuthorizeRequest) {
			r.Params = map[string]string{"redirect_uri": "https://evil.example/"}
		},
		"request object":        func(r *AuthorizeRequest) { r.Params = map[string]string{"request_uri": "https://evil.example/"} },
		"plain challenge":       func(r *AuthorizeRequest) { r.Params = map[string]string{"code_challenge_method": "plain"} },
		"answer in a fragment":  func(r *AuthorizeRequest) { r.Params = map[string]string{"response_mode": "fragment"} },
		"implicit":              func(r *AuthorizeRequest) { r.Params = map[string]string{"response_type": "token"} },
		"parameter of endpoint": func(r *AuthorizeRequest) { r.Endpoint += "?a=1"; r.Params = map[string]string{"a": "2"} },
		"hint as redirect":      func(r *AuthorizeRequest) { r.LoginHint, r.LoginHintParam = "x", "redirect_uri" },
		"nameless parameter":    func(r *AuthorizeRequest) { r.Params = map[string]string{"": "2"} },
	} {
		r := base()
		change(&r)
		if got, err := AuthorizeURL(r); err == nil {
			t.Errorf("%s: %s, want an error", name, got)
		}
	}
	r = base()
	r.Endpoint, r.AllowInsecureLoopback = "http://127.0.0.1:1/authorize", true
	if _, err := AuthorizeURL(r); err != nil {
		t.Error(err)
	}
	r.Endpoint = "http://issuer.example/"
	if _, err := AuthorizeURL(r); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}
