package fakes_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// life is a connection at a Table, from its definition on.
type life struct {
	*testing.T
	table    *fakes.Table
	def      *providers.Definition
	source   *connection.Source
	client   oauth.Client
	now      time.Time
	warnings []string
}

// begin makes the definition: what is the same everywhere, and text, in which
// %URL% and %HOST% are the table's.
func begin(t *testing.T, text string, steps ...fakes.Exchange) *life {
	t.Helper()
	table := fakes.Play(t, steps...)
	common := "id: odd\nname: Odd\nallow_insecure_loopback: true\n"
	for _, key := range []string{"authorization_endpoint: %URL%/authorize", "token_endpoint: %URL%/token", "token_endpoint_auth_method: client_secret_post",
		"pkce: none", "api: {base_url: %URL%/v1, hosts: [\"%HOST%\"]}", "redirect_uri: http://127.0.0.1:*/callback/odd"} {
		if name, _, _ := strings.Cut(key, ":"); !strings.HasPrefix(text, name+":") && !strings.Contains(text, "\n"+name+":") {
			common += key + "\n"
		}
	}
	return live(t, table, "odd", strings.NewReplacer("%URL%", table.URL, "%HOST%", table.Host(), "%PORT%", freePort(t)).Replace(common+text))
}

// live makes the life of a definition that leads to a table.
func live(t *testing.T, table *fakes.Table, id, definition string) *life {
	t.Helper()
	l := &life{T: t, table: table, now: time.Now().Round(0)}
	p, err := providers.Parse(id+".yaml", []byte(definition), providers.User)
	l.must(err)
	l.def = &providers.Definition{Provider: p, Origin: providers.User}

	key := secret.New(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	kept, err := store.Create(t.Context(), store.Options{Dir: filepath.Join(t.TempDir(), "stores"), Key: func() (secret.Text, error) { return key, nil }}, store.KindFile)
	l.must(err)
	web, err := oauth.NewHTTP(oauth.Options{Now: func() time.Time { return l.now }})
	l.must(err)
	l.source = &connection.Source{
		Store: kept, Project: "p1", Issuer: web, Run: "run", PID: os.Getpid(), Now: func() time.Time { return l.now },
		Sleep:        func(ctx context.Context, d time.Duration) error { l.now = l.now.Add(d); return ctx.Err() },
		Warn:         func(format string, a ...any) { l.warnings = append(l.warnings, fmt.Sprintf(format, a...)) },
		ClientSecret: func(context.Context, *connection.Header) (secret.Text, error) { return l.client.Secret, nil },
	}
	return l
}

// freePort is a port of this machine that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (l *life) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// connect obtains a grant through the browser and stores it.
func (l *life) connect(o providers.PinOptions, scopes ...string) (*connection.Record, error) {
	l.Helper()
	o.Flow, o.ClientID, o.HasSecret = "browser", "id-1", true
	pins, err := l.def.Pin(o)
	l.must(err)
	l.client = oauth.Client{ID: "id-1", Secret: secret.New("s3cret"), Method: pins.AuthMethod}
	result, err := flow.Authcode(l.Context(), flow.Env{HTTP: l.source.Issuer.(*oauth.HTTP), OpenBrowser: l.table.Approve},
		flow.Attempt{Pins: pins, Provider: l.def.Provider, Client: l.client, Scopes: scopes})
	l.must(err)
	return l.source.Enroll(l.Context(), connection.Login{
		Draft:   connection.Header{Name: "odd", Provider: "odd", Flow: connection.FlowBrowser, ScopesAsked: scopes, Pins: pins},
		Request: result.Request, Callback: result.Callback, Client: l.client,
	})
}

// token asks for a token that lives.
func (l *life) token(name string, o connection.Option) string {
	l.Helper()
	a, err := l.source.Token(l.Context(), name, o)
	l.must(err)
	return a.Token.Reveal()
}

// The parameters that every login has.
func authorize(more ...string) map[string]string {
	return with(map[string]string{"response_type": "code", "client_id": "id-1", "redirect_uri": "*", "state": "*"}, more...)
}

func exchange(more ...string) map[string]string {
	return with(map[string]string{"grant_type": "authorization_code", "code": "c1", "redirect_uri": "*", "client_id": "id-1", "client_secret": "s3cret"}, more...)
}

func renew(more ...string) map[string]string {
	return with(map[string]string{"grant_type": "refresh_token", "refresh_token": "rt1", "client_id": "id-1", "client_secret": "s3cret"}, more...)
}

// with changes a map: name=value sets, -name removes.
func with(m map[string]string, changes ...string) map[string]string {
	for _, change := range changes {
		if name, ok := strings.CutPrefix(change, "-"); ok {
			delete(m, name)
			continue
		}
		name, value, _ := strings.Cut(change, "=")
		m[name] = value
	}
	return m
}

const (
	first  = `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_in":3600}`
	second = `{"access_token":"at2","token_type":"bearer","expires_in":3600}`
)

// TestQuirks connects and refreshes at providers that each depart from the
// standard in one way, and fails when a request is not exactly what the provider
// wants.
func TestQuirks(t *testing.T) {
	tests := []struct {
		name   string
		text   string
		scopes []string
		steps  []fakes.Exchange
		// what comes of it
		granted []string
		kept    map[string]string
		ttl     int64
	}{
		{
			name: "the standard", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a b"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Header: map[string]string{"Authorization": ""}, Body: first},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, scopes: []string{"a", "b"}, granted: []string{"a", "b"}, ttl: 3600,
		},
		{
			name: "comma between scopes", text: "scopes: {separator: \",\"}\n", scopes: []string{"a", "b"}, steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a,b"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_in":3600,"scope":"a,b"}`},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, granted: []string{"a", "b"}, ttl: 3600,
		},
		{
			name: "plus between scopes", text: "scopes: {separator: \"+\"}\n", scopes: []string{"a", "b"}, steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a+b"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: first},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, granted: []string{"a", "b"}, ttl: 3600,
		},
		{
			name: "scopes as a list", scopes: []string{"a", "b"}, steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a b"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_in":3600,"scope":["b","a"]}`},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, granted: []string{"b", "a"}, ttl: 3600,
		},
		{
			name: "no scope parameter", text: "scopes: {omit: true}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: first},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, ttl: 3600,
		},
		{
			name:   "two scope parameters, the user's token inside",
			text:   "scopes: {separator: \",\", second: {param: user_scope, prefix: \"user:\", field: authed_user.scope}}\ntoken: {inside: authed_user, type: user, keep_as: {team_id: team.id}, error_codes: {invalid_refresh_token: invalid_grant}}\n",
			scopes: []string{"chat:write", "user:search:read"},
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=chat:write", "user_scope=search:read"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"ok":true,"access_token":"bot","scope":"chat:write","token_type":"bot","team":{"id":"T1"},
					"authed_user":{"id":"U1","scope":"search:read","access_token":"at1","refresh_token":"rt1","token_type":"user","expires_in":43200}}`},
				{Request: "POST /token", Sends: renew(), Body: `{"ok":true,"access_token":"at2","refresh_token":"rt2","token_type":"user","expires_in":43200,"team":{"id":"T1"}}`},
			}, granted: []string{"search:read", "user:search:read"}, kept: map[string]string{"team_id": "T1"}, ttl: 43200,
		},
		{
			name: "client in the header", text: "token_endpoint_auth_method: client_secret_basic\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange("-client_id", "-client_secret"), Header: map[string]string{"Authorization": "Basic aWQtMTpzM2NyZXQ="}, Body: first},
				{Request: "POST /token", Sends: renew("-client_id", "-client_secret"), Header: map[string]string{"Authorization": "Basic aWQtMTpzM2NyZXQ="}, Body: second},
			}, ttl: 3600,
		},
		{
			name: "public client", text: "token_endpoint_auth_method: none\npkce: S256\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("code_challenge=*", "code_challenge_method=S256"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange("-client_secret", "code_verifier=*"), Body: first},
				{Request: "POST /token", Sends: renew("-client_secret"), Body: second},
			}, ttl: 3600,
		},
		{
			name: "JSON requests", text: "token: {request: json}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Type: "application/json", Sends: exchange(), Body: first},
				{Request: "POST /token", Type: "application/json", Sends: renew(), Body: second},
			}, ttl: 3600,
		},
		{
			name: "GET requests, other names, numbers as errors",
			text: "authorize_rename: {client_id: appid}\ntoken: {request: get, type: absent, rename: {client_id: appid, client_secret: secret}, omit_params: [redirect_uri], keep: [openid], fields: {error: errcode, error_description: errmsg}, error_codes: {\"42002\": invalid_grant}}\nrefresh_endpoint: %URL%/refresh\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("-client_id", "appid=id-1"), Callback: "code=c1"},
				{Request: "GET /token", Sends: map[string]string{"appid": "id-1", "secret": "s3cret", "code": "c1", "grant_type": "authorization_code"},
					Body: `{"access_token":"at1","expires_in":7200,"refresh_token":"rt1","openid":"o1","scope":"snsapi_login","errcode":0}`},
				{Request: "GET /refresh", Sends: map[string]string{"appid": "id-1", "secret": "s3cret", "refresh_token": "rt1", "grant_type": "refresh_token"},
					Body: `{"access_token":"at2","expires_in":7200,"refresh_token":"rt1","openid":"o1","scope":"snsapi_login"}`},
			}, granted: []string{"snsapi_login"}, kept: map[string]string{"openid": "o1"}, ttl: 7200,
		},
		{
			name: "more parameters, each in its place",
			text: "authorize_params: {type: web_server}\ntoken: {params: {api: v2}, exchange_params: {type: web_server}, refresh_params: {type: refresh}}\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("type=web_server"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange("type=web_server", "api=v2"), Body: first},
				{Request: "POST /token", Sends: renew("type=refresh", "api=v2"), Body: second},
			}, ttl: 3600,
		},
		{
			name: "wrapped and renamed fields",
			text: "token: {inside: data, type: absent, fields: {access_token: accessToken, refresh_token: refreshToken, expires_in: expireIn, scope: granted.scopes}}\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"code":0,"data":{"accessToken":"at1","refreshToken":"rt1","expireIn":"7200","granted":{"scopes":["x"]}}}`},
				{Request: "POST /token", Sends: renew(), Body: `{"code":0,"data":{"accessToken":"at2","refreshToken":"rt2","expireIn":7200}}`},
			}, granted: []string{"x"}, ttl: 7200,
		},
		{
			name: "form-encoded answer with another name for the expiry", text: "token: {type: absent, fields: {expires_in: expires}}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Answers: "application/x-www-form-urlencoded", Body: "access_token=at1&refresh_token=rt1&expires=5184000"},
				{Request: "POST /token", Sends: renew(), Answers: "application/x-www-form-urlencoded", Body: "access_token=at2&expires=5184000"},
			}, ttl: 5184000,
		},
		{
			name: "a point in time", text: "token: {fields: {expires_at: expires_at}}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_at":"` + hence(2*time.Hour) + `"}`},
				{Request: "POST /token", Sends: renew(), Body: `{"access_token":"at2","token_type":"bearer","expires_at":"` + hence(2*time.Hour) + `"}`},
			}, ttl: 7200,
		},
		{
			name: "no expiry told", text: "token: {expires_in: \"7200\"}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer"}`},
				{Request: "POST /token", Sends: renew(), Body: `{"access_token":"at2","token_type":"bearer"}`},
			}, ttl: 7200,
		},
		{
			name: "an address for refreshes", text: "refresh_endpoint: %URL%/refresh\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: first},
				{Request: "POST /refresh", Sends: renew(), Body: second},
			}, ttl: 3600,
		},
		{
			name: "a short-lived token, exchanged, that renews itself",
			text: "refresh_endpoint: %URL%/refresh_access_token\ntoken:\n  type: absent\n  upgrade: {endpoint: \"%URL%/access_token\", grant_type: ig_exchange_token, param: access_token}\n" +
				"  renewal: {grant_type: ig_refresh_token, credential: access_token, param: access_token, request: get, omit_client: true, before: 168h}\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"short","user_id":7}`},
				{Request: "GET /access_token", Sends: map[string]string{"grant_type": "ig_exchange_token", "client_id": "id-1", "client_secret": "s3cret", "access_token": "short"},
					Body: `{"access_token":"at1","token_type":"bearer","expires_in":5184000}`},
				{Request: "GET /refresh_access_token", Sends: map[string]string{"grant_type": "ig_refresh_token", "access_token": "at1"},
					Body: `{"access_token":"at2","token_type":"bearer","expires_in":5184000}`},
			}, ttl: 5184000,
		},
		{
			name: "fields of callback and answer to keep, a code of another name",
			text: "code_param: auth_code\ncallback_keep: {realm_id: realmId}\ntoken: {keep: [instance_url]}\nvariables: [{name: realm_id, from: callback}]\napi: {base_url: \"%URL%/v3/company/{realm_id}\", hosts: [\"%HOST%\"]}\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "auth_code=c1&realmId=9130"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_in":3600,"instance_url":"https://i.example"}`},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, kept: map[string]string{"realm_id": "9130", "instance_url": "https://i.example"}, ttl: 3600,
		},
		{
			name: "a second call for the site, with the client's id",
			text: "variables: [{name: cloud_id, from: site}]\nsite: {endpoint: \"%URL%/v1/sites\", label: name, keep: {cloud_id: id}}\napi: {base_url: \"%URL%/ex/{cloud_id}\", hosts: [\"%HOST%\"], headers: {X-Version: \"2\", Client-Id: \"{client_id}\"}}\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: first},
				{Request: "GET /v1/sites", Header: map[string]string{"Authorization": "Bearer at1", "X-Version": "2", "Client-Id": "id-1"}, Body: `[{"id":"1234","name":"acme","url":"https://acme.example"}]`},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, kept: map[string]string{"cloud_id": "1234"}, ttl: 3600,
		},
		{
			name: "fields of the login again, in the exchange and in each refresh",
			text: "callback_keep: {device_id: device_id}\ntoken: {exchange_sends: [device_id, context, state, scope], refresh_sends: [redirect_uri, device_id, state, scope]}\nredirect_uri: http://127.0.0.1:%PORT%/callback/odd\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a b"), Callback: "code=c1&device_id=d1&context=c+x%2F1"},
				{Request: "POST /token", Sends: exchange("device_id=d1", "context=c x/1", "state=*", "scope=a b"), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"bearer","expires_in":3600,"scope":"b"}`},
				{Request: "POST /token", Sends: renew("redirect_uri=*", "device_id=d1", "state=*", "scope=b"), Body: second},
			}, scopes: []string{"a", "b"}, granted: []string{"b"}, kept: map[string]string{"device_id": "d1"}, ttl: 3600,
		},
		{
			name: "JSON with the redirect and the scopes in each request",
			text: "token: {request: json, exchange_sends: [scope], refresh_sends: [scope, redirect_uri]}\nredirect_uri: http://127.0.0.1:%PORT%/callback/odd\n",
			steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("scope=a b"), Callback: "code=c1"},
				{Request: "POST /token", Type: "application/json", Sends: exchange("scope=a b"), Body: first},
				{Request: "POST /token", Type: "application/json", Sends: renew("redirect_uri=*", "scope=a b"), Body: second},
			}, scopes: []string{"a", "b"}, granted: []string{"a", "b"}, ttl: 3600,
		},
		{
			name: "a type of several words, as at eBay", text: "token: {type: User Access Token}\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","refresh_token":"rt1","token_type":"User Access Token","expires_in":7200}`},
				{Request: "POST /token", Sends: renew(), Body: `{"access_token":"at2","token_type":"User Access Token","expires_in":7200}`},
			}, ttl: 7200,
		},
		{
			name: "resources", text: "resources: [\"https://api.odd.example/a\", \"https://api.odd.example/b\"]\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize("resource=https://api.odd.example/a https://api.odd.example/b"), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange("resource=https://api.odd.example/a https://api.odd.example/b"), Body: first},
				{Request: "POST /token", Sends: renew("resource=https://api.odd.example/a https://api.odd.example/b"), Body: second},
			}, ttl: 3600,
		},
		{
			name: "localhost", text: "redirect_uri: http://localhost:*/callback/odd\n", steps: []fakes.Exchange{
				{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				{Request: "POST /token", Sends: exchange(), Body: first},
				{Request: "POST /token", Sends: renew(), Body: second},
			}, ttl: 3600,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := begin(t, test.text, test.steps...)
			rec, err := l.connect(providers.PinOptions{}, test.scopes...)
			l.must(err)
			if rec.Body.Access.Reveal() != "at1" {
				t.Error("the record has another token")
			}
			if !slices.Equal(rec.ScopesGranted, test.granted) || max(rec.TTL, test.ttl)-min(rec.TTL, test.ttl) > 5 || !maps.Equal(rec.Body.Kept, test.kept) {
				t.Errorf("granted %q, lives %d s, kept %q", rec.ScopesGranted, rec.TTL, rec.Body.Kept)
			}
			if got := l.token("odd", connection.Option{}); got != "at1" {
				t.Error("another token is handed out")
			}
			if got := l.token("odd", connection.Option{Refresh: true}); got != "at2" {
				t.Error("the refresh brought another token")
			}
			if len(l.warnings) > 0 {
				t.Errorf("warnings %q", l.warnings)
			}
		})
	}
}

// hence is a point in time.
func hence(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }

// TestQuirkErrors: an error is one whatever it is called, and in an answer of any
// status; what is not known is no token.
func TestQuirkErrors(t *testing.T) {
	const renamed = "token: {fields: {error: errcode, error_description: errmsg}, error_codes: {\"40029\": invalid_grant}}\n"
	for _, test := range []struct{ name, text, body, code string }{
		{"status 200 with error", "", `{"error":"invalid_grant","error_description":"no"}`, "invalid_grant"},
		{"status 200 with error and token", "", `{"error":"invalid_grant","access_token":"at1","token_type":"bearer"}`, "invalid_grant"},
		{"ok is false", "", `{"ok":false,"error":"invalid_code"}`, "invalid_code"},
		{"a number", renamed, `{"errcode":40029,"errmsg":"invalid code"}`, "invalid_grant"},
		{"a number with a token", renamed, `{"errcode":40029,"access_token":"at1","token_type":"bearer"}`, "invalid_grant"},
		{"an unknown number", renamed, `{"errcode":-1,"errmsg":"busy"}`, "-1"},
		{"the standard name all the same", renamed, `{"errcode":0,"error":"invalid_scope","access_token":"at1","token_type":"bearer"}`, "invalid_scope"},
		{"beside the object", "token: {inside: data, fields: {error: code}, error_codes: {\"20003\": invalid_grant}}\n", `{"code":20003,"msg":"no","data":{}}`, "invalid_grant"},
		{"in the object", "token: {inside: data, fields: {error: error_code}, error_codes: {\"10007\": invalid_grant}}\n", `{"message":"error","data":{"error_code":10007}}`, "invalid_grant"},
		{"the object twice", "token: {inside: data}\n", `{"data":{"access_token":"a","token_type":"bearer"},"data":{"access_token":"b","token_type":"bearer"}}`, ""},
		{"the field twice", "token: {fields: {access_token: accessToken}}\n", `{"accessToken":"a","accessToken":"b","token_type":"bearer"}`, ""},
		{"in a list", "token: {fields: {error: errors.0.resource}, error_codes: {RefreshToken: invalid_grant}}\n", `{"errors":[{"resource":"RefreshToken"}]}`, "invalid_grant"},
		{"in an empty list", "token: {fields: {error: errors.0.resource}}\n", `{"errors":[]}`, ""},
		{"in a list in a list", "token: {fields: {error: errors.1.0}}\n", `{"errors":[[],["invalid_scope"]]}`, "invalid_scope"},
		{"the object is something else", "token: {inside: data}\n", `{"data":[1]}`, ""},
		{"a token that is none", "token: {fields: {access_token: data.token}}\n", `{"data":{"token":{"a":"b"}},"token_type":"bearer"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := begin(t, test.text,
				fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
				fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: test.body})
			_, err := l.connect(providers.PinOptions{})
			if err == nil || oauth.ErrorCode(err) != test.code || test.code == "" && !errors.Is(err, oauth.ErrUnusable) {
				t.Errorf("got %v with the code %q, want %q", err, oauth.ErrorCode(err), test.code)
			}
		})
	}
}

