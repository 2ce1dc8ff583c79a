package providers_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// odd is a definition that departs from RFC 6749 wherever one can.
const odd = `id: odd
name: Odd
authorization_endpoint: https://auth.odd.example/authorize
token_endpoint: https://auth.odd.example/token
refresh_endpoint: https://auth.odd.example/refresh
pushed_authorization_request_endpoint: https://auth.odd.example/par
require_pushed_authorization_requests: true
token_endpoint_auth_method: private_key_jwt
token_endpoint_auth_signing_alg: ES256
client_assertion_audience: https://auth.odd.example
flows: [browser, jwt-bearer, implicit, client-credentials]
variables:
  - {name: realm_id, from: callback}
  - {name: site_id, from: site}
  - {name: team_id, from: token}
authorize_params: {access_type: offline}
authorize_rename: {client_id: client_key, scope: scopes}
resources: [https://api.odd.example/v1]
code_param: auth_code
callback_keep: {realm_id: realmId}
scopes:
  separator: ","
  second: {param: user_scope, prefix: "user:", field: authed_user.scope}
  catalog: [{name: read}, {name: "user:read"}]
token:
  request: json
  rename: {client_id: appid, client_secret: secret}
  omit_params: [redirect_uri]
  params: {audience: x}
  exchange_params: {type: web_server}
  refresh_params: {type: refresh}
  inside: data
  fields: {access_token: accessToken, expires_at: expires, error: errcode}
  error_codes: {"40029": invalid_grant}
  keep_as: {team_id: team.id}
  upgrade: {endpoint: "https://graph.odd.example/token", grant_type: odd_exchange, param: access_token}
  renewal: {grant_type: odd_refresh, credential: access_token, param: access_token, request: get, omit_client: true, before: 168h}
jwt_bearer: {audience: "https://auth.odd.example/", subject: required, scope: claim, claims: {kind: robot}, auth_method: client_secret_post, lifetime: 60s}
token_exchange: {scopes: [preview], resources: ["https://api.odd.example/v1"], audiences: [odd], auth_method: omitted}
site: {endpoint: "https://api.odd.example/sites", list: data.sites, label: name, keep: {site_id: id}}
api:
  base_url: https://api.odd.example/v1/{realm_id}/{site_id}/{team_id}
  hosts: [api.odd.example]
`

func TestDialectPins(t *testing.T) {
	d := &providers.Definition{Provider: parseUser(t, odd), Origin: providers.User}
	pins, err := d.Pin(providers.PinOptions{Flow: "jwt-bearer", ClientID: "c", Subject: "alice", Site: "Acme", Resources: []string{"https://api.odd.example/v2"}})
	if err != nil {
		t.Fatal(err)
	}
	if pins.AuthMethod != providers.AuthPost || pins.SigningAlg != "ES256" || pins.AssertionAudience != "https://auth.odd.example" ||
		!pins.RequirePushed || pins.PushedEndpoint != "https://auth.odd.example/par" {
		t.Errorf("got %+v", pins)
	}
	want := &providers.JWTBearerPin{Audience: "https://auth.odd.example/", Subject: "alice", InClaim: true, Claims: map[string]string{"kind": "robot"}, Lifetime: 60}
	if !reflect.DeepEqual(pins.JWTBearer, want) {
		t.Errorf("jwt bearer %+v", pins.JWTBearer)
	}
	if got := pins.Resources; !reflect.DeepEqual(got, []string{"https://api.odd.example/v1", "https://api.odd.example/v2"}) {
		t.Errorf("resources %v", got)
	}
	if *pins.Token.Renewal != (providers.RenewalPin{GrantType: "odd_refresh", Param: "access_token", Request: "get", SelfRenews: true, OmitClient: true, Before: 604800}) {
		t.Errorf("renewal %+v", pins.Token.Renewal)
	}
	if *pins.Token.Upgrade != (providers.UpgradePin{Endpoint: "https://graph.odd.example/token", Request: "get", GrantType: "odd_exchange", Param: "access_token"}) {
		t.Errorf("upgrade %+v", pins.Token.Upgrade)
	}
	if pins.Site.Wanted != "Acme" || pins.Site.Endpoint != "https://api.odd.example/sites" || pins.Token.SecondScopes.Field != "authed_user.scope" {
		t.Errorf("site %+v, second scopes %+v", pins.Site, pins.Token.SecondScopes)
	}
	if err := pins.BindAPI(map[string]string{"realm_id": "1", "site_id": "2", "team_id": "3"}); err != nil || pins.APIBase != "https://api.odd.example/v1/1/2/3" {
		t.Errorf("%v, base %s", err, pins.APIBase)
	}
	browser, err := d.Pin(providers.PinOptions{Flow: "browser", ClientID: "c", HasSecret: true})
	if err != nil || browser.JWTBearer != nil || browser.AuthMethod != providers.AuthPrivateKeyJWT {
		t.Errorf("%v, method %s, jwt bearer %+v", err, browser.AuthMethod, browser.JWTBearer)
	}
	// Written as a file it is the same definition.
	data, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again := parseUser(t, string(data)); !reflect.DeepEqual(again, d.Provider) {
		t.Errorf("got %+v\nwant %+v", again, d.Provider)
	}
}

