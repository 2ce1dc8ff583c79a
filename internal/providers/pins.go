package providers

// Pins are the facts of a provider that a connection is bound to at connect:
// resolved, without variables, so that later use needs neither the definition
// nor discovery, and a changed definition is noticed before a credential is
// sent anywhere new.
type Pins struct {
	Provider  string            `json:"provider"` // catalogue id, or an issuer URL
	Issuer    string            `json:"issuer,omitempty"`
	Variables map[string]string `json:"variables,omitempty"` // as given by the user

	AuthorizationEndpoint       string `json:"authorization_endpoint,omitempty"`
	TokenEndpoint               string `json:"token_endpoint,omitempty"`
	RefreshEndpoint             string `json:"refresh_endpoint,omitempty"`
	DeviceAuthorizationEndpoint string `json:"device_authorization_endpoint,omitempty"`
	RevocationEndpoint          string `json:"revocation_endpoint,omitempty"`
	IntrospectionEndpoint       string `json:"introspection_endpoint,omitempty"`
	UserinfoEndpoint            string `json:"userinfo_endpoint,omitempty"`
	IssParameterSupported       bool   `json:"iss_parameter_supported,omitempty"`
	PKCE                        string `json:"pkce,omitempty"`

	AuthMethod  string `json:"auth_method"` // of the client at the token endpoint, for the flow that was used
	ClientID    string `json:"client_id,omitempty"`
	RedirectURI string `json:"redirect_uri,omitempty"` // as registered, port may be *

	APIBase    string            `json:"api_base,omitempty"`
	APIHosts   []string          `json:"api_hosts,omitempty"` // exact after BindAPI; compared exactly at every use
	APIAuth    APIAuthPin        `json:"api_auth"`
	APIHeaders map[string]string `json:"api_headers,omitempty"`

	Token      TokenPin      `json:"token"`
	Identity   IdentityPin   `json:"identity"`
	Revocation RevocationPin `json:"revocation"`

	Env                   string   `json:"env,omitempty"`
	Placeholder           string   `json:"placeholder,omitempty"`
	GitHosts              []string `json:"git_hosts,omitempty"`
	AllowInsecureLoopback bool     `json:"allow_insecure_loopback,omitempty"`
}

// APIAuthPin is APIAuth with its defaults filled in.
type APIAuthPin struct {
	In     string `json:"in"`
	Name   string `json:"name,omitempty"`
	Prefix string `json:"prefix,omitempty"`
}

// TokenPin is what is needed to make and read token requests later.
type TokenPin struct {
	Type                  string            `json:"type,omitempty"`
	ExpiresIn             int64             `json:"expires_in,omitempty"` // seconds, when the response has none; 0: 1 h
	NeverExpires          bool              `json:"never_expires,omitempty"`
	ScopeSeparator        string            `json:"scope_separator,omitempty"` // of the response
	RequestScopeSeparator string            `json:"request_scope_separator,omitempty"`
	Keep                  []string          `json:"keep,omitempty"`
	Rotates               string            `json:"rotates,omitempty"`
	GrantLifetime         int64             `json:"grant_lifetime,omitempty"`   // seconds
	RefreshLifetime       int64             `json:"refresh_lifetime,omitempty"` // seconds
	Params                map[string]string `json:"params,omitempty"`
	Headers               map[string]string `json:"headers,omitempty"`
}

// IdentityPin is Identity, resolved.
type IdentityPin struct {
	Subject string            `json:"subject,omitempty"`
	Label   string            `json:"label,omitempty"`
	From    string            `json:"from,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// RevocationPin is Revocation, resolved.
type RevocationPin struct {
	Style string `json:"style,omitempty"`
	Page  string `json:"page,omitempty"`
}
