// Package proxy gives access to an API without giving the token away. The egress
// proxy stands between a child process, which holds placeholders, and the
// network; the reverse proxy stands before an API. Both add the token on this
// side, and neither lets it come back.
package proxy

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Target is one connection as a proxy may use it. A connection whose hosts want
// its token in different places (git beside the API) has one Target for each,
// with the same placeholder.
type Target struct {
	Connection string
	// Hosts are the only ones that receive the token: exact, and in the form
	// of providers.NormalHost.
	Hosts []string
	Auth  providers.APIAuthPin
	// Placeholder is what the child has in place of the token, of at least 8
	// bytes. It differs from that of every other connection.
	Placeholder secret.Text
	// Allow limits what may be called on the hosts, with and without a token.
	Allow Rules
	// Insecure takes http as well toward hosts on loopback, as the provider's
	// allow_insecure_loopback does. Everything else is https.
	Insecure bool
}

// EgressOptions say what an Egress does. Tokens and Targets are required, the
// zero values of all others are right.
type EgressOptions struct {
	Tokens  Tokens
	Targets []Target
	// Answered is told the status of each answer to a request with a token. It
	// may be nil and is called from many goroutines.
	Answered func(ctx context.Context, connection string, status int)
	// Strict refuses every host that is neither pinned nor in Open, whose
	// entries are in the form of providers.NormalHost.
	Strict bool
	Open   []string
	// Isolated says that the child cannot reach this machine and its network
	// by itself. Then tunnels lead to public addresses only, except to Open.
	Isolated bool
	// Private lets the name of a pinned host lead to a private address, such
	// as that of an issuer inside of a company.
	Private bool
	// Upstream returns the user's own proxy for a request, or nil for none.
	// Nil means that there is none.
	Upstream func(*http.Request) (*url.URL, error)
	// Roots returns the authorities that may vouch for an API, when the first
	// is asked. Nil means those of the system.
	Roots func() (*x509.CertPool, error)
	// Resolve and Dial reach the network; nil means the system's.
	Resolve ResolveFunc
	Dial    DialFunc
	// Local answers for hosts that exist in this run only, over https. The
	// keys are in the form of providers.NormalHost.
	Local map[string]http.Handler
	// Log receives a line for each request, without a query and without a
	// secret. It may be nil and is called from many goroutines.
	Log func(line string)
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Egress is the proxy of one run.
type Egress struct {
	o         EgressOptions
	address   string
	key       string
	authority *authority
	sites     map[string]*site // by host in normal form
	finder    finder
	owners    []string // connections, by owner of the finder
	outer     *http.Server
	inner     *http.Server
	streams   *handover // connections for inner
	ways      func() (ways, error)
	buffers   buffers
	renewals  map[string]*renewal // by connection
	tunnels   tunnels
	serving   sync.WaitGroup
	stop      context.CancelFunc
}

// StartEgress opens the proxy on a free port of 127.0.0.1 and returns. It serves
// until Close; that ctx ends has no effect on it.
func StartEgress(ctx context.Context, o EgressOptions) (*Egress, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: time.Minute}).DialContext
	}
	if o.Resolve == nil {
		o.Resolve = net.DefaultResolver.LookupNetIP
	}
	e := &Egress{o: o, key: rand.Text(), sites: make(map[string]*site), renewals: make(map[string]*renewal)}
	if err := e.pin(); err != nil {
		return nil, err
	}
	hosts := make([]string, 0, len(e.sites))
	for host := range e.sites {
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	var err error
	if e.authority, err = newAuthority(hosts, o.Now()); err != nil {
		return nil, err
	}
	e.ways = sync.OnceValues(e.newWays)

	socket, err := loopback.Socket(ctx)
	if err != nil {
		return nil, err
	}
	e.address = socket.Addr().String()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	e.streams = newHandover(socket.Addr())
	e.outer, e.inner = e.servers(running)
	e.ServeListener(socket)
	e.serving.Go(func() { _ = e.inner.Serve(e.streams) })
	return e, nil
}

