package sandbox

import (
	"crypto/subtle"
	"embed"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"strings"
)

//go:embed pages/style.css
var pageFiles embed.FS

// render writes a page. formTargets are origins beside our own that a form of
// the page may end at: browsers apply form-action to the redirect that follows.
func (s *Server) render(w http.ResponseWriter, status int, p page, formTargets ...string) {
	csp := "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
	for _, t := range formTargets {
		csp += " " + t
	}
	h := w.Header()
	h.Set("Content-Security-Policy", csp)
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(whole(p))
}

func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	s.render(w, http.StatusOK, indexPage{s.origin, s.APIBase(), publicClient})
}

func (s *Server) stylesheet(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, pageFiles, "pages/style.css")
}

// authorize is the authorization endpoint (RFC 6749 section 4.1.1, RFC 7636).
// Until client and redirect URI are known to be right nothing is redirected.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.AuthorizeRequests++ })
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.render(w, http.StatusBadRequest, message{"Not a valid request", "The address of the request cannot be read."})
		return
	}
	c := s.clients[q.Get("client_id")]
	if c == nil || len(q["client_id"]) > 1 {
		s.render(w, http.StatusBadRequest, message{"Unknown client", "No client with this id is registered here."})
		return
	}
	redirect := q.Get("redirect_uri")
	if len(q["redirect_uri"]) > 1 || !s.redirectAllowed(redirect) {
		s.render(w, http.StatusBadRequest, message{"Redirect not registered", "The redirect URI of this request is not registered for the client."})
		return
	}
	fail := func(code, desc string) {
		s.redirectBack(w, r, redirect, q.Get("state"), url.Values{"error": {code}, "error_description": {desc}})
	}
	for _, v := range q {
		if len(v) > 1 {
			fail("invalid_request", "a parameter is repeated")
			return
		}
	}
	if _, err := base64.RawURLEncoding.DecodeString(q.Get("code_challenge")); err != nil || len(q.Get("code_challenge")) != 43 {
		fail("invalid_request", "a code_challenge of 43 characters is required (PKCE)")
		return
	}
	granted, known := parseScopes(q.Get("scope"))
	chosen := accountNamed(q.Get("login_hint"))
	switch {
	case q.Get("response_type") != "code":
		fail("unsupported_response_type", "only the response type code is supported")
	case q.Get("response_mode") != "" && q.Get("response_mode") != "query":
		fail("invalid_request", "only the response mode query is supported")
	case q.Get("code_challenge_method") != "S256":
		fail("invalid_request", "code_challenge_method must be S256")
	case q.Has("request") || q.Has("request_uri"):
		fail("request_not_supported", "request objects are not supported")
	case !known:
		fail("invalid_scope", "a scope is unknown")
	case q.Get("prompt") == "none":
		fail("interaction_required", "a person has to agree here")
	default:
		if chosen == nil {
			chosen = accounts()[0]
		}
		p := &pending{
			client: c, redirect: redirect, state: q.Get("state"), nonce: q.Get("nonce"),
			challenge: q.Get("code_challenge"), scopes: granted, created: s.now(),
		}
		if s.opts.AutoApprove {
			s.approve(w, r, p, chosen)
			return
		}
		s.askConsent(w, r, p, chosen)
	}
}

func (s *Server) askConsent(w http.ResponseWriter, r *http.Request, p *pending, chosen *account) {
	s.mu.Lock()
	s.sweep()
	full := len(s.pending) >= maxPending
	session, err := s.session(r)
	id, err1 := s.random("", 16)
	csrf, err2 := s.random("", 16)
	ok := !full && err == nil && err1 == nil && err2 == nil
	if ok {
		p.session, p.csrf = session, csrf.Reveal()
		s.pending[id.Reveal()] = p
	}
	s.mu.Unlock()
	if !ok {
		s.render(w, http.StatusServiceUnavailable, message{"Too many requests", "Too many requests wait for an answer. Try again later."})
		return
	}
	s.setSession(w, session, "/authorize")
	s.render(w, http.StatusOK, consentPage{
		Action: "/authorize/decision", ID: id.Reveal(), CSRF: p.csrf, Client: p.client.name,
		Origin: originOf(p.redirect), Scopes: describe(p.scopes), Accounts: accounts(), Chosen: chosen.Login,
	}, formTarget(p.redirect))
}

