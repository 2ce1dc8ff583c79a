package oauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Limits on what a server may make us read.
const (
	maxTokenBody = 192 << 10 // token endpoints; the journal reserves this much
	maxBody      = 1 << 20   // everywhere else
	maxHeader    = 64 << 10
)

// Options of an HTTP. The zero value is right for a program that talks to real
// issuers. There is no option that disables certificate verification.
type Options struct {
	// CAFile names a PEM file of certificates to trust besides the system's.
	CAFile string
	// UserAgent defaults to "apiauth".
	UserAgent string
	// Now defaults to time.Now.
	Now func() time.Time
	// Dial defaults to a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy defaults to http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// Roots replaces the system's certificates. CAFile is added to a copy.
	Roots func() (*x509.CertPool, error)
	// Timeouts defaults to 10 s, 10 s, 15 s and 30 s.
	Timeouts Timeouts
}

// Timeouts bound the phases of one request. Zero means the default.
type Timeouts struct {
	Dial   time.Duration // TCP connection, default 10 s
	TLS    time.Duration // TLS handshake, default 10 s
	Header time.Duration // from the request's last byte to the answer's header, default 15 s
	Total  time.Duration // all of it, body included, default 30 s
}

// HTTP sends requests to issuers. It follows no redirect, keeps no cookies,
// sends a request exactly once and bounds everything that comes back. It
// speaks HTTP/1.1 and uses a connection for one request, so that whether a
// request has left is never in doubt because of another one. An HTTP is safe
// for concurrent use.
type HTTP struct {
	o Options

	making    sync.Mutex      // held while certificates are loaded
	transport *http.Transport // made by the first request
	allRoots  bool            // transport trusts all of the system's certificates

	mu   sync.Mutex
	warm map[string]warming
	skew map[string]time.Duration // of an issuer's clock, by host; 0 up to a minute
}

