package connection

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
)

// upgrade exchanges the access token of a login for a long-lived one, where the
// provider does it so. The request uses nothing up: when it fails, the token at
// hand is kept, and a person is told.
func (s *Source) upgrade(ctx context.Context, h *Header, tok oauth.Token, ans oauth.Answer, c oauth.Client) (oauth.Token, oauth.Answer) {
	p := &h.Pins
	up := p.Token.Upgrade
	if up == nil {
		return tok, ans
	}
	if c.Method == "" {
		clientSecret, err := s.secretFor(ctx, h)
		if err != nil {
			s.warn("the token of %q stays short-lived: %v", h.Name, err)
			return tok, ans
		}
		c = Client(p, clientSecret)
	}
	better, err := s.Issuer.PostToken(ctx, oauth.TokenRequest{
		Endpoint:              up.Endpoint,
		Client:                c,
		Form:                  oauth.RenewalForm(up.GrantType, up.Param, tok.Access),
		Headers:               p.Token.Headers,
		Format:                up.Request,
		Rename:                p.Token.Rename,
		AllowInsecureLoopback: p.AllowInsecureLoopback,
	})
	if err == nil {
		var long oauth.Token
		if long, err = oauth.ParseToken(better, rules(p)); err == nil {
			tok.Access, tok.Type = long.Access, long.Type
			tok.ExpiresIn, tok.ExpiresKnown = long.ExpiresIn, long.ExpiresKnown
			if !long.Refresh.IsZero() {
				tok.Refresh, tok.RefreshExpiresIn = long.Refresh, long.RefreshExpiresIn
			}
			if long.ScopesKnown {
				tok.Scopes, tok.ScopesKnown = long.Scopes, true
			}
			return tok, better
		}
	}
	s.warn("%s did not exchange the token of %q for a long-lived one: %v", p.Provider, h.Name, err)
	return tok, ans
}

// chooseSite asks which sites the token reaches and keeps the fields of one: the
// one that was asked for, else the one that cur had, else the first. Several to
// choose from are told. The answer decides where tokens go, so there is no
// connection without it.
func (s *Source) chooseSite(ctx context.Context, cur, next *Record) error {
	p := &next.Pins
	if p.Site == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	sites, err := s.Issuer.Sites(ctx, oauth.SitesRequest{
		IdentityRequest: oauth.IdentityRequest{
			Endpoint: p.Site.Endpoint, Access: next.Body.Access,
			In: p.APIAuth.In, Name: p.APIAuth.Name, Prefix: p.APIAuth.Prefix,
			Headers: p.APIHeaders, Label: p.Site.Label, AllowInsecureLoopback: p.AllowInsecureLoopback,
		},
		List: p.Site.List,
		Keep: p.Site.Keep,
	})
	if err != nil {
		return definite(ErrTemporary, err, "ask %s which sites %q reaches", p.Provider, next.Name)
	}
	if len(sites) == 0 {
		return definite(ErrRefused, nil, "the account that signed in at %s reaches no site", p.Provider)
	}
	chosen := -1
	switch {
	case p.Site.Wanted != "":
		if chosen = slices.IndexFunc(sites, func(site oauth.Site) bool { return isSite(site, p.Site.Wanted) }); chosen < 0 {
			return definite(ErrRefused, nil, "the account reaches no site %q at %s, but %s", oauth.Clean(p.Site.Wanted), p.Provider, siteNames(sites))
		}
	case cur != nil:
		chosen = slices.IndexFunc(sites, func(site oauth.Site) bool { return hasSite(cur.Body.Kept, site) })
	}
	if chosen < 0 {
		chosen = 0
		if len(sites) > 1 {
			s.warn("the account reaches several sites (%s); %s was taken. 'apiauth connect %s --site NAME' takes another",
				siteNames(sites), siteName(sites[0]), next.Name)
		}
	}
	if next.Body.Kept == nil {
		next.Body.Kept = map[string]string{}
	}
	maps.Copy(next.Body.Kept, sites[chosen].Kept)
	return nil
}

// isSite reports whether a person means this site: by its name in any case, or by
// one of its fields exactly.
func isSite(site oauth.Site, wanted string) bool {
	if strings.EqualFold(site.Label, wanted) {
		return true
	}
	for _, value := range site.Kept {
		if value == wanted {
			return true
		}
	}
	return false
}

// hasSite reports whether kept fields are those of a site.
func hasSite(kept map[string]string, site oauth.Site) bool {
	for name, value := range site.Kept {
		if kept[name] != value {
			return false
		}
	}
	return len(site.Kept) > 0
}

func siteName(site oauth.Site) string {
	if site.Label != "" {
		return site.Label
	}
	values := slices.Sorted(maps.Values(site.Kept))
	if len(values) == 0 {
		return "an unnamed one"
	}
	return oauth.Clean(values[0])
}

// siteNames lists the names of a few sites.
func siteNames(sites []oauth.Site) string {
	const most = 10
	var names []string
	for i, site := range sites {
		if i == most {
			names = append(names, "…")
			break
		}
		names = append(names, siteName(site))
	}
	return strings.Join(names, ", ")
}
