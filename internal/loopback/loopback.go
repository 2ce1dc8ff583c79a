// Package loopback gives one guarded HTTP listener on this machine. Any web page
// and any local process can reach loopback, so every request is checked for its
// Host, its Origin and, where the caller asks for it, a capability; connections,
// headers, times and log lines are bounded; refusals have fixed bodies.
package loopback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Hosts that a Listener can be opened for.
const (
	IPv4      = "127.0.0.1"
	IPv6      = "[::1]"
	Localhost = "localhost"
)

const (
	// maxHeader is the largest request head in bytes. net/http adds 4,096
	// bytes to MaxHeaderBytes before it refuses.
	maxHeader  = 16 << 10
	headerSlop = 4 << 10

	defaultMaxConns      = 64
	defaultHeaderTimeout = 5 * time.Second
	defaultBodyTimeout   = 10 * time.Second

	// pairTries bounds the search for a port that is free on both address
	// families.
	pairTries = 64
)

// PortTakenError says that a fixed port is held by another process.
type PortTakenError struct{ Port int }

// Error names the port.
func (e *PortTakenError) Error() string {
	return fmt.Sprintf("port %d on this machine is held by another process", e.Port)
}

// Options say what to listen on. The zero value is 127.0.0.1 with a free port
// and limits that suit a login callback.
type Options struct {
	// Host is IPv4 (the default), IPv6 or Localhost. Localhost binds both
	// 127.0.0.1 and [::1] on one port, because either may be what the name
	// resolves to; on a machine without IPv6 it binds 127.0.0.1 alone.
	Host string
	// Port is a fixed port; 0 takes any free one.
	Port int
	// MaxConns is the number of connections held at once, 64 by default. When
	// it is reached, the oldest connection that has no request under way makes
	// room for the new one.
	MaxConns int
	// HeaderTimeout bounds the reading of a request head: 5 s by default.
	HeaderTimeout time.Duration
	// ReadTimeout and WriteTimeout bound a whole request and a whole answer:
	// 10 s by default, a negative value for none (a proxy that streams).
	ReadTimeout, WriteTimeout time.Duration
	// KeepAlive lets a client send several requests over one connection.
	KeepAlive bool
	// IdleTimeout bounds the time between them: HeaderTimeout by default.
	IdleTimeout time.Duration
	// Log receives what is worth noticing, a bounded number of lines that hold
	// nothing of any request. It may be nil and is called from many
	// goroutines.
	Log func(line string)
}

// Listener holds the sockets of one server on loopback.
type Listener struct {
	port    int
	host    string
	hosts   []string
	sockets []*guardedSocket
	conns   *connections
	server  *http.Server
	log     *boundedLog
	serving sync.WaitGroup
	started atomic.Bool
	closing atomic.Bool
}

// Listen opens the sockets. A fixed port that somebody else holds is a
// *PortTakenError, which comes before anything else has happened. The address is
// never shared with another process.
func Listen(ctx context.Context, o Options) (*Listener, error) {
	host := o.Host
	if host == "" {
		host = IPv4
	}
	if host != IPv4 && host != IPv6 && host != Localhost {
		return nil, fmt.Errorf("listen on %q: only 127.0.0.1, [::1] and localhost are loopback", host)
	}
	if o.Port < 0 || o.Port > 65535 {
		return nil, fmt.Errorf("listen on port %d: a port is a number from 0 to 65535", o.Port)
	}
	sockets, port, err := bind(ctx, host, o.Port)
	if err != nil {
		return nil, err
	}

	l := &Listener{
		port:  port,
		host:  host,
		hosts: allowedHosts(host, port),
		conns: &connections{max: o.MaxConns},
		log:   &boundedLog{out: o.Log},
	}
	if l.conns.max <= 0 {
		l.conns.max = defaultMaxConns
	}
	for _, s := range sockets {
		l.sockets = append(l.sockets, &guardedSocket{TCPListener: s, conns: l.conns})
	}
	l.server = &http.Server{
		ReadHeaderTimeout:            orDefault(o.HeaderTimeout, defaultHeaderTimeout),
		ReadTimeout:                  orDefault(o.ReadTimeout, defaultBodyTimeout),
		WriteTimeout:                 orDefault(o.WriteTimeout, defaultBodyTimeout),
		IdleTimeout:                  orDefault(cmp.Or(o.IdleTimeout, o.HeaderTimeout), defaultHeaderTimeout),
		MaxHeaderBytes:               maxHeader - headerSlop,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(l.log, "", 0),
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Protocols:                    new(http.Protocols),
	}
	l.server.Protocols.SetHTTP1(true)
	l.server.SetKeepAlivesEnabled(o.KeepAlive)
	return l, nil
}

func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d < 0:
		return 0
	case d == 0:
		return def
	}
	return d
}

// Port returns the port that is held.
func (l *Listener) Port() int { return l.port }

// Hosts returns the values of the Host header that are answered.
func (l *Listener) Hosts() []string { return slices.Clone(l.hosts) }

// Addr returns host and port as they belong into a URL, such as
// "127.0.0.1:8080".
func (l *Listener) Addr() string { return l.host + ":" + strconv.Itoa(l.port) }

