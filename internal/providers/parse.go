package providers

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

// Origin says where a definition comes from, and so what it may say.
type Origin string

// The origins of a definition.
const (
	BuiltIn    Origin = "catalogue"  // built in
	User       Origin = "user"       // a file in the user's providers folder
	Discovered Origin = "discovered" // made from an issuer's metadata, not stored as a file
)

// Parse reads one definition, which is the content of file, and checks it. What
// it refuses is a *strictyaml.Error that names the place. Flows, and the hosts of
// an API that has a base_url only, get their defaults.
func Parse(file string, data []byte, origin Origin) (*Provider, error) {
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		return nil, err
	}
	p := new(Provider)
	if err := doc.Decode(p); err != nil {
		return nil, err
	}
	p.setDefaults()
	if bad := p.validate(origin); bad != nil {
		return nil, doc.Errorf(bad.path, "%s", bad.msg)
	}
	return p, nil
}

// fault is a rule that a definition breaks, and where.
type fault struct {
	path []any
	msg  string
}

func faultAt(msg string, path ...any) *fault { return &fault{path, msg} }

func (f *fault) Error() string {
	var where []string
	for _, element := range f.path {
		where = append(where, fmt.Sprint(element))
	}
	return strings.Join(where, ".") + ": " + f.msg
}

// NeedsDiscovery reports whether the definition names an issuer and no
// endpoints, so that Complete must fill them in from the issuer's metadata.
func (p *Provider) NeedsDiscovery() bool {
	return p.Issuer != "" && p.AuthorizationEndpoint == "" && p.TokenEndpoint == "" && p.DeviceAuthorizationEndpoint == ""
}

// DefaultRedirect returns the redirect of the browser flow.
func (p *Provider) DefaultRedirect() string {
	return cmp.Or(p.RedirectURI, "http://127.0.0.1:*/callback/"+p.ID)
}

// RegisterURI returns what a person types into the provider's form as the
// redirect (callback) URL of a client whose redirect is redirect, or "" where
// nothing is registered. An empty redirect means the definition's own.
func (p *Provider) RegisterURI(redirect string) string {
	switch {
	case redirect != "" && redirect != p.DefaultRedirect():
	case p.Register.RedirectURI == "none":
		return ""
	case p.Register.RedirectURI != "":
		return p.Register.RedirectURI
	}
	return strings.Replace(cmp.Or(redirect, p.DefaultRedirect()), ":*/", "/", 1)
}

func (p *Provider) setDefaults() {
	if p.Flows == nil && !p.NeedsDiscovery() {
		if p.AuthorizationEndpoint != "" {
			p.Flows = append(p.Flows, FlowBrowser)
		}
		if p.DeviceAuthorizationEndpoint != "" {
			p.Flows = append(p.Flows, FlowDevice)
		}
	}
	if p.API.Hosts == nil && p.API.BaseURL != "" && !isTemplate(p.API.BaseURL) {
		if host, err := URLHost(p.API.BaseURL); err == nil {
			p.API.Hosts = []string{host}
		}
	}
}

// checkID checks the pattern [a-z0-9][a-z0-9-]{0,62}.
func checkID(id string) bool {
	if id == "" || len(id) > 63 || id[0] == '-' {
		return false
	}
	for i := range len(id) {
		if c := id[i]; !isLower(c) && !isDigit(c) && c != '-' {
			return false
		}
	}
	return true
}

