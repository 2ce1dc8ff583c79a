package sandbox

import (
	"fmt"
	"strings"
)

// ProviderYAML returns a provider definition for the public client, with the
// given id, and registers the redirects that go with it:
// http://127.0.0.1:*/callback/<id> and the same on [::1]. An id that no
// provider can have gives nil.
func (s *Server) ProviderYAML(id string) []byte {
	return s.definition(id, publicClient, authNone, "[browser, device]")
}

// ConfidentialYAML is ProviderYAML for the confidential client, whose secret
// has to be given to the client store separately.
func (s *Server) ConfidentialYAML(id string) []byte {
	return s.definition(id, privateClient, s.clients[privateClient].method, "[browser, device, client-credentials]")
}

func (s *Server) definition(id, clientID, method, flows string) []byte {
	if id == "" || len(id) > 63 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || id[0] == '-' {
		return nil
	}
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if err := s.register("http://" + host + "/callback/" + id); err != nil {
			return nil
		}
	}
	env := strings.ToUpper(strings.ReplaceAll(id, "-", "_")) + "_ACCESS_TOKEN"
	if env[0] >= '0' && env[0] <= '9' {
		env = "_" + env
	}
	rotates := "never"
	if s.opts.RotateRefresh {
		rotates = "always"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `id: %s
name: Sandbox
description: The embedded issuer, for trying things out.
issuer: %[2]s
authorization_endpoint: %[2]s/authorize
token_endpoint: %[2]s/token
device_authorization_endpoint: %[2]s/device_authorization
revocation_endpoint: %[2]s/revoke
introspection_endpoint: %[2]s/introspect
userinfo_endpoint: %[2]s/userinfo
authorization_response_iss_parameter_supported: true
token_endpoint_auth_method: %[3]s
pkce: S256
flows: %[4]s
redirect_uri: http://127.0.0.1:*/callback/%[1]s
scopes:
  separator: " "
  default: [profile, items.read]
  catalog:
`, id, s.origin, method, flows)
	for _, sc := range scopes() {
		broad := ""
		if sc.Name == "items.write" {
			broad = ", broad: true"
		}
		fmt.Fprintf(&b, "    - {name: %s, title: %q, description: %q, category: Sandbox%s}\n", sc.Name, sc.Title, sc.Description, broad)
	}
	fmt.Fprintf(&b, `token:
  type: bearer
  rotates: %s
identity: {subject: sub, label: name}
api:
  base_url: %s
  hosts: ["%s"]
  pagination: [{style: link, items: items}]
env: %s
placeholder: sbx_at_{43}
revocation: {style: rfc7009}
client_id: %s
allow_insecure_loopback: true
`, rotates, s.APIBase(), s.host, env, clientID)
	return []byte(b.String())
}
