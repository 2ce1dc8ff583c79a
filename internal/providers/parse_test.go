package providers_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// minimal is a valid user's definition; each case of the table changes lines of
// it by their number, so that the place of the fault is known.
const minimal = `id: acme
name: Acme
authorization_endpoint: https://auth.acme.example/authorize
token_endpoint: https://auth.acme.example/token
token_endpoint_auth_method: none
api:
  base_url: https://api.acme.example/v1
  hosts: [api.acme.example]
`

func parseUser(t *testing.T, text string) *providers.Provider {
	t.Helper()
	p, err := providers.Parse("acme.yaml", []byte(text), providers.User)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseDefaults(t *testing.T) {
	p := parseUser(t, minimal)
	if got, want := p.Flows, []string{providers.FlowBrowser}; !reflect.DeepEqual(got, want) {
		t.Errorf("flows %v, want %v", got, want)
	}
	if p.NeedsDiscovery() {
		t.Error("a definition with endpoints needs no discovery")
	}
	if got, want := p.DefaultRedirect(), "http://127.0.0.1:*/callback/acme"; got != want {
		t.Errorf("redirect %s, want %s", got, want)
	}
	p = parseUser(t, strings.Replace(minimal, "  hosts: [api.acme.example]\n", "", 1))
	if got, want := p.API.Hosts, []string{"api.acme.example"}; !reflect.DeepEqual(got, want) {
		t.Errorf("hosts %v, want %v", got, want)
	}
	p = parseUser(t, "id: corp\nname: Corp\nissuer: https://id.corp.example/realms/main\n")
	if !p.NeedsDiscovery() || p.Flows != nil {
		t.Errorf("an issuer alone needs discovery and has no flows yet: %v", p.Flows)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name   string
		change string // replaces the line of minimal that begins with the same key, or is added at the end
		want   string
	}{
		{"unknown key", "tokenendpoint: x", `9:1: unknown key "tokenendpoint"; did you mean "token_endpoint"?`},
		{"unknown nested key", "token: {expires: 1}", `9:9: unknown key "expires"; did you mean "expires_in"?`},
		{"duplicate key", "extra\nid: other", `9:1: duplicate key "id"`},
		{"command", "exec: rm -rf /", `9:1: unknown key "exec"`},
		{"id", "id: Acme", `1:1: id must begin with a-z or 0-9 and hold only those and hyphens, 63 at most`},
		{"id with path", "id: ../acme", `1:1: id must begin with`},
		{"id empty", `id: ""`, `1:1: id is missing`},
		{"name", `name: ""`, `1:1: name is missing`},
		{"bool as name", `name: true`, `2:7: name is a text: write "true" in quotes`},
		{"unknown included scope", "scopes: {catalog: [{name: a, includes: [b]}]}", `9:41: the scope "b" is not in scopes.catalog`},
		{"scope in itself", "scopes: {catalog: [{name: a, includes: [a]}]}", `9:41: a scope does not include itself`},
		{"alias of another", "scopes: {catalog: [{name: a, also: [b]}, {name: b}]}", `9:37: the scope b is in scopes.catalog itself`},
		{"alias twice", "scopes: {catalog: [{name: a, also: [c]}, {name: b, also: [c]}]}", `9:59: the name c is listed twice`},
		{"alias with a space", `scopes: {catalog: [{name: a, also: ["c d"]}]}`, `9:37: a scope has no space`},
		{"one of two paths of a token", `token: {fields: {access_token: "a,b"}}`, `9:18: this is not the path of a field`},
		{"one of two paths of an error", `token: {fields: {error: "a,b c"}}`, `9:18: this is not the path of a field`},
		{"callback's scopes", `scopes: {callback: "a&b"}`, `9:10: this is not the name of a parameter with scopes`},
		{"callback's state as scopes", "scopes: {callback: state}", `9:10: this is not the name of a parameter with scopes`},
		{"callback's code as scopes", "code_param: auth\nscopes: {callback: auth}", `10:10: this is not the name of a parameter with scopes`},
		{"callback's scopes where there are none", "scopes: {callback: scope, omit: true}", `9:10: omit says that no scope is ever sent`},
		{"scope prefix", `scopes: {prefix: "a b"}`, `9:10: the prefix has no space`},
		{"login hint", "login_hint_param: state", `9:1: state is set by apiauth`},
		{"login hint's name", `login_hint_param: "a&b"`, `9:1: this is not the name of a parameter`},
		{"device note", "device_note: x", `9:1: device_note needs device_authorization_endpoint`},
		{"status", "status: retird", `9:1: "retird" is not one of restricted, retired; did you mean retired?`},
		{"status without note", "status: retired", `9:1: status needs a status_note`},
		{"http endpoint", "token_endpoint: http://auth.acme.example/token", `4:1: the URL must begin with https://`},
		{"http loopback", "token_endpoint: http://127.0.0.1:1/token", `4:1: the URL must begin with https:// (http to this machine needs allow_insecure_loopback: true`},
		{"file endpoint", "token_endpoint: file:///etc/passwd", `4:1: this is not a URL`},
		{"ftp endpoint", "token_endpoint: ftp://auth.acme.example/", `4:1: the URL must begin with https://, not "ftp"`},
		{"javascript endpoint", "authorization_endpoint: javascript:alert(1)", `3:1: this is not a URL`},
		{"flag endpoint", "authorization_endpoint: -flag", `3:1: this is not a URL`},
		{"user information", "token_endpoint: https://user@auth.acme.example/token", `4:1: a URL must not hold a user name or password`},
		{"fragment", `token_endpoint: "https://auth.acme.example/token#x"`, `4:1: a URL must not have a fragment (#)`},
		{"empty fragment", `token_endpoint: "https://auth.acme.example/token#"`, `4:1: a URL must not have a fragment (#)`},
		{"space in URL", "token_endpoint: https://auth.acme.example/to ken", `4:1: the URL holds a space`},
		{"backslash in URL", `token_endpoint: https://auth.acme.example\@evil.example/`, `4:1: the URL holds the character '\\'`},
		{"unicode host", "token_endpoint: https://аuth.acme.example/token", `4:1: the URL holds a space, a control character or a character beyond ASCII`},
		{"escape in value", `token_endpoint: "https://auth.acme.example/\e"`, `4:17: control character U+001B is not allowed`},
		{"no host", "token_endpoint: https:///token", `4:1: this is not a URL`},
		{"odd port", "token_endpoint: https://auth.acme.example:0/token", `4:1: "auth.acme.example:0" is not a host: the port is not a number from 1 to 65535`},
		{"undeclared variable", `token_endpoint: "https://{tenant}.acme.example/token"`, `4:1: the variable {tenant} is not declared under variables`},
		{"template that is none", `token_endpoint: "https://auth.acme.example/{{.ID}}"`, `4:1: braces may only hold the name of a variable`},
		{"shell template", `token_endpoint: "https://auth.acme.example/${HOME}"`, `4:1: braces may only hold the name of a variable`},
		{"unclosed brace", `token_endpoint: "https://auth.acme.example/{x"`, `4:1: braces may only hold the name of a variable`},
		{"issuer with query", `issuer: https://auth.acme.example?x=1`, `9:1: an issuer has no query`},
		{"no token endpoint", `token_endpoint: ""`, `1:1: token_endpoint is missing`},
		{"auth method missing", `token_endpoint_auth_method: ""`, `1:1: token_endpoint_auth_method is missing`},
		{"auth method", `token_endpoint_auth_method: client_secret_basics`, `5:1: "client_secret_basics" is not one of none, client_secret_basic, client_secret_post, client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, secret_as_username; did you mean client_secret_basic?`},
		{"pkce", `pkce: plain`, `9:1: "plain" is not one of S256, S256-hex, none`},
		{"secret optional with none", `secret_optional: true`, `9:1: secret_optional makes no sense with`},
		{"device method without device", `device_auth_method: none`, `9:1: device_auth_method needs device_authorization_endpoint`},
		{"flow", `flows: [browser, password]`, `9:18: "password" is not one of browser, device, client-credentials, jwt-bearer, implicit, key`},
		{"flow twice", `flows: [browser, browser]`, `9:18: the flow browser is listed twice`},
		{"device flow without endpoint", `flows: [device]`, `9:9: the device flow needs device_authorization_endpoint`},
		{"client credentials without credentials", `flows: [client-credentials]`, `9:9: client credentials need a client that authenticates`},
		{"redirect without port", `redirect_uri: http://127.0.0.1/callback`, `9:1: the redirect needs a port`},
		{"redirect elsewhere", `redirect_uri: http://acme.example:80/callback`, `9:1: an http redirect must lead to 127.0.0.1, [::1] or localhost`},
		{"redirect like loopback", `redirect_uri: http://127.0.0.1.evil.example:80/callback`, `9:1: an http redirect must lead to`},
		{"redirect with query", `redirect_uri: http://127.0.0.1:*/callback?x=1`, `9:1: a redirect has a plain path`},
		{"redirect without path", `redirect_uri: http://127.0.0.1:*`, `9:1: a redirect needs a path`},
		{"redirect https any port", `redirect_uri: https://127.0.0.1:*/callback`, `9:1: the port * is for http to this machine only`},
		{"redirect with user", `redirect_uri: http://x@127.0.0.1:80/callback`, `9:1: "x@127.0.0.1:80" is not a host`},
		{"redirect scheme", `redirect_uri: myapp://callback/x`, `9:1: a redirect is a URL such as`},
		{"authorize parameter", `authorize_params: {access_type: offline, state: x}`, `9:42: state is set by apiauth`},
		{"authorize template", `authorize_params: {access_type: "{x}"}`, `9:20: the value is longer than 1024 bytes or holds braces`},
		{"scope", "scopes:\n  default: [ok, \"a b\"]", `10:17: a scope has no space`},
		{"scope not in catalog", "scopes:\n  default: [a]\n  catalog:\n    - {name: b}", `10:13: the scope a is not in scopes.catalog`},
		{"scope twice", "scopes:\n  catalog:\n    - {name: b}\n    - {name: b}", `12:8: the scope b is listed twice`},
		{"separator", "scopes: {separator: \", \"}", `9:10: the separator is one of`},
		{"omit", "scopes: {omit: true, default: [a]}", `9:10: omit says that no scope is ever sent`},
		{"expires_in", "token: {expires_in: soon}", `9:9: expires_in is a number of seconds up to a year, or never`},
		{"expires_in huge", "token: {expires_in: 99999999999}", `9:9: expires_in is a number`},
		{"rotates", "token: {rotates: yes}", `9:9: "yes" is not one of never, sometimes, always`},
		{"lifetime", "token: {grant_lifetime: 6 months}", `9:25: grant_lifetime must be a duration such as 90s or 4380h, not "6 months"`},
		{"negative lifetime", "token: {refresh_lifetime: -1h}", `9:9: a lifetime is not negative`},
		{"keep", "token: {keep: [refresh_token]}", `9:16: refresh_token is not a field to keep`},
		{"keep name", "token: {keep: [Instance-URL]}", `9:16: a kept field's name must match`},
		{"token header", "token: {headers: {Authorization: x}}", `9:19: the header Authorization is not for a definition to set`},
		{"header name", "token: {headers: {\"A B\": x}}", `9:19: this is not the name of a header`},
		{"identity", "identity: {from: id_token}", `9:12: "id_token" is not one of userinfo, token`},
		{"env", "env: acme_token", `9:1: "acme_token" is not a variable name`},
		{"env refused", "env: LD_PRELOAD", `9:1: the variable "LD_PRELOAD" may not carry a token: it steers the loader`},
		{"placeholder", "placeholder: \"gho_{x}\"", `9:1: a placeholder is a shape`},
		{"placeholder too short", "placeholder: \"gho_{8}\"", `9:1: a placeholder is a shape`},
		{"git host suffix", "git_hosts: [.acme.example]", `9:13: git_hosts are exact`},
		{"git host", "git_hosts: [git.acme.example, \"https://git.acme.example\"]", `9:31: "https://git.acme.example" is not a host`},
		{"git user name", "git_hosts: [git.acme.example]\ngit_username: \"a:b\"", `10:1: a user name has no space, colon`},
		{"git user name for nothing", "git_username: x", `9:1: git_username needs git_hosts`},
		{"pagination style", "  hosts: [api.acme.example]\n  pagination: [{style: lnik}]", `9:17: "lnik" is not one of link, next_url, cursor, last_item, offset, page; did you mean link?`},
		{"pagination without style", "  hosts: [api.acme.example]\n  pagination: [{next: x}]", `9:16: "" is not one of link`},
		{"pagination lacks", "  hosts: [api.acme.example]\n  pagination: [{style: cursor, next: x}]", `9:16: the style cursor needs param`},
		{"pagination has too much", "  hosts: [api.acme.example]\n  pagination: [{style: link}, {style: offset, param: p, total: t, next: x}]", `9:67: the style offset takes no next`},
		{"pagination parameter", "  hosts: [api.acme.example]\n  pagination: [{style: cursor, next: x, param: a&b}]", `9:41: this is not the name of a field or parameter`},
		{"page without parameter", "  hosts: [api.acme.example]\n  pagination: [{style: page, pages: x}]", `9:16: the style page needs param`},
		{"page with a total", "  hosts: [api.acme.example]\n  pagination: [{style: page, param: p, total: x}]", `9:40: the style page takes no total`},
		{"first page of another style", "  hosts: [api.acme.example]\n  pagination: [{style: link, from_zero: true}]", `9:30: the style link takes no from_zero`},
		{"pagination key", "  hosts: [api.acme.example]\n  pagination: [{style: link, nxt: x}]", `9:30: unknown key "nxt"`},
		{"api body", "  hosts: [api.acme.example]\n  body: xml", `9:3: "xml" is not one of json, form`},
		{"revocation style", "revocation: {style: rfc7008}", `9:14: "rfc7008" is not one of rfc7009, request, page, none, github, stripe-connect, contentful; did you mean rfc7009?`},
		{"revocation endpoint", "revocation: {style: rfc7009}", `9:14: the style rfc7009 needs revocation_endpoint`},
		{"revocation page", "revocation: {style: page}", `9:14: the style page needs a page`},
		{"register page", "register: {page: \"https://acme.example/{client_id}\"}", `9:12: no client_id is known before registration`},
		{"source date", "sources:\n  - {url: https://acme.example/docs, checked: yesterday}", `10:38: checked is a date such as 2026-11-21`},
		{"source URL", "sources:\n  - {url: http://acme.example/docs, checked: 2026-11-21}", `10:6: the URL must begin with https://`},
		{"variable unused", "variables:\n  - {name: x}", `10:6: the variable x is not used`},
		{"variable name", "variables:\n  - {name: client_id}", `10:6: a variable's name must match`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			change := strings.TrimPrefix(test.change, "extra\n")
			key, _, _ := strings.Cut(change, ":")
			var lines []string
			replaced := change != test.change
			for line := range strings.SplitSeq(strings.TrimSuffix(minimal, "\n"), "\n") {
				if !replaced && strings.HasPrefix(line, key+":") {
					line, replaced = change, true
				}
				lines = append(lines, line)
			}
			if !strings.Contains("\n"+strings.Join(lines, "\n"), "\n"+change) {
				lines = append(lines, change)
			}
			_, err := providers.Parse("acme.yaml", []byte(strings.Join(lines, "\n")+"\n"), providers.User)
			var fault *strictyaml.Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a *strictyaml.Error", err)
			}
			if want := "acme.yaml:" + test.want; !strings.HasPrefix(fault.Error(), want) {
				t.Errorf("got  %s\nwant %s", fault, want)
			}
		})
	}
}

