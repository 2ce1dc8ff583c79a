//go:build unix

package placeholder

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// patience bounds every wait; nothing takes that long when all is well.
const patience = 60 * time.Second

// world is a person with a project that is connected to an API, and somebody
// who wants the token.
type world struct {
	t      testing.TB
	issuer *sandbox.Server
	api    *api
	thief  *thief
	root   string
	home   string
	dir    string // the project
	bus    *keyringtest.Bus
	vars   map[string]string
}

// newWorld makes one, which keeps its grant in the keychain on the bus, or in a
// file whose key is in the environment when there is no bus.
func newWorld(t testing.TB, bus *keyringtest.Bus) *world {
	t.Helper()
	root, err := os.MkdirTemp("", "world")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	w := &world{t: t, root: root, home: filepath.Join(root, "home"), bus: bus, vars: map[string]string{}}
	w.dir = filepath.Join(w.home, "work")
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if w.issuer, err = sandbox.Start(t.Context(), sandbox.Options{AutoApprove: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	w.api = newAPI(t, w.issuer, filepath.Join(root, "ca.pem"))
	w.thief = newThief(t)

	w.vars["APIAUTH_CA_FILE"] = filepath.Join(root, "ca.pem")
	if bus != nil {
		w.vars["DBUS_SESSION_BUS_ADDRESS"], w.vars["XDG_RUNTIME_DIR"] = bus.Address, bus.Runtime
	} else {
		w.vars["APIAUTH_STORE"] = "file"
		w.vars["APIAUTH_STORE_KEY"] = strings.TrimSpace(w.must("store", "key").out)
	}
	w.vars["BROWSER"] = "curl -sSL -o /dev/null %s"
	w.define("sandbox", w.issuer.ProviderYAML("sandbox"))
	w.manifest("connections:\n  sandbox: {}\n")
	w.must("connect", "sandbox")
	return w
}

// define adds a definition whose API is the world's. text is what the sandbox
// says about itself.
func (w *world) define(id string, text []byte) {
	w.t.Helper()
	var out []string
	for _, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "  base_url:"):
			line = "  base_url: https://" + w.api.hosts[0]
		case strings.HasPrefix(line, "  hosts:"):
			line = `  hosts: ["` + strings.Join(w.api.hosts, `", "`) + `"]`
		}
		out = append(out, line)
	}
	w.write(filepath.Join(w.home, ".config", "apiauth", "providers", id+".yaml"), strings.Join(out, "\n"))
}

func (w *world) manifest(text string) { w.write(filepath.Join(w.dir, "apiauth.yaml"), text) }

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// state is the folder with what apiauth keeps.
func (w *world) state() string { return filepath.Join(w.home, ".local", "state", "apiauth") }

// file writes a file of the project.
func (w *world) file(name, text string) {
	w.write(filepath.Join(w.dir, filepath.FromSlash(name)), text)
}

func (w *world) env() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.home, "LANG=C.UTF-8"}
	for k, v := range w.vars {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

type result struct {
	code     int
	out, err string
}

// run runs apiauth in the project.
func (w *world) run(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, peers.Binary(), args...)
	cmd.Dir, cmd.Env = w.dir, w.env()
	cmd.WaitDelay = 5 * time.Second
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		w.t.Fatalf("apiauth %s: not over after %s\n%s", strings.Join(args, " "), patience, stderr.String())
	}
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// must is run for what has to succeed. Its output is not printed: it may be a
// token.
func (w *world) must(args ...string) result {
	w.t.Helper()
	r := w.run(args...)
	if r.code != 0 {
		w.t.Fatalf("apiauth %s: exit code %d\n%s", args[0], r.code, r.err)
	}
	return r
}

// sh runs a script of the shell under exec with the given flags.
func (w *world) sh(script string, flags ...string) result {
	w.t.Helper()
	return w.run(append(append([]string{"exec"}, flags...), "--", "sh", "-c", script)...)
}

// token is the real one.
func (w *world) token() string {
	w.t.Helper()
	return strings.TrimSpace(w.must("token", "sandbox").out)
}

// api is an https server whose certificate an authority of its own has signed.
// Under /me it knows who owns a live token; everything that arrives is kept.
type api struct {
	hosts  []string // in the form of definitions; the first is localhost
	server *http.Server
	issuer *sandbox.Server

	mu   sync.Mutex
	seen []string // Authorization headers
	more map[string]http.Handler
	dead map[string]bool // tokens that it takes no more, whatever the issuer says
}