// TestGrantEndedInItsWords: a provider's own code for a dead refresh token asks
// for a new login.
func TestGrantEndedInItsWords(t *testing.T) {
	l := begin(t, "token: {error_codes: {token_revoked: invalid_grant}}\n",
		fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: first},
		fakes.Exchange{Request: "POST /token", Sends: renew(), Body: `{"ok":false,"error":"token_revoked"}`},
		fakes.Exchange{Request: "POST /token", Sends: renew(), Body: `{"ok":false,"error":"token_revoked"}`})
	_, err := l.connect(providers.PinOptions{})
	l.must(err)
	if _, err := l.source.Token(t.Context(), "odd", connection.Option{Refresh: true}); !errors.Is(err, connection.ErrNeedsConnect) {
		t.Errorf("got %v", err)
	}
}

// TestRedirectByName: eBay's way. The provider is sent the name that it gave, in
// both requests; the browser ends at the address behind it, which is pasted and
// held to what was entered. Nothing else that is pasted leads to an exchange.
func TestRedirectByName(t *testing.T) {
	const text = "redirect_uri: https://localhost/callback/odd\nredirect_name: \"{ru_name}\"\nvariables: [{name: ru_name, title: RuName}]\n"
	l := begin(t, text,
		fakes.Exchange{Request: "POST /token", Sends: exchange("redirect_uri=Odd-Odd-PRD-1"), Body: first},
		fakes.Exchange{Request: "POST /token", Sends: renew(), Body: second})
	pins, err := l.def.Pin(providers.PinOptions{Flow: "browser", ClientID: "id-1", HasSecret: true, Variables: map[string]string{"ru_name": "Odd-Odd-PRD-1"}})
	l.must(err)
	l.client = oauth.Client{ID: "id-1", Secret: secret.New("s3cret"), Method: pins.AuthMethod}
	shown := make(chan url.Values, 1)
	var pastes []string
	result, err := flow.Authcode(t.Context(), flow.Env{
		HTTP: l.source.Issuer.(*oauth.HTTP),
		OpenBrowser: func(_ context.Context, address string) error {
			u, err := url.Parse(address)
			shown <- u.Query()
			return err
		},
		ReadPaste: func(context.Context) (string, error) {
			if pastes == nil {
				asked := <-shown
				if got := asked.Get("redirect_uri"); got != "Odd-Odd-PRD-1" {
					t.Errorf("the browser was sent with the redirect %q", got)
				}
				query := "?code=c1&state=" + asked.Get("state")
				pastes = []string{
					"c1", "Odd-Odd-PRD-1" + query, "https://odd.example/callback/odd" + query, "https://localhost/callback/other" + query,
					"http://localhost/callback/odd" + query, "https://localhost:444/callback/odd" + query,
					"https://localhost/callback/odd?code=c1&state=other", "https://localhost/callback/odd?code=c1",
					"https://localhost/callback/odd" + query + "&state=" + asked.Get("state"),
					"https://localhost/callback/odd" + query,
				}
			}
			next := pastes[0]
			pastes = pastes[1:]
			return next, nil
		},
	}, flow.Attempt{Pins: pins, Provider: l.def.Provider, Client: l.client})
	l.must(err)
	if len(pastes) != 0 || result.Via != flow.FlowPaste {
		t.Errorf("%d pastes are left, the code came by %s", len(pastes), result.Via)
	}
	_, err = l.source.Enroll(t.Context(), connection.Login{
		Draft:   connection.Header{Name: "odd", Provider: "odd", Flow: connection.FlowPaste, Pins: pins},
		Request: result.Request, Callback: result.Callback, Client: l.client,
	})
	l.must(err)
	if l.token("odd", connection.Option{}) != "at1" || l.token("odd", connection.Option{Refresh: true}) != "at2" {
		t.Error("another token is handed out")
	}
}

