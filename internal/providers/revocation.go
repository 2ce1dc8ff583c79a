package providers

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Styles of Revocation that are told apart here; the others are ways of one
// provider each, which no request that is described by data can go.
const (
	RevokeStandard = "rfc7009"
	RevokeRequest  = "request"
	RevokePage     = "page"
	RevokeNone     = "none"
)

// AuthBearer is the revocation.auth of a provider that takes the access token
// itself, in the header "Authorization: Bearer", in place of the client.
const AuthBearer = "bearer"

// RequestQuery is the revocation.request with the parameters in the query,
// whatever the method.
const RequestQuery = "query"

// Tokens that revocation.token may name.
const (
	TokenAccess  = "access_token"
	TokenRefresh = "refresh_token"
)

// Revocation says how a grant ends at the provider.
type Revocation struct {
	// Style is rfc7009, request, page, none, or a named style: github,
	// stripe-connect, contentful.
	Style string `yaml:"style"`
	Page  string `yaml:"page"` // where a person reviews and removes access
	Notes string `yaml:"notes"`

	// What follows describes the one request of the style request, which goes to
	// revocation_endpoint and nowhere else.

	Method  string `yaml:"method"`  // POST (default) | DELETE | GET
	Request string `yaml:"request"` // form (default) | json | query, which is the only one with GET
	// Auth is bearer, or the method by which the client authenticates there;
	// default: as at the token endpoint.
	Auth string `yaml:"auth"`
	// Token is access_token or refresh_token where only that one ends the
	// grant; default: the refresh token, or the access token where there is
	// none.
	Token string `yaml:"token"`
	// Rename gives token, client_id and client_secret another name; Params are
	// more parameters.
	Rename map[string]string `yaml:"rename"`
	Params map[string]string `yaml:"params"`
}

// ByRequest reports whether apiauth can end a grant, and not only a person.
func (r *Revocation) ByRequest() bool {
	return r.Style != "" && r.Style != RevokeNone && r.Style != RevokePage
}

// described reports whether any key of the style request is set.
func (r *Revocation) described() bool {
	return r.Method != "" || r.Request != "" || r.Auth != "" || r.Token != "" || len(r.Rename)+len(r.Params) > 0
}

// validateRevocation checks how a grant ends.
func (p *Provider) validateRevocation(Origin) *fault {
	r := &p.Revocation
	switch {
	case !may("revocation.style", r.Style):
		return faultAt(oneOf(r.Style, Choices("revocation.style")...), "revocation", "style")
	case r.Style == RevokePage && r.Page == "":
		return faultAt("the style page needs a page", "revocation", "style")
	case r.ByRequest() && p.RevocationEndpoint == "" && !p.NeedsDiscovery():
		return faultAt("the style "+r.Style+" needs revocation_endpoint", "revocation", "style")
	case r.Style != RevokeRequest && r.described():
		return faultAt("method, request, auth, token, rename and params are for the style request", "revocation")
	}
	at := func(msg, key string) *fault { return faultAt(msg, "revocation", key) }
	for _, choice := range [][2]string{{"method", r.Method}, {"request", r.Request}, {"auth", r.Auth}, {"token", r.Token}} {
		if path := "revocation." + choice[0]; !may(path, choice[1]) {
			return at(oneOf(choice[1], Choices(path)...), choice[0])
		}
	}
	switch {
	case r.Method == http.MethodGet && r.Request != "" && r.Request != RequestQuery:
		return at("a GET has its parameters in the query", "request")
	case r.Auth == AuthBearer && r.Token == TokenRefresh:
		return at("bearer sends the access token", "token")
	case r.Auth == AuthBearer && len(r.Rename) > 0:
		return at("with bearer the token is no parameter, and the client is not sent", "rename")
	case r.inQuery() && strings.Contains(p.RevocationEndpoint, "?"):
		return at("revocation_endpoint has a query of its own; take the parameters into params", "request")
	}
	if err := r.leadsHome(p.RevocationEndpoint, p.API.Hosts); err != nil {
		return faultAt(err.Error(), "revocation_endpoint")
	}
	if bad := checkParamNames(r.Rename, "revocation", "rename"); bad != nil {
		return bad
	}
	taken := append(Choices("revocation.rename{key}"), sortedValues(r.Rename)...)
	return checkPairs(r.Params, taken, "revocation", "params")
}

