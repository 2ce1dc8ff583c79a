// Package sandbox is an OAuth issuer and a small API on loopback, for trying
// apiauth out and for testing it. It is stricter than any provider: PKCE S256
// always, exact redirects, single-use codes, rotation with reuse detection. It
// shares no protocol code with the client it judges. All state is in memory
// and gone with Close.
package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Limits and lifetimes that no option changes.
const (
	maxBody       = 64 << 10
	codeLifetime  = time.Minute
	pendingLife   = 10 * time.Minute
	deviceLife    = 15 * time.Minute
	maxPending    = 1000
	publicClient  = "sandbox-native"
	privateClient = "sandbox-confidential"
)

// Options change how the sandbox behaves. The zero value is a strict issuer
// with tokens of one hour.
type Options struct {
	// TokenTTL is the lifetime of access tokens. Default 1 hour.
	TokenTTL time.Duration
	// RefreshTTL is the lifetime of each refresh token. Default: no end.
	RefreshTTL time.Duration
	// RotateRefresh gives a new refresh token with each refresh. Using an old
	// one then revokes the whole family, access tokens included.
	RotateRefresh bool
	// Grace is how long after its first use the previous refresh token is
	// accepted again, provided that its successor was never used. Default 0:
	// every reuse revokes.
	Grace time.Duration
	// Fail switches faults on, see Faults.
	Fail []string
	// SlowBy is the delay of the fault "slow". Default 2 s.
	SlowBy time.Duration
	// AutoApprove lets the authorization endpoint and the device
	// authorization endpoint agree at once, as alice or the login_hint: there
	// is no person to ask.
	AutoApprove bool
	// ClientSecretBasic registers the confidential client for
	// client_secret_basic. Default: client_secret_post. Never both.
	ClientSecretBasic bool
	// RedirectURIs are registered for both clients beside the loopback
	// redirects that ProviderYAML names. A loopback IP literal without a port
	// matches any port (RFC 8252 section 7.3); everything else matches exactly.
	RedirectURIs []string
	// DeviceInterval is the polling interval of the device flow. Default 5 s.
	DeviceInterval time.Duration
	// Now is the issuer's clock. Default time.Now.
	Now func() time.Time
	// Rand is the source of codes and tokens. Default crypto/rand.
	Rand io.Reader
	// Log receives one line per request, without secrets. Default: nowhere.
	// It may be called by several goroutines at once.
	Log func(line string)
}

// Server is a running sandbox.
type Server struct {
	opts     Options
	origin   string // http://127.0.0.1:PORT, also the issuer identifier
	host     string
	key      *ecdsa.PrivateKey
	http     *http.Server
	done     chan struct{}
	served   chan struct{}
	close    sync.Once
	closeErr error

	mu        sync.Mutex
	redirects []string
	clients   map[string]*client
	pending   map[string]*pending
	codes     map[tokenHash]*code
	devices   map[tokenHash]*device
	access    map[tokenHash]*accessToken
	refresh   map[tokenHash]*refreshToken
	faults    []*fault
	stats     Stats
}

// Start listens on a free port of 127.0.0.1 and serves until ctx ends or Close
// is called.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.TokenTTL <= 0 {
		o.TokenTTL = time.Hour
	}
	if o.SlowBy <= 0 {
		o.SlowBy = 2 * time.Second
	}
	if o.DeviceInterval <= 0 {
		o.DeviceInterval = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	s := &Server{
		opts:    o,
		done:    make(chan struct{}),
		served:  make(chan struct{}),
		pending: map[string]*pending{},
		codes:   map[tokenHash]*code{},
		devices: map[tokenHash]*device{},
		access:  map[tokenHash]*accessToken{},
		refresh: map[tokenHash]*refreshToken{},
	}
	if err := s.SetFaults(o.Fail...); err != nil {
		return nil, err
	}
	for _, u := range o.RedirectURIs {
		if err := s.register(u); err != nil {
			return nil, err
		}
	}
	for _, u := range []string{"http://127.0.0.1/callback/sandbox", "http://[::1]/callback/sandbox"} {
		if err := s.register(u); err != nil {
			return nil, err
		}
	}
	var err error
	if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make the sandbox's signing key: %w", err)
	}
	secretText, err := s.random("sbx_cs_", 32)
	if err != nil {
		return nil, err
	}
	method := authPost
	if o.ClientSecretBasic {
		method = authBasic
	}
	s.clients = map[string]*client{
		publicClient:  {id: publicClient, name: "Sandbox app", method: authNone},
		privateClient: {id: privateClient, name: "Sandbox machine app", method: method, secrets: []secret.Text{secretText}},
	}

	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the sandbox: %w", err)
	}
	s.host = ln.Addr().String()
	s.origin = "http://" + s.host
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    96 << 10,
		ErrorLog:          quiet(),
	}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(ln)
	}()
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	go func() {
		<-s.done
		stop()
	}()
	return s, nil
}