// TestRenewedAfterItsEnd: HeadHunter's way. A token is handed out until its end,
// whatever life is asked for; a refresh ahead of it is refused here, with the time,
// and after it there is one.
func TestRenewedAfterItsEnd(t *testing.T) {
	l := begin(t, "token: {renewal: {after_end: true}}\n",
		fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: first},
		fakes.Exchange{Request: "POST /token", Sends: renew(), Body: `{"access_token":"at2","refresh_token":"rt2","token_type":"bearer","expires_in":3600}`})
	rec, err := l.connect(providers.PinOptions{})
	l.must(err)
	l.now = rec.ExpiresAt().Add(-time.Second)
	if l.token("odd", connection.Option{MinTTL: time.Hour}) != "at1" {
		t.Error("another token is handed out before the end")
	}
	_, err = l.source.Token(t.Context(), "odd", connection.Option{Refresh: true})
	if !errors.Is(err, connection.ErrTemporary) || !strings.Contains(err.Error(), "only after it has ended, which is at "+rec.ExpiresAt().UTC().Format(time.RFC3339)) {
		t.Errorf("got %v", err)
	}
	access, err := l.source.Token(t.Context(), "odd", connection.Option{})
	l.must(err)
	if !access.FreshUntil().Equal(rec.ExpiresAt()) {
		t.Errorf("fresh until %v, the end is at %v", access.FreshUntil(), rec.ExpiresAt())
	}
	l.now = rec.ExpiresAt()
	for range 2 {
		if l.token("odd", connection.Option{}) != "at2" {
			t.Error("it was not renewed after its end")
		}
	}
}