// checkRedirect checks the form that Provider.RedirectURI describes.
func checkRedirect(redirect string) error {
	if err := checkURLText(redirect); err != nil {
		return err
	}
	if strings.ContainsAny(redirect, "{}") {
		return errors.New("a redirect cannot hold variables")
	}
	scheme, rest, ok := strings.Cut(redirect, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return errors.New("a redirect is a URL such as http://127.0.0.1:*/callback")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 || rest[end] != '/' {
		return errors.New("a redirect needs a path, as in http://127.0.0.1:*/callback")
	}
	if strings.ContainsAny(rest[end:], "?#%") {
		return errors.New("a redirect has a plain path: no query, fragment or escapes")
	}
	host, anyPort := strings.CutSuffix(rest[:end], ":*")
	normal, err := NormalHost(host)
	if err != nil {
		return err
	}
	if u, err := url.Parse(scheme + "://" + host + rest[end:]); err != nil || u.User != nil || u.Path != rest[end:] {
		return errors.New("a redirect is a URL such as http://127.0.0.1:*/callback")
	}
	if scheme == "https" {
		if anyPort {
			return errors.New("the port * is for http to this machine only")
		}
		return nil
	}
	if !isLoopback(withoutPort(normal)) {
		return errors.New("an http redirect must lead to 127.0.0.1, [::1] or localhost")
	}
	if !anyPort && withoutPort(normal) == normal {
		return errors.New("the redirect needs a port: a number, or * for any free one")
	}
	return nil
}

// validate checks everything that decoding does not. The order is that of the
// schema, so that the first fault is the first to mend.
func (p *Provider) validate(origin Origin) *fault {
	for _, check := range []func(Origin) *fault{
		p.validateNames, p.validateVariables, p.validateEndpoints, p.validateClient, p.validateScopes, p.validateToken, p.validateIdentity,
		p.validateDialect, p.validateGrants, p.validateAPI, p.validateSite, p.validateUse, p.validateRevocation, p.validateRest,
	} {
		if bad := check(origin); bad != nil {
			return bad
		}
	}
	return nil
}

func (p *Provider) validateNames(origin Origin) *fault {
	switch {
	case p.ID == "":
		return faultAt("id is missing")
	case !checkID(p.ID):
		return faultAt("id must begin with a-z or 0-9 and hold only those and hyphens, 63 at most", "id")
	case p.Name == "":
		return faultAt("name is missing")
	case len(p.Name) > 80:
		return faultAt("name is longer than 80 bytes", "name")
	case !may("status", p.Status):
		return faultAt(oneOf(p.Status, Choices("status")...), "status")
	case p.Status != "" && p.StatusNote == "":
		return faultAt("status needs a status_note that says why and what to do instead", "status")
	case origin == BuiltIn && p.Replaces:
		return faultAt("replaces is for files of your own", "replaces")
	case origin == BuiltIn && p.ClientID != "":
		return faultAt("client_id is for files of your own", "client_id")
	case origin == BuiltIn && p.AllowInsecureLoopback:
		return faultAt("allow_insecure_loopback is for files of your own", "allow_insecure_loopback")
	case !plainToken(p.ClientID, 512):
		return faultAt("client_id holds a space, a control character or a character beyond ASCII", "client_id")
	}
	return nil
}

func (p *Provider) validateVariables(Origin) *fault {
	used := p.usedVariables()
	for i := range p.Variables {
		v := &p.Variables[i]
		at := func(msg string, key string) *fault { return faultAt(msg, "variables", i, key) }
		switch {
		case !isVariableName(v.Name) || v.Name == builtinClientID:
			return at("a variable's name must match [a-z][a-z0-9_]*, 32 at most, and not be client_id", "name")
		case p.variable(v.Name) != v:
			return at("the variable "+v.Name+" is declared twice", "name")
		case !may("variables[].from", v.From):
			return at(oneOf(v.From, Choices("variables[].from")...), "from")
		case !slices.Contains(used, v.Name):
			return at("the variable "+v.Name+" is not used", "name")
		case v.kept() && (v.Default != "" || len(v.Values) > 0 || v.Pattern != "" || v.Host):
			return at("a value that comes from the "+v.From+" is held to api.hosts; default, values, pattern and host are for the user's", "from")
		case v.From == FromToken && !slices.Contains(p.Token.Keep, v.Name) && p.Token.KeepAs[v.Name] == "":
			return at("add "+v.Name+" to token.keep, or it is not known later", "name")
		case v.From == FromSite && p.Site.Keep[v.Name] == "":
			return at("add "+v.Name+" to site.keep, or it is not known later", "name")
		}
		if v.Pattern != "" {
			if _, err := compilePattern(v.Pattern); err != nil {
				return at(err.Error(), "pattern")
			}
		}
		if v.Default != "" {
			if normal, err := v.normalise(v.Default); err != nil || normal != v.Default {
				return at("the default is not a valid value of the variable", "default")
			}
		}
		for j, value := range v.Values {
			if normal, err := v.normalise(value); err != nil || normal != value {
				return faultAt("this is not a valid value of the variable", "variables", i, "values", j)
			}
		}
	}
	return nil
}

// usedVariables returns the names in all templates.
func (p *Provider) usedVariables() []string {
	templates := []string{p.Issuer, p.AuthorizationEndpoint, p.TokenEndpoint, p.DeviceAuthorizationEndpoint, p.RevocationEndpoint,
		p.IntrospectionEndpoint, p.UserinfoEndpoint, p.RefreshEndpoint, p.PushedEndpoint, p.Token.Upgrade.Endpoint, p.Site.Endpoint,
		p.AssertionAudience, p.JWTBearer.Audience, p.API.BaseURL, p.Revocation.Page, p.Register.Page, p.RedirectName,
		p.MTLS.TokenEndpoint, p.MTLS.DeviceAuthorizationEndpoint, p.MTLS.RevocationEndpoint, p.MTLS.IntrospectionEndpoint, p.MTLS.PushedEndpoint, p.MTLS.UserinfoEndpoint}
	templates = append(append(templates, p.API.Hosts...), p.GitHosts...)
	var names []string
	for _, t := range templates {
		in, _ := namesIn(t)
		names = append(names, in...)
	}
	return names
}

func (p *Provider) validateEndpoints(Origin) *fault {
	for _, e := range []struct {
		key, template string
		kept          bool
	}{
		{"issuer", p.Issuer, false},
		{"authorization_endpoint", p.AuthorizationEndpoint, false},
		{"token_endpoint", p.TokenEndpoint, false},
		{"device_authorization_endpoint", p.DeviceAuthorizationEndpoint, false},
		{"revocation_endpoint", p.RevocationEndpoint, true},
		{"introspection_endpoint", p.IntrospectionEndpoint, true},
		{"userinfo_endpoint", p.UserinfoEndpoint, true},
		{"refresh_endpoint", p.RefreshEndpoint, false},
		{"pushed_authorization_request_endpoint", p.PushedEndpoint, false},
	} {
		if e.template == "" {
			continue
		}
		if err := p.checkTemplate(e.template, e.kept); err != nil {
			return faultAt(err.Error(), e.key)
		}
	}
	if bad := p.validateMTLS(); bad != nil {
		return bad
	}
	if strings.Contains(p.Issuer, "?") {
		return faultAt("an issuer has no query (RFC 8414 section 2)", "issuer")
	}
	for i, flow := range p.Flows {
		at := func(msg string) *fault { return faultAt(msg, "flows", i) }
		switch flow {
		case FlowBrowser:
			if p.AuthorizationEndpoint == "" && !p.NeedsDiscovery() {
				return at("the browser flow needs authorization_endpoint")
			}
		case FlowDevice:
			if p.DeviceAuthorizationEndpoint == "" && !p.NeedsDiscovery() {
				return at("the device flow needs device_authorization_endpoint")
			}
		case FlowClientCredentials:
			if p.TokenEndpointAuthMethod == AuthNone {
				return at("client credentials need a client that authenticates, but token_endpoint_auth_method is none")
			}
		case FlowJWTBearer:
			if p.TokenEndpoint == "" && !p.NeedsDiscovery() {
				return at("the jwt-bearer flow needs token_endpoint")
			}
		case FlowImplicit:
			if p.AuthorizationEndpoint == "" && !p.NeedsDiscovery() {
				return at("the implicit flow needs authorization_endpoint")
			}
		case FlowKey:
		default:
			return at(oneOf(flow, Choices("flows[]")...))
		}
		if slices.Index(p.Flows, flow) != i {
			return at("the flow " + flow + " is listed twice")
		}
	}
	if p.NeedsDiscovery() {
		return nil
	}
	if len(p.Flows) == 0 {
		return faultAt("there is neither an issuer, nor an authorization_endpoint or device_authorization_endpoint, nor flows: [key]")
	}
	if p.TokenEndpoint == "" && slices.ContainsFunc(p.Flows, func(flow string) bool { return flow != FlowKey && flow != FlowImplicit }) {
		return faultAt("token_endpoint is missing")
	}
	return nil
}

// validateMTLS checks the endpoints for clients with a certificate, and that such a
// client can be used at all.
func (p *Provider) validateMTLS() *fault {
	for _, e := range []struct{ key, template, usual string }{
		{"token_endpoint", p.MTLS.TokenEndpoint, p.TokenEndpoint},
		{"device_authorization_endpoint", p.MTLS.DeviceAuthorizationEndpoint, p.DeviceAuthorizationEndpoint},
		{"revocation_endpoint", p.MTLS.RevocationEndpoint, p.RevocationEndpoint},
		{"introspection_endpoint", p.MTLS.IntrospectionEndpoint, p.IntrospectionEndpoint},
		{"pushed_authorization_request_endpoint", p.MTLS.PushedEndpoint, p.PushedEndpoint},
		{"userinfo_endpoint", p.MTLS.UserinfoEndpoint, p.UserinfoEndpoint},
	} {
		if e.template == "" {
			continue
		}
		if e.usual == "" && !p.NeedsDiscovery() {
			return faultAt("this stands in for "+e.key+", which is missing (RFC 8705 section 5)", "mtls_endpoint_aliases", e.key)
		}
		if err := p.checkTemplate(e.template, false); err != nil {
			return faultAt(err.Error(), "mtls_endpoint_aliases", e.key)
		}
	}
	if !usesCertificate(p.TokenEndpointAuthMethod) {
		if p.API.ClientCertificate {
			return faultAt("this needs a client with a certificate: token_endpoint_auth_method: "+AuthTLS+" or "+AuthSelfSignedTLS, "api", "client_certificate")
		}
		return nil
	}
	for _, r := range []struct {
		value string
		path  []any
	}{
		{p.Token.Request, []any{"token", "request"}},
		{p.Token.Renewal.Request, []any{"token", "renewal", "request"}},
	} {
		if r.value == RequestGet {
			return faultAt("a request in the query of an address does not go with "+p.TokenEndpointAuthMethod, r.path...)
		}
	}
	return nil
}

// usesCertificate reports whether a method is one of mutual TLS (RFC 8705 section
// 2).
func usesCertificate(method string) bool { return method == AuthTLS || method == AuthSelfSignedTLS }

func (p *Provider) validateClient(Origin) *fault {
	switch method := p.TokenEndpointAuthMethod; {
	case method == "" && p.TokenEndpoint != "":
		return faultAt("token_endpoint_auth_method is missing")
	case !may("token_endpoint_auth_method", method):
		return faultAt(oneOf(method, Choices("token_endpoint_auth_method")...), "token_endpoint_auth_method")
	}
	switch {
	case p.SecretOptional && p.TokenEndpointAuthMethod == AuthNone:
		return faultAt("secret_optional makes no sense with token_endpoint_auth_method: none", "secret_optional")
	case !may("device_auth_method", p.DeviceAuthMethod):
		return faultAt(oneOf(p.DeviceAuthMethod, Choices("device_auth_method")...), "device_auth_method")
	case p.DeviceAuthMethod != "" && p.DeviceAuthorizationEndpoint == "" && !p.NeedsDiscovery():
		return faultAt("device_auth_method needs device_authorization_endpoint", "device_auth_method")
	case !may("pkce", p.PKCE):
		return faultAt(oneOf(p.PKCE, Choices("pkce")...), "pkce")
	}
	if p.RedirectURI != "" {
		if err := checkRedirect(p.RedirectURI); err != nil {
			return faultAt(err.Error(), "redirect_uri")
		}
	}
	if bad := p.validateRedirectName(); bad != nil {
		return bad
	}
	if to := p.Register.RedirectURI; to != "" && to != "none" {
		if u, err := url.Parse(strings.Replace(to, ":*/", "/", 1)); checkURLText(to) != nil || err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
			return faultAt("this must be a URL, or none", "register", "redirect_uri")
		}
	}
	reserved := reservedParams()
	switch name := p.LoginHintParam; {
	case name == "":
	case !plainToken(name, 64), strings.ContainsAny(name, "&=#"):
		return faultAt("this is not the name of a parameter", "login_hint_param")
	case slices.Contains(reserved, name):
		return faultAt(name+" is set by apiauth", "login_hint_param")
	}
	if p.DeviceNote != "" && p.DeviceAuthorizationEndpoint == "" && !p.NeedsDiscovery() {
		return faultAt("device_note needs device_authorization_endpoint", "device_note")
	}
	return checkPairs(p.Authorize, append(reserved, sortedValues(p.AuthorizeRename)...), "authorize_params")
}

