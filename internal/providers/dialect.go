package providers

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The ways a token request is sent.
const (
	RequestForm = "form"
	RequestJSON = "json"
	RequestGet  = "get"
)

// CredentialAccess is the value of token.renewal.credential for a token that
// renews itself.
const CredentialAccess = "access_token"

// maxAssertionLife bounds what an assertion may live.
const maxAssertionLife = 5 * time.Minute

// authMethods are the methods that a definition may name for a client.
func authMethods() []string {
	return []string{AuthNone, AuthBasic, AuthPost, AuthSecretJWT, AuthPrivateKeyJWT, AuthTLS, AuthSelfSignedTLS, AuthSecretUser}
}

// signingAlgs are the asymmetric algorithms of RFC 7518 section 3.1 and RFC
// 8037 that an assertion may be signed with.
func signingAlgs() []string { return []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} }

// reservedParams are the parameters that apiauth sets itself.
func reservedParams() []string {
	return []string{"response_type", "client_id", "client_secret", "redirect_uri", "scope", "state", "code", "code_challenge", "code_challenge_method",
		"code_verifier", "grant_type", "refresh_token", "device_code", "client_assertion", "client_assertion_type", "response_mode", "nonce",
		"request", "request_uri", "assertion", "subject_token", "subject_token_type", "actor_token", "actor_token_type", "access_token"}
}

// tokenFields are the standard fields of a token response.
func tokenFields() []string {
	return []string{"access_token", "refresh_token", "id_token", "token_type", "expires_in", "expires_at", "scope", "refresh_token_expires_in",
		"error", "error_description"}
}

// validateDialect checks how token requests and answers differ from RFC 6749.
func (p *Provider) validateDialect(Origin) *fault {
	t := &p.Token
	for _, r := range []struct {
		value string
		path  []any
	}{
		{t.Request, []any{"token", "request"}},
		{t.Upgrade.Request, []any{"token", "upgrade", "request"}},
		{t.Renewal.Request, []any{"token", "renewal", "request"}},
	} {
		if !may("token.request", r.value) {
			return faultAt(oneOf(r.value, Choices("token.request")...), r.path...)
		}
	}
	if bad := checkRename(p.AuthorizeRename, Choices("authorize_rename{key}"), "authorize_rename"); bad != nil {
		return bad
	}
	if bad := checkRename(t.Rename, Choices("token.rename{key}"), "token", "rename"); bad != nil {
		return bad
	}
	for i, name := range t.OmitParams {
		if names := Choices("token.omit_params[]"); !slices.Contains(names, name) {
			return faultAt(oneOf(name, names...), "token", "omit_params", i)
		}
	}
	reserved := append(reservedParams(), sortedValues(t.Rename)...)
	for _, list := range []struct {
		key   string
		pairs map[string]string
	}{{"params", t.Params}, {"exchange_params", t.ExchangeParams}, {"refresh_params", t.RefreshParams}} {
		if bad := checkPairs(list.pairs, reserved, "token", list.key); bad != nil {
			return bad
		}
		for _, name := range sortedKeys(list.pairs) {
			if list.key != "params" && t.Params[name] != "" {
				return faultAt(name+" is in token.params already", "token", list.key, name)
			}
		}
	}
	if bad := p.validateAnswer(); bad != nil {
		return bad
	}
	if bad := p.validateSends(); bad != nil {
		return bad
	}
	return p.validateSecondRequests()
}