func TestParseHosts(t *testing.T) {
	tests := []struct{ hosts, want string }{
		{"[api.acme.example]", ""},
		{"[.acme.example]", ""},
		{"[api.acme.example, .tenants.acme.example]", ""},
		{"[\"api.acme.example:8443\", api.acme.example]", ""},
		{"[]", "api.hosts is missing"},
		{"[other.example]", "the host api.acme.example is not in api.hosts"},
		{"[API.acme.example]", "write the host as api.acme.example"},
		{"[api.acme.example.]", "write the host as api.acme.example"},
		{"[\"api.acme.example:443\"]", "write the host as api.acme.example"},
		{"[.example]", "is too wide"},
		{"[.com]", "is too wide"},
		{"[.co.uk]", "is too wide"},
		{"[.com.au]", "is too wide"},
		{"[.github.io]", "is too wide"},
		{"[.herokuapp.com]", "is too wide"},
		{"[..acme.example]", "is not a host"},
		{"[.]", "is not a host"},
		{"[\"*.acme.example\"]", "is not a host"},
		{"[\".acme.example:8443\"]", "is too wide"},
		{"[.0.0.1]", "is not a host"},
		{"[\"https://api.acme.example\"]", "is not a host"},
		{"[api.acme.example/v1]", "is not a host"},
		{"[\"user@api.acme.example\"]", "is not a host"},
		{"[api.acme.example, api.acme.example]", "is listed twice"},
		{"[\"{tenant}.acme.example\"]", "is not declared"},
	}
	for _, test := range tests {
		text := strings.Replace(minimal, "[api.acme.example]", test.hosts, 1)
		_, err := providers.Parse("acme.yaml", []byte(text), providers.User)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.hosts, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %q", test.hosts, err, test.want)
		}
	}
}