func newAPI(t testing.TB, issuer *sandbox.Server, caFile string) *api {
	t.Helper()
	a := &api{issuer: issuer, more: map[string]http.Handler{}, dead: map[string]bool{}}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	a.hosts = []string{fmt.Sprintf("localhost:%d", port)}
	ips, listeners := []net.IP{net.IPv4(127, 0, 0, 1)}, []net.Listener{listener}
	if ip := outward(); ip != nil {
		// Go and Ruby pass over a proxy for loopback.
		address := net.JoinHostPort(ip.String(), strconv.Itoa(port))
		if more, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", address); err == nil {
			a.hosts, ips, listeners = append(a.hosts, address), append(ips, ip), append(listeners, more)
		}
	}
	a.server = &http.Server{
		Handler:           a,
		ReadHeaderTimeout: patience,
		ErrorLog:          log.New(io.Discard, "", 0),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate(t, caFile, ips)}, MinVersion: tls.VersionTLS12},
	}
	var serving sync.WaitGroup
	for _, l := range listeners {
		serving.Go(func() { _ = a.server.ServeTLS(l, "", "") })
	}
	t.Cleanup(func() {
		_ = a.server.Close()
		serving.Wait()
	})
	return a
}

// certificate makes a server's certificate and the authority that signed it,
// whose own certificate goes to caFile.
func certificate(t testing.TB, caFile string, ips []net.IP) tls.Certificate {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the API's authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	check(err)
	check(os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "api"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: []string{"localhost"}, IPAddresses: ips, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	check(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// handle adds a path.
func (a *api) handle(prefix string, h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.more[prefix] = h
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.seen = append(a.seen, r.Header.Get("Authorization"))
	var found http.Handler
	for prefix, h := range a.more {
		if strings.HasPrefix(r.URL.Path, prefix) {
			found = h
		}
	}
	a.mu.Unlock()
	switch {
	case found != nil:
		found.ServeHTTP(w, r)
	case !a.live(bearer(r)):
		w.Header().Set("WWW-Authenticate", `Basic realm="api"`)
		http.Error(w, "no live token", http.StatusUnauthorized)
	case r.URL.Path == "/echo":
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.Method, r.Header.Get("Authorization"))
	case r.URL.Path == "/upload":
		sum := sha256.New()
		n, _ := io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %s", n, hex.EncodeToString(sum.Sum(nil)))
	default:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"name":"alice","proto":%q}`, r.Proto)
	}
}

// bearer is the token of a request, also as the password of Basic.
func bearer(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token
}

// refuse takes a token no more.
func (a *api) refuse(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dead[token] = true
}

// live asks the issuer.
func (a *api) live(token string) bool {
	a.mu.Lock()
	dead := a.dead[token]
	a.mu.Unlock()
	if token == "" || dead {
		return false
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, a.issuer.Issuer()+"/userinfo", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// url is an address of the API, at the host with that number.
func (a *api) url(path string) string { return "https://" + a.hosts[0] + path }

// thief is a server of the attacker's. It keeps all that it is sent, and hands
// out the packages of testdata as an npm registry does.
type thief struct {
	url string

	mu  sync.Mutex
	got bytes.Buffer
}

func newThief(t testing.TB) *thief {
	t.Helper()
	th := &thief{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		th.mu.Lock()
		defer th.mu.Unlock()
		fmt.Fprintf(&th.got, "%s %s\n%v\n%s\n", r.Method, r.URL, r.Header, body)
	}))
	t.Cleanup(server.Close)
	th.url = server.URL
	return th
}

// loot is everything that arrived.
func (th *thief) loot() string {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.got.String()
}

// forms are the ways in which a secret may stand in a text.
func forms(s string) []string {
	list := []string{s, url.QueryEscape(s), hex.EncodeToString([]byte(s))}
	if quoted, err := json.Marshal(s); err == nil {
		list = append(list, string(quoted))
	}
	for offset := range 3 {
		code := base64.StdEncoding.EncodeToString(append(make([]byte, offset), s...))
		list = append(list, strings.TrimRight(code, "=")[4:len(code)-6])
	}
	return list
}

// holds reports whether text has the secret in any form.
func holds(text, secret string) bool {
	return slices.ContainsFunc(forms(secret), func(form string) bool { return strings.Contains(text, form) })
}
