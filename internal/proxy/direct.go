package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// directIdle is how long a kept connection is used again.
	directIdle = 30 * time.Second
	// directKept is the largest number of idle connections to one host.
	directKept = 128
)

// errBrokenHead says that an answer's head is none, or too long.
var errBrokenHead = errors.New("the head of the answer is garbled or too long")

// direct sends requests for GET, which have no body and may be sent twice (RFC
// 9110 section 9.2.2), straight from the goroutine that asks. http.Transport hands each request
// to two goroutines of its connection and back, which costs as much as all the
// rest of a small one. It keeps the connections of one scheme and host.
type direct struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config // nil for http
	address string      // with port
	timeout time.Duration

	mu     sync.Mutex
	idle   []*directConn // oldest first
	closed bool
}

// directConn is a connection with the reader over it.
type directConn struct {
	net.Conn
	in    *bufio.Reader
	head  io.LimitedReader // what in reads from
	out   []byte           // scratch for heads
	since time.Time
}

// fits reports whether a request can go this way. HEAD does not: some servers send
// a body to it.
func fits(r *http.Request) bool {
	return r.Method == http.MethodGet && r.Body == nil &&
		r.Header["Upgrade"] == nil && r.Header["Expect"] == nil && r.Header["Connection"] == nil
}

// RoundTrip sends r, which fits, and returns the head of the answer. A kept
// connection that the server has closed meanwhile is replaced by a new one.
func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		c, err := d.take(r.Context())
		if err != nil {
			return nil, err
		}
		kept := !c.since.IsZero()
		resp, err := d.exchange(c, r)
		if err == nil {
			return resp, nil
		}
		_ = c.Close()
		if ctxErr := r.Context().Err(); ctxErr != nil {
			return nil, ctxErr
		}
		if timeout, ok := errors.AsType[net.Error](err); !kept || ok && timeout.Timeout() || errors.Is(err, errBrokenHead) {
			return nil, err
		}
	}
}

// take returns a kept connection, or a new one.
func (d *direct) take(ctx context.Context) (*directConn, error) {
	d.mu.Lock()
	for len(d.idle) > 0 {
		last := len(d.idle) - 1
		c := d.idle[last]
		d.idle = d.idle[:last]
		if time.Since(c.since) < directIdle {
			d.mu.Unlock()
			return c, nil
		}
		_ = c.Close()
	}
	d.mu.Unlock()
	raw, err := d.dial(ctx, "tcp", d.address)
	if err != nil {
		return nil, err
	}
	if d.tls != nil {
		secured := tls.Client(raw, d.tls)
		shake, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		if err := secured.HandshakeContext(shake); err != nil {
			_ = raw.Close()
			return nil, err
		}
		raw = secured
	}
	c := &directConn{Conn: raw, head: io.LimitedReader{R: raw}}
	c.in = bufio.NewReader(&c.head)
	return c, nil
}

// keep takes a connection back on which everything has been read.
func (d *direct) keep(c *directConn) {
	c.since = time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	gone := 0
	for gone < len(d.idle) && (len(d.idle)-gone >= directKept || c.since.Sub(d.idle[gone].since) >= directIdle) {
		_ = d.idle[gone].Close()
		gone++
	}
	d.idle = append(d.idle[:0], d.idle[gone:]...)
	if d.closed {
		_ = c.Close()
		return
	}
	d.idle = append(d.idle, c)
}

// close closes the kept connections, and those in use once they are done.
func (d *direct) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.idle {
		_ = c.Close()
	}
	d.idle, d.closed = nil, true
}

// exchange sends the request and reads the head of its answer.
func (d *direct) exchange(c *directConn, r *http.Request) (*http.Response, error) {
	var err error
	if c.out, err = appendHead(c.out[:0], r); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(r.Context(), func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		stop()
		return nil, err
	}
	if _, err := c.Write(c.out); err != nil {
		stop()
		return nil, err
	}
	clear(c.out) // it holds the token
	c.head.N = maxAnswerHead
	var resp *http.Response
	for resp == nil || resp.StatusCode < 200 {
		if resp, err = http.ReadResponse(c.in, r); err != nil {
			stop()
			if c.head.N <= 0 || !isConnError(err) {
				err = errBrokenHead
			}
			return nil, err
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			stop()
			return nil, errBrokenHead
		}
	}
	c.head.N = 1<<63 - 1
	_ = c.SetDeadline(time.Time{})
	resp.Body = &directBody{d: d, c: c, stop: stop, body: resp.Body, again: !resp.Close}
	if resp.ContentLength == 0 || !hasBody(resp) {
		resp.Body.(*directBody).done(true) //nolint:errcheck,forcetypeassert // set above
	}
	return resp, nil
}

// isConnError tells what a connection says from what a parser says.
func isConnError(err error) bool {
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// appendHead writes the head of a request without a body. Nothing in it can begin
// another line.
func appendHead(b []byte, r *http.Request) ([]byte, error) {
	target := r.URL.RequestURI()
	if strings.ContainsAny(target, " \r\n\x00") {
		return nil, errors.New("the path holds what cannot stand in one")
	}
	b = append(append(append(b, r.Method...), ' '), target...)
	b = append(append(append(b, " HTTP/1.1\r\nHost: "...), r.Host...), "\r\n"...)
	for name, values := range r.Header {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") || strings.ContainsAny(name, "\r\n\x00: ") {
				return nil, errors.New("a header holds what cannot stand in one")
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...), nil
}

// directBody is the body of an answer. At its end the connection is kept; one that
// is closed before is not.
type directBody struct {
	d     *direct
	c     *directConn // nil when given back
	stop  func() bool
	body  io.ReadCloser
	again bool // the server keeps the connection
}

func (b *directBody) Read(p []byte) (int, error) {
	if b.c == nil {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.done(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close gives the connection up where something is left to read.
func (b *directBody) Close() error {
	b.done(false)
	return nil
}

func (b *directBody) done(whole bool) {
	if b.c == nil {
		return
	}
	if quiet := b.stop(); whole && quiet && b.again && b.c.in.Buffered() == 0 {
		b.d.keep(b.c)
	} else {
		_ = b.c.Close()
	}
	b.c = nil
}
