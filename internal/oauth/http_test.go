package oauth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
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
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

func newHTTP(t *testing.T, o Options) *HTTP {
	t.Helper()
	if o.Proxy == nil {
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	h, err := NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// refresh is a token request full of canaries.
func refresh(endpoint string) TokenRequest {
	return TokenRequest{
		Endpoint:              endpoint,
		Client:                Client{ID: "client", Secret: secret.New("secret-" + canary), Method: AuthPost},
		Form:                  RefreshForm(secret.New("refresh-" + canary)),
		AllowInsecureLoopback: true,
	}
}

// faultServer speaks raw TCP: it reads one request per connection and hands the
// connection to answer. hits counts requests of which at least the header
// arrived, conns the connections.
type faultServer struct {
	url         string
	hits, conns atomic.Int32
}

func newFaultServer(t *testing.T, answer func(c net.Conn, r *http.Request)) *faultServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &faultServer{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			wg.Go(func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				s.hits.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				answer(c, r)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

func raw(answer string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, answer) }
}

// response writes a complete HTTP response.
func response(status int, header, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d x\r\n%sContent-Length: %d\r\n\r\n%s", status, header, len(body), body)
}

func checkSafe(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
		if strings.Contains(s, canary) {
			t.Error("the error shows a credential")
		}
	}
	if strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
		t.Errorf("the error is not clean: %q", err)
	}
}

// What goes wrong on the wire: the kind of error, and exactly one request.
func TestPostTokenFaults(t *testing.T) {
	var bomb bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	_, _ = zw.Write(make([]byte, 300<<20))
	_ = zw.Close()
	echo := func(c net.Conn, r *http.Request) {
		// A server that echoes: the status line is our secret.
		_, _ = io.WriteString(c, "secret-"+canary+"\x1b[31m\r\n\r\n")
	}
	for _, tt := range []struct {
		name   string
		answer func(net.Conn, *http.Request)
		want   error
	}{
		{"closed after the request", raw(""), ErrNoAnswer},
		{"reset after the request", func(c net.Conn, _ *http.Request) { _ = c.(*net.TCPConn).SetLinger(0) }, ErrNoAnswer},
		{"closed in the header", raw("HTTP/1.1 200 OK\r\nContent-Ty"), ErrNoAnswer},
		{"closed in the body", raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access_token\":\"" + canary), ErrNoAnswer},
		{"closed in a chunk", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"access"), ErrNoAnswer},
		{"not HTTP", echo, ErrNoAnswer},
		{"garbled status", raw("HTTP/1.1 " + canary + "\r\n\r\n"), ErrNoAnswer},
		{"two lengths", raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), ErrNoAnswer},
		{"endless header", func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X-A: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, ErrNoAnswer},
		{"1 GiB body", func(c net.Conn, _ *http.Request) {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1<<30)
			block := make([]byte, 32<<10)
			for range 1 << 15 {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
			t.Error("1 GiB was read")
		}, ErrUnusable},
		{"body just above the cap", raw(response(200, "", strings.Repeat(" ", maxTokenBody+1))), ErrUnusable},
		{"gzip bomb", raw(response(200, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", bomb.String())), ErrUnusable},
		{"unknown encoding", raw(response(200, "Content-Encoding: br\r\n", "x")), ErrUnusable},
		{"302", raw(response(302, "Location: https://evil.example/"+canary+"\r\n", "")), ErrUnusable},
		{"307 without location", raw(response(307, "", "")), ErrUnusable},
		{"308 with a broken location", raw(response(308, "Location: ://%zz\x01"+canary+"\r\n", "")), ErrNoAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newFaultServer(t, tt.answer)
			h := newHTTP(t, Options{})
			_, err := h.PostToken(t.Context(), refresh(s.url+"/token"))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if errors.Is(err, ErrNotSent) || errors.Is(err, ErrRefused) || !IsTemporary(err) {
				t.Errorf("%v: claims that nothing was sent, or not temporary", err)
			}
			if n := s.hits.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			checkSafe(t, err)
		})
	}
}

