package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
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

// record is a server that answers by method and path, and notes what it was
// asked.
type record struct {
	*httptest.Server
	mu       sync.Mutex
	answers  map[string]string // "GET /path" -> "status contentType\nbody"
	requests []recorded
}

type recorded struct {
	line   string // method and request URI
	header http.Header
	body   string
}

func newRecord(t *testing.T, answers map[string]string) *record {
	t.Helper()
	s := &record{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.requests = append(s.requests, recorded{r.Method + " " + r.URL.RequestURI(), r.Header.Clone(), string(body)})
		answer, ok := s.answers[r.Method+" "+r.URL.EscapedPath()]
		if !ok {
			http.NotFound(w, r)
			return
		}
		head, body2, _ := strings.Cut(answer, "\n")
		var status int
		var contentType string
		_, _ = fmt.Sscanf(head, "%d %s", &status, &contentType)
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body2)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *record) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, r := range s.requests {
		lines = append(lines, r.line)
	}
	return lines
}

func TestDeviceAuthorize(t *testing.T) {
	s := newRecord(t, map[string]string{"POST /device": `200 application/json
{"device_code":"` + canary + `","user_code":"WDJB-MJHT","verification_uri":"https://issuer.example/device","verification_uri_complete":"https://issuer.example/device?user_code=WDJB-MJHT","expires_in":900,"interval":7}`})
	h := newHTTP(t, Options{})
	d, err := h.DeviceAuthorize(t.Context(), TokenRequest{
		Endpoint: s.URL + "/device", Client: Client{ID: "id", Method: AuthNone},
		Form: Form{{Name: "scope", Value: "a b"}}, AllowInsecureLoopback: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.DeviceCode.Reveal() != canary || d.UserCode != "WDJB-MJHT" || d.VerificationURI != "https://issuer.example/device" ||
		d.VerificationURIComplete != "https://issuer.example/device?user_code=WDJB-MJHT" || d.ExpiresIn != 15*time.Minute || d.Interval != 7*time.Second {
		t.Errorf("%+v", d)
	}
	if body := s.requests[0].body; body != "scope=a+b&client_id=id" {
		t.Errorf("form %q", body)
	}
	if strings.Contains(fmt.Sprintf("%+v", d), canary) {
		t.Error("the device code prints")
	}
}

func TestParseDevice(t *testing.T) {
	body := func(changes map[string]any) string {
		m := map[string]any{"device_code": "dc", "user_code": "UC", "verification_uri": "https://issuer.example/d"}
		for k, v := range changes {
			if v == nil {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
		b, _ := json.Marshal(m)
		return string(b)
	}
	type m = map[string]any
	for _, tt := range []struct {
		name              string
		body              string
		interval, expires time.Duration
	}{
		{"defaults", body(nil), 5 * time.Second, 15 * time.Minute},
		{"interval -1", body(m{"interval": -1}), time.Second, 15 * time.Minute},
		{"interval 0", body(m{"interval": 0}), time.Second, 15 * time.Minute},
		{"interval 2^63-1", body(m{"interval": json.Number("9223372036854775807")}), time.Minute, 15 * time.Minute},
		{"interval text", body(m{"interval": "soon"}), 5 * time.Second, 15 * time.Minute},
		{"interval numeric text", body(m{"interval": "8"}), 8 * time.Second, 15 * time.Minute},
		{"expires -1", body(m{"expires_in": -1}), 5 * time.Second, time.Second},
		{"expires huge", body(m{"expires_in": 1e300}), 5 * time.Second, time.Hour},
		{"expires garbage", body(m{"expires_in": []int{1}}), 5 * time.Second, 15 * time.Minute},
		{"the draft's name", body(m{"verification_uri": nil, "verification_url": "https://issuer.example/d"}), 5 * time.Second, 15 * time.Minute},
		{"dirty user code", body(m{"user_code": "\x1b[31mUC\r\n"}), 5 * time.Second, 15 * time.Minute},
	} {
		d, err := parseDevice(jsonAnswer(200, tt.body))
		if err != nil || d.Interval != tt.interval || d.ExpiresIn != tt.expires || d.UserCode != "UC" {
			t.Errorf("%s: %+v, %v", tt.name, d, err)
		}
	}
	for name, body := range map[string]string{
		"no device code":      body(m{"device_code": nil}),
		"device code number":  body(m{"device_code": 1}),
		"no user code":        body(m{"user_code": nil}),
		"invisible user code": body(m{"user_code": "\x1b[31m\u200b"}),
		"long user code":      body(m{"user_code": strings.Repeat("x", 65)}),
		"no URI":              body(m{"verification_uri": nil}),
		"file":                body(m{"verification_uri": "file:///etc/passwd"}),
		"javascript":          body(m{"verification_uri": "javascript:alert(1)"}),
		"option":              body(m{"verification_uri": "-flag"}),
		"newline":             body(m{"verification_uri": "https://issuer.example/\nX"}),
		"user name":           body(m{"verification_uri": "https://u@issuer.example/"}),
		"bad complete URI":    body(m{"verification_uri_complete": "file:///x"}),
		"complete no string":  body(m{"verification_uri_complete": 1}),
		"twice":               `{"device_code":"a","device_code":"b","user_code":"UC","verification_uri":"https://issuer.example/d"}`,
		"array":               `[]`,
	} {
		if _, err := parseDevice(jsonAnswer(200, body)); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := parseDevice(jsonAnswer(200, `{"error":"device_flow_disabled","error_description":"x"}`)); ErrorCode(err) != "device_flow_disabled" {
		t.Errorf("error %v", err)
	}
	if _, err := parseDevice(jsonAnswer(400, `{"error":"unauthorized_client"}`)); ErrorCode(err) != "unauthorized_client" {
		t.Errorf("error %v", err)
	}
}

// Which of the two well-known names is asked, and when.
func TestDiscover(t *testing.T) {
	doc := func(issuer string) string {
		return `200 application/json
{"issuer":"` + issuer + `","token_endpoint":"` + issuer + `/token","authorization_endpoint":"https://issuer.example/authorize","userinfo_endpoint":null,
"scopes_supported":["openid","a b"],"code_challenge_methods_supported":["S256","plain"],"token_endpoint_auth_methods_supported":[],"authorization_response_iss_parameter_supported":true}`
	}
	for _, tt := range []struct {
		name, path string
		answers    func(issuer string) map[string]string
		want       []string
		err        string
	}{
		{"RFC 8414", "", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server": doc(i)}
		}, []string{"GET /.well-known/oauth-authorization-server"}, ""},
		{"RFC 8414 with a path", "/realms/x", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server/realms/x": doc(i)}
		}, []string{"GET /.well-known/oauth-authorization-server/realms/x"}, ""},
		{"OpenID Connect", "/realms/x", func(i string) map[string]string {
			return map[string]string{"GET /realms/x/.well-known/openid-configuration": doc(i)}
		}, []string{"GET /.well-known/oauth-authorization-server/realms/x", "GET /realms/x/.well-known/openid-configuration"}, ""},
		{"slash at the end", "/", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/openid-configuration": doc(i)}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, ""},
		{"a page for every path", "", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server": "200 text/html\n<html>", "GET /.well-known/openid-configuration": doc(i)}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, ""},
		{"another issuer in both", "", func(string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server": doc("https://foreign.example"), "GET /.well-known/openid-configuration": doc("https://foreign.example")}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, "another issuer: https://foreign.example"},
		{"only the slash differs", "/", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server": doc(strings.TrimSuffix(i, "/"))}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, "another issuer"},
		{"none", "", func(string) map[string]string { return nil },
			[]string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, "publishes no metadata"},
		{"failing", "", func(string) map[string]string {
			return map[string]string{"GET /.well-known/oauth-authorization-server": "503 \n", "GET /.well-known/openid-configuration": "503 \n"}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, "HTTP status 503"},
		{"too large", "", func(i string) map[string]string {
			return map[string]string{"GET /.well-known/openid-configuration": doc(i) + strings.Repeat(" ", maxBody)}
		}, []string{"GET /.well-known/oauth-authorization-server", "GET /.well-known/openid-configuration"}, "more than 1024 KiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRecord(t, nil)
			issuer := s.URL + tt.path
			s.mu.Lock()
			s.answers = tt.answers(issuer)
			s.mu.Unlock()
			m, err := newHTTP(t, Options{}).Discover(t.Context(), issuer, true)
			if got := s.lines(); !slices.Equal(got, tt.want) {
				t.Errorf("requests %q, want %q", got, tt.want)
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if m.Issuer != issuer || m.TokenEndpoint != issuer+"/token" || !m.AuthorizationResponseIssParameterSupported || m.UserinfoEndpoint != "" ||
				!slices.Equal(m.ScopesSupported, []string{"openid"}) || !slices.Equal(m.CodeChallengeMethodsSupported, []string{"S256", "plain"}) ||
				m.GrantTypesSupported != nil || m.TokenEndpointAuthMethodsSupported == nil {
				t.Errorf("%+v", m)
			}
		})
	}
	h := newHTTP(t, Options{})
	for _, issuer := range []string{"http://issuer.example", "http://127.0.0.1:1", "file:///x", "-x", "https://u@issuer.example", "https://issuer.example?x=1", "https://issuer.example/#x", ""} {
		if _, err := h.Discover(t.Context(), issuer, false); !errors.Is(err, ErrRefused) {
			t.Errorf("issuer %q: error %v", issuer, err)
		}
	}
}

// every endpoint of the metadata is checked.
func TestParseMetadataRefuses(t *testing.T) {
	const issuer = "https://issuer.example"
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "revocation_endpoint", "introspection_endpoint", "userinfo_endpoint"} {
		for _, value := range []string{
			`"http://issuer.example/x"`, `"http://127.0.0.1:1/x"`, `"file:///etc/passwd"`, `"javascript:alert(1)"`, `"-flag"`, `"--flag"`,
			`"https://u:p@issuer.example/x"`, `"https://issuer.example/x\nY"`, `"https://issuer.example/\u001b[31m"`, `"https://issuer.example/x y"`,
			`"https://issuer.example/#f"`, `"https://issuer.example/$(id)"`, "\"https://issuer.example/`id`\"", `"https://issuer.example/a|b"`,
			`"https://issuer.example/\"x"`, `"https://issuer.example/'x"`, `""`, `1`, `{}`, `["https://issuer.example/x"]`, `"/x"`, `"//issuer.example/x"`, `"https://"`,
			`"https://issuer.example/a","` + name + `":"https://issuer.example/b"`,
		} {
			body := `{"issuer":"` + issuer + `","token_endpoint":"https://issuer.example/t","` + name + `":` + value + `}`
			if name == "token_endpoint" {
				body = `{"issuer":"` + issuer + `","token_endpoint":` + value + `}`
			}
			if m, err := parseMetadata([]byte(body), issuer, false); !errors.Is(err, ErrUnusable) {
				t.Errorf("%s: %s: %+v, %v", name, value, m, err)
			} else {
				checkSafe(t, err)
			}
			if name == "authorization_endpoint" {
				continue // no certificate is presented there
			}
			body = `{"issuer":"` + issuer + `","token_endpoint":"https://issuer.example/t","mtls_endpoint_aliases":{"` + name + `":` + value + `}}`
			if m, err := parseMetadata([]byte(body), issuer, false); !errors.Is(err, ErrUnusable) {
				t.Errorf("alias of %s: %s: %+v, %v", name, value, m, err)
			} else {
				checkSafe(t, err)
			}
		}
	}
	for name, body := range map[string]string{
		"aliases no object": `{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","mtls_endpoint_aliases":"https://issuer.example/t"}`,
		"aliases twice":     `{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","mtls_endpoint_aliases":{},"mtls_endpoint_aliases":{}}`,
		"foreign issuer":    `{"issuer":"https://evil.example","token_endpoint":"https://issuer.example/t"}`,
		"issuer twice":      `{"issuer":"https://evil.example","issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t"}`,
		"no issuer":         `{"token_endpoint":"https://issuer.example/t"}`,
		"issuer no string":  `{"issuer":1,"token_endpoint":"https://issuer.example/t"}`,
		"hostile issuer":    `{"issuer":"\u001b[31m::add-mask::\n","token_endpoint":"https://issuer.example/t"}`,
		"no token endpoint": `{"issuer":"https://issuer.example"}`,
		"list of numbers":   `{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","scopes_supported":[1]}`,
		"list no list":      `{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","scopes_supported":"a"}`,
		"array":             `[]`,
		"empty":             ``,
		"deep":              `{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","x":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40) + `}`,
	} {
		if _, err := parseMetadata([]byte(body), issuer, false); !errors.Is(err, ErrUnusable) {
			t.Errorf("%s: error %v", name, err)
		} else {
			checkSafe(t, err)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte(`{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","authorization_endpoint":"https://issuer.example/a?b=c"}`), false)
	f.Add([]byte(`{"issuer":"https://issuer.example","token_endpoint":"http://127.0.0.1:1/t","scopes_supported":["a"]}`), true)
	f.Add([]byte(`{"issuer":"https://issuer.example","token_endpoint":"https://issuer.example/t","mtls_endpoint_aliases":{"token_endpoint":"https://mtls.issuer.example/t"}}`), false)
	f.Fuzz(func(t *testing.T, body []byte, allow bool) {
		m, err := parseMetadata(body, "https://issuer.example", allow)
		if err != nil {
			return
		}
		if m.Issuer != "https://issuer.example" || m.TokenEndpoint == "" {
			t.Errorf("%+v", m)
		}
		endpoints := []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.DeviceAuthorizationEndpoint, m.RevocationEndpoint, m.IntrospectionEndpoint, m.UserinfoEndpoint}
		for _, e := range slices.AppendSeq(endpoints, maps.Values(m.MTLSEndpointAliases)) {
			if e == "" {
				continue
			}
			u, err := url.Parse(e)
			if err != nil || u.User != nil || u.Fragment != "" || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !allow || !isLoopback(u.Hostname())) {
				t.Errorf("endpoint %q", e)
			}
			if strings.ContainsFunc(e, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'`$|\\", r) }) {
				t.Errorf("endpoint %q", e)
			}
		}
	})
}

func TestRevoke(t *testing.T) {
	both := Client{ID: "id", Secret: secret.New("cs"), Method: AuthBasic}
	public := Client{ID: "id", Method: AuthNone}
	list := `200 application/vnd.contentful.management.v1+json
{"items":[{"sys":{"id":"old","redactedValue":"****6789","lastUsedAt":"2026-01-01T00:00:00Z"}},
{"sys":{"id":"ours","redactedValue":"****6789"},"lastUsedAt":"2026-02-01T00:00:00Z"},
{"sys":{"id":"gone","redactedValue":"****6789"},"lastUsedAt":"2026-03-01T00:00:00Z","revokedAt":"2026-03-02T00:00:00Z"},
{"sys":{"id":"other","redactedValue":"****0000"},"lastUsedAt":"2026-04-01T00:00:00Z"}]}`
	type want struct{ line, authorization, body string }
	for _, tt := range []struct {
		name    string
		r       RevokeRequest
		path    string // of the endpoint
		noToken string // "access" or "refresh" is left out
		answers map[string]string
		want    []want
		err     string // "" nil, "unusable", "none", an OAuth code, or "status N"
	}{
		{"rfc7009", RevokeRequest{Style: "rfc7009", Client: both}, "/revoke", "", map[string]string{"POST /revoke": "200 \n"},
			[]want{{"POST /revoke", basic("id", "cs"), "token=r-" + canary + "&token_type_hint=refresh_token"}}, ""},
		{"rfc7009, public client", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "refresh", map[string]string{"POST /revoke": "200 text/html\n<p>ok"},
			[]want{{"POST /revoke", "", "token=a-" + canary + "&token_type_hint=access_token&client_id=id"}}, ""},
		{"rfc7009, gone", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "", map[string]string{"POST /revoke": "400 application/json\n" + `{"error":"invalid_token"}`},
			[]want{{"POST /revoke", "", "token=r-" + canary + "&token_type_hint=refresh_token&client_id=id"}}, ""},
		{"rfc7009, refused", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "", map[string]string{"POST /revoke": "400 application/json\n" + `{"error":"unsupported_token_type","error_description":"r-` + canary + `"}`},
			nil, "unsupported_token_type"},
		{"rfc7009, error with 200", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "", map[string]string{"POST /revoke": "200 application/json\n" + `{"error":"invalid_client"}`}, nil, "invalid_client"},
		{"rfc7009, down", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "", map[string]string{"POST /revoke": "503 text/html\nx"}, nil, "status 503"},
		{"rfc7009, not there", RevokeRequest{Style: "rfc7009", Client: public}, "/revoke", "", nil, nil, "unusable"},
		{"box", RevokeRequest{Style: "request", Client: both, Manner: Manner{Method: "POST", Auth: AuthPost}}, "/oauth2/revoke", "", map[string]string{"POST /oauth2/revoke": "200 \n"},
			[]want{{"POST /oauth2/revoke", "", "token=r-" + canary + "&client_id=id&client_secret=cs"}}, ""},
		{"box, access token", RevokeRequest{Style: "request", Client: both, Manner: Manner{Method: "POST", Auth: AuthPost}}, "/oauth2/revoke", "refresh", map[string]string{"POST /oauth2/revoke": "200 \n"},
			[]want{{"POST /oauth2/revoke", "", "token=a-" + canary + "&client_id=id&client_secret=cs"}}, ""},
		{"github", RevokeRequest{Style: "github", Client: both}, "/", "refresh", map[string]string{"DELETE /applications/id/grant": "204 \n"},
			[]want{{"DELETE /applications/id/grant", basic("id", "cs"), `{"access_token":"a-` + canary + `"}`}}, ""},
		{"github, gone", RevokeRequest{Style: "github", Client: both}, "", "refresh", map[string]string{"DELETE /applications/id/grant": "422 application/json\n{}"},
			[]want{{"DELETE /applications/id/grant", basic("id", "cs"), `{"access_token":"a-` + canary + `"}`}}, ""},
		{"github, access token died first", RevokeRequest{Style: "github", Client: both}, "", "", map[string]string{"POST /credentials/revoke": "202 application/json\n{}"},
			[]want{{"DELETE /applications/id/grant", basic("id", "cs"), `{"access_token":"a-` + canary + `"}`}, {"POST /credentials/revoke", "", `{"credentials":["r-` + canary + `"]}`}}, ""},
		{"github, wrong secret", RevokeRequest{Style: "github", Client: both}, "", "", map[string]string{"DELETE /applications/id/grant": "401 application/json\n{}"}, nil, "status 401"},
		{"github, no secret", RevokeRequest{Style: "github", Client: public}, "", "", map[string]string{"POST /credentials/revoke": "202 application/json\n{}"},
			[]want{{"POST /credentials/revoke", "", `{"credentials":["a-` + canary + `","r-` + canary + `"]}`}}, ""},
		{"github, too many", RevokeRequest{Style: "github", Client: public}, "", "", map[string]string{"POST /credentials/revoke": "429 application/json\n{}"}, nil, "status 429"},
		{"stripe", RevokeRequest{Style: "stripe-connect", Client: both, Subject: "acct_1"}, "/oauth/deauthorize", "", map[string]string{"POST /oauth/deauthorize": "200 application/json\n" + `{"stripe_user_id":"acct_1"}`},
			[]want{{"POST /oauth/deauthorize", basic("cs", ""), "client_id=id&stripe_user_id=acct_1"}}, ""},
		{"stripe, refused", RevokeRequest{Style: "stripe-connect", Client: both, Subject: "acct_1"}, "/oauth/deauthorize", "", map[string]string{"POST /oauth/deauthorize": "401 application/json\n" + `{"error":"invalid_client","error_description":"not connected"}`}, nil, "invalid_client"},
		{"stripe without account", RevokeRequest{Style: "stripe-connect", Client: both}, "/x", "", nil, []want{}, "none"},
		{"contentful", RevokeRequest{Style: "contentful", Client: public}, "", "refresh", map[string]string{"GET /users/me/access_tokens": list, "PUT /users/me/access_tokens/ours/revoked": "200 \n"},
			[]want{{"GET /users/me/access_tokens?limit=1000", "Bearer a-" + canary, ""}, {"PUT /users/me/access_tokens/ours/revoked", "Bearer a-" + canary, ""}}, ""},
		{"contentful, dead", RevokeRequest{Style: "contentful", Client: public}, "", "refresh", map[string]string{"GET /users/me/access_tokens": "401 \n"},
			[]want{{"GET /users/me/access_tokens?limit=1000", "Bearer a-" + canary, ""}}, ""},
		{"contentful, not listed", RevokeRequest{Style: "contentful", Client: public}, "", "refresh", map[string]string{"GET /users/me/access_tokens": "200 \n" + `{"items":[]}`}, nil, "unusable"},
		{"contentful, hostile id", RevokeRequest{Style: "contentful", Client: public}, "", "refresh", map[string]string{"GET /users/me/access_tokens": "200 \n" + `{"items":[{"sys":{"id":"../../x","redactedValue":"6789"}}]}`}, nil, "unusable"},
		{"contentful, refused", RevokeRequest{Style: "contentful", Client: public}, "", "refresh", map[string]string{"GET /users/me/access_tokens": list}, nil, "status 404"},
		{"request as JSON", RevokeRequest{Style: "request", Client: both, Manner: Manner{Method: "POST", Format: FormatJSON}}, "/revoke", "", map[string]string{"POST /revoke": "200 application/json\n{}"},
			[]want{{"POST /revoke", basic("id", "cs"), `{"token":"r-` + canary + `"}`}}, ""},
		{"request, the access token", RevokeRequest{Style: "request", Client: both, Manner: Manner{Method: "POST", Token: "access_token"}}, "/revoke", "", map[string]string{"POST /revoke": "200 application/json\n{}"},
			[]want{{"POST /revoke", basic("id", "cs"), "token=a-" + canary}}, ""},
		{"request, no access token left", RevokeRequest{Style: "request", Client: both, Manner: Manner{Method: "POST", Token: "access_token"}}, "/revoke", "access", nil, []want{}, "none"},
		{"page", RevokeRequest{Style: "page", Client: public}, "/x", "", nil, []want{}, "none"},
		{"no style", RevokeRequest{Client: public}, "/x", "", nil, []want{}, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newRecord(t, tt.answers)
			r := tt.r
			r.Endpoint, r.AllowInsecureLoopback = s.URL+tt.path, true
			if tt.noToken != "access" {
				r.Access = secret.New("a-" + canary)
			}
			if tt.noToken != "refresh" {
				r.Refresh = secret.New("r-" + canary)
			}
			err := newHTTP(t, Options{}).Revoke(t.Context(), r)
			status, isStatus := errors.AsType[*StatusError](err)
			switch {
			case tt.err == "" && err == nil:
			case tt.err == "none" && errors.Is(err, ErrNoRevocation):
			case tt.err == "unusable" && errors.Is(err, ErrUnusable):
			case isStatus && tt.err == fmt.Sprintf("status %d", status.Status):
			case tt.err != "" && tt.err == ErrorCode(err):
			default:
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if err != nil {
				checkSafe(t, err)
			}
			if tt.want == nil {
				return
			}
			if got := s.lines(); len(got) != len(tt.want) {
				t.Fatalf("requests %q", got)
			}
			for i, want := range tt.want {
				got := s.requests[i]
				if got.line != want.line || got.header.Get("Authorization") != want.authorization || got.body != want.body {
					t.Errorf("request %d (%s) is not as it must be", i+1, got.line)
				}
			}
		})
	}
	h := newHTTP(t, Options{})
	if err := h.Revoke(t.Context(), RevokeRequest{Style: "rfc7009", Endpoint: "https://issuer.example/", Client: public}); !errors.Is(err, ErrNoRevocation) {
		t.Errorf("without a token: %v", err)
	}
	if err := h.Revoke(t.Context(), RevokeRequest{Style: "github", Client: public, Access: secret.New(canary), AllowInsecureLoopback: true}); !errors.Is(err, ErrNoRevocation) {
		t.Errorf("a local definition must not fall back to the real provider: %v", err)
	}
}

func TestIntrospect(t *testing.T) {
	for _, tt := range []struct {
		answer string
		active bool
		ok     bool
	}{
		{"200 application/json\n" + `{"active":true,"scope":"a"}`, true, true},
		{"200 application/json\n" + `{"active":false}`, false, true},
		{"200 application/json\n" + `{"active":"true"}`, false, false},
		{"200 application/json\n" + `{"active":false,"active":true}`, false, false},
		{"200 application/json\n{}", false, false},
		{"200 text/html\n<p>", false, false},
		{"401 application/json\n" + `{"error":"invalid_client"}`, false, false},
		{"503 \n", false, false},
	} {
		s := newRecord(t, map[string]string{"POST /introspect": tt.answer})
		active, err := newHTTP(t, Options{}).Introspect(t.Context(), TokenRequest{
			Endpoint: s.URL + "/introspect", Client: Client{ID: "id", Secret: secret.New("cs"), Method: AuthBasic}, AllowInsecureLoopback: true,
		}, secret.New(canary), "access_token")
		if active != tt.active || (err == nil) != tt.ok {
			t.Errorf("%q: %v, %v", tt.answer, active, err)
		}
		if got := s.requests[0].body; got != "token="+canary+"&token_type_hint=access_token" {
			t.Error("the form is not as it must be")
		}
	}
}

func TestIdentity(t *testing.T) {
	s := newRecord(t, map[string]string{
		"GET /me":  "200 application/json\n" + `{"id":12345678901234567,"login":"","name":"Ann\u001b[31m\n::x","sys":{"id":"S1"},"list":[{"id":"L1"}],"a.b":"dotted","o":{}}`,
		"GET /401": "401 application/json\n{}",
		"GET /bad": "200 text/html\n<html>",
	})
	h := newHTTP(t, Options{})
	ask := func(change func(*IdentityRequest)) (Account, error) {
		r := IdentityRequest{Endpoint: s.URL + "/me", Access: secret.New(canary), Subject: "id", Label: "login, name", AllowInsecureLoopback: true}
		change(&r)
		return h.Identity(t.Context(), r)
	}
	last := func() recorded { return s.requests[len(s.requests)-1] }

	a, err := ask(func(r *IdentityRequest) { r.Headers = map[string]string{"X-Version": "1", "Content-Type": "a/b"} })
	if err != nil || a != (Account{"12345678901234567", "Ann ::x"}) {
		t.Errorf("%+v, %v", a, err)
	}
	if r := last(); r.header.Get("Authorization") != "Bearer "+canary || r.header.Get("X-Version") != "1" || r.header.Get("Content-Type") != "a/b" {
		t.Error("the headers are not as they must be")
	}
	for paths, want := range map[string]string{"sys.id": "S1", "list.0.id": "L1", "a.b": "dotted", "none,sys.id": "S1"} {
		if a, err := ask(func(r *IdentityRequest) { r.Subject, r.Label = paths, "" }); err != nil || a != (Account{want, want}) {
			t.Errorf("%s: %+v, %v", paths, a, err)
		}
	}
	for _, paths := range []string{"", "none", "login", "o", "sys", "list.7.id", "list.x", "id.x", "sys.id.x"} {
		if a, err := ask(func(r *IdentityRequest) { r.Subject = paths }); !errors.Is(err, ErrUnusable) {
			t.Errorf("%q: %+v, %v", paths, a, err)
		}
	}
	if _, err := ask(func(r *IdentityRequest) { r.In, r.Name, r.Prefix = "header", "X-Api-Key", "" }); err != nil || last().header.Get("X-Api-Key") != canary || last().header.Get("Authorization") != "" {
		t.Errorf("own header: %v", err)
	}
	if _, err := ask(func(r *IdentityRequest) { r.Prefix = "token " }); err != nil || last().header.Get("Authorization") != "token "+canary {
		t.Errorf("own prefix: %v", err)
	}
	if _, err := ask(func(r *IdentityRequest) { r.In = "basic" }); err != nil || last().header.Get("Authorization") != basic(canary, "") {
		t.Errorf("basic: %v", err)
	}
	if _, err := ask(func(r *IdentityRequest) { r.In, r.Name = "query", "access_token"; r.Endpoint += "?x=1" }); err != nil || last().line != "GET /me?x=1&access_token="+canary {
		t.Errorf("query: %v", err)
	}
	_, err = ask(func(r *IdentityRequest) { r.Endpoint = s.URL + "/401" })
	if e, ok := errors.AsType[*StatusError](err); !ok || e.Status != 401 || IsTemporary(err) {
		t.Errorf("401: %v", err)
	}
	if _, err := ask(func(r *IdentityRequest) { r.Endpoint = s.URL + "/bad" }); !errors.Is(err, ErrUnusable) {
		t.Errorf("HTML: %v", err)
	}
	for name, change := range map[string]func(*IdentityRequest){
		"place":          func(r *IdentityRequest) { r.In = "body" },
		"nameless query": func(r *IdentityRequest) { r.In = "query" },
		"query to http":  func(r *IdentityRequest) { r.In, r.Name, r.Endpoint = "query", "t", "http://api.example/" },
		"http":           func(r *IdentityRequest) { r.Endpoint = "http://api.example/" },
		"header name":    func(r *IdentityRequest) { r.Name = "X Y" },
		"prefix":         func(r *IdentityRequest) { r.Prefix = "x\r\ny" },
		"token":          func(r *IdentityRequest) { r.Access = secret.New(canary + "\r\nX: y") },
		"no token":       func(r *IdentityRequest) { r.Access = secret.Text{} },
		"header":         func(r *IdentityRequest) { r.Headers = map[string]string{"Cookie": "x"} },
	} {
		if _, err := ask(change); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		} else {
			checkSafe(t, err)
		}
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	_, err = ask(func(r *IdentityRequest) { r.In, r.Name, r.Endpoint = "query", "t", closed.URL })
	if !errors.Is(err, ErrNotSent) {
		t.Errorf("closed: %v", err)
	} else {
		checkSafe(t, err)
	}
}
