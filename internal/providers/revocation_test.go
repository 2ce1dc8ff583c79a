package providers_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// farewell is a definition with a revocation of its own.
func farewell(revocation string) string {
	return minimal + "revocation_endpoint: https://api.acme.example/revoke\nrevocation: {" + revocation + "}\n"
}

func TestParseRevocation(t *testing.T) {
	for _, test := range []struct{ revocation, want string }{
		{"style: request", ""},
		{"style: request, method: DELETE, auth: bearer", ""},
		{"style: request, method: GET, params: {grant_type: delete}, rename: {token: access_token}", ""},
		{"style: request, method: GET, request: query", ""},
		{"style: request, request: json, auth: omitted, token: refresh_token, rename: {client_id: clientId}", ""},
		{"style: page, page: \"https://acme.example/apps\", notes: x", ""},
		{"style: box", `10:14: "box" is not one of rfc7009, request, page, none`},
		{"style: rfc7009, auth: bearer", "10:1: method, request, auth, token, rename and params are for the style request"},
		{"params: {a: b}", "10:1: method, request, auth, token, rename and params are for the style request"},
		{"style: request, method: PUT", `10:30: "PUT" is not one of POST, DELETE, GET`},
		{"style: request, method: delete", `10:30: "delete" is not one of POST, DELETE, GET`},
		{"style: request, request: xml", `10:30: "xml" is not one of form, json, query`},
		{"style: request, method: GET, request: json", "10:43: a GET has its parameters in the query"},
		{"style: request, auth: private_key_jwt", `10:30: "private_key_jwt" is not one of bearer, none, client_secret_basic`},
		{"style: request, token: id_token", `10:30: "id_token" is not one of access_token, refresh_token`},
		{"style: request, auth: bearer, token: refresh_token", "10:44: bearer sends the access token"},
		{"style: request, auth: bearer, rename: {token: x}", "10:44: with bearer the token is no parameter"},
		{"style: request, rename: {scope: x}", `10:39: "scope" is not one of token, client_id, client_secret`},
		{"style: request, rename: {token: \"a b\"}", "10:39: this is not the name of a parameter"},
		{"style: request, rename: {token: client_secret}", "10:39: two parameters cannot both be named client_secret"},
		{"style: request, rename: {token: x, client_id: x}", "10:39: two parameters cannot both be named x"},
		{"style: request, params: {client_id: x}", "10:39: client_id is set by apiauth"},
		{"style: request, rename: {token: access_token}, params: {access_token: x}", "10:70: access_token is set by apiauth"},
		{"style: request, params: {x: \"{tenant}\"}", "10:39: the value is longer than 1024 bytes or holds braces"},
		{"style: request, header: x", `10:30: unknown key "header"`},
	} {
		_, err := providers.Parse("acme.yaml", []byte(farewell(test.revocation)), providers.User)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.revocation, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "acme.yaml:"+test.want)):
			t.Errorf("%s: got %v, want %s", test.revocation, err, test.want)
		}
	}
	query := strings.Replace(farewell("style: request, request: query"), "/revoke", "/revoke?a=b", 1)
	if _, err := providers.Parse("acme.yaml", []byte(query), providers.User); err == nil || !strings.Contains(err.Error(), "has a query of its own") {
		t.Errorf("got %v", err)
	}
	elsewhere := strings.Replace(farewell("style: request, auth: bearer"), "api.acme.example/revoke", "auth.acme.example/revoke", 1)
	if _, err := providers.Parse("acme.yaml", []byte(elsewhere), providers.User); err == nil || !strings.HasPrefix(err.Error(), "acme.yaml:9:1: the host auth.acme.example is not in api.hosts") {
		t.Errorf("got %v", err)
	}
	if _, err := providers.Parse("acme.yaml", []byte(minimal+"revocation: {style: request}\n"), providers.User); err == nil || !strings.Contains(err.Error(), "needs revocation_endpoint") {
		t.Errorf("got %v", err)
	}
}

// TestRevocationPins: how a grant ends is pinned, and approved anew when the
// definition says otherwise: the token and the secret go with it.
func TestRevocationPins(t *testing.T) {
	const text = "style: request, method: DELETE, request: json, auth: client_secret_basic, token: refresh_token, rename: {token: t}, params: {a: b}"
	was := pin(t, define(t, farewell(text)), providers.PinOptions{})
	want := providers.RevocationPin{
		Style: "request", Method: "DELETE", Request: "json", Auth: "client_secret_basic", Token: "refresh_token",
		Rename: map[string]string{"token": "t"}, Params: map[string]string{"a": "b"},
	}
	if !reflect.DeepEqual(was.Revocation, want) {
		t.Errorf("got %+v", was.Revocation)
	}
	for _, change := range [][2]string{
		{"method: DELETE", "method: POST"}, {"request: json", "request: form"}, {"auth: client_secret_basic", "auth: client_secret_post"},
		{"token: refresh_token", "token: access_token"}, {"{token: t}", "{token: u}"}, {"{a: b}", "{a: c}"}, {text, "style: none"}, {text, "style: rfc7009"},
	} {
		changes := was.Changes(pin(t, define(t, farewell(strings.Replace(text, change[0], change[1], 1))), providers.PinOptions{}))
		if len(changes) != 1 || changes[0].Field != "revocation" {
			t.Errorf("%s: got %v", change[1], changes)
		}
	}
	none := pin(t, define(t, farewell("style: none, notes: x")), providers.PinOptions{})
	if changes := none.Changes(was); len(changes) > 0 {
		t.Errorf("what was not known before is no change: %v", changes)
	}
	for style, pins := range map[string]providers.RevocationPin{
		"bare": pin(t, define(t, farewell("style: request")), providers.PinOptions{}).Revocation,
		"get":  pin(t, define(t, farewell("style: request, method: GET")), providers.PinOptions{}).Revocation,
	} {
		if style == "bare" && (pins.Method != "POST" || pins.Request != "form") || style == "get" && pins.Request != "query" {
			t.Errorf("%s: %+v", style, pins)
		}
	}
}

