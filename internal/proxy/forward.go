package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// replayable is the largest body that is kept for a second try, in bytes.
const replayable = 64 << 10

// exchange is one request on its way.
type exchange struct {
	p      *Reverse
	w      http.ResponseWriter
	r      *http.Request
	rt     *route
	prefix string // of the path, before the connection's name
	rest   string // of the path, after it, with its escapes
	entry  Entry
}

// refusal is the body of an answer that is the proxy's own.
type refusal struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

// refuse answers in the proxy's own name.
func (x *exchange) refuse(status int, word, message string) {
	h := x.w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	body, err := json.Marshal(refusal{word, message})
	if err != nil {
		body = nil
	}
	body = append(body, '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.entry.Status, x.entry.Why = status, message
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body)
		x.entry.Bytes = int64(len(body))
	}
}

// admit decides whether the request may be made at all.
func (x *exchange) admit() {
	if x.rt == nil {
		x.refuse(http.StatusNotFound, "unknown_connection", "no connection of that name is served here")
		return
	}
	scheme, host, path, why := x.target()
	switch {
	case x.r.Method == http.MethodConnect:
		why = "a tunnel has no path"
	case strings.Contains(x.rest, x.p.key) || x.rt.Auth.In != placeQuery && strings.Contains(x.r.URL.RawQuery, x.p.key):
		why = "the key of this run stands where it would go on to the API"
	}
	if why != "" {
		x.refuse(http.StatusBadRequest, "bad_path", why)
		return
	}
	rest := x.rest
	if rest == "" {
		rest = "/"
	}
	if !x.rt.Allow.Allow(x.r.Method, rest) {
		x.refuse(http.StatusForbidden, "not_allowed", "the rules of this run do not allow this method and path")
		return
	}
	if name := x.rt.Allow.evaded(x.r); name != "" {
		x.refuse(http.StatusForbidden, "not_allowed", evades+name)
		return
	}
	if wait, rate := x.rt.limiter.take(x.p.o.Now()); wait > 0 {
		seconds := int64((wait + time.Second - 1) / time.Second)
		x.w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		x.refuse(http.StatusTooManyRequests, "too_many_requests", "the run allows "+rate.String()+" for this connection; try again in "+strconv.FormatInt(seconds, 10)+" s")
		return
	}
	x.forward(scheme, host, path)
}

// target finds where the request leads: below the connection's base, or to the
// pinned host that the path names. The path keeps its escapes.
func (x *exchange) target() (scheme, host, path, why string) {
	rest := x.rest
	if hasDotPart(rest) {
		return "", "", "", "the path has . or .. in it"
	}
	named, ok := strings.CutPrefix(rest, "/"+hostPrefix)
	if !ok {
		if x.rt.host == "" {
			return "", "", "", "this connection has no base address: write /~HOST after its name"
		}
		return x.rt.scheme, x.rt.host, x.rt.path + rest, ""
	}
	host, path, _ = strings.Cut(named, "/")
	for _, scheme := range []string{"http", "https"} { // http where the pin is a server on this machine
		if x.rt.mayCall(scheme, host) {
			return scheme, host, "/" + path, ""
		}
	}
	return "", "", "", "that host is not one that this connection was bound to"
}

// hasDotPart reports whether a part of a path is . or .., as it stands or
// escaped.
func hasDotPart(escaped string) bool {
	if !strings.ContainsAny(escaped, ".%") {
		return false
	}
	for part := range strings.SplitSeq(escaped, "/") {
		if len(part) > len("%2e%2e") {
			continue
		}
		if p := strings.ReplaceAll(strings.ReplaceAll(part, "%2e", "."), "%2E", "."); p == "." || p == ".." {
			return true
		}
	}
	return false
}

// forward sends the request with the token, once more with another one if the
// API refuses the first, and passes the answer on.
func (x *exchange) forward(scheme, host, path string) {
	p, rt := x.p, x.rt
	ctx := x.r.Context()
	token, err := p.o.Tokens.Token(ctx, rt.Connection, false)
	if err != nil {
		x.noToken(err)
		return
	}
	out, again, err := x.outgoing(scheme, host, path)
	if err != nil {
		x.broken(err)
		return
	}
	resp, err := x.send(out, token)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && again != nil {
		if fresh, ok := rt.renewal.instead(ctx, p.o.Tokens, rt.Connection, token, p.o.Now()); ok {
			_ = resp.Body.Close()
			if out, err = again(); err == nil {
				token = fresh
				resp, err = x.send(out, token)
			}
		}
	}
	if err != nil {
		x.broken(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	scrub := rt.scrubber(token)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(out, resp, scrub)
		return
	}
	if scrub != nil {
		if err := scrub.response(resp); err != nil {
			x.broken(err)
			return
		}
	}
	x.answer(out, resp)
}

// send sends a request with a token in it.
func (x *exchange) send(out *http.Request, token secret.Text) (*http.Response, error) {
	insert(out, x.rt.Auth, token)
	resp, err := x.rt.way(x.p, out).RoundTrip(out)
	if err == nil && x.p.o.Answered != nil {
		x.p.o.Answered(x.r.Context(), x.rt.Connection, resp.StatusCode)
	}
	return resp, err
}

// way is how a request leaves.
func (rt *route) way(p *Reverse, out *http.Request) http.RoundTripper {
	if rt.direct != nil && out.URL.Scheme == rt.scheme && out.URL.Host == rt.host && fits(out) {
		return rt.direct
	}
	return p.transport
}

// scrubber returns what takes echoes of a token out of answers: each byte of one
// becomes an x. It is kept until the token is another one.
func (rt *route) scrubber(token secret.Text) *scrubber {
	if kept := rt.scrub.Load(); kept != nil && kept.token.Equal(token) {
		return kept.scrubber
	}
	s := newScrubber(echo{token: token})
	rt.scrub.Store(&keptScrubber{token, s})
	return s
}

type keptScrubber struct {
	token    secret.Text
	scrubber *scrubber
}

// outgoing makes the request for the API, without the token. again makes it
// another time; it is nil when the body is not at hand any more.
func (x *exchange) outgoing(scheme, host, path string) (req *http.Request, again func() (*http.Request, error), err error) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, nil, err
	}
	r := x.r
	upgrade := ""
	if webSocket(r.Header) {
		upgrade = upgradeType(r.Header)
	}
	var kept []byte
	streams := r.ContentLength < 0 || r.ContentLength > replayable || r.ContentLength > 0 && r.Header.Get("Expect") != ""
	if r.ContentLength > 0 && !streams {
		kept = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, kept); err != nil {
			return nil, nil, err
		}
	}
	build := func() (*http.Request, error) {
		req := (&http.Request{
			Method: r.Method,
			URL:    &url.URL{Scheme: scheme, Host: host, Path: decoded, RawPath: path, RawQuery: r.URL.RawQuery},
			Host:   host, Header: x.requestHeader(upgrade),
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		}).WithContext(r.Context())
		switch {
		case kept != nil:
			req.ContentLength = int64(len(kept))
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(kept)), nil }
			req.Body, _ = req.GetBody()
		case streams:
			// The answer may begin before the body has come to its end.
			_ = http.NewResponseController(x.w).EnableFullDuplex()
			req.ContentLength, req.Body = r.ContentLength, r.Body
		}
		return req, nil
	}
	req, err = build()
	if streams || upgrade != "" {
		return req, nil, err
	}
	return req, build, err
}

