package proxy

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
)

// preflightAge is how long a browser may keep an answer to a preflight request,
// in seconds.
const preflightAge = "600"

// CheckOrigin refuses what no browser sends as the Origin of a page: that is a
// scheme, a host in lower case and a port unless it is the scheme's own, with
// nothing after it (RFC 6454 section 6.2). "null" and "*" stand for everybody.
func CheckOrigin(origin string) error {
	u, err := url.Parse(origin)
	switch {
	case origin == "*" || origin == "null":
		return errors.New("it stands for every page; name each origin")
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("an origin is of the form http://localhost:5173")
	case origin != u.Scheme+"://"+u.Host:
		return errors.New("an origin ends after host and port")
	case origin != strings.ToLower(origin) || strings.HasSuffix(u.Host, ":"):
		return errors.New("a browser sends scheme and host in lower case and no empty port")
	case u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443":
		return errors.New("a browser leaves out the scheme's own port")
	}
	return nil
}

// isPreflight reports whether a browser asks what a page of another origin may
// send (Fetch standard, "CORS-preflight request"). The key is never in one.
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header["Origin"] != nil && r.Header["Access-Control-Request-Method"] != nil
}

// allowOrigin lets the page that asks read the answer. The listener's guard has
// compared its origin with the list already. Cookies are never part of it, so
// no credentials are allowed.
func (p *Reverse) allowOrigin(h http.Header, r *http.Request) {
	if len(p.o.Origins) == 0 {
		return
	}
	h["Vary"] = append(h["Vary"], "Origin")
	if origin := r.Header.Get("Origin"); origin != "" {
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Expose-Headers"] = []string{"*"}
	}
}

// preflight answers a preflight request: the method that was asked for, if it is
// one that an API has, and of the headers that were asked for those on a fixed
// list.
func (p *Reverse) preflight(w http.ResponseWriter, r *http.Request, rt *route) int {
	h := w.Header()
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	delete(h, "Access-Control-Expose-Headers")
	if method := r.Header.Get("Access-Control-Request-Method"); slices.Contains(pageMethods(), method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	var names []string
	for _, list := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if rt.pageHeader(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(names, ", "))
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
	return http.StatusNoContent
}

func pageMethods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
}

// pageHeader reports whether a page may send a header, given in lower case: one
// that carries the key, describes a request, or that the provider's own
// definition sets.
func (rt *route) pageHeader(name string) bool {
	switch name {
	case "authorization", "x-apiauth-key", "accept", "accept-language", "cache-control", "content-language", "content-type",
		"idempotency-key", "if-match", "if-modified-since", "if-none-match", "if-unmodified-since", "last-event-id",
		"pragma", "prefer", "range", "x-requested-with":
		return true
	}
	if rt.Auth.In == "header" && strings.EqualFold(name, rt.Auth.Name) {
		return true
	}
	_, own := rt.headers[textproto.CanonicalMIMEHeaderKey(name)]
	return own
}
