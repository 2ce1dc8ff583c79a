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

// GoogleDevice is the id of the second client of the Google fake, of the type
// "TVs and Limited Input devices"; the device flow takes no other. Its secret
// is that of the first.
func GoogleDevice(f *Fake) string { return strings.Replace(f.ClientID, "1075", "2075", 1) }

// Google holds the rules for an installed ("Desktop app") client: loopback IP
// literals with any port need no registration; the token endpoint wants the
// client secret in the body although it is no secret; a refresh token comes
// only with access_type=offline, and a second time only with prompt=consent;
// refreshing never rotates; the device flow needs a client of its own type,
// has few scopes, and calls its page verification_url.
func Google(t testing.TB) *Fake {
	f := newFake(t, "google", "https://accounts.google.com", "https://oauth2.googleapis.com", "https://openidconnect.googleapis.com", "https://www.googleapis.com")
	f.ClientID = "107512345678-" + strings.ToLower(random(32)) + ".apps.googleusercontent.com"
	f.ClientSecret = secret.New("GOCSPX-" + random(28))
	// A desktop client has no list of redirect URIs: what is registered here is
	// only checked.
	f.mayRegister = func(u *url.URL) string {
		if u.Scheme != "http" || !isLoopbackIP(u.Hostname()) {
			return "a desktop client redirects to a loopback IP address"
		}
		return ""
	}
	consented := map[string]bool{}

	f.on("GET accounts.google.com/o/oauth2/v2/auth", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		u, err := url.Parse(q.Get("redirect_uri"))
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusUnauthorized, "Error 401: invalid_client")
		case err != nil || u.Scheme != "http" || !isLoopbackIP(u.Hostname()):
			c.page(http.StatusBadRequest, "Error 400: redirect_uri_mismatch")
		case q.Get("response_type") != "code":
			c.page(http.StatusBadRequest, "Error 400: unsupported_response_type")
		case q.Get("scope") == "":
			c.page(http.StatusBadRequest, "Error 400: invalid_request Missing required parameter: scope")
		case q.Has("code_challenge") && q.Get("code_challenge_method") != "S256" && q.Get("code_challenge_method") != "plain":
			c.page(http.StatusBadRequest, "Error 400: invalid_request")
		case len(googleUnknown(splitScopes(q.Get("scope"), " "))) > 0:
			c.page(http.StatusBadRequest, "Error 400: invalid_scope")
		default:
			scopes := googleFull(splitScopes(q.Get("scope"), " "))
			first := !consented[f.person.ID]
			if !f.deny {
				consented[f.person.ID] = true
			}
			c.authorize(q, scopes, func(g *grant) {
				g.offline = q.Get("access_type") == "offline" && (first || q.Get("prompt") == "consent")
			}, url.Values{
				"iss": {f.base("https://accounts.google.com")}, "scope": {strings.Join(scopes, " ")}, "authuser": {"0"}, "prompt": {"consent"},
			})
		}
	})

	f.on("POST oauth2.googleapis.com/device/code", func(c *call) {
		switch {
		case c.form.Get("client_id") != GoogleDevice(f):
			c.refuse(http.StatusUnauthorized, "invalid_client", "Invalid client type.")
		case unknown(splitScopes(c.form.Get("scope"), " "), googleDeviceScopes()...) != "" || c.form.Get("scope") == "":
			c.refuse(http.StatusBadRequest, "invalid_scope", "Invalid device flow scope")
		default:
			dc, uc := random(60), strings.ToUpper(random(4)+"-"+random(4))
			f.devices[dc] = &device{client: GoogleDevice(f), userCode: uc, scopes: googleFull(splitScopes(c.form.Get("scope"), " ")), made: f.now(), interval: 5 * time.Second}
			c.json(http.StatusOK, map[string]any{
				"device_code": dc, "user_code": uc, "verification_url": f.URL + "/www.google.com/device", "expires_in": 1800, "interval": 5,
			})
		}
	})
	f.devicePage("www.google.com/device")

	f.on("POST oauth2.googleapis.com/token", func(c *call) {
		f.stats.TokenRequests++
		id := c.form.Get("client_id")
		switch {
		case id != f.ClientID && id != GoogleDevice(f):
			c.refuse(http.StatusUnauthorized, "invalid_client", "The OAuth client was not found.")
			return
		case !c.form.Has("client_secret"):
			c.refuse(http.StatusBadRequest, "invalid_request", "client_secret is missing.")
			return
		case !secret.New(c.form.Get("client_secret")).Equal(f.ClientSecret):
			c.refuse(http.StatusUnauthorized, "invalid_client", "The provided client secret is invalid.")
			return
		}
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), 10*time.Minute)
			switch {
			case state != codeGood || k.grant.client != id:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Malformed auth code.")
			case c.form.Get("redirect_uri") != k.redirect:
				c.refuse(http.StatusBadRequest, "redirect_uri_mismatch", "Bad Request")
			case k.challenge != "" && !c.form.Has("code_verifier"):
				c.refuse(http.StatusBadRequest, "invalid_grant", "Missing code verifier.")
			case !k.pkceOK(c.form.Get("code_verifier")):
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid code verifier.")
			default:
				f.stats.Exchanges++
				googleToken(c, k.grant, true)
			}
		case "urn:ietf:params:oauth:grant-type:device_code":
			f.stats.DevicePolls++
			d := f.devices[c.form.Get("device_code")]
			switch {
			case d == nil || d.used || d.client != id:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Malformed device code.")
			case f.now().Sub(d.made) > 30*time.Minute:
				c.refuse(http.StatusBadRequest, "expired_token", "The device code has expired.")
			case !d.polled.IsZero() && f.now().Sub(d.polled) < d.interval-200*time.Millisecond:
				d.polled = f.now()
				c.refuse(http.StatusForbidden, "slow_down", "Forbidden")
			case d.denied:
				c.refuse(http.StatusForbidden, "access_denied", "Forbidden")
			case d.grant == nil:
				d.polled = f.now()
				c.refuse(http.StatusPreconditionRequired, "authorization_pending", "Precondition Required")
			default:
				d.used = true
				f.stats.Exchanges++
				googleToken(c, d.grant, true)
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			if r == nil || r.dead || r.grant.dead || r.grant.client != id {
				c.refuse(http.StatusBadRequest, "invalid_grant", "Token has been expired or revoked.")
				return
			}
			f.stats.Refreshes++
			googleToken(c, r.grant, false)
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type: "+clip(c.form.Get("grant_type")))
		}
	})

	f.on("POST oauth2.googleapis.com/revoke", func(c *call) {
		token := c.form.Get("token")
		var g *grant
		if r := f.refresh[token]; r != nil && !r.dead {
			g = r.grant
		} else if a := f.access[token]; a != nil && f.live(a) {
			g = a.grant
		}
		if g == nil || g.dead {
			c.refuse(http.StatusBadRequest, "invalid_token", "Token expired or revoked")
			return
		}
		// Revoking removes the client's whole access to the account.
		for _, r := range f.refresh {
			if r.grant.person.ID == g.person.ID && r.grant.client == g.client {
				r.grant.dead = true
			}
		}
		g.dead = true
		delete(consented, g.person.ID)
		f.stats.Revocations++
		c.json(http.StatusOK, map[string]any{})
	})

	f.on("GET openidconnect.googleapis.com/v1/userinfo", func(c *call) {
		a := c.bearer()
		if a == nil {
			c.w.Header().Set("WWW-Authenticate", `Bearer realm="https://accounts.google.com/", error="invalid_token"`)
			c.json(http.StatusUnauthorized, map[string]any{"error": "invalid_request", "error_description": "Invalid Credentials"})
			return
		}
		me := map[string]any{"sub": "1100000000000000" + a.grant.person.ID}
		if slices.Contains(a.grant.scopes, googleScope("profile")) {
			me["name"] = a.grant.person.Name
		}
		if slices.Contains(a.grant.scopes, googleScope("email")) {
			me["email"], me["email_verified"] = a.grant.person.Email, true
		}
		c.json(http.StatusOK, me)
	})

	f.define(`
name: Google
issuer: %URL%/accounts.google.com
authorization_endpoint: %URL%/accounts.google.com/o/oauth2/v2/auth
token_endpoint: %URL%/oauth2.googleapis.com/token
device_authorization_endpoint: %URL%/oauth2.googleapis.com/device/code
revocation_endpoint: %URL%/oauth2.googleapis.com/revoke
userinfo_endpoint: %URL%/openidconnect.googleapis.com/v1/userinfo
token_endpoint_auth_method: client_secret_post
pkce: S256
flows: [browser]
redirect_uri: http://127.0.0.1:*/callback/google
authorize_params: {access_type: offline, prompt: consent}
scopes:
  separator: " "
  default: [openid, email, profile]
token:
  expires_in: 3600
  type: bearer
  rotates: never
identity: {subject: sub, label: email}
api:
  base_url: %URL%/www.googleapis.com
  hosts: ["%HOST%"]
env: GOOGLE_ACCESS_TOKEN
revocation: {style: rfc7009, page: "https://myaccount.google.com/connections"}
`)
	return f
}

