package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Without the key of the run the proxy does nothing for anybody.
func TestOnlyTheRunsOwnChildren(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	r.serve(evilHost, echoing())
	r.start()
	key := r.auth()
	for name, header := range map[string]string{
		"none":          "X: y",
		"wrong":         "Proxy-Authorization: Basic " + basic("apiauth", strings.Repeat("A", 26)),
		"another user":  "Proxy-Authorization: Basic " + basic("root", r.egress.key),
		"empty":         "Proxy-Authorization: Basic " + basic("apiauth", ""),
		"bearer":        "Proxy-Authorization: Bearer " + r.egress.key,
		"two":           key + "\r\n" + key,
		"authorization": "Authorization: Basic " + basic("apiauth", r.egress.key),
	} {
		for _, first := range []string{
			"CONNECT " + apiHost + ":443 HTTP/1.1\r\nHost: x\r\n", "CONNECT " + evilHost + ":443 HTTP/1.1\r\nHost: x\r\n",
			"GET http://" + evilHost + "/ HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/1.1\r\nHost: x\r\n",
		} {
			if status, body := r.raw(first+header+"\r\nConnection: close\r\n\r\n", "-", ""); status != 407 {
				t.Errorf("%s: %d %s", name, status, body)
			}
		}
	}
	if status, body := r.raw("GET / HTTP/1.1\r\nHost: x\r\n"+key+"\r\n\r\n", "-", ""); status != 400 {
		t.Errorf("a request to the proxy as a server: %d %s", status, body)
	}
	if len(r.dialed) > 0 {
		t.Errorf("dialled %q", r.dialed)
	}
}