// validateRedirectName checks a name that stands for the redirect: of plain
// characters and variables of the user, and never an address.
func (p *Provider) validateRedirectName() *fault {
	if p.RedirectName == "" {
		return nil
	}
	names, err := namesIn(p.RedirectName)
	if err != nil {
		return faultAt(err.Error(), "redirect_name")
	}
	for _, name := range names {
		switch v := p.variable(name); {
		case v == nil:
			return faultAt("the variable {"+name+"} is not declared under variables", "redirect_name")
		case v.kept() || v.Host:
			return faultAt("{"+name+"} must be a plain variable of the user", "redirect_name")
		}
	}
	text := strings.NewReplacer("{", "", "}", "").Replace(p.RedirectName)
	switch {
	case len(text) > 200 || !plainToken(text, 200) || strings.ContainsAny(text, ":/?#&="):
		return faultAt("this is not a name: an address belongs into redirect_uri", "redirect_name")
	case p.RedirectURI == "" || strings.Contains(p.RedirectURI, ":*/"):
		return faultAt("redirect_uri must say where the browser ends: the address that was entered at the provider, with no open port", "redirect_name")
	case !slices.Contains(p.Flows, FlowBrowser):
		return faultAt("a name of the redirect needs the browser flow", "redirect_name")
	}
	return nil
}

