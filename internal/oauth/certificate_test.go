package oauth

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// forClients changes a certificate into one of a client.
func forClients(c *x509.Certificate) {
	c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: "client-" + canary}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
}

// pemOf writes a certificate with its key, in that order.
func pemOf(t *testing.T, c tls.Certificate) string {
	t.Helper()
	key, ok := c.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatal("no EC key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, cert := range c.Certificate {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	}
	out.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return out.String()
}

// keptCertificate is a certificate with its key as it is stored.
func keptCertificate(t *testing.T, text string) secret.Text {
	t.Helper()
	f, err := ParseKeyFile(secret.New(text), secret.Text{})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := f.Key.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

// mutualServer wants certificates of clients, and notes what it saw.
type mutualServer struct {
	url  string
	hits atomic.Int32

	mu       sync.Mutex
	subject  string
	presents int // certificates of the last request
	form     url.Values
	header   http.Header
}

func newMutualServer(t *testing.T, c *tls.Config) *mutualServer {
	t.Helper()
	s := new(mutualServer)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = r.ParseForm()
		s.form, s.header, s.subject = r.PostForm, r.Header.Clone(), ""
		if s.presents = len(r.TLS.PeerCertificates); s.presents > 0 {
			s.subject = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"at","token_type":"bearer","sub":"alice"}`)
	}))
	srv.TLS = c
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func poolOf(a authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func mutualRequest(s *mutualServer, method string, kept secret.Text) TokenRequest {
	return TokenRequest{
		Endpoint: s.url + "/token", Client: Client{ID: "client-1", Secret: kept, Method: method},
		Form: RefreshForm(secret.New("refresh-" + canary)),
	}
}

// RFC 8705: the certificate proves who the client is, at the endpoint of one
// request, and every failure of it is told before anything is used up.
func TestClientCertificate(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	serves := ca.issue(t, func(*x509.Certificate) {})
	trusting := func() (*x509.CertPool, error) { return poolOf(ca), nil }
	wants := func(version uint16, auth tls.ClientAuthType) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{serves}, MinVersion: version, MaxVersion: version, ClientAuth: auth, ClientCAs: poolOf(ca)}
	}
	chain := ca.issue(t, forClients)
	chain.Certificate = append(chain.Certificate, ca.cert.Raw)
	good := keptCertificate(t, pemOf(t, chain))
	foreign := keptCertificate(t, pemOf(t, stranger.issue(t, forClients)))
	ended := keptCertificate(t, pemOf(t, ca.issue(t, func(c *x509.Certificate) { forClients(c); c.NotAfter = time.Now().Add(-time.Minute) })))
	early := keptCertificate(t, pemOf(t, ca.issue(t, func(c *x509.Certificate) { forClients(c); c.NotBefore = time.Now().Add(time.Minute) })))
	keyOnly := ecKey(t, chain.PrivateKey.(*ecdsa.PrivateKey).Curve).kept

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			for name, tt := range map[string]struct {
				auth   tls.ClientAuthType
				method string
				kept   secret.Text
				want   string // of the error; "" for success
			}{
				"of the authority":       {tls.RequireAndVerifyClientCert, AuthTLS, good, ""},
				"registered itself":      {tls.RequireAnyClientCert, AuthSelfSignedTLS, foreign, ""},
				"its end is the issuers": {tls.RequireAnyClientCert, AuthSelfSignedTLS, ended, ""},
				"of another authority":   {tls.RequireAndVerifyClientCert, AuthTLS, foreign, "refused the client's certificate (unknown certificate authority)"},
				"ended":                  {tls.RequireAndVerifyClientCert, AuthTLS, ended, "certificate ended on " + time.Now().UTC().Format("2006")},
				"not yet":                {tls.RequireAndVerifyClientCert, AuthTLS, early, "is good from "},
				"never asked for":        {tls.NoClientCert, AuthTLS, good, "did not ask for the client's certificate, so nothing was sent"},
				"a key alone":            {tls.RequireAndVerifyClientCert, AuthTLS, keyOnly, "has a key and no certificate"},
				"a secret":               {tls.RequireAndVerifyClientCert, AuthTLS, secret.New("secret-" + canary), "has a secret and no key"},
				"nothing":                {tls.RequireAndVerifyClientCert, AuthTLS, secret.Text{}, "needs its certificate and key"},
			} {
				t.Run(name, func(t *testing.T) {
					s := newMutualServer(t, wants(version, tt.auth))
					h := newHTTP(t, Options{Roots: trusting})
					h.Warm(t.Context(), s.url) // a connection without a certificate, which must not serve
					a, err := h.PostToken(t.Context(), mutualRequest(s, tt.method, tt.kept))
					if tt.want != "" {
						if !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrRefused) || !errors.Is(err, ErrCertificate) || IsTemporary(err) ||
							!strings.Contains(err.Error(), tt.want) || s.hits.Load() != 0 {
							t.Fatalf("error %v after %d requests, want %q", err, s.hits.Load(), tt.want)
						}
						checkSafe(t, err)
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if _, err := ParseToken(a, Rules{}); err != nil {
						t.Error(err)
					}
					s.mu.Lock()
					defer s.mu.Unlock()
					if s.subject != "client-"+canary || s.form.Get("client_id") != "client-1" || s.form.Has("client_secret") || s.form.Has("client_assertion") ||
						s.header.Get("Authorization") != "" || s.hits.Load() != 1 {
						t.Errorf("the issuer saw a certificate of %q, %v", s.subject, s.form)
					}
					if tt.method == AuthTLS && s.presents != 2 {
						t.Errorf("a chain of %d", s.presents)
					}
				})
			}
		})
	}

	t.Run("nobody else sees it", func(t *testing.T) {
		s := newMutualServer(t, wants(tls.VersionTLS13, tls.RequestClientCert))
		h := newHTTP(t, Options{Roots: trusting})
		if _, err := h.PostToken(t.Context(), mutualRequest(s, AuthTLS, good)); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Identity(t.Context(), IdentityRequest{Endpoint: s.url + "/me", Access: secret.New("at"), Subject: "sub"}); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		if s.presents != 0 {
			t.Error("a request with the token presented the client's certificate")
		}
		s.mu.Unlock()
		rt, err := h.RoundTripper()
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.presents != 0 || s.hits.Load() != 3 {
			t.Error("a call of the API presented the client's certificate")
		}
	})

	t.Run("without TLS, or in an address", func(t *testing.T) {
		s := newMutualServer(t, wants(tls.VersionTLS13, tls.RequireAnyClientCert))
		inQuery := mutualRequest(s, AuthTLS, good)
		inQuery.Format = FormatGet
		plain := mutualRequest(s, AuthTLS, good)
		plain.Endpoint, plain.AllowInsecureLoopback = "http://127.0.0.1:1/token", true
		for _, r := range []TokenRequest{inQuery, plain} {
			if _, err := newHTTP(t, Options{Roots: trusting}).PostToken(t.Context(), r); !errors.Is(err, ErrCertificate) {
				t.Errorf("error %v", err)
			}
		}
	})

	t.Run("a way to revoke that sends the secret", func(t *testing.T) {
		s := newMutualServer(t, wants(tls.VersionTLS13, tls.RequireAnyClientCert))
		for _, method := range []string{AuthTLS, AuthSelfSignedTLS, AuthPrivateKeyJWT} {
			for _, style := range []string{"box", "github", "stripe-connect", "contentful"} {
				err := newHTTP(t, Options{Roots: trusting}).Revoke(t.Context(), RevokeRequest{
					Style: style, Endpoint: s.url, Client: Client{ID: "c", Secret: good, Method: method}, Access: secret.New("at"), Subject: "s",
				})
				if !errors.Is(err, ErrNoRevocation) || s.hits.Load() != 0 {
					t.Errorf("%s, %s: error %v after %d requests", method, style, err, s.hits.Load())
				}
			}
		}
		err := newHTTP(t, Options{Roots: trusting}).Revoke(t.Context(), RevokeRequest{
			Style: "rfc7009", Endpoint: s.url, Client: Client{ID: "c", Secret: good, Method: AuthTLS}, Access: secret.New("at"),
		})
		if err != nil || s.subject == "" {
			t.Errorf("error %v, a certificate of %q", err, s.subject)
		}
	})

	// A proxy that speaks TLS and asks for a certificate gets none; the issuer
	// behind it gets it.
	t.Run("through a proxy", func(t *testing.T) {
		s := newMutualServer(t, wants(tls.VersionTLS13, tls.RequireAndVerifyClientCert))
		var seen atomic.Int32
		listener, err := tls.Listen("tcp", "127.0.0.1:0", wants(tls.VersionTLS13, tls.RequestClientCert))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = conn.Close() }()
			r := bufio.NewReader(conn)
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			seen.Store(int32(1 + len(conn.(*tls.Conn).ConnectionState().PeerCertificates)))
			to, err := net.Dial("tcp", req.Host)
			if err != nil {
				return
			}
			defer func() { _ = to.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			go func() { _, _ = io.Copy(to, r) }()
			_, _ = io.Copy(conn, to)
		}()
		via, err := url.Parse("https://" + listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		h := newHTTP(t, Options{Roots: trusting, Proxy: func(*http.Request) (*url.URL, error) { return via, nil }})
		if _, err := h.PostToken(t.Context(), mutualRequest(s, AuthTLS, good)); err != nil {
			t.Fatal(err)
		}
		if seen.Load() != 1 || s.subject == "" {
			t.Errorf("the proxy saw %d certificates, the issuer one of %q", seen.Load()-1, s.subject)
		}
	})
}

// a token that is bound to a certificate comes with it, to a server that asks
// for one; a server that does not gets the request all the same.
func TestBoundTokens(t *testing.T) {
	ca := newAuthority(t)
	kept := keptCertificate(t, pemOf(t, ca.issue(t, forClients)))
	as := Client{ID: "client-1", Secret: kept, Method: AuthTLS}
	for name, auth := range map[string]tls.ClientAuthType{"asks": tls.RequireAndVerifyClientCert, "does not ask": tls.NoClientCert} {
		s := newMutualServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}, ClientAuth: auth, ClientCAs: poolOf(ca)})
		h := newHTTP(t, Options{Roots: func() (*x509.CertPool, error) { return poolOf(ca), nil }})
		rt, err := h.RoundTripperAs(as)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/a", "/b"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_ = resp.Body.Close()
			s.mu.Lock()
			if (s.presents > 0) != (auth != tls.NoClientCert) {
				t.Errorf("%s: %d certificates", name, s.presents)
			}
			s.mu.Unlock()
		}
		_, err = h.Identity(t.Context(), IdentityRequest{Endpoint: s.url + "/me", Access: secret.New("at"), Subject: "sub", Client: as})
		if err != nil || (s.presents > 0) != (auth != tls.NoClientCert) {
			t.Errorf("%s: the question for the account: %v, %d certificates", name, err, s.presents)
		}
	}
	// A certificate that the server does not take, and one that ended.
	s := newMutualServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(newAuthority(t))})
	old := as
	old.Secret = keptCertificate(t, pemOf(t, ca.issue(t, func(c *x509.Certificate) { forClients(c); c.NotAfter = time.Now().Add(-time.Minute) })))
	for _, c := range []Client{as, old, {ID: "client-1", Secret: secret.New("s"), Method: AuthTLS}} {
		rt, err := newHTTP(t, Options{Roots: func() (*x509.CertPool, error) { return poolOf(ca), nil }}).RoundTripperAs(c)
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.Is(err, ErrCertificate) || s.hits.Load() != 0 {
			t.Errorf("error %v after %d requests", err, s.hits.Load())
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	ca := newAuthority(t)
	pair := ca.issue(t, forClients)
	both := pemOf(t, pair)
	cut := strings.Index(both, "-----BEGIN PRIVATE")
	own, key := both[:cut], both[cut:]
	for name, text := range map[string]string{
		"certificate, key":            own + key,
		"key, certificate":            key + own,
		"authority, key, certificate": string(ca.pem()) + key + own,
	} {
		f, err := ParseKeyFile(secret.New(text), secret.Text{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, err := f.Key.Certificate()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.Subject != "CN=client-"+canary || !c.ForClients || !CertificateEnds(f.Key.Certificates).Equal(c.Ends) || time.Until(c.Ends) > time.Hour {
			t.Errorf("%s: %+v", name, c)
		}
		kept, err := f.Key.Encode()
		if err != nil {
			t.Fatal(err)
		}
		rest, certificates := SplitCertificates(kept)
		if len(certificates) != len(f.Key.Certificates) || strings.Contains(rest.Reveal(), certificates[0]) || !JoinCertificates(rest, certificates).Equal(kept) {
			t.Errorf("%s: what was split does not join", name)
		}
	}
	for name, tt := range map[string]struct{ text, want string }{
		"another key":       {own + pemOf(t, ca.issue(t, forClients))[cut:], "does not belong to the key"},
		"no certificate":    {key, "no certificate"},
		"not a certificate": {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + key, "cannot be read"},
		"too many":          {strings.Repeat(own, 11) + key, "more certificates than a chain has"},
		"no key":            {own, "no private key in PEM"},
		"PKCS #12":          {"0\x82\x01\x02" + canary, "openssl pkcs12"},
	} {
		f, err := ParseKeyFile(secret.New(tt.text), secret.Text{})
		if err == nil {
			_, err = f.Key.Certificate()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	server := ca.issue(t, func(*x509.Certificate) {})
	f, err := ParseKeyFile(secret.New(pemOf(t, server)), secret.Text{})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := f.Key.Certificate(); err != nil || c.ForClients {
		t.Errorf("a server's certificate: %+v, %v", c, err)
	}
	// What is no key with certificates passes through.
	for _, text := range []string{"", "secret", "{}", `{"x5c":["AAAA"]}`} {
		if rest, certificates := SplitCertificates(secret.New(text)); rest.Reveal() != text || certificates != nil {
			t.Errorf("%q was split", text)
		}
		if got := JoinCertificates(secret.New(text), []string{"AAAA"}); got.Reveal() != text {
			t.Errorf("%q was joined", text)
		}
	}
}
