package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
)

// firstByte is how long a client may wait after CONNECT to a pinned host before
// it says which protocol it speaks.
const firstByte = time.Minute

// tunnel is the connection of a child behind an answered CONNECT. What its
// reader holds already comes first.
type tunnel struct {
	net.Conn
	in   *bufio.Reader
	site *site
}

func (t *tunnel) Read(p []byte) (int, error) {
	if t.in.Buffered() > 0 {
		return t.in.Read(p)
	}
	return t.Conn.Read(p)
}

// CloseWrite passes on that the other side has said everything.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

type tunnelKey struct{}

// withTunnel lets a handler find the tunnel through which its request came.
func withTunnel(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, tunnelKey{}, c)
}

// serveConnect answers CONNECT: a pinned or local host is answered by us, every
// other is tunnelled as it is.
func (e *Egress) serveConnect(w http.ResponseWriter, r *http.Request) {
	host, err := providers.NormalHost(r.RequestURI)
	if _, port, perr := net.SplitHostPort(r.RequestURI); err != nil || perr != nil || port == "" {
		e.refuse(w, r, http.StatusBadRequest, "CONNECT takes a plain host and a port")
		return
	}
	if s := e.sites[host]; s != nil {
		e.intercept(w, s)
		return
	}
	if !e.open(host) {
		e.refuse(w, r, http.StatusForbidden, strictly(host))
		return
	}
	far, err := e.dialTunnel(r.Context(), host)
	if err != nil {
		e.refuse(w, r, refusalStatus(err), unreachable(host, err))
		return
	}
	near, err := e.accept(w)
	if err != nil {
		_ = far.Close()
		return
	}
	e.log(r, host, http.StatusOK, "tunnelled")
	e.tunnels.join(near, far)
}

// accept answers CONNECT with 200 and takes the connection over.
func (e *Egress) accept(w http.ResponseWriter) (*tunnel, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "the connection cannot be taken over")
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &tunnel{Conn: conn, in: buf.Reader}, nil
}

// intercept answers for a pinned host in its place. Some clients send http
// through a tunnel too; the first byte tells it from TLS.
func (e *Egress) intercept(w http.ResponseWriter, s *site) {
	config, err := e.authority.config(s.host)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "there is no certificate for "+s.host)
		return
	}
	t, err := e.accept(w)
	if err != nil {
		return
	}
	t.site = s
	e.tunnels.add(t.Conn)
	defer e.tunnels.remove(t.Conn)
	_ = t.SetReadDeadline(time.Now().Add(firstByte))
	first, err := t.in.Peek(1)
	if err != nil {
		_ = t.Close()
		return
	}
	_ = t.SetReadDeadline(time.Time{})
	const handshake = 22 // RFC 8446 section 5.1
	if first[0] == handshake {
		e.streams.give(tls.Server(t, config))
		return
	}
	e.streams.give(t)
}

// dialTunnel connects to a host in normal form as the child would have done it:
// through the user's own proxy, if there is one for it.
func (e *Egress) dialTunnel(ctx context.Context, host string) (net.Conn, error) {
	address := withPort(host)
	if e.o.Upstream != nil {
		via, err := e.o.Upstream(&http.Request{Method: http.MethodConnect, URL: &url.URL{Scheme: "https", Host: address}, Host: address})
		if err != nil {
			return nil, err
		}
		if via != nil {
			if err := e.checkBehind(ctx, address); err != nil {
				return nil, err
			}
			return e.dialVia(ctx, via, address)
		}
	}
	return e.dialAsChild(ctx, "tcp", address)
}

// dialVia asks the user's proxy for a tunnel.
func (e *Egress) dialVia(ctx context.Context, via *url.URL, address string) (net.Conn, error) {
	port := via.Port()
	switch {
	case via.Scheme != "http" && via.Scheme != "https":
		return nil, &viaError{via.Host, "is of the kind " + printable(via.Scheme) + ", only http and https can be used"}
	case port == "" && via.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	c, err := e.dialAnywhere(ctx, "tcp", net.JoinHostPort(via.Hostname(), port))
	if err != nil {
		return nil, &viaError{via.Host, "failed: " + reason(err)}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if via.Scheme == "https" {
		config, err := e.tlsConfig()
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		config.ServerName, config.NextProtos = via.Hostname(), nil
		c = tls.Client(c, config)
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{"User-Agent": {""}}}
	if via.User != nil {
		password, _ := via.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(via.User.Username()+":"+password)))
	}
	if err := req.Write(c); err != nil {
		_ = c.Close()
		return nil, &viaError{via.Host, "failed: " + reason(err)}
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, req) //nolint:bodyclose // the connection is closed, or becomes the tunnel
	if err != nil {
		_ = c.Close()
		return nil, &viaError{via.Host, "failed: " + reason(err)}
	}
	if resp.StatusCode != http.StatusOK {
		_ = c.Close()
		return nil, &viaError{via.Host, "answered " + strconv.Itoa(resp.StatusCode)}
	}
	return &tunnel{Conn: c, in: in}, nil
}

// withPort writes the port of https out.
func withPort(host string) string {
	if name := hostname(host); host == name || host == "["+name+"]" {
		return net.JoinHostPort(name, "443")
	}
	return host
}

// handover is a listener that accepts the connections it is given.
type handover struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newHandover(address net.Addr) *handover {
	return &handover{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.address }

// tunnels knows the connections that no http.Server looks after.
type tunnels struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func (t *tunnels) add(conns ...net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[net.Conn]struct{})
	}
	for _, c := range conns {
		t.open[c] = struct{}{}
		if t.closed {
			_ = c.Close()
		}
	}
}

func (t *tunnels) remove(conns ...net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range conns {
		delete(t.open, c)
	}
}

func (t *tunnels) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
}

// join copies both ways, byte for byte, until both sides have ended or one has
// failed.
func (t *tunnels) join(near, far net.Conn) {
	t.add(near, far)
	defer t.remove(near, far)
	var both sync.WaitGroup
	half := func(to, from net.Conn) {
		err := copyBytes(to, from)
		if c, ok := to.(interface{ CloseWrite() error }); err != nil || !ok || c.CloseWrite() != nil {
			_ = to.Close()
			_ = from.Close()
		}
	}
	both.Go(func() { half(far, near) })
	both.Go(func() { half(near, far) })
	both.Wait()
	_ = near.Close()
	_ = far.Close()
}

// copyBytes copies what a tunnel's reader holds, and then from socket to socket,
// which the system does by itself where it can.
func copyBytes(to, from net.Conn) error {
	if t, ok := to.(*tunnel); ok {
		to = t.Conn
	}
	if t, ok := from.(*tunnel); ok {
		if _, err := io.CopyN(to, t.in, int64(t.in.Buffered())); err != nil {
			return err
		}
		from = t.Conn
	}
	_, err := io.Copy(to, from)
	return err
}