// A 500, an HTML page, a broken token: the answer comes back for ParseToken,
// and there is one request with one authentication style.
func TestPostTokenNeverTriesAgain(t *testing.T) {
	for _, answer := range []string{
		response(500, "Content-Type: text/html\r\n", "<h1>"),
		response(401, "Content-Type: application/json\r\n", `{"error":"invalid_client"}`),
		response(400, "Content-Type: application/json\r\n", `{"error":"unsupported"}`),
		response(200, "Content-Type: text/html\r\n", "<h1>"),
		response(429, "Retry-After: 1\r\n", ""),
		response(408, "", ""),
		response(425, "", ""),
	} {
		for _, method := range []string{AuthBasic, AuthPost, AuthNone} {
			s := newFaultServer(t, raw(answer))
			r := refresh(s.url)
			r.Client.Method = method
			a, err := newHTTP(t, Options{}).PostToken(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseToken(a, Rules{}); err == nil {
				t.Error("a token came out of", answer)
			}
			if n := s.hits.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		}
	}
}

// A connection serves one request. On one that is kept open, a server may
// close it under the request, which makes a definite failure an unclear one.
func TestConnectionsAreNotReused(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	h := newHTTP(t, Options{})
	for range 3 {
		if _, err := h.PostToken(t.Context(), refresh(srv.URL)); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 requests", n)
	}
}

// no byte reaches the host that a redirect names.
func TestRedirectsAreNotFollowed(t *testing.T) {
	other := newFaultServer(t, raw(response(200, "Content-Type: application/json\r\n", `{"access_token":"at","token_type":"bearer"}`)))
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := newFaultServer(t, raw(response(status, "Location: "+other.url+"/\r\n", "")))
		h := newHTTP(t, Options{})
		r := refresh(s.url)
		_, err1 := h.PostToken(t.Context(), r)
		_, err2 := h.DeviceAuthorize(t.Context(), r)
		_, err3 := h.Introspect(t.Context(), r, secret.New(canary), "")
		err4 := h.Revoke(t.Context(), RevokeRequest{Style: "rfc7009", Endpoint: s.url, Client: r.Client, Refresh: secret.New(canary), AllowInsecureLoopback: true})
		_, err5 := h.Discover(t.Context(), s.url, true)
		_, err6 := h.Identity(t.Context(), IdentityRequest{Endpoint: s.url, Access: secret.New(canary), Subject: "id", AllowInsecureLoopback: true})
		for i, err := range []error{err1, err2, err3, err4, err5, err6} {
			if !errors.Is(err, ErrUnusable) {
				t.Errorf("status %d, request %d: error %v, want ErrUnusable", status, i+1, err)
				continue
			}
			checkSafe(t, err)
		}
	}
	if n := other.conns.Load(); n != 0 {
		t.Errorf("%d connections to the host that the redirect names", n)
	}
}

func TestPostTokenNotSent(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	l.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		endpoint string
		options  Options
		text     string
	}{
		{"refused connection", t.Context(), closed, Options{}, "connection refused"},
		{"unknown host", t.Context(), "https://issuer.example/token?x=" + canary, Options{Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "issuer.example", IsNotFound: true}}
		}}, "the host name is unknown"},
		{"canceled before", canceled, closed, Options{}, "interrupted"},
		{"not TLS", t.Context(), strings.Replace(plain.URL, "http:", "https:", 1), Options{}, "TLS"},
		{"broken proxy setting", t.Context(), "https://issuer.example/token", Options{Proxy: func(*http.Request) (*url.URL, error) {
			return nil, errors.New("parse http://user:" + canary + "@:bad")
		}}, "the proxy setting is not usable"},
		{"proxy not reachable", t.Context(), "https://issuer.example/token", Options{Proxy: func(*http.Request) (*url.URL, error) {
			return url.Parse("http://user:" + canary + "@" + strings.TrimPrefix(closed, "http://"))
		}}, "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := newHTTP(t, tt.options).PostToken(tt.ctx, refresh(tt.endpoint))
			if !errors.Is(err, ErrNotSent) || errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrRefused) || !IsTemporary(err) {
				t.Fatalf("error %v, want a temporary ErrNotSent", err)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error %q, want it to say %q", err, tt.text)
			}
			if errors.Is(err, context.Canceled) != (tt.ctx == canceled) {
				t.Errorf("error %v, canceled %v", err, tt.ctx == canceled)
			}
			checkSafe(t, err)
		})
	}
}

