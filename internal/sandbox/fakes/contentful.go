package fakes

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Contentful holds the rules of be.contentful.com for a confidential app:
// redirects over https only (so that a person pastes the final URL), client id
// and secret in the body, no PKCE, no refresh token, answers without a scope,
// tokens that are listed and revoked through the API by id. The implicit flow
// of its documentation works too.
func Contentful(t testing.TB) *Fake {
	f := newFake(t, "contentful", "https://be.contentful.com", "https://api.contentful.com")
	f.ClientID = strings.ToLower(random(64))
	f.ClientSecret = secret.New(strings.ToLower(random(64)))
	f.mayRegister = func(u *url.URL) string {
		if u.Scheme != "https" {
			return "the redirect URI must be an HTTPS URL"
		}
		return ""
	}
	_ = f.Register("https://localhost/callback/contentful")

	f.on("GET be.contentful.com/oauth/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		scopes := splitScopes(q.Get("scope"), " ")
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusUnauthorized, "Client authentication failed due to unknown client")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusUnauthorized, "The redirect uri included is not valid.")
		case len(scopes) == 0 || unknown(scopes, "content_management_read", "content_management_manage") != "":
			c.back(q, url.Values{"error": {"invalid_scope"}, "error_description": {"The requested scope is invalid, unknown, or malformed."}})
		case q.Get("response_type") == "token" && !f.deny:
			g := &grant{client: f.ClientID, person: f.person, scopes: scopes, consent: f.now()}
			v := url.Values{"access_token": {f.newAccess(g, strings.ToLower(random(64)), 0)}, "token_type": {"Bearer"}}
			if q.Has("state") {
				v.Set("state", q.Get("state"))
			}
			http.Redirect(c.w, c.r, q.Get("redirect_uri")+"#"+v.Encode(), http.StatusFound)
		case q.Get("response_type") != "code" && q.Get("response_type") != "token":
			c.back(q, url.Values{"error": {"unsupported_response_type"}, "error_description": {"The authorization server does not support this response type."}})
		default:
			c.authorize(q, scopes, nil, nil)
		}
	})

	f.on("POST be.contentful.com/oauth/token", func(c *call) {
		f.stats.TokenRequests++
		if !c.inBody() {
			c.refuse(http.StatusUnauthorized, "invalid_client", "Client authentication failed due to unknown client, no client authentication included, or unsupported authentication method.")
			return
		}
		if c.form.Get("grant_type") != "authorization_code" {
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "The authorization grant type is not supported by the authorization server.")
			return
		}
		k, state := f.take(c.form.Get("code"), 10*time.Minute)
		if state != codeGood || c.form.Get("redirect_uri") != k.redirect {
			c.refuse(http.StatusBadRequest, "invalid_grant", "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client.")
			return
		}
		f.stats.Exchanges++
		c.json(http.StatusOK, map[string]any{"access_token": f.newAccess(k.grant, strings.ToLower(random(64)), 0), "token_type": "Bearer", "created_at": f.now().Unix()})
	})

	fail := func(c *call, status int, id, text string) {
		c.w.Header().Set("Content-Type", "application/vnd.contentful.management.v1+json")
		c.json(status, map[string]any{"sys": map[string]any{"type": "Error", "id": id}, "message": text, "requestId": random(22)})
	}
	f.on("GET api.contentful.com/users/me", func(c *call) {
		a := c.bearer()
		if a == nil {
			fail(c, http.StatusUnauthorized, "AccessTokenInvalid", "The access token you sent could not be found or is invalid.")
			return
		}
		c.json(http.StatusOK, map[string]any{"sys": map[string]any{"type": "User", "id": "u" + a.grant.person.ID}, "firstName": a.grant.person.Name, "email": a.grant.person.Email})
	})
	f.on("GET api.contentful.com/users/me/access_tokens", func(c *call) {
		a := c.bearer()
		if a == nil {
			fail(c, http.StatusUnauthorized, "AccessTokenInvalid", "The access token you sent could not be found or is invalid.")
			return
		}
		items := []map[string]any{}
		for value, o := range f.access {
			if o.grant.person.ID != a.grant.person.ID {
				continue
			}
			item := map[string]any{
				"sys":       map[string]any{"type": "AccessToken", "id": o.id, "redactedValue": value[len(value)-4:], "createdAt": o.made.UTC().Format(time.RFC3339), "application": map[string]any{"sys": map[string]any{"id": f.ClientID}}},
				"name":      "OAuth",
				"revokedAt": nil,
			}
			if o.dead {
				item["revokedAt"] = f.now().UTC().Format(time.RFC3339)
			}
			items = append(items, item)
		}
		slices.SortFunc(items, func(x, y map[string]any) int {
			return strings.Compare(x["sys"].(map[string]any)["id"].(string), y["sys"].(map[string]any)["id"].(string))
		})
		c.json(http.StatusOK, map[string]any{"sys": map[string]any{"type": "Array"}, "total": len(items), "items": items})
	})
	f.on("PUT api.contentful.com/users/me/access_tokens/{id}/revoked", func(c *call) {
		a := c.bearer()
		if a == nil {
			fail(c, http.StatusUnauthorized, "AccessTokenInvalid", "The access token you sent could not be found or is invalid.")
			return
		}
		for _, o := range f.access {
			if o.id == c.r.PathValue("id") && o.grant.person.ID == a.grant.person.ID {
				o.dead = true
				f.stats.Revocations++
				c.json(http.StatusOK, map[string]any{"sys": map[string]any{"type": "AccessToken", "id": o.id}, "revokedAt": f.now().UTC().Format(time.RFC3339)})
				return
			}
		}
		fail(c, http.StatusNotFound, "NotFound", "The resource could not be found.")
	})

	f.define(`
name: Contentful
authorization_endpoint: %URL%/be.contentful.com/oauth/authorize
token_endpoint: %URL%/be.contentful.com/oauth/token
revocation_endpoint: %URL%/api.contentful.com
userinfo_endpoint: %URL%/api.contentful.com/users/me
token_endpoint_auth_method: client_secret_post
pkce: none
flows: [browser]
redirect_uri: https://localhost/callback/contentful
scopes:
  separator: " "
  default: [content_management_read]
token:
  expires_in: never
  type: bearer
  rotates: never
identity: {subject: sys.id, label: email}
api:
  base_url: %URL%/api.contentful.com
  hosts: ["%HOST%"]
  headers: {Content-Type: application/vnd.contentful.management.v1+json}
env: CONTENTFUL_ACCESS_TOKEN
revocation: {style: contentful}
`)
	return f
}
