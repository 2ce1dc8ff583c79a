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

// Keycloak is a self-hosted issuer of the kind companies run: discovery below
// /realms/x, iss in the response, a confidential client (Basic or body), PKCE
// S256 required, refresh tokens that rotate and may be used once, a refresh
// token for ever only with offline_access (refresh_expires_in is 0 then), any
// port on loopback redirects registered without one. Issuer returns its
// identifier.
func Keycloak(t testing.TB) *Fake {
	f := newFake(t, "keycloak", "https://sso.example.com")
	f.ClientID = "apiauth"
	f.ClientSecret = secret.New(random(32))
	f.matches = func(registered, given string) bool {
		if registered == given {
			return true
		}
		reg, err := url.Parse(registered)
		return err == nil && reg.Scheme == "http" && reg.Port() == "" && anyPort(registered, given, func(h string) bool { return h == "localhost" || h == "127.0.0.1" })
	}
	_ = f.Register("http://127.0.0.1/callback/keycloak")
	base := "sso.example.com/realms/x/protocol/openid-connect"
	issuer := KeycloakIssuer(f)
	known := []string{"openid", "profile", "email", "offline_access"}

	metadata := func(c *call) {
		at := f.URL + "/" + base
		c.json(http.StatusOK, map[string]any{
			"issuer": issuer, "authorization_endpoint": at + "/auth", "token_endpoint": at + "/token",
			"device_authorization_endpoint": at + "/auth/device", "revocation_endpoint": at + "/revoke",
			"introspection_endpoint": at + "/token/introspect", "userinfo_endpoint": at + "/userinfo",
			"jwks_uri": at + "/certs", "scopes_supported": known,
			"response_types_supported": []string{"code", "none"}, "grant_types_supported": []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code"},
			"code_challenge_methods_supported":      []string{"plain", "S256"},
			"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
			"subject_types_supported":               []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
			"authorization_response_iss_parameter_supported": true,
		})
	}
	f.on("GET sso.example.com/realms/x/.well-known/openid-configuration", metadata)
	// RFC 8414 puts the well-known part before the path of the issuer.
	f.on("GET .well-known/oauth-authorization-server/sso.example.com/realms/x", metadata)

	f.on("GET "+base+"/auth", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		extra := url.Values{"iss": {issuer}, "session_state": {random(22)}}
		fail := func(code, desc string) {
			extra.Set("error", code)
			extra.Set("error_description", desc)
			c.back(q, extra)
		}
		scopes := splitScopes(q.Get("scope"), " ")
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusBadRequest, "Client not found.")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusBadRequest, "Invalid parameter: redirect_uri")
		case q.Get("response_type") != "code":
			fail("unsupported_response_type", "Unsupported response type")
		case !q.Has("code_challenge_method"):
			fail("invalid_request", "Missing parameter: code_challenge_method")
		case q.Get("code_challenge_method") != "S256":
			fail("invalid_request", "Invalid parameter: code challenge method is not configured one")
		case len(q.Get("code_challenge")) != 43:
			fail("invalid_request", "Invalid parameter: code_challenge")
		case unknown(scopes, known...) != "":
			fail("invalid_scope", "Invalid scopes: "+clip(q.Get("scope")))
		case f.deny:
			fail("access_denied", "User denied consent")
		default:
			c.authorize(q, scopes, func(g *grant) { g.offline = slices.Contains(scopes, "offline_access") }, extra)
		}
	})

	client := func(c *call) bool {
		if c.inBasic() || c.inBody() {
			return true
		}
		c.refuse(http.StatusUnauthorized, "unauthorized_client", "Invalid client or Invalid client credentials")
		return false
	}
	f.on("POST "+base+"/auth/device", func(c *call) {
		if !client(c) {
			return
		}
		dc, uc := random(43), strings.ToUpper(random(4)+"-"+random(4))
		f.devices[dc] = &device{client: f.ClientID, userCode: uc, scopes: splitScopes(c.form.Get("scope"), " "), made: f.now(), interval: 5 * time.Second}
		c.json(http.StatusOK, map[string]any{
			"device_code": dc, "user_code": uc, "verification_uri": f.URL + "/sso.example.com/realms/x/device",
			"verification_uri_complete": f.URL + "/sso.example.com/realms/x/device?user_code=" + uc, "expires_in": 600, "interval": 5,
		})
	})
	f.devicePage("sso.example.com/realms/x/device")

	f.on("POST "+base+"/token", func(c *call) {
		f.stats.TokenRequests++
		if !client(c) {
			return
		}
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), time.Minute)
			switch {
			case state == codeUsed:
				k.grant.dead = true // the user session of the code ends
				f.stats.Reuse++
				c.refuse(http.StatusBadRequest, "invalid_grant", "Code not valid")
			case state != codeGood:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Code not valid")
			case c.form.Get("redirect_uri") != k.redirect:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Incorrect redirect_uri")
			case !c.form.Has("code_verifier"):
				c.refuse(http.StatusBadRequest, "invalid_grant", "PKCE code verifier not specified")
			case !k.pkceOK(c.form.Get("code_verifier")):
				c.refuse(http.StatusBadRequest, "invalid_grant", "PKCE verification failed: Code mismatch")
			default:
				f.stats.Exchanges++
				keycloakToken(c, k.grant)
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			switch {
			case r == nil:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid refresh token")
			case r.grant.dead:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Session not active")
			case r.dead:
				f.stats.Reuse++
				c.refuse(http.StatusBadRequest, "invalid_grant", "Maximum allowed refresh token reuse exceeded")
			case !r.grant.offline && f.now().Sub(r.made) > 30*time.Minute:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Token is not active")
			default:
				r.dead = true
				f.stats.Refreshes++
				f.stats.Rotations++
				keycloakToken(c, r.grant)
			}
		case "client_credentials":
			f.stats.Exchanges++
			g := &grant{client: f.ClientID, person: person{Login: "service-account-apiauth", ID: "sa"}, scopes: []string{"email", "profile"}, consent: f.now()}
			c.json(http.StatusOK, map[string]any{
				"access_token": f.newAccess(g, keycloakJWT(), 5*time.Minute), "expires_in": 300, "refresh_expires_in": 0,
				"token_type": "Bearer", "not-before-policy": 0, "scope": "email profile",
			})
		case "urn:ietf:params:oauth:grant-type:device_code":
			f.stats.DevicePolls++
			d := f.devices[c.form.Get("device_code")]
			switch {
			case d == nil || d.used:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Device code not valid")
			case f.now().Sub(d.made) > 10*time.Minute:
				c.refuse(http.StatusBadRequest, "expired_token", "Device code is expired")
			case !d.polled.IsZero() && f.now().Sub(d.polled) < d.interval-200*time.Millisecond:
				d.polled = f.now()
				c.refuse(http.StatusBadRequest, "slow_down", "Slow down")
			case d.denied:
				c.refuse(http.StatusBadRequest, "access_denied", "The end user denied the authorization request")
			case d.grant == nil:
				d.polled = f.now()
				c.refuse(http.StatusBadRequest, "authorization_pending", "The authorization request is still pending")
			default:
				d.used = true
				d.grant.offline = slices.Contains(d.scopes, "offline_access")
				f.stats.Exchanges++
				keycloakToken(c, d.grant)
			}
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "Unsupported grant_type")
		}
	})

	f.on("POST "+base+"/revoke", func(c *call) {
		if !client(c) {
			return
		}
		if r := f.refresh[c.form.Get("token")]; r != nil && !r.grant.dead {
			r.grant.dead = true
			f.stats.Revocations++
		} else if a := f.access[c.form.Get("token")]; a != nil && f.live(a) {
			a.dead = true
			f.stats.Revocations++
		}
		c.w.WriteHeader(http.StatusOK)
	})
	f.on("POST "+base+"/token/introspect", func(c *call) {
		if !client(c) {
			return
		}
		a, r := f.access[c.form.Get("token")], f.refresh[c.form.Get("token")]
		c.json(http.StatusOK, map[string]any{"active": (a != nil && f.live(a)) || (r != nil && !r.dead && !r.grant.dead)})
	})
	f.on("GET "+base+"/userinfo", func(c *call) {
		a := c.bearer()
		switch {
		case a == nil:
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="x", error="invalid_token", error_description="Token verification failed"`)
			c.json(http.StatusUnauthorized, map[string]any{"error": "invalid_token", "error_description": "Token verification failed"})
		case !slices.Contains(a.grant.scopes, "openid"):
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="x", error="insufficient_scope", error_description="Missing openid scope"`)
			c.json(http.StatusForbidden, map[string]any{"error": "insufficient_scope", "error_description": "Missing openid scope"})
		default:
			c.json(http.StatusOK, map[string]any{
				"sub": "f:" + a.grant.person.ID, "preferred_username": a.grant.person.Login, "name": a.grant.person.Name, "email": a.grant.person.Email,
			})
		}
	})

	f.define(`
name: Keycloak
issuer: ` + issuer + `
token_endpoint_auth_method: client_secret_basic
pkce: S256
flows: [browser, device, client-credentials]
redirect_uri: http://127.0.0.1:*/callback/keycloak
scopes:
  default: [openid, profile, email, offline_access]
token:
  rotates: always
identity: {subject: sub, label: preferred_username}
api:
  base_url: %URL%/` + base + `
  hosts: ["%HOST%"]
revocation: {style: rfc7009}
`)
	return f
}

// KeycloakIssuer returns the issuer identifier of the Keycloak fake.
func KeycloakIssuer(f *Fake) string { return f.URL + "/sso.example.com/realms/x" }

func keycloakToken(c *call, g *grant) {
	life := 1800
	if g.offline {
		life = 0
	}
	answer := map[string]any{
		"access_token": c.f.newAccess(g, keycloakJWT(), 5*time.Minute), "expires_in": 300, "refresh_expires_in": life,
		"refresh_token": c.f.newRefresh(g, keycloakJWT()), "token_type": "Bearer", "not-before-policy": 0,
		"session_state": random(22), "scope": strings.Join(g.scopes, " "),
	}
	if slices.Contains(g.scopes, "openid") {
		answer["id_token"] = keycloakJWT()
	}
	c.json(http.StatusOK, answer)
}

// keycloakJWT has the shape and size of a JWT; the client must not read it.
func keycloakJWT() string { return "eyJ" + random(100) + ".eyJ" + random(900) + "." + random(342) }
