package providers_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func metadata() providers.Metadata {
	return providers.Metadata{
		Issuer:                                     "https://id.corp.example/realms/main",
		AuthorizationEndpoint:                      "https://id.corp.example/realms/main/auth",
		TokenEndpoint:                              "https://id.corp.example/realms/main/token",
		DeviceAuthorizationEndpoint:                "https://id.corp.example/realms/main/device",
		RevocationEndpoint:                         "https://id.corp.example/realms/main/revoke",
		IntrospectionEndpoint:                      "https://id.corp.example/realms/main/introspect",
		UserinfoEndpoint:                           "https://api.corp.example/userinfo",
		ScopesSupported:                            []string{"openid", "profile", "offline_access", "bad scope", "openid", "x\x1b[31m", "corp:read"},
		TokenEndpointAuthMethodsSupported:          []string{"private_key_jwt", "client_secret_basic", "client_secret_post", "none"},
		CodeChallengeMethodsSupported:              []string{"plain", "S256"},
		GrantTypesSupported:                        []string{"authorization_code", "client_credentials", "refresh_token"},
		AuthorizationResponseIssParameterSupported: true,
	}
}

func TestFromMetadata(t *testing.T) {
	m := metadata()
	p, err := providers.FromMetadata(m.Issuer, m)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "id-corp-example-realms-main" || p.Name != "id.corp.example" || p.Issuer != m.Issuer || !p.IssParameterSupported {
		t.Errorf("id %s, name %s, issuer %s", p.ID, p.Name, p.Issuer)
	}
	if p.TokenEndpointAuthMethod != providers.AuthBasic || !p.SecretOptional || p.PKCE != providers.PKCES256 {
		t.Errorf("method %s, optional %v, pkce %s", p.TokenEndpointAuthMethod, p.SecretOptional, p.PKCE)
	}
	if want := []string{"browser", "device", "client-credentials"}; !reflect.DeepEqual(p.Flows, want) {
		t.Errorf("flows %v, want %v", p.Flows, want)
	}
	if want := []string{"openid", "offline_access"}; !reflect.DeepEqual(p.Scopes.Default, want) {
		t.Errorf("default scopes %v, want %v", p.Scopes.Default, want)
	}
	var names []string
	for _, s := range p.Scopes.Catalog {
		names = append(names, s.Name)
	}
	if want := []string{"openid", "profile", "offline_access", "corp:read"}; !reflect.DeepEqual(names, want) {
		t.Errorf("scopes %v, want %v", names, want)
	}
	if want := []string{"api.corp.example"}; !reflect.DeepEqual(p.API.Hosts, want) {
		t.Errorf("hosts %v, want %v", p.API.Hosts, want)
	}
	if p.Revocation.Style != "rfc7009" || p.Identity.Subject != "sub" {
		t.Errorf("revocation %+v, identity %+v", p.Revocation, p.Identity)
	}
	// Written as a file it is a definition of the user's own.
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := providers.Parse("f.yaml", data, providers.User)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if !reflect.DeepEqual(again, p) {
		t.Errorf("got %+v\nwant %+v", again, p)
	}
}

