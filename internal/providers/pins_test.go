package providers_test

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func define(t *testing.T, text string) *providers.Definition {
	t.Helper()
	return &providers.Definition{Provider: parseUser(t, text), Origin: providers.User}
}

func entry(t *testing.T, id string) *providers.Definition {
	t.Helper()
	d, err := providers.Open("").Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pin(t *testing.T, d *providers.Definition, o providers.PinOptions) providers.Pins {
	t.Helper()
	pins, err := d.Pin(o)
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

func TestPinDefaults(t *testing.T) {
	pins := pin(t, define(t, minimal), providers.PinOptions{ClientID: "id"})
	want := providers.Pins{
		Provider:              "acme",
		AuthorizationEndpoint: "https://auth.acme.example/authorize",
		TokenEndpoint:         "https://auth.acme.example/token",
		PKCE:                  "S256",
		AuthMethod:            "none",
		ClientID:              "id",
		RedirectURI:           "http://127.0.0.1:*/callback/acme",
		APIBase:               "https://api.acme.example/v1",
		APIHosts:              []string{"api.acme.example"},
		APIAuth:               providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "},
		Token:                 providers.TokenPin{RequestScopeSeparator: " ", Rotates: "sometimes"},
		Identity:              providers.IdentityPin{From: "userinfo"},
		Revocation:            providers.RevocationPin{Style: "none"},
	}
	if !reflect.DeepEqual(pins, want) {
		t.Errorf("got  %+v\nwant %+v", pins, want)
	}
}

func TestPinNeedsEndpoints(t *testing.T) {
	if _, err := define(t, "id: corp\nname: Corp\nissuer: https://id.corp.example\n").Pin(providers.PinOptions{}); err == nil {
		t.Error("a definition without endpoints was pinned")
	}
}

func TestPinAuthMethod(t *testing.T) {
	tests := []struct {
		id, flow string
		secret   bool
		want     string
	}{
		{"github", "browser", true, providers.AuthPost},
		{"github", "browser", false, providers.AuthPost}, // needs one: the caller says so
		{"github", "device", true, providers.AuthNone},
		{"github", "device", false, providers.AuthNone},
		{"spotify", "", false, providers.AuthNone},
		{"spotify", "browser", true, providers.AuthBasic},
		{"spotify", "paste", false, providers.AuthNone},
		{"spotify", "client-credentials", true, providers.AuthBasic},
		{"spotify", "client-credentials", false, providers.AuthBasic},
		{"microsoft", "browser", false, providers.AuthNone},
		{"microsoft", "device", true, providers.AuthNone},
		{"stripe-app", "browser", true, providers.AuthSecretUser},
		{"mapbox", "", false, providers.AuthNone},
	}
	for _, test := range tests {
		pins := pin(t, entry(t, test.id), providers.PinOptions{Flow: test.flow, HasSecret: test.secret})
		if pins.AuthMethod != test.want {
			t.Errorf("%s %s secret=%v: %s, want %s", test.id, test.flow, test.secret, pins.AuthMethod, test.want)
		}
	}
}

func TestPinFacts(t *testing.T) {
	github := pin(t, entry(t, "github"), providers.PinOptions{ClientID: "Iv1.abc"})
	if !github.Token.NeverExpires || github.Token.ExpiresIn != 0 {
		t.Error("a GitHub token without expires_in does not expire")
	}
	if got, want := github.Revocation.Page, "https://github.com/settings/connections/applications/Iv1.abc"; got != want {
		t.Errorf("page %s, want %s", got, want)
	}
	spotify := pin(t, entry(t, "spotify"), providers.PinOptions{RedirectURI: "http://127.0.0.1:9000/mine"})
	if spotify.Token.ExpiresIn != 3600 || spotify.Token.GrantLifetime != 4380*3600 {
		t.Errorf("lifetimes %+v", spotify.Token)
	}
	if spotify.RedirectURI != "http://127.0.0.1:9000/mine" {
		t.Errorf("redirect %s", spotify.RedirectURI)
	}
	if _, err := entry(t, "spotify").Pin(providers.PinOptions{RedirectURI: "http://evil.example:80/x"}); err == nil {
		t.Error("a redirect to another machine over http was accepted")
	}
	mapbox := pin(t, entry(t, "mapbox"), providers.PinOptions{})
	if want := (providers.APIAuthPin{In: "query", Name: "access_token"}); mapbox.APIAuth != want || mapbox.RedirectURI != "" {
		t.Errorf("mapbox %+v, redirect %q", mapbox.APIAuth, mapbox.RedirectURI)
	}
	discovered := &providers.Definition{Provider: parseUser(t, minimal+"issuer: https://auth.acme.example\n"), Origin: providers.Discovered}
	if got := pin(t, discovered, providers.PinOptions{}).Provider; got != "https://auth.acme.example" {
		t.Errorf("a discovered provider is pinned as %s", got)
	}
}

func TestPinVariables(t *testing.T) {
	gitlab := entry(t, "gitlab")
	if got := pin(t, gitlab, providers.PinOptions{}).TokenEndpoint; got != "https://gitlab.com/oauth/token" {
		t.Errorf("default host: %s", got)
	}
	own := pin(t, gitlab, providers.PinOptions{Variables: map[string]string{"host": "https://Git.Corp.Example:8443/"}})
	if own.TokenEndpoint != "https://git.corp.example:8443/oauth/token" || own.APIBase != "https://git.corp.example:8443/api/v4" ||
		!reflect.DeepEqual(own.APIHosts, []string{"git.corp.example:8443"}) || !reflect.DeepEqual(own.GitHosts, []string{"git.corp.example:8443"}) {
		t.Errorf("own host: %+v", own)
	}
	tests := []struct{ id, name, value, want string }{
		{"gitlab", "host", "gitlab.com@evil.example", "is not a host"},
		{"gitlab", "host", "gitlab.com/evil", "is not a host"},
		{"gitlab", "host", "http://gitlab.com", "is not a host"},
		{"gitlab", "host", "gitlab.com#", "is not a host"},
		{"gitlab", "hots", "gitlab.com", `has no variable "hots"; it has host`},
		{"spotify", "host", "x", `has no variable "host"`},
		{"microsoft", "tenant", "../x", "microsoft: tenant"},
		{"microsoft", "tenant", "a/b", "microsoft: tenant"},
		{"microsoft", "tenant", "a?b", "microsoft: tenant"},
		{"microsoft", "tenant", "{x}", "microsoft: tenant"},
		{"salesforce", "domain", "evil.example", "does not match"},
		{"salesforce", "domain", "login.salesforce.com.evil.example", "does not match"},
		{"salesforce", "domain", "my.salesforce.com", "does not match"},
		{"salesforce", "domain", "a.b.my.salesforce.com", "does not match"},
		{"salesforce", "instance_url", "https://x.my.salesforce.com", `has no variable "instance_url"`},
	}
	for _, test := range tests {
		_, err := entry(t, test.id).Pin(providers.PinOptions{Variables: map[string]string{test.name: test.value}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s=%s: got %v, want %q", test.id, test.name, test.value, err, test.want)
		}
	}
	for _, domain := range []string{"login.salesforce.com", "test.salesforce.com", "acme.my.salesforce.com", "acme--dev.sandbox.my.salesforce.com"} {
		pins := pin(t, entry(t, "salesforce"), providers.PinOptions{Variables: map[string]string{"domain": domain}})
		if pins.TokenEndpoint != "https://"+domain+"/services/oauth2/token" {
			t.Errorf("%s: %s", domain, pins.TokenEndpoint)
		}
	}
}

func TestPinMissingVariable(t *testing.T) {
	d := define(t, strings.Replace(minimal, "https://auth.acme.example/token", `"https://auth.acme.example/{tenant}/token"`, 1)+"variables: [{name: tenant, title: Tenant}]\n")
	_, err := d.Pin(providers.PinOptions{})
	var missing *providers.MissingVariableError
	if !errors.As(err, &missing) || missing.Variable.Name != "tenant" || missing.Variable.Title != "Tenant" {
		t.Fatalf("got %v, want a *MissingVariableError for tenant", err)
	}
	if pins := pin(t, d, providers.PinOptions{Variables: map[string]string{"tenant": "one"}}); pins.TokenEndpoint != "https://auth.acme.example/one/token" {
		t.Errorf("endpoint %s", pins.TokenEndpoint)
	}
}

// TestPinStaysInDomain: a whole host without host: true may only become a host
// in the registrable domain of its default, whatever the pattern allows.
func TestPinStaysInDomain(t *testing.T) {
	d := define(t, strings.Replace(minimal, "https://auth.acme.example/token", `"https://{domain}/token"`, 1)+
		"variables: [{name: domain, default: login.acme.example}]\n")
	for value, ok := range map[string]bool{
		"eu.acme.example": true, "acme.example": true, "evil.example": false, "acme.example.evil.example": false, "xacme.example": false,
		"127.0.0.1": false, "localhost": false, "example": false,
	} {
		_, err := d.Pin(providers.PinOptions{Variables: map[string]string{"domain": value}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// TestPinListedDomains: a list of values may lead to several domains, and to none
// that it does not hold.
func TestPinListedDomains(t *testing.T) {
	d := define(t, strings.NewReplacer("https://auth.acme.example/token", `"https://{tenant}.{domain}/token"`, "[api.acme.example]", `[api.acme.example, "api.{domain}"]`).Replace(minimal)+
		"variables: [{name: tenant, default: auth}, {name: domain, default: acme.example, values: [acme.example, acme-eu.example]}]\n")
	for value, ok := range map[string]bool{
		"acme.example": true, "acme-eu.example": true, "": true,
		"evil.example": false, "eu.acme.example": false, "acme.example.": false, "ACME.example": false, "acme.example:8443": false, "acme-eu.example/x": false,
	} {
		pins, err := d.Pin(providers.PinOptions{Variables: map[string]string{"domain": value}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
		if want := "https://auth." + value + "/token"; ok && value != "" && (pins.TokenEndpoint != want || !pins.AllowsHost("api."+value)) {
			t.Errorf("%q: endpoint %s, hosts %v", value, pins.TokenEndpoint, pins.APIHosts)
		}
	}
	for _, tenant := range []string{"evil.example/", "evil.example#", "evil.example:443", "a..b", "-", "x@"} {
		if pins, err := d.Pin(providers.PinOptions{Variables: map[string]string{"tenant": tenant}}); err == nil {
			t.Errorf("%q: endpoint %s", tenant, pins.TokenEndpoint)
		}
	}
	was := pin(t, d, providers.PinOptions{})
	if changes := was.Changes(pin(t, d, providers.PinOptions{Variables: map[string]string{"domain": "acme-eu.example"}})); len(changes) == 0 {
		t.Error("another domain is no change")
	}
}

// FuzzListedDomains: whatever a person types for the variables of a host, it lies
// in one of the domains that the definition lists.
func FuzzListedDomains(f *testing.F) {
	text := strings.NewReplacer("https://auth.acme.example/token", `"https://{tenant}.acme.{tld}/token"`, "[api.acme.example]", `[api.acme.example, "{tenant}.api.{domain}"]`).Replace(minimal) +
		"variables: [{name: tenant}, {name: tld, values: [example, co.example]}, {name: domain, values: [acme.example, acme-eu.example]}]\n"
	p, err := providers.Parse("acme.yaml", []byte(text), providers.User)
	if err != nil {
		f.Fatal(err)
	}
	d := &providers.Definition{Provider: p, Origin: providers.User}
	f.Add("auth", "example", "acme.example")
	f.Add("a.b", "co.example", "acme-eu.example")
	f.Add("evil.example/", "example#", "acme.example.evil.example")
	f.Fuzz(func(t *testing.T, tenant, tld, domain string) {
		pins, err := d.Pin(providers.PinOptions{Variables: map[string]string{"tenant": tenant, "tld": tld, "domain": domain}})
		if err != nil {
			return
		}
		host, err := providers.URLHost(pins.TokenEndpoint)
		if err != nil || !strings.HasSuffix(host, ".acme.example") && !strings.HasSuffix(host, ".acme.co.example") {
			t.Errorf("the endpoint %q", pins.TokenEndpoint)
		}
		if len(pins.APIHosts) != 2 || !strings.HasSuffix(pins.APIHosts[1], ".api.acme.example") && !strings.HasSuffix(pins.APIHosts[1], ".api.acme-eu.example") {
			t.Errorf("hosts %q", pins.APIHosts)
		}
	})
}

// named is a definition whose redirect has a name.
const named = "id: acme\nname: Acme\nauthorization_endpoint: https://auth.acme.example/authorize\ntoken_endpoint: https://auth.acme.example/token\n" +
	"token_endpoint_auth_method: client_secret_basic\nflows: [browser, client-credentials]\nredirect_uri: https://localhost/callback/acme\nredirect_name: \"{ru_name}\"\n" +
	"variables: [{name: ru_name, title: RuName}]\ncallback_keep: {device_id: device}\ntoken:\n  keep: [instance_url]\n  exchange_sends: [state, device]\n  refresh_sends: [redirect_uri, scope, device_id, instance_url, state]\n" +
	"api: {base_url: \"https://api.acme.example/v1\", hosts: [api.acme.example], headers: {Client-Id: \"{client_id}\", X-Version: \"2\"}}\n"

// TestRedirectName: the name takes the place of the address where that is sent,
// and another name is approved anew.
func TestRedirectName(t *testing.T) {
	d := define(t, named)
	pins := pin(t, d, providers.PinOptions{Flow: "browser", ClientID: "c1", Variables: map[string]string{"ru_name": "Acme-Acme-PRD-1-2"}})
	if sent := pins.RedirectSent(); sent != "Acme-Acme-PRD-1-2" || pins.RedirectURI != "https://localhost/callback/acme" {
		t.Errorf("%q, redirect %s", sent, pins.RedirectURI)
	}
	var missing *providers.MissingVariableError
	if _, err := d.Pin(providers.PinOptions{Flow: "browser", ClientID: "c1"}); !errors.As(err, &missing) || missing.Variable.Name != "ru_name" {
		t.Errorf("without the name: %v", err)
	}
	for _, bad := range []string{"https://evil.example/", "a/b", "a b", "-a"} {
		if _, err := d.Pin(providers.PinOptions{ClientID: "c1", Variables: map[string]string{"ru_name": bad}}); err == nil {
			t.Errorf("the name %q was accepted", bad)
		}
	}
	if _, err := d.Pin(providers.PinOptions{ClientID: "c1", RedirectURI: "http://127.0.0.1:*/callback/acme", Variables: map[string]string{"ru_name": "Acme-1"}}); err == nil || !strings.Contains(err.Error(), "fixed port") {
		t.Errorf("got %v", err)
	}
	other := pin(t, d, providers.PinOptions{Flow: "browser", ClientID: "c1", Variables: map[string]string{"ru_name": "Acme-Other"}})
	if changes := pins.Changes(other); len(changes) != 1 || changes[0].Field != "redirect_name" {
		t.Errorf("changes %v", changes)
	}
	fewer := define(t, strings.Replace(named, "redirect_uri, scope, ", "", 1))
	if changes := pins.Changes(pin(t, fewer, providers.PinOptions{Flow: "browser", ClientID: "c1", Variables: map[string]string{"ru_name": "Acme-Acme-PRD-1-2"}})); len(changes) != 1 || changes[0].Field != "token.refresh_sends" {
		t.Errorf("changes %v", changes)
	}
}

// TestClientIDInHeaders: API calls carry the client's id where the provider wants
// it, and no empty header while there is none.
func TestClientIDInHeaders(t *testing.T) {
	d, name := define(t, named), map[string]string{"ru_name": "Acme-1"}
	if got := pin(t, d, providers.PinOptions{ClientID: "c1", Variables: name}).APIHeaders; !maps.Equal(got, map[string]string{"Client-Id": "c1", "X-Version": "2"}) {
		t.Errorf("headers %v", got)
	}
	if got := pin(t, d, providers.PinOptions{Variables: name}).APIHeaders; !maps.Equal(got, map[string]string{"X-Version": "2"}) {
		t.Errorf("headers %v", got)
	}
	if d.API.Headers["Client-Id"] != "{client_id}" {
		t.Error("the definition itself was changed")
	}
}

// TestSendsErrors: what token requests repeat is held to what there is.
func TestSendsErrors(t *testing.T) {
	for _, test := range []struct{ name, old, new, want string }{
		{"a name that is an address", "{ru_name}", "https://acme.example/{ru_name}", "this is not a name"},
		{"a name with a blank", "{ru_name}", "a {ru_name}", "this is not a name"},
		{"a variable that is not there", "{ru_name}", "{ru_name}-{rename}", "{rename} is not declared"},
		{"a variable of the callback", "{name: ru_name, title: RuName}", "{name: ru_name, from: callback}", "must be a plain variable of the user"},
		{"a name without its address", "redirect_uri: https://localhost/callback/acme\n", "", "redirect_uri must say where the browser ends"},
		{"a name with an open port", "https://localhost/callback/acme", "http://127.0.0.1:*/callback/acme", "with no open port"},
		{"a name without a browser", "flows: [browser, client-credentials]", "flows: [client-credentials]", "needs the browser flow"},
		{"a field twice", "[state, device]", "[state, state]", "state is listed twice"},
		{"the code", "[state, device]", "[state, code]", "code is set by apiauth"},
		{"the secret", "[state, device]", "[state, client_secret]", "client_secret is set by apiauth"},
		{"a token", "[state, device]", "[state, access_token]", "access_token is set by apiauth"},
		{"the issuer", "[state, device]", "[state, iss]", "this is not a parameter of the callback"},
		{"no parameter", "[state, device]", "[state, \"a b\"]", "this is not a parameter of the callback"},
		{"sent already", "exchange_sends:", "exchange_params: {device: x}\n  exchange_sends:", "device is sent already"},
		{"sent already at refreshes", "refresh_sends:", "refresh_params: {device_id: x}\n  refresh_sends:", "device_id is sent already"},
		{"under another name already", "exchange_sends:", "rename: {client_id: device}\n  exchange_sends:", "device is sent already"},
		{"left out and sent", "exchange_sends:", "omit_params: [redirect_uri]\n  exchange_sends:", "redirect_uri is in token.omit_params"},
		{"a bare code", "flows:", "paste_code: true\nflows:", "a code that is pasted alone comes without device"},
		{"not kept", "device_id, instance_url", "device, instance_url", "is not kept: it is redirect_uri"},
		{"a credential", "device_id, instance_url", "client_secret, instance_url", "client_secret is set by apiauth"},
		{"a refresh twice", "device_id, instance_url", "scope, instance_url", "scope is listed twice"},
		{"no scope at all", "token:\n", "scopes: {omit: true}\ntoken:\n", "no scope is ever sent"},
		{"two scopes", "token:\n", "scopes: {second: {param: user_scope, prefix: \"user:\"}}\ntoken:\n", "which of two scope parameters"},
		{"after the end and before", "  keep:", "  renewal: {after_end: true, before: 24h}\n  keep:", "before its end or after it"},
		{"after the end, by itself", "  keep:", "  renewal: {after_end: true, credential: access_token, grant_type: x, param: y}\n  keep:", "only while it is alive"},
		{"another variable in a header", "{client_id}", "{ru_name}", "a header may hold {client_id} and no other variable"},
		{"the secret in a header", "{client_id}", "{client_id}:{client_secret}", "a header may hold {client_id} and no other variable"},
		{"a client id at the token endpoint", "  keep:", "  headers: {X-Client: \"{client_id}\"}\n  keep:", "{client_id} is for api.headers"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(named, test.old, test.new, 1)
			if text == named {
				t.Fatalf("%q is not in the definition", test.old)
			}
			if _, err := providers.Parse("acme.yaml", []byte(text), providers.User); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	open := strings.NewReplacer("redirect_name: \"{ru_name}\"\n", "", "variables: [{name: ru_name, title: RuName}]\n", "", "redirect_uri: https://localhost/callback/acme\n", "").Replace(named)
	if _, err := providers.Parse("acme.yaml", []byte(open), providers.User); err == nil || !strings.Contains(err.Error(), "must have a fixed port") {
		t.Errorf("an open port: %v", err)
	}
	key := "id: acme\nname: Acme\nflows: [key]\napi: {base_url: \"https://api.acme.example\", headers: {X: \"{client_id}\"}}\n"
	if _, err := providers.Parse("acme.yaml", []byte(key), providers.User); err == nil || !strings.Contains(err.Error(), "no client is known") {
		t.Errorf("a key with a client: %v", err)
	}
}

func TestBindAPI(t *testing.T) {
	fresh := func() providers.Pins {
		return pin(t, entry(t, "salesforce"), providers.PinOptions{ClientID: "id"})
	}
	tests := []struct {
		instance string
		host     string // expected; "" means refused
	}{
		{"https://acme.my.salesforce.com", "acme.my.salesforce.com"},
		{"https://acme.my.salesforce.com/", "acme.my.salesforce.com"},
		{"https://ACME.my.Salesforce.com", "acme.my.salesforce.com"},
		{"https://acme.my.salesforce.com.", "acme.my.salesforce.com"},
		{"https://acme.my.salesforce.com:443", "acme.my.salesforce.com"},
		{"https://acme--dev.sandbox.my.salesforce.com", "acme--dev.sandbox.my.salesforce.com"},
		{"https://my.salesforce.com", ""},
		{"https://.my.salesforce.com", ""},
		{"https://acme.my.salesforce.com:8443", ""},
		{"https://acme.my.salesforce.com.evil.example", ""},
		{"https://evilmy.salesforce.com", ""},
		{"https://evil.example", ""},
		{"https://evil.example/.my.salesforce.com", ""},
		{"https://evil.example?.my.salesforce.com", ""},
		{"https://evil.example#.my.salesforce.com", ""},
		{"https://evil.example\\.my.salesforce.com", ""},
		{"https://acme.my.salesforce.com@evil.example", ""},
		{"https://user:pw@acme.my.salesforce.com", ""},
		{"https://acme.my.salesforce.com/services", ""},
		{"http://acme.my.salesforce.com", ""},
		{"//acme.my.salesforce.com", ""},
		{"acme.my.salesforce.com", ""},
		{"javascript://acme.my.salesforce.com", ""},
		{"https://аcme.my.salesforce.com", ""}, // a Cyrillic letter
		{"https://acme.my.salesforce。com", ""}, // an ideographic full stop
		{"https://acme%2emy.salesforce.com", ""},
		{"https://ac me.my.salesforce.com", ""},
		{"https://acme.my.salesforce.com\n", ""},
		{"https://[::1].my.salesforce.com", ""},
		{"https://a..my.salesforce.com", ""},
		{"https://-a.my.salesforce.com", ""},
		{"https://{domain}.my.salesforce.com", ""},
		{"", ""},
	}
	for _, test := range tests {
		pins := fresh()
		before := mustJSON(t, pins)
		err := pins.BindAPI(map[string]string{"instance_url": test.instance})
		if test.host == "" {
			if err == nil {
				t.Errorf("%q was accepted as %v", test.instance, pins.APIHosts)
			}
			if mustJSON(t, pins) != before {
				t.Errorf("%q: the pins changed in spite of the error", test.instance)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", test.instance, err)
			continue
		}
		if !reflect.DeepEqual(pins.APIHosts, []string{test.host}) || !pins.AllowsHost(test.host) {
			t.Errorf("%q: hosts %v, want %s", test.instance, pins.APIHosts, test.host)
		}
		if pins.AllowsHost("other.my.salesforce.com") || pins.AllowsHost("my.salesforce.com") || pins.AllowsHost(".my.salesforce.com") {
			t.Errorf("%q: another tenant's host is allowed", test.instance)
		}
	}
}

func TestBindAPIAgain(t *testing.T) {
	pins := pin(t, entry(t, "salesforce"), providers.PinOptions{ClientID: "id"})
	unbound := pins
	kept := map[string]string{"instance_url": "https://acme.my.salesforce.com", "other": "ignored"}
	if err := pins.BindAPI(kept); err != nil {
		t.Fatal(err)
	}
	once := mustJSON(t, pins)
	if err := pins.BindAPI(kept); err != nil || mustJSON(t, pins) != once {
		t.Errorf("binding twice is not the same as once: %v", err)
	}
	// The attacker has a tenant too: a later answer does not move the API.
	var moved *providers.MovedError
	err := pins.BindAPI(map[string]string{"instance_url": "https://evil.my.salesforce.com"})
	if !errors.As(err, &moved) || mustJSON(t, pins) != once {
		t.Errorf("got %v, want a *MovedError and unchanged pins", err)
	}
	var missing *providers.MissingVariableError
	if err := unbound.BindAPI(nil); !errors.As(err, &missing) || missing.Variable.Name != "instance_url" {
		t.Errorf("got %v, want a *MissingVariableError", err)
	}
	// Stored and read back, everything still holds.
	var again providers.Pins
	if err := json.Unmarshal([]byte(once), &again); err != nil {
		t.Fatal(err)
	}
	if err := again.BindAPI(kept); err != nil || mustJSON(t, again) != once {
		t.Errorf("after storing: %v", err)
	}
	if changes := again.Changes(unbound); changes != nil {
		t.Errorf("bound and unbound pins of one definition differ: %v", changes)
	}
	plain := pin(t, entry(t, "spotify"), providers.PinOptions{})
	before := mustJSON(t, plain)
	if err := plain.BindAPI(kept); err != nil || mustJSON(t, plain) != before {
		t.Errorf("a provider without kept fields: %v", err)
	}
}

// TestBindAPISubdomain: a value from the callback that is a part of the host.
func TestBindAPISubdomain(t *testing.T) {
	d := define(t, `id: shop
name: Shop
authorization_endpoint: https://auth.shop.example/authorize
token_endpoint: https://auth.shop.example/token
userinfo_endpoint: "https://{store}.shops.example/me"
token_endpoint_auth_method: none
variables: [{name: store, from: callback}]
api:
  base_url: "https://{store}.shops.example/api"
  hosts: [.shops.example, static.shop.example]
`)
	pins := pin(t, d, providers.PinOptions{})
	if pins.AllowsHost("one.shops.example") {
		t.Error("a host is allowed before it is bound")
	}
	if err := pins.BindAPI(map[string]string{"store": "one"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"static.shop.example", "one.shops.example"}; !reflect.DeepEqual(pins.APIHosts, want) {
		t.Errorf("hosts %v, want %v", pins.APIHosts, want)
	}
	if pins.APIBase != "https://one.shops.example/api" || pins.UserinfoEndpoint != "https://one.shops.example/me" {
		t.Errorf("base %s, userinfo %s", pins.APIBase, pins.UserinfoEndpoint)
	}
	for _, value := range []string{"evil.example/", "evil.example?", "a@b", "..", "", "{x}", "https://evil.example", "a\nb"} {
		other := pin(t, d, providers.PinOptions{})
		if err := other.BindAPI(map[string]string{"store": value}); err == nil {
			t.Errorf("%q was accepted: %v", value, other.APIHosts)
		}
	}
}

func TestAllowsHost(t *testing.T) {
	pins := providers.Pins{APIHosts: []string{"api.example.com", "files.example.com:8443", "[2001:db8::1]", "192.0.2.1", "xn--bcher-kva.example", "127.0.0.1:8080"}}
	tests := []struct {
		host string
		want bool
	}{
		{"api.example.com", true},
		{"API.EXAMPLE.COM", true},
		{"api.example.com.", true},
		{"API.EXAMPLE.COM.", true},
		{"api.example.com:443", true},
		{"api.example.com.:443", true},
		{"files.example.com:8443", true},
		{"[2001:db8::1]", true},
		{"[2001:DB8:0:0::1]:443", true},
		{"192.0.2.1:443", true},
		{"XN--bcher-KVA.example", true},
		{"127.0.0.1:8080", true},
		{"", false},
		{".", false},
		{".api.example.com", false},
		{"api.example.com..", false},
		{"api..example.com", false},
		{"example.com", false},
		{"www.api.example.com", false},
		{"api.example.com.evil.com", false},
		{"apixexample.com", false},
		{"apiexample.com", false},
		{"evil-api.example.com", false},
		{"api.example.com:80", false},
		{"api.example.com:8443", false},
		{"api.example.com:0443", false},
		{"api.example.com:", false},
		{"api.example.com:443:443", false},
		{"api.example.com:+443", false},
		{"api.example.com:99999", false},
		{"files.example.com", false},
		{"user@api.example.com", false},
		{"api.example.com@evil.com", false},
		{"evil.com#api.example.com", false},
		{"evil.com/api.example.com", false},
		{"evil.com\\api.example.com", false},
		{"evil.com?api.example.com", false},
		{"https://api.example.com", false},
		{"api.example.com/", false},
		{" api.example.com", false},
		{"api.example.com ", false},
		{"api.example.com\n", false},
		{"api.example.com\x00", false},
		{"api%2eexample.com", false},
		{"api.examplе.com", false}, // a Cyrillic letter
		{"ａpi.example.com", false}, // a full-width letter
		{"api。example。com", false}, // ideographic full stops
		{"bücher.example", false},
		{"2001:db8::1", false},
		{"[2001:db8::1", false},
		{"[2001:db8::1]x", false},
		{"[2001:db8::1%25eth0]", false},
		{"[::ffff:192.0.2.1]", false},
		{"[192.0.2.1]", false},
		{"192.0.2.01", false},
		{"0xc0.0.2.1", false},
		{"3221225985", false},
		{"192.0.513", false},
		{"127.0.0.1", false},
		{"localhost:8080", false},
		{"*", false},
		{"*.example.com", false},
		{strings.Repeat("a.", 200) + "com", false},
	}
	for _, test := range tests {
		if got := pins.AllowsHost(test.host); got != test.want {
			t.Errorf("AllowsHost(%q) = %v, want %v", test.host, got, test.want)
		}
	}
}

func FuzzNormalHost(f *testing.F) {
	for _, seed := range []string{"api.example.com", "API.example.com.:443", "[::1]:80", "127.0.0.1", "a@b", "xn--x", "1.2.3.4.5", "[::]:443", "a:b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		normal, err := providers.NormalHost(host)
		if err != nil {
			return
		}
		if again, err := providers.NormalHost(normal); err != nil || again != normal {
			t.Errorf("%q is normal for %q but becomes %q, %v", normal, host, again, err)
		}
		if got, err := providers.URLHost("https://" + host + "/x"); err != nil || got != normal {
			t.Errorf("net/url reads %q as %q, %v; want %q", host, got, err, normal)
		}
	})
}

func TestChanges(t *testing.T) {
	const text = minimal + "revocation_endpoint: https://auth.acme.example/revoke\nclient_id: public\n"
	base := pin(t, define(t, text), providers.PinOptions{})
	tests := []struct{ name, old, new, field string }{
		{"token endpoint", "https://auth.acme.example/token", "https://evil.example/token", "token_endpoint"},
		{"authorization endpoint", "https://auth.acme.example/authorize", "https://evil.example/authorize", "authorization_endpoint"},
		{"revocation endpoint", "https://auth.acme.example/revoke", "https://evil.example/revoke", "revocation_endpoint"},
		{"auth method", "auth_method: none", "auth_method: client_secret_post", "token_endpoint_auth_method"},
		{"client id", "client_id: public", "client_id: other", "client_id"},
		{"hosts", "hosts: [api.acme.example]", "hosts: [api.acme.example, evil.example]", "api.hosts"},
		{"suffix", "hosts: [api.acme.example]", "hosts: [api.acme.example, .evil.example]", "api.hosts"},
		{"base", "https://api.acme.example/v1", "https://api.acme.example/v2", "api.base_url"},
		{"api auth", "\n  hosts:", "\n  auth: {in: query, name: token}\n  hosts:", "api.auth"},
		{"refresh endpoint", "name: Acme\n", "name: Acme\nrefresh_endpoint: https://evil.example/refresh\n", "refresh_endpoint"},
		{"name", "name: Acme\n", "name: Acme Ltd\n", ""},
		{"new introspection", "name: Acme\n", "name: Acme\nintrospection_endpoint: https://auth.acme.example/introspect\n", ""},
		{"redirect", "name: Acme\n", "name: Acme\nredirect_uri: http://127.0.0.1:9/x\n", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(text, test.old, test.new, 1)
			if changed == text {
				t.Fatal("the case changes nothing")
			}
			changes := base.Changes(pin(t, define(t, changed), providers.PinOptions{}))
			switch {
			case test.field == "" && changes != nil:
				t.Errorf("got %v, want no change", changes)
			case test.field != "" && (len(changes) != 1 || changes[0].Field != test.field || changes[0].Was == changes[0].Is):
				t.Errorf("got %v, want a change of %s", changes, test.field)
			}
		})
	}
	// A definition's client id is noticed also when the caller pins with the old one.
	again := pin(t, define(t, strings.Replace(text, "client_id: public", "client_id: other", 1)), providers.PinOptions{ClientID: base.ClientID})
	if changes := base.Changes(again); len(changes) != 1 || changes[0].Field != "client_id" {
		t.Errorf("got %v, want a change of client_id", changes)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
