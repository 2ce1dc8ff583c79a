package providers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

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
	RefreshEndpoint             string `json:"refresh_endpoint,omitempty"` // empty: the token endpoint
	DeviceAuthorizationEndpoint string `json:"device_authorization_endpoint,omitempty"`
	RevocationEndpoint          string `json:"revocation_endpoint,omitempty"`
	IntrospectionEndpoint       string `json:"introspection_endpoint,omitempty"`
	UserinfoEndpoint            string `json:"userinfo_endpoint,omitempty"`
	PushedEndpoint              string `json:"pushed_authorization_request_endpoint,omitempty"`
	RequirePushed               bool   `json:"require_pushed_authorization_requests,omitempty"`
	IssParameterSupported       bool   `json:"iss_parameter_supported,omitempty"`
	PKCE                        string `json:"pkce,omitempty"`

	AuthMethod string `json:"auth_method"` // of the client at the token endpoint, for the flow that was used
	// SigningAlg and AssertionAudience are those of assertions; empty: by the
	// key, and the token endpoint.
	SigningAlg        string `json:"signing_alg,omitempty"`
	AssertionAudience string `json:"assertion_audience,omitempty"`
	ClientID          string `json:"client_id,omitempty"`
	// DefinitionClientID is the client_id of the definition, if it has one.
	DefinitionClientID string `json:"definition_client_id,omitempty"`
	RedirectURI        string `json:"redirect_uri,omitempty"` // as registered, port may be *
	// RedirectName is sent as redirect_uri in place of the address.
	RedirectName string `json:"redirect_name,omitempty"`

	APIBase    string            `json:"api_base,omitempty"`
	APIHosts   []string          `json:"api_hosts,omitempty"` // exact after BindAPI; compared exactly at every use
	APIAuth    APIAuthPin        `json:"api_auth"`
	APIHeaders map[string]string `json:"api_headers,omitempty"`
	// APICertificate says that requests present the client's certificate.
	APICertificate bool `json:"api_certificate,omitempty"`

	// Declared holds what BindAPI fills in, as the definition has it. It is
	// nil when there is nothing to fill in.
	Declared *Declared `json:"declared,omitempty"`

	Scopes     *ScopeRules   `json:"scopes,omitempty"`    // nil: names are compared as they are
	Resources  []string      `json:"resources,omitempty"` // RFC 8707
	Token      TokenPin      `json:"token"`
	JWTBearer  *JWTBearerPin `json:"jwt_bearer,omitempty"`     // of that flow only
	Exchange   *ExchangePin  `json:"token_exchange,omitempty"` // nil: there is none
	Identity   IdentityPin   `json:"identity"`
	Site       *SitePin      `json:"site,omitempty"`
	Revocation RevocationPin `json:"revocation"`

	Env                   string   `json:"env,omitempty"`
	Placeholder           string   `json:"placeholder,omitempty"`
	GitHosts              []string `json:"git_hosts,omitempty"` // in normal form
	GitUsername           string   `json:"git_username,omitempty"`
	AllowInsecureLoopback bool     `json:"allow_insecure_loopback,omitempty"`
}

// Declared is the form of the API's addresses before a value from the callback
// or the token response is known: variables as {name}, hosts that may begin
// with a dot.
type Declared struct {
	APIBase               string   `json:"api_base,omitempty"`
	APIHosts              []string `json:"api_hosts,omitempty"`
	UserinfoEndpoint      string   `json:"userinfo_endpoint,omitempty"`
	IntrospectionEndpoint string   `json:"introspection_endpoint,omitempty"`
	RevocationEndpoint    string   `json:"revocation_endpoint,omitempty"`
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
	ExchangeParams        map[string]string `json:"exchange_params,omitempty"`
	RefreshParams         map[string]string `json:"refresh_params,omitempty"`
	Headers               map[string]string `json:"headers,omitempty"`

	Request      string            `json:"request,omitempty"` // empty: a form
	Rename       map[string]string `json:"rename,omitempty"`
	OmitParams   []string          `json:"omit_params,omitempty"`
	KeepAs       map[string]string `json:"keep_as,omitempty"`
	Inside       string            `json:"inside,omitempty"`
	Fields       map[string]string `json:"fields,omitempty"`
	ErrorCodes   map[string]string `json:"error_codes,omitempty"`
	SecondScopes *SecondScopesPin  `json:"second_scopes,omitempty"`
	Upgrade      *UpgradePin       `json:"upgrade,omitempty"`
	Renewal      *RenewalPin       `json:"renewal,omitempty"` // nil: RFC 6749 section 6
	RefreshSends []string          `json:"refresh_sends,omitempty"`
}