// What is not pinned is tunnelled byte for byte: the child sees the server's own
// certificate, and any protocol passes.
func TestOtherHostsAreTunnelled(t *testing.T) {
	r := newEgressRig(t)
	r.serve(evilHost, echoing())
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	r.place("bytes.example.net", "9418", far.Addr().String())
	r.start()
	got := r.send(r.client(true), "GET", "https://"+evilHost+"/x", nil, "Authorization: Bearer "+testPlaceholder, "Cookie: a="+testPlaceholder)
	if got.StatusCode != 200 || !strings.Contains(r.arrived(evilHost), "Cookie: a="+testPlaceholder) {
		t.Errorf("%d: the request was touched", got.StatusCode)
	}
	if issuer := got.TLS.PeerCertificates[0].Issuer.CommonName; issuer != r.ca.Subject.CommonName {
		t.Errorf("the certificate comes from %q", issuer)
	}

	go func() {
		c, err := far.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "server first\x00\xff\n")
		_, _ = io.Copy(c, c) // until the child has said everything
		_, _ = io.WriteString(c, "the end")
	}()
	conn, err := net.Dial("tcp", r.egress.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	noise := bytes.Repeat([]byte("\x16\x03GET / HTTP/1.1\r\n\x00"), 20000)
	fmt.Fprintf(conn, "CONNECT bytes.example.net:9418 HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n%s", r.auth(), "early ")
	go func() {
		_, _ = conn.Write(noise)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	in := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 {
		t.Fatalf("CONNECT: %v", err)
	}
	all, err := io.ReadAll(in)
	if want := "server first\x00\xff\nearly " + string(noise) + "the end"; err != nil || string(all) != want {
		t.Errorf("%d bytes came back, want %d, %v", len(all), len(want), err)
	}
	r.onlyAt()
}

func TestStrict(t *testing.T) {
	r := newEgressRig(t)
	r.options.Strict, r.options.Open = true, []string{"registry.example.org"}
	for _, host := range []string{apiHost, evilHost, "registry.example.org"} {
		r.serve(host, echoing())
	}
	r.start()
	c := r.client(false)
	for host, ok := range map[string]bool{apiHost: true, "registry.example.org": true} {
		if got := r.send(c, "GET", "https://"+host+"/", nil); (got.StatusCode == 200) != ok {
			t.Errorf("%s: %d %s", host, got.StatusCode, got.body)
		}
	}
	for _, first := range []string{
		"CONNECT " + evilHost + ":443", "CONNECT registry.example.org:8443", "CONNECT registry.example.org.evil.example.net:443", "CONNECT x.registry.example.org:443",
		"GET http://" + evilHost + "/", "GET http://registry.example.org/", "GET http://" + apiHost + ":8080/",
	} {
		status, body := r.raw(first+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+r.auth()+"\r\n\r\n", "-", "")
		if status != 403 || !strings.Contains(body, "nor opened") {
			t.Errorf("%s: %d %q", first, status, body)
		}
	}
	if r.arrived(evilHost) != "" {
		t.Error("a host that is not open was reached")
	}
}

// A tunnel leads where the child could go itself, but not back into the proxy,
// and for an isolated child not into the machine either.
func TestWhereTunnelsLead(t *testing.T) {
	r := newEgressRig(t)
	local := httptest.NewServer(echoing())
	defer local.Close()
	at := local.Listener.Addr().String()
	r.place("inside.example.net", "80", at)
	r.names["inside.example.net"] = []netip.Addr{netip.MustParseAddr("10.1.2.3")}
	r.places["10.1.2.3:80"] = at
	ask := func(first string) int {
		status, _ := r.raw(strings.ReplaceAll(first, "{}", "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+r.auth()+"\r\n\r\n"), "-", "")
		return status
	}
	r.start()
	_, port, _ := net.SplitHostPort(r.egress.Addr())
	for _, first := range []string{"CONNECT " + r.egress.Addr() + " {}", "CONNECT 0.0.0.0:" + port + " {}", "GET http://" + r.egress.Addr() + "/ {}"} {
		if got := ask(first); got != 403 {
			t.Errorf("%.30s: %d", first, got)
		}
	}
	if got := ask("GET http://" + at + "/ {}"); got != 200 {
		t.Errorf("another program of this machine: %d", got)
	}
	r.options.Isolated = true
	r.start()
	for _, first := range []string{
		"GET http://" + at + "/ {}", "CONNECT " + at + " {}", "CONNECT [::1]:22 {}", "CONNECT 169.254.169.254:80 {}",
		"GET http://169.254.169.254/latest/meta-data/ {}", "CONNECT inside.example.net:80 {}", "GET http://inside.example.net/ {}",
	} {
		if got := ask(first); got != 403 {
			t.Errorf("isolated, %.60s: %d", first, got)
		}
	}
	// The user's own proxy would lead to all of these.
	theirs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		t.Errorf("the user's proxy was asked for %s", req.RequestURI)
	}))
	defer theirs.Close()
	via, _ := url.Parse(theirs.URL)
	r.options.Upstream = func(*http.Request) (*url.URL, error) { return via, nil }
	r.start()
	for _, first := range []string{
		"GET http://" + at + "/ {}", "CONNECT " + at + " {}", "CONNECT [fd00::1]:22 {}", "CONNECT localhost:22 {}", "CONNECT 169.254.169.254:443 {}",
		"GET http://10.1.2.3/ {}", "CONNECT inside.example.net:443 {}", "GET http://inside.example.net/ {}",
	} {
		if got := ask(first); got != 403 {
			t.Errorf("isolated, through the user's proxy, %.60s: %d", first, got)
		}
	}
	r.options.Upstream = nil
	r.options.Open = []string{at}
	r.start()
	if got := ask("GET http://" + at + "/ {}"); got != 200 {
		t.Errorf("isolated, but opened: %d", got)
	}
}