// TestLintRevocation: a token that has ended ends no grant, so a person must know
// what to do.
func TestLintRevocation(t *testing.T) {
	for revocation, want := range map[string]bool{
		"style: request, auth: bearer":                                      true,
		"style: request, token: access_token":                               true,
		"style: request, auth: bearer, notes: x":                            false,
		"style: request, auth: bearer, page: \"https://acme.example/apps\"": false,
		"style: request": false,
		"style: rfc7009": false,
	} {
		found := slices.ContainsFunc(providers.Lint(parseUser(t, farewell(revocation))), func(f providers.Finding) bool { return f.Field == "revocation.notes" })
		if found != want {
			t.Errorf("%s: found %t", revocation, found)
		}
	}
}

// TestRevocationHosts: with bearer the token goes to hosts of the API only, also
// where a variable makes the address.
func TestRevocationHosts(t *testing.T) {
	const text = "id: own\nname: Own\nauthorization_endpoint: \"https://{host}/authorize\"\ntoken_endpoint: \"https://{host}/token\"\ntoken_endpoint_auth_method: none\n" +
		"revocation_endpoint: \"https://{host}/revoke\"\nrevocation: {style: request, auth: bearer}\nvariables: [{name: host, host: true}]\n"
	options := providers.PinOptions{Variables: map[string]string{"host": "sso.acme.example"}}
	pin(t, define(t, text+"api: {base_url: \"https://{host}/api\", hosts: [\"{host}\"]}\n"), options)
	if _, err := define(t, text+"api: {base_url: \"https://api.acme.example\", hosts: [api.acme.example]}\n").Pin(options); err == nil || !strings.Contains(err.Error(), "the host sso.acme.example is not in api.hosts") {
		t.Errorf("got %v", err)
	}
	told := define(t, strings.NewReplacer("{host}/revoke", "{store}.acme.example/revoke", "}]", "}, {name: store, from: callback}]").Replace(text)+"api: {base_url: \"https://api.acme.example\", hosts: [api.acme.example, .acme.example]}\n")
	pins := pin(t, told, options)
	if err := pins.BindAPI(map[string]string{"store": "one"}); err != nil || pins.RevocationEndpoint != "https://one.acme.example/revoke" || !pins.AllowsHost("one.acme.example") {
		t.Errorf("%v, %s", err, pins.RevocationEndpoint)
	}
}

func TestIdentityQuery(t *testing.T) {
	const asks = minimal + "userinfo_endpoint: https://api.acme.example/graphql\n"
	for _, test := range []struct{ identity, want string }{
		{`{query: "{viewer{id}}", subject: data.viewer.id}`, ""},
		{`{query: "query Me { me { id } }"}`, ""},
		{`{query: "mutation { deleteAll }"}`, "a GraphQL query begins with { or query"},
		{`{query: "queryish"}`, "a GraphQL query begins with { or query"},
		{`{query: "query Q($x: ID) { a(id: $x) }"}`, "the query takes no variables"},
		{`{query: "{a\u00e9}"}`, "printable ASCII"},
		{`{query: "{` + strings.Repeat("a", 1024) + `}"}`, "longer than 1024 bytes"},
		{`{query: "{a}", from: token}`, "with from: token nothing is asked"},
	} {
		_, err := providers.Parse("acme.yaml", []byte(asks+"identity: "+test.identity+"\n"), providers.User)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.identity, err)
		case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "acme.yaml:10:12: ") || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s", test.identity, err, test.want)
		}
	}
	if _, err := providers.Parse("acme.yaml", []byte(minimal+"identity: {query: \"{a}\"}\n"), providers.User); err == nil || !strings.Contains(err.Error(), "query needs userinfo_endpoint") {
		t.Errorf("got %v", err)
	}
	was := pin(t, define(t, asks+"identity: {query: \"{a}\"}\n"), providers.PinOptions{})
	if changes := was.Changes(pin(t, define(t, asks+"identity: {query: \"{b}\"}\n"), providers.PinOptions{})); len(changes) != 1 || changes[0].Field != "identity.query" {
		t.Errorf("got %v", changes)
	}
	if changes := pin(t, define(t, asks), providers.PinOptions{}).Changes(was); len(changes) > 0 {
		t.Errorf("what was not asked before is no change: %v", changes)
	}
}