// SecondScopesPin is SecondScopes as far as an answer is concerned.
type SecondScopesPin struct {
	Prefix string `json:"prefix"`
	Field  string `json:"field"`
}

// UpgradePin is Upgrade, resolved.
type UpgradePin struct {
	Endpoint  string `json:"endpoint"`
	Request   string `json:"request"`
	GrantType string `json:"grant_type"`
	Param     string `json:"param"`
}

// RenewalPin is Renewal, resolved.
type RenewalPin struct {
	GrantType  string `json:"grant_type"`
	Param      string `json:"param"`
	Request    string `json:"request,omitempty"`
	SelfRenews bool   `json:"self_renews,omitempty"` // by the access token
	OmitClient bool   `json:"omit_client,omitempty"`
	Before     int64  `json:"before,omitempty"` // seconds; 0: up to 5 minutes
	AfterEnd   bool   `json:"after_end,omitempty"`
}

// JWTBearerPin is JWTBearer, resolved, with the subject that was asked for.
type JWTBearerPin struct {
	Audience string            `json:"audience"`
	Subject  string            `json:"subject,omitempty"`
	InClaim  bool              `json:"scope_in_claim,omitempty"`
	NoScope  bool              `json:"no_scope,omitempty"`
	Claims   map[string]string `json:"claims,omitempty"`
	Lifetime int64             `json:"lifetime"` // seconds
}

// ExchangePin is TokenExchange, resolved.
type ExchangePin struct {
	Scopes     []string `json:"scopes"`
	Resources  []string `json:"resources,omitempty"`
	Audiences  []string `json:"audiences,omitempty"`
	AuthMethod string   `json:"auth_method,omitempty"`
}

// SitePin is Site, resolved, with the site that was asked for by name.
type SitePin struct {
	Endpoint string            `json:"endpoint"`
	List     string            `json:"list,omitempty"`
	Label    string            `json:"label,omitempty"`
	Keep     map[string]string `json:"keep"`
	Wanted   string            `json:"wanted,omitempty"`
}