// checkPairs checks extra parameters: plain names that are not ours to set, and
// values without variables.
func checkPairs(pairs map[string]string, reserved []string, path ...any) *fault {
	for _, name := range sortedKeys(pairs) {
		at := append(slices.Clone(path), name)
		switch {
		case !plainToken(name, 64) || name == "":
			return faultAt("this is not the name of a parameter", at...)
		case slices.Contains(reserved, name):
			return faultAt(name+" is set by apiauth", at...)
		case len(pairs[name]) > 1024 || strings.ContainsAny(pairs[name], "{}"):
			return faultAt("the value is longer than 1024 bytes or holds braces", at...)
		}
	}
	return nil
}

func (p *Provider) validateScopes(Origin) *fault {
	if s := p.Scopes.Separator; s != "" && (len(s) != 1 || !strings.Contains(" ,;+|", s)) {
		return faultAt("the separator is one of space , ; + |", "scopes", "separator")
	}
	for i, scope := range p.Scopes.Catalog {
		if !scopeToken(scope.Name) {
			return faultAt("a scope's name has no space, quote, backslash or character beyond ASCII (RFC 6749 section 3.3)", "scopes", "catalog", i, "name")
		}
		if slices.IndexFunc(p.Scopes.Catalog, func(s Scope) bool { return s.Name == scope.Name }) != i {
			return faultAt("the scope "+scope.Name+" is listed twice", "scopes", "catalog", i, "name")
		}
	}
	if bad := p.validateScopeRules(); bad != nil {
		return bad
	}
	for _, list := range []struct {
		key    string
		scopes []string
	}{{"default", p.Scopes.Default}, {"required", p.Scopes.Required}} {
		for i, scope := range list.scopes {
			if !scopeToken(scope) {
				return faultAt("a scope has no space, quote, backslash or character beyond ASCII (RFC 6749 section 3.3)", "scopes", list.key, i)
			}
			if slices.Index(list.scopes, scope) != i {
				return faultAt("the scope "+scope+" is listed twice", "scopes", list.key, i)
			}
			if p.Scopes.Catalog != nil && !slices.ContainsFunc(p.Scopes.Catalog, func(s Scope) bool { return s.Name == scope }) {
				return faultAt("the scope "+scope+" is not in scopes.catalog", "scopes", list.key, i)
			}
		}
	}
	if p.Scopes.Omit && len(p.Scopes.Default)+len(p.Scopes.Required) > 0 {
		return faultAt("omit says that no scope is ever sent; default and required make no sense with it", "scopes", "omit")
	}
	switch name := p.Scopes.Callback; {
	case name == "":
	case !isFieldPath(name) || strings.Contains(name, "."), slices.Contains([]string{"code", "state", "error", "error_description", "iss", "access_token", p.CodeParam}, name):
		return faultAt("this is not the name of a parameter with scopes", "scopes", "callback")
	case p.Scopes.Omit:
		return faultAt("omit says that no scope is ever sent", "scopes", "callback")
	case p.AuthorizationEndpoint == "" && !p.NeedsDiscovery():
		return faultAt("there is no callback without authorization_endpoint", "scopes", "callback")
	}
	return nil
}

