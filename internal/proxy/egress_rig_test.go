package proxy

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// The names of the tests. Each is a server on 127.0.0.1 that the proxy reaches
// through the resolver and the dialer of the rig.
const (
	apiHost    = "api.example.com"
	secondHost = "files.example.com" // the second pinned host
	tenantHost = "other-tenant.example.com"
	evilHost   = "evil.example.net"
)

// bearer is the usual place of a token.
func bearer() providers.APIAuthPin {
	return providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "}
}

// tokens is a source whose token changes with every refresh.
type tokens struct {
	mu        sync.Mutex
	current   map[string]string
	refreshes int
	err       error
}

func (s *tokens) Token(_ context.Context, connection string, refresh bool) (secret.Text, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return secret.Text{}, s.err
	}
	if refresh {
		s.refreshes++
		s.current[connection] = nthToken(s.refreshes)
	}
	t, ok := s.current[connection]
	if !ok {
		return secret.Text{}, errors.New("not connected")
	}
	return secret.New(t), nil
}

// egressRig is an egress proxy before servers of many names.
type egressRig struct {
	t       *testing.T
	tokens  *tokens
	options EgressOptions
	egress  *Egress

	ca     *x509.Certificate
	caKey  *ecdsa.PrivateKey
	roots  *x509.CertPool
	mu     sync.Mutex
	names  map[string][]netip.Addr // name: addresses
	places map[string]string       // address:port as dialled: where it really is
	seen   map[string]string       // host: everything that arrived there, TLS taken off
	dialed []string
	lines  []string
}

func newEgressRig(t *testing.T) *egressRig {
	t.Helper()
	r := &egressRig{
		t:      t,
		tokens: &tokens{current: map[string]string{"acme": testToken, "other": "tok_" + strings.Repeat("Zz9", 10)}},
		roots:  x509.NewCertPool(),
		names:  make(map[string][]netip.Addr),
		places: make(map[string]string),
		seen:   make(map[string]string),
	}
	var err error
	if r.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "the internet"}, SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &r.caKey.PublicKey, r.caKey)
	if err != nil {
		t.Fatal(err)
	}
	if r.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	r.roots.AddCert(r.ca)
	r.options = EgressOptions{
		Tokens: r.tokens,
		Targets: []Target{{
			Connection: "acme", Hosts: []string{apiHost, secondHost}, Auth: bearer(), Placeholder: secret.New(testPlaceholder),
		}},
		Roots: func() (*x509.CertPool, error) { return r.roots, nil },
		Resolve: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if list := r.names[host]; list != nil {
				return list, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
		Dial: r.dial,
		Log: func(line string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.lines = append(r.lines, line)
		},
	}
	return r
}

// dial leads the addresses of the tests to their servers, and names as the
// system would.
func (r *egressRig) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.dialed = append(r.dialed, address)
	if list := r.names[host]; list != nil {
		address = net.JoinHostPort(list[0].String(), port)
	}
	if real, ok := r.places[address]; ok {
		address = real
	}
	r.mu.Unlock()
	if !strings.HasPrefix(address, "127.") && !strings.HasPrefix(address, "0.0.0.0:") {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("no route in this test")}
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// serve starts a server with a certificate for a name, and records all that
// arrives there.
func (r *egressRig) serve(name string, h http.Handler, change ...func(*httptest.Server)) *httptest.Server {
	r.t.Helper()
	recording := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var head strings.Builder
		fmt.Fprintf(&head, "%s %s %s\n", req.Method, req.RequestURI, req.Host)
		_ = req.Header.Write(&head)
		r.record(name, head.String())
		req.Body = &recorded{req.Body, func(s string) { r.record(name, s) }}
		h.ServeHTTP(w, req)
	})
	return r.serveBare(name, true, recording, change...)
}

// serveBare is serve without the record.
func (r *egressRig) serveBare(name string, h2 bool, h http.Handler, change ...func(*httptest.Server)) *httptest.Server {
	r.t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = h2
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{r.certificate(name)}}
	srv.Config.ErrorLog = silentLog()
	for _, c := range change {
		c(srv)
	}
	srv.StartTLS()
	r.t.Cleanup(srv.Close)
	r.place(name, "443", srv.Listener.Addr().String())
	return srv
}

