package providers_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// TestEveryQuirkHasAnEntry: quirks are in the schema because providers have them.
// How apiauth behaves then is seen in the room sandbox/fakes. What issuers that
// are not in the catalogue want (pushed requests, resources, the implicit grant)
// is not in this list.
func TestEveryQuirkHasAnEntry(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	type entry = *providers.Provider
	from := func(what string) func(entry) bool {
		return func(p entry) bool {
			return slices.ContainsFunc(p.Variables, func(v providers.Variable) bool { return v.From == what })
		}
	}
	redirect := func(ok func(string) bool) func(entry) bool {
		return func(p entry) bool { return slices.Contains(p.Flows, "browser") && ok(p.RedirectURI) }
	}
	method := func(name string) func(entry) bool {
		return func(p entry) bool { return p.TokenEndpointAuthMethod == name }
	}
	quirks := []struct {
		name string
		has  func(entry) bool
	}{
		{"commas between scopes", func(p entry) bool { return p.Scopes.Separator == "," }},
		{"another separator", func(p entry) bool { return !strings.Contains(" ,", p.Scopes.Separator) }},
		{"two scope parameters", func(p entry) bool { return p.Scopes.Second.Param != "" }},
		{"no scope parameter", func(p entry) bool { return p.Scopes.Omit && !slices.Contains(p.Flows, "key") }},
		{"client in the header", method("client_secret_basic")},
		{"client in the body", method("client_secret_post")},
		{"public client", method("none")},
		{"a client that signs", func(p entry) bool {
			return slices.Contains(p.Flows, "jwt-bearer") || p.TokenEndpointAuthMethod == "private_key_jwt"
		}},
		{"secret as the user name", method("secret_as_username")},
		{"JSON requests", func(p entry) bool { return p.Token.Request == "json" }},
		{"GET requests", func(p entry) bool { return p.Token.Request == "get" }},
		{"parameters of the authorization request", func(p entry) bool { return len(p.Authorize) > 0 }},
		{"parameters of token requests", func(p entry) bool {
			return len(p.Token.Params)+len(p.Token.ExchangeParams)+len(p.Token.RefreshParams) > 0
		}},
		{"nested answers", func(p entry) bool { return p.Token.Inside != "" }},
		{"renamed fields of answers", func(p entry) bool { return len(p.Token.Fields) > 0 }},
		{"errors of other names", func(p entry) bool { return len(p.Token.ErrorCodes) > 0 }},
		{"another separator in answers", func(p entry) bool { return p.Token.ScopeSeparator != "" }},
		{"no expiry in answers", func(p entry) bool { return p.Token.ExpiresIn != "" && p.Token.ExpiresIn != "never" }},
		{"tokens without an end", func(p entry) bool { return p.Token.ExpiresIn == "never" && !slices.Contains(p.Flows, "key") }},
		{"an expiry under another name", func(p entry) bool { return p.Token.Fields["expires_at"] != "" || p.Token.Fields["expires_in"] != "" }},
		{"another token type", func(p entry) bool { return p.Token.Type != "" && p.Token.Type != "bearer" }},
		{"an address for refreshes", func(p entry) bool { return p.RefreshEndpoint != "" }},
		{"short-lived tokens that are exchanged", func(p entry) bool { return p.Token.Upgrade.Endpoint != "" }},
		{"tokens that renew themselves", func(p entry) bool { return p.Token.Renewal.Credential == "access_token" }},
		{"narrower tokens by exchange", func(p entry) bool { return len(p.TokenExchange.Scopes) > 0 }},
		{"a name in place of the redirect", func(p entry) bool { return p.RedirectName != "" }},
		{"fields of the login again in the exchange", func(p entry) bool { return len(p.Token.ExchangeSends) > 0 }},
		{"fields of the login again in refreshes", func(p entry) bool { return len(p.Token.RefreshSends) > 0 }},
		{"a refresh only after the end", func(p entry) bool { return p.Token.Renewal.AfterEnd }},
		{"a token type of several words", func(p entry) bool { return strings.Contains(p.Token.Type, " ") }},
		{"the client's id in API calls", func(p entry) bool {
			return strings.Contains(strings.Join(slices.Collect(maps.Values(p.API.Headers)), " "), "{client_id}")
		}},
		{"regions in other domains", func(p entry) bool {
			return slices.ContainsFunc(p.Variables, func(v providers.Variable) bool {
				ends := map[string]bool{}
				for _, value := range v.Values {
					labels := strings.Split(value, ".")
					ends[strings.Join(labels[max(0, len(labels)-2):], ".")] = true
				}
				host, _, _ := strings.Cut(strings.TrimPrefix(p.API.BaseURL+"/", "https://"), "/")
				return len(ends) > 1 && strings.HasSuffix(host, "{"+v.Name+"}")
			})
		}},
		{"fields of the callback to keep", func(p entry) bool { return len(p.CallbackKeep) > 0 }},
		{"fields of the answer to keep", func(p entry) bool { return len(p.Token.Keep)+len(p.Token.KeepAs) > 0 }},
		{"an API host from the answer", from(providers.FromToken)},
		{"a part of addresses from the callback", from(providers.FromCallback)},
		{"a second call for the site", func(p entry) bool { return p.Site.Endpoint != "" }},
		{"tenants and regions", func(p entry) bool {
			return slices.ContainsFunc(p.Variables, func(v providers.Variable) bool { return v.From == "" || v.From == providers.FromUser })
		}},
		{"servers of one's own", func(p entry) bool {
			return slices.ContainsFunc(p.Variables, func(v providers.Variable) bool { return v.Host })
		}},
		{"another header than Authorization", func(p entry) bool { return p.API.Auth.In == "header" && p.API.Auth.Name != "Authorization" }},
		{"another word than Bearer", func(p entry) bool { return p.API.Auth.Name == "Authorization" && p.API.Auth.Prefix != "Bearer " }},
		{"the token in the query", func(p entry) bool { return p.API.Auth.In == "query" }},
		{"headers of API requests", func(p entry) bool { return len(p.API.Headers) > 0 }},
		{"a User-Agent of its own", func(p entry) bool { return p.API.Headers["User-Agent"] != "" }},
		{"a client id of another name", func(p entry) bool { return p.AuthorizeRename["client_id"] != "" }},
		{"a code of another name", func(p entry) bool { return p.CodeParam != "" && p.CodeParam != "code" }},
		{"https redirects only", redirect(func(u string) bool { return strings.HasPrefix(u, "https:") })},
		{"localhost and not 127.0.0.1", redirect(func(u string) bool { return strings.HasPrefix(u, "http://localhost") })},
		{"127.0.0.1 and not localhost", redirect(func(u string) bool { return strings.HasPrefix(u, "http://127.0.0.1") })},
		{"a fixed port", redirect(func(u string) bool { return strings.HasPrefix(u, "http://") && !strings.Contains(u, ":*") })},
		{"any free port", redirect(func(u string) bool { return strings.Contains(u, ":*") })},
		{"revocation with the token itself", func(p entry) bool { return p.Revocation.Auth == providers.AuthBearer }},
		{"revocation by DELETE", func(p entry) bool { return p.Revocation.Method == "DELETE" }},
		{"revocation by GET", func(p entry) bool { return p.Revocation.Method == "GET" }},
		{"revocation as JSON", func(p entry) bool { return p.Revocation.Request == "json" }},
		{"revocation in the query of a POST", func(p entry) bool { return p.Revocation.Request == "query" && p.Revocation.Method == "" }},
		{"revocation with another client authentication", func(p entry) bool {
			return p.Revocation.Auth == "client_secret_basic" && p.TokenEndpointAuthMethod == "client_secret_post"
		}},
		{"revocation with names of its own", func(p entry) bool { return len(p.Revocation.Rename) > 0 }},
		{"revocation with a grant type of its own", func(p entry) bool { return p.Revocation.Params["grant_type"] != "" }},
		{"revocation by the access token only", func(p entry) bool { return p.Revocation.Token == providers.TokenAccess }},
		{"identity by GraphQL", func(p entry) bool { return p.Identity.Query != "" }},
		{"a consent that ends", func(p entry) bool { return p.Token.GrantLifetime != 0 }},
	}
	for _, quirk := range quirks {
		var who []string
		for _, d := range list {
			if quirk.has(d.Provider) {
				who = append(who, d.ID)
			}
		}
		if len(who) == 0 {
			t.Errorf("%s: no entry of the catalogue", quirk.name)
		}
		t.Logf("%s: %d, such as %q", quirk.name, len(who), who[:min(3, len(who))])
	}
}
