package proxy

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// keyHeader carries the run's key where Authorization is not at hand.
const keyHeader = "X-Apiauth-Key"

// keyPrefix begins a path that carries the run's key.
const keyPrefix = "/k/"

// hostPrefix marks the part of a path that names one of several pinned hosts.
const hostPrefix = "~"

// placeQuery is the place of providers.APIAuthPin that stands in a URL.
const placeQuery = "query"

const (
	defaultTimeout = time.Minute
	maxClients     = 4096
	clientIdle     = 2 * time.Minute
)

// Tokens is what a proxy needs of a connection's source.
type Tokens interface {
	// Token returns a live access token of a connection; with refresh, another
	// one than before, because an API refused that. It may be called from many
	// goroutines, for every request.
	Token(ctx context.Context, connection string, refresh bool) (secret.Text, error)
}

// Route is one connection as the reverse proxy serves it: the facts that it was
// bound to at connect.
type Route struct {
	Connection string
	// Base is the address of the API, such as https://api.example.com/v1: what
	// follows the connection's name in a request is appended to it. Without
	// one, each request names a host.
	Base string
	// Hosts are the only hosts that receive the token, in the form of
	// providers.NormalHost, compared exactly.
	Hosts []string
	Auth  providers.APIAuthPin
	// Headers are added to requests that do not have them.
	Headers map[string]string
	// InsecureLoopback allows http to this machine.
	InsecureLoopback bool
	// Allow limits the requests, by what follows the connection's name.
	Allow Rules
	// Limit and Quota bound the number of requests in this run.
	Limit, Quota Rate
}

// ReverseOptions say what a reverse proxy serves, and to whom.
type ReverseOptions struct {
	Tokens Tokens
	Routes []Route
	// Answered is told the status of each answer to a request with a token. It
	// may be nil and is called from many goroutines.
	Answered func(ctx context.Context, connection string, status int)
	// Host and Port are those of loopback.Options: 127.0.0.1 and a free port
	// by default.
	Host string
	Port int
	// Origins are the web pages that may use it (see CheckOrigin); none by
	// default.
	Origins []string
	// KeyInPath lets the key come as /k/KEY/ before the connection, for what
	// can set no header: pictures, event streams and WebSockets of a page.
	KeyInPath bool
	// Timeout bounds the wait for the head of an answer, once the request is
	// sent: one minute by default. Bodies have no limit.
	Timeout time.Duration
	// Private lets pinned hosts lie at private addresses: an API inside a
	// company. Loopback and link-local ones are refused all the same, unless
	// the pinned host is that address.
	Private bool
	// UserAgent is sent where the request has none.
	UserAgent string
	// Roots are the certificates to trust; nil for the system's.
	Roots func() (*x509.CertPool, error)
	// Proxy is the way out; nil for HTTPS_PROXY and its kind.
	Proxy func(*http.Request) (*url.URL, error)
	// Resolve finds the addresses of a host; nil for the system's resolver.
	Resolve ResolveFunc
	// Log receives each request when it is over, from many goroutines.
	Log func(Entry)
	// Note receives what is worth noticing besides, a bounded number of lines.
	Note func(line string)
	Now  func() time.Time
	Rand io.Reader
}

// Entry is one request as it is logged. It holds no query and no key.
type Entry struct {
	Time       time.Time
	Connection string // empty when the path names none that is served
	Method     string
	Path       string // what follows the connection's name, with its escapes
	Status     int    // of the answer; 0 when the client was gone before it
	Took       time.Duration
	Bytes      int64  // of the body
	Why        string // in words, when the proxy itself refused or failed
}

// Reverse is a running reverse proxy.
type Reverse struct {
	o         ReverseOptions
	key       string
	routes    map[string]*route
	listener  *loopback.Listener
	transport *http.Transport
	buffers   buffers
}

// route is a Route, prepared.
type route struct {
	Route
	scheme, host, path string // of Base; path has no slash at its end
	headers            http.Header
	limiter            limiter
	direct             *direct // nil where the user's own proxy is the way
	renewal            renewal
	scrub              atomic.Pointer[keptScrubber]
}

