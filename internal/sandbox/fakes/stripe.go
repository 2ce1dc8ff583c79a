package fakes

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// StripeConnect holds the rules of connect.stripe.com with a test key: exact
// redirects (http is fine in test mode); the platform's sk_test_ key is the
// secret, in the body or as the user name of Basic; the account id stands in
// the answer; access tokens do not expire; a code that comes twice revokes what
// it led to; deauthorize ends an account.
func StripeConnect(t testing.TB) *Fake {
	f := newFake(t, "stripe", "https://connect.stripe.com", "https://api.stripe.com")
	f.ClientID = "ca_" + random(32)
	f.ClientSecret = secret.New("sk_test_" + random(99))
	_ = f.Register("http://localhost:8914/callback/stripe")

	f.on("GET connect.stripe.com/oauth/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		if !q.Has("redirect_uri") {
			q.Set("redirect_uri", f.redirects[0])
		}
		if !q.Has("scope") {
			q.Set("scope", "read_only")
		}
		scopes := splitScopes(q.Get("scope"), " ")
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusBadRequest, "No application matches the supplied client identifier")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusBadRequest, "Invalid redirect URI")
		case q.Get("response_type") != "code":
			c.back(q, url.Values{"error": {"unsupported_response_type"}, "error_description": {"The response_type must be code"}})
		case len(scopes) != 1 || unknown(scopes, "read_only", "read_write") != "":
			c.back(q, url.Values{"error": {"invalid_scope"}, "error_description": {"An invalid scope was provided"}})
		default:
			c.authorize(q, scopes, nil, nil)
		}
	})

	// key is the platform's authentication: body, Bearer, or Basic user name.
	key := func(c *call) bool {
		given := c.form.Get("client_secret")
		if u, p, ok := c.basic(); ok {
			given = u
			if p != "" {
				given = ""
			}
		} else if token, ok := strings.CutPrefix(c.r.Header.Get("Authorization"), "Bearer "); ok {
			given = token
		}
		switch {
		case given == "":
			c.refuse(http.StatusUnauthorized, "invalid_client", "No API key was provided")
		case !secret.New(given).Equal(f.ClientSecret):
			c.refuse(http.StatusUnauthorized, "invalid_client", "Invalid API Key provided")
		default:
			return true
		}
		return false
	}
	answer := func(c *call, g *grant, refreshToken string) {
		c.json(http.StatusOK, map[string]any{
			"access_token": f.newAccess(g, "sk_test_"+random(99), 0), "livemode": g.live, "refresh_token": refreshToken, "token_type": "bearer",
			"stripe_publishable_key": "pk_test_" + random(99), "stripe_user_id": "acct_" + g.person.ID, "scope": strings.Join(g.scopes, " "),
		})
	}
	f.on("POST connect.stripe.com/oauth/token", func(c *call) {
		f.stats.TokenRequests++
		if !key(c) {
			return
		}
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), 5*time.Minute)
			switch state {
			case codeUsed:
				k.grant.dead = true
				f.stats.Reuse++
				c.refuse(http.StatusBadRequest, "invalid_grant", "This authorization code has already been used. All tokens issued with this code have been revoked.")
			case codeExpired:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Authorization code expired")
			case codeUnknown:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Authorization code does not exist")
			default:
				f.stats.Exchanges++
				answer(c, k.grant, f.newRefresh(k.grant, "rt_"+random(32)))
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			if r == nil || r.dead || r.grant.dead {
				c.refuse(http.StatusBadRequest, "invalid_grant", "This refresh token does not exist or was revoked")
				return
			}
			f.stats.Refreshes++
			answer(c, r.grant, c.form.Get("refresh_token"))
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "This grant type is not supported")
		}
	})
	f.on("POST connect.stripe.com/oauth/deauthorize", func(c *call) {
		if !key(c) {
			return
		}
		if c.form.Get("client_id") != f.ClientID {
			c.refuse(http.StatusUnauthorized, "invalid_client", "No application matches the supplied client identifier")
			return
		}
		found := false
		for _, r := range f.refresh {
			if !r.grant.dead && "acct_"+r.grant.person.ID == c.form.Get("stripe_user_id") {
				r.grant.dead, found = true, true
			}
		}
		if !found {
			c.refuse(http.StatusUnauthorized, "invalid_client", "This application is not connected to that account, or the account does not exist.")
			return
		}
		f.stats.Revocations++
		c.json(http.StatusOK, map[string]any{"stripe_user_id": c.form.Get("stripe_user_id")})
	})
	f.on("GET api.stripe.com/v1/account", func(c *call) {
		// Stripe takes the key as the user name of Basic as well.
		if u, _, ok := c.basic(); ok {
			c.r.Header.Set("Authorization", "Bearer "+u)
		}
		a := c.bearer()
		if a == nil {
			c.json(http.StatusUnauthorized, map[string]any{"error": map[string]any{"type": "invalid_request_error", "message": "Invalid API Key provided"}})
			return
		}
		c.json(http.StatusOK, map[string]any{"id": "acct_" + a.grant.person.ID, "object": "account", "email": a.grant.person.Email})
	})

	f.define(`
name: Stripe
authorization_endpoint: %URL%/connect.stripe.com/oauth/authorize
token_endpoint: %URL%/connect.stripe.com/oauth/token
revocation_endpoint: %URL%/connect.stripe.com/oauth/deauthorize
token_endpoint_auth_method: client_secret_post
pkce: none
flows: [browser]
redirect_uri: http://localhost:8914/callback/stripe
scopes:
  separator: " "
  default: [read_write]
token:
  expires_in: never
  type: bearer
  rotates: never
  keep: [stripe_user_id, livemode]
identity: {from: token, subject: stripe_user_id, label: stripe_user_id}
api:
  base_url: %URL%/api.stripe.com/v1
  hosts: ["%HOST%"]
env: STRIPE_ACCESS_TOKEN
placeholder: sk_test_{99}
revocation: {style: stripe-connect}
`)
	return f
}