func TestParseVariables(t *testing.T) {
	definition := func(endpoint, variables string) string {
		return "id: acme\nname: Acme\nauthorization_endpoint: " + endpoint + "\ntoken_endpoint: " + endpoint + "\ntoken_endpoint_auth_method: none\n" +
			"token: {keep: [instance_url]}\napi: {base_url: https://api.acme.example, hosts: [api.acme.example]}\nvariables: [" + variables + "]\n"
	}
	const many = "a, b, c, d, e"
	tests := []struct{ name, endpoint, variables, want string }{
		{"in the path", `"https://auth.acme.example/{tenant}/token"`, `{name: tenant}`, ""},
		{"subdomain", `"https://{tenant}.acme.example/token"`, `{name: tenant}`, ""},
		{"part of a label", `"https://eu-{region}.acme.example/token"`, `{name: region}`, ""},
		{"under a domain of two labels", `"https://{tenant}.acme.co.uk/token"`, `{name: tenant}`, ""},
		{"self-hosted", `"https://{host}/token"`, `{name: host, host: true}`, ""},
		{"self-hosted with port", `"https://{host}:8443/token"`, `{name: host, host: true}`, ""},
		{"whole host with a default", `"https://{domain}/token"`, `{name: domain, default: login.acme.example}`, ""},
		{"whole host, values in the domain", `"https://{domain}/token"`, `{name: domain, default: eu.acme.example, values: [eu.acme.example, us.acme.example]}`, ""},
		{"whole host without default", `"https://{domain}/token"`, `{name: domain}`, "it needs a default whose domain it stays in, a list of values, or host: true"},
		{"whole host, listed in two domains", `"https://{domain}/token"`, `{name: domain, default: eu.acme.example, values: [eu.acme.example, acme2.example]}`, ""},
		{"listed end of the host", `"https://auth.acme.{tld}/token"`, `{name: tld, default: com, values: [com, eu, com.au]}`, ""},
		{"listed domain under a tenant", `"https://{tenant}.{domain}/token"`, `{name: tenant}, {name: domain, values: [acme.example, acme-eu.example]}`, ""},
		{"listed domain with a port", `"https://auth.{domain}:8443/token"`, `{name: domain, values: [acme.example, acme-eu.example]}`, ""},
		{"listed label under free text", `"https://{name}.{tld}/token"`, `{name: name}, {name: tld, values: [com, eu]}`, "whose domain is not fixed by them"},
		{"listed domain joined to free text", `"https://{name}{domain}/token"`, `{name: name}, {name: domain, values: [acme.example]}`, "whose domain is not fixed by them"},
		{"free text between listed parts", `"https://{sub}.{name}.{tld}/token"`, `{name: sub, values: [a, b]}, {name: name}, {name: tld, values: [example]}`, "whose domain is not fixed by them"},
		{"free text under a suffix of everybody's", `"https://{name}.{domain}/token"`, `{name: name}, {name: domain, values: [acme.example, github.io]}`, "whose domain is not fixed by them"},
		{"a listed suffix", `"https://{domain}/token"`, `{name: domain, values: [acme.example, co.uk]}`, "whose domain is not fixed by them"},
		{"a listed label alone", `"https://{domain}/token"`, `{name: domain, values: [acme]}`, "whose domain is not fixed by them"},
		{"a listed host in capitals", `"https://{domain}/token"`, `{name: domain, values: [Acme.example]}`, "none in lower case"},
		{"a listed host that is none", `"https://{domain}/token"`, `{name: domain, values: [a_b.example]}`, "none in lower case"},
		{"too many hosts", `"https://{a}.{b}.{c}.acme.{d}/token"`, "{name: a, values: [" + many + "]}, {name: b, values: [" + many + "]}, {name: c, values: [" + many + "]}, {name: d, values: [" + many + "]}", "more than 256 hosts"},
		{"registrable part", `"https://{name}.example/token"`, `{name: name}`, "would choose the registrable domain"},
		{"country", `"https://{name}.co.uk/token"`, `{name: name}`, "would choose the registrable domain"},
		{"end of the host", `"https://auth.{name}/token"`, `{name: name}`, "a host is either {name} alone or ends with a fixed name"},
		{"joined to the domain", `"https://{name}acme.example/token"`, `{name: name}`, "a host is either {name} alone or ends with a fixed name"},
		{"scheme", `"{scheme}://acme.example/token"`, `{name: scheme}`, "needs a variable from the callback or the token"},
		{"from the token", `"https://{instance_url}/token"`, `{name: instance_url, from: token}`, "is not known when this URL is used"},
		{"bad from", `"https://a.acme.example/{x}"`, `{name: x, from: env}`, "is not one of user, callback, token"},
		{"bad pattern", `"https://a.acme.example/{x}"`, `{name: x, pattern: "("}`, "not a valid RE2 expression"},
		{"default against pattern", `"https://a.acme.example/{x}"`, `{name: x, pattern: "[a-c]+", default: d}`, "the default is not a valid value"},
		{"default with a slash", `"https://a.acme.example/{x}"`, `{name: x, default: a/b}`, "the default is not a valid value"},
		{"value with dots", `"https://a.acme.example/{x}"`, `{name: x, values: [a, ..]}`, "this is not a valid value"},
		{"twice", `"https://a.acme.example/{x}"`, `{name: x}, {name: x}`, "is declared twice"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := providers.Parse("acme.yaml", []byte(definition(test.endpoint, test.variables)), providers.User)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestParseInsecureLoopback(t *testing.T) {
	text := strings.NewReplacer("https://auth.acme.example/", "http://127.0.0.1:8080/", "https://api.acme.example/v1", "http://localhost:8081/v1",
		"[api.acme.example]", `["localhost:8081"]`).Replace(minimal) + "allow_insecure_loopback: true\n"
	if _, err := providers.Parse("acme.yaml", []byte(text), providers.User); err != nil {
		t.Error(err)
	}
	for _, host := range []string{"127.0.0.2", "0.0.0.0", "localhost.evil.example", "10.0.0.1", "127.1", "[::ffff:127.0.0.1]"} {
		if _, err := providers.Parse("acme.yaml", []byte(strings.Replace(text, "127.0.0.1", host, 1)), providers.User); err == nil {
			t.Errorf("http to %s was accepted", host)
		}
	}
	if _, err := providers.Parse("acme.yaml", []byte(text), providers.BuiltIn); err == nil {
		t.Error("a built-in entry may not allow http")
	}
}

func TestParseBuiltInRules(t *testing.T) {
	for _, extra := range []string{"client_id: abc\n", "replaces: true\n", ""} {
		_, err := providers.Parse("acme.yaml", []byte(minimal+extra), providers.BuiltIn)
		if err == nil {
			t.Errorf("a built-in entry with %q and without sources was accepted", extra)
		}
		if _, err := providers.Parse("acme.yaml", []byte(minimal+extra), providers.User); err != nil {
			t.Errorf("a user's file with %q: %v", extra, err)
		}
	}
}

func TestRegisterURI(t *testing.T) {
	p := parseUser(t, minimal)
	if got, want := p.RegisterURI(""), "http://127.0.0.1/callback/acme"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := p.RegisterURI("http://localhost:8914/cb"), "http://localhost:8914/cb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p = parseUser(t, minimal+"register: {redirect_uri: none}\n")
	if got := p.RegisterURI(""); got != "" {
		t.Errorf("got %s, want nothing to register", got)
	}
	p = parseUser(t, minimal+"redirect_uri: http://localhost:8914/cb\n")
	if got, want := p.RegisterURI(""), "http://localhost:8914/cb"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCheckEnvName(t *testing.T) {
	for _, name := range []string{"SPOTIFY_ACCESS_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "A", "X1_", "NODE_AUTH_TOKEN", "NPM_TOKEN", "SANDBOX_ACCESS_TOKEN", "GH_TOKEN"} {
		if err := providers.CheckEnvName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "lower", "1A", "_A", "A-B", "A B", "A=B", "A\nB", "Ä", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "PATH", "HOME",
		"SHELL", "IFS", "ENV", "BASH_ENV", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "PERL5LIB", "RUBYOPT",
		"JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE",
		"GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_EXEC_PATH", "SSH_ASKPASS", "APIAUTH_STORE_KEY", "APIAUTH_CONFIG_DIR", "EDITOR", "PAGER", "LESSOPEN", "PROMPT_COMMAND", "PS4",
		"PATHEXT", "COMSPEC", "GITHUB_ENV", "GITHUB_PATH", "GOFLAGS", "RUSTC_WRAPPER", "TMPDIR", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS", "BROWSER", "KUBECONFIG",
		"GLIBC_TUNABLES", "OPENSSL_CONF", strings.Repeat("A", 129)} {
		if err := providers.CheckEnvName(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		data, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := providers.Parse(d.ID+".yaml", data, providers.BuiltIn)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		if !reflect.DeepEqual(again, d.Provider) {
			t.Errorf("%s: written and read again it is\n%+v\nnot\n%+v", d.ID, again, d.Provider)
		}
	}
}

func TestMarshalQuotes(t *testing.T) {
	p := parseUser(t, minimal)
	p.Name, p.Description = "true", "a: b # c"
	p.Token.GrantLifetime = 90 * time.Minute
	p.ClientID, p.Token.ExpiresIn = "0123", "3600"
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again := parseUser(t, string(data)); !reflect.DeepEqual(again, p) {
		t.Errorf("got %+v\nwant %+v", again, p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("id: corp\nname: Corp\nissuer: https://id.corp.example/realms/main\n"))
	f.Add([]byte("id: k\nname: K\nflows: [key]\napi: {base_url: https://k.example, auth: {in: query, name: key}}\n"))
	f.Add([]byte(minimal + "variables: [{name: x, pattern: '[a-z]+', default: a}]\nrevocation: {page: 'https://a.example/{x}', style: page}\n"))
	f.Add([]byte(named))
	f.Add([]byte(minimal + "allow_insecure_loopback: true\nplaceholder: 'a{16}'\ntoken: {grant_lifetime: 1h, params: {a: b}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := providers.Parse("f.yaml", data, providers.User)
		if err != nil {
			var fault *strictyaml.Error
			if !errors.As(err, &fault) || fault.Line < 1 || fault.Column < 1 {
				t.Fatalf("%T without a place: %v", err, err)
			}
			return
		}
		// What is valid can be written, and reads the same.
		out, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := providers.Parse("f.yaml", out, providers.User)
		if err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if one, two := mustMarshal(t, p), mustMarshal(t, again); one != two {
			t.Errorf("written twice it differs:\n%s\n%s", one, two)
		}
		// Pinned without a person it leads nowhere but to https or this machine.
		pins, err := (&providers.Definition{Provider: p, Origin: providers.User}).Pin(providers.PinOptions{})
		if err != nil {
			return
		}
		for _, url := range []string{pins.TokenEndpoint, pins.AuthorizationEndpoint, pins.DeviceAuthorizationEndpoint} {
			if url != "" && !strings.HasPrefix(url, "https://") && !p.AllowInsecureLoopback {
				t.Errorf("the endpoint %q", url)
			}
		}
	})
}

func mustMarshal(t *testing.T, p *providers.Provider) string {
	t.Helper()
	out, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
