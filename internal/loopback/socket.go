package loopback

import (
	"context"
	"net"
)

// Socket opens a socket of its own on 127.0.0.1 at a free port, never shared with
// another process. It is for a server that is no web server, such as a proxy for
// child processes: nothing of Guard stands before it, so whoever serves it asks
// each client for a secret.
func Socket(ctx context.Context) (net.Listener, error) {
	sockets, _, err := bind(ctx, IPv4, 0)
	if err != nil {
		return nil, err
	}
	return sockets[0], nil
}