// Requests that must not be made at all: nothing is dialled.
func TestPostTokenRefused(t *testing.T) {
	good := Client{ID: "id", Secret: secret.New(canary), Method: AuthBasic}
	form := RefreshForm(secret.New(canary))
	for _, tt := range []struct {
		name string
		r    TokenRequest
	}{
		{"plain http", TokenRequest{Endpoint: "http://issuer.example/token", Client: good, Form: form, AllowInsecureLoopback: true}},
		{"loopback not allowed", TokenRequest{Endpoint: "http://127.0.0.1:1/token", Client: good, Form: form}},
		{"loopback by another name", TokenRequest{Endpoint: "http://127.0.0.1.evil.example/token", Client: good, Form: form, AllowInsecureLoopback: true}},
		{"file", TokenRequest{Endpoint: "file:///etc/passwd", Client: good, Form: form}},
		{"user name", TokenRequest{Endpoint: "https://a:" + canary + "@issuer.example/token", Client: good, Form: form}},
		{"fragment", TokenRequest{Endpoint: "https://issuer.example/token#x", Client: good, Form: form}},
		{"newline", TokenRequest{Endpoint: "https://issuer.example/token\r\nX: y", Client: good, Form: form}},
		{"empty", TokenRequest{Client: good, Form: form}},
		{"unknown method", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id", Method: "auto"}, Form: form}},
		{"no method", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id"}, Form: form}},
		{"basic without secret", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id", Method: AuthBasic}, Form: form}},
		{"post without secret", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id", Method: AuthPost}, Form: form}},
		{"secret as user name without secret", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id", Method: AuthSecretAsUsername}, Form: form}},
		{"none without id", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{Method: AuthNone}, Form: form}},
		{"client_id twice", TokenRequest{Endpoint: "https://issuer.example/", Client: Client{ID: "id", Method: AuthNone}, Form: form.With(map[string]string{"client_id": "x"})}},
		{"grant_type twice", TokenRequest{Endpoint: "https://issuer.example/", Client: good, Form: form.With(map[string]string{"grant_type": "x"})}},
		{"authorization header", TokenRequest{Endpoint: "https://issuer.example/", Client: good, Form: form, Headers: map[string]string{"authorization": "x"}}},
		{"idempotency header", TokenRequest{Endpoint: "https://issuer.example/", Client: good, Form: form, Headers: map[string]string{"idempotency-key": "x"}}},
		{"header with newline", TokenRequest{Endpoint: "https://issuer.example/", Client: good, Form: form, Headers: map[string]string{"X-A": "x\r\ny"}}},
		{"header name with blank", TokenRequest{Endpoint: "https://issuer.example/", Client: good, Form: form, Headers: map[string]string{"X A": "x"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHTTP(t, Options{Dial: func(context.Context, string, string) (net.Conn, error) {
				t.Error("a connection was opened")
				return nil, io.EOF
			}})
			_, err := h.PostToken(t.Context(), tt.r)
			if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotSent) || IsTemporary(err) {
				t.Errorf("error %v, want ErrRefused", err)
			}
			checkSafe(t, err)
		})
	}
}

// What a token request looks like on the wire, by authentication method.
func TestPostTokenWire(t *testing.T) {
	type wire struct {
		request *http.Request
		form    string
	}
	got := make(chan wire, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- wire{r, string(body)}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", "Fri, 02 Jan 2026 03:04:05 GMT")
		w.Header().Set("Retry-After", "7")
		_, _ = io.WriteString(w, "{}")
	}))
	defer srv.Close()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	h := newHTTP(t, Options{UserAgent: "apiauth/1", Now: func() time.Time { return now }})
	for _, tt := range []struct{ method, authorization, form string }{
		{AuthNone, "", "grant_type=authorization_code&code=c%2Fd&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb&code_verifier=ver&audience=a+b&client_id=i+d%2F1"},
		{AuthPost, "", "grant_type=authorization_code&code=c%2Fd&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb&code_verifier=ver&audience=a+b&client_id=i+d%2F1&client_secret=s%3A%26%25%C3%A4"},
		// RFC 6749 section 2.3.1: id and secret are form-encoded first.
		{AuthBasic, basic("i+d%2F1", "s%3A%26%25%C3%A4"), "grant_type=authorization_code&code=c%2Fd&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb&code_verifier=ver&audience=a+b"},
		{AuthSecretAsUsername, basic("s:&%ä", ""), "grant_type=authorization_code&code=c%2Fd&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcb&code_verifier=ver&audience=a+b"},
	} {
		a, err := h.PostToken(t.Context(), TokenRequest{
			Endpoint:              srv.URL + "/token?tenant=1",
			Client:                Client{ID: "i d/1", Secret: secret.New("s:&%ä"), Method: tt.method},
			Form:                  CodeExchange(secret.New("c/d"), "http://127.0.0.1:1/cb", secret.New("ver"), map[string]string{"audience": "a b"}),
			Headers:               map[string]string{"Notion-Version": "2022-06-28"},
			AllowInsecureLoopback: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		w := <-got
		r := w.request
		if r.Method != "POST" || r.URL.RequestURI() != "/token?tenant=1" || r.ContentLength != int64(len(w.form)) || len(r.TransferEncoding) > 0 {
			t.Errorf("%s: request %s %s with length %d", tt.method, r.Method, r.URL.RequestURI(), r.ContentLength)
		}
		if w.form != tt.form {
			t.Errorf("%s: form is not as it must be", tt.method)
		}
		if r.Header.Get("Authorization") != tt.authorization {
			t.Errorf("%s: authorization is not as it must be", tt.method)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", "Accept-Encoding": "identity",
			"User-Agent": "apiauth/1", "Notion-Version": "2022-06-28", "Cookie": "", "Referer": "",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: header %s is %q, want %q", tt.method, name, got, want)
			}
		}
		if a.Status != 200 || a.ContentType != "application/json" || a.RetryAfter != "7" || !a.ReceivedAt.Equal(now) ||
			!a.Date.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || string(a.Body) != "{}" {
			t.Errorf("%s: answer %v", tt.method, a)
		}
	}
}

func TestForms(t *testing.T) {
	for _, tt := range []struct {
		form Form
		want string
	}{
		{CodeExchange(secret.New("c"), "", secret.Text{}, nil), "grant_type=authorization_code&code=c"},
		{RefreshForm(secret.New("r")), "grant_type=refresh_token&refresh_token=r"},
		{RefreshForm(secret.New("r"), "a", "b"), "grant_type=refresh_token&refresh_token=r&scope=a+b"},
		{ClientCredentialsForm("", nil), "grant_type=client_credentials"},
		{ClientCredentialsForm("a b", map[string]string{"z": "1", "audience": "x"}), "grant_type=client_credentials&scope=a+b&audience=x&z=1"},
		{DeviceForm(secret.New("d")), "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=d"},
	} {
		c, err := TokenRequest{Client: Client{ID: "i", Secret: secret.New("s"), Method: AuthBasic}, Form: tt.form}.encode(time.Time{})
		if err != nil || string(c.body) != tt.want {
			t.Errorf("form %q, %v, want %q", c.body, err, tt.want)
		}
	}
}

// pipeHTTP hands every dialled connection to serve, without a network, so
// that time is the bubble's.
func pipeHTTP(t *testing.T, serve func(net.Conn)) *HTTP {
	return newHTTP(t, Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serve(server)
		return client, nil
	}})
}

func readRequest(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// whatever is slow, the request ends in its budget, and what was slow
// decides whether it may have been received.
func TestTimeouts(t *testing.T) {
	drip := func(c net.Conn, s string) {
		for {
			<-time.After(time.Second) // by the bubble's clock
			if _, err := io.WriteString(c, s); err != nil {
				return
			}
		}
	}
	for _, tt := range []struct {
		name     string
		endpoint string
		serve    func(net.Conn)
		want     error
		budget   time.Duration
	}{
		{"TLS hang", "https://issuer.example/", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, ErrNotSent, 10 * time.Second},
		{"header hang", "http://127.0.0.1:1/", func(c net.Conn) { readRequest(c); _, _ = io.Copy(io.Discard, c) }, ErrNoAnswer, 15 * time.Second},
		{"header drip", "http://127.0.0.1:1/", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A: ")
			drip(c, "a")
		}, ErrNoAnswer, 15 * time.Second},
		{"body drip", "http://127.0.0.1:1/", func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
			drip(c, " ")
		}, ErrNoAnswer, 30 * time.Second},
		{"endless 100 Continue", "http://127.0.0.1:1/", func(c net.Conn) { readRequest(c); drip(c, "HTTP/1.1 102 Processing\r\n\r\n") }, ErrNoAnswer, 30 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				served := make(chan struct{})
				h := pipeHTTP(t, func(c net.Conn) { defer close(served); defer c.Close(); tt.serve(c) })
				start := time.Now()
				_, err := h.PostToken(t.Context(), refresh(tt.endpoint))
				if !errors.Is(err, tt.want) || errors.Is(err, context.DeadlineExceeded) || !IsTemporary(err) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if took := time.Since(start); took > tt.budget {
					t.Errorf("it took %v, the budget is %v", took, tt.budget)
				}
				if !strings.Contains(err.Error(), "too long") {
					t.Errorf("error %q does not say that it took too long", err)
				}
				checkSafe(t, err)
				<-served
			})
		})
	}
	t.Run("dial hang", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHTTP(t, Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}})
			start := time.Now()
			_, err := h.PostToken(t.Context(), refresh("https://issuer.example/"))
			if !errors.Is(err, ErrNotSent) || time.Since(start) > 10*time.Second {
				t.Errorf("error %v after %v", err, time.Since(start))
			}
			synctest.Wait()
		})
	})
	t.Run("the caller's deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := pipeHTTP(t, func(c net.Conn) { defer c.Close(); _, _ = io.Copy(io.Discard, c) })
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			start := time.Now()
			_, err := h.PostToken(ctx, refresh("http://127.0.0.1:1/"))
			if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2*time.Second {
				t.Errorf("error %v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			h := pipeHTTP(t, func(c net.Conn) { defer c.Close(); readRequest(c); cancel(); _, _ = io.Copy(io.Discard, c) })
			_, err := h.PostToken(ctx, refresh("http://127.0.0.1:1/"))
			if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	})
}

