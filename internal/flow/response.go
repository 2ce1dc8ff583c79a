package flow

import (
	"cmp"
	"crypto/subtle"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	maxCode   = 8 << 10 // bytes of an authorization code
	maxExtra  = 1 << 10 // bytes of an extra parameter of a callback
	maxScopes = 8 << 10 // bytes of the scopes that a callback names
	maxParams = 64
)

// problem says in fixed words why an authorization response was not accepted.
// It holds nothing of the response.
type problem string

const (
	problemQuery    problem = "its parameters cannot be read"
	problemRepeated problem = "a parameter comes twice"
	problemNoState  problem = "it has no state"
	problemState    problem = "it belongs to another login (wrong state)"
	problemNoIssuer problem = "it does not name the issuer, as this provider's answers must"
	problemIssuer   problem = "it comes from another issuer"
	problemBoth     problem = "it has a code and an error at once"
	problemNeither  problem = "it has neither a code nor an error"
	problemCode     problem = "its code is not a valid one"
	problemError    problem = "its error is not a valid one"
	problemToken    problem = "it has no token, or one that is not valid"
	problemExtra    problem = "one of its parameters is not valid"
	problemLacks    problem = "it lacks a parameter that this provider wants back with the code"
)

// expectation is what the authorization response of one attempt must match.
type expectation struct {
	provider string // name for people
	state    string
	// issuer is the issuer identifier, compared as RFC 9207 section 2.4 says.
	// When it is not known, an iss must at least be an https URL on one of
	// hosts, those of the provider's endpoints.
	issuer      string
	issRequired bool
	hosts       []string
	codeParam   string            // default code
	extra       map[string]string // parameters to hand on, by the name to hand them on under
	sends       []string          // what the code exchange carries as well: token.exchange_sends
}

// response is an authorization response that passed every check: a code or a
// refusal.
type response struct {
	code   secret.Text
	answer *oauth.Answer // of the implicit grant
	denied *DeniedError
	extra  map[string]string
	sends  map[string]string // parameters that the code exchange carries as well
}

// open checks what all authorization responses share: bounded parameters, none
// repeated, our state and, where the provider sends it, its issuer.
func (e expectation) open(raw string) (url.Values, problem) {
	v, err := url.ParseQuery(raw)
	if err != nil || len(v) > maxParams {
		return nil, problemQuery
	}
	for _, values := range v {
		if len(values) > 1 {
			return nil, problemRepeated
		}
	}
	switch state := v.Get("state"); {
	case state == "":
		return nil, problemNoState
	case e.state == "" || subtle.ConstantTimeCompare([]byte(state), []byte(e.state)) != 1:
		return nil, problemState
	}
	return v, e.checkIssuer(v)
}

// read checks the query of an authorization response (RFC 6749 section 4.1.2,
// RFC 9207). An error response must pass the same checks as a code.
func (e expectation) read(rawQuery string) (response, problem) {
	v, p := e.open(rawQuery)
	if p != "" {
		return response{}, p
	}
	param := cmp.Or(e.codeParam, "code")
	code, failed := v.Get(param), v.Get("error")
	switch {
	case v.Has(param) && v.Has("error"):
		return response{}, problemBoth
	case v.Has("error"):
		if failed == "" || len(failed) > 200 || !printable(failed) {
			return response{}, problemError
		}
		return response{denied: &DeniedError{
			Provider:    e.provider,
			Code:        oauth.Clean(failed),
			Description: oauth.Clean(v.Get("error_description")),
		}}, ""
	case !v.Has(param):
		return response{}, problemNeither
	case code == "" || len(code) > maxCode || !printable(code):
		return response{}, problemCode
	}
	r := response{code: secret.New(code)}
	for name, from := range e.extra {
		if !v.Has(from) {
			continue
		}
		value, most := v.Get(from), maxExtra
		if name == providers.CallbackScopes {
			most = maxScopes
		}
		if len(value) > most || !printable(value) {
			return response{}, problemExtra
		}
		if r.extra == nil {
			r.extra = make(map[string]string)
		}
		r.extra[name] = value
	}
	for _, name := range e.sends {
		if name == providers.SendsState || name == providers.SendsScope {
			continue // ours
		}
		value := v.Get(name)
		switch {
		case value == "":
			return response{}, problemLacks
		case len(value) > maxExtra || !printable(value):
			return response{}, problemExtra
		case r.sends == nil:
			r.sends = make(map[string]string)
		}
		r.sends[name] = value
	}
	return r, ""
}

func (e expectation) checkIssuer(v url.Values) problem {
	iss := v.Get("iss")
	switch {
	case !v.Has("iss"):
		if e.issRequired {
			return problemNoIssuer
		}
		return ""
	case e.issuer != "":
		if iss != e.issuer {
			return problemIssuer
		}
		return ""
	}
	u, err := url.Parse(iss)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return problemIssuer
	}
	for _, h := range e.hosts {
		if strings.EqualFold(u.Host, h) {
			return ""
		}
	}
	return problemIssuer
}

// printable reports whether s is made of VSCHAR (RFC 6749 appendix A).
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
