package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// connectTimeout bounds the connecting to one address.
const connectTimeout = 10 * time.Second

// DialFunc opens a network connection, like the method of net.Dialer.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// ResolveFunc looks up the addresses of a name, like net.Resolver.LookupNetIP.
type ResolveFunc func(ctx context.Context, network, host string) ([]netip.Addr, error)

// AddressError says that a host leads to an address where no token is sent.
type AddressError struct {
	Host    string
	Address netip.Addr
}

// Error names both.
func (e *AddressError) Error() string {
	return fmt.Sprintf("%s leads to %s, which is not a public address", e.Host, e.Address)
}

// guardedDialer resolves a name once, refuses it when any of its addresses is one
// that the public cannot reach, and dials what it looked at. A host that
// is an address itself leads only there, and localhost only to this machine.
type guardedDialer struct {
	resolve ResolveFunc
	dial    DialFunc
}

func (g guardedDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return g.dial(ctx, network, address)
	}
	addresses, err := g.resolve(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	for _, a := range addresses {
		if local := host == "localhost"; local && !a.Unmap().IsLoopback() || !local && !public(a) {
			return nil, &AddressError{host, a.Unmap()}
		}
	}
	var first error
	for _, a := range addresses {
		attempt, cancel := context.WithTimeout(ctx, connectTimeout)
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
	if !public(a.Addr()) {
		return &AddressError{a.Addr().String(), a.Addr().Unmap()}
	}
	return nil
}

// notPublic are the special-purpose blocks that netip has no method for, of the
// IANA registries of IPv4 and IPv6 (RFC 6890, as of 2026-11).
func notPublic() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"64:ff9b:1::/48", "100::/64", "2001::/32", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// public reports whether an address belongs to the internet: not to this
// machine, its network, a cloud's metadata or nobody. An IPv6 address that
// stands for an IPv4 one (RFC 6052, RFC 3056) is judged as that.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if b := a.As16(); a.Is6() {
		switch {
		case strings.HasPrefix(string(b[:]), "\x00\x64\xff\x9b\x00\x00\x00\x00\x00\x00\x00\x00"):
			return public(netip.AddrFrom4([4]byte(b[12:])))
		case b[0] == 0x20 && b[1] == 0x02:
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic() {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// hostname cuts the port and the brackets off a host in normal form.
func hostname(host string) string {
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:at]
	}
	return strings.Trim(host, "[]")
}
