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

// Box holds the rules of account.box.com: any port on loopback redirects,
// localhost included; client id and secret in the body; codes live 30 s;
// answers name no scope; refresh tokens live 60 days and work once; revoking
// either token takes the pair.
func Box(t testing.TB) *Fake {
	f := newFake(t, "box", "https://account.box.com", "https://api.box.com")
	f.ClientID = strings.ToLower(random(32))
	f.ClientSecret = secret.New(random(32))
	f.mayRegister = func(u *url.URL) string {
		if u.Scheme == "http" && u.Hostname() != "localhost" && !isLoopbackIP(u.Hostname()) {
			return "the redirect URI must use https"
		}
		return ""
	}
	f.matches = func(registered, given string) bool {
		return registered == given || anyPort(registered, given, func(h string) bool { return h == "localhost" || isLoopbackIP(h) })
	}
	_ = f.Register("http://127.0.0.1/callback/box")
	known := []string{"root_readonly", "root_readwrite", "manage_managed_users", "manage_groups", "manage_webhook", "manage_enterprise_properties"}

	f.on("GET account.box.com/api/oauth2/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		if !q.Has("redirect_uri") && len(f.redirects) == 1 {
			q.Set("redirect_uri", f.redirects[0])
		}
		scopes := splitScopes(q.Get("scope"), " ")
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusBadRequest, "The client_id is invalid")
		case !q.Has("redirect_uri"):
			c.page(http.StatusBadRequest, "redirect_uri_missing")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusBadRequest, "redirect_uri_mismatch")
		case q.Get("response_type") != "code":
			c.back(q, url.Values{"error": {"unsupported_response_type"}})
		case unknown(scopes, known...) != "":
			c.back(q, url.Values{"error": {"invalid_scope"}, "error_description": {"An invalid scope was requested"}})
		default:
			if len(scopes) == 0 {
				scopes = slices.Clone(known)
			}
			c.authorize(q, scopes, nil, nil)
		}
	})

	answer := func(c *call, g *grant) {
		c.json(http.StatusOK, map[string]any{
			"access_token": f.newAccess(g, random(32), 4140*time.Second), "expires_in": 4140, "restricted_to": []any{},
			"refresh_token": f.newRefresh(g, random(64)), "token_type": "bearer",
		})
	}
	client := func(c *call) bool {
		if c.inBody() {
			return true
		}
		c.refuse(http.StatusBadRequest, "invalid_client", "The client credentials are invalid")
		return false
	}
	f.on("POST api.box.com/oauth2/token", func(c *call) {
		f.stats.TokenRequests++
		if !client(c) {
			return
		}
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), 30*time.Second)
			switch {
			case state == codeExpired:
				c.refuse(http.StatusBadRequest, "invalid_grant", "The authorization code has expired")
			case state != codeGood:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Auth code doesn't exist or is invalid for the client")
			default:
				f.stats.Exchanges++
				answer(c, k.grant)
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			switch {
			case r == nil:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid refresh token")
			case r.dead || r.grant.dead || f.now().Sub(r.made) > 60*24*time.Hour:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Refresh token has expired")
			default:
				r.dead = true
				f.stats.Refreshes++
				f.stats.Rotations++
				answer(c, r.grant)
			}
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant type")
		}
	})
	f.on("POST api.box.com/oauth2/revoke", func(c *call) {
		if !client(c) {
			return
		}
		if r := f.refresh[c.form.Get("token")]; r != nil {
			r.grant.dead = true
		} else if a := f.access[c.form.Get("token")]; a != nil {
			a.grant.dead = true
		} else {
			c.refuse(http.StatusBadRequest, "invalid_token", "Invalid token")
			return
		}
		f.stats.Revocations++
		c.w.WriteHeader(http.StatusOK)
	})
	f.on("GET api.box.com/2.0/users/me", func(c *call) {
		a := c.bearer()
		if a == nil {
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="Service", error="invalid_token", error_description="The access token provided is invalid."`)
			c.w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.json(http.StatusOK, map[string]any{"type": "user", "id": a.grant.person.ID, "name": a.grant.person.Name, "login": a.grant.person.Email})
	})

	f.define(`
name: Box
authorization_endpoint: %URL%/account.box.com/api/oauth2/authorize
token_endpoint: %URL%/api.box.com/oauth2/token
revocation_endpoint: %URL%/api.box.com/oauth2/revoke
userinfo_endpoint: %URL%/api.box.com/2.0/users/me
token_endpoint_auth_method: client_secret_post
pkce: none
flows: [browser]
redirect_uri: http://127.0.0.1:*/callback/box
scopes:
  separator: " "
token:
  expires_in: 3600
  type: bearer
  rotates: always
  refresh_lifetime: 1440h
identity: {subject: id, label: login}
api:
  base_url: %URL%/api.box.com/2.0
  hosts: ["%HOST%"]
env: BOX_ACCESS_TOKEN
placeholder: "{32}"
revocation: {style: request, auth: client_secret_post}
`)
	return f
}
