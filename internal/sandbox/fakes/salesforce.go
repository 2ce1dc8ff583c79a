package fakes

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Salesforce holds the rules of an External Client App with its default
// switches: exact redirect with its port (http only for localhost), PKCE
// required, secret required, no expires_in, instance_url and id in the answer,
// refresh tokens only with refresh_token or offline_access, rotation whose
// reuse ends the grant and its access tokens. The API is served at the fake's
// origin, which is also the instance_url.
func Salesforce(t testing.TB) *Fake {
	f := newFake(t, "salesforce", "https://login.salesforce.com", "https://{domain}", "https://{login}")
	f.ClientID = "3MVG9" + random(80)
	f.ClientSecret = secret.New(strings.ToUpper(random(64)))
	f.mayRegister = func(u *url.URL) string {
		if u.Scheme == "http" && u.Hostname() != "localhost" {
			return "the callback URL must use https, or http on localhost"
		}
		return ""
	}
	_ = f.Register("http://localhost:8914/callback/salesforce")
	// One organisation, under whatever name the definition calls its host.
	for _, host := range []string{"login.salesforce.com", "domain", "login"} {
		f.salesforceLogin(host)
	}

	f.on("GET id/00D000000000001/{user}", func(c *call) {
		a := c.bearer()
		if a == nil {
			c.w.WriteHeader(http.StatusForbidden)
			_, _ = c.w.Write([]byte("Bad_OAuth_Token"))
			return
		}
		p := a.grant.person
		c.json(http.StatusOK, map[string]any{
			"id": salesforceID(f, p), "user_id": "005" + p.ID, "organization_id": "00D000000000001", "username": p.Email, "display_name": p.Name, "email": p.Email,
		})
	})
	f.on("GET services/data/{rest...}", func(c *call) {
		if c.bearer() == nil {
			c.json(http.StatusUnauthorized, []map[string]any{{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}})
			return
		}
		c.json(http.StatusOK, map[string]any{"totalSize": 0, "done": true, "records": []any{}})
	})

	f.define(`
name: Salesforce
authorization_endpoint: %URL%/login.salesforce.com/services/oauth2/authorize
token_endpoint: %URL%/login.salesforce.com/services/oauth2/token
revocation_endpoint: %URL%/login.salesforce.com/services/oauth2/revoke
introspection_endpoint: %URL%/login.salesforce.com/services/oauth2/introspect
userinfo_endpoint: %URL%/login.salesforce.com/services/oauth2/userinfo
token_endpoint_auth_method: client_secret_post
pkce: S256
flows: [browser]
redirect_uri: http://localhost:8914/callback/salesforce
scopes:
  separator: " "
  default: [api, refresh_token, openid]
token:
  expires_in: 7200
  type: bearer
  rotates: sometimes
  keep: [instance_url]
identity: {subject: user_id, label: preferred_username}
api:
  base_url: %URL%/services/data
  hosts: ["%HOST%"]
env: SALESFORCE_ACCESS_TOKEN
revocation: {style: rfc7009}
`)
	return f
}

func salesforceID(f *Fake, p person) string { return f.URL + "/id/00D000000000001/005" + p.ID }