// validateAnswer checks what a token answer looks like.
func (p *Provider) validateAnswer() *fault {
	t := &p.Token
	if t.Inside != "" && !isFieldPath(t.Inside) {
		return faultAt("this is not the path of an object, such as data", "token", "inside")
	}
	for _, name := range sortedKeys(t.Fields) {
		switch {
		case !slices.Contains(Choices("token.fields{key}"), name):
			return faultAt(oneOf(name, Choices("token.fields{key}")...), "token", "fields", name)
		case strings.HasPrefix(name, "error") && !slices.ContainsFunc(strings.Split(t.Fields[name], ","), func(path string) bool { return !isFieldPath(path) }):
		case !isFieldPath(t.Fields[name]):
			return faultAt("this is not the path of a field, such as accessToken or data.token", "token", "fields", name)
		}
	}
	codes := Choices("token.error_codes{}")
	for _, code := range sortedKeys(t.ErrorCodes) {
		switch {
		case code == "" || len(code) > 100 || !asciiText(code):
			return faultAt("this is not an error code", "token", "error_codes", code)
		case !slices.Contains(codes, t.ErrorCodes[code]):
			return faultAt(oneOf(t.ErrorCodes[code], codes...), "token", "error_codes", code)
		}
	}
	if bad := p.checkKept(t.KeepAs, "token", "keep_as"); bad != nil {
		return bad
	}
	for name := range t.KeepAs {
		if slices.Contains(t.Keep, name) {
			return faultAt(name+" is in token.keep already", "token", "keep_as", name)
		}
	}
	if bad := p.checkKept(p.CallbackKeep, "callback_keep"); bad != nil {
		return bad
	}
	for _, name := range sortedKeys(p.CallbackKeep) {
		if slices.Contains([]string{"code", "state", "error", "iss", p.CodeParam}, p.CallbackKeep[name]) || strings.Contains(p.CallbackKeep[name], ".") {
			return faultAt("this is not a parameter to keep", "callback_keep", name)
		}
	}
	switch name := p.CodeParam; {
	case name == "":
	case !isFieldPath(name) || strings.Contains(name, "."), slices.Contains([]string{"state", "error", "iss", "access_token"}, name):
		return faultAt("this is not the name of the parameter that holds the code", "code_param")
	}
	second := p.Scopes.Second
	switch {
	case second == SecondScopes{}:
	case second.Param == "" || second.Prefix == "":
		return faultAt("a second scope parameter needs param and prefix", "scopes", "second")
	case !isFieldPath(second.Param) || strings.Contains(second.Param, "."), slices.Contains(reservedParams(), second.Param):
		return faultAt("this is not the name of a second scope parameter", "scopes", "second", "param")
	case p.Authorize[second.Param] != "":
		return faultAt(second.Param+" is in authorize_params already", "scopes", "second", "param")
	case !scopeToken(second.Prefix):
		return faultAt("the prefix has no space, quote, backslash or character beyond ASCII", "scopes", "second", "prefix")
	case second.Field != "" && !isFieldPath(second.Field):
		return faultAt("this is not the path of a field", "scopes", "second", "field")
	case p.Scopes.Omit:
		return faultAt("omit says that no scope is ever sent", "scopes", "second")
	}
	return nil
}

// The members of token.exchange_sends and token.refresh_sends that are not fields
// of the callback or the answer.
const (
	SendsRedirect = "redirect_uri"
	SendsScope    = "scope"
	SendsState    = "state"
)

// validateSends checks what token requests carry of the login. A credential is
// not among it, and nothing goes out under a name that is taken.
func (p *Provider) validateSends() *fault {
	t := &p.Token
	usual := []string{SendsScope, SendsState}
	taken := func(name string, params map[string]string) bool {
		return slices.Contains(sortedValues(t.Rename), name) || t.Params[name] != "" || params[name] != ""
	}
	for i, name := range t.ExchangeSends {
		at := []any{"token", "exchange_sends", i}
		parameter := isFieldPath(name) && !strings.Contains(name, ".")
		switch {
		case slices.Index(t.ExchangeSends, name) != i:
			return faultAt(name+" is listed twice", at...)
		case slices.Contains(usual, name):
		case !parameter || slices.Contains([]string{"iss", "error", "error_description", p.CodeParam}, name):
			return faultAt("this is not a parameter of the callback to send", at...)
		case slices.Contains(reservedParams(), name) || slices.Contains(tokenFields(), name):
			return faultAt(name+" is set by apiauth", at...)
		case p.PasteCode:
			return faultAt("a code that is pasted alone comes without "+name, at...)
		}
		if taken(name, t.ExchangeParams) {
			return faultAt(name+" is sent already", at...)
		}
	}
	for i, name := range t.RefreshSends {
		at := []any{"token", "refresh_sends", i}
		_, fromCallback := p.CallbackKeep[name]
		_, fromAnswer := t.KeepAs[name]
		switch {
		case slices.Index(t.RefreshSends, name) != i:
			return faultAt(name+" is listed twice", at...)
		case name == SendsRedirect:
			if strings.Contains(p.DefaultRedirect(), ":*/") {
				return faultAt("redirect_uri must have a fixed port to be repeated later", at...)
			}
		case slices.Contains(usual, name):
		case slices.Contains(reservedParams(), name):
			return faultAt(name+" is set by apiauth", at...)
		case !fromCallback && !fromAnswer && !slices.Contains(t.Keep, name):
			return faultAt(strconv.QuoteToASCII(clip(name, 40))+" is not kept: it is redirect_uri, scope, state, or a name in callback_keep, token.keep or token.keep_as", at...)
		}
		if taken(name, t.RefreshParams) {
			return faultAt(name+" is sent already", at...)
		}
	}
	for _, list := range []struct {
		key   string
		sends []string
	}{{"exchange_sends", t.ExchangeSends}, {"refresh_sends", t.RefreshSends}} {
		at := []any{"token", list.key, slices.Index(list.sends, SendsScope)}
		switch {
		case !slices.Contains(list.sends, SendsScope):
		case p.Scopes.Omit:
			return faultAt("scopes.omit says that no scope is ever sent", at...)
		case p.Scopes.Second.Param != "":
			return faultAt("it cannot be told which of two scope parameters is meant", at...)
		}
		for i, name := range list.sends {
			if slices.Contains(t.OmitParams, name) {
				return faultAt(name+" is in token.omit_params", "token", list.key, i)
			}
		}
	}
	return nil
}