// TestRefreshSendsWhatThereIs: a field that the provider never told is left out of
// a refresh, and so are scopes where none were asked for.
func TestRefreshSendsWhatThereIs(t *testing.T) {
	l := begin(t, "token: {keep: [shop], refresh_sends: [shop, scope]}\n",
		fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: first},
		fakes.Exchange{Request: "POST /token", Sends: renew(), Body: `{"access_token":"at2","token_type":"bearer","expires_in":3600,"shop":"s1"}`},
		fakes.Exchange{Request: "POST /token", Sends: renew("shop=s1"), Body: second})
	_, err := l.connect(providers.PinOptions{})
	l.must(err)
	for range 2 {
		if l.token("odd", connection.Option{Refresh: true}) != "at2" {
			t.Error("another token is handed out")
		}
	}
}

// TestUpgradeThatFails: the short-lived token is kept, and that is said.
func TestUpgradeThatFails(t *testing.T) {
	l := begin(t, "token: {upgrade: {endpoint: \"%URL%/long\", grant_type: fb_exchange_token, param: fb_exchange_token}}\n",
		fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"short","token_type":"bearer","expires_in":3600}`},
		fakes.Exchange{Request: "GET /long", Sends: map[string]string{"grant_type": "fb_exchange_token", "client_id": "id-1", "client_secret": "s3cret", "fb_exchange_token": "short"},
			Status: 400, Body: `{"error":{"message":"no","type":"OAuthException","code":1}}`})
	rec, err := l.connect(providers.PinOptions{})
	l.must(err)
	if rec.Body.Access.Reveal() != "short" || len(l.warnings) != 1 || !strings.Contains(l.warnings[0], "long-lived") {
		t.Errorf("warnings %q", l.warnings)
	}
}

// TestSelfRenewalInTime: a token that renews itself is renewed while it is alive,
// and not by every command.
func TestSelfRenewalInTime(t *testing.T) {
	l := begin(t, "token: {renewal: {grant_type: th_refresh_token, credential: access_token, param: access_token, request: get, omit_client: true, before: 168h}}\n",
		fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: `{"access_token":"at1","token_type":"bearer","expires_in":5184000}`},
		fakes.Exchange{Request: "GET /token", Sends: map[string]string{"grant_type": "th_refresh_token", "access_token": "at1"}, Body: `{"access_token":"at2","token_type":"bearer","expires_in":5184000}`})
	_, err := l.connect(providers.PinOptions{})
	l.must(err)
	l.now = l.now.Add(52 * 24 * time.Hour)
	if l.token("odd", connection.Option{}) != "at1" {
		t.Error("it was renewed too early")
	}
	l.now = l.now.Add(36 * time.Hour)
	for range 2 {
		if l.token("odd", connection.Option{}) != "at2" {
			t.Error("it was not renewed in time")
		}
	}
}

// TestSites: one site is taken and remembered, and a person can name it.
func TestSites(t *testing.T) {
	const definition = "variables: [{name: tenant_id, from: site}]\nsite: {endpoint: \"%URL%/v1/connections\", list: data, label: tenantName, keep: {tenant_id: tenantId}}\napi: {base_url: \"%URL%/ex/{tenant_id}\", hosts: [\"%HOST%\"]}\n"
	const sites = `{"data":[{"tenantId":"t-1","tenantName":"Acme"},{"tenantId":"t-2","tenantName":"Other"}]}`
	login := func(body string) []fakes.Exchange {
		return []fakes.Exchange{
			{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
			{Request: "POST /token", Sends: exchange(), Body: first},
			{Request: "GET /v1/connections", Body: body},
		}
	}
	t.Run("by name, then the same again", func(t *testing.T) {
		l := begin(t, definition, append(login(sites), login(sites)...)...)
		rec, err := l.connect(providers.PinOptions{Site: "other"})
		l.must(err)
		if rec.Pins.APIBase != l.table.URL+"/ex/t-2" {
			t.Errorf("base %s", rec.Pins.APIBase)
		}
		if rec, err = l.connect(providers.PinOptions{}); err != nil || rec.Body.Kept["tenant_id"] != "t-2" || len(l.warnings) > 0 {
			t.Errorf("%v, kept %q, warnings %q", err, rec.Body.Kept, l.warnings)
		}
	})
	t.Run("the first, and said so", func(t *testing.T) {
		l := begin(t, definition, login(sites)...)
		rec, err := l.connect(providers.PinOptions{})
		l.must(err)
		if rec.Body.Kept["tenant_id"] != "t-1" || len(l.warnings) != 1 || !strings.Contains(l.warnings[0], "--site") {
			t.Errorf("kept %q, warnings %q", rec.Body.Kept, l.warnings)
		}
	})
	for name, body := range map[string]string{"unknown": sites, "none": `{"data":[]}`, "no list": `{"data":{}}`, "a list of numbers": `{"data":[1]}`, "another place": `{"data":[{"tenantId":"x/../y","tenantName":"nowhere"}]}`} {
		t.Run(name, func(t *testing.T) {
			l := begin(t, definition, login(body)...)
			if _, err := l.connect(providers.PinOptions{Site: "nowhere"}); err == nil {
				t.Error("it was connected")
			}
			if _, err := l.source.Token(t.Context(), "odd", connection.Option{}); !errors.Is(err, connection.ErrNotConnected) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestTokenExchange: R-17. What a narrower token may be for is pinned: anything
// else is refused before a request is made. Each is asked for by itself, and none
// is served for another.
func TestTokenExchange(t *testing.T) {
	const definition = "scopes: {separator: \" \"}\ntoken_exchange: {scopes: [preview, download], resources: [\"https://api.odd.example/files\"], audiences: [a, b], auth_method: omitted}\n"
	narrower := func(token string, more ...string) fakes.Exchange {
		return fakes.Exchange{
			Request: "POST /token", Header: map[string]string{"Authorization": ""}, Body: `{"access_token":"` + token + `","token_type":"bearer","expires_in":600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}`,
			Sends: with(map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "at1", "subject_token_type": "urn:ietf:params:oauth:token-type:access_token"}, more...),
		}
	}
	broader, same := narrower("n5", "scope=preview"), narrower("at1", "scope=preview")
	broader.Body = `{"access_token":"n5","token_type":"bearer","scope":"preview everything"}`
	l := begin(t, definition,
		fakes.Exchange{Request: "GET /authorize", Sends: authorize("scope=all"), Callback: "code=c1"},
		fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: first},
		narrower("n1", "scope=preview download", "resource=https://api.odd.example/files/42"),
		narrower("n2", "scope=preview", "audience=a"),
		narrower("n3", "scope=preview", "audience=b"),
		narrower("n4", "scope=preview", "audience=a"), broader, same)
	_, err := l.connect(providers.PinOptions{}, "all")
	l.must(err)
	for want, n := range map[string]connection.Narrow{
		"n1": {Scopes: []string{"preview", "download"}, Resources: []string{"https://api.odd.example/files/42"}},
	} {
		a, err := l.source.Downscope(t.Context(), "odd", n, connection.Option{})
		l.must(err)
		if a.Token.Reveal() != want || !slices.Equal(a.Header.ScopesGranted, n.Scopes) || a.ExpiresAt.Sub(l.now) > 10*time.Minute {
			t.Errorf("%s: granted %q until %v", want, a.Header.ScopesGranted, a.ExpiresAt)
		}
	}
	for i, audience := range []string{"a", "b", "a"} {
		a, err := l.source.Downscope(t.Context(), "odd", connection.Narrow{Scopes: []string{"preview"}, Audiences: []string{audience}}, connection.Option{})
		l.must(err)
		if a.Token.Reveal() != fmt.Sprintf("n%d", i+2) {
			t.Errorf("the token for %s is another", audience)
		}
	}
	for name, n := range map[string]connection.Narrow{
		"more than may be":            {Scopes: []string{"preview", "all"}},
		"no scope":                    {Resources: []string{"https://api.odd.example/files/42"}},
		"another resource":            {Scopes: []string{"preview"}, Resources: []string{"https://api.odd.example/folders/1"}},
		"a name that begins like it":  {Scopes: []string{"preview"}, Resources: []string{"https://api.odd.example/files-of-others"}},
		"another host":                {Scopes: []string{"preview"}, Resources: []string{"https://evil.example/files/42"}},
		"the way up":                  {Scopes: []string{"preview"}, Resources: []string{"https://api.odd.example/files/../folders/1"}},
		"the way up, escaped":         {Scopes: []string{"preview"}, Resources: []string{"https://api.odd.example/files/%2e%2e/folders"}},
		"another audience":            {Scopes: []string{"preview"}, Audiences: []string{"c"}},
		"an audience that it is not ": {Scopes: []string{"preview"}, Audiences: []string{"a b"}},
	} {
		var narrow *connection.NarrowError
		if _, err := l.source.Downscope(t.Context(), "odd", n, connection.Option{}); !errors.As(err, &narrow) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// An answer that gives more, or the same token back, is not handed out.
	for range 2 {
		if _, err := l.source.Downscope(t.Context(), "odd", connection.Narrow{Scopes: []string{"preview"}}, connection.Option{}); !errors.Is(err, connection.ErrRefused) {
			t.Errorf("got %v", err)
		}
	}
	// None of them took the place of the connection's token.
	if l.token("odd", connection.Option{}) != "at1" {
		t.Error("the connection has another token")
	}

	none := begin(t, "", fakes.Exchange{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"}, fakes.Exchange{Request: "POST /token", Sends: exchange(), Body: first})
	_, err = none.connect(providers.PinOptions{})
	none.must(err)
	var narrow *connection.NarrowError
	if _, err := none.source.Downscope(t.Context(), "odd", connection.Narrow{Scopes: []string{"preview"}}, connection.Option{}); !errors.As(err, &narrow) {
		t.Errorf("got %v", err)
	}
}

// TestJWTBearerWithAWrongClock: R-16. With our clock an hour ahead the first
// assertion is refused; the next one is signed by the issuer's clock, once. A
// renewal signs anew.
func TestJWTBearerWithAWrongClock(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := oauth.ParseKeyFile(secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), secret.Text{})
	if err != nil {
		t.Fatal(err)
	}
	file.Key.Secret = secret.New("s3cret")
	kept, err := file.Key.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var issued []time.Time
	seen := map[string]bool{}
	request := func(status int, body string) fakes.Exchange {
		return fakes.Exchange{
			Request: "POST /token", Status: status, Body: body,
			Sends: map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "*", "client_id": "id-1", "client_secret": "s3cret"},
			Check: func(sent map[string]string) error {
				var claims struct {
					Iss, Sub, Aud, Jti, Kind string
					Iat, Exp                 int64
				}
				parts := strings.Split(sent["assertion"], ".")
				body, err := base64.RawURLEncoding.DecodeString(parts[1])
				if err != nil || json.Unmarshal(body, &claims) != nil {
					return errors.New("the claims cannot be read")
				}
				if claims.Iss != "id-1" || claims.Sub != "77" || claims.Aud != "https://api.odd.example/oauth2/token" || claims.Kind != "enterprise" || claims.Exp-claims.Iat != 45 || seen[claims.Jti] {
					return errors.New("the claims are not what the definition says")
				}
				seen[claims.Jti] = true
				issued = append(issued, time.Unix(claims.Iat, 0))
				return nil
			},
		}
	}
	l := begin(t, "flows: [jwt-bearer]\njwt_bearer: {audience: \"https://api.odd.example/oauth2/token\", scope: none, claims: {kind: enterprise}, auth_method: client_secret_post, lifetime: 45s}\n",
		request(400, `{"error":"invalid_grant","error_description":"check the exp claim"}`), request(200, `{"access_token":"at1","token_type":"bearer","expires_in":3600}`),
		request(200, `{"access_token":"at2","token_type":"bearer","expires_in":3600}`), request(400, `{"error":"invalid_grant","error_description":"the app was removed"}`))
	l.now = l.now.Add(time.Hour)
	pins, err := l.def.Pin(providers.PinOptions{Flow: "jwt-bearer", ClientID: "id-1", Subject: "77"})
	l.must(err)
	l.client.Secret = kept
	req := connection.JWTBearerRequest(&pins, kept, nil)
	rec, err := l.source.Enroll(t.Context(), connection.Login{
		Draft: connection.Header{Name: "odd", Provider: "odd", Flow: connection.FlowJWTBearer, Pins: pins}, Request: &req, Client: connection.Client(&pins, kept),
	})
	l.must(err)
	if rec.Account.Label != "77" || rec.HasRefresh || !rec.CanRenew() || len(l.warnings) != 1 || !strings.Contains(l.warnings[0], "clock differs") {
		t.Errorf("account %q, warnings %q", rec.Account.Label, l.warnings)
	}
	if l.token("odd", connection.Option{Refresh: true}) != "at2" {
		t.Error("the renewal brought another token")
	}
	now := time.Now()
	if len(issued) != 3 || issued[0].Sub(now) < 50*time.Minute || issued[1].Sub(now).Abs() > time.Minute || issued[2].Sub(now).Abs() > time.Minute {
		t.Errorf("issued at %v, now is %v", issued, now)
	}
	// The clock is right now: a refusal is one, and is not tried again.
	l.now = now
	if _, err := l.source.Token(t.Context(), "odd", connection.Option{Refresh: true}); !errors.Is(err, connection.ErrNeedsConnect) {
		t.Errorf("got %v", err)
	}
}

// TestEndThatAPersonTold: what a person says about the end of a grant that they
// bring counts more than the definition's lifetime, which counts from consent.
func TestEndThatAPersonTold(t *testing.T) {
	l := begin(t, "token: {grant_lifetime: 4380h}\n", fakes.Exchange{Request: "POST /token", Sends: renew(), Body: second})
	pins, err := l.def.Pin(providers.PinOptions{Flow: "browser", ClientID: "id-1", HasSecret: true})
	l.must(err)
	l.client = oauth.Client{ID: "id-1", Secret: secret.New("s3cret"), Method: pins.AuthMethod}
	brought, told := secret.New("rt1"), l.now.Add(30*24*time.Hour)
	req := connection.RefreshRequest(&pins, l.client, brought)
	rec, err := l.source.Enroll(t.Context(), connection.Login{
		Draft:   connection.Header{Name: "odd", Provider: "odd", Flow: connection.FlowImport, Pins: pins, GrantDeadline: told},
		Request: &req, Imported: brought, Client: l.client,
	})
	l.must(err)
	if !rec.GrantDeadline.Equal(told) {
		t.Errorf("the grant ends %v, want %v", rec.GrantDeadline, told)
	}
}
