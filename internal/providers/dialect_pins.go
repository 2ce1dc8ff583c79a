package providers

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

func (u Upgrade) pin(values map[string]string) *UpgradePin {
	if u.Endpoint == "" {
		return nil
	}
	return &UpgradePin{Endpoint: expand(u.Endpoint, values), Request: cmp.Or(u.Request, RequestGet), GrantType: u.GrantType, Param: u.Param}
}

// String says where a login's access token is sent, and how.
func (u *UpgradePin) String() string {
	if u == nil {
		return ""
	}
	return u.Endpoint + " (" + u.Request + ", " + u.GrantType + ")"
}

func (r Renewal) pin() *RenewalPin {
	if r == (Renewal{}) {
		return nil
	}
	return &RenewalPin{
		GrantType:  cmp.Or(r.GrantType, "refresh_token"),
		Param:      cmp.Or(r.Param, "refresh_token"),
		Request:    r.Request,
		SelfRenews: r.Credential == CredentialAccess,
		OmitClient: r.OmitClient,
		Before:     int64(r.Before.Seconds()),
		AfterEnd:   r.AfterEnd,
	}
}

// String says what a renewal sends. When it is sent is no part of it.
func (r *RenewalPin) String() string {
	if r == nil {
		return ""
	}
	words := []string{r.GrantType, "in", r.Param}
	if r.Request != "" {
		words = append(words, "by", r.Request)
	}
	if r.SelfRenews {
		words = append(words, "with the access token")
	}
	if r.OmitClient {
		words = append(words, "without the client")
	}
	return strings.Join(words, " ")
}

func (j JWTBearer) pin(values map[string]string, subject, tokenEndpoint string) *JWTBearerPin {
	const usual = 3 * time.Minute
	return &JWTBearerPin{
		Audience: cmp.Or(expand(j.Audience, values), tokenEndpoint),
		Subject:  subject,
		InClaim:  j.Scope == "claim",
		NoScope:  j.Scope == "none",
		Claims:   maps.Clone(j.Claims),
		Lifetime: int64(cmp.Or(j.Lifetime, usual).Seconds()),
	}
}

// String says for whom an assertion is made. The subject is not compared: the
// connection has its own.
func (j *JWTBearerPin) String() string {
	if j == nil {
		return ""
	}
	return "assertions for " + j.Audience
}

func (x TokenExchange) pin() *ExchangePin {
	if len(x.Scopes) == 0 {
		return nil
	}
	return &ExchangePin{Scopes: slices.Clone(x.Scopes), Resources: slices.Clone(x.Resources), Audiences: slices.Clone(x.Audiences), AuthMethod: x.AuthMethod}
}

// String lists what may be asked for.
func (x *ExchangePin) String() string {
	if x == nil {
		return ""
	}
	return strings.Join(slices.Concat(slices.Sorted(slices.Values(x.Scopes)), x.Resources, x.Audiences, []string{x.AuthMethod}), " ")
}

func (s Site) pin(values map[string]string, wanted string) *SitePin {
	if s.Endpoint == "" {
		return nil
	}
	return &SitePin{Endpoint: expand(s.Endpoint, values), List: s.List, Label: s.Label, Keep: maps.Clone(s.Keep), Wanted: wanted}
}

// String is the address that the token is sent to.
func (s *SitePin) String() string {
	if s == nil {
		return ""
	}
	return s.Endpoint
}
