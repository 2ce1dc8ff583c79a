package oauth

import (
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

func TestExpiresAt(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1767326645": time.Hour, `"1767326645"`: time.Hour, "1767326645000": time.Hour, `"2026-01-02T04:04:05Z"`: time.Hour, `"2026-01-02T05:04:05+01:00"`: time.Hour,
		"1767326645.7": time.Hour, "1": 0, "4e9": year,
	} {
		got, err := ParseToken(jsonAnswer(200, `{"access_token":"at","token_type":"bearer","at":`+value+`}`), Rules{Fields: map[string]string{"expires_at": "at"}})
		if err != nil || !got.ExpiresKnown || got.ExpiresIn != want {
			t.Errorf("%s: %v, %v known %t, want %v", value, err, got.ExpiresIn, got.ExpiresKnown, want)
		}
	}
	for _, value := range []string{"null", "0", "-5", `"soon"`, `""`, "[1]", "1e300", `"Inf"`, `"0x10"`, "true"} {
		got, err := ParseToken(jsonAnswer(200, `{"access_token":"at","refresh_token":"rt","token_type":"bearer","at":`+value+`}`), Rules{Fields: map[string]string{"expires_at": "at"}})
		if err != nil || got.ExpiresKnown || got.Refresh.IsZero() {
			t.Errorf("%s: %v, known %t", value, err, got.ExpiresKnown)
		}
	}
	// expires_in comes first, and without a rule nobody looks at expires_at.
	got, err := ParseToken(jsonAnswer(200, `{"access_token":"at","token_type":"bearer","expires_in":60,"at":1767326645}`), Rules{Fields: map[string]string{"expires_at": "at"}})
	if err != nil || got.ExpiresIn != time.Minute {
		t.Errorf("%v, %v", err, got.ExpiresIn)
	}
	if got, err = ParseToken(jsonAnswer(200, `{"access_token":"at","token_type":"bearer","expires_at":1767326645}`), Rules{}); err != nil || got.ExpiresKnown {
		t.Errorf("%v, known %t", err, got.ExpiresKnown)
	}
}

// A credential that the rules lead to is not kept beside.
func TestKeepAs(t *testing.T) {
	got, err := ParseToken(jsonAnswer(200, `{"data":{"access_token":"at","token_type":"bearer","open":"o"},"team":{"id":"T1","access_token":"x"},"team.id":"flat"}`),
		Rules{Inside: "data", Keep: []string{"open"}, KeepAs: map[string]string{"team": "team.id", "token": "team.access_token", "missing": "team.nothing"}})
	if err != nil || !maps.Equal(got.Kept, map[string]string{"open": "o", "team": "flat"}) {
		t.Errorf("%v, kept %q", err, got.Kept)
	}
}

func TestRequestFormats(t *testing.T) {
	r := TokenRequest{
		Endpoint: "https://issuer.example/token",
		Client:   Client{ID: "i", Secret: secret.New("s&"), Method: AuthPost},
		Form:     CodeExchange(secret.New("c"), "http://127.0.0.1/cb", secret.Text{}, nil).WithResources([]string{"https://a", "https://b"}),
		Rename:   map[string]string{"client_id": "appid", "code": "auth_code"},
		Omit:     []string{"redirect_uri"},
	}
	for format, want := range map[string]string{
		"":         "grant_type=authorization_code&auth_code=c&resource=https%3A%2F%2Fa&resource=https%3A%2F%2Fb&appid=i&client_secret=s%26",
		FormatJSON: `{"appid":"i","auth_code":"c","client_secret":"s\u0026","grant_type":"authorization_code","resource":["https://a","https://b"]}`,
	} {
		r.Format = format
		c, err := r.encode(time.Time{})
		if err != nil || c.method != "POST" || c.url != r.Endpoint || string(c.body) != want {
			t.Errorf("%s: %v, %s %s %s", format, err, c.method, c.url, c.body)
		}
	}
	r.Format = FormatGet
	c, err := r.encode(time.Time{})
	if err != nil || c.method != "GET" || c.body != nil || !strings.HasPrefix(c.url, r.Endpoint+"?grant_type=authorization_code&auth_code=c&") || c.header.Get("Content-Type") != "" {
		t.Errorf("%v, %s %s", err, c.method, c.url)
	}
	for name, change := range map[string]func(*TokenRequest){
		"a query of its own":   func(r *TokenRequest) { r.Endpoint += "?x=1" },
		"an unknown format":    func(r *TokenRequest) { r.Format = "xml" },
		"a name that is taken": func(r *TokenRequest) { r.Rename = map[string]string{"client_id": "code"} },
		"no name":              func(r *TokenRequest) { r.Form = append(r.Form, Param{}) },
	} {
		bad := r
		change(&bad)
		if _, err := bad.encode(time.Time{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestAuthorizeInItsWords(t *testing.T) {
	r := AuthorizeRequest{
		Endpoint: "https://issuer.example/authorize?tenant=1", ClientID: "i", RedirectURI: "http://127.0.0.1:1/cb", State: "s", Scopes: []string{"a", "user:b", "user:"},
		SecondParam: "user_scope", SecondPrefix: "user:", Rename: map[string]string{"client_id": "client_key"}, Resources: []string{"https://a", "https://b"},
	}
	s, err := AuthorizeURL(r)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"tenant": {"1"}, "client_key": {"i"}, "redirect_uri": {"http://127.0.0.1:1/cb"}, "response_type": {"code"}, "state": {"s"},
		"scope": {"a user:"}, "user_scope": {"b"}, "resource": {"https://a", "https://b"}}
	if got := u.Query(); got.Encode() != want.Encode() {
		t.Errorf("got %v", got)
	}
	r.Params = map[string]string{"client_key": "x"}
	if _, err := AuthorizeURL(r); err == nil {
		t.Error("two parameters of a name were accepted")
	}
}

// FuzzDialect: whatever comes, in whatever words, what is taken for a token fits
// into a header, and nothing of an error is.
func FuzzDialect(f *testing.F) {
	f.Add(`{"data":{"tok":"at","t":1767326645},"errcode":0}`)
	f.Add(`{"errcode":40029,"errmsg":"x","data":{"tok":"at"}}`)
	f.Add(`{"data":{"tok":"at"},"data":{"tok":"b"}}`)
	f.Add(`{"data":[{"tok":"at"}]}`)
	r := Rules{Type: "absent", Inside: "data", Fields: map[string]string{"access_token": "tok", "expires_at": "t", "error": "errcode", "error_description": "errmsg"},
		ErrorCodes: map[string]string{"40029": "invalid_grant"}, KeepAs: map[string]string{"a": "b.c"}, SecondScopes: "u.s", SecondPrefix: "user:"}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := ParseToken(jsonAnswer(200, body), r)
		if err != nil {
			if !got.Access.IsZero() {
				t.Fatal("an error carries a token")
			}
			return
		}
		if !isAccessToken(got.Access.Reveal()) || got.ExpiresIn < 0 || got.ExpiresIn > year {
			t.Fatalf("accepted %q", body)
		}
		for _, scope := range got.Scopes {
			if !isAccessToken(scope) {
				t.Fatalf("scope %q", scope)
			}
		}
		_, _ = sitesIn([]byte(body), SitesRequest{List: "data", Keep: map[string]string{"a": "b.c"}})
	})
}