// validateScopeRules checks what Pins.MissingScopes relies on: names that mean
// one thing each.
func (p *Provider) validateScopeRules() *fault {
	if p.Scopes.Prefix != "" && !scopeToken(p.Scopes.Prefix) {
		return faultAt("the prefix has no space, quote, backslash or character beyond ASCII", "scopes", "prefix")
	}
	known := func(name string) bool {
		return slices.ContainsFunc(p.Scopes.Catalog, func(s Scope) bool { return s.Name == name })
	}
	var aliases []string
	for i, scope := range p.Scopes.Catalog {
		for j, name := range scope.Includes {
			switch {
			case !known(name):
				return faultAt("the scope "+strconv.QuoteToASCII(clip(name, 80))+" is not in scopes.catalog", "scopes", "catalog", i, "includes", j)
			case name == scope.Name:
				return faultAt("a scope does not include itself", "scopes", "catalog", i, "includes", j)
			}
		}
		for j, name := range scope.Also {
			switch {
			case !scopeToken(name):
				return faultAt("a scope has no space, quote, backslash or character beyond ASCII (RFC 6749 section 3.3)", "scopes", "catalog", i, "also", j)
			case known(name):
				return faultAt("the scope "+name+" is in scopes.catalog itself", "scopes", "catalog", i, "also", j)
			case slices.Contains(aliases, name):
				return faultAt("the name "+name+" is listed twice", "scopes", "catalog", i, "also", j)
			}
			aliases = append(aliases, name)
		}
	}
	return nil
}

