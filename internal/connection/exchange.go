package connection

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Narrow says what a token that can do less is to be good for.
type Narrow struct {
	Scopes    []string
	Resources []string // URLs (RFC 8693 section 2.1)
	Audiences []string
}

// NarrowError says that a token cannot be narrowed so, and why.
type NarrowError struct {
	Name string
	Why  string
}

// Error names the connection and the reason.
func (e *NarrowError) Error() string {
	return fmt.Sprintf("a narrower token of %q: %s", e.Name, e.Why)
}

// Downscope returns a token that can do less than that of the named connection:
// its live access token, exchanged at the provider (RFC 8693). Only what the
// connection's pins allow may be asked for. The token is not stored and
// not shared: whoever asks for other scopes gets another one. Errors are those of
// Token, and *NarrowError.
func (s *Source) Downscope(ctx context.Context, name string, n Narrow, o Option) (Access, error) {
	access, err := s.Token(ctx, name, o)
	if err != nil {
		return Access{}, err
	}
	h := &access.Header
	p := &h.Pins
	if err := allowed(name, p.Exchange, n); err != nil {
		return Access{}, err
	}
	req := tokenRequest(p, oauth.Client{})
	if req.Client, err = s.exchangeClient(ctx, h); err != nil {
		return Access{}, err
	}
	req.Form = oauth.Form{
		{Name: "grant_type", Value: oauth.GrantTokenExchange},
		{Name: "subject_token", Secret: access.Token},
		{Name: "subject_token_type", Value: "urn:ietf:params:oauth:token-type:access_token"},
		{Name: "scope", Value: JoinScopes(n.Scopes, p.Token.RequestScopeSeparator)},
	}
	req.Form = req.Form.WithResources(n.Resources)
	for _, audience := range n.Audiences {
		req.Form = append(req.Form, oauth.Param{Name: "audience", Value: audience})
	}
	ans, err := s.Issuer.PostToken(ctx, req)
	if err != nil {
		return Access{}, definite(ErrTemporary, err, "exchange the token of %q", name)
	}
	tok, err := oauth.ParseToken(ans, rules(p))
	if err != nil {
		return Access{}, exchangeError(name, err)
	}
	if tok.Access.Equal(access.Token) {
		return Access{}, definite(ErrRefused, nil, "the provider gave the token of %q back as it was, not a narrower one", name)
	}
	if tok.ScopesKnown {
		if more := p.MissingScopes(tok.Scopes, n.Scopes); len(more) > 0 {
			return Access{}, definite(ErrRefused, nil, "the provider gave more than was asked of %q: %s", name, oauth.Clean(strings.Join(more, ", ")))
		}
	}
	narrow := access
	narrow.Token = tok.Access
	narrow.Header.ScopesGranted, narrow.Header.ScopesKnown = n.Scopes, true
	if tok.ScopesKnown {
		narrow.Header.ScopesGranted = tok.Scopes
	}
	if tok.ExpiresKnown {
		narrow.ExpiresAt = ans.ReceivedAt.Round(0).Add(tok.ExpiresIn.Truncate(time.Second))
	}
	return narrow, nil
}

// exchangeClient is the client of an exchange.
func (s *Source) exchangeClient(ctx context.Context, h *Header) (oauth.Client, error) {
	p := h.Pins
	if method := p.Exchange.AuthMethod; method != "" {
		p.AuthMethod = method
	}
	var clientSecret secret.Text
	if p.AuthMethod != oauth.AuthNone && p.AuthMethod != oauth.AuthOmitted {
		var err error
		if clientSecret, err = s.secretFor(ctx, h); err != nil {
			return oauth.Client{}, err
		}
	}
	return Client(&p, clientSecret), nil
}

// allowed checks what is asked for against what the definition pinned.
func allowed(name string, x *providers.ExchangePin, n Narrow) error {
	fail := func(format string, args ...any) error { return &NarrowError{name, fmt.Sprintf(format, args...)} }
	if x == nil {
		return fail("the provider has no token exchange, or its definition did not say so when it was connected")
	}
	if len(n.Scopes) == 0 {
		return fail("it needs scopes: %s", strings.Join(x.Scopes, ", "))
	}
	for _, scope := range n.Scopes {
		if !slices.Contains(x.Scopes, scope) {
			return fail("%q is none of the scopes that it may have: %s", oauth.Clean(scope), strings.Join(x.Scopes, ", "))
		}
	}
	for _, resource := range n.Resources {
		if !slices.ContainsFunc(x.Resources, func(base string) bool { return liesUnder(resource, base) }) {
			return fail("the resource %q lies under none of: %s", oauth.Clean(resource), listed(x.Resources))
		}
	}
	for _, audience := range n.Audiences {
		if !slices.Contains(x.Audiences, audience) {
			return fail("%q is none of the audiences: %s", oauth.Clean(audience), listed(x.Audiences))
		}
	}
	return nil
}

func listed(list []string) string {
	if len(list) == 0 {
		return "(none)"
	}
	return strings.Join(list, ", ")
}

// liesUnder reports whether a resource is base or a path below it.
func liesUnder(resource, base string) bool {
	u, err1 := url.Parse(resource)
	b, err2 := url.Parse(base)
	if err1 != nil || err2 != nil || u.Scheme != b.Scheme || u.Host != b.Host || u.User != nil || u.Fragment != "" || u.RawQuery != b.RawQuery ||
		strings.Contains(u.Path, "..") || strings.Contains(u.EscapedPath(), "%") {
		return false
	}
	return u.Path == b.Path || strings.HasPrefix(u.Path, strings.TrimSuffix(b.Path, "/")+"/")
}
