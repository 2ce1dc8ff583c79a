package providers

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Change is one difference that a person has to approve.
type Change struct {
	Field string `json:"field"`
	Was   string `json:"was"`
	Is    string `json:"is"`
}

// Changes lists what differs between the pins of a connection and the pins that
// its definition gives now, of all that decides where a credential goes. Parts
// that BindAPI filled in are compared as the definition has them. An endpoint
// that was not known before is no change: nothing uses it without the pins.
func (p Pins) Changes(now Pins) []Change {
	was, is := p.declared(), now.declared()
	var changes []Change
	compare := func(field, was, is string) {
		if was != is {
			changes = append(changes, Change{Field: field, Was: was, Is: is})
		}
	}
	compareKnown := func(field, was, is string) {
		if was != "" {
			compare(field, was, is)
		}
	}
	compareKnown("authorization_endpoint", p.AuthorizationEndpoint, now.AuthorizationEndpoint)
	compare("token_endpoint", p.TokenEndpoint, now.TokenEndpoint)
	compare("refresh_endpoint", p.RefreshEndpoint, now.RefreshEndpoint)
	compareKnown("device_authorization_endpoint", p.DeviceAuthorizationEndpoint, now.DeviceAuthorizationEndpoint)
	compareKnown("revocation_endpoint", was.RevocationEndpoint, is.RevocationEndpoint)
	compareKnown("introspection_endpoint", was.IntrospectionEndpoint, is.IntrospectionEndpoint)
	compareKnown("userinfo_endpoint", was.UserinfoEndpoint, is.UserinfoEndpoint)
	compareKnown("pushed_authorization_request_endpoint", p.PushedEndpoint, now.PushedEndpoint)
	compare("token_endpoint_auth_method", p.AuthMethod, now.AuthMethod)
	compare("client_assertion_audience", p.AssertionAudience, now.AssertionAudience)
	compare("token.request", cmp.Or(p.Token.Request, RequestForm), cmp.Or(now.Token.Request, RequestForm))
	compareKnown("token.upgrade", p.Token.Upgrade.String(), now.Token.Upgrade.String())
	compareKnown("token.renewal", p.Token.Renewal.String(), now.Token.Renewal.String())
	compareKnown("token.refresh_sends", strings.Join(p.Token.RefreshSends, ", "), strings.Join(now.Token.RefreshSends, ", "))
	compareKnown("redirect_name", p.RedirectName, now.RedirectName)
	compare("jwt_bearer", p.JWTBearer.String(), now.JWTBearer.String())
	compareKnown("token_exchange", p.Exchange.String(), now.Exchange.String())
	compareKnown("identity.query", p.Identity.Query, now.Identity.Query)
	compareKnown("site.endpoint", p.Site.String(), now.Site.String())
	compareKnown("revocation", p.Revocation.String(), now.Revocation.String())
	if p.ClientID != now.ClientID {
		compare("client_id", p.ClientID, now.ClientID)
	} else if p.DefinitionClientID != "" && p.DefinitionClientID == p.ClientID {
		compare("client_id", p.DefinitionClientID, now.DefinitionClientID)
	}
	compare("api.base_url", was.APIBase, is.APIBase)
	compare("api.hosts", strings.Join(slices.Sorted(slices.Values(was.APIHosts)), ", "), strings.Join(slices.Sorted(slices.Values(is.APIHosts)), ", "))
	compare("api.auth", p.APIAuth.String(), now.APIAuth.String())
	compare("api.client_certificate", strconv.FormatBool(p.APICertificate), strconv.FormatBool(now.APICertificate))
	return changes
}

func (p Pins) declared() Declared {
	if p.Declared != nil {
		return *p.Declared
	}
	return Declared{p.APIBase, p.APIHosts, p.UserinfoEndpoint, p.IntrospectionEndpoint, p.RevocationEndpoint}
}
