package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

const (
	grantCode    = "authorization_code"
	grantRefresh = "refresh_token"
	grantClient  = "client_credentials"
	grantDevice  = "urn:ietf:params:oauth:grant-type:device_code"
)

// token is the token endpoint (RFC 6749 section 3.2). Faults that lose the
// request come before anything changes, token-drop-after comes last.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.TokenRequests++ })
	form, e := readForm(r)
	if e != nil {
		s.tokenRefused(w, e)
		return
	}
	grant := form.Get("grant_type")
	refreshing := grant == grantRefresh
	if refreshing {
		s.count(func(st *Stats) { st.RefreshRequests++ })
	}
	if s.failBefore(w, r, refreshing) {
		return
	}
	c, e := s.authenticate(r, form)
	if e != nil {
		s.tokenRefused(w, e)
		return
	}
	answer, lost, e := s.issue(c, grant, form)
	switch {
	case lost:
		panic(http.ErrAbortHandler)
	case e != nil:
		s.tokenRefused(w, e)
	default:
		writeJSON(w, http.StatusOK, answer)
	}
}

func (s *Server) tokenRefused(w http.ResponseWriter, e *refusal) {
	s.count(func(st *Stats) { st.TokenErrors++ })
	writeRefusal(w, e)
}

// failBefore acts out the faults that happen before anything is issued, and
// reports whether the request was answered.
func (s *Server) failBefore(w http.ResponseWriter, r *http.Request, refreshing bool) bool {
	fires := func(name string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.fires(name, refreshing)
	}
	if fires("slow") && !s.wait(r.Context(), s.opts.SlowBy) {
		panic(http.ErrAbortHandler)
	}
	switch {
	case fires("token-hang"):
		s.wait(r.Context(), 24*time.Hour)
		panic(http.ErrAbortHandler)
	case fires("token-drop-before"):
		panic(http.ErrAbortHandler)
	case fires("token-429"):
		w.Header().Set("Retry-After", "2")
		writeJSON(w, http.StatusTooManyRequests, map[string]any{"error": "slow_down", "error_description": "too many requests"})
	case fires("token-500"):
		http.Error(w, "internal error", http.StatusInternalServerError)
	case fires("token-html"):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><title>Maintenance</title><p>Back soon."))
	default:
		return false
	}
	return true
}

// wait returns true after d, false when the request or the server ends first.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}

// issue does the whole exchange in one step under the lock: two requests with
// one code or one refresh token are never both first.
func (s *Server) issue(c *client, grant string, form url.Values) (answer map[string]any, lost bool, refused *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refreshing := grant == grantRefresh
	if (grant == grantCode || refreshing) && s.fires("invalid-grant", refreshing) {
		return nil, false, refuse("invalid_grant", "the grant is not accepted")
	}
	var (
		fam    *family
		parent *refreshToken
		nonce  string
	)
	switch grant {
	case grantCode:
		fam, nonce, refused = s.redeemCode(c, form)
	case grantDevice:
		if fam, refused = s.pollDevice(c, form); fam != nil && s.fires("narrow-scope", false) {
			fam.scopes = fam.scopes[:1]
		}
	case grantClient:
		if fam, refused = clientCredentials(c, form); fam != nil && s.fires("narrow-scope", false) {
			fam.scopes = fam.scopes[:1]
		}
	case grantRefresh:
		parent, refused = s.redeemRefresh(c, form)
		if parent != nil {
			fam = parent.fam
		}
	case "":
		refused = refuse("invalid_request", "grant_type is missing")
	default:
		refused = refuse("unsupported_grant_type", "this grant type is not supported")
	}
	if refused != nil {
		return nil, false, refused
	}

	granted := fam.scopes
	if refreshing && form.Get("scope") != "" {
		// RFC 6749 section 6: narrower for this access token, never wider.
		asked, ok := parseScopes(form.Get("scope"))
		if !ok || slices.ContainsFunc(asked, func(n string) bool { return !contains(fam.scopes, n) }) {
			return nil, false, refuse("invalid_scope", "a scope was not granted before")
		}
		granted = asked
	}
	if refreshing && s.fires("narrow-scope", true) {
		granted = granted[:1]
	}

	access, err := s.issueAccess(fam, granted)
	if err != nil {
		return nil, false, &refusal{status: http.StatusInternalServerError, code: "server_error", desc: "no random bytes"}
	}
	answer = map[string]any{
		"access_token": access.Reveal(),
		"token_type":   "Bearer",
		"expires_in":   int(s.opts.TokenTTL.Seconds()),
		"scope":        strings.Join(granted, " "),
	}
	withRefresh := grant != grantClient && (!refreshing || s.opts.RotateRefresh)
	if withRefresh && !s.fires("no-refresh-token", refreshing) {
		next, err := s.issueRefresh(fam, parent)
		if err != nil {
			return nil, false, &refusal{status: http.StatusInternalServerError, code: "server_error", desc: "no random bytes"}
		}
		answer["refresh_token"] = next.Reveal()
		if s.opts.RefreshTTL > 0 {
			answer["refresh_token_expires_in"] = int(s.opts.RefreshTTL.Seconds())
		}
		if parent != nil {
			if parent.used.IsZero() {
				parent.used = s.now()
			}
			if parent.parent != nil {
				parent.parent.childUsed = true
			}
		}
	}
	if contains(fam.scopes, "openid") && fam.account != nil {
		answer["id_token"] = s.idToken(fam, nonce)
	}
	switch grant {
	case grantCode:
		s.stats.CodeExchanges++
	case grantClient:
		s.stats.ClientCredentials++
	case grantRefresh:
		s.stats.Refreshes++
	}
	if s.fires("no-expires-in", refreshing) {
		delete(answer, "expires_in")
	}
	if s.fires("expires-in-string", refreshing) {
		answer["expires_in"] = strconv.Itoa(int(s.opts.TokenTTL.Seconds()))
	}
	if s.fires("bad-type", refreshing) {
		answer["token_type"] = "mac"
	}
	return answer, s.fires("token-drop-after", refreshing), nil
}

