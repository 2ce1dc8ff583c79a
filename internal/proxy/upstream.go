package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	dialTimeout     = 10 * time.Second
	idleUpstream    = 90 * time.Second
	idlePerHost     = 128
	continueTimeout = time.Second
	maxAnswerHead   = 256 << 10 // bytes
)

// newTransport makes the way to the APIs. HTTP/1.1 only: a connection can then
// change its protocol, and each request has one of its own.
func (p *Reverse) newTransport() (*http.Transport, error) {
	var roots *x509.CertPool
	if p.o.Roots != nil {
		var err error
		if roots, err = p.o.Roots(); err != nil {
			return nil, err
		}
	}
	way := p.o.Proxy
	if way == nil {
		way = http.ProxyFromEnvironment
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:       way,
		DialContext: p.dial,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			RootCAs:            roots,
			ClientSessionCache: tls.NewLRUClientSessionCache(64),
		},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  p.o.Timeout,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        idleUpstream,
		MaxIdleConnsPerHost:    idlePerHost,
		MaxResponseHeaderBytes: maxAnswerHead,
		DisableCompression:     true,
		Protocols:              protocols,
	}, nil
}

// openDirect makes the direct way to the host of a route's base, unless the user
// has set another way out for it.
func (p *Reverse) openDirect(rt *route) {
	if rt.host == "" {
		return
	}
	u := &url.URL{Scheme: rt.scheme, Host: rt.host}
	if way, err := p.transport.Proxy(&http.Request{Method: http.MethodGet, URL: u, Host: rt.host}); err != nil || way != nil {
		return
	}
	d := &direct{dial: p.dial, timeout: p.o.Timeout, address: rt.host}
	port := "80"
	if rt.scheme == "https" {
		port = "443"
		d.tls = p.transport.TLSClientConfig.Clone()
		d.tls.ServerName = u.Hostname()
	}
	if u.Port() == "" {
		d.address = net.JoinHostPort(u.Hostname(), port)
	}
	rt.direct = d
}

// AddressError says that a name led to an address that gets no token.
type AddressError struct{ Host, Why string }

// Error names the host and the kind of address.
func (e *AddressError) Error() string {
	return e.Host + " leads to " + e.Why + ", which gets no token"
}

// dial connects to a pinned host: its name is looked up once, and what is dialled
// is an address that may have the token. Whatever else comes here is the way out
// that the user has set, and is dialled as it is.
func (p *Reverse) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if !p.pinned(host, port) {
		return d.DialContext(ctx, network, addr)
	}
	guarded := guardedDialer{resolve: p.o.Resolve, dial: d.DialContext, private: p.o.Private}
	return guarded.DialContext(ctx, network, net.JoinHostPort(strings.ToLower(host), port))
}

// pinned reports whether a host is one of the routes', rather than the user's
// own proxy.
func (p *Reverse) pinned(host, port string) bool {
	for _, rt := range p.routes {
		if rt.mayCall("https", net.JoinHostPort(host, port)) || rt.mayCall("http", net.JoinHostPort(host, port)) {
			return true
		}
	}
	return false
}

// addressFault says what is wrong with an address that a public name led to.
// Private ones are allowed on demand.
func addressFault(a netip.Addr, private bool) string {
	a = a.Unmap().WithZone("")
	if within(a, "64:ff9b::/96", "64:ff9b:1::/48") { // NAT64: the last four bytes are an IPv4 address
		b := a.As16()
		return addressFault(netip.AddrFrom4([4]byte(b[12:])), private)
	}
	switch {
	case a.IsLoopback():
		return "this machine"
	case a.IsUnspecified(), a.IsMulticast(), a.IsInterfaceLocalMulticast(), within(a, "0.0.0.0/8", "240.0.0.0/4", "192.0.0.0/24", "198.18.0.0/15", "100::/64"):
		return "a reserved address"
	case a.IsLinkLocalUnicast(), a == netip.MustParseAddr("fd00:ec2::254"):
		return "a link-local address" // where clouds keep the credentials of a machine
	case a.IsPrivate(), within(a, "100.64.0.0/10", "fec0::/10"):
		if private {
			return ""
		}
		return "a private address"
	case within(a, "2002::/16", "2001::/32"):
		return "a tunnel's address"
	}
	return ""
}

func within(a netip.Addr, networks ...string) bool {
	for _, n := range networks {
		if netip.MustParsePrefix(n).Contains(a) {
			return true
		}
	}
	return false
}

// reason puts an error of the way to an API into words.
func reason(err error) string {
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return "the host name is unknown"
		}
		return "the host name could not be looked up"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate could not be verified"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it does not speak TLS"
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "the connection was closed"
	}
	return "the connection failed or the answer is garbled"
}

// isThisMachine reports whether a host in normal form is a spelling of loopback.
func isThisMachine(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	return name == "127.0.0.1" || name == "::1" || name == "localhost"
}
