package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// DialFunc opens a network connection, like the method of net.Dialer.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// ResolveFunc looks up the addresses of a name, like net.Resolver.LookupNetIP.
type ResolveFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// guardedDialer resolves a name once, refuses it when any of its addresses is one
// that the public cannot reach, and dials what it looked at. A host that
// is an address itself leads only there, and localhost only to this machine.
type guardedDialer struct {
	resolve ResolveFunc
	dial    DialFunc
	private bool // private addresses are as good as public ones
}

func (g guardedDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return g.dial(ctx, network, address)
	}
	asking, cancel := context.WithTimeout(ctx, dialTimeout)
	addresses, err := g.resolve(asking, "ip", host)
	cancel()
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	for _, a := range addresses {
		why := addressFault(a, g.private)
		if host == "localhost" {
			why = ""
			if !a.Unmap().IsLoopback() {
				why = "another machine"
			}
		}
		if why != "" {
			return nil, &AddressError{host, why}
		}
	}
	var first error
	for _, a := range addresses {
		attempt, cancel := context.WithTimeout(ctx, dialTimeout)
		c, err := g.dial(attempt, network, net.JoinHostPort(a.Unmap().String(), port))
		cancel()
		if err == nil {
			return c, nil
		}
		first = errors.Join(first, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// checkPublic refuses an address, with a port, that is not public.
func checkPublic(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if why := addressFault(a.Addr(), false); why != "" {
		return &AddressError{a.Addr().String(), why}
	}
	return nil
}

// hostname cuts the port and the brackets off a host in normal form.
func hostname(host string) string {
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:at]
	}
	return strings.Trim(host, "[]")
}
