package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// Metadata is what an issuer publishes about itself (RFC 8414 section 2, OpenID
// Connect Discovery 1.0 section 3, RFC 8628 section 4, RFC 8705 section 5, RFC 9126
// section 5, RFC 9207 section 3), as far as it is used here. A nil list means that the issuer does not say. The
// fields are those of providers.Metadata in the same order, so that one
// converts into the other.
type Metadata struct {
	Issuer                                     string   `json:"issuer"`
	AuthorizationEndpoint                      string   `json:"authorization_endpoint,omitempty"`
	TokenEndpoint                              string   `json:"token_endpoint"`
	DeviceAuthorizationEndpoint                string   `json:"device_authorization_endpoint,omitempty"`
	RevocationEndpoint                         string   `json:"revocation_endpoint,omitempty"`
	IntrospectionEndpoint                      string   `json:"introspection_endpoint,omitempty"`
	UserinfoEndpoint                           string   `json:"userinfo_endpoint,omitempty"`
	ScopesSupported                            []string `json:"scopes_supported,omitempty"`
	TokenEndpointAuthMethodsSupported          []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	CodeChallengeMethodsSupported              []string `json:"code_challenge_methods_supported,omitempty"`
	GrantTypesSupported                        []string `json:"grant_types_supported,omitempty"`
	PushedAuthorizationRequestEndpoint         string   `json:"pushed_authorization_request_endpoint,omitempty"`
	RequirePushedAuthorizationRequests         bool     `json:"require_pushed_authorization_requests,omitempty"`
	AuthorizationResponseIssParameterSupported bool     `json:"authorization_response_iss_parameter_supported,omitempty"`
	// MTLSEndpointAliases are the endpoints, by their names, for clients that
	// authenticate with a certificate.
	MTLSEndpointAliases map[string]string `json:"mtls_endpoint_aliases,omitempty"`
}

// Discover fetches the metadata of issuer: first as RFC 8414 section 3 says
// (the well-known name before the path), then as OpenID Connect does (after
// it). The document's issuer must be identical to the one asked for, and every
// endpoint a URL that requests may be sent to: https, or http to a
// loopback address when allowLoopback is set.
func (h *HTTP) Discover(ctx context.Context, issuer string, allowLoopback bool) (Metadata, error) {
	u, err := checkEndpoint(issuer, allowLoopback)
	if err != nil {
		return Metadata{}, refusef("the issuer: %s", err)
	}
	if u.RawQuery != "" || strings.Contains(issuer, "?") {
		return Metadata{}, refusef("the issuer: the URL has a query")
	}
	origin := u.Scheme + "://" + u.Host
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	m, first := h.metadata(ctx, origin+"/.well-known/oauth-authorization-server"+path, issuer, allowLoopback)
	if first == nil {
		return m, nil
	}
	if !errors.Is(first, ErrUnusable) {
		if _, answered := errors.AsType[*StatusError](first); !answered {
			return Metadata{}, first // the second request would fail the same way
		}
	}
	m, second := h.metadata(ctx, origin+path+"/.well-known/openid-configuration", issuer, allowLoopback)
	if second == nil {
		return m, nil
	}
	if e, ok := errors.AsType[*StatusError](first); ok && e.Status == http.StatusNotFound {
		if e, ok := errors.AsType[*StatusError](second); ok && e.Status == http.StatusNotFound {
			return Metadata{}, unusablef("%s publishes no metadata (neither RFC 8414 nor OpenID Connect)", u.Host)
		}
		return Metadata{}, second
	}
	return Metadata{}, first
}

func (h *HTTP) metadata(ctx context.Context, url, issuer string, allowLoopback bool) (Metadata, error) {
	r, err := h.do(ctx, call{
		method: http.MethodGet, url: url, header: http.Header{"Accept": {"application/json"}},
		limit: maxBody, loopback: allowLoopback,
	})
	if err != nil {
		return Metadata{}, err
	}
	if r.status != http.StatusOK {
		return Metadata{}, &StatusError{Status: r.status, RetryAfter: r.answer().retryAfter()}
	}
	return parseMetadata(r.body, issuer, allowLoopback)
}