// validateSecondRequests checks token.upgrade and token.renewal.
func (p *Provider) validateSecondRequests() *fault {
	t := &p.Token
	parameter := func(name string) bool { return name != "" && isFieldPath(name) && !strings.Contains(name, ".") }
	if u := t.Upgrade; u != (Upgrade{}) {
		switch {
		case u.Endpoint == "" || u.GrantType == "" || u.Param == "":
			return faultAt("an upgrade needs endpoint, grant_type and param", "token", "upgrade")
		case !plainToken(u.GrantType, 200):
			return faultAt("this is not a grant type", "token", "upgrade", "grant_type")
		case !parameter(u.Param):
			return faultAt("this is not the name of a parameter", "token", "upgrade", "param")
		}
		if err := p.checkTemplate(u.Endpoint, false); err != nil {
			return faultAt(err.Error(), "token", "upgrade", "endpoint")
		}
	}
	switch r := t.Renewal; {
	case !may("token.renewal.credential", r.Credential):
		return faultAt(oneOf(r.Credential, Choices("token.renewal.credential")...), "token", "renewal", "credential")
	case r.Credential == CredentialAccess && (r.GrantType == "" || r.Param == ""):
		return faultAt("a token that renews itself needs grant_type and param", "token", "renewal")
	case !plainToken(r.GrantType, 200):
		return faultAt("this is not a grant type", "token", "renewal", "grant_type")
	case r.Param != "" && !parameter(r.Param):
		return faultAt("this is not the name of a parameter", "token", "renewal", "param")
	case r.Before < 0 || r.Before > 90*24*time.Hour:
		return faultAt("before is a duration up to 2160h", "token", "renewal", "before")
	case r.AfterEnd && r.Before != 0:
		return faultAt("a token is renewed before its end or after it", "token", "renewal", "after_end")
	case r.AfterEnd && r.Credential == CredentialAccess:
		return faultAt("a token renews itself only while it is alive", "token", "renewal", "after_end")
	}
	return nil
}

// validateGrants checks what belongs to assertions, token exchange, pushed
// requests and resources.
func (p *Provider) validateGrants(Origin) *fault {
	if alg := "token_endpoint_auth_signing_alg"; !may(alg, p.SigningAlg) {
		return faultAt(oneOf(p.SigningAlg, Choices(alg)...), alg)
	}
	for _, a := range []struct {
		audience string
		path     []any
	}{{p.AssertionAudience, []any{"client_assertion_audience"}}, {p.JWTBearer.Audience, []any{"jwt_bearer", "audience"}}} {
		if a.audience == "" {
			continue
		}
		if err := p.checkTemplate(a.audience, false); err != nil {
			return faultAt(err.Error(), a.path...)
		}
	}
	j := &p.JWTBearer
	switch {
	case !may("jwt_bearer.subject", j.Subject):
		return faultAt(oneOf(j.Subject, Choices("jwt_bearer.subject")...), "jwt_bearer", "subject")
	case !may("jwt_bearer.scope", j.Scope):
		return faultAt(oneOf(j.Scope, Choices("jwt_bearer.scope")...), "jwt_bearer", "scope")
	case !may("jwt_bearer.auth_method", j.AuthMethod):
		return faultAt(oneOf(j.AuthMethod, Choices("jwt_bearer.auth_method")...), "jwt_bearer", "auth_method")
	case j.Lifetime < 0 || j.Lifetime > maxAssertionLife:
		return faultAt("an assertion lives 5m at most", "jwt_bearer", "lifetime")
	}
	if bad := checkPairs(j.Claims, []string{"iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope"}, "jwt_bearer", "claims"); bad != nil {
		return bad
	}
	x := &p.TokenExchange
	for i, scope := range x.Scopes {
		if !scopeToken(scope) {
			return faultAt("a scope has no space, quote, backslash or character beyond ASCII (RFC 6749 section 3.3)", "token_exchange", "scopes", i)
		}
	}
	for i, audience := range x.Audiences {
		if audience == "" || !plainToken(audience, 500) {
			return faultAt("this is not an audience", "token_exchange", "audiences", i)
		}
	}
	switch {
	case len(x.Scopes) == 0 && (len(x.Resources)+len(x.Audiences) > 0 || x.AuthMethod != ""):
		return faultAt("token_exchange needs scopes: those that may be asked for", "token_exchange")
	case !may("token_exchange.auth_method", x.AuthMethod):
		return faultAt(oneOf(x.AuthMethod, Choices("token_exchange.auth_method")...), "token_exchange", "auth_method")
	case p.RequirePushed && p.PushedEndpoint == "" && !p.NeedsDiscovery():
		return faultAt("this needs pushed_authorization_request_endpoint", "require_pushed_authorization_requests")
	}
	for _, list := range []struct {
		urls []string
		path []any
	}{{p.Resources, []any{"resources"}}, {x.Resources, []any{"token_exchange", "resources"}}} {
		for i, resource := range list.urls {
			if err := checkURL(resource, p.AllowInsecureLoopback); err != nil {
				return faultAt(err.Error(), append(slices.Clone(list.path), i)...)
			}
		}
	}
	return nil
}

