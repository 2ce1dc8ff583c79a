package proxy

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/providers"
)

// requestHeader copies what an API may see of a request.
func (x *exchange) requestHeader(upgrade string) http.Header {
	in := x.r.Header
	out := make(http.Header, len(in)+len(x.rt.headers)+3)
	for name, values := range in {
		if !staysHere(name) {
			out[name] = values
		}
	}
	for _, list := range in["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(out, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	for name, values := range x.rt.headers {
		if _, there := out[name]; !there {
			out[name] = values
		}
	}
	if _, there := out["User-Agent"]; !there {
		out["User-Agent"] = []string{x.p.o.UserAgent}
	}
	// What is compressed could not be searched for echoes of the token.
	out["Accept-Encoding"] = []string{"identity"}
	if upgrade != "" {
		out["Connection"], out["Upgrade"] = []string{"Upgrade"}, []string{upgrade}
	}
	delete(out, "Sec-Websocket-Extensions") // nor what is compressed in frames
	return out
}

// staysHere reports whether a header of a request is not for the API: it holds
// the run's key, says where the request came from, belongs to one connection
// (RFC 9110 section 7.6.1), or is a browser's own. The name is in canonical
// form.
func staysHere(name string) bool {
	switch name {
	case "Authorization", keyHeader, "Cookie", "Cookie2", "Origin", "Referer",
		"Forwarded", "X-Real-Ip", "Via", "True-Client-Ip", "Cf-Connecting-Ip",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Content-Length":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Proxy-") ||
		strings.HasPrefix(name, "Sec-Fetch-") || strings.HasPrefix(name, "Sec-Ch-") || strings.HasPrefix(name, "Access-Control-")
}

// upgradeType returns the protocol that a message switches to, or nothing.
func upgradeType(h http.Header) string {
	for _, list := range h["Connection"] {
		for token := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return h.Get("Upgrade")
			}
		}
	}
	return ""
}

// withoutParameter takes a parameter out of a query and leaves the rest as it
// is.
func withoutParameter(query, name string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if pair != "" && !sameName(key, name) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
}

// answerHeader copies what a client may see of an answer's head.
func (x *exchange) answerHeader(out *http.Request, resp *http.Response) {
	h := x.w.Header()
	for name, values := range resp.Header {
		if keptBack(name) {
			continue
		}
		if name == "Vary" {
			values = append(values[:len(values):len(values)], h["Vary"]...)
		}
		h[name] = values
	}
	for _, list := range resp.Header["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			delete(h, textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
	}
	if location := h["Location"]; len(location) == 1 {
		h["Location"] = []string{x.location(out.URL, location[0])}
	}
	// Should a browser show an answer as a page, it is one that can do nothing.
	h["Content-Security-Policy"] = []string{"default-src 'none'; sandbox"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Referrer-Policy"] = []string{"no-referrer"} // the address may hold the key
}

// keptBack reports whether a header of an answer is not for the client: it would
// set state in its browser for this address, give its own view of who may read
// the answer, belongs to one connection, or echoes credentials.
func keptBack(name string) bool {
	switch name {
	case "Set-Cookie", "Set-Cookie2", "Authorization", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Public-Key-Pins",
		"Nel", "Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "Sourcemap", "Refresh",
		"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Content-Security-Policy", "Content-Security-Policy-Report-Only", "X-Content-Type-Options", "Referrer-Policy":
		return true
	}
	return strings.HasPrefix(name, "Access-Control-") || strings.HasPrefix(name, "Proxy-")
}

// location leads a redirect to a pinned host back through this proxy, and leaves
// every other one as it is.
func (x *exchange) location(from *url.URL, location string) string {
	to, err := from.Parse(location)
	if err != nil || to.User != nil || !x.rt.mayCall(to.Scheme, to.Host) {
		return location
	}
	path := to.EscapedPath()
	if below, ok := strings.CutPrefix(path, x.rt.path); ok && to.Scheme == x.rt.scheme && sameHost(to, x.rt) && (below == "" || below[0] == '/') {
		path = below
	} else {
		path = "/" + hostPrefix + to.Host + path
	}
	back := x.p.URL() + x.prefix + "/" + x.rt.Connection + path
	query := to.RawQuery
	if x.rt.Auth.In == placeQuery {
		query = withoutParameter(query, x.rt.Auth.Name)
	}
	if query != "" {
		back += "?" + query
	}
	if f := to.EscapedFragment(); f != "" {
		back += "#" + f
	}
	return back
}

func sameHost(to *url.URL, rt *route) bool {
	a, err := providers.URLHost(to.Scheme + "://" + to.Host)
	if err != nil {
		return false
	}
	b, err := providers.URLHost(rt.scheme + "://" + rt.host)
	return err == nil && a == b
}
