package providers

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Metadata is what an issuer publishes about itself (RFC 8414 section 2, OpenID
// Connect Discovery section 3, RFC 8628 section 4, RFC 8705 section 5, RFC 9126
// section 5, RFC 9207 section 3). A nil list means that the issuer does not say.
type Metadata struct {
	Issuer                                     string   `json:"issuer"`
	AuthorizationEndpoint                      string   `json:"authorization_endpoint"`
	TokenEndpoint                              string   `json:"token_endpoint"`
	DeviceAuthorizationEndpoint                string   `json:"device_authorization_endpoint"`
	RevocationEndpoint                         string   `json:"revocation_endpoint"`
	IntrospectionEndpoint                      string   `json:"introspection_endpoint"`
	UserinfoEndpoint                           string   `json:"userinfo_endpoint"`
	ScopesSupported                            []string `json:"scopes_supported"`
	TokenEndpointAuthMethodsSupported          []string `json:"token_endpoint_auth_methods_supported"`
	CodeChallengeMethodsSupported              []string `json:"code_challenge_methods_supported"`
	GrantTypesSupported                        []string `json:"grant_types_supported"`
	PushedAuthorizationRequestEndpoint         string   `json:"pushed_authorization_request_endpoint"`
	RequirePushedAuthorizationRequests         bool     `json:"require_pushed_authorization_requests"`
	AuthorizationResponseIssParameterSupported bool     `json:"authorization_response_iss_parameter_supported"`
	// MTLSEndpointAliases are the endpoints, by their names, for clients that
	// authenticate with a certificate.
	MTLSEndpointAliases map[string]string `json:"mtls_endpoint_aliases"`
}

// FromMetadata makes a definition from what an issuer publishes. The metadata's
// issuer must be the one that was asked (RFC 8414 section 3.3); every endpoint
// must be https, or http to this machine when the issuer itself is. The API
// hosts are that of the userinfo endpoint, else the issuer's: a person adds
// others in a file.
func FromMetadata(issuer string, m Metadata) (*Provider, error) {
	if m.Issuer != issuer {
		return nil, fmt.Errorf("the metadata of %s is that of another issuer, %s",
			strconv.QuoteToASCII(clip(issuer, 120)), strconv.QuoteToASCII(clip(m.Issuer, 120)))
	}
	insecure := strings.HasPrefix(issuer, "http://")
	if err := checkURL(issuer, insecure); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", strconv.QuoteToASCII(clip(issuer, 120)), err)
	}
	host, err := URLHost(issuer)
	if err != nil {
		return nil, err
	}
	method, optional, err := chooseAuthMethod(m.TokenEndpointAuthMethodsSupported)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		ID:                          idFromURL(issuer),
		Name:                        clip(withoutPort(host), 60),
		Issuer:                      issuer,
		AuthorizationEndpoint:       m.AuthorizationEndpoint,
		TokenEndpoint:               m.TokenEndpoint,
		DeviceAuthorizationEndpoint: m.DeviceAuthorizationEndpoint,
		RevocationEndpoint:          m.RevocationEndpoint,
		IntrospectionEndpoint:       m.IntrospectionEndpoint,
		UserinfoEndpoint:            m.UserinfoEndpoint,
		PushedEndpoint:              m.PushedAuthorizationRequestEndpoint,
		MTLS:                        m.mtls(),
		RequirePushed:               m.RequirePushedAuthorizationRequests,
		IssParameterSupported:       m.AuthorizationResponseIssParameterSupported,
		TokenEndpointAuthMethod:     method,
		SecretOptional:              optional,
		PKCE:                        PKCES256,
		Flows:                       chooseFlows(m, method),
		Scopes:                      chooseScopes(m),
		Token:                       TokenFacts{Rotates: "sometimes"},
		Identity:                    Identity{Subject: "sub", Label: "preferred_username,email,name"},
		Revocation:                  Revocation{Style: "none"},
		AllowInsecureLoopback:       insecure,
	}
	if p.RevocationEndpoint != "" {
		p.Revocation.Style = "rfc7009"
	}
	if p.UserinfoEndpoint != "" {
		if host, err = URLHost(p.UserinfoEndpoint); err != nil {
			return nil, fmt.Errorf("userinfo_endpoint: %w", err)
		}
	}
	p.API.Hosts = []string{host}
	if bad := p.validate(Discovered); bad != nil {
		return nil, fmt.Errorf("the metadata of %s is not usable: %w", strconv.QuoteToASCII(clip(issuer, 120)), bad)
	}
	return p, nil
}