// redeemCode checks an authorization code (RFC 6749 section 4.1.3, RFC 7636
// section 4.6). A code that fails is burnt; one that comes twice ends the
// family it led to (section 4.1.2). The caller holds mu.
func (s *Server) redeemCode(c *client, form url.Values) (*family, string, *refusal) {
	k := s.codes[hashOf(form.Get("code"))]
	switch {
	case form.Get("code") == "":
		return nil, "", refuse("invalid_request", "code is missing")
	case k == nil || k.fam.client != c:
		return nil, "", refuse("invalid_grant", "the code is unknown")
	case k.used:
		if !k.fam.revoked {
			k.fam.revoked = true
			s.stats.Reuse++
		}
		return nil, "", refuse("invalid_grant", "the code was used before; its tokens are revoked")
	}
	k.used = true
	verifier := form.Get("code_verifier")
	sum := sha256.Sum256([]byte(verifier))
	switch {
	case s.now().Sub(k.created) > codeLifetime:
		return nil, "", refuse("invalid_grant", "the code expired")
	case form.Get("redirect_uri") != k.redirect:
		return nil, "", refuse("invalid_grant", "redirect_uri is not that of the authorization request")
	case len(verifier) < 43 || len(verifier) > 128:
		return nil, "", refuse("invalid_grant", "code_verifier must have 43 to 128 characters")
	case !equal(base64.RawURLEncoding.EncodeToString(sum[:]), k.challenge):
		return nil, "", refuse("invalid_grant", "code_verifier does not match")
	}
	return k.fam, k.nonce, nil
}

// redeemRefresh checks a refresh token (RFC 6749 section 6, RFC 9700 section
// 4.14). The caller holds mu and marks it used once its successor exists.
func (s *Server) redeemRefresh(c *client, form url.Values) (*refreshToken, *refusal) {
	t := s.refresh[hashOf(form.Get("refresh_token"))]
	switch {
	case form.Get("refresh_token") == "":
		return nil, refuse("invalid_request", "refresh_token is missing")
	case t == nil || t.fam.client != c:
		return nil, refuse("invalid_grant", "the refresh token is unknown")
	case t.fam.revoked:
		return nil, refuse("invalid_grant", "the grant was revoked")
	case !t.expires.IsZero() && !s.now().Before(t.expires):
		return nil, refuse("invalid_grant", "the refresh token expired")
	case t.used.IsZero():
		return t, nil
	case !t.childUsed && s.opts.Grace > 0 && s.now().Sub(t.used) <= s.opts.Grace:
		s.stats.GraceReuse++
		return t, nil
	}
	t.fam.revoked = true
	s.stats.Reuse++
	return nil, refuse("invalid_grant", "the refresh token was used before; the grant is revoked")
}