// decide takes the person's answer. A page of another site can neither read the
// token of the form nor send our cookie.
func (s *Server) decide(w http.ResponseWriter, r *http.Request) {
	form, ok := s.personsForm(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	p := s.pending[form.Get("id")]
	valid := p != nil && s.now().Sub(p.created) <= pendingLife && s.sameSession(r, p.session) && equal(form.Get("csrf"), p.csrf)
	if valid {
		delete(s.pending, form.Get("id"))
	}
	s.mu.Unlock()
	if !valid {
		s.forbidden(w)
		return
	}
	a := accountNamed(form.Get("account"))
	switch {
	case form.Get("decision") == "approve" && a != nil:
		s.approve(w, r, p, a)
	case form.Get("decision") == "deny":
		s.redirectBack(w, r, p.redirect, p.state, url.Values{"error": {"access_denied"}, "error_description": {"the person refused"}})
	default:
		s.redirectBack(w, r, p.redirect, p.state, url.Values{"error": {"invalid_request"}, "error_description": {"the form was incomplete"}})
	}
}

func (s *Server) approve(w http.ResponseWriter, r *http.Request, p *pending, a *account) {
	s.mu.Lock()
	s.sweep()
	if s.fires("narrow-scope", false) {
		p.scopes = p.scopes[:1]
	}
	c, err := s.issueCode(p, a)
	s.mu.Unlock()
	if err != nil {
		s.redirectBack(w, r, p.redirect, p.state, url.Values{"error": {"server_error"}})
		return
	}
	s.redirectBack(w, r, p.redirect, p.state, url.Values{"code": {c.Reveal()}})
}

// redirectBack sends the authorization response with state and iss (RFC 9207).
func (s *Server) redirectBack(w http.ResponseWriter, r *http.Request, redirect, state string, v url.Values) {
	u, err := url.Parse(redirect)
	if err != nil {
		s.forbidden(w)
		return
	}
	q := u.Query()
	for k := range v {
		q.Set(k, v.Get(k))
	}
	if state != "" {
		q.Set("state", state)
	}
	q.Set("iss", s.origin)
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// redirectAllowed compares exactly, but lets the port of a loopback IP literal
// that was registered without one be any (RFC 8252 section 7.3). localhost is
// a name and gets no such freedom (section 8.3).
func (s *Server) redirectAllowed(given string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, registered := range s.redirects {
		if given == registered || loopbackMatch(registered, given) {
			return true
		}
	}
	return false
}

func loopbackMatch(registered, given string) bool {
	reg, err := url.Parse(registered)
	if err != nil || reg.Scheme != "http" || reg.Port() != "" {
		return false
	}
	if ip := net.ParseIP(reg.Hostname()); ip == nil || !ip.IsLoopback() {
		return false
	}
	u, err := url.Parse(given)
	if err != nil || u.Port() == "" {
		return false
	}
	// Written again without its port it must be the registered text: nothing
	// else, such as userinfo or an empty query, may hide in it.
	rest, ok := strings.CutPrefix(given, "http://"+reg.Host+":"+u.Port())
	return ok && "http://"+reg.Host+rest == registered
}

// personsForm reads a form that a page of ours sent.
func (s *Server) personsForm(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if o := r.Header.Get("Origin"); o != "" && o != s.origin {
		s.forbidden(w)
		return nil, false
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		s.forbidden(w)
		return nil, false
	}
	form, refused := readForm(r)
	if refused != nil {
		s.forbidden(w)
		return nil, false
	}
	return form, true
}

func (s *Server) forbidden(w http.ResponseWriter) {
	s.render(w, http.StatusForbidden, message{"Not accepted", "This answer does not belong to a page that is open here. Start again from the application."})
}

// cookieName differs from sandbox to sandbox: browsers share cookies between
// the ports of a host.
func (s *Server) cookieName() string {
	_, port, _ := net.SplitHostPort(s.host)
	return "sandbox_session_" + port
}

// session returns the browser's session or a new one. The caller holds mu.
func (s *Server) session(r *http.Request) (string, error) {
	if c, err := r.Cookie(s.cookieName()); err == nil && len(c.Value) == 22 {
		return c.Value, nil
	}
	t, err := s.random("", 16)
	return t.Reveal(), err
}

func (s *Server) setSession(w http.ResponseWriter, session, path string) {
	http.SetCookie(w, &http.Cookie{Name: s.cookieName(), Value: session, Path: path, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

func (s *Server) sameSession(r *http.Request, session string) bool {
	c, err := r.Cookie(s.cookieName())
	return err == nil && equal(c.Value, session)
}

func equal(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func describe(names []string) []scopeInfo {
	var out []scopeInfo
	for _, n := range names {
		for _, s := range scopes() {
			if s.Name == n {
				out = append(out, s)
			}
		}
	}
	return out
}

func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// formTarget is the redirect's origin as a CSP source. CSP has no notation for
// IPv6 literals, so these widen to the scheme.
func formTarget(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	if strings.Contains(u.Host, "[") {
		return u.Scheme + ":"
	}
	return u.Scheme + "://" + u.Host
}