// Complete fills what the definition leaves open from the issuer's metadata,
// and changes nothing that it says.
func (p *Provider) Complete(m Metadata) error {
	found, err := FromMetadata(p.Issuer, m)
	if err != nil {
		return err
	}
	if found.AllowInsecureLoopback && !p.AllowInsecureLoopback {
		return fmt.Errorf("the issuer %s is not https; a file of your own needs allow_insecure_loopback: true for that", p.Issuer)
	}
	done := *p
	fill := func(into *string, value string) { *into = cmp.Or(*into, value) }
	fill(&done.AuthorizationEndpoint, found.AuthorizationEndpoint)
	fill(&done.TokenEndpoint, found.TokenEndpoint)
	fill(&done.DeviceAuthorizationEndpoint, found.DeviceAuthorizationEndpoint)
	if p.Revocation.Style == "" || p.Revocation.Style == "rfc7009" {
		fill(&done.RevocationEndpoint, found.RevocationEndpoint)
		fill(&done.Revocation.Style, found.Revocation.Style)
	}
	fill(&done.IntrospectionEndpoint, found.IntrospectionEndpoint)
	fill(&done.UserinfoEndpoint, found.UserinfoEndpoint)
	fill(&done.PushedEndpoint, found.PushedEndpoint)
	if p.MTLS == (MTLSEndpoints{}) {
		done.MTLS = found.MTLS
	}
	done.RequirePushed = p.RequirePushed || found.RequirePushed
	fill(&done.PKCE, found.PKCE)
	done.IssParameterSupported = p.IssParameterSupported || found.IssParameterSupported
	if p.TokenEndpointAuthMethod == "" {
		done.TokenEndpointAuthMethod, done.SecretOptional = found.TokenEndpointAuthMethod, p.SecretOptional || found.SecretOptional
	}
	if p.Flows == nil {
		done.Flows = chooseFlows(m, done.TokenEndpointAuthMethod)
	}
	if p.Scopes.Catalog == nil && !p.Scopes.Omit {
		if p.Scopes.Default == nil && p.Scopes.Required == nil {
			done.Scopes.Catalog, done.Scopes.Default = found.Scopes.Catalog, found.Scopes.Default
		}
	}
	if p.Identity.Subject == "" && p.Identity.Label == "" && p.Identity.From == "" {
		done.Identity.Subject, done.Identity.Label = found.Identity.Subject, found.Identity.Label
	}
	if p.API.Hosts == nil && p.API.BaseURL == "" {
		done.API.Hosts = found.API.Hosts
	}
	done.setDefaults()
	if bad := done.validate(Discovered); bad != nil {
		return fmt.Errorf("with the metadata of %s the definition %s is not usable: %w", p.Issuer, p.ID, bad)
	}
	*p = done
	return nil
}

// mtls returns the endpoints for clients with a certificate. One that stands in for
// an endpoint that there is not is of no use.
func (m Metadata) mtls() MTLSEndpoints {
	alias := func(name, usual string) string {
		if usual == "" {
			return ""
		}
		return m.MTLSEndpointAliases[name]
	}
	return MTLSEndpoints{
		TokenEndpoint:               alias("token_endpoint", m.TokenEndpoint),
		DeviceAuthorizationEndpoint: alias("device_authorization_endpoint", m.DeviceAuthorizationEndpoint),
		RevocationEndpoint:          alias("revocation_endpoint", m.RevocationEndpoint),
		IntrospectionEndpoint:       alias("introspection_endpoint", m.IntrospectionEndpoint),
		PushedEndpoint:              alias("pushed_authorization_request_endpoint", m.PushedAuthorizationRequestEndpoint),
		UserinfoEndpoint:            alias("userinfo_endpoint", m.UserinfoEndpoint),
	}
}