func (p *Provider) validateToken(Origin) *fault {
	t := &p.Token
	if t.ExpiresIn != "" && t.ExpiresIn != "never" {
		seconds, err := strconv.ParseInt(t.ExpiresIn, 10, 64)
		if err != nil || seconds < 1 || seconds > 366*24*3600 {
			return faultAt("expires_in is a number of seconds up to a year, or never", "token", "expires_in")
		}
	}
	switch {
	case len(t.Type) > 64 || !asciiText(t.Type) || strings.TrimSpace(t.Type) != t.Type:
		return faultAt("type is bearer, absent, or the name that the provider sends", "token", "type")
	case t.ScopeSeparator != "" && (len(t.ScopeSeparator) != 1 || !strings.Contains(" ,;+|", t.ScopeSeparator)):
		return faultAt("the separator is one of space , ; + |", "token", "scope_separator")
	case !may("token.rotates", t.Rotates):
		return faultAt(oneOf(t.Rotates, Choices("token.rotates")...), "token", "rotates")
	case t.GrantLifetime < 0:
		return faultAt("a lifetime is not negative", "token", "grant_lifetime")
	case t.RefreshLifetime < 0:
		return faultAt("a lifetime is not negative", "token", "refresh_lifetime")
	}
	for i, name := range t.Keep {
		switch {
		case !isVariableName(name):
			return faultAt("a kept field's name must match [a-z][a-z0-9_]*, 32 at most", "token", "keep", i)
		case slices.Contains(tokenFields(), name):
			return faultAt(name+" is not a field to keep", "token", "keep", i)
		}
	}
	for _, list := range []struct {
		headers map[string]string
		path    []any
	}{
		{t.Headers, []any{"token", "headers"}},
		{p.Identity.Headers, []any{"identity", "headers"}},
		{p.API.Headers, []any{"api", "headers"}},
	} {
		for _, name := range sortedKeys(list.headers) {
			at := append(slices.Clone(list.path), name)
			if !headerName(name) {
				return faultAt("this is not the name of a header", at...)
			}
			switch strings.ToLower(name) {
			case "authorization", "host", "cookie", "content-length", "transfer-encoding", "connection", "proxy-authorization", "te", "upgrade", "trailer":
				return faultAt("the header "+name+" is not for a definition to set", at...)
			}
			value := list.headers[name]
			if len(value) > 512 || !asciiText(value) {
				return faultAt("the value is longer than 512 bytes or holds other than printable ASCII", at...)
			}
			switch bare := strings.ReplaceAll(value, "{"+builtinClientID+"}", ""); {
			case strings.ContainsAny(bare, "{}"):
				return faultAt("a header may hold {client_id} and no other variable", at...)
			case bare != value && at[0] != "api":
				return faultAt("{client_id} is for api.headers", at...)
			case bare != value && slices.Equal(p.Flows, []string{FlowKey}):
				return faultAt("no client is known where there is only a key", at...)
			}
		}
	}
	return nil
}