// TestDialectChanges: whatever decides where a credential goes is approved anew.
func TestDialectChanges(t *testing.T) {
	pin := func(from, to string) providers.Pins {
		t.Helper()
		text := strings.Replace(odd, from, to, 1)
		if from != "" && text == odd {
			t.Fatalf("%q is not in the definition", from)
		}
		pins, err := (&providers.Definition{Provider: parseUser(t, text), Origin: providers.User}).Pin(providers.PinOptions{Flow: "jwt-bearer", ClientID: "c"})
		if err != nil {
			t.Fatal(err)
		}
		return pins
	}
	was := pin("", "")
	if changes := was.Changes(pin("before: 168h", "before: 24h")); len(changes) != 0 {
		t.Errorf("when a token is renewed is no change: %v", changes)
	}
	for field, change := range map[string][2]string{
		"pushed_authorization_request_endpoint": {"auth.odd.example/par", "evil.odd.example/par"},
		"client_assertion_audience":             {"client_assertion_audience: https://auth.odd.example", "client_assertion_audience: https://evil.example"},
		"token.request":                         {"request: json", "request: get"},
		"token.upgrade":                         {"graph.odd.example", "evil.example"},
		"token.renewal":                         {"request: get, ", ""},
		"jwt_bearer":                            {`audience: "https://auth.odd.example/"`, `audience: "https://evil.example/"`},
		"token_exchange":                        {"scopes: [preview]", "scopes: [preview, upload]"},
		"site.endpoint":                         {"api.odd.example/sites", "api.odd.example/others"},
	} {
		changes := was.Changes(pin(change[0], change[1]))
		if len(changes) != 1 || changes[0].Field != field {
			t.Errorf("%s: changes %v", field, changes)
		}
	}
}