// The user's own proxy stays in the way of everything: of tunnels, of pinned
// hosts and of http.
func TestUsersOwnProxy(t *testing.T) {
	r := newEgressRig(t)
	for _, host := range []string{apiHost, evilHost} {
		r.serve(host, echoing())
	}
	plain := httptest.NewServer(echoing())
	defer plain.Close()
	asked := make(chan string, 10)
	theirs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked <- req.Method + " " + req.RequestURI + " " + req.Header.Get("Proxy-Authorization")
		if req.Method != http.MethodConnect {
			echoing().ServeHTTP(w, req)
			return
		}
		if strings.HasPrefix(req.RequestURI, "denied.") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		far, err := r.dial(req.Context(), "tcp", req.RequestURI)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, _, _ := w.(http.Hijacker).Hijack()
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		var both tunnels
		both.join(near, far)
	}))
	defer theirs.Close()
	via, _ := url.Parse(theirs.URL)
	via.User = url.UserPassword("me", "mine")
	r.options.Upstream = func(req *http.Request) (*url.URL, error) {
		if req.URL.Hostname() == "direct.example.net" {
			return nil, nil
		}
		return via, nil
	}
	r.serve("direct.example.net", echoing())
	r.start()
	c := r.client(true)
	login := " Basic " + basic("me", "mine")
	for _, tt := range []struct{ address, want string }{
		{"https://" + apiHost + "/", "CONNECT " + apiHost + ":443" + login},
		{"https://" + evilHost + "/", "CONNECT " + evilHost + ":443" + login},
		{"http://somewhere.example.net/x", "GET http://somewhere.example.net/x" + login},
	} {
		if got := r.send(c, "GET", tt.address, nil, "Authorization: Bearer "+testPlaceholder); got.StatusCode != 200 {
			t.Errorf("%s: %d %s", tt.address, got.StatusCode, got.body)
			continue
		}
		if got := <-asked; got != tt.want {
			t.Errorf("%s: the user's proxy was asked %q, want %q", tt.address, got, tt.want)
		}
	}
	if got := r.send(c, "GET", "https://direct.example.net/", nil); got.StatusCode != 200 || len(asked) > 0 {
		t.Errorf("a host that needs no proxy: %d %s", got.StatusCode, got.body)
	}
	status, body := r.raw("CONNECT denied.example.net:443 HTTP/1.1\r\nHost: x\r\n"+r.auth()+"\r\n\r\n", "-", "")
	if status != 502 || strings.Contains(body, "mine") || !strings.Contains(body, "answered 403") {
		t.Errorf("refused by the user's proxy: %d %q", status, body)
	}
	r.options.Targets[0].Hosts = []string{"denied.example.net"}
	r.start()
	got := r.send(r.client(false), "GET", "https://denied.example.net/", nil, "Authorization: Bearer "+testPlaceholder)
	if got.StatusCode != 502 || !strings.Contains(got.body, "answered 403") {
		t.Errorf("a pinned host, refused by the user's proxy: %d %q", got.StatusCode, got.body)
	}
	r.onlyAt(apiHost)
}

// An API on loopback that the user allowed to speak http gets its token over
// http, in both ways in which clients ask a proxy for it.
func TestInsecureLoopback(t *testing.T) {
	r := newEgressRig(t)
	var saw []string
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		saw = append(saw, req.Host+" "+req.Header.Get("Authorization"))
		echoing().ServeHTTP(w, req)
	}))
	defer api.Close()
	host := api.Listener.Addr().String()
	r.options.Targets[0].Hosts, r.options.Targets[0].Insecure = []string{host}, true
	r.options.Upstream = func(*http.Request) (*url.URL, error) { // must not see a token
		return url.Parse("http://" + evilHost)
	}
	r.start()
	header := "Host: " + host + "\r\nAuthorization: Bearer " + testPlaceholder + "\r\nConnection: close\r\n\r\n"
	if status, body := r.raw("GET http://"+host+"/me HTTP/1.1\r\n{auth}\r\n"+header, "-", ""); status != 200 || !strings.Contains(body, testPlaceholder) {
		t.Errorf("as a whole address: %d %s", status, body)
	}
	if status, body := r.raw("CONNECT "+host+" HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", "clear", "GET /me HTTP/1.1\r\n"+header); status != 200 {
		t.Errorf("through a tunnel: %d %s", status, body)
	}
	if want := host + " Bearer " + testToken; len(saw) != 2 || saw[0] != want || saw[1] != want {
		t.Error("the API did not get its token both times")
	}
	// Without the allowance the same host is https only.
	r.options.Targets[0].Insecure = false
	r.start()
	if status, _ := r.raw("GET http://"+host+"/me HTTP/1.1\r\n{auth}\r\n"+header, "-", ""); status != 403 {
		t.Errorf("not allowed: %d", status)
	}
	if status, _ := r.raw("CONNECT "+host+" HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", "clear", "GET /me HTTP/1.1\r\n"+header); status != 403 {
		t.Errorf("not allowed, through a tunnel: %d", status)
	}
	if len(saw) != 2 {
		t.Error("the API was asked")
	}
}

