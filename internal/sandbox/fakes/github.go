package fakes

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// GitHub holds the rules of an OAuth app at github.com: the web flow needs the
// secret even with PKCE (S256 only, optional); the device flow takes none;
// errors of the token endpoint come with HTTP 200; answers are form-encoded
// unless JSON is asked for; scopes come back normalised and with commas; tokens
// have no expiry unless offline_access is asked for; loopback IP literals may
// use any port and a path below the registered one.
func GitHub(t testing.TB) *Fake {
	f := newFake(t, "github", "https://github.com", "https://api.github.com")
	f.ClientID = "Ov23li" + random(14)
	f.ClientSecret = secret.New(strings.ToLower(random(40)))
	f.matches = func(registered, given string) bool {
		reg, err1 := url.Parse(registered)
		u, err2 := url.Parse(given)
		if err1 != nil || err2 != nil || reg.Scheme != u.Scheme || reg.Hostname() != u.Hostname() || u.User != nil {
			return false
		}
		if reg.Port() != u.Port() && !isLoopbackIP(reg.Hostname()) {
			return false
		}
		return u.Path == reg.Path || strings.HasPrefix(u.Path, strings.TrimSuffix(reg.Path, "/")+"/")
	}
	_ = f.Register("http://127.0.0.1/callback/github")

	f.on("GET github.com/login/oauth/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		if q.Get("client_id") != f.ClientID {
			c.page(http.StatusNotFound, "Page not found")
			return
		}
		if !q.Has("redirect_uri") {
			q.Set("redirect_uri", f.redirects[0])
		}
		if !f.redirectAllowed(q.Get("redirect_uri")) {
			// GitHub sends this error to the registered URL, not to the one given.
			q.Set("redirect_uri", f.redirects[0])
			c.back(q, url.Values{"error": {"redirect_uri_mismatch"}, "error_description": {"The redirect_uri MUST match the registered callback URL for this application."}})
			return
		}
		if q.Has("code_challenge") && q.Get("code_challenge_method") != "S256" {
			c.back(q, url.Values{"error": {"invalid_request"}, "error_description": {"code_challenge_method must be S256"}})
			return
		}
		scopes := githubNormal(splitScopes(q.Get("scope"), " ,"))
		c.authorize(q, scopes, func(g *grant) { g.offline = slices.Contains(scopes, "offline_access") }, nil)
	})

	f.on("POST github.com/login/device/code", func(c *call) {
		if c.form.Get("client_id") != f.ClientID {
			githubAnswer(c, map[string]any{"error": "Not Found"}, http.StatusNotFound)
			return
		}
		dc, uc := strings.ToLower(random(40)), strings.ToUpper(random(4)+"-"+random(4))
		f.devices[dc] = &device{client: f.ClientID, userCode: uc, scopes: githubNormal(splitScopes(c.form.Get("scope"), " ,")), made: f.now(), interval: 5 * time.Second}
		githubAnswer(c, map[string]any{
			"device_code": dc, "user_code": uc, "verification_uri": f.URL + "/github.com/login/device", "expires_in": 899, "interval": 5,
		}, http.StatusOK)
	})
	f.devicePage("github.com/login/device")

	f.on("POST github.com/login/oauth/access_token", func(c *call) {
		f.stats.TokenRequests++
		refuse := func(code, desc string) {
			f.stats.Refused++
			githubAnswer(c, map[string]any{"error": code, "error_description": desc, "error_uri": "https://docs.github.com/apps/oauth"}, http.StatusOK)
		}
		hasSecret := c.inBody() || c.inBasic()
		named := c.form.Get("client_id") == f.ClientID || c.inBasic()
		wrongSecret := c.form.Has("client_secret") && !hasSecret
		switch gt := c.form.Get("grant_type"); gt {
		case "", "authorization_code":
			if !hasSecret {
				refuse("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
				return
			}
			k, state := f.take(c.form.Get("code"), 10*time.Minute)
			switch {
			case state != codeGood:
				refuse("bad_verification_code", "The code passed is incorrect or expired.")
			case c.form.Has("redirect_uri") && c.form.Get("redirect_uri") != k.redirect:
				refuse("redirect_uri_mismatch", "The redirect_uri MUST match the registered callback URL for this application.")
			case !k.pkceOK(c.form.Get("code_verifier")):
				refuse("bad_verification_code", "The code verifier is incorrect.")
			default:
				k.grant.pkce = false // the secret was needed, and is for each refresh
				f.stats.Exchanges++
				githubToken(c, k.grant)
			}
		case "urn:ietf:params:oauth:grant-type:device_code":
			f.stats.DevicePolls++
			d := f.devices[c.form.Get("device_code")]
			switch {
			case !named || wrongSecret:
				refuse("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
			case d == nil || d.used:
				refuse("incorrect_device_code", "The device_code provided is not valid.")
			case f.now().Sub(d.made) > 15*time.Minute:
				refuse("expired_token", "The device_code has expired.")
			case !d.polled.IsZero() && f.now().Sub(d.polled) < d.interval-200*time.Millisecond:
				d.polled = f.now()
				d.interval += 5 * time.Second
				f.stats.Refused++
				githubAnswer(c, map[string]any{"error": "slow_down", "error_description": "Too many requests have been made in the same timeframe.", "interval": int(d.interval.Seconds())}, http.StatusOK)
			case d.denied:
				refuse("access_denied", "The authorization request was denied.")
			case d.grant == nil:
				d.polled = f.now()
				refuse("authorization_pending", "The authorization request is still pending.")
			default:
				d.used = true
				d.grant.pkce = true // a token from the device flow refreshes without a secret
				d.grant.offline = slices.Contains(d.scopes, "offline_access")
				f.stats.Exchanges++
				githubToken(c, d.grant)
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			switch {
			case !named || wrongSecret || (r != nil && !r.grant.pkce && !hasSecret):
				refuse("incorrect_client_credentials", "The client_id and/or client_secret passed are incorrect.")
			case r == nil || r.dead || r.grant.dead || f.now().Sub(r.made) > 15897600*time.Second:
				refuse("bad_refresh_token", "The refresh token passed is incorrect or expired.")
			default:
				// The old refresh token and the old access token end.
				r.dead = true
				for _, a := range f.access {
					if a.grant == r.grant {
						a.dead = true
					}
				}
				f.stats.Refreshes++
				f.stats.Rotations++
				githubToken(c, r.grant)
			}
		default:
			refuse("unsupported_grant_type", "The grant type is not supported.")
		}
	})

	f.on("GET api.github.com/user", func(c *call) {
		a := c.bearer()
		if a == nil {
			c.json(http.StatusUnauthorized, map[string]any{"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest", "status": "401"})
			return
		}
		c.w.Header().Set("X-OAuth-Scopes", strings.Join(a.grant.scopes, ", "))
		id, _ := json.Number(a.grant.person.ID).Int64()
		c.json(http.StatusOK, map[string]any{"login": a.grant.person.Login, "id": id, "name": a.grant.person.Name, "type": "User"})
	})

	end := func(all bool) func(c *call) {
		return func(c *call) {
			var body struct {
				Token string `json:"access_token"`
			}
			err := json.NewDecoder(c.r.Body).Decode(&body)
			switch a := f.access[body.Token]; {
			case !c.inBasic() || c.r.PathValue("client") != f.ClientID:
				c.json(http.StatusNotFound, map[string]any{"message": "Not Found"})
			case err != nil || body.Token == "":
				c.json(http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed"})
			case a == nil || !f.live(a):
				c.json(http.StatusNotFound, map[string]any{"message": "Not Found"})
			default:
				f.stats.Revocations++
				a.dead = true
				if all {
					for _, o := range f.access {
						if o.grant.person.ID == a.grant.person.ID {
							o.grant.dead = true
						}
					}
				}
				c.w.WriteHeader(http.StatusNoContent)
			}
		}
	}
	f.on("DELETE api.github.com/applications/{client}/grant", end(true))
	f.on("DELETE api.github.com/applications/{client}/token", end(false))
	f.on("POST api.github.com/credentials/revoke", func(c *call) {
		var body struct {
			Credentials []string `json:"credentials"`
		}
		switch err := json.NewDecoder(c.r.Body).Decode(&body); {
		case c.r.Header.Get("Authorization") != "":
			c.json(http.StatusForbidden, map[string]any{"message": "This endpoint must be called without authentication"})
		case err != nil || len(body.Credentials) == 0:
			c.json(http.StatusUnprocessableEntity, map[string]any{"message": "Validation Failed"})
		default:
			for _, token := range body.Credentials {
				if a := f.access[token]; a != nil && f.live(a) {
					a.dead = true
					f.stats.Revocations++
				}
				if r := f.refresh[token]; r != nil && !r.dead {
					r.dead = true
					f.stats.Revocations++
				}
			}
			c.json(http.StatusAccepted, map[string]any{})
		}
	})

	f.define(`
name: GitHub
authorization_endpoint: %URL%/github.com/login/oauth/authorize
token_endpoint: %URL%/github.com/login/oauth/access_token
device_authorization_endpoint: %URL%/github.com/login/device/code
revocation_endpoint: %URL%/api.github.com
userinfo_endpoint: %URL%/api.github.com/user
token_endpoint_auth_method: client_secret_post
device_auth_method: none
pkce: S256
flows: [browser, device]
redirect_uri: http://127.0.0.1:*/callback/github
scopes:
  separator: " "
  default: [read:user]
token:
  expires_in: never
  type: bearer
  scope_separator: ","
  rotates: always
identity: {subject: id, label: login}
api:
  base_url: %URL%/api.github.com
  hosts: ["%HOST%"]
env: GITHUB_TOKEN
placeholder: gho_{36}
revocation: {style: github, page: "https://github.com/settings/applications"}
`)
	return f
}

func githubToken(c *call, g *grant) {
	answer := map[string]any{"token_type": "bearer", "scope": strings.Join(g.scopes, ",")}
	if g.offline {
		answer["access_token"] = c.f.newAccess(g, "gho_"+random(36), 8*time.Hour)
		answer["expires_in"] = 28800
		answer["refresh_token"] = c.f.newRefresh(g, "ghr_"+random(76))
		answer["refresh_token_expires_in"] = 15897600
	} else {
		answer["access_token"] = c.f.newAccess(g, "gho_"+random(36), 0)
	}
	githubAnswer(c, answer, http.StatusOK)
}

// githubAnswer is form-encoded unless JSON is asked for.
func githubAnswer(c *call, v map[string]any, status int) {
	if strings.Contains(c.r.Header.Get("Accept"), "application/json") {
		c.json(status, v)
		return
	}
	form := url.Values{}
	for k, x := range v {
		b, _ := json.Marshal(x)
		form.Set(k, strings.Trim(string(b), `"`))
	}
	c.w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	c.w.WriteHeader(status)
	_, _ = c.w.Write([]byte(form.Encode()))
}

// githubNormal drops scopes that another one includes, and unknown ones are
// granted as nothing.
func githubNormal(scopes []string) []string {
	within := map[string]string{
		"repo:status": "repo", "repo_deployment": "repo", "public_repo": "repo", "repo:invite": "repo", "security_events": "repo",
		"read:user": "user", "user:email": "user", "user:follow": "user",
		"write:org": "admin:org", "read:org": "admin:org", "read:project": "project", "read:packages": "write:packages",
	}
	known := strings.Fields(`repo repo:status repo_deployment public_repo repo:invite security_events gist notifications user
		read:user user:email user:follow project read:project delete_repo write:packages read:packages delete:packages
		admin:org write:org read:org codespace workflow offline_access read:audit_log admin:repo_hook admin:public_key admin:gpg_key`)
	var out []string
	for _, s := range scopes {
		if slices.Contains(known, s) && !slices.Contains(out, s) && (within[s] == "" || !slices.Contains(scopes, within[s])) {
			out = append(out, s)
		}
	}
	return out
}