// pin files the targets and local handlers by host, and the placeholders.
func (e *Egress) pin() error {
	var placeholders []string
	at := func(host string) (*site, error) {
		if normal, err := providers.NormalHost(host); err != nil || normal != host {
			return nil, fmt.Errorf("%q is not a host in normal form", host)
		}
		if e.sites[host] == nil {
			e.sites[host] = &site{host: host}
		}
		return e.sites[host], nil
	}
	for i := range e.o.Targets {
		t := &e.o.Targets[i]
		e.renewals[t.Connection] = &renewal{}
		text := t.Placeholder.Reveal()
		if len(text) < shortest {
			return fmt.Errorf("the placeholder of %q is too short", t.Connection)
		}
		owner := slices.Index(placeholders, text)
		switch {
		case owner < 0:
			placeholders = append(placeholders, text)
			e.owners = append(e.owners, t.Connection)
		case e.owners[owner] != t.Connection:
			return fmt.Errorf("%q and %q have the same placeholder", e.owners[owner], t.Connection)
		}
		for _, host := range t.Hosts {
			s, err := at(host)
			if err != nil {
				return err
			}
			s.targets = append(s.targets, t)
			s.plain = s.plain || t.Insecure && isThisMachine(host)
		}
	}
	if len(placeholders)+len(e.o.Local) == 0 {
		return errors.New("a proxy needs a connection")
	}
	for host, h := range e.o.Local {
		s, err := at(host)
		if err != nil {
			return err
		}
		if len(s.targets) > 0 {
			return fmt.Errorf("%s is a host of %q already", host, s.targets[0].Connection)
		}
		s.local = h
	}
	e.finder = newFinder(placeholders)
	return nil
}

func (e *Egress) servers(running context.Context) (outer, inner *http.Server) {
	base := func(net.Listener) context.Context { return running }
	silent := log.New(io.Discard, "", 0) // its lines hold parts of requests
	outer = &http.Server{
		Handler:                      http.HandlerFunc(e.serveOuter),
		ReadHeaderTimeout:            time.Minute,
		IdleTimeout:                  5 * time.Minute,
		ErrorLog:                     silent,
		BaseContext:                  base,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
	}
	outer.Protocols.SetHTTP1(true)
	inner = &http.Server{
		Handler:                      http.HandlerFunc(e.serveInner),
		ReadHeaderTimeout:            time.Minute,
		IdleTimeout:                  5 * time.Minute,
		ErrorLog:                     silent,
		BaseContext:                  base,
		ConnContext:                  withTunnel,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
	}
	inner.Protocols.SetHTTP1(true)
	inner.Protocols.SetHTTP2(true)
	return outer, inner
}

// URL is the proxy as a child's environment names it, with the key of the run:
// "http://apiauth:KEY@127.0.0.1:PORT".
func (e *Egress) URL() string { return "http://" + user + ":" + e.key + "@" + e.address }

// Addr is host and port of the proxy.
func (e *Egress) Addr() string { return e.address }

// CA is the certificate of the run's authority in PEM.
func (e *Egress) CA() []byte { return e.authority.pem() }

// ServeListener answers on a further listener as well, such as a unix socket that
// leads into a sandbox. It returns at once; Close closes l.
func (e *Egress) ServeListener(l net.Listener) {
	e.serving.Go(func() { _ = e.outer.Serve(l) })
}

// Close stops listening, lets the requests under way finish until ctx ends, and
// then ends everything.
func (e *Egress) Close(ctx context.Context) error {
	err := e.outer.Shutdown(ctx)
	err = errors.Join(err, e.inner.Shutdown(ctx))
	e.stop()
	_ = e.outer.Close()
	_ = e.inner.Close()
	_ = e.streams.Close()
	e.tunnels.closeAll()
	e.serving.Wait()
	if w, werr := e.ways(); werr == nil {
		w.pinned.CloseIdleConnections()
		w.foreign.CloseIdleConnections()
		w.proxied.CloseIdleConnections()
	}
	return err
}