func TestLocalHosts(t *testing.T) {
	r := newEgressRig(t)
	const name = "secrets.example.org"
	r.options.Local = map[string]http.Handler{name: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, "local ", req.Method, " ", req.URL.Path)
	})}
	r.serve(name, echoing()) // the one on the network is never asked
	r.start()
	for _, h2 := range []bool{false, true} {
		if got := r.send(r.client(h2), "POST", "https://"+name+"/x", strings.NewReader("y")); got.body != "local POST /x" {
			t.Errorf("%d %s", got.StatusCode, got.body)
		}
	}
	if r.arrived(name) != "" {
		t.Error("the network was asked for a local host")
	}
	r.options.Local = map[string]http.Handler{apiHost: http.NotFoundHandler()}
	if _, err := StartEgress(t.Context(), r.options); err == nil {
		t.Error("a pinned host was answered here")
	}
}

// A sandbox reaches the proxy through a socket of the file system, with the same
// key.
func TestFurtherListener(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no need for unix sockets")
	}
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	r.start()
	path := filepath.Join(t.TempDir(), "s")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	r.egress.ServeListener(socket)
	c := r.client(true)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	if got := r.send(c, "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder); got.StatusCode != 200 {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	if !strings.Contains(r.arrived(apiHost), testToken) {
		t.Error("the token did not arrive")
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	good := Target{Connection: "acme", Hosts: []string{apiHost}, Auth: bearer(), Placeholder: secret.New(testPlaceholder)}
	for name, change := range map[string]func(*EgressOptions){
		"no target":             func(o *EgressOptions) { o.Targets = nil },
		"host with capitals":    func(o *EgressOptions) { o.Targets[0].Hosts = []string{"API.example.com"} },
		"host with a wildcard":  func(o *EgressOptions) { o.Targets[0].Hosts = []string{".example.com"} },
		"short placeholder":     func(o *EgressOptions) { o.Targets[0].Placeholder = secret.New("short") },
		"the same placeholder":  func(o *EgressOptions) { t := good; t.Connection = "b"; o.Targets = append(o.Targets, t) },
		"local host is no host": func(o *EgressOptions) { o.Local = map[string]http.Handler{"a/b": nil} },
	} {
		o := EgressOptions{Tokens: &tokens{}, Targets: []Target{good}}
		change(&o)
		if e, err := StartEgress(t.Context(), o); err == nil {
			_ = e.Close(t.Context())
			t.Errorf("%s: it started", name)
		}
	}
}

// The log has a line for each request, and neither query nor secret.
func TestLog(t *testing.T) {
	r := newEgressRig(t)
	now := time.Now() // certificates are made by it, and judged by the true time
	r.options.Now = func() time.Time { return now }
	r.serve(apiHost, echoing())
	r.serve(evilHost, echoing())
	r.start()
	c := r.client(false)
	r.send(c, "GET", "https://"+apiHost+"/v1/me%0a?key=hidden", nil, "Authorization: Bearer "+testPlaceholder)
	r.send(c, "GET", "https://"+apiHost+"/open", nil)
	r.send(c, "GET", "https://"+apiHost+"/x/"+testPlaceholder, nil)
	r.send(c, "GET", "https://"+evilHost+"/", nil)
	want := strings.ReplaceAll(`00:00:00 GET api.example.com/v1/me%0a 200 acme
00:00:00 GET api.example.com/open 200
00:00:00 GET api.example.com/x/[placeholder] 403 refused: the placeholder of acme stands in the path; it belongs, once, into the header Authorization: Bearer <token>
00:00:00 CONNECT evil.example.net 200 tunnelled`, "00:00:00", now.Format(time.TimeOnly))
	if got := r.logged(); got != want {
		t.Errorf("the log is\n%s\nwant\n%s", got, want)
	}
}

// Close ends everything, a tunnel that is in use too, and nothing is left.
func TestClose(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	r.place("bytes.example.net", "9418", far.Addr().String())
	r.start()
	r.send(r.client(true), "GET", "https://"+apiHost+"/", nil)
	conn, err := net.Dial("tcp", r.egress.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT bytes.example.net:9418 HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", r.auth())
	in := bufio.NewReader(conn)
	if _, err := http.ReadResponse(in, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", r.egress.Addr()) // has said CONNECT, and no more
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	fmt.Fprintf(waiting, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", apiHost, r.auth())
	inWaiting := bufio.NewReader(waiting)
	if _, err := http.ReadResponse(inWaiting, &http.Request{Method: "CONNECT"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = r.egress.Close(ctx)
	for name, from := range map[string]io.Reader{"a tunnel": in, "a waiting child": inWaiting} {
		if _, err := from.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s was not ended", name)
		}
	}
	if c, err := net.Dial("tcp", r.egress.Addr()); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
}
