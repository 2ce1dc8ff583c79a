//go:build !windows

package loopback

import (
	"context"
	"errors"
	"net"
	"runtime"
	"syscall"
	"time"
)

// exclusive leaves the options of the socket as net sets them. SO_REUSEADDR,
// which net sets, lets a port be taken again while old connections of it are
// still in TIME_WAIT; a port with a listener is not shared by it on Linux, and
// elsewhere heldByWildcard looks first.
func exclusive(string, string, syscall.RawConn) error { return nil }

// heldByWildcard reports whether somebody answers at addr already. On the BSDs
// and macOS a bind to one address succeeds although another process listens on
// the same port of all addresses.
func heldByWildcard(ctx context.Context, network, addr string) bool {
	if runtime.GOOS == "linux" {
		return false
	}
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// noFamily reports whether the machine lacks the address family.
func noFamily(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
}
