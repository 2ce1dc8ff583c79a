package oauth

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// maxWarm is how long a connection may wait for its request. Servers close
// connections on which nothing is asked; those that do so sooner are unknown.
const maxWarm = 5 * time.Second

// warming is a connection that is being opened ahead of its request.
type warming struct {
	ready  chan *tls.Conn // one value; nil when it failed
	cancel context.CancelFunc
	start  time.Time
}

// Prepare begins to load the certificates to trust and returns at once. They are
// half of the work of a token request, and no issuer has to be known for it. A
// failure is not reported: the request then meets it.
func (h *HTTP) Prepare() {
	go func() { _, _ = h.get(false) }()
}

// Warm begins to open a TLS connection for the next request to endpoint's host
// and returns at once, so that certificates, name lookup and handshake overlap
// with other work. It sends no request. A failure is not reported: the request
// then connects by itself. It does nothing for http and behind a proxy. A
// connection that is not used within 5 s is given up; call Close at the end.
func (h *HTTP) Warm(ctx context.Context, endpoint string) {
	u, err := checkEndpoint(endpoint, false)
	if err != nil || u.Scheme != "https" {
		return
	}
	if proxy, err := h.o.Proxy(&http.Request{Method: http.MethodPost, URL: u, Host: u.Host}); err != nil || proxy != nil {
		return
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "443")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, busy := h.warm[addr]; busy {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	w := warming{ready: make(chan *tls.Conn, 1), cancel: cancel, start: time.Now()}
	if h.warm == nil {
		h.warm = map[string]warming{}
	}
	h.warm[addr] = w
	go func() {
		transport, err := h.get(false)
		if err != nil {
			w.ready <- nil
			return
		}
		conn, err := h.dialTLS(ctx, transport.TLSClientConfig, "tcp", addr)
		if err != nil {
			conn = nil
		}
		w.ready <- conn
	}()
}

// takeWarm returns the connection that Warm has opened to addr, if it did. It
// waits for one that is being opened.
func (h *HTTP) takeWarm(ctx context.Context, addr string) net.Conn {
	h.mu.Lock()
	w, ok := h.warm[addr]
	delete(h.warm, addr)
	h.mu.Unlock()
	if !ok {
		return nil
	}
	defer w.cancel()
	select {
	case conn := <-w.ready:
		if conn != nil && time.Since(w.start) < maxWarm {
			return conn
		}
		drop(conn)
	case <-ctx.Done():
		w.cancel()
		drop(<-w.ready)
	}
	return nil
}

// Close gives up the connections that Warm has opened and no request has used.
func (h *HTTP) Close() {
	h.mu.Lock()
	unused := h.warm
	h.warm = nil
	h.mu.Unlock()
	for _, w := range unused {
		w.cancel()
		drop(<-w.ready)
	}
}

func drop(conn *tls.Conn) {
	if conn != nil {
		_ = conn.NetConn().Close()
	}
}

// dialTLS connects and completes the handshake, each within its time.
func (h *HTTP) dialTLS(ctx context.Context, config *tls.Config, network, addr string) (*tls.Conn, error) {
	raw, err := h.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	config = config.Clone()
	config.ServerName = host
	conn := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeouts.TLS)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
