package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ways are the transports that lead out. None decompresses, and each keeps as
// many idle connections to a host as a build may use at once.
type ways struct {
	pinned  *http.Transport // to hosts that get tokens: addresses are checked
	foreign *http.Transport // to all others, over http
	proxied *http.Transport // through the user's own proxy
}

// newWays reads the authorities, so it is called at the first request and not at
// the start.
func (e *Egress) newWays() (ways, error) {
	config, err := e.tlsConfig()
	if err != nil {
		return ways{}, err
	}
	one := func(dial DialFunc) *http.Transport {
		return &http.Transport{
			DialContext:           dial,
			TLSClientConfig:       config.Clone(),
			DisableCompression:    true,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   256,
			IdleConnTimeout:       idleUpstream,
			TLSHandshakeTimeout:   30 * time.Second,
			ExpectContinueTimeout: continueTimeout,
			// A connection that died while the machine slept is noticed.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		}
	}
	w := ways{
		pinned:  one(guardedDialer{e.o.Resolve, e.dialAnywhere, e.o.Private}.DialContext),
		foreign: one(e.dialAsChild),
		proxied: one(e.dialAnywhere),
	}
	w.proxied.Proxy = e.o.Upstream
	w.proxied.OnProxyConnectResponse = func(_ context.Context, via *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &viaError{via.Host, "answered " + strconv.Itoa(resp.StatusCode)}
		}
		return nil
	}
	return w, nil
}

// choose returns the transport for a request.
func (e *Egress) choose(r *http.Request, pinned bool) (*http.Transport, error) {
	w, err := e.ways()
	if err != nil {
		return nil, err
	}
	// A token over http stays on this machine, whatever the user's proxy is for.
	if e.o.Upstream != nil && (!pinned || r.URL.Scheme == "https") {
		via, err := e.o.Upstream(r)
		if err != nil {
			return nil, err
		}
		if via != nil {
			if pinned {
				return w.proxied, nil
			}
			return w.proxied, e.checkBehind(r.Context(), r.URL.Host)
		}
	}
	if pinned {
		return w.pinned, nil
	}
	return w.foreign, nil
}

// tlsConfig verifies with the authorities of the options, always.
func (e *Egress) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(256)}
	if e.o.Roots == nil {
		return config, nil
	}
	var err error
	if config.RootCAs, err = e.o.Roots(); err != nil {
		return nil, fmt.Errorf("read the certificate authorities: %w", err)
	}
	return config, nil
}

// selfError says that a connection led to the proxy.
type selfError struct{}

func (*selfError) Error() string { return "that is this proxy itself" }

// viaError says that the user's own proxy does not lead on.
type viaError struct{ host, why string }

func (e *viaError) Error() string { return "your own proxy " + e.host + " " + e.why }

// dialAnywhere refuses nothing but the proxy itself.
func (e *Egress) dialAnywhere(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := e.o.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if c.RemoteAddr().String() == e.address {
		_ = c.Close()
		return nil, &selfError{}
	}
	return c, nil
}

// dialAsChild goes where the child itself could go. One that is cut off from
// this machine and its network reaches public addresses, and what is opened.
func (e *Egress) dialAsChild(ctx context.Context, network, address string) (net.Conn, error) {
	host := strings.TrimSuffix(address, ":443")
	if !e.o.Isolated || slices.Contains(e.o.Open, host) {
		return e.dialAnywhere(ctx, network, address)
	}
	checked := func(ctx context.Context, network, address string) (net.Conn, error) {
		if err := checkPublic(address); err != nil {
			return nil, err
		}
		return e.dialAnywhere(ctx, network, address)
	}
	return guardedDialer{e.o.Resolve, checked, false}.DialContext(ctx, network, address)
}

// checkBehind refuses a host that an isolated child must not reach through the
// user's own proxy either, where this machine can tell: the proxy may stand on
// it, or inside of its network. A name that cannot be looked up here goes where
// the proxy leads.
func (e *Egress) checkBehind(ctx context.Context, host string) error {
	host = strings.TrimSuffix(host, ":443")
	if !e.o.Isolated || slices.Contains(e.o.Open, host) {
		return nil
	}
	name := hostname(host)
	if name == "localhost" {
		return &AddressError{name, "this machine"}
	}
	var addresses []netip.Addr
	if a, err := netip.ParseAddr(name); err == nil {
		addresses = append(addresses, a)
	} else if found, err := e.o.Resolve(ctx, "ip", name); err == nil {
		addresses = found
	}
	for _, a := range addresses {
		if why := addressFault(a, false); why != "" {
			return &AddressError{name, why}
		}
	}
	return nil
}

// unreachable says for a person why a host could not be reached. It repeats
// nothing of the request.
func unreachable(host string, err error) string {
	if self, ok := errors.AsType[*selfError](err); ok {
		return self.Error()
	}
	if address, ok := errors.AsType[*AddressError](err); ok {
		return address.Error()
	}
	if via, ok := errors.AsType[*viaError](err); ok {
		return "no answer from " + host + ": " + via.Error()
	}
	return "no answer from " + host + ": " + reason(err)
}

// refusalStatus is the status for an error of reaching a host.
func refusalStatus(err error) int {
	if _, ok := errors.AsType[*AddressError](err); ok {
		return http.StatusForbidden
	}
	if _, ok := errors.AsType[*selfError](err); ok {
		return http.StatusForbidden
	}
	return http.StatusBadGateway
}