func TestFromMetadataChoices(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*providers.Metadata)
		method  string
		secret  bool // secret optional
		flows   string
		scopes  string
		revokes string
	}{
		{"silent", func(m *providers.Metadata) {
			m.TokenEndpointAuthMethodsSupported, m.GrantTypesSupported, m.ScopesSupported, m.RevocationEndpoint = nil, nil, nil, ""
		}, providers.AuthBasic, true, "browser device", "openid", "none"},
		{"post only", func(m *providers.Metadata) { m.TokenEndpointAuthMethodsSupported = []string{"client_secret_post"} },
			providers.AuthPost, false, "browser device client-credentials", "openid offline_access", "rfc7009"},
		{"none only", func(m *providers.Metadata) { m.TokenEndpointAuthMethodsSupported = []string{"none"} },
			providers.AuthNone, false, "browser device", "openid offline_access", "rfc7009"},
		{"signed only", func(m *providers.Metadata) {
			m.TokenEndpointAuthMethodsSupported = []string{"tls_client_auth", "client_secret_jwt", "private_key_jwt"}
		}, providers.AuthPrivateKeyJWT, false, "browser device client-credentials", "openid offline_access", "rfc7009"},
		{"certificates only", func(m *providers.Metadata) {
			m.TokenEndpointAuthMethodsSupported = []string{"self_signed_tls_client_auth", "tls_client_auth"}
		}, providers.AuthTLS, false, "browser device client-credentials", "openid offline_access", "rfc7009"},
		{"registered certificates only", func(m *providers.Metadata) {
			m.TokenEndpointAuthMethodsSupported = []string{"self_signed_tls_client_auth"}
		}, providers.AuthSelfSignedTLS, false, "browser device client-credentials", "openid offline_access", "rfc7009"},
		{"plain OAuth", func(m *providers.Metadata) {
			m.UserinfoEndpoint, m.ScopesSupported, m.DeviceAuthorizationEndpoint = "", nil, ""
		}, providers.AuthBasic, true, "browser client-credentials", "", "rfc7009"},
		{"machines only", func(m *providers.Metadata) {
			m.AuthorizationEndpoint, m.DeviceAuthorizationEndpoint, m.GrantTypesSupported = "", "", []string{"client_credentials"}
		}, providers.AuthBasic, true, "client-credentials", "openid offline_access", "rfc7009"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := metadata()
			test.change(&m)
			p, err := providers.FromMetadata(m.Issuer, m)
			if err != nil {
				t.Fatal(err)
			}
			if p.TokenEndpointAuthMethod != test.method || p.SecretOptional != test.secret || strings.Join(p.Flows, " ") != test.flows ||
				strings.Join(p.Scopes.Default, " ") != test.scopes || p.Revocation.Style != test.revokes {
				t.Errorf("method %s, optional %v, flows %v, scopes %v, revocation %s", p.TokenEndpointAuthMethod, p.SecretOptional, p.Flows, p.Scopes.Default, p.Revocation.Style)
			}
		})
	}
}

func TestFromMetadataRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*providers.Metadata)
		want   string
	}{
		{"another issuer", func(m *providers.Metadata) { m.Issuer = "https://evil.example" }, "another issuer"},
		{"trailing slash", func(m *providers.Metadata) { m.Issuer += "/" }, "another issuer"},
		{"http endpoint", func(m *providers.Metadata) { m.TokenEndpoint = "http://id.corp.example/token" }, "token_endpoint"},
		{"http loopback endpoint", func(m *providers.Metadata) { m.TokenEndpoint = "http://127.0.0.1/token" }, "token_endpoint"},
		{"file", func(m *providers.Metadata) { m.AuthorizationEndpoint = "file:///bin/sh" }, "authorization_endpoint"},
		{"javascript", func(m *providers.Metadata) { m.AuthorizationEndpoint = "javascript:alert(1)" }, "authorization_endpoint"},
		{"flag", func(m *providers.Metadata) { m.AuthorizationEndpoint = "-flag" }, "authorization_endpoint"},
		{"newline", func(m *providers.Metadata) { m.DeviceAuthorizationEndpoint = "https://id.corp.example/\nx" }, "device_authorization_endpoint"},
		{"user information", func(m *providers.Metadata) { m.RevocationEndpoint = "https://a:b@id.corp.example/" }, "revocation_endpoint"},
		{"template", func(m *providers.Metadata) { m.IntrospectionEndpoint = "https://id.corp.example/{x}" }, "introspection_endpoint"},
		{"userinfo", func(m *providers.Metadata) { m.UserinfoEndpoint = "ftp://id.corp.example/" }, "userinfo_endpoint"},
		{"no token endpoint", func(m *providers.Metadata) { m.TokenEndpoint = "" }, "token_endpoint"},
		{"no method of ours", func(m *providers.Metadata) { m.TokenEndpointAuthMethodsSupported = []string{"attest_jwt_client_auth"} }, "none of the client authentication methods"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := metadata()
			issuer := m.Issuer
			test.change(&m)
			_, err := providers.FromMetadata(issuer, m)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	for _, issuer := range []string{"http://id.corp.example", "file:///x", "https://u:p@id.corp.example", "id.corp.example", ""} {
		m := metadata()
		m.Issuer = issuer
		if _, err := providers.FromMetadata(issuer, m); err == nil {
			t.Errorf("the issuer %q was accepted", issuer)
		}
	}
}

func TestFromMetadataLoopback(t *testing.T) {
	const issuer = "http://127.0.0.1:9000"
	m := providers.Metadata{Issuer: issuer, AuthorizationEndpoint: issuer + "/auth", TokenEndpoint: issuer + "/token", UserinfoEndpoint: issuer + "/me"}
	p, err := providers.FromMetadata(issuer, m)
	if err != nil {
		t.Fatal(err)
	}
	if !p.AllowInsecureLoopback || !reflect.DeepEqual(p.API.Hosts, []string{"127.0.0.1:9000"}) {
		t.Errorf("insecure %v, hosts %v", p.AllowInsecureLoopback, p.API.Hosts)
	}
	m.TokenEndpoint = "http://evil.example/token"
	if _, err := providers.FromMetadata(issuer, m); err == nil {
		t.Error("http to another machine was accepted")
	}
}

func TestComplete(t *testing.T) {
	p := parseUser(t, `id: corp
name: Corp
issuer: https://id.corp.example/realms/main
pkce: S256
flows: [browser]
scopes: {default: [corp:read]}
api: {base_url: https://data.corp.example/v1}
env: CORP_TOKEN
`)
	if !p.NeedsDiscovery() {
		t.Fatal("the definition needs discovery")
	}
	if err := p.Complete(metadata()); err != nil {
		t.Fatal(err)
	}
	if p.NeedsDiscovery() || p.TokenEndpoint != metadata().TokenEndpoint || p.TokenEndpointAuthMethod != providers.AuthBasic || p.Identity.Subject != "sub" {
		t.Errorf("not completed: %+v", p)
	}
	if !reflect.DeepEqual(p.Flows, []string{"browser"}) || !reflect.DeepEqual(p.Scopes.Default, []string{"corp:read"}) ||
		!reflect.DeepEqual(p.API.Hosts, []string{"data.corp.example"}) || p.Env != "CORP_TOKEN" || p.Name != "Corp" {
		t.Errorf("what the definition says has changed: %+v", p)
	}

	bare := parseUser(t, "id: corp\nname: Corp\nissuer: https://id.corp.example/realms/main\n")
	before := *bare
	foreign := metadata()
	foreign.Issuer = "https://evil.example"
	if err := bare.Complete(foreign); err == nil || !reflect.DeepEqual(*bare, before) {
		t.Errorf("foreign metadata: %v", err)
	}
	if err := bare.Complete(metadata()); err != nil || !reflect.DeepEqual(bare.API.Hosts, []string{"api.corp.example"}) {
		t.Errorf("%v, hosts %v", err, bare.API.Hosts)
	}
	public := parseUser(t, "id: corp\nname: Corp\nissuer: https://id.corp.example/realms/main\ntoken_endpoint_auth_method: none\n")
	if err := public.Complete(metadata()); err != nil || !reflect.DeepEqual(public.Flows, []string{"browser", "device"}) {
		t.Errorf("%v, flows %v", err, public.Flows)
	}
	local := parseUser(t, "id: corp\nname: Corp\nissuer: http://127.0.0.1:9000\nallow_insecure_loopback: true\n")
	m := providers.Metadata{Issuer: local.Issuer, AuthorizationEndpoint: local.Issuer + "/a", TokenEndpoint: local.Issuer + "/t"}
	if err := local.Complete(m); err != nil {
		t.Error(err)
	}
}

func TestLint(t *testing.T) {
	findings := providers.Lint(parseUser(t, minimal))
	for _, field := range []string{"description", "env", "placeholder", "register.page", "register.steps", "sources", "revocation.style", "token.rotates", "identity.subject", "userinfo_endpoint", "scopes.catalog"} {
		found := false
		for _, f := range findings {
			found = found || f.Field == field
		}
		if !found {
			t.Errorf("nothing is said about %s", field)
		}
	}
}

// The endpoints for clients with a certificate come from the metadata, survive
// being written to a file, and count only for such clients.
func TestMutualTLSEndpoints(t *testing.T) {
	m := metadata()
	m.TokenEndpointAuthMethodsSupported = []string{"tls_client_auth"}
	m.MTLSEndpointAliases = map[string]string{
		"token_endpoint":                        "https://mtls.corp.example/token",
		"revocation_endpoint":                   "https://mtls.corp.example/revoke",
		"introspection_endpoint":                "https://mtls.corp.example/introspect",
		"device_authorization_endpoint":         "https://mtls.corp.example/device",
		"pushed_authorization_request_endpoint": "https://mtls.corp.example/par", // there is no other
		"userinfo_endpoint":                     "https://mtls.corp.example/me",
	}
	found, err := providers.FromMetadata(m.Issuer, m)
	if err != nil {
		t.Fatal(err)
	}
	data, err := found.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	own := parseUser(t, string(data))
	if !reflect.DeepEqual(own, found) {
		t.Errorf("got %+v\nwant %+v", own, found)
	}
	completed := parseUser(t, "id: acme\nname: Acme\nissuer: "+m.Issuer+"\ntoken_endpoint_auth_method: self_signed_tls_client_auth\n")
	if err := completed.Complete(m); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*providers.Provider{"found": found, "written": own, "completed": completed} {
		pins := pin(t, &providers.Definition{Provider: p}, providers.PinOptions{Flow: "browser", HasSecret: true})
		if pins.TokenEndpoint != "https://mtls.corp.example/token" || pins.RevocationEndpoint != "https://mtls.corp.example/revoke" ||
			pins.IntrospectionEndpoint != "https://mtls.corp.example/introspect" || pins.DeviceAuthorizationEndpoint != "https://mtls.corp.example/device" ||
			pins.PushedEndpoint != "" || pins.AuthorizationEndpoint != m.AuthorizationEndpoint || pins.UserinfoEndpoint != m.UserinfoEndpoint {
			t.Errorf("%s: %+v", name, pins)
		}
		// Bound tokens go to the alias, with the certificate, and that is a change.
		p.API.ClientCertificate = true
		bound := pin(t, &providers.Definition{Provider: p}, providers.PinOptions{Flow: "browser", HasSecret: true})
		changes := pins.Changes(bound)
		if !bound.APICertificate || bound.UserinfoEndpoint != "https://mtls.corp.example/me" || len(changes) != 2 || changes[1].Field != "api.client_certificate" {
			t.Errorf("%s: bound tokens: %+v, changes %v", name, bound, changes)
		}
		p.API.ClientCertificate = false
		// Another method is another endpoint, and both are told.
		p.TokenEndpointAuthMethod = providers.AuthPost
		now := pin(t, &providers.Definition{Provider: p}, providers.PinOptions{Flow: "browser", HasSecret: true})
		if now.TokenEndpoint != m.TokenEndpoint {
			t.Errorf("%s: a client with a secret goes to %s", name, now.TokenEndpoint)
		}
		var fields []string
		for _, c := range pins.Changes(now) {
			fields = append(fields, c.Field)
		}
		if got := strings.Join(fields, " "); !strings.Contains(got, "token_endpoint ") || !strings.Contains(got, "token_endpoint_auth_method") {
			t.Errorf("%s: changes %s", name, got)
		}
	}
}