// answer passes an answer on.
func (x *exchange) answer(out *http.Request, resp *http.Response) {
	x.answerHeader(out, resp)
	x.entry.Status = resp.StatusCode
	x.w.WriteHeader(resp.StatusCode)
	if x.r.Method == http.MethodHead || resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		return
	}
	x.copy(resp.Body, resp.ContentLength)
}

// copy streams a body of a known length, or of -1. What has come leaves before
// more is waited for. A body that breaks off breaks off here too.
func (x *exchange) copy(body io.Reader, length int64) {
	buf := x.p.buffers.get()
	defer x.p.buffers.put(buf)
	control := http.NewResponseController(x.w)
	if length < 0 {
		_ = control.Flush()
	}
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			wrote, werr := x.w.Write((*buf)[:n])
			x.entry.Bytes += int64(wrote)
			if werr != nil {
				panic(http.ErrAbortHandler)
			}
			if length < 0 || x.entry.Bytes < length && n < len(*buf) {
				_ = control.Flush()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return
		default:
			x.entry.Why = "the answer broke off"
			panic(http.ErrAbortHandler)
		}
	}
}

// upgrade joins both sides of a connection that has changed its protocol.
func (x *exchange) upgrade(out *http.Request, resp *http.Response, scrub *scrubber) {
	back, ok := resp.Body.(io.ReadWriteCloser)
	if asked := out.Header.Get("Upgrade"); !ok || asked == "" || !strings.EqualFold(asked, resp.Header.Get("Upgrade")) {
		x.refuse(http.StatusBadGateway, "no_answer", "the API switched to a protocol that was not asked for")
		return
	}
	down := io.Reader(back)
	if scrub != nil {
		scrub.header(resp.Header)
		down = scrub.frames(back)
	}
	x.answerHeader(out, resp)
	h := x.w.Header().Clone()
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", resp.Header.Get("Upgrade"))
	conn, buffered, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.refuse(http.StatusBadGateway, "no_answer", "this connection cannot change its protocol")
		return
	}
	defer conn.Close()
	x.entry.Status = resp.StatusCode
	head := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(head)
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(back, buffered.Reader)
		_ = back.Close()
	}()
	x.entry.Bytes, _ = io.Copy(conn, down)
	_ = conn.Close()
	<-done
}

// TokenError is what a Tokens returns when there is no token to send.
type TokenError struct {
	// Word says what is wrong to a program: needs_connect, temporary, store,
	// refused or failed.
	Word string
	// Err says it to a person. It holds no credential.
	Err error
}

// Error is that of Err.
func (e *TokenError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *TokenError) Unwrap() error { return e.Err }

// noToken answers when there is no token to send.
func (x *exchange) noToken(err error) {
	if x.gone(err) {
		return
	}
	if e, ok := errors.AsType[*TokenError](err); ok {
		x.refuse(http.StatusServiceUnavailable, e.Word, e.Error())
		return
	}
	x.refuse(http.StatusServiceUnavailable, "failed", "there is no token for this connection")
}

// broken answers when the API did not. Texts of net/http are not passed on: they
// may quote the address, and a key in it.
func (x *exchange) broken(err error) {
	if x.gone(err) {
		return
	}
	if e, ok := errors.AsType[*AddressError](err); ok {
		x.refuse(http.StatusBadGateway, "refused_address", e.Error())
		return
	}
	if e, ok := errors.AsType[*CodingError](err); ok {
		x.refuse(http.StatusBadGateway, "no_answer", e.Error())
		return
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		x.refuse(http.StatusGatewayTimeout, "timeout", "the API did not answer in time")
		return
	}
	x.refuse(http.StatusBadGateway, "no_answer", "no answer from the API: "+reason(err))
}

// gone reports whether the client is: nobody is left to answer.
func (x *exchange) gone(err error) bool {
	if x.r.Context().Err() == nil || !errors.Is(err, context.Canceled) {
		return false
	}
	x.entry.Why = "the client went away"
	return true
}