// parseMetadata validates a metadata document.
func parseMetadata(body []byte, issuer string, allowLoopback bool) (Metadata, error) {
	o, err := parseObject(body)
	if err != nil {
		return Metadata{}, unusablef("the issuer's metadata are not usable: %s", err)
	}
	var m Metadata
	if m.Issuer, _ = o.text("issuer"); m.Issuer != issuer || o.repeated["issuer"] {
		if m.Issuer == "" {
			return Metadata{}, unusablef("the issuer's metadata do not name the issuer")
		}
		return Metadata{}, unusablef("the metadata are those of another issuer: %s (asked for: %s)", Clean(m.Issuer), Clean(issuer))
	}
	for _, e := range []struct {
		name string
		to   *string
	}{
		{"authorization_endpoint", &m.AuthorizationEndpoint},
		{"token_endpoint", &m.TokenEndpoint},
		{"device_authorization_endpoint", &m.DeviceAuthorizationEndpoint},
		{"revocation_endpoint", &m.RevocationEndpoint},
		{"introspection_endpoint", &m.IntrospectionEndpoint},
		{"userinfo_endpoint", &m.UserinfoEndpoint},
		{"pushed_authorization_request_endpoint", &m.PushedAuthorizationRequestEndpoint},
	} {
		if *e.to, err = o.endpoint(e.name, allowLoopback); err != nil {
			return Metadata{}, err
		}
	}
	if m.MTLSEndpointAliases, err = o.aliases(allowLoopback); err != nil {
		return Metadata{}, err
	}
	if m.TokenEndpoint == "" {
		return Metadata{}, unusablef("the issuer's metadata have no token_endpoint")
	}
	for _, e := range []struct {
		name string
		to   *[]string
	}{
		{"scopes_supported", &m.ScopesSupported},
		{"grant_types_supported", &m.GrantTypesSupported},
		{"token_endpoint_auth_methods_supported", &m.TokenEndpointAuthMethodsSupported},
		{"code_challenge_methods_supported", &m.CodeChallengeMethodsSupported},
	} {
		list, ok := o.texts(e.name)
		if !ok {
			return Metadata{}, unusablef("the %s of the issuer's metadata is not a list of strings", e.name)
		}
		if o.has(e.name) {
			*e.to = []string{}
		}
		for _, s := range list {
			if isAccessToken(s) && len(s) <= 1024 { // the characters of a scope
				*e.to = append(*e.to, s)
			}
		}
	}
	m.RequirePushedAuthorizationRequests = string(o.members["require_pushed_authorization_requests"]) == "true"
	if raw, ok := scalar(o.members["authorization_response_iss_parameter_supported"]); ok {
		// "true" in quotes is sent by some; demanding iss is the safe reading.
		m.AuthorizationResponseIssParameterSupported = strings.EqualFold(raw, "true")
	}
	return m, nil
}

// endpoint returns an endpoint of the metadata: a URL that requests may be sent to,
// or "" when there is none of that name.
func (o object) endpoint(name string, allowLoopback bool) (string, error) {
	if !o.has(name) {
		return "", nil
	}
	s, ok := o.text(name)
	if !ok || o.repeated[name] {
		return "", unusablef("the %s of the issuer's metadata is not one string", name)
	}
	if _, err := checkEndpoint(s, allowLoopback); err != nil {
		return "", unusablef("the %s of the issuer's metadata is refused: %s", name, err)
	}
	// What CleanURL would encode has no place in an endpoint either.
	if clean, err := CleanURL(s); err != nil || strings.Count(clean, "%") != strings.Count(s, "%") {
		return "", unusablef("the %s of the issuer's metadata is refused: the URL holds characters that it must not", name)
	}
	return s, nil
}

// aliases returns the endpoints for clients with a certificate (RFC 8705 section
// 5), held to the same rules as the others. Those that no certificate of ours is
// presented at are left out.
func (o object) aliases(allowLoopback bool) (map[string]string, error) {
	const name = "mtls_endpoint_aliases"
	if !o.has(name) {
		return nil, nil
	}
	in, err := parseObject(o.members[name])
	if err != nil || o.repeated[name] {
		return nil, unusablef("the %s of the issuer's metadata is not one object", name)
	}
	var aliases map[string]string
	for _, e := range []string{"token_endpoint", "device_authorization_endpoint", "revocation_endpoint", "introspection_endpoint", "pushed_authorization_request_endpoint", "userinfo_endpoint"} {
		s, err := in.endpoint(e, allowLoopback)
		if err != nil {
			return nil, err
		}
		if s == "" {
			continue
		}
		if aliases == nil {
			aliases = map[string]string{}
		}
		aliases[e] = s
	}
	return aliases, nil
}
