package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// remembered is how many tokens of one host are looked for in what it answers:
// those of several connections, and the ones before a refresh.
const remembered = 8

// site is a host for which the proxy answers.
type site struct {
	host    string // in normal form
	plain   bool   // http is as good as https
	targets []*Target
	local   http.Handler // in place of targets

	mu       sync.Mutex
	sent     []echo // tokens that this host may know, newest last
	scrubber *scrubber
}

// serveInner answers a request that came through a tunnel to a pinned host.
func (e *Egress) serveInner(w http.ResponseWriter, r *http.Request) {
	t, ok := r.Context().Value(tunnelKey{}).(*tunnel)
	if !ok {
		refuse(w, http.StatusInternalServerError, "this request has no tunnel")
		return
	}
	s, scheme := t.site, "https"
	if r.TLS == nil {
		scheme = "http"
	}
	switch {
	case scheme == "http" && !s.plain:
		e.refuse(w, r, http.StatusForbidden, s.host+" is reached over https only")
	case r.Method == http.MethodConnect || r.URL.Host != "" || r.URL.Scheme != "" || r.URL.User != nil || !strings.HasPrefix(r.URL.Path, "/"):
		e.refuse(w, r, http.StatusBadRequest, "inside of a tunnel a request names a path and no address")
	case r.TLS != nil && r.TLS.ServerName != "" && !isHost(r.TLS.ServerName, hostname(s.host)):
		e.refuse(w, r, http.StatusMisdirectedRequest, "the name in the TLS handshake is not that of the tunnel")
	case s.local != nil:
		if e.agrees(w, r, s, scheme) {
			e.log(r, s.host, http.StatusOK, "answered here")
			s.local.ServeHTTP(w, r)
		}
	default:
		e.serveSite(w, r, s, scheme)
	}
}

func isHost(name, want string) bool {
	normal, err := providers.NormalHost(name)
	return err == nil && normal == want
}

// agrees refuses a request whose Host is another than where it came to.
func (e *Egress) agrees(w http.ResponseWriter, r *http.Request, s *site, scheme string) bool {
	normal := providers.NormalHost
	if scheme == "http" {
		normal = plainHost
	}
	host, err := normal(r.Host)
	switch {
	case err != nil:
		e.refuse(w, r, http.StatusBadRequest, "the Host of the request is not a plain host")
		return false
	case host != s.host:
		e.refuse(w, r, http.StatusMisdirectedRequest, "the Host of the request is not that of the tunnel")
		return false
	}
	// HTTP/2 has :authority in its place; what else there is must say the same.
	for _, other := range r.Header["Host"] {
		if host, err = normal(other); err != nil || host != s.host {
			e.refuse(w, r, http.StatusBadRequest, "the request names two hosts")
			return false
		}
	}
	return true
}

