package connection

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// request builds what renews rec.
func (r *renewal) request(rec *Record, grant Grant, clientSecret secret.Text) oauth.TokenRequest {
	p := &rec.Pins
	c := Client(p, clientSecret)
	switch rec.Flow {
	case FlowJWTBearer:
		return JWTBearerRequest(p, clientSecret, rec.ScopesAsked)
	case FlowClientCredentials:
		req := tokenRequest(p, c)
		req.Form = oauth.ClientCredentialsForm(JoinScopes(rec.ScopesAsked, p.Token.RequestScopeSeparator), p.Token.Params).WithResources(p.Resources)
		return req
	}
	req := RefreshRequest(p, c, grant.Refresh)
	req.Form = req.Form.With(repeated(rec))
	return req
}

// repeated is what a refresh carries of the login as well. A field that is not
// kept is left out: the provider says what it makes of that.
func repeated(rec *Record) map[string]string {
	p := &rec.Pins
	params := map[string]string{}
	for _, name := range p.Token.RefreshSends {
		var value string
		switch name {
		case providers.SendsRedirect: // RefreshRequest has it
		case providers.SendsState:
			value = rand.Text()
		case providers.SendsScope:
			missing := rec.Missing(rec.ScopesAsked)
			granted := slices.DeleteFunc(slices.Clone(rec.ScopesAsked), func(scope string) bool { return slices.Contains(missing, scope) })
			value = JoinScopes(granted, p.Token.RequestScopeSeparator)
		default:
			value = rec.Body.Kept[name]
		}
		if value != "" {
			params[name] = value
		}
	}
	return params
}

// tokenRequest is a request to the token endpoint as the provider wants it, still
// without a form.
func tokenRequest(p *providers.Pins, c oauth.Client) oauth.TokenRequest {
	return oauth.TokenRequest{
		Endpoint:              p.TokenEndpoint,
		Client:                c,
		Headers:               p.Token.Headers,
		Format:                p.Token.Request,
		Rename:                p.Token.Rename,
		Omit:                  p.Token.OmitParams,
		AllowInsecureLoopback: p.AllowInsecureLoopback,
	}
}

// RefreshRequest is the request that renews a grant (RFC 6749 section 6, and how
// the provider departs from it), as far as no record is needed for it. refresh is
// the access token where that renews itself.
func RefreshRequest(p *providers.Pins, c oauth.Client, refresh secret.Text) oauth.TokenRequest {
	req := tokenRequest(p, c)
	req.Endpoint = cmp.Or(p.RefreshEndpoint, p.TokenEndpoint)
	req.Form = oauth.RefreshForm(refresh)
	if renewal := p.Token.Renewal; renewal != nil {
		req.Form = oauth.RenewalForm(renewal.GrantType, renewal.Param, refresh)
		req.Format = cmp.Or(renewal.Request, req.Format)
		if renewal.OmitClient {
			req.Client = oauth.Client{Method: oauth.AuthOmitted}
		}
	}
	req.Form = req.Form.With(p.Token.Params).With(p.Token.RefreshParams).WithResources(p.Resources)
	if sent := p.RedirectSent(); sent != "" && slices.Contains(p.Token.RefreshSends, providers.SendsRedirect) {
		req.Form = append(req.Form, oauth.Param{Name: providers.SendsRedirect, Value: sent})
	}
	return req
}

// JWTBearerRequest is the request of a client that signs an assertion with its
// key (RFC 7523 section 2.1). key is what Key.Encode wrote.
func JWTBearerRequest(p *providers.Pins, key secret.Text, scopes []string) oauth.TokenRequest {
	j := p.JWTBearer
	if j == nil {
		j = &providers.JWTBearerPin{Audience: p.TokenEndpoint}
	}
	req := tokenRequest(p, Client(p, key))
	req.Assertion = &oauth.Assertion{
		Issuer: p.ClientID, Subject: j.Subject, Audience: j.Audience, Claims: j.Claims,
		Lifetime: time.Duration(j.Lifetime) * time.Second, Key: key, Alg: p.SigningAlg,
	}
	scope := JoinScopes(scopes, p.Token.RequestScopeSeparator)
	if j.InClaim {
		req.Assertion.Scope, scope = scope, ""
	}
	req.Form = oauth.JWTBearerForm(scope, p.Token.Params).WithResources(p.Resources)
	return req
}

// tokenEndpoint is where a connection is renewed.
func tokenEndpoint(rec *Record) string {
	if !rec.ByClient() && rec.Pins.RefreshEndpoint != "" {
		return rec.Pins.RefreshEndpoint
	}
	return rec.Pins.TokenEndpoint
}

// JoinScopes joins scopes as a provider wants them in a request; the default
// separator is a space.
func JoinScopes(scopes []string, separator string) string {
	if separator == "" {
		separator = " "
	}
	return strings.Join(scopes, separator)
}