// place gives a name an address of its own, behind which something listens.
func (r *egressRig) place(name, port, at string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.names[name] == nil {
		r.names[name] = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, 113, byte(len(r.names) + 1)})}
	}
	r.places[net.JoinHostPort(r.names[name][0].String(), port)] = at
}

func (r *egressRig) certificate(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if ip := net.ParseIP(name); ip != nil {
		template.DNSNames, template.IPAddresses = nil, []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.ca, &key.PublicKey, r.caKey)
	if err != nil {
		r.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (r *egressRig) record(name, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[name] += text
}

type recorded struct {
	io.ReadCloser
	to func(string)
}

func (b *recorded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.to(string(p[:n]))
	return n, err
}

// start starts the proxy.
func (r *egressRig) start() *Egress {
	r.t.Helper()
	e, err := StartEgress(r.t.Context(), r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	r.egress = e
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = e.Close(ctx)
	})
	return e
}

// client is a well-behaved child: it takes proxy and authority as it finds them
// in its environment.
func (r *egressRig) client(h2 bool) *http.Client {
	r.t.Helper()
	proxy, err := url.Parse(r.egress.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	pool := r.roots.Clone()
	if !pool.AppendCertsFromPEM(r.egress.CA()) {
		r.t.Fatal("the authority of the run is no certificate")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: h2, DisableCompression: true}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is what a child got.
type answer struct {
	*http.Response
	body string
}

// send makes a request with headers in the form "Name: value".
func (r *egressRig) send(c *http.Client, method, address string, body io.Reader, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, address, body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{&http.Response{Header: http.Header{}}, err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		text = append(text, "\nread: "+err.Error()...)
	}
	return answer{resp, string(text)}
}

// raw sends bytes through the proxy: first is said to the proxy itself, and
// then is said behind TLS with the server name sni: in clear text where that is
// "clear", and not at all where it is "-".
func (r *egressRig) raw(first, sni, then string) (status int, body string) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.egress.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, strings.ReplaceAll(first, "{auth}", r.auth()))
	in := bufio.NewReader(conn)
	var out io.Writer = conn
	if sni != "-" {
		resp, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"})
		if err != nil {
			return 0, err.Error()
		}
		if resp.StatusCode != 200 {
			text, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(text)
		}
	}
	if sni != "-" && sni != "clear" {
		secure := tls.Client(conn, &tls.Config{ServerName: sni, InsecureSkipVerify: true}) //nolint:gosec // this child verifies nothing
		if err := secure.Handshake(); err != nil {
			return 0, err.Error()
		}
		out, in = secure, bufio.NewReader(secure)
	}
	_, _ = io.WriteString(out, then)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err.Error()
	}
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// auth is the header with the key of the run.
func (r *egressRig) auth() string {
	u, err := url.Parse(r.egress.URL())
	if err != nil {
		r.t.Fatal(err)
	}
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.String()))
}

// arrived is all that a host got.
func (r *egressRig) arrived(host string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[host]
}

// onlyAt fails when a token, in any form, arrived anywhere but at the hosts that
// may have it, or a placeholder arrived where it should have been refused.
func (r *egressRig) onlyAt(hosts ...string) {
	r.t.Helper()
	r.mu.Lock()
	seen := maps.Clone(r.seen)
	r.mu.Unlock()
	r.tokens.mu.Lock()
	var all []string
	for _, token := range r.tokens.current {
		all = append(all, token)
	}
	r.tokens.mu.Unlock()
	m := newMatcher(append(all, testToken))
	for _, host := range hosts {
		delete(seen, host)
	}
	for host, text := range seen {
		if m.contains([]byte(text)) != nil {
			r.t.Errorf("%s received a token", host)
		}
	}
}

// logged is the log of the run.
func (r *egressRig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func newGzip(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }

// nthToken is the token after n refreshes.
func nthToken(n int) string { return fmt.Sprintf("yb%02d.%s", n, testToken[5:]) }