func (p *Provider) validateAPI(Origin) *fault {
	if p.API.BaseURL != "" {
		if err := p.checkTemplate(p.API.BaseURL, true); err != nil {
			return faultAt(err.Error(), "api", "base_url")
		}
		if strings.Contains(p.API.BaseURL, "?") {
			return faultAt("base_url has no query", "api", "base_url")
		}
	}
	for i, host := range p.API.Hosts {
		if err := p.checkHost(host); err != nil {
			return faultAt(err.Error(), "api", "hosts", i)
		}
		if slices.Index(p.API.Hosts, host) != i {
			return faultAt("the host "+host+" is listed twice", "api", "hosts", i)
		}
	}
	if len(p.API.Hosts) == 0 && !p.NeedsDiscovery() {
		return faultAt("api.hosts is missing: the only hosts that may ever receive a token", "api")
	}
	if p.API.BaseURL != "" && !isTemplate(p.API.BaseURL) {
		host, err := URLHost(p.API.BaseURL)
		if err != nil {
			return faultAt(err.Error(), "api", "base_url")
		}
		if !slices.ContainsFunc(p.API.Hosts, func(declared string) bool { return hostMatches(host, declared) }) {
			return faultAt("the host "+host+" is not in api.hosts", "api", "base_url")
		}
	}
	a := &p.API.Auth
	switch {
	case !may("api.auth.in", a.In):
		return faultAt(oneOf(a.In, Choices("api.auth.in")...), "api", "auth", "in")
	case a.In == "query" && (a.Name == "" || !plainToken(a.Name, 64) || strings.ContainsAny(a.Name, "&=?#%+")):
		return faultAt("name must be the query parameter that carries the token", "api", "auth")
	case (a.In == "" || a.In == "header") && a.Name != "" && !headerName(a.Name):
		return faultAt("this is not the name of a header", "api", "auth", "name")
	case a.In == "basic" && a.Name != "":
		return faultAt("in: basic takes no name", "api", "auth", "name")
	case (a.In == "query" || a.In == "basic") && a.Prefix != "":
		return faultAt("prefix is for headers", "api", "auth", "prefix")
	case len(a.Prefix) > 32 || !asciiText(a.Prefix):
		return faultAt("the prefix is longer than 32 bytes or holds other than printable ASCII", "api", "auth", "prefix")
	}
	if b := p.API.Body; !may("api.body", b) {
		return faultAt(oneOf(b, Choices("api.body")...), "api", "body")
	}
	for i := range p.API.Pagination {
		if bad := p.API.Pagination[i].validate(i); bad != nil {
			return bad
		}
	}
	switch strings.ToLower(a.Name) {
	case "host", "cookie", "content-length", "transfer-encoding", "connection", "te", "upgrade", "trailer", "proxy-authorization":
		return faultAt("the header "+a.Name+" cannot carry a token", "api", "auth", "name")
	}
	return nil
}

// checkHost checks one entry of api.hosts or git_hosts.
func (p *Provider) checkHost(host string) error {
	names, err := namesIn(host)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if strings.HasPrefix(host, ".") {
			return errors.New("a host that begins with a dot cannot hold variables")
		}
		for _, name := range names {
			if v := p.variable(name); v != nil && v.kept() {
				return fmt.Errorf("{%s} comes from the %s and cannot declare where it may lead; write a host that begins with a dot", name, v.From)
			}
		}
		return p.checkTemplate("https://"+host+"/", false)
	}
	normal, err := NormalHost(strings.TrimPrefix(host, "."))
	if err != nil {
		return err
	}
	if suffix, ok := strings.CutPrefix(host, "."); ok {
		if registrable(suffix) == "" || !strings.Contains(suffix, ".") || isLoopback(withoutPort(normal)) || isDigit(suffix[len(suffix)-1]) || withoutPort(normal) != normal {
			return fmt.Errorf("%s is too wide: at least a name like .example.com is needed", strconv.QuoteToASCII(host))
		}
	}
	if normal != strings.TrimPrefix(host, ".") {
		return fmt.Errorf("write the host as %s", normal)
	}
	return nil
}