func (f *Fake) salesforceLogin(host string) {
	base := host + "/services/oauth2"
	known := strings.Fields("api refresh_token offline_access full web visualforce chatter_api id profile email address phone openid custom_permissions wave_api eclair_api content lightning pardot_api")

	f.on("GET "+base+"/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		scopes := splitScopes(q.Get("scope"), " ")
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusBadRequest, "invalid_client_id: client identifier invalid")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusBadRequest, "redirect_uri_mismatch: redirect_uri must match configuration")
		case q.Get("response_type") != "code":
			c.back(q, url.Values{"error": {"unsupported_response_type"}, "error_description": {"response type not supported"}})
		case q.Get("code_challenge") == "":
			c.back(q, url.Values{"error": {"invalid_request"}, "error_description": {"missing required code challenge"}})
		case q.Has("code_challenge_method") && q.Get("code_challenge_method") != "S256":
			c.back(q, url.Values{"error": {"invalid_request"}, "error_description": {"invalid code challenge method"}})
		case unknown(scopes, known...) != "":
			c.back(q, url.Values{"error": {"invalid_scope"}, "error_description": {"the requested scope is invalid, unknown, or malformed"}})
		default:
			c.authorize(q, scopes, func(g *grant) {
				g.offline = slices.Contains(scopes, "refresh_token") || slices.Contains(scopes, "offline_access")
			}, nil)
		}
	})

	answer := func(c *call, g *grant) {
		a := map[string]any{
			"access_token": f.newAccess(g, "00D000000000001!"+random(80)+"."+random(12), 2*time.Hour), "instance_url": f.URL,
			"id": salesforceID(f, g.person), "token_type": "Bearer", "issued_at": strconv.FormatInt(f.now().UnixMilli(), 10),
			"signature": random(43) + "=", "scope": strings.Join(g.scopes, " "),
		}
		if g.offline {
			a["refresh_token"] = f.newRefresh(g, "5Aep861"+random(80))
		}
		c.json(http.StatusOK, a)
	}
	f.on("POST "+base+"/token", func(c *call) {
		f.stats.TokenRequests++
		if id, _, ok := c.basic(); (ok && id != f.ClientID) || (!ok && c.form.Get("client_id") != f.ClientID) {
			c.refuse(http.StatusBadRequest, "invalid_client_id", "client identifier invalid")
			return
		}
		if !c.inBody() && !c.inBasic() {
			c.refuse(http.StatusBadRequest, "invalid_client", "invalid client credentials")
			return
		}
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), 15*time.Minute)
			switch {
			case state == codeExpired || state == codeUsed:
				c.refuse(http.StatusBadRequest, "invalid_grant", "expired authorization code")
			case state != codeGood:
				c.refuse(http.StatusBadRequest, "invalid_grant", "invalid authorization code")
			case c.form.Get("redirect_uri") != k.redirect:
				c.refuse(http.StatusBadRequest, "redirect_uri_mismatch", "redirect_uri must match configuration")
			case !c.form.Has("code_verifier"):
				c.refuse(http.StatusBadRequest, "invalid_request", "missing required code verifier")
			case !k.pkceOK(c.form.Get("code_verifier")):
				c.refuse(http.StatusBadRequest, "invalid_grant", "invalid code verifier")
			default:
				f.stats.Exchanges++
				answer(c, k.grant)
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			if r != nil && r.dead && !r.grant.dead {
				r.grant.dead = true // the current refresh token and all access tokens
				f.stats.Reuse++
			}
			if r == nil || r.grant.dead {
				c.refuse(http.StatusBadRequest, "invalid_grant", "expired access/refresh token")
				return
			}
			r.dead = true
			f.stats.Refreshes++
			f.stats.Rotations++
			answer(c, r.grant)
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "grant type not supported")
		}
	})
	f.on("POST "+base+"/revoke", func(c *call) {
		if r := f.refresh[c.form.Get("token")]; r != nil && !r.dead && !r.grant.dead {
			r.grant.dead = true
		} else if a := f.access[c.form.Get("token")]; a != nil && f.live(a) {
			a.dead = true
		} else {
			c.refuse(http.StatusBadRequest, "invalid_token", "invalid token: unknown")
			return
		}
		f.stats.Revocations++
		c.w.WriteHeader(http.StatusOK)
	})
	f.on("POST "+base+"/introspect", func(c *call) {
		if !c.inBody() && !c.inBasic() {
			c.refuse(http.StatusUnauthorized, "invalid_client", "invalid client credentials")
			return
		}
		a := f.access[c.form.Get("token")]
		if a == nil || !f.live(a) {
			c.json(http.StatusOK, map[string]any{"active": false})
			return
		}
		c.json(http.StatusOK, map[string]any{"active": true, "exp": a.expires.Unix(), "scope": strings.Join(a.grant.scopes, " "), "client_id": f.ClientID, "token_type": "access_token"})
	})
	f.on("GET "+base+"/userinfo", func(c *call) {
		a := c.bearer()
		if a == nil || !slices.Contains(a.grant.scopes, "openid") {
			c.w.WriteHeader(http.StatusForbidden)
			_, _ = c.w.Write([]byte("Bad_OAuth_Token"))
			return
		}
		p := a.grant.person
		c.json(http.StatusOK, map[string]any{
			"sub": salesforceID(f, p), "user_id": "005" + p.ID, "organization_id": "00D000000000001",
			"preferred_username": p.Email, "name": p.Name, "email": p.Email,
		})
	})
}
