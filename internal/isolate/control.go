package isolate

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// hello is what the controller says to the one who calls: before that no command
// is started, so that Entered is true of every one that was.
const hello = 0

// Controller is the outer end of the line on which signals reach an isolated
// command: it has processes of its own, which nobody outside can name.
type Controller struct {
	listener net.Listener

	mu      sync.Mutex
	conn    net.Conn
	pending []byte // signals from before the command was there
	entered bool
}

// Control listens on a socket at path and takes the first that comes: the inner
// half, which calls before it starts the command. Close it.
func Control(ctx context.Context, path string) (*Controller, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Controller{listener: listener}
	go c.accept()
	return c, nil
}

func (c *Controller) accept() {
	conn, err := c.listener.Accept()
	c.listener.Close()
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.entered = conn, true
	_, _ = conn.Write(append([]byte{hello}, c.pending...))
}

// Entered reports whether the inner half has called: the isolation stands.
func (c *Controller) Entered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entered
}

// Signal passes a signal on to the command.
func (c *Controller) Signal(sig os.Signal) {
	n, ok := sig.(syscall.Signal)
	if !ok || n <= 0 || n > 127 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		c.pending = append(c.pending, byte(n))
		return
	}
	_, _ = c.conn.Write([]byte{byte(n)})
}

// Close ends the line.
func (c *Controller) Close() {
	c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}

// Signals calls the controller at path, waits for its word, and hands each signal that it passes on
// to deliver, until ctx ends or the line does.
func Signals(ctx context.Context, path string, deliver func(syscall.Signal)) (wait func(), err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, errors.Join(errors.New("call the controller"), err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	one := make([]byte, 1)
	if _, err := io.ReadFull(conn, one); err != nil || one[0] != hello {
		stop()
		conn.Close()
		return nil, errors.Join(errors.New("the controller does not answer"), err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		defer conn.Close()
		for {
			if n, err := conn.Read(one); n == 0 || err != nil {
				return
			}
			deliver(syscall.Signal(one[0]))
		}
	})
	return func() {
		stop()
		conn.Close()
		reader.Wait()
	}, nil
}
