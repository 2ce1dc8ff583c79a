package sandbox

import (
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// refusal is an OAuth error response (RFC 6749 section 5.2).
type refusal struct {
	status     int
	code, desc string
	basic      bool // answer with a WWW-Authenticate: Basic challenge
}

func refuse(code, desc string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: code, desc: desc}
}

func writeRefusal(w http.ResponseWriter, e *refusal) {
	if e.basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
	}
	writeJSON(w, e.status, map[string]any{"error": e.code, "error_description": e.desc})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(b)
}

// readForm reads a form body (RFC 6749 sections 3.2 and B). Parameters in the
// URL, repeated parameters and other media types are refused.
func readForm(r *http.Request) (url.Values, *refusal) {
	if mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mt != "application/x-www-form-urlencoded" {
		return nil, refuse("invalid_request", "the body must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, refuse("invalid_request", "parameters must be in the body, not in the URL")
	}
	if err := r.ParseForm(); err != nil {
		return nil, refuse("invalid_request", "the body cannot be read as a form")
	}
	for _, v := range r.PostForm {
		if len(v) > 1 {
			return nil, refuse("invalid_request", "a parameter is repeated")
		}
	}
	return r.PostForm, nil
}

// authenticate finds the client of a request (RFC 6749 section 2.3). Each
// client has one method, registered beforehand; a public one must not send a
// secret.
func (s *Server) authenticate(r *http.Request, form url.Values) (*client, *refusal) {
	id, method := form.Get("client_id"), authNone
	var given secret.Text
	header := r.Header.Values("Authorization")
	switch {
	case len(header) > 1:
		return nil, refuse("invalid_request", "the Authorization header is repeated")
	case len(header) == 1:
		if form.Has("client_secret") {
			return nil, refuse("invalid_request", "the client authenticates in two ways at once")
		}
		user, pass, ok := r.BasicAuth()
		if !ok {
			return nil, badClient(true, "the Authorization header is not Basic")
		}
		// RFC 6749 section 2.3.1: both parts are form-encoded.
		user, err1 := url.QueryUnescape(user)
		pass, err2 := url.QueryUnescape(pass)
		if err1 != nil || err2 != nil {
			return nil, badClient(true, "the Basic credentials are not form-encoded")
		}
		if id != "" && id != user {
			return nil, refuse("invalid_request", "two different client ids")
		}
		id, given, method = user, secret.New(pass), authBasic
	case form.Has("client_secret"):
		given, method = secret.New(form.Get("client_secret")), authPost
	}
	if id == "" {
		return nil, badClient(false, "the client is not named")
	}
	c := s.clients[id]
	switch {
	case c == nil:
		return nil, badClient(method == authBasic, "no such client")
	case c.method != method:
		return nil, badClient(method == authBasic, "this client is registered for "+c.method+", not for "+method)
	case method != authNone && !s.knows(c, given):
		return nil, badClient(method == authBasic, "the client secret is wrong")
	}
	return c, nil
}

func badClient(basic bool, desc string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", desc: desc, basic: basic}
}

// bearer returns the live access token of an API request, or answers for it
// (RFC 6750 section 3).
func (s *Server) bearer(w http.ResponseWriter, r *http.Request, scope string) (*accessToken, string, bool) {
	deny := func(status int, attrs string) (*accessToken, string, bool) {
		s.count(func(st *Stats) { st.APIUnauthorized++ })
		h := `Bearer realm="sandbox"`
		e := map[string]any{"error": "unauthorized", "error_description": "an access token is required"}
		if attrs != "" {
			code, desc, _ := strings.Cut(attrs, ": ")
			h += `, error="` + code + `", error_description="` + desc + `"`
			e = map[string]any{"error": code, "error_description": desc}
		}
		if code, _, _ := strings.Cut(attrs, ":"); code == "insufficient_scope" {
			h += `, scope="` + scope + `"`
		}
		w.Header().Set("WWW-Authenticate", h)
		writeJSON(w, status, e)
		return nil, "", false
	}
	if r.URL.Query().Has("access_token") {
		return deny(http.StatusBadRequest, "invalid_request: tokens in the URL are not accepted")
	}
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return deny(http.StatusUnauthorized, "")
	}
	kind, token, ok := strings.Cut(header[0], " ")
	if len(header) > 1 || !ok || !strings.EqualFold(kind, "Bearer") || token == "" {
		return deny(http.StatusBadRequest, "invalid_request: the Authorization header is not one Bearer token")
	}
	s.mu.Lock()
	a := s.access[hashOf(token)]
	live := a != nil && s.accessLive(a)
	expired := a != nil && !a.revoked && !a.fam.revoked
	allowed := live && (scope == "" || contains(a.scopes, scope))
	s.mu.Unlock()
	switch {
	case !live && expired:
		return deny(http.StatusUnauthorized, "invalid_token: the access token expired")
	case !live:
		return deny(http.StatusUnauthorized, "invalid_token: the access token is unknown or revoked")
	case !allowed:
		return deny(http.StatusForbidden, "insufficient_scope: the access token lacks a scope")
	}
	return a, token, true
}