// IdentityPin is Identity, resolved.
type IdentityPin struct {
	Subject string            `json:"subject,omitempty"`
	Label   string            `json:"label,omitempty"`
	From    string            `json:"from,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Query   string            `json:"query,omitempty"` // GraphQL, by POST
}

// PinOptions say for which client and flow a definition is pinned.
type PinOptions struct {
	// Flow is browser, paste, device, client-credentials, jwt-bearer, implicit
	// or key; the default is the definition's first.
	Flow      string
	Variables map[string]string // values that the user gave
	ClientID  string            // default: the definition's client_id
	HasSecret bool              // a client secret is at hand
	// RedirectURI replaces the definition's redirect, for clients that were
	// registered with another one.
	RedirectURI string
	// Subject is the sub of a jwt-bearer assertion.
	Subject string
	// Site is the name of the site that the connection is to reach, where the
	// account has several.
	Site string
	// Resources are added to those of the definition (RFC 8707).
	Resources []string
}

// MissingVariableError says that a variable has no value and no default.
type MissingVariableError struct {
	Provider string
	Variable Variable
}

// Error names the variable.
func (e *MissingVariableError) Error() string {
	switch e.Variable.From {
	case FromToken:
		return fmt.Sprintf("%s: the token response has no %s", e.Provider, e.Variable.Name)
	case FromCallback:
		return fmt.Sprintf("%s: the callback has no %s", e.Provider, e.Variable.Name)
	case FromSite:
		return fmt.Sprintf("%s: the answer about the site has no %s", e.Provider, e.Variable.Name)
	}
	return fmt.Sprintf("%s needs a value for %s (%s)", e.Provider, e.Variable.Name, cmp.Or(e.Variable.Title, "a part of its addresses"))
}

// MovedError says that a later answer leads the API to another host than the
// one that was pinned at connect.
type MovedError struct {
	Was, Is []string
}

// Error names both.
func (e *MovedError) Error() string {
	return fmt.Sprintf("the API moved from %s to %s; only connect may follow it", strings.Join(e.Was, ", "), strings.Join(e.Is, ", "))
}

// Pin resolves the definition for one client and flow: variables are filled in
// and checked, defaults made explicit, the client authentication method chosen.
// Variables from the callback and the token response, and hosts that begin with
// a dot, stay until BindAPI. It fails with *MissingVariableError when a value is
// needed that the user did not give.
func (d *Definition) Pin(o PinOptions) (Pins, error) {
	p := d.Provider
	if p.NeedsDiscovery() {
		return Pins{}, fmt.Errorf("the endpoints of %s are not discovered yet", p.ID)
	}
	values, err := p.resolve(o.Variables)
	if err != nil {
		return Pins{}, err
	}
	redirect := cmp.Or(o.RedirectURI, p.DefaultRedirect())
	if err := checkRedirect(redirect); err != nil {
		return Pins{}, fmt.Errorf("redirect %s: %w", strconv.QuoteToASCII(clip(redirect, 120)), err)
	}
	pins := Pins{
		Provider:  p.ID,
		Issuer:    expand(p.Issuer, values),
		Variables: maps.Clone(o.Variables),

		AuthorizationEndpoint:       expand(p.AuthorizationEndpoint, values),
		TokenEndpoint:               expand(p.TokenEndpoint, values),
		RefreshEndpoint:             expand(p.RefreshEndpoint, values),
		DeviceAuthorizationEndpoint: expand(p.DeviceAuthorizationEndpoint, values),
		RevocationEndpoint:          expand(p.RevocationEndpoint, values),
		IntrospectionEndpoint:       expand(p.IntrospectionEndpoint, values),
		UserinfoEndpoint:            expand(p.UserinfoEndpoint, values),
		PushedEndpoint:              expand(p.PushedEndpoint, values),
		RequirePushed:               p.RequirePushed,
		IssParameterSupported:       p.IssParameterSupported,
		PKCE:                        cmp.Or(p.PKCE, PKCES256),

		AuthMethod:         p.authMethod(o),
		SigningAlg:         p.SigningAlg,
		AssertionAudience:  expand(p.AssertionAudience, values),
		ClientID:           cmp.Or(o.ClientID, p.ClientID),
		DefinitionClientID: p.ClientID,

		APIBase:    expand(p.API.BaseURL, values),
		APIHosts:   expandAll(p.API.Hosts, values),
		APIAuth:    p.API.Auth.pin(),
		APIHeaders: maps.Clone(p.API.Headers),

		Scopes: p.Scopes.rules(),
		Token: TokenPin{
			Type:                  p.Token.Type,
			ScopeSeparator:        p.Token.ScopeSeparator,
			RequestScopeSeparator: cmp.Or(p.Scopes.Separator, " "),
			Keep:                  slices.Clone(p.Token.Keep),
			Rotates:               cmp.Or(p.Token.Rotates, "sometimes"),
			GrantLifetime:         int64(p.Token.GrantLifetime.Seconds()),
			RefreshLifetime:       int64(p.Token.RefreshLifetime.Seconds()),
			Params:                maps.Clone(p.Token.Params),
			ExchangeParams:        maps.Clone(p.Token.ExchangeParams),
			RefreshParams:         maps.Clone(p.Token.RefreshParams),
			Headers:               maps.Clone(p.Token.Headers),
			Request:               p.Token.Request,
			Rename:                maps.Clone(p.Token.Rename),
			OmitParams:            slices.Clone(p.Token.OmitParams),
			KeepAs:                maps.Clone(p.Token.KeepAs),
			Inside:                p.Token.Inside,
			Fields:                maps.Clone(p.Token.Fields),
			ErrorCodes:            maps.Clone(p.Token.ErrorCodes),
			Upgrade:               p.Token.Upgrade.pin(values),
			Renewal:               p.Token.Renewal.pin(),
			RefreshSends:          slices.Clone(p.Token.RefreshSends),
		},
		Resources: slices.Concat(p.Resources, o.Resources),
		Exchange:  p.TokenExchange.pin(),
		Site:      p.Site.pin(values, o.Site),
		Identity: IdentityPin{
			Subject: p.Identity.Subject,
			Label:   p.Identity.Label,
			From:    cmp.Or(p.Identity.From, "userinfo"),
			Headers: maps.Clone(p.Identity.Headers),
			Query:   p.Identity.Query,
		},
		Revocation:            p.Revocation.pin(),
		Env:                   p.Env,
		Placeholder:           p.Placeholder,
		GitHosts:              expandAll(p.GitHosts, values),
		GitUsername:           p.GitUsername,
		AllowInsecureLoopback: p.AllowInsecureLoopback,
	}
	if usesCertificate(pins.AuthMethod) {
		pins.useMTLS(p.MTLS, p.API.ClientCertificate, values)
	}
	if d.Origin == Discovered {
		pins.Provider = p.Issuer
	}
	if second := p.Scopes.Second; second.Field != "" {
		pins.Token.SecondScopes = &SecondScopesPin{Prefix: second.Prefix, Field: second.Field}
	}
	if o.Flow == FlowJWTBearer {
		pins.JWTBearer = p.JWTBearer.pin(values, o.Subject, pins.TokenEndpoint)
	}
	if pins.AuthorizationEndpoint != "" {
		pins.RedirectURI, pins.RedirectName = redirect, expand(p.RedirectName, values)
		repeated := p.RedirectName != "" || slices.Contains(p.Token.RefreshSends, SendsRedirect)
		if repeated && strings.Contains(redirect, ":*/") {
			return Pins{}, fmt.Errorf("redirect %s: %s needs an address with a fixed port", strconv.QuoteToASCII(clip(redirect, 120)), p.ID)
		}
	}
	pins.APIHeaders = withClientID(pins.APIHeaders, pins.ClientID)
	if p.Token.ExpiresIn == "never" {
		pins.Token.NeverExpires = true
	} else if p.Token.ExpiresIn != "" {
		if pins.Token.ExpiresIn, err = strconv.ParseInt(p.Token.ExpiresIn, 10, 64); err != nil {
			return Pins{}, fmt.Errorf("expires_in of %s is not a number", p.ID)
		}
	}
	pageValues := maps.Clone(values)
	pageValues[builtinClientID] = pins.ClientID
	pins.Revocation.Page = expand(p.Revocation.Page, pageValues)
	if err := pins.finish(p, values); err != nil {
		return Pins{}, err
	}
	return pins, nil
}

// useMTLS puts the endpoints for clients with a certificate in the place of the
// others.
func (p *Pins) useMTLS(m MTLSEndpoints, bound bool, values map[string]string) {
	userinfo := ""
	if p.APICertificate = bound; bound {
		userinfo = m.UserinfoEndpoint
	}
	for _, e := range []struct {
		into  *string
		alias string
	}{
		{&p.TokenEndpoint, m.TokenEndpoint},
		{&p.DeviceAuthorizationEndpoint, m.DeviceAuthorizationEndpoint},
		{&p.RevocationEndpoint, m.RevocationEndpoint},
		{&p.IntrospectionEndpoint, m.IntrospectionEndpoint},
		{&p.PushedEndpoint, m.PushedEndpoint},
		{&p.UserinfoEndpoint, userinfo},
	} {
		if e.alias != "" {
			*e.into = expand(e.alias, values)
		}
	}
}

// finish checks the URLs now that the values are in, normalises the hosts, and
// remembers the declared form where something is left to fill in.
func (p *Pins) finish(provider *Provider, values map[string]string) error {
	templates := []string{provider.AuthorizationEndpoint, provider.TokenEndpoint, provider.RefreshEndpoint, provider.DeviceAuthorizationEndpoint,
		provider.RevocationEndpoint, provider.IntrospectionEndpoint, provider.UserinfoEndpoint, provider.PushedEndpoint, provider.Token.Upgrade.Endpoint,
		provider.Site.Endpoint, provider.API.BaseURL,
		provider.MTLS.TokenEndpoint, provider.MTLS.DeviceAuthorizationEndpoint, provider.MTLS.RevocationEndpoint, provider.MTLS.IntrospectionEndpoint,
		provider.MTLS.PushedEndpoint, provider.MTLS.UserinfoEndpoint}
	for _, template := range templates {
		if template == "" {
			continue
		}
		if err := provider.checkStaysInDomain(authority(template), values); err != nil {
			return err
		}
		if url := expand(template, values); !isTemplate(url) {
			if err := checkURL(url, p.AllowInsecureLoopback); err != nil {
				return fmt.Errorf("%s: %w", strconv.QuoteToASCII(clip(url, 120)), err)
			}
		}
	}
	for i, host := range p.GitHosts {
		if err := provider.checkStaysInDomain(provider.GitHosts[i], values); err != nil {
			return err
		}
		normal, err := NormalHost(host)
		if err != nil {
			return err
		}
		p.GitHosts[i] = normal
	}
	open := isTemplate(p.APIBase) || isTemplate(p.UserinfoEndpoint) || isTemplate(p.IntrospectionEndpoint) || isTemplate(p.RevocationEndpoint)
	for i, host := range p.APIHosts {
		if err := provider.checkStaysInDomain(provider.API.Hosts[i], values); err != nil {
			return err
		}
		switch {
		case isTemplate(host):
			open = true
		case strings.HasPrefix(host, "."):
			open = true
		default:
			normal, err := NormalHost(host)
			if err != nil {
				return err
			}
			p.APIHosts[i] = normal
		}
	}
	if err := provider.Revocation.leadsHome(p.RevocationEndpoint, p.APIHosts); err != nil {
		return fmt.Errorf("revocation_endpoint: %w", err)
	}
	if open {
		p.Declared = &Declared{
			APIBase:               p.APIBase,
			APIHosts:              slices.Clone(p.APIHosts),
			UserinfoEndpoint:      p.UserinfoEndpoint,
			IntrospectionEndpoint: p.IntrospectionEndpoint,
			RevocationEndpoint:    p.RevocationEndpoint,
		}
	}
	return nil
}

// resolve returns the values of all variables that are known before connect.
func (p *Provider) resolve(given map[string]string) (map[string]string, error) {
	names := make([]string, 0, len(p.Variables))
	for _, v := range p.Variables {
		if !v.kept() {
			names = append(names, v.Name)
		}
	}
	for name := range given {
		if !slices.Contains(names, name) {
			if len(names) == 0 {
				return nil, fmt.Errorf("%s has no variable %s", p.ID, strconv.QuoteToASCII(clip(name, 40)))
			}
			return nil, fmt.Errorf("%s has no variable %s; it has %s", p.ID, strconv.QuoteToASCII(clip(name, 40)), strings.Join(names, ", "))
		}
	}
	values := make(map[string]string, len(names)+1)
	for i := range p.Variables {
		v := &p.Variables[i]
		if v.kept() {
			continue
		}
		value := cmp.Or(given[v.Name], v.Default)
		if value == "" {
			return nil, &MissingVariableError{Provider: p.ID, Variable: *v}
		}
		normal, err := v.normalise(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.ID, err)
		}
		values[v.Name] = normal
	}
	return values, nil
}

func (p *Provider) authMethod(o PinOptions) string {
	flow := o.Flow
	if flow == "" && len(p.Flows) > 0 {
		flow = p.Flows[0]
	}
	switch {
	case flow == FlowKey, flow == FlowImplicit:
		return AuthNone
	case flow == FlowJWTBearer:
		return cmp.Or(p.JWTBearer.AuthMethod, AuthOmitted)
	case flow == FlowDevice && p.DeviceAuthMethod != "":
		return p.DeviceAuthMethod
	case flow != FlowClientCredentials && p.SecretOptional && !o.HasSecret:
		return AuthNone
	}
	return p.TokenEndpointAuthMethod
}

// RedirectSent is the redirect_uri of authorization and token requests, whose
// port may be *: the name that the provider gave it, else the address.
func (p Pins) RedirectSent() string { return cmp.Or(p.RedirectName, p.RedirectURI) }

// withClientID puts the client's id into headers. One that is nothing without it
// is left out while no client is known.
func withClientID(headers map[string]string, id string) map[string]string {
	for name, value := range headers {
		switch {
		case !isTemplate(value):
		case id == "":
			delete(headers, name)
		default:
			headers[name] = expand(value, map[string]string{builtinClientID: id})
		}
	}
	return headers
}

func (a APIAuth) pin() APIAuthPin {
	pin := APIAuthPin{In: cmp.Or(a.In, "header"), Name: a.Name, Prefix: a.Prefix}
	if pin.In == "header" {
		if pin.Name == "" {
			pin.Name = "Authorization"
		}
		if strings.EqualFold(pin.Name, "Authorization") && pin.Prefix == "" {
			pin.Prefix = "Bearer "
		}
	}
	return pin
}

// AllowsHost reports whether a token may be sent to hostport: it must equal one
// of the pinned hosts, both in normal form. Hosts that still begin with a dot
// allow nothing.
func (p Pins) AllowsHost(hostport string) bool {
	host, err := NormalHost(hostport)
	return err == nil && slices.Contains(p.APIHosts, host)
}

// GitUser returns the user name that goes with the token for git: oauth2 where
// the definition names none.
func (p Pins) GitUser() string { return cmp.Or(p.GitUsername, "oauth2") }

// ServesGit reports whether git repositories on hostport take the token, which
// must equal one of the pinned hosts, both in normal form.
func (p Pins) ServesGit(hostport string) bool {
	host, err := NormalHost(hostport)
	return err == nil && slices.Contains(p.GitHosts, host)
}

// String says in words where the token goes in a request.
func (a APIAuthPin) String() string {
	switch a.In {
	case "query":
		return "query parameter " + a.Name
	case "basic":
		return "HTTP Basic user name"
	}
	if a.Prefix != "" {
		return "header " + a.Name + ": " + strings.TrimSpace(a.Prefix) + " <token>"
	}
	return "header " + a.Name + ": <token>"
}
