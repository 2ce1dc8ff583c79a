package fakes_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	basicClient = "Basic aWQtMTpzM2NyZXQ="
	lasting     = `{"access_token":"at1","token_type":"bearer","expires_in":3600}` // no refresh token
	jsonType    = "application/json"
)

// login is what comes before a revocation.
func login(body string, more ...fakes.Exchange) []fakes.Exchange {
	return append([]fakes.Exchange{
		{Request: "GET /authorize", Sends: authorize(), Callback: "code=c1"},
		{Request: "POST /token", Sends: exchange(), Body: body},
	}, more...)
}

// TestFarewells disconnects at providers that each end a grant in a manner of
// their own. The table fails when the request is not exactly the one described,
// and when the token goes anywhere else.
func TestFarewells(t *testing.T) {
	client := func(more ...string) map[string]string {
		return with(map[string]string{"client_id": "id-1", "client_secret": "s3cret"}, more...)
	}
	for _, test := range []struct {
		name, endpoint, revocation string
		grant                      string // the answer of the login
		step                       fakes.Exchange
		why                        string // "" when it is revoked, else a part of the reason
	}{
		{
			name: "DELETE with the token itself", endpoint: "/api/token", revocation: "method: DELETE, auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "DELETE /api/token", Header: map[string]string{"Authorization": "Bearer at1"}, Status: 204},
		},
		{
			name: "POST with the token itself, without a body", endpoint: "/logout", revocation: "auth: bearer", grant: first,
			step: fakes.Exchange{Request: "POST /logout", Type: fakes.NoBody, Header: map[string]string{"Authorization": "Bearer at1"}},
		},
		{
			name: "GET with the token itself and a parameter", endpoint: "/end", revocation: "method: GET, auth: bearer, params: {all: \"true\"}", grant: first,
			step: fakes.Exchange{Request: "GET /end", Sends: map[string]string{"all": "true"}, Header: map[string]string{"Authorization": "Bearer at1"}},
		},
		{
			name: "DELETE of the token endpoint as a form", endpoint: "/token", grant: first,
			revocation: "method: DELETE, auth: client_secret_basic, token: refresh_token, params: {token_type_hint: refresh_token}",
			step: fakes.Exchange{Request: "DELETE /token", Type: "application/x-www-form-urlencoded", Sends: map[string]string{"token": "rt1", "token_type_hint": "refresh_token"},
				Header: map[string]string{"Authorization": basicClient}, Status: 204},
		},
		{
			name: "the access token under its own name", endpoint: "/revoke", revocation: "token: access_token, rename: {token: access_token}", grant: first,
			step: fakes.Exchange{Request: "POST /revoke", Sends: client("access_token=at1"), Header: map[string]string{"Authorization": ""}},
		},
		{
			name: "another authentication of the client", endpoint: "/revoke", revocation: "auth: client_secret_basic", grant: first,
			step: fakes.Exchange{Request: "POST /revoke", Sends: map[string]string{"token": "rt1"}, Header: map[string]string{"Authorization": basicClient}},
		},
		{
			name: "no secret", endpoint: "/revoke", revocation: "auth: none", grant: lasting,
			step: fakes.Exchange{Request: "POST /revoke", Sends: map[string]string{"token": "at1", "client_id": "id-1"}},
		},
		{
			name: "nothing of the client", endpoint: "/revoke", revocation: "auth: omitted", grant: lasting,
			step: fakes.Exchange{Request: "POST /revoke", Sends: map[string]string{"token": "at1"}},
		},
		{
			name: "JSON with names of its own", endpoint: "/v2/revoke", grant: first,
			revocation: "request: json, token: access_token, rename: {token: accessToken, client_id: clientId, client_secret: clientSecret}",
			step: fakes.Exchange{Request: "POST /v2/revoke", Type: jsonType, Sends: map[string]string{"accessToken": "at1", "clientId": "id-1", "clientSecret": "s3cret"},
				Status: 204},
		},
		{
			name: "a grant type of its own, by GET", endpoint: "/token", grant: first,
			revocation: "method: GET, token: access_token, rename: {token: access_token}, params: {grant_type: delete, service_provider: ODD}",
			step: fakes.Exchange{Request: "GET /token", Sends: client("access_token=at1", "grant_type=delete", "service_provider=ODD"),
				Body: `{"access_token":"at1","result":"success"}`},
		},
		{
			name: "POST with a query", endpoint: "/revoke", revocation: "request: query, auth: omitted, params: {token_type_hint: refresh_token}", grant: first,
			step: fakes.Exchange{Request: "POST /revoke", Type: fakes.NoBody, Sends: map[string]string{"token": "rt1", "token_type_hint": "refresh_token"}},
		},
		{
			name: "the token that is not taken any more", endpoint: "/api/token", revocation: "method: DELETE, auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "DELETE /api/token", Status: 401, Body: `{"error":"No such token"}`},
		},
		{
			name: "the refresh token that is gone", endpoint: "/revoke", revocation: "auth: none", grant: first,
			step: fakes.Exchange{Request: "POST /revoke", Sends: map[string]string{"token": "rt1", "client_id": "id-1"}, Status: 400, Body: `{"error":"invalid_token"}`},
		},
		{
			name: "the access token ended before its grant", endpoint: "/logout", revocation: "auth: bearer", grant: first,
			step: fakes.Exchange{Request: "POST /logout", Type: fakes.NoBody, Status: 401, Body: `{"error":"invalid_token"}`}, why: "the access token has ended",
		},
		{
			name: "no such page", endpoint: "/api/token", revocation: "method: DELETE, auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "DELETE /api/token", Status: 404, Answers: "text/html", Body: "<p>at1"}, why: "HTTP status 404",
		},
		{
			name: "refused, with the token in the words", endpoint: "/revoke", revocation: "request: json", grant: first,
			step: fakes.Exchange{Request: "POST /revoke", Type: jsonType, Sends: client("token=rt1-long-enough"), Status: 403,
				Body: `{"error":"access_denied","error_description":"not rt1-long-enough"}`}, why: "access_denied: not [redacted]",
		},
		{
			name: "an error with status 200", endpoint: "/api/auth.revoke", revocation: "auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "POST /api/auth.revoke", Type: fakes.NoBody, Body: `{"ok":false,"error":"not_allowed_token_type"}`}, why: "not_allowed_token_type",
		},
		{
			name: "an answer that leads elsewhere", endpoint: "/api/token", revocation: "method: DELETE, auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "DELETE /api/token", Status: 307, Body: ""}, why: "redirect",
		},
		{
			name: "no answer", endpoint: "/api/token", revocation: "method: DELETE, auth: bearer", grant: lasting,
			step: fakes.Exchange{Request: "DELETE /api/token", Drop: true}, why: "no answer from",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			grant := test.grant
			if test.step.Sends["token"] == "rt1-long-enough" {
				grant = strings.Replace(grant, "rt1", "rt1-long-enough", 1)
			}
			l := begin(t, "revocation_endpoint: %URL%"+test.endpoint+"\nrevocation: {style: request, "+test.revocation+"}\n", login(grant, test.step)...)
			_, err := l.connect(providers.PinOptions{})
			l.must(err)
			f, err := l.source.Disconnect(t.Context(), "odd", false)
			l.must(err)
			if f.Revoked != (test.why == "") || (f.Err == nil) != f.Revoked {
				t.Errorf("revoked %t, %v", f.Revoked, f.Err)
			}
			if f.Err != nil && !strings.Contains(f.Err.Error(), test.why) {
				t.Errorf("got %v, want a word of %s", f.Err, test.why)
			}
			// Here it is forgotten, whatever the provider said.
			if _, err := l.source.Token(t.Context(), "odd", connection.Option{}); !errors.Is(err, connection.ErrNotConnected) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestFarewellThatCannotBe: where only a refresh token ends a grant, or only a
// client with a secret may, nothing is sent without one.
func TestFarewellThatCannotBe(t *testing.T) {
	for name, revocation := range map[string]string{
		"no refresh token": "token: refresh_token",
		"no secret":        "auth: client_secret_basic",
	} {
		t.Run(name, func(t *testing.T) {
			login := login(lasting)
			text := "revocation_endpoint: %URL%/revoke\nrevocation: {style: request, " + revocation + "}\n"
			if name == "no secret" {
				text += "token_endpoint_auth_method: none\n"
				login[1].Sends = exchange("-client_secret")
			}
			l := begin(t, text, login...)
			_, err := l.connect(providers.PinOptions{})
			l.must(err)
			f, err := l.source.Disconnect(t.Context(), "odd", false)
			l.must(err)
			if f.Revoked || !errors.Is(f.Err, oauth.ErrNoRevocation) {
				t.Errorf("revoked %t, %v", f.Revoked, f.Err)
			}
		})
	}
}

// TestFarewellOfADeadToken: where a grant ends by its access token only, and that
// has ended, another one is fetched to do it: after the connection is forgotten.
func TestFarewellOfADeadToken(t *testing.T) {
	const text = "revocation_endpoint: %URL%/logout\nrevocation: {style: request, auth: bearer}\n"
	logout := fakes.Exchange{Request: "POST /logout", Type: fakes.NoBody, Header: map[string]string{"Authorization": "Bearer at2"}}
	for _, test := range []struct {
		name   string
		steps  []fakes.Exchange
		why    string
		leaked bool // asked by Revoke, which keeps what it cannot end
	}{
		{"it is renewed", []fakes.Exchange{{Request: "POST /token", Sends: renew(), Body: second}, logout}, "", false},
		{"it is renewed, and was leaked", []fakes.Exchange{{Request: "POST /token", Sends: renew(), Body: second}, logout}, "", true},
		{"the grant has ended", []fakes.Exchange{{Request: "POST /token", Sends: renew(), Status: 400, Body: `{"error":"invalid_grant"}`}}, "get a living access token to revoke with", false},
		{"no answer", []fakes.Exchange{{Request: "POST /token", Sends: renew(), Drop: true}}, "no answer from", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := begin(t, text, login(first, test.steps...)...)
			_, err := l.connect(providers.PinOptions{})
			l.must(err)
			l.now = l.now.Add(2 * time.Hour)
			end := func() (connection.Farewell, error) { return l.source.Disconnect(t.Context(), "odd", false) }
			if test.leaked {
				end = func() (connection.Farewell, error) { return l.source.Revoke(t.Context(), "odd") }
			}
			f, err := end()
			l.must(err)
			if f.Revoked != (test.why == "") || test.why != "" && (f.Err == nil || !strings.Contains(f.Err.Error(), test.why)) {
				t.Errorf("revoked %t, %v", f.Revoked, f.Err)
			}
			if _, err := l.source.Token(t.Context(), "odd", connection.Option{}); !errors.Is(err, connection.ErrNotConnected) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestLeakedInItsManner: a grant whose token has leaked is ended first, and the
// access token by itself as well where the request takes either.
func TestLeakedInItsManner(t *testing.T) {
	for _, test := range []struct {
		name, revocation string
		steps            []fakes.Exchange
	}{
		{"either token", "request: json, auth: none", []fakes.Exchange{
			{Request: "POST /revoke", Type: jsonType, Sends: map[string]string{"token": "rt1", "client_id": "id-1"}},
			{Request: "POST /revoke", Type: jsonType, Sends: map[string]string{"token": "at1", "client_id": "id-1"}},
		}},
		{"the token itself", "auth: bearer", []fakes.Exchange{{Request: "POST /revoke", Type: fakes.NoBody, Header: map[string]string{"Authorization": "Bearer at1"}}}},
		{"one of them", "auth: none, token: refresh_token", []fakes.Exchange{{Request: "POST /revoke", Sends: map[string]string{"token": "rt1", "client_id": "id-1"}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := begin(t, "revocation_endpoint: %URL%/revoke\nrevocation: {style: request, "+test.revocation+"}\n", login(first, test.steps...)...)
			_, err := l.connect(providers.PinOptions{})
			l.must(err)
			f, err := l.source.Revoke(t.Context(), "odd")
			if err != nil || !f.Revoked || f.Err != nil {
				t.Errorf("revoked %t, %v, %v", f.Revoked, f.Err, err)
			}
		})
	}
}

// TestTokenOfAnyKind: a token that is not kept, and that the provider does not take
// as an access token, may be a refresh token: it does not count as ended.
func TestTokenOfAnyKind(t *testing.T) {
	for _, test := range []struct {
		name, revocation string
		steps            []fakes.Exchange
		ok               bool
		why              string
	}{
		{"taken", "auth: bearer", []fakes.Exchange{{Request: "POST /revoke", Type: fakes.NoBody, Header: map[string]string{"Authorization": "Bearer other"}}}, true, ""},
		{"not taken", "auth: bearer", []fakes.Exchange{{Request: "POST /revoke", Type: fakes.NoBody, Status: 401}}, false, "of another kind"},
		{"either is taken", "auth: none", []fakes.Exchange{{Request: "POST /revoke", Sends: map[string]string{"token": "other", "client_id": "id-1"}, Status: 400, Body: `{"error":"invalid_token"}`}}, true, ""},
		{"refresh tokens only", "auth: none, token: refresh_token", nil, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := begin(t, "revocation_endpoint: %URL%/revoke\nrevocation: {style: request, "+test.revocation+"}\n", login(lasting, test.steps...)...)
			_, err := l.connect(providers.PinOptions{})
			l.must(err)
			ok, err := l.source.RevokeToken(t.Context(), "odd", secret.New("other"))
			if ok != test.ok || (err == nil) != (test.why == "") || err != nil && !strings.Contains(err.Error(), test.why) {
				t.Errorf("%t, %v", ok, err)
			}
		})
	}
}

// TestGraphQLIdentity: the question who signed in goes out by POST where it is a
// query, to the address of the definition and nowhere else.
func TestGraphQLIdentity(t *testing.T) {
	const definition = "userinfo_endpoint: %URL%/graphql\nidentity: {query: \"{viewer{id email}}\", subject: data.viewer.id, label: data.viewer.email, headers: {API-Version: \"2\"}}\n"
	for _, test := range []struct {
		name  string
		step  fakes.Exchange
		label string
		warns string
	}{
		{"an account", fakes.Exchange{Body: `{"data":{"viewer":{"id":"7","email":"ann@odd.example"}}}`}, "ann@odd.example", ""},
		{"errors with status 200", fakes.Exchange{Body: `{"data":null,"errors":[{"message":"no\u001b[31m"}]}`}, "", "no data.viewer.id"},
		{"refused", fakes.Exchange{Status: 400, Body: `{"errors":[{"message":"x"}]}`}, "", "HTTP status 400"},
		{"no answer", fakes.Exchange{Drop: true}, "", "no answer from"},
	} {
		t.Run(test.name, func(t *testing.T) {
			step := test.step
			step.Request, step.Type, step.Sends = "POST /graphql", jsonType, map[string]string{"query": "{viewer{id email}}"}
			step.Header = map[string]string{"Authorization": "Bearer at1", "API-Version": "2"}
			l := begin(t, definition, login(first, step)...)
			rec, err := l.connect(providers.PinOptions{})
			l.must(err)
			if rec.Account.Label != test.label {
				t.Errorf("account %q", rec.Account.Label)
			}
			if test.warns == "" && len(l.warnings) > 0 || test.warns != "" && (len(l.warnings) != 1 || !strings.Contains(l.warnings[0], test.warns)) {
				t.Errorf("warnings %q", l.warnings)
			}
		})
	}
}

// TestIdentityWhereTheAnswerSays: where the token answer tells the host of the API,
// the account is asked for there, if the host is a declared one; the token goes to
// no other.
func TestIdentityWhereTheAnswerSays(t *testing.T) {
	const definition = "variables: [{name: instance_url, from: token}]\ntoken: {keep: [instance_url]}\nuserinfo_endpoint: \"{instance_url}/v1/me\"\n" +
		"identity: {subject: id, label: name}\napi: {base_url: \"{instance_url}/v1\", hosts: [\"%HOST%\"]}\n"
	for name, test := range map[string]struct {
		origin, label string
		asks          []fakes.Exchange
	}{
		"a declared host": {"%URL%", "Ann", []fakes.Exchange{{Request: "GET /v1/me", Header: map[string]string{"Authorization": "Bearer at1"}, Body: `{"id":7,"name":"Ann"}`}}},
		"no answer there": {"%URL%", "", []fakes.Exchange{{Request: "GET /v1/me", Drop: true}}},
		"another host":    {"http://127.0.0.1:1", "", nil},
		"no origin":       {"%URL%/v1/elsewhere", "", nil},
		"none at all":     {"", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			body := `{"access_token":"at1","token_type":"bearer","expires_in":3600,"instance_url":"` + test.origin + `"}`
			l := begin(t, definition, login(body, test.asks...)...)
			rec, err := l.connect(providers.PinOptions{})
			if test.asks == nil {
				if !errors.Is(err, connection.ErrRefused) {
					t.Errorf("got %v", err)
				}
				return
			}
			l.must(err)
			if rec.Account.Label != test.label || rec.Pins.UserinfoEndpoint != l.table.URL+"/v1/me" {
				t.Errorf("account %q at %s", rec.Account.Label, rec.Pins.UserinfoEndpoint)
			}
		})
	}
}
