package isolate

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// Bridge hands each connection that listener accepts to the unix socket, byte
// for byte, until ctx ends. It is the inner half of the way out: the listener is
// on the loopback device of the sandbox, the socket is the proxy's.
func Bridge(ctx context.Context, listener net.Listener, socket string) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		open.Go(func() { carry(ctx, conn, socket) })
	}
}

func carry(ctx context.Context, near net.Conn, socket string) {
	defer near.Close()
	var d net.Dialer
	far, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return
	}
	defer far.Close()
	stop := context.AfterFunc(ctx, func() {
		near.Close()
		far.Close()
	})
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { pour(far, near) })
	both.Go(func() { pour(near, far) })
	both.Wait()
}

// pour copies until the end of from and passes that end on: a client that has
// sent everything may still be waiting for the answer.
func pour(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		to.Close()
		from.Close()
	}
}