// Close ends the sandbox: nothing listens and all grants are gone.
func (s *Server) Close() error {
	s.close.Do(func() {
		close(s.done)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			if err = s.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				s.closeErr = fmt.Errorf("stop the sandbox: %w", err)
			}
		}
		<-s.served
	})
	return s.closeErr
}

// Issuer returns the issuer identifier, http://127.0.0.1:PORT.
func (s *Server) Issuer() string { return s.origin }

// APIBase returns the base URL of the API.
func (s *Server) APIBase() string { return s.origin + "/api" }

// ClientID returns the id of the public native client, which has no secret.
func (s *Server) ClientID() string { return publicClient }

// ConfidentialClient returns the id and the secret of the confidential client;
// of several, the first.
func (s *Server) ConfidentialClient() (id string, clientSecret secret.Text) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return privateClient, s.clients[privateClient].secrets[0]
}

// AcceptSecrets makes these, one at least, the secrets of the confidential
// client: two while it changes over from one to the other.
func (s *Server) AcceptSecrets(first secret.Text, more ...secret.Text) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[privateClient].secrets = append([]secret.Text{first}, more...)
}

// knows reports whether a secret is one of a client's.
func (s *Server) knows(c *client, given secret.Text) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(c.secrets, given.Equal)
}

// RegisterRedirect adds a redirect URI for both clients, under the rules of
// Options.RedirectURIs.
func (s *Server) RegisterRedirect(uri string) error { return s.register(uri) }

func (s *Server) register(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Fragment != "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("register %q as a redirect URI: it must be an absolute http or https URL without fragment", uri)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redirects = append(s.redirects, uri)
	return nil
}

func (s *Server) now() time.Time { return s.opts.Now() }

// random returns prefix and n random bytes in base64url. The source need not be
// safe for concurrent use: only Start and holders of mu call this.
func (s *Server) random(prefix string, n int) (secret.Text, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.opts.Rand, b); err != nil {
		return secret.Text{}, fmt.Errorf("read random bytes: %w", err)
	}
	return secret.New(prefix + base64.RawURLEncoding.EncodeToString(b)), nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /style.css", s.stylesheet)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	mux.HandleFunc("GET /jwks", s.jwks)
	mux.HandleFunc("GET /authorize", s.authorize)
	mux.HandleFunc("POST /authorize/decision", s.decide)
	mux.HandleFunc("POST /device_authorization", s.deviceAuthorization)
	mux.HandleFunc("GET /device", s.devicePage)
	mux.HandleFunc("POST /device/decision", s.deviceDecide)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("POST /revoke", s.revoke)
	mux.HandleFunc("POST /introspect", s.introspect)
	mux.HandleFunc("GET /userinfo", s.userinfo)
	mux.HandleFunc("GET /api/me", s.apiMe)
	mux.HandleFunc("GET /api/echo", s.apiEcho)
	mux.HandleFunc("POST /api/echo", s.apiEcho)
	mux.HandleFunc("GET /api/items", s.apiItems)
	mux.HandleFunc("/api/status/{code}", s.apiStatus)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: a browser would then send "Origin: null" with the
		// consent form, and the check of the origin could not tell it apart.
		h.Set("Referrer-Policy", "same-origin")
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			if p := recover(); p != nil {
				s.opts.Log(fmt.Sprintf("%s %s: connection dropped", r.Method, logPath(r)))
				panic(p)
			}
			s.opts.Log(fmt.Sprintf("%s %s: %d", r.Method, logPath(r), rec.status))
		}()
		if r.Host != s.host {
			http.Error(rec, "this server answers only to its own address", http.StatusMisdirectedRequest)
			return
		}
		r.Body = http.MaxBytesReader(rec, r.Body, maxBody)
		mux.ServeHTTP(rec, r)
	})
}

// recorder remembers the status for the log line.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// logPath is the path without the query, which may hold codes.
func logPath(r *http.Request) string {
	p := strings.Map(func(c rune) rune {
		if c < 0x21 || c > 0x7e {
			return '?'
		}
		return c
	}, r.URL.Path)
	return p[:min(len(p), 80)]
}
