package loopback

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// Guard holds the checks that come before a handler on loopback.
type Guard struct {
	// Hosts are the only values of the Host header that are answered, compared
	// exactly, port included. It is never empty in use: Listener.Serve fills
	// in its own, and Wrap with none refuses everything.
	Hosts []string
	// Origins are the only values of the Origin header that are answered,
	// compared exactly ("http://127.0.0.1:8080"). A request without an Origin
	// passes; with no Origins, every request that has one is refused.
	Origins []string
	// Capable reports whether the request shows the secret that this server
	// asks for. Nil asks for none. It must compare in constant time (see
	// SameSecret).
	Capable func(*http.Request) bool
	// OwnHeaders leaves the security headers of answered requests to the
	// handler: a reverse proxy passes those of the upstream on. Refusals
	// carry them always.
	OwnHeaders bool
	// Log receives a fixed line for each kind of refusal. It may be nil.
	Log func(line string)
}

// Wrap returns h behind the checks of g: 400 for a request that is not a plain
// one for this server, 421 for a foreign Host, 403 for a foreign Origin, 401
// without the capability.
func (g Guard) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, why := g.check(r)
		if status != 0 {
			if g.Log != nil {
				g.Log(why)
			}
			Refuse(w, status)
			return
		}
		if !g.OwnHeaders {
			SetHeaders(w.Header())
		}
		h.ServeHTTP(w, r)
	})
}

func (g Guard) check(r *http.Request) (status int, why string) {
	switch {
	case !strings.HasPrefix(r.RequestURI, "/"), r.URL.Host != "", r.URL.User != nil:
		return http.StatusBadRequest, "refused a request that was meant for a proxy"
	case !slices.Contains(g.Hosts, r.Host):
		return http.StatusMisdirectedRequest, "refused a request for another host"
	case !g.originAllowed(r.Header):
		return http.StatusForbidden, "refused a request from a web page of another origin"
	case g.Capable != nil && !g.Capable(r):
		return http.StatusUnauthorized, "refused a request without the key of this run"
	}
	return 0, ""
}

func (g Guard) originAllowed(h http.Header) bool {
	values, there := h[textproto.CanonicalMIMEHeaderKey("Origin")]
	if !there {
		return true
	}
	return len(values) == 1 && slices.Contains(g.Origins, values[0])
}

// SameSecret compares two secrets in constant time for equal lengths. An empty
// want is never the same as anything.
func SameSecret(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// style is the only style of our pages; the policy names its hash.
const style = `:root{color-scheme:light dark}` +
	`body{margin:0;min-height:100vh;display:grid;place-items:center;` +
	`font:1rem/1.5 system-ui,sans-serif;background:light-dark(#f6f7f9,#15181c);color:light-dark(#1c2127,#e6e9ed)}` +
	`main{box-sizing:border-box;width:min(32rem,100% - 2rem);padding:2rem;border-radius:12px;` +
	`background:light-dark(#fff,#1e2329);border:1px solid light-dark(#d9dee4,#343b44)}` +
	`h1{margin:0 0 .5rem;font-size:1.25rem;line-height:1.3}p{margin:.5rem 0 0}`

// SetHeaders sets the security headers of every answer: nothing is stored,
// framed, sniffed or sent on as a referrer, and a page may use nothing but the
// one style of Page. There is no CORS header. A handler with other needs
// replaces the Content-Security-Policy.
func SetHeaders(h http.Header) {
	sum := sha256.Sum256([]byte(style))
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
}

// Refuse answers with a fixed text for the status and nothing of the request.
func Refuse(w http.ResponseWriter, status int) {
	SetHeaders(w.Header())
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	send(w, status, http.StatusText(status)+"\n")
}

// Page answers with a small page for a person: a title and paragraphs, readable
// in light and dark, on a phone and by a screen reader, without any external
// resource. The texts are ours, never a part of the request.
func Page(w http.ResponseWriter, status int, title string, paragraphs ...string) {
	var b strings.Builder
	title = html.EscapeString(title)
	b.WriteString(`<!doctype html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1"><title>`)
	b.WriteString(title)
	b.WriteString(`</title><style>` + style + `</style></head><body><main><h1>`)
	b.WriteString(title)
	b.WriteString(`</h1>`)
	for _, p := range paragraphs {
		b.WriteString(`<p>` + html.EscapeString(p) + `</p>`)
	}
	b.WriteString("</main></body></html>\n")
	SetHeaders(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	send(w, status, b.String())
}

// send writes a body whose length is known, so that one flush is all of it.
func send(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}