func TestDialectErrors(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"method", "private_key_jwt", "client_secret_jwt2", "did you mean client_secret_jwt?"},
		{"certificate and query", "private_key_jwt", "tls_client_auth", "a request in the query of an address does not go with tls_client_auth"},
		{"alias of nothing", "client_assertion_audience", "mtls_endpoint_aliases: {introspection_endpoint: https://mtls.odd.example/i}\nclient_assertion_audience", "this stands in for introspection_endpoint, which is missing"},
		{"alias", "client_assertion_audience", "mtls_endpoint_aliases: {token_endpoint: http://mtls.odd.example/t}\nclient_assertion_audience", "the URL must begin with https://"},
		{"alias of the browser", "client_assertion_audience", "mtls_endpoint_aliases: {authorization_endpoint: https://mtls.odd.example/a}\nclient_assertion_audience", "unknown key"},
		{"bound tokens", "\napi:\n", "\napi:\n  client_certificate: true\n", "this needs a client with a certificate"},
		{"symmetric algorithm", "alg: ES256", "alg: HS256", `"HS256" is not one of RS256`},
		{"no algorithm", "alg: ES256", "alg: none", `"none" is not one of RS256`},
		{"audience", "client_assertion_audience: https://", "client_assertion_audience: http://", "the URL must begin with https://"},
		{"par", "example/par", "example/{realm_id}", "comes from the callback and is not known"},
		{"par without endpoint", "pushed_authorization_request_endpoint: https://auth.odd.example/par\n", "", "this needs pushed_authorization_request_endpoint"},
		{"rename of what is not ours", "client_id: client_key", "state: s", `"state" is not one of client_id`},
		{"rename to a standard name", "client_id: appid", "client_id: code", "code has a meaning of its own"},
		{"two of a name", "client_secret: secret}", "client_secret: appid}", "two parameters cannot both be named appid"},
		{"rename to nonsense", "client_id: appid", `client_id: "a b"`, "this is not the name of a parameter"},
		{"parameter that is renamed", "access_type: offline", "client_key: x", "client_key is set by apiauth"},
		{"token parameter that is renamed", "params: {audience: x}", "params: {appid: x}", "appid is set by apiauth"},
		{"parameter twice", "exchange_params: {type", "exchange_params: {audience", "audience is in token.params already"},
		{"request", "request: json", "request: post", `"post" is not one of form, json, get`},
		{"omit", "omit_params: [redirect_uri]", "omit_params: [client_secret]", `"client_secret" is not one of`},
		{"inside", "inside: data", `inside: "a..b"`, "this is not the path of an object"},
		{"field", "expires_at: expires", "expiry: x", `"expiry" is not one of`},
		{"field path", "accessToken", `"$.accessToken"`, "this is not the path of a field"},
		{"error code", "invalid_grant", "invalid", `"invalid" is not one of`},
		{"kept credential", "team_id: team.id", "team_id: team.refresh_token", "is not a field to keep"},
		{"kept renamed credential", "team_id: team.id", "team_id: accessToken", "is not a field to keep"},
		{"kept code", "realm_id: realmId", "realm_id: auth_code", "this is not a parameter to keep"},
		{"code", "code_param: auth_code", "code_param: state", "this is not the name of the parameter that holds the code"},
		{"second scopes", `prefix: "user:", `, "", "a second scope parameter needs param and prefix"},
		{"second parameter", "param: user_scope", "param: scope", "this is not the name of a second scope parameter"},
		{"upgrade", "grant_type: odd_exchange, ", "", "an upgrade needs endpoint, grant_type and param"},
		{"upgrade endpoint", "https://graph.odd.example/token", "http://graph.odd.example/token", "the URL must begin with https://"},
		{"renewal", "credential: access_token", "credential: id_token", `"id_token" is not one of`},
		{"renewal parameter", `, param: access_token, request: get`, "", "a token that renews itself needs grant_type and param"},
		{"renewal time", "before: 168h", "before: 9000h", "before is a duration up to 2160h"},
		{"assertion life", "lifetime: 60s", "lifetime: 1h", "an assertion lives 5m at most"},
		{"assertion claim", "claims: {kind: robot}", "claims: {aud: x}", "aud is set by apiauth"},
		{"assertion method", "auth_method: client_secret_post", "auth_method: private_key_jwt", `is not one of omitted`},
		{"exchange", "scopes: [preview], ", "", "token_exchange needs scopes"},
		{"exchange resource", `resources: ["https://api`, `resources: ["http://api`, "the URL must begin with https://"},
		{"resource", "resources: [https://", "resources: [http://", "the URL must begin with https://"},
		{"site host", "https://api.odd.example/sites", "https://evil.example/sites", "the host evil.example is not in api.hosts"},
		{"site keeps nothing", ", keep: {site_id: id}", "", "add site_id to site.keep"},
		{"site credential", "site_id: id", "site_id: access_token", "is not a field to keep"},
		{"site without endpoint", `endpoint: "https://api.odd.example/sites", `, "", "site needs an endpoint"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(odd, test.old, test.new, 1)
			if text == odd {
				t.Fatalf("%q is not in the definition", test.old)
			}
			_, err := providers.Parse("odd.yaml", []byte(text), providers.User)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "odd.yaml:") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