// authority is a certificate authority for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func tlsServer(t *testing.T, c *tls.Config) (base string, hits *atomic.Int32) {
	t.Helper()
	hits = new(atomic.Int32)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"at","token_type":"bearer"}`)
	}))
	srv.TLS = c
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL, hits
}

// certificates are verified, whatever is set.
func TestTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, ca.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	same := func(*x509.Certificate) {}
	empty := func() (*x509.CertPool, error) { return x509.NewCertPool(), nil }
	for _, tt := range []struct {
		name   string
		server *tls.Config
		o      Options
		want   string // of the error, "" for success
	}{
		{"authority from the file", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, same)}}, Options{CAFile: caFile, Roots: empty}, ""},
		{"authority from the file, system roots", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, same)}}, Options{CAFile: caFile}, ""},
		{"authority from the roots", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, same)}}, Options{Roots: func() (*x509.CertPool, error) {
			pool := x509.NewCertPool()
			pool.AddCert(ca.cert)
			return pool, nil
		}}, ""},
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, same)}}, Options{CAFile: caFile}, "unknown authority"},
		{"self-signed", nil, Options{}, "unknown authority"}, // httptest's own
		{"expired", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}}, Options{CAFile: caFile}, "expired"},
		{"not yet valid", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })}}, Options{CAFile: caFile}, "not yet valid"},
		{"other name", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"evil\x1b.example"} })}}, Options{CAFile: caFile}, "another host"},
		{"for clients", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}}, Options{CAFile: caFile}, "not valid"},
		{"TLS 1.1", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, same)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, Options{CAFile: caFile}, "TLS"},
		{"TLS 1.2", &tls.Config{Certificates: []tls.Certificate{ca.issue(t, same)}, MaxVersion: tls.VersionTLS12}, Options{CAFile: caFile}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, hits := tlsServer(t, tt.server)
			a, err := newHTTP(t, tt.o).PostToken(t.Context(), refresh(base+"/token"))
			if tt.want == "" {
				if err != nil || hits.Load() != 1 {
					t.Fatalf("error %v, %d requests", err, hits.Load())
				}
				if _, err := ParseToken(a, Rules{}); err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrNotSent) || !strings.Contains(err.Error(), tt.want) || hits.Load() != 0 {
				t.Fatalf("error %v, %d requests, want %q", err, hits.Load(), tt.want)
			}
			checkSafe(t, err)
		})
	}
}

func TestCAFile(t *testing.T) {
	dir := t.TempDir()
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "missing.pem"), dir, junk} {
		h := newHTTP(t, Options{CAFile: file}) // lazy: no error yet
		_, err := h.PostToken(t.Context(), refresh("https://issuer.example/"))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), file) {
			t.Errorf("error %v", err)
		}
	}
}

// The first bundle file is read alone; the rest of the system's certificates
// when it does not know an authority. Still one request.
func TestRootsFallback(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems verify by themselves or have other files")
	}
	ca, other := newAuthority(t), newAuthority(t)
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if err := os.WriteFile(file, other.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	h := newHTTP(t, Options{})
	pool, all, err := h.roots(false)
	want := x509.NewCertPool()
	want.AddCert(other.cert)
	if err != nil || all || !pool.Equal(want) {
		t.Errorf("all %v, error %v: not the file's certificates alone", all, err)
	}
	t.Setenv("SSL_CERT_FILE", junkFile(t))
	if pool, all, err := h.roots(false); pool != nil || !all || err != nil {
		t.Error("a file without certificates is left to crypto/x509")
	}

	// Both pools fail here (the system does not know ca), but the second
	// transport was tried, and no request was made.
	t.Setenv("SSL_CERT_FILE", file)
	base, hits := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}})
	if _, err := h.PostToken(t.Context(), refresh(base)); !errors.Is(err, ErrNotSent) || hits.Load() != 0 {
		t.Errorf("error %v, %d requests", err, hits.Load())
	}
	if !h.allRoots {
		t.Error("the system's certificates were not tried")
	}
}

// The fallback to the rest of the system's certificates, seen to succeed. They
// are loaded once per process, so the test runs in one of its own; there the
// file changes between the two readings.
func TestRootsFallbackSucceeds(t *testing.T) {
	const child = "APIAUTH_TEST_ROOTS_CHILD"
	if runtime.GOOS != "linux" {
		t.Skip("other systems verify by themselves or have other files")
	}
	file := filepath.Join(t.TempDir(), "bundle.pem")
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRootsFallbackSucceeds$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", "SSL_CERT_DIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	ca, other := newAuthority(t), newAuthority(t)
	if err := os.WriteFile(file, other.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	base, hits := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}})
	var dials atomic.Int32
	h := newHTTP(t, Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			if err := os.WriteFile(file, ca.pem(), 0o600); err != nil {
				return nil, err
			}
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	if _, err := h.PostToken(t.Context(), refresh(base)); err != nil || hits.Load() != 1 || dials.Load() != 2 {
		t.Errorf("error %v, %d requests, %d connections", err, hits.Load(), dials.Load())
	}
}

func junkFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(name, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// localhost is this machine, whatever the resolver says, over both families.
func TestLocalhost(t *testing.T) {
	var dialled []string
	h := newHTTP(t, Options{Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
		dialled = append(dialled, addr)
		return nil, io.EOF
	}})
	_, err := h.PostToken(t.Context(), refresh("http://LocalHost:8080/"))
	if !errors.Is(err, ErrNotSent) || strings.Join(dialled, " ") != "127.0.0.1:8080 [::1]:8080" {
		t.Errorf("dialled %q, %v", dialled, err)
	}
}

func TestNewHTTP(t *testing.T) {
	for _, o := range []Options{{UserAgent: "a\r\nb"}, {Timeouts: Timeouts{Total: -1}}} {
		if _, err := NewHTTP(o); err == nil {
			t.Errorf("NewHTTP accepts %q %v", o.UserAgent, o.Timeouts)
		}
	}
}

func TestRoundTripper(t *testing.T) {
	s := newFaultServer(t, raw(response(302, "Location: https://evil.example/\r\n", "x")))
	rt, err := newHTTP(t, Options{}).RoundTripper()
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil || resp.StatusCode != 302 {
		t.Fatalf("%v", err)
	}
	resp.Body.Close()
}
