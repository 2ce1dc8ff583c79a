package sandbox

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

const itemPages, itemsPerPage = 3, 3

func (s *Server) apiMe(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.APICalls++ })
	a, token, ok := s.bearer(w, r, "")
	if !ok {
		return
	}
	me := identity(a.fam)
	me["scopes"], me["token"] = a.scopes, fingerprint(secret.New(token))
	writeJSON(w, http.StatusOK, me)
}

// apiEcho answers with the request as it arrived. The token is replaced by its
// fingerprint wherever it stands.
func (s *Server) apiEcho(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.APICalls++ })
	_, token, ok := s.bearer(w, r, "")
	if !ok {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeJSON(w, http.StatusRequestEntityTooLarge, map[string]any{"error": "too_large"})
		return
	}
	mark := fingerprint(secret.New(token))
	hide := func(v string) string { return strings.ReplaceAll(v, token, mark) }
	headers := map[string][]string{}
	for k, vs := range r.Header {
		for _, v := range vs {
			headers[k] = append(headers[k], hide(v))
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"method": r.Method, "path": hide(r.URL.Path), "query": hide(r.URL.RawQuery), "host": r.Host,
		"headers": headers, "body": hide(string(body)), "token": mark,
	})
}

// apiItems has three pages, linked by the Link header (RFC 8288). It needs the
// scope items.read.
func (s *Server) apiItems(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.APICalls++ })
	if _, _, ok := s.bearer(w, r, "items.read"); !ok {
		return
	}
	page := 1
	if p := r.URL.Query().Get("page"); p != "" {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 || n > itemPages {
			writeJSON(w, http.StatusNotFound, map[string]any{"error": "not_found", "error_description": "there is no such page"})
			return
		}
		page = n
	}
	link := func(n int, rel string) string {
		return fmt.Sprintf("<%s/items?page=%d>; rel=%q", s.APIBase(), n, rel)
	}
	links := []string{link(1, "first"), link(itemPages, "last")}
	if page > 1 {
		links = append(links, link(page-1, "prev"))
	}
	if page < itemPages {
		links = append(links, link(page+1, "next"))
	}
	var items []map[string]any
	for i := range itemsPerPage {
		n := (page-1)*itemsPerPage + i + 1
		items = append(items, map[string]any{"id": n, "name": fmt.Sprintf("Item %d", n)})
	}
	w.Header().Set("Link", strings.Join(links, ", "))
	writeJSON(w, http.StatusOK, map[string]any{"page": page, "pages": itemPages, "items": items})
}

// apiStatus answers with the status in its path, from 200 to 599.
func (s *Server) apiStatus(w http.ResponseWriter, r *http.Request) {
	s.count(func(st *Stats) { st.APICalls++ })
	if _, _, ok := s.bearer(w, r, ""); !ok {
		return
	}
	n, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || n < 200 || n > 599 {
		writeJSON(w, http.StatusNotFound, map[string]any{"error": "not_found", "error_description": "the status must be 200 to 599"})
		return
	}
	switch n {
	case http.StatusNoContent, http.StatusNotModified:
		w.WriteHeader(n)
		return
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="sandbox", error="invalid_token"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, n, map[string]any{"status": n})
}