// StartReverse opens the listener and answers until Shutdown. A fixed port that
// is taken is a *loopback.PortTakenError.
func StartReverse(ctx context.Context, o ReverseOptions) (*Reverse, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Resolve == nil {
		o.Resolve = net.DefaultResolver.LookupNetIP
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	p := &Reverse{o: o, routes: map[string]*route{}}
	for _, r := range o.Routes {
		rt, err := prepare(r)
		if err != nil {
			return nil, fmt.Errorf("serve %s: %w", r.Connection, err)
		}
		p.routes[r.Connection] = rt
	}
	for _, origin := range o.Origins {
		if err := CheckOrigin(origin); err != nil {
			return nil, err
		}
	}
	var raw [32]byte
	if _, err := io.ReadFull(o.Rand, raw[:]); err != nil {
		return nil, fmt.Errorf("make the key of this run: %w", err)
	}
	p.key = base64.RawURLEncoding.EncodeToString(raw[:])
	var err error
	if p.transport, err = p.newTransport(); err != nil {
		return nil, err
	}
	for _, rt := range p.routes {
		p.openDirect(rt)
	}
	p.listener, err = loopback.Listen(ctx, loopback.Options{
		Host: o.Host, Port: o.Port, MaxConns: maxClients, KeepAlive: true,
		ReadTimeout: -1, WriteTimeout: -1, IdleTimeout: clientIdle, Log: o.Note,
	})
	if err != nil {
		return nil, err
	}
	p.listener.Serve(loopback.Guard{Origins: o.Origins, OwnHeaders: true}, p)
	return p, nil
}

func prepare(r Route) (*route, error) {
	rt := &route{Route: r, headers: http.Header{}, limiter: limiter{limit: r.Limit, quota: r.Quota}}
	for name, value := range r.Headers {
		rt.headers[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	if r.Base == "" {
		return rt, nil
	}
	u, err := url.Parse(r.Base)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("the address of its API cannot be used")
	}
	if !rt.mayCall(u.Scheme, u.Host) {
		return nil, errors.New("the address of its API is not on a pinned host")
	}
	rt.scheme, rt.host, rt.path = u.Scheme, u.Host, strings.TrimSuffix(u.EscapedPath(), "/")
	return rt, nil
}

// mayCall reports whether the token may go to a host by a scheme.
func (rt *route) mayCall(scheme, host string) bool {
	normal, err := providers.URLHost(scheme + "://" + host)
	if err != nil || !slices.Contains(rt.Hosts, normal) {
		return false
	}
	return scheme == "https" || scheme == "http" && rt.InsecureLoopback && isThisMachine(normal)
}

// URL is where the proxy listens, such as http://127.0.0.1:4040.
func (p *Reverse) URL() string { return "http://" + p.listener.Addr() }

// Key is the key of this run.
func (p *Reverse) Key() secret.Text { return secret.New(p.key) }

// Shutdown takes no more requests and lets those under way finish until ctx
// ends; then they are cut off.
func (p *Reverse) Shutdown(ctx context.Context) error {
	err := p.listener.Shutdown(ctx)
	p.transport.CloseIdleConnections()
	for _, rt := range p.routes {
		if rt.direct != nil {
			rt.direct.close()
		}
	}
	return err
}

// ServeHTTP answers one request, which has passed the guard.
func (p *Reverse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{p: p, w: w, r: r}
	if p.o.Log != nil {
		x.entry = Entry{Time: p.o.Now(), Method: r.Method}
		defer func() {
			x.entry.Took = p.o.Now().Sub(x.entry.Time)
			p.o.Log(x.entry)
		}()
	}
	p.allowOrigin(w.Header(), r)
	var key, name string
	x.prefix, key, name, x.rest = p.split(r.URL.EscapedPath())
	x.rt = p.routes[name]
	if x.rt != nil {
		x.entry.Connection, x.entry.Path = name, strings.ReplaceAll(x.rest, p.key, "[key]")
	}
	if isPreflight(r) && x.rt != nil {
		x.entry.Status = p.preflight(w, r, x.rt)
		return
	}
	if !p.shown(r, x.rt, key) {
		x.refuse(http.StatusUnauthorized, "unauthorized", "the key of this run is missing: send it as 'Authorization: Bearer KEY' or 'X-Apiauth-Key: KEY'")
		return
	}
	x.admit()
}

// split takes a path apart: what comes before the connection's name, the key in
// it, the name, and what follows.
func (p *Reverse) split(path string) (prefix, key, name, rest string) {
	if p.o.KeyInPath && strings.HasPrefix(path, keyPrefix) {
		key, rest, _ = strings.Cut(path[len(keyPrefix):], "/")
		prefix, path = keyPrefix+key, "/"+rest
	}
	name = strings.TrimPrefix(path, "/")
	if i := strings.IndexByte(name, '/'); i >= 0 {
		name, rest = name[:i], name[i:]
	} else {
		rest = ""
	}
	return prefix, key, name, rest
}

// shown reports whether a request shows the run's key: in the path where that
// is switched on, in a header, or where an SDK puts its token for this API.
func (p *Reverse) shown(r *http.Request, rt *route, inPath string) bool {
	if loopback.SameSecret(inPath, p.key) || loopback.SameSecret(r.Header.Get(keyHeader), p.key) {
		return true
	}
	if v := r.Header.Get("Authorization"); len(v) > 7 && strings.EqualFold(v[:7], "Bearer ") && loopback.SameSecret(v[7:], p.key) {
		return true
	}
	if rt == nil {
		return false
	}
	var got string
	switch rt.Auth.In {
	case placeQuery:
		got = r.URL.Query().Get(rt.Auth.Name)
	case "basic":
		got, _, _ = r.BasicAuth()
	default:
		got = strings.TrimPrefix(r.Header.Get(rt.Auth.Name), rt.Auth.Prefix)
	}
	return loopback.SameSecret(got, p.key)
}