// Serve starts to answer requests with h behind g and returns at once. The
// listener's own Hosts are used when g has none. Serve is called once; it goes
// on until Close or Shutdown.
func (l *Listener) Serve(g Guard, h http.Handler) {
	if l.started.Swap(true) {
		panic("loopback: Serve was called twice")
	}
	if len(g.Hosts) == 0 {
		g.Hosts = l.hosts
	}
	if g.Log == nil {
		g.Log = l.log.line
	}
	l.server.Handler = l.mark(g.Wrap(h))
	for _, s := range l.sockets {
		l.serving.Go(func() {
			if err := l.server.Serve(s); err != nil && !errors.Is(err, http.ErrServerClosed) && !l.closing.Load() {
				l.log.line("the listener on this machine has stopped")
			}
		})
	}
}

// Log writes one line to Options.Log within the bounds of this listener.
func (l *Listener) Log(line string) { l.log.line(line) }

// Shutdown closes the sockets at once, drops every connection that has no
// request under way, and lets the others finish until ctx ends. Then nothing of
// the listener is left.
func (l *Listener) Shutdown(ctx context.Context) error {
	l.closing.Store(true)
	for _, s := range l.sockets {
		_ = s.Close()
	}
	l.conns.closeIdle()
	err := l.server.Shutdown(ctx)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close ends everything at once. It may be called more than once.
func (l *Listener) Close() error {
	l.closing.Store(true)
	for _, s := range l.sockets {
		_ = s.Close()
	}
	_ = l.server.Close()
	l.conns.closeAll()
	l.serving.Wait()
	return nil
}

type connKey struct{}

// mark keeps a connection from being dropped while its request is answered, and
// turns a panic into a plain 500, since the message of a panic may hold
// anything.
func (l *Listener) mark(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*guardedConn); ok {
			l.conns.setBusy(c, true)
			defer l.conns.setBusy(c, false)
		}
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				l.log.line("a request could not be answered because of an internal error")
				Refuse(w, http.StatusInternalServerError)
			}
		}()
		h.ServeHTTP(w, r)
		// What was written leaves before the connection counts as idle: a
		// Shutdown that the request itself caused must not cut its answer off.
		_ = http.NewResponseController(w).Flush()
	})
}

// allowedHosts lists what a Host header may say. A browser leaves out port 80.
func allowedHosts(host string, port int) []string {
	names := []string{host}
	if host == Localhost {
		names = append(names, IPv4, IPv6)
	}
	var hosts []string
	for _, n := range names {
		hosts = append(hosts, n+":"+strconv.Itoa(port))
		if port == 80 {
			hosts = append(hosts, n)
		}
	}
	return hosts
}

// bind opens the sockets for host.
func bind(ctx context.Context, host string, port int) ([]*net.TCPListener, int, error) {
	switch host {
	case IPv4:
		s, err := bindOne(ctx, "tcp4", "127.0.0.1", port)
		if err != nil {
			return nil, 0, err
		}
		return []*net.TCPListener{s}, portOf(s), nil
	case IPv6:
		s, err := bindOne(ctx, "tcp6", "::1", port)
		if err != nil {
			return nil, 0, err
		}
		return []*net.TCPListener{s}, portOf(s), nil
	}
	var last error
	for range pairTries {
		s4, err := bindOne(ctx, "tcp4", "127.0.0.1", port)
		if err != nil {
			return nil, 0, err
		}
		p := portOf(s4)
		s6, err := bindOne(ctx, "tcp6", "::1", p)
		switch {
		case err == nil:
			return []*net.TCPListener{s4, s6}, p, nil
		case noFamily(err):
			return []*net.TCPListener{s4}, p, nil
		}
		_ = s4.Close()
		if _, taken := errors.AsType[*PortTakenError](err); !taken || port != 0 {
			return nil, 0, err
		}
		last = err
	}
	return nil, 0, fmt.Errorf("find a port that is free on 127.0.0.1 and [::1]: %w", last)
}

func portOf(s *net.TCPListener) int {
	return int(s.Addr().(*net.TCPAddr).AddrPort().Port())
}

func bindOne(ctx context.Context, network, ip string, port int) (*net.TCPListener, error) {
	addr := net.JoinHostPort(ip, strconv.Itoa(port))
	if port != 0 && heldByWildcard(ctx, network, addr) {
		return nil, &PortTakenError{Port: port}
	}
	lc := net.ListenConfig{Control: exclusive, KeepAlive: -1}
	s, err := lc.Listen(ctx, network, addr)
	if err != nil {
		if inUse(err) && port != 0 {
			return nil, &PortTakenError{Port: port}
		}
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	tcp, ok := s.(*net.TCPListener)
	if !ok {
		_ = s.Close()
		return nil, fmt.Errorf("listen on %s: not a TCP socket", addr)
	}
	if !netip.MustParseAddrPort(tcp.Addr().String()).Addr().IsLoopback() {
		_ = tcp.Close()
		return nil, fmt.Errorf("listen on %s: the system gave another address", addr)
	}
	return tcp, nil
}