// NewHTTP checks o and returns an HTTP. It reads no file and opens no
// connection: certificates are loaded by the first request.
func NewHTTP(o Options) (*HTTP, error) {
	t := &o.Timeouts
	if t.Dial < 0 || t.TLS < 0 || t.Header < 0 || t.Total < 0 {
		return nil, errors.New("a timeout is negative")
	}
	t.Dial = cmp.Or(t.Dial, 10*time.Second)
	t.TLS = cmp.Or(t.TLS, 10*time.Second)
	t.Header = cmp.Or(t.Header, 15*time.Second)
	t.Total = cmp.Or(t.Total, 30*time.Second)
	o.UserAgent = cmp.Or(o.UserAgent, "apiauth")
	if !headerValue(o.UserAgent) {
		return nil, errors.New("the user agent is not a header value")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	return &HTTP{o: o}, nil
}

// RoundTripper returns the transport of h for single API calls that other code
// makes: the same certificates, proxies, dial, TLS and header limits; no cookies
// and no redirects (a caller must not wrap it in a client that follows them),
// no connection kept. The limits on body and total time are the caller's.
func (h *HTTP) RoundTripper() (http.RoundTripper, error) {
	t, err := h.get(false)
	if err != nil {
		return nil, err
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = h.o.Timeouts.Header
	return t, nil
}

// call is one HTTP request.
type call struct {
	method   string
	url      string
	header   http.Header
	body     []byte
	limit    int64
	loopback bool // http to a loopback address is allowed
	secrets  []secret.Text
	presents *presented // the client's certificate; nil: none
}

// reply is an answer that arrived complete and within its limits.
type reply struct {
	status int
	header http.Header
	body   []byte
	at     time.Time // when the last byte had arrived
}

// do sends c exactly once and reads the whole answer. Errors wrap ErrNotSent,
// ErrNoAnswer or ErrUnusable, name the host only, and wrap the context's error
// when that is the cause.
func (h *HTTP) do(ctx context.Context, c call) (reply, error) {
	u, err := checkEndpoint(c.url, c.loopback)
	if err != nil {
		return reply{}, refusef("send a request: %s", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer patiently(h.o.Timeouts.Total, func() { cancel(errTotal) })()

	resp, sent, err := h.roundTrip(ctx, cancel, c, u, false)
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown && !sent {
		// Nothing was sent: the bundle file did not know the authority, the
		// rest of the system's certificates may.
		resp, sent, err = h.roundTrip(ctx, cancel, c, u, true)
	}
	if err != nil {
		return reply{}, broken(ctx, u.Host, err, sent, "")
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return reply{}, unusablef("%s answered with a redirect (HTTP status %d), which is never followed", u.Host, resp.StatusCode)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		// Never asked for, and small compressed bodies can become huge ones.
		return reply{}, unusablef("%s sent a compressed answer that was not asked for", u.Host)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	switch {
	case int64(len(body)) > c.limit:
		return reply{}, unusablef("%s sent an answer of more than %d KiB", u.Host, c.limit>>10)
	case err != nil:
		return reply{}, broken(ctx, u.Host, err, true, "in the middle of its answer")
	}
	return reply{resp.StatusCode, resp.Header, body, h.o.Now()}, nil
}

// awake is how long what arrived while this process stood still may take to be
// read once it goes on.
const awake = 5 * time.Second

// patiently calls f after d, unless stop comes first. When the timer is late by
// a second or more, this process stood still (a stopped process, a machine that
// slept): an answer may wait in the socket, and is given a moment.
func patiently(d time.Duration, f func()) (stop func()) {
	var (
		mu    sync.Mutex
		timer *time.Timer
		woken bool
	)
	due := time.Now().Add(d)
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(d, func() {
		mu.Lock()
		defer mu.Unlock()
		if late := time.Since(due); !woken && late >= time.Second {
			woken = true
			timer.Reset(awake)
			return
		}
		f()
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		woken = true
		timer.Stop()
	}
}

var (
	errTotal = errors.New("total time is over")
	errProxy = errors.New("the proxy setting is not usable")
)

// roundTrip sends c and returns the header of the answer. sent is false only
// when certainly no byte of the request has left.
func (h *HTTP) roundTrip(ctx context.Context, cancel context.CancelCauseFunc, c call, u *url.URL, allRoots bool) (resp *http.Response, sent bool, err error) {
	transport, err := h.get(allRoots)
	if err != nil {
		return nil, false, err
	}
	if c.presents != nil {
		transport = h.presenting(transport, u, c.presents)
	}
	// The connection is there, TLS included: from here on bytes may leave.
	// Net/http reports later stages too, but not without a race between
	// writing and reporting, and claiming "not sent" wrongly costs a grant.
	var mu sync.Mutex
	header := func() {} // ends the wait for the answer's header
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			mu.Lock()
			defer mu.Unlock()
			sent = true
			header = patiently(h.o.Timeouts.Header, func() { cancel(errTotal) })
		},
	})
	req := (&http.Request{
		Method: c.method, URL: u, Host: u.Host, Header: c.header.Clone(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", h.o.UserAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if c.body != nil && len(c.body) == 0 {
		req.Body = http.NoBody
	} else if c.body != nil {
		// No GetBody: it would allow net/http to send the request again.
		req.Body = io.NopCloser(bytes.NewReader(c.body))
		req.ContentLength = int64(len(c.body))
	}
	// A bare transport: http.Client would follow redirects, keep the URL in
	// its errors and parse the Location header.
	resp, err = transport.RoundTrip(req)
	mu.Lock()
	defer mu.Unlock()
	header()
	if why := c.presents.failed(u.Host, err); why != nil {
		return nil, false, why
	}
	return resp, sent, err
}

// get returns the transport, which is made on first use.
func (h *HTTP) get(allRoots bool) (*http.Transport, error) {
	h.making.Lock()
	defer h.making.Unlock()
	if h.transport != nil && (h.allRoots || !allRoots) {
		return h.transport, nil
	}
	pool, all, err := h.roots(allRoots)
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	h.allRoots = all
	h.transport = &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			u, err := h.o.Proxy(r)
			if err != nil {
				return nil, errProxy // the setting may hold a password
			}
			return u, nil
		},
		DialContext: h.dial,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if conn := h.takeWarm(ctx, addr); conn != nil {
				return conn, nil
			}
			return h.dialTLS(ctx, config, network, addr)
		},
		TLSClientConfig:        config, // through a proxy
		TLSHandshakeTimeout:    h.o.Timeouts.TLS,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
		// An idle connection may be closed by the server just when a request
		// is written to it, and then nobody knows what happened to the grant.
		DisableKeepAlives: true,
		Protocols:         protocols,
	}
	return h.transport, nil
}

// dial connects within the time for it. The name localhost never leaves this
// machine, whatever the resolver says.
func (h *HTTP) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeouts.Dial)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(host, "localhost") {
		return h.o.Dial(ctx, network, addr)
	}
	conn, err := h.o.Dial(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err == nil {
		return conn, nil
	}
	if conn, err6 := h.o.Dial(ctx, network, net.JoinHostPort("::1", port)); err6 == nil {
		return conn, nil
	}
	return nil, err
}

// broken describes a request that got no complete answer.
func broken(ctx context.Context, host string, err error, sent bool, where string) error {
	var f failure
	if sent {
		f.kinds = append(f.kinds, ErrNoAnswer)
	} else {
		f.kinds = append(f.kinds, ErrNotSent)
	}
	why := reason(err)
	switch cause := context.Cause(ctx); {
	case cause == nil:
	case errors.Is(cause, errTotal):
		why = "it took too long"
	case errors.Is(cause, context.DeadlineExceeded):
		why = "it took too long"
		f.kinds = append(f.kinds, context.DeadlineExceeded)
	default:
		why = "interrupted"
		f.kinds = append(f.kinds, context.Canceled)
	}
	if r, refused := errors.AsType[*failure](err); refused && !sent {
		return r // already told in our words: the CA file
	}
	switch {
	case !sent:
		f.text = fmt.Sprintf("connect to %s: %s", host, why)
	case where != "":
		f.text = fmt.Sprintf("%s broke off %s: %s", host, where, why)
	default:
		f.text = fmt.Sprintf("no answer from %s: %s", host, why)
	}
	return &f
}

// reason puts a transport error into words. It never passes on text of
// net/http, which quotes what the far side sent: that may be an echo of our
// credentials, or an escape sequence.
func reason(err error) string {
	if errors.Is(err, errProxy) {
		return errProxy.Error()
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return "the host name is unknown"
		}
		return "the host name could not be looked up"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by an unknown authority"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return "its certificate has expired or is not yet valid"
		}
		return "its certificate is not valid"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another host"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate could not be verified"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it does not speak TLS"
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return Clean(e.Error())
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return "it took too long"
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.Is(err, context.DeadlineExceeded):
		return "it took too long"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	if strings.Contains(err.Error(), "tls: ") { // most of them have no type
		return "the TLS handshake failed"
	}
	return "the connection failed or the answer is garbled"
}

// addHeaders adds a provider's extra headers. What frames or authenticates a
// request, or allows net/http to repeat it, cannot be set.
func addHeaders(to http.Header, extra map[string]string) error {
	for name, value := range extra {
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Proxy-Authorization", "Cookie", "Host", "Connection", "Content-Length", "Content-Type",
			"Transfer-Encoding", "Te", "Trailer", "Upgrade", "Expect", "Accept-Encoding", "User-Agent",
			"Idempotency-Key", "X-Idempotency-Key":
			return refusef("the header %s cannot be set for a request", http.CanonicalHeaderKey(name))
		}
		if !headerName(name) || !headerValue(value) {
			return refusef("the header %q is not valid", Clean(name))
		}
		to.Set(name, value)
	}
	return nil
}

func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

func headerValue(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