// chooseAuthMethod picks a client authentication method that we speak. Absent
// metadata means client_secret_basic (RFC 8414 section 2), and issuers that do
// not say often take public clients too.
func chooseAuthMethod(supported []string) (method string, secretOptional bool, err error) {
	if supported == nil {
		return AuthBasic, true, nil
	}
	public := slices.Contains(supported, AuthNone)
	for _, method := range []string{AuthBasic, AuthPost} {
		if slices.Contains(supported, method) {
			return method, public, nil
		}
	}
	if public {
		return AuthNone, false, nil
	}
	for _, method := range []string{AuthPrivateKeyJWT, AuthSecretJWT, AuthTLS, AuthSelfSignedTLS} {
		if slices.Contains(supported, method) {
			return method, false, nil
		}
	}
	return "", false, fmt.Errorf("the issuer offers none of the client authentication methods %s, %s, %s, %s, %s, %s, %s",
		AuthBasic, AuthPost, AuthNone, AuthPrivateKeyJWT, AuthSecretJWT, AuthTLS, AuthSelfSignedTLS)
}

func chooseFlows(m Metadata, method string) []string {
	offers := func(grant string, whenSilent bool) bool {
		if m.GrantTypesSupported == nil {
			return whenSilent
		}
		return slices.Contains(m.GrantTypesSupported, grant)
	}
	var flows []string
	if m.AuthorizationEndpoint != "" && offers("authorization_code", true) {
		flows = append(flows, FlowBrowser)
	}
	if m.DeviceAuthorizationEndpoint != "" {
		flows = append(flows, FlowDevice)
	}
	if m.TokenEndpoint != "" && method != AuthNone && offers("client_credentials", false) {
		flows = append(flows, FlowClientCredentials)
	}
	return flows
}

func chooseScopes(m Metadata) Scopes {
	const longest = 200
	var scopes Scopes
	for _, name := range m.ScopesSupported {
		if !scopeToken(name) || slices.ContainsFunc(scopes.Catalog, func(s Scope) bool { return s.Name == name }) {
			continue
		}
		if len(scopes.Catalog) == longest {
			break
		}
		scopes.Catalog = append(scopes.Catalog, standardScope(name))
	}
	known := func(name string) bool {
		return slices.ContainsFunc(scopes.Catalog, func(s Scope) bool { return s.Name == name })
	}
	if known("openid") || m.ScopesSupported == nil && m.UserinfoEndpoint != "" {
		scopes.Default = append(scopes.Default, "openid")
	}
	if known("offline_access") {
		scopes.Default = append(scopes.Default, "offline_access")
	}
	return scopes
}

// standardScope gives words to the scopes of OpenID Connect Core sections 5.4
// and 11.
func standardScope(name string) Scope {
	s := Scope{Name: name, Title: name}
	switch name {
	case "openid":
		s.Title, s.Description, s.Category = "Sign-in", "Tells which account you are signed in with.", "Identity"
	case "profile":
		s.Title, s.Description, s.Category = "Profile", "Your name and other public parts of your profile.", "Identity"
	case "email":
		s.Title, s.Description, s.Category = "E-mail address", "Your e-mail address and whether it was verified.", "Identity"
	case "address":
		s.Title, s.Description, s.Category = "Postal address", "Your postal address.", "Identity"
	case "phone":
		s.Title, s.Description, s.Category = "Phone number", "Your phone number and whether it was verified.", "Identity"
	case "offline_access":
		s.Title, s.Description, s.Category = "Stay connected", "A refresh token, so that access lasts beyond one session.", "Access"
	}
	return s
}

// idFromURL makes an id out of an issuer's host and path.
func idFromURL(issuer string) string {
	_, rest, _ := strings.Cut(issuer, "://")
	var id strings.Builder
	for _, r := range strings.ToLower(rest) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			id.WriteRune(r)
		case id.Len() > 0 && !strings.HasSuffix(id.String(), "-"):
			id.WriteByte('-')
		}
		if id.Len() == 63 {
			break
		}
	}
	return cmp.Or(strings.Trim(id.String(), "-"), "issuer")
}
