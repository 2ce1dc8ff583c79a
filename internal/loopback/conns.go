package loopback

import (
	"net"
	"slices"
	"sync"
)

// connections keeps the number of open connections of a listener within max.
type connections struct {
	max int

	mu   sync.Mutex
	open []*guardedConn // oldest first
}

// guardedConn is a connection that is counted until it is closed. The TCPConn is
// embedded as itself, so that net/http finds CloseWrite.
type guardedConn struct {
	*net.TCPConn
	conns *connections
	busy  bool // guarded by conns.mu: a request is being answered
}

// Close closes the connection and gives its place free.
func (c *guardedConn) Close() error {
	c.conns.remove(c)
	return c.TCPConn.Close()
}

// guardedSocket hands every accepted connection to connections.
type guardedSocket struct {
	*net.TCPListener
	conns *connections
	once  sync.Once
}

// Close closes the socket; a second call does nothing.
func (s *guardedSocket) Close() error {
	var err error
	s.once.Do(func() { err = s.TCPListener.Close() })
	return err
}

// Accept returns the next connection that there is room for.
func (s *guardedSocket) Accept() (net.Conn, error) {
	for {
		c, err := s.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if g := s.conns.admit(c); g != nil {
			return g, nil
		}
		_ = c.Close()
	}
}

// admit makes room for c by dropping the oldest connection without a request
// under way. It returns nil when every connection is busy. The newest is never
// the one to go, so a flood of idle connections does not keep a browser out.
func (cs *connections) admit(c *net.TCPConn) *guardedConn {
	g := &guardedConn{TCPConn: c, conns: cs}
	cs.mu.Lock()
	var evicted *guardedConn
	if len(cs.open) >= cs.max {
		i := slices.IndexFunc(cs.open, func(o *guardedConn) bool { return !o.busy })
		if i < 0 {
			cs.mu.Unlock()
			return nil
		}
		evicted = cs.open[i]
		cs.open = slices.Delete(cs.open, i, i+1)
	}
	cs.open = append(cs.open, g)
	cs.mu.Unlock()
	if evicted != nil {
		_ = evicted.TCPConn.Close()
	}
	return g
}

func (cs *connections) remove(c *guardedConn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if i := slices.Index(cs.open, c); i >= 0 {
		cs.open = slices.Delete(cs.open, i, i+1)
	}
}

func (cs *connections) setBusy(c *guardedConn, busy bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.busy = busy
}

func (cs *connections) closeIdle() { cs.drop(func(c *guardedConn) bool { return !c.busy }) }
func (cs *connections) closeAll()  { cs.drop(func(*guardedConn) bool { return true }) }

func (cs *connections) drop(which func(*guardedConn) bool) {
	cs.mu.Lock()
	var gone []*guardedConn
	for _, c := range cs.open {
		if which(c) {
			gone = append(gone, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range gone {
		_ = c.Close()
	}
}
