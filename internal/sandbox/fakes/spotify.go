package fakes

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// spotifyConsent is how long a refresh token lives, counted from consent and
// not renewed by refreshing.
const spotifyConsent = 182 * 24 * time.Hour

// Spotify holds the rules of accounts.spotify.com: redirects over http only to
// loopback IP literals (localhost is refused) with any port if registered
// without one; PKCE with the client id in the body, or Basic with the secret;
// rotation at every other refresh of a PKCE grant, never with a secret; six
// months from consent; no revocation endpoint.
func Spotify(t testing.TB) *Fake {
	f := newFake(t, "spotify", "https://accounts.spotify.com", "https://api.spotify.com")
	f.ClientID = "5fe01282e44241328a84e7c5cc169165"
	f.ClientSecret = secret.New(random(32))
	insecure := func(u *url.URL) string {
		if u.Scheme == "http" && !isLoopbackIP(u.Hostname()) {
			return "This redirect URI is not secure."
		}
		return ""
	}
	f.mayRegister = insecure
	f.matches = func(registered, given string) bool {
		if registered == given {
			return true
		}
		reg, err := url.Parse(registered)
		return err == nil && reg.Port() == "" && anyPort(registered, given, isLoopbackIP)
	}
	_ = f.Register("http://127.0.0.1/callback/spotify")

	f.on("GET accounts.spotify.com/authorize", func(c *call) {
		f.stats.Authorize++
		q := c.r.URL.Query()
		u, err := url.Parse(q.Get("redirect_uri"))
		switch {
		case q.Get("client_id") != f.ClientID:
			c.page(http.StatusBadRequest, "INVALID_CLIENT: Invalid client")
		case err != nil || q.Get("redirect_uri") == "":
			c.page(http.StatusBadRequest, "INVALID_CLIENT: Invalid redirect URI")
		case insecure(u) != "":
			c.page(http.StatusBadRequest, "INVALID_CLIENT: Insecure redirect URI")
		case !f.redirectAllowed(q.Get("redirect_uri")):
			c.page(http.StatusBadRequest, "INVALID_CLIENT: Invalid redirect URI")
		case q.Get("response_type") == "token":
			c.back(q, url.Values{"error": {"unsupported_response_type"}})
		case q.Get("response_type") != "code":
			c.page(http.StatusBadRequest, "response_type must be code")
		case q.Has("code_challenge") && q.Get("code_challenge_method") != "S256":
			c.page(http.StatusBadRequest, "code_challenge_method must be S256")
		case unknown(splitScopes(q.Get("scope"), " "), spotifyScopes()...) != "":
			c.back(q, url.Values{"error": {"invalid_scope"}})
		default:
			c.authorize(q, splitScopes(q.Get("scope"), " "), nil, nil)
		}
	})

	f.on("POST accounts.spotify.com/api/token", func(c *call) {
		f.stats.TokenRequests++
		withSecret := c.inBasic()
		if _, _, ok := c.basic(); ok && !withSecret {
			c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client secret")
			return
		}
		if !withSecret && c.form.Get("client_id") != f.ClientID {
			c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client")
			return
		}
		if !withSecret && c.form.Has("client_secret") && !c.inBody() {
			c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client secret")
			return
		}
		withSecret = withSecret || c.inBody()
		switch c.form.Get("grant_type") {
		case "authorization_code":
			k, state := f.take(c.form.Get("code"), 10*time.Minute)
			switch {
			case state == codeExpired:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Authorization code expired")
			case state != codeGood:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid authorization code")
			case c.form.Get("redirect_uri") != k.redirect:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid redirect URI")
			case !withSecret && k.challenge == "":
				c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client secret")
			case k.challenge != "" && !c.form.Has("code_verifier"):
				c.refuse(http.StatusBadRequest, "invalid_request", "code_verifier required")
			case !k.pkceOK(c.form.Get("code_verifier")):
				c.refuse(http.StatusBadRequest, "invalid_grant", "code_verifier was incorrect")
			default:
				k.grant.pkce = !withSecret
				f.stats.Exchanges++
				c.json(http.StatusOK, spotifyAnswer(f, k.grant, f.newRefresh(k.grant, "AQ"+random(120))))
			}
		case "refresh_token":
			r := f.refresh[c.form.Get("refresh_token")]
			switch {
			case r == nil:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Invalid refresh token")
			case r.dead || r.grant.dead:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Refresh token revoked")
			case f.now().Sub(r.grant.consent) > spotifyConsent:
				c.refuse(http.StatusBadRequest, "invalid_grant", "Refresh token expired")
			case !withSecret && !r.grant.pkce:
				c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client secret")
			default:
				next := ""
				if f.stats.Refreshes++; r.grant.pkce && f.stats.Refreshes%2 == 1 {
					r.dead = true
					f.stats.Rotations++
					next = f.newRefresh(r.grant, "AQ"+random(120))
				}
				c.json(http.StatusOK, spotifyAnswer(f, r.grant, next))
			}
		case "client_credentials":
			if !withSecret {
				c.refuse(http.StatusBadRequest, "invalid_client", "Invalid client secret")
				return
			}
			f.stats.Exchanges++
			answer := spotifyAnswer(f, &grant{client: f.ClientID, consent: f.now()}, "")
			delete(answer, "scope")
			c.json(http.StatusOK, answer)
		default:
			c.refuse(http.StatusBadRequest, "unsupported_grant_type", "grant_type must be client_credentials, authorization_code or refresh_token")
		}
	})

	f.on("GET api.spotify.com/v1/me", func(c *call) {
		a := c.bearer()
		if a == nil || a.grant.person.Login == "" {
			c.json(http.StatusUnauthorized, map[string]any{"error": map[string]any{"status": 401, "message": "The access token expired"}})
			return
		}
		me := map[string]any{"id": a.grant.person.Login, "display_name": a.grant.person.Name, "type": "user"}
		if unknown([]string{"user-read-email"}, a.grant.scopes...) == "" {
			me["email"] = a.grant.person.Email
		}
		c.json(http.StatusOK, me)
	})

	f.define(`
name: Spotify
authorization_endpoint: %URL%/accounts.spotify.com/authorize
token_endpoint: %URL%/accounts.spotify.com/api/token
userinfo_endpoint: %URL%/api.spotify.com/v1/me
token_endpoint_auth_method: none
pkce: S256
flows: [browser]
redirect_uri: http://127.0.0.1:*/callback/spotify
scopes:
  separator: " "
  default: [user-read-private]
token:
  expires_in: 3600
  type: bearer
  rotates: sometimes
  grant_lifetime: 4380h
identity: {subject: id, label: display_name}
api:
  base_url: %URL%/api.spotify.com/v1
  hosts: ["%HOST%"]
env: SPOTIFY_ACCESS_TOKEN
revocation: {style: page, page: "https://www.spotify.com/account/apps/"}
`)
	return f
}

func spotifyAnswer(f *Fake, g *grant, refreshToken string) map[string]any {
	a := map[string]any{
		"access_token": f.newAccess(g, "BQ"+random(120), time.Hour), "token_type": "Bearer", "expires_in": 3600,
		"scope": strings.Join(g.scopes, " "),
	}
	if refreshToken != "" {
		a["refresh_token"] = refreshToken
	}
	return a
}

func spotifyScopes() []string {
	return strings.Fields(`ugc-image-upload user-read-playback-state user-modify-playback-state user-read-currently-playing
		app-remote-control streaming playlist-read-private playlist-read-collaborative playlist-modify-private
		playlist-modify-public user-follow-modify user-follow-read user-read-playback-position user-top-read
		user-read-recently-played user-library-modify user-library-read user-read-email user-read-private`)
}