// user is the name beside the key, which is the same in every run.
const user = "apiauth"

// authorised reports whether a request bears the key of the run.
func (e *Egress) authorised(h http.Header) bool {
	values := h["Proxy-Authorization"]
	if len(values) != 1 {
		return false
	}
	scheme, code, _ := strings.Cut(values[0], " ")
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
	return err == nil && strings.EqualFold(scheme, "Basic") && loopback.SameSecret(string(plain), user+":"+e.key)
}

// serveOuter answers what the child sends to the proxy itself.
func (e *Egress) serveOuter(w http.ResponseWriter, r *http.Request) {
	if !e.authorised(r.Header) {
		w.Header().Set("Proxy-Authenticate", `Basic realm="apiauth"`)
		refuse(w, http.StatusProxyAuthRequired, "this proxy serves one run of apiauth and its children only")
		return
	}
	switch {
	case r.Method == http.MethodConnect:
		e.serveConnect(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		e.servePlain(w, r)
	default:
		refuse(w, http.StatusBadRequest, "this is a proxy: it takes CONNECT, and whole http addresses")
	}
}

// servePlain answers a request for a whole http address.
func (e *Egress) servePlain(w http.ResponseWriter, r *http.Request) {
	host, err := plainHost(r.URL.Host)
	if err != nil || r.URL.User != nil {
		e.refuse(w, r, http.StatusBadRequest, "the address has no plain host")
		return
	}
	s := e.sites[host]
	switch {
	case s != nil && s.plain && s.local == nil:
		e.serveSite(w, r, s, "http")
	case s != nil:
		e.refuse(w, r, http.StatusForbidden, host+" is reached over https only")
	case !e.open(host):
		e.refuse(w, r, http.StatusForbidden, strictly(host))
	default:
		e.forwardPlain(w, r, host)
	}
}

// plainHost is the normal form of a host that is reached over http.
func plainHost(host string) (string, error) {
	normal, err := providers.NormalHost(host)
	if err != nil {
		return "", err
	}
	if normal == hostname(normal) || normal == "["+hostname(normal)+"]" {
		if strings.HasSuffix(host, ":443") {
			return normal, nil
		}
		normal += ":80"
	}
	return normal, nil
}

// open reports whether a host that is not pinned may be reached.
func (e *Egress) open(host string) bool { return !e.o.Strict || slices.Contains(e.o.Open, host) }

func strictly(host string) string {
	return host + " is neither a host of a connection of this run nor opened for it"
}

// refuse answers with a message and logs it.
func (e *Egress) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	e.log(r, r.Host, status, "refused: "+why)
	refuse(w, status, why)
}

// refuse answers with a message for the person who reads the child's output.
func refuse(w http.ResponseWriter, status int, why string) {
	h := w.Header()
	clear(h)
	if status == http.StatusProxyAuthRequired {
		h.Set("Proxy-Authenticate", `Basic realm="apiauth"`)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "apiauth: "+strings.ReplaceAll(why, "; ", ";\n")+"\n") //nolint:gosec // plain text that is not sniffed, of words of ours and normal hosts
}

// log writes the line of a request: when, what, where without the query, how it
// ended, and whose token it got or why it was refused.
func (e *Egress) log(r *http.Request, host string, status int, what string) {
	if e.o.Log == nil {
		return
	}
	path := r.URL.EscapedPath()
	if r.Method == http.MethodConnect {
		path = ""
	}
	if p := []byte(path); e.finder.m.contains(p) != nil {
		path = string(e.finder.m.replace(p, func(*pattern) []byte { return []byte("[placeholder]") }))
	}
	if len(path) > 200 {
		path = path[:200] + "..."
	}
	line := fmt.Sprintf("%s %s %s%s %d", e.o.Now().Format("15:04:05"), printable(r.Method), printable(host), printable(path), status)
	if what != "" {
		line += " " + what
	}
	e.o.Log(line)
}

// printable leaves the visible characters of ASCII.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f {
			return -1
		}
		return c
	}, s[:min(len(s), 300)])
}