func googleToken(c *call, g *grant, withRefresh bool) {
	answer := map[string]any{
		"access_token": c.f.newAccess(g, "ya29."+random(180), 3599*time.Second), "expires_in": 3599,
		"scope": strings.Join(g.scopes, " "), "token_type": "Bearer",
	}
	if withRefresh && g.offline {
		answer["refresh_token"] = c.f.newRefresh(g, "1//0"+random(90))
	}
	c.json(http.StatusOK, answer)
}

// googleScope is the long form of a short scope.
func googleScope(short string) string {
	switch short {
	case "email", "profile":
		return "https://www.googleapis.com/auth/userinfo." + short
	}
	return short
}

// googleFull is how Google names the granted scopes.
func googleFull(scopes []string) []string {
	var out []string
	for _, s := range scopes {
		out = append(out, googleScope(s))
	}
	return out
}

func googleUnknown(scopes []string) []string {
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool {
		return s == "openid" || s == "email" || s == "profile" || strings.HasPrefix(s, "https://www.googleapis.com/auth/") || s == "https://mail.google.com/"
	})
}

func googleDeviceScopes() []string {
	return []string{"email", "openid", "profile", "https://www.googleapis.com/auth/drive.appdata", "https://www.googleapis.com/auth/drive.file",
		"https://www.googleapis.com/auth/youtube", "https://www.googleapis.com/auth/youtube.readonly"}
}

func clip(s string) string { return s[:min(len(s), 60)] }