func (p *Provider) validateUse(Origin) *fault {
	if p.Env != "" {
		if err := CheckEnvName(p.Env); err != nil {
			return faultAt(err.Error(), "env")
		}
	}
	if p.Placeholder != "" {
		if err := checkPlaceholder(p.Placeholder); err != nil {
			return faultAt(err.Error(), "placeholder")
		}
	}
	if u := p.GitUsername; u != "" && (!plainToken(u, 64) || strings.Contains(u, ":")) {
		return faultAt("a user name has no space, colon or character beyond ASCII", "git_username")
	}
	if p.GitUsername != "" && len(p.GitHosts) == 0 {
		return faultAt("git_username needs git_hosts", "git_username")
	}
	for i, host := range p.GitHosts {
		if strings.HasPrefix(host, ".") {
			return faultAt("git_hosts are exact", "git_hosts", i)
		}
		if err := p.checkHost(host); err != nil {
			return faultAt(err.Error(), "git_hosts", i)
		}
	}
	return nil
}

// checkPlaceholder checks a token shape: letters, digits, . _ ! - and {N} for N
// random letters and digits, 16 of them at least.
func checkPlaceholder(shape string) error {
	bad := errors.New("a placeholder is a shape such as gho_{36}: letters, digits, . _ ! - and {N} for N random characters, 16 to 4096 in all")
	if len(shape) > 200 {
		return bad
	}
	random := 0
	for rest := shape; rest != ""; {
		switch c := rest[0]; {
		case isLower(c), isUpper(c), isDigit(c), strings.IndexByte("._!-", c) >= 0:
			rest = rest[1:]
		case c == '{':
			number, after, ok := strings.Cut(rest[1:], "}")
			n, err := strconv.Atoi(number)
			if !ok || err != nil || n < 1 || n > 4096 || strconv.Itoa(n) != number {
				return bad
			}
			random += n
			rest = after
		default:
			return bad
		}
	}
	if random < 16 || random > 4096 {
		return bad
	}
	return nil
}

func (p *Provider) validateRest(origin Origin) *fault {
	for _, page := range []struct{ key, url string }{{"revocation", p.Revocation.Page}, {"register", p.Register.Page}} {
		if page.url == "" {
			continue
		}
		withID := strings.ReplaceAll(page.url, "{"+builtinClientID+"}", "x")
		if page.key == "register" && withID != page.url {
			return faultAt("no client_id is known before registration", page.key, "page")
		}
		if err := p.checkTemplate(withID, false); err != nil {
			return faultAt(err.Error(), page.key, "page")
		}
	}
	for i, source := range p.Sources {
		if err := checkURL(source.URL, false); err != nil {
			return faultAt(err.Error(), "sources", i, "url")
		}
		if _, err := time.Parse(time.DateOnly, source.Checked); err != nil {
			return faultAt("checked is a date such as 2026-11-21", "sources", i, "checked")
		}
	}
	if origin == BuiltIn && len(p.Sources) == 0 {
		return faultAt("sources is missing: where the facts come from and when they were checked")
	}
	return nil
}

func oneOf(value string, among ...string) string {
	msg := strconv.QuoteToASCII(clip(value, 40)) + " is not one of " + strings.Join(among, ", ")
	if near := strictyaml.Suggest(value, among); near != "" {
		msg += "; did you mean " + near + "?"
	}
	return msg
}

// plainToken reports whether s is printable ASCII without spaces, up to a
// length.
func plainToken(s string, longest int) bool {
	return len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r >= 0x7f })
}

// scopeToken is the scope-token of RFC 6749 section 3.3.
func scopeToken(s string) bool {
	return s != "" && plainToken(s, 200) && !strings.ContainsAny(s, `"\`)
}

func asciiText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f })
}

func headerName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7f || !isLower(byte(r)) && !isUpper(byte(r)) && !isDigit(byte(r)) && r != '-' && r != '_'
	})
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