// validateSite checks the second call after a login. The token goes there, so
// its host must be one that may receive it.
func (p *Provider) validateSite(Origin) *fault {
	s := &p.Site
	if s.Endpoint == "" {
		if s.List != "" || s.Label != "" || len(s.Keep) > 0 {
			return faultAt("site needs an endpoint", "site")
		}
		return nil
	}
	if err := p.checkTemplate(s.Endpoint, false); err != nil {
		return faultAt(err.Error(), "site", "endpoint")
	}
	if !isTemplate(s.Endpoint) {
		host, err := URLHost(s.Endpoint)
		if err != nil || !slices.ContainsFunc(p.API.Hosts, func(declared string) bool { return hostMatches(host, declared) }) {
			return faultAt("the host "+host+" is not in api.hosts", "site", "endpoint")
		}
	}
	switch {
	case s.List != "" && !isFieldPath(s.List):
		return faultAt("this is not the path of a list", "site", "list")
	case s.Label != "" && !isFieldPath(s.Label):
		return faultAt("this is not the path of a field", "site", "label")
	case len(s.Keep) == 0:
		return faultAt("keep says what is needed of a site", "site")
	}
	return p.checkKept(s.Keep, "site", "keep")
}

// checkKept checks names to keep fields under, and where the fields stand. A
// credential is not kept this way.
func (p *Provider) checkKept(keep map[string]string, path ...any) *fault {
	for _, name := range sortedKeys(keep) {
		at := append(slices.Clone(path), name)
		switch field := keep[name]; {
		case !isVariableName(name):
			return faultAt("a kept field's name must match [a-z][a-z0-9_]*, 32 at most", at...)
		case !isFieldPath(field):
			return faultAt("this is not the path of a field, such as team.id", at...)
		case slices.Contains([]string{"access_token", "refresh_token", "id_token", "client_secret"}, field[strings.LastIndexByte(field, '.')+1:]),
			slices.Contains(sortedValues(p.Token.Fields), field):
			return faultAt(strconv.QuoteToASCII(field)+" is not a field to keep", at...)
		}
	}
	return nil
}

// checkRename checks other names for standard parameters: each must be of the
// standard ones, and no new name may mean something else.
func checkRename(rename map[string]string, standard []string, path ...any) *fault {
	var taken []string
	for _, name := range sortedKeys(rename) {
		at := append(slices.Clone(path), name)
		switch to := rename[name]; {
		case !slices.Contains(standard, name):
			return faultAt(oneOf(name, standard...), at...)
		case !isFieldPath(to) || strings.Contains(to, "."):
			return faultAt("this is not the name of a parameter", at...)
		case slices.Contains(reservedParams(), to):
			return faultAt(to+" has a meaning of its own", at...)
		case slices.Contains(taken, to):
			return faultAt("two parameters cannot both be named "+to, at...)
		default:
			taken = append(taken, to)
		}
	}
	return nil
}

// isFieldPath reports whether s is a path such as data.accessToken: up to five
// names of letters, digits, hyphen and underscore.
func isFieldPath(s string) bool {
	names := strings.Split(s, ".")
	if len(names) > 5 {
		return false
	}
	return !slices.ContainsFunc(names, func(name string) bool { return !headerName(name) })
}

func sortedValues(m map[string]string) []string {
	values := make([]string, 0, len(m))
	for _, value := range m {
		values = append(values, value)
	}
	slices.Sort(values)
	return values
}
