package sandbox

import (
	"encoding/base64"
	"net/http"
)

// metadata serves RFC 8414 and OpenID Connect discovery alike.
func (s *Server) metadata(w http.ResponseWriter, _ *http.Request) {
	var names []string
	for _, sc := range scopes() {
		names = append(names, sc.Name)
	}
	confidential := s.clients[privateClient].method
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         s.origin,
		"authorization_endpoint":                         s.origin + "/authorize",
		"token_endpoint":                                 s.origin + "/token",
		"device_authorization_endpoint":                  s.origin + "/device_authorization",
		"revocation_endpoint":                            s.origin + "/revoke",
		"introspection_endpoint":                         s.origin + "/introspect",
		"userinfo_endpoint":                              s.origin + "/userinfo",
		"jwks_uri":                                       s.origin + "/jwks",
		"scopes_supported":                               names,
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{grantCode, grantRefresh, grantClient, grantDevice},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{authNone, confidential},
		"revocation_endpoint_auth_methods_supported":     []string{authNone, confidential},
		"introspection_endpoint_auth_methods_supported":  []string{confidential},
		"authorization_response_iss_parameter_supported": true,
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"ES256"},
	})
}

func (s *Server) jwks(w http.ResponseWriter, _ *http.Request) {
	point, err := s.key.PublicKey.Bytes() // 4, X, Y
	if err != nil || len(point) != 65 {
		http.Error(w, "no key", http.StatusInternalServerError)
		return
	}
	enc := base64.RawURLEncoding
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "sandbox",
		"x": enc.EncodeToString(point[1:33]), "y": enc.EncodeToString(point[33:]),
	}}})
}