// checkParamNames checks the names that a revocation has for what apiauth sends.
// Unlike in token requests a name may have another meaning elsewhere: LINE takes
// the token as access_token.
func checkParamNames(rename map[string]string, path ...any) *fault {
	standard := Choices("revocation.rename{key}")
	var taken []string
	for _, name := range sortedKeys(rename) {
		at := append(slices.Clone(path), name)
		switch to := rename[name]; {
		case !slices.Contains(standard, name):
			return faultAt(oneOf(name, standard...), at...)
		case !isFieldPath(to) || strings.Contains(to, "."):
			return faultAt("this is not the name of a parameter", at...)
		case slices.Contains(taken, to) || slices.Contains(standard, to):
			return faultAt("two parameters cannot both be named "+to, at...)
		default:
			taken = append(taken, to)
		}
	}
	return nil
}

// leadsHome checks that a token that ends its grant by itself, which is a call of
// the API, goes to one of the hosts that may receive it. What is not known yet is
// checked when it is: in Pin, or in BindAPI.
func (r *Revocation) leadsHome(endpoint string, hosts []string) error {
	if r.Auth != AuthBearer || endpoint == "" || isTemplate(endpoint) {
		return nil
	}
	host, err := URLHost(endpoint)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(hosts, func(declared string) bool { return hostMatches(host, declared) }) {
		return fmt.Errorf("the host %s is not in api.hosts, and with bearer the token goes there as to the API", host)
	}
	return nil
}

// inQuery reports whether the request's parameters stand in its query.
func (r *Revocation) inQuery() bool {
	return r.Request == RequestQuery || r.Method == http.MethodGet
}

// RevocationPin is Revocation, resolved.
type RevocationPin struct {
	Style   string            `json:"style,omitempty"`
	Page    string            `json:"page,omitempty"`
	Method  string            `json:"method,omitempty"`
	Request string            `json:"request,omitempty"`
	Auth    string            `json:"auth,omitempty"` // empty: as at the token endpoint
	Token   string            `json:"token,omitempty"`
	Rename  map[string]string `json:"rename,omitempty"`
	Params  map[string]string `json:"params,omitempty"`
}

func (r *Revocation) pin() RevocationPin {
	pin := RevocationPin{Style: cmp.Or(r.Style, RevokeNone)}
	if r.Style != RevokeRequest {
		return pin
	}
	pin.Method = cmp.Or(r.Method, http.MethodPost)
	pin.Request = cmp.Or(r.Request, RequestForm)
	if r.inQuery() {
		pin.Request = RequestQuery
	}
	pin.Auth, pin.Token, pin.Rename, pin.Params = r.Auth, r.Token, maps.Clone(r.Rename), maps.Clone(r.Params)
	return pin
}

// EachToken reports whether refresh and access token are ended each by itself:
// the request takes either, and an issuer need not end both with one (RFC 7009
// section 2.1).
func (r RevocationPin) EachToken() bool {
	return r.Style == RevokeStandard || r.Style == RevokeRequest && r.Token == "" && r.Auth != AuthBearer
}

// ByAccessToken reports whether only an access token that lives ends the grant.
func (r RevocationPin) ByAccessToken() bool {
	return r.Style == RevokeRequest && (r.Token == TokenAccess || r.Auth == AuthBearer)
}

// String says what is sent to end a grant: nothing where a person does it.
func (r RevocationPin) String() string {
	switch r.Style {
	case "", RevokeNone, RevokePage:
		return ""
	case RevokeRequest:
	default:
		return r.Style
	}
	words := []string{r.Method, r.Request}
	if r.Auth != "" {
		words = append(words, r.Auth)
	}
	if r.Token != "" {
		words = append(words, r.Token)
	}
	for _, name := range sortedKeys(r.Rename) {
		words = append(words, name+" as "+r.Rename[name])
	}
	for _, name := range sortedKeys(r.Params) {
		words = append(words, name+"="+r.Params[name])
	}
	return strings.Join(words, " ")
}