func clientCredentials(c *client, form url.Values) (*family, *refusal) {
	if c.method == authNone {
		return nil, refuse("unauthorized_client", "a public client cannot use client credentials")
	}
	granted, known := parseScopes(form.Get("scope"))
	if !known || contains(granted, "offline_access") || contains(granted, "openid") {
		return nil, refuse("invalid_scope", "a scope is unknown or needs a person")
	}
	return &family{client: c, scopes: granted}, nil
}

// idToken is a minimal OpenID Connect ID token, signed with ES256.
func (s *Server) idToken(fam *family, nonce string) string {
	now := s.now()
	claims := map[string]any{
		"iss": s.origin, "sub": fam.account.Sub, "aud": fam.client.id,
		"iat": now.Unix(), "exp": now.Add(s.opts.TokenTTL).Unix(), "auth_time": now.Unix(),
	}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	head, err1 := json.Marshal(map[string]string{"alg": "ES256", "typ": "JWT", "kid": "sandbox"})
	body, err2 := json.Marshal(claims)
	if err1 != nil || err2 != nil {
		return ""
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(head) + "." + enc.EncodeToString(body)
	sum := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return ""
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	v.FillBytes(sig[32:])
	return signed + "." + enc.EncodeToString(sig)
}

// revoke is RFC 7009. A refresh token takes its whole grant along, an access
// token goes alone, an unknown token is fine.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	form, e := readForm(r)
	if e != nil {
		writeRefusal(w, e)
		return
	}
	c, e := s.authenticate(r, form)
	if e != nil {
		writeRefusal(w, e)
		return
	}
	if form.Get("token") == "" {
		writeRefusal(w, refuse("invalid_request", "token is missing"))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fires("revoke-500", false) {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	h := hashOf(form.Get("token"))
	if t := s.refresh[h]; t != nil {
		if t.fam.client != c {
			writeRefusal(w, refuse("unauthorized_client", "the token belongs to another client"))
			return
		}
		if !t.fam.revoked {
			t.fam.revoked = true
			s.stats.Revocations++
		}
	}
	if a := s.access[h]; a != nil {
		if a.fam.client != c {
			writeRefusal(w, refuse("unauthorized_client", "the token belongs to another client"))
			return
		}
		if !a.revoked && !a.fam.revoked {
			a.revoked = true
			s.stats.Revocations++
		}
	}
	w.WriteHeader(http.StatusOK)
}

// introspect is RFC 7662. The caller must be the confidential client: anybody
// could otherwise try out tokens.
func (s *Server) introspect(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.Introspections++ })
	form, e := readForm(r)
	if e != nil {
		writeRefusal(w, e)
		return
	}
	c, e := s.authenticate(r, form)
	if e == nil && c.method == authNone {
		e = badClient(false, "a public client cannot introspect")
	}
	if e == nil && form.Get("token") == "" {
		e = refuse("invalid_request", "token is missing")
	}
	if e != nil {
		writeRefusal(w, e)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := hashOf(form.Get("token"))
	answer := map[string]any{"active": false}
	describe := func(fam *family, scopes []string) {
		answer = map[string]any{"active": true, "scope": strings.Join(scopes, " "), "client_id": fam.client.id, "iss": s.origin, "sub": fam.client.id}
		if fam.account != nil {
			answer["sub"], answer["username"] = fam.account.Sub, fam.account.Login
		}
	}
	if a := s.access[h]; a != nil && s.accessLive(a) {
		describe(a.fam, a.scopes)
		answer["token_type"], answer["iat"], answer["exp"] = "Bearer", a.issued.Unix(), a.expires.Unix()
	} else if t := s.refresh[h]; t != nil && s.refreshLive(t) {
		describe(t.fam, t.fam.scopes)
	}
	writeJSON(w, http.StatusOK, answer)
}

// userinfo names the account of an access token.
func (s *Server) userinfo(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.stats.Userinfo++
	broken := s.fires("userinfo-500", false)
	s.mu.Unlock()
	if broken {
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	if a, _, ok := s.bearer(w, r, ""); ok {
		writeJSON(w, http.StatusOK, identity(a.fam))
	}
}

func identity(fam *family) map[string]any {
	if fam.account == nil {
		return map[string]any{"sub": fam.client.id, "name": fam.client.name}
	}
	return map[string]any{"sub": fam.account.Sub, "name": fam.account.Name, "email": fam.account.Email, "preferred_username": fam.account.Login}
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// fingerprint names a token without giving it away.
func fingerprint(t secret.Text) string {
	sum := sha256.Sum256([]byte(t.Reveal()))
	return "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:9])
}