// serveSite passes a request for a pinned host on, with the token in place of
// its placeholder.
func (e *Egress) serveSite(w http.ResponseWriter, r *http.Request, s *site, scheme string) {
	if !e.agrees(w, r, s, scheme) {
		return
	}
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	target, place, err := e.examine(r, s)
	if err != nil {
		e.refuseMisplaced(w, r, s, err)
		return
	}
	if !s.allows(target, r) {
		e.refuse(w, r, http.StatusForbidden, printable(r.Method)+" "+printable(r.URL.EscapedPath())+" is not among what this run may call")
		return
	}
	if name := s.evaded(target, r); name != "" {
		e.refuse(w, r, http.StatusForbidden, evades+name)
		return
	}
	out := outgoing(r, scheme, s.host)
	// Answers are searched for tokens, and frames of a WebSocket too.
	out.Header["Accept-Encoding"] = []string{"identity"}
	delete(out.Header, "Sec-Websocket-Extensions")
	x := passage{e: e, s: s, target: target, place: place, out: out}
	if err := x.prepare(r); err != nil {
		e.refuseFailed(w, r, s, err)
		return
	}
	resp, err := x.do(r.Context())
	if err != nil {
		e.refuseFailed(w, r, s, err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	scrub := s.scrub()
	if scrub != nil {
		if err := scrub.response(resp); err != nil {
			e.refuseFailed(w, r, s, err)
			return
		}
	}
	whose := ""
	if target != nil {
		whose = target.Connection
	}
	e.log(r, s.host, resp.StatusCode, whose)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		e.tunnels.upgrade(w, resp, scrub)
		return
	}
	e.buffers.relay(w, resp)
}

// examine finds the one placeholder that may be in a request, and refuses every
// other. The place is empty in r afterwards. It returns no target for a request
// without a placeholder.
func (e *Egress) examine(r *http.Request, s *site) (target *Target, place slot, err error) {
	for _, t := range s.targets {
		if found, ok := findSlot(r, t.Auth, t.Placeholder.Reveal()); ok {
			target, place = t, found
			place.fill(r, "")
			break
		}
	}
	scratch := e.buffers.get()
	defer e.buffers.put(scratch)
	if bad := e.finder.head(r, *scratch); bad != nil {
		return nil, slot{}, bad
	}
	return target, place, nil
}

// refuseMisplaced says where a placeholder stood, and where it belongs.
func (e *Egress) refuseMisplaced(w http.ResponseWriter, r *http.Request, s *site, err error) {
	bad, ok := errors.AsType[*misplacedError](err)
	if !ok {
		e.refuseFailed(w, r, s, err)
		return
	}
	owner := e.owners[bad.owner]
	why := "the placeholder of " + owner + " stands in " + bad.where + "; "
	belongs := "it is for other hosts than " + s.host
	for _, t := range s.targets {
		if t.Connection == owner {
			belongs = "it belongs, once, into the " + t.Auth.String()
		}
	}
	e.refuse(w, r, http.StatusForbidden, why+belongs)
}

func (e *Egress) refuseFailed(w http.ResponseWriter, r *http.Request, s *site, err error) {
	var (
		coding *CodingError
		token  *tokenError
		short  *shortBodyError
	)
	switch {
	case errors.As(err, &short):
		e.refuse(w, r, http.StatusBadRequest, short.Error())
	case errors.As(err, &coding):
		e.refuse(w, r, http.StatusBadGateway, coding.Error())
	case errors.As(err, &token):
		e.refuse(w, r, http.StatusBadGateway, token.Error())
	default:
		if _, ok := errors.AsType[*misplacedError](err); ok {
			e.refuseMisplaced(w, r, s, err)
			return
		}
		e.refuse(w, r, refusalStatus(err), unreachable(s.host, err))
	}
}

// allows reports whether the rules permit a request: those of the connection
// whose token it gets, or without one those of any connection of the host.
func (s *site) allows(target *Target, r *http.Request) bool {
	path := r.URL.EscapedPath()
	if target != nil {
		return target.Allow.Allow(r.Method, path)
	}
	return slices.ContainsFunc(s.targets, func(t *Target) bool { return t.Allow.Allow(r.Method, path) })
}

// evaded is Rules.evaded for the rules that permitted a request.
func (s *site) evaded(target *Target, r *http.Request) string {
	if target != nil {
		return target.Allow.evaded(r)
	}
	place := ""
	for _, t := range s.targets {
		if !t.Allow.Allow(r.Method, r.URL.EscapedPath()) {
			continue
		}
		if place = t.Allow.evaded(r); place == "" {
			break
		}
	}
	return place
}

// remember notes a token that a host of its connection is about to get: what one
// of them is told, another may repeat.
func (e *Egress) remember(t *Target, token secret.Text) {
	for _, s := range e.sites {
		if slices.ContainsFunc(s.targets, func(other *Target) bool { return other.Connection == t.Connection }) {
			s.remember(token, t.Placeholder)
		}
	}
}

// remember notes a token that the host may repeat.
func (s *site) remember(token, placeholder secret.Text) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.sent, func(known echo) bool { return known.token.Equal(token) }) {
		return
	}
	s.sent = append(s.sent, echo{token, placeholder})
	if len(s.sent) > remembered {
		s.sent = slices.Delete(s.sent, 0, 1)
	}
	s.scrubber = newScrubber(s.sent...)
}

// scrub returns what knows the tokens that the host may know from this run; nil
// when there are none.
func (s *site) scrub() *scrubber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scrubber
}

// outgoing is the request as the API gets it, without the body. Hop-by-hop
// headers (RFC 9110 section 7.6.1) and the key of the run stay here.
func outgoing(r *http.Request, scheme, host string) *http.Request {
	h := make(http.Header, len(r.Header)+2)
	for name, values := range r.Header {
		if !hopByHop(name) {
			h[name] = values
		}
	}
	for _, names := range r.Header["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			delete(h, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	if webSocket(r.Header) {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	if slices.ContainsFunc(r.Header["Te"], func(v string) bool { return strings.Contains(strings.ToLower(v), "trailers") }) {
		h["Te"] = []string{"trailers"}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // none is sent
	}
	out := &http.Request{
		Method:        r.Method,
		URL:           &url.URL{Scheme: scheme, Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery},
		Host:          host,
		Header:        h,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		ContentLength: r.ContentLength,
		Trailer:       r.Trailer,
	}
	if scheme == "http" {
		out.Host = strings.TrimSuffix(host, ":80")
	}
	return out.WithContext(r.Context())
}

func hopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Host", "Http2-Settings":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// webSocket reports whether a request asks for one (RFC 6455 section 4.1).
func webSocket(h http.Header) bool {
	upgrade := h["Upgrade"]
	return len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket")
}
