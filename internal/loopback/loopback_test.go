package loopback_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
)

// serve opens a listener whose handler answers "hello" at every path.
func serve(t *testing.T, o loopback.Options, g loopback.Guard) *loopback.Listener {
	t.Helper()
	l, err := loopback.Listen(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.Serve(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("canary-9c1d")
		}
		_, _ = io.WriteString(w, "hello")
	}))
	return l
}

// raw sends the bytes of request and returns the whole answer.
func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil && len(answer) == 0 {
		t.Fatalf("no answer: %v", err)
	}
	return string(answer)
}

func TestHostAndOrigin(t *testing.T) {
	l := serve(t, loopback.Options{}, loopback.Guard{Origins: []string{"http://127.0.0.1:9"}})
	addr := l.Addr()
	cases := []struct {
		name, request string
		status        string
	}{
		{"right host", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "200"},
		{"allowed origin", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: http://127.0.0.1:9\r\n\r\n", "200"},
		{"foreign host", "GET /x HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"},
		{"foreign host, our port", fmt.Sprintf("GET /x HTTP/1.1\r\nHost: evil.example:%d\r\n\r\n", l.Port()), "421"},
		{"host that begins right", fmt.Sprintf("GET /x HTTP/1.1\r\nHost: 127.0.0.1.evil.example:%d\r\n\r\n", l.Port()), "421"},
		{"localhost, not registered", fmt.Sprintf("GET /x HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", l.Port()), "421"},
		{"host without port", "GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "421"},
		{"other port", "GET /x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", "421"},
		{"trailing dot", fmt.Sprintf("GET /x HTTP/1.1\r\nHost: 127.0.0.1.:%d\r\n\r\n", l.Port()), "421"},
		{"empty host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", "421"},
		{"no host", "GET /x HTTP/1.1\r\n\r\n", "400"},
		{"no host, HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n", "421"},
		{"two hosts", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nHost: evil.example\r\n\r\n", "400"},
		{"absolute URI", "GET http://" + addr + "/x HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "400"},
		{"absolute URI elsewhere", "GET http://evil.example/x HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "400"},
		{"connect", "CONNECT evil.example:443 HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "400"},
		{"options star", "OPTIONS * HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "400"},
		{"foreign origin", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: https://evil.example\r\n\r\n", "403"},
		{"null origin", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: null\r\n\r\n", "403"},
		{"empty origin", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nOrigin:\r\n\r\n", "403"},
		{"two origins", "GET /x HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: http://127.0.0.1:9\r\nOrigin: http://127.0.0.1:9\r\n\r\n", "403"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			answer := raw(t, addr, c.request)
			if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+c.status) {
				t.Errorf("the answer begins with %q, want status %s", strings.SplitN(answer, "\r\n", 2)[0], c.status)
			}
			if strings.Contains(answer, "evil") || strings.Contains(strings.ToLower(answer), "access-control") {
				t.Errorf("the answer echoes the request or has a CORS header:\n%s", answer)
			}
		})
	}
}

func TestSecurityHeaders(t *testing.T) {
	l := serve(t, loopback.Options{}, loopback.Guard{})
	for _, host := range []string{l.Addr(), "evil.example"} {
		answer, err := http.ReadResponse(bufio.NewReader(strings.NewReader(
			raw(t, l.Addr(), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"Cache-Control":           "no-store",
			"Referrer-Policy":         "no-referrer",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Content-Security-Policy": "default-src 'none';",
		} {
			if got := answer.Header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("host %s: %s is %q, want %q", host, name, got, want)
			}
		}
	}
}

func TestCapability(t *testing.T) {
	const key = "canary-key-55d0"
	l := serve(t, loopback.Options{}, loopback.Guard{Capable: func(r *http.Request) bool {
		return loopback.SameSecret(r.Header.Get("X-Key"), key)
	}})
	for got, status := range map[string]string{"": "401", key[:5]: "401", key + "x": "401", key: "200"} {
		answer := raw(t, l.Addr(), "GET / HTTP/1.1\r\nHost: "+l.Addr()+"\r\nX-Key: "+got+"\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+status) {
			t.Errorf("a key of %d bytes: %q, want %s", len(got), answer[:12], status)
		}
	}
	if loopback.SameSecret("", "") {
		t.Error("an empty secret lets everybody in")
	}
}

func TestPanicIsAPlainAnswer(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	l := serve(t, loopback.Options{Log: func(s string) { mu.Lock(); defer mu.Unlock(); log.WriteString(s) }}, loopback.Guard{})
	answer := raw(t, l.Addr(), "GET /panic HTTP/1.1\r\nHost: "+l.Addr()+"\r\n\r\n")
	mu.Lock()
	defer mu.Unlock()
	if !strings.HasPrefix(answer, "HTTP/1.1 500") || strings.Contains(answer+log.String(), "canary") {
		t.Errorf("answer %q, log %q", answer, log.String())
	}
}

func TestHeaderLimits(t *testing.T) {
	l := serve(t, loopback.Options{HeaderTimeout: 50 * time.Millisecond}, loopback.Guard{})
	big := "GET / HTTP/1.1\r\nHost: " + l.Addr() + "\r\nX-Big: " + strings.Repeat("a", 17<<10) + "\r\n\r\n"
	if answer := raw(t, l.Addr(), big); !strings.HasPrefix(answer, "HTTP/1.1 431") {
		t.Errorf("a head of 17 KiB: %.40q, want 431", answer)
	}
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a request head that never ends keeps its connection")
	}
}

func TestFixedPortTaken(t *testing.T) {
	for _, host := range []string{loopback.IPv4, loopback.Localhost} {
		held, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := held.Addr().(*net.TCPAddr).Port
		_, err = loopback.Listen(t.Context(), loopback.Options{Host: host, Port: port})
		if taken, ok := errors.AsType[*loopback.PortTakenError](err); !ok || taken.Port != port {
			t.Errorf("%s: %v, want a PortTakenError for %d", host, err, port)
		}
		_ = held.Close()
		l, err := loopback.Listen(t.Context(), loopback.Options{Host: host, Port: port})
		if err != nil {
			t.Fatalf("%s: the port is free again: %v", host, err)
		}
		if _, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			t.Errorf("%s: somebody else could take our port", host)
		}
		_ = l.Close()
	}
}

func TestOnlyLoopbackHosts(t *testing.T) {
	for _, host := range []string{"0.0.0.0", "::", "[::]", "example.com", "127.0.0.2", "localhost."} {
		if l, err := loopback.Listen(t.Context(), loopback.Options{Host: host}); err == nil {
			_ = l.Close()
			t.Errorf("listening on %s was allowed", host)
		}
	}
}

func TestLocalhostIsBothFamilies(t *testing.T) {
	needIPv6(t)
	l := serve(t, loopback.Options{Host: loopback.Localhost}, loopback.Guard{})
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		for _, host := range []string{"127.0.0.1", "[::1]", "localhost"} {
			answer := raw(t, fmt.Sprintf("%s:%d", ip, l.Port()), fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s:%d\r\n\r\n", host, l.Port()))
			if !strings.HasPrefix(answer, "HTTP/1.1 200") {
				t.Errorf("over %s with host %s: %.20q", ip, host, answer)
			}
		}
	}
}

// The port that 127.0.0.1 got by chance may be held on [::1]: then another pair
// is tried.
func TestLocalhostPairIsRetried(t *testing.T) {
	needIPv6(t)
	var held []net.Listener
	defer func() {
		for _, h := range held {
			_ = h.Close()
		}
	}()
	for range 200 {
		h, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	for range 50 {
		l, err := loopback.Listen(t.Context(), loopback.Options{Host: loopback.Localhost})
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
	port := held[0].Addr().(*net.TCPAddr).Port
	_, err := loopback.Listen(t.Context(), loopback.Options{Host: loopback.Localhost, Port: port})
	if _, ok := errors.AsType[*loopback.PortTakenError](err); !ok {
		t.Errorf("a fixed port that is held on [::1]: %v, want a PortTakenError", err)
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6 loopback")
	}
	_ = l.Close()
}

// whatever listens on our port listens on loopback.
func TestSocketsAreLoopbackOnly(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc/net")
	}
	l := serve(t, loopback.Options{Host: loopback.Localhost}, loopback.Guard{})
	port := fmt.Sprintf(":%04X", l.Port())
	found := 0
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(data), "\n") {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" || !strings.HasSuffix(f[1], port) {
				continue
			}
			found++
			if ip := strings.TrimSuffix(f[1], port); ip != "0100007F" && ip != "00000000000000000000000001000000" {
				t.Errorf("%s: listening on %s", file, ip)
			}
		}
	}
	if found == 0 {
		t.Error("the listener was not found in /proc/net")
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		ip, _, err := net.ParseCIDR(a.String())
		if err != nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		if c, err := net.Dial("tcp", net.JoinHostPort(ip.String(), fmt.Sprint(l.Port()))); err == nil {
			_ = c.Close()
			t.Errorf("the listener answers on %s", ip)
		}
	}
}

// idle connections and bad requests do not keep a real one out.
func TestFlood(t *testing.T) {
	var lines, size atomic.Int64
	l := serve(t, loopback.Options{Log: func(s string) { lines.Add(1); size.Add(int64(len(s))) }}, loopback.Guard{})
	for range 300 {
		c, err := net.Dial("tcp", l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 190 {
				c, err := net.Dial("tcp", l.Addr())
				if err != nil {
					continue
				}
				_, _ = io.WriteString(c, "GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n\r\n")
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	answer := raw(t, l.Addr(), "GET / HTTP/1.1\r\nHost: "+l.Addr()+"\r\n\r\n")
	if !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("after the flood: %.30q", answer)
	}
	if lines.Load() > 20 || size.Load() > 4000 {
		t.Errorf("the flood wrote %d lines, %d bytes", lines.Load(), size.Load())
	}
}

// A connection whose request is being answered is not dropped for a new one.
func TestBusyConnectionsStay(t *testing.T) {
	l, err := loopback.Listen(t.Context(), loopback.Options{MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	entered, release := make(chan bool), make(chan bool)
	l.Serve(loopback.Guard{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- true; <-release }))
	answers := make(chan string, 2)
	for range 2 {
		go func() { answers <- raw(t, l.Addr(), "GET / HTTP/1.1\r\nHost: "+l.Addr()+"\r\n\r\n") }()
		<-entered
	}
	c, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("the third connection read %d bytes, want it closed", n)
	}
	close(release)
	for range 2 {
		if a := <-answers; !strings.HasPrefix(a, "HTTP/1.1 200") {
			t.Errorf("a busy connection was dropped: %.30q", a)
		}
	}
}

func TestShutdownFinishesAnAnswerAndRefusesTheRest(t *testing.T) {
	l, err := loopback.Listen(t.Context(), loopback.Options{})
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan bool), make(chan bool)
	l.Serve(loopback.Guard{}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-release
		loopback.Page(w, http.StatusOK, "Done <b>", "a & b")
	}))
	idle, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	got := make(chan string, 1)
	go func() { got <- raw(t, l.Addr(), "GET / HTTP/1.1\r\nHost: "+l.Addr()+"\r\n\r\n") }()
	<-entered
	done := make(chan error, 1)
	go func() { done <- l.Shutdown(t.Context()) }()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("an idle connection outlived Shutdown")
	}
	close(release)
	if a := <-got; !strings.HasPrefix(a, "HTTP/1.1 200") || !strings.Contains(a, "Done &lt;b&gt;") || !strings.Contains(a, "a &amp; b") {
		t.Errorf("the answer under way was lost: %q", a)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if c, err := net.Dial("tcp", l.Addr()); err == nil {
		_ = c.Close()
		t.Error("the port still answers")
	}
}

func TestShutdownIsBounded(t *testing.T) {
	l, err := loopback.Listen(t.Context(), loopback.Options{})
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan bool, 1)
	l.Serve(loopback.Guard{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { entered <- true; <-r.Context().Done() }))
	go func() {
		c, err := net.Dial("tcp", l.Addr())
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+l.Addr()+"\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := l.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v, want the deadline", err)
	}
}

func TestLogIsBoundedAndClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines []string
		l, err := loopback.Listen(t.Context(), loopback.Options{Log: func(s string) { lines = append(lines, s) }})
		if err != nil {
			t.Fatal(err)
		}
		for range 500 {
			l.Log("a\x1b[31m\nb" + strings.Repeat("x", 500))
		}
		if len(lines) != 10 || strings.ContainsAny(lines[0], "\x1b\n") || len(lines[0]) > 200 {
			t.Errorf("%d lines, the first %q", len(lines), lines[0])
		}
		<-time.After(time.Minute)
		l.Log("later")
		if got := lines[10:]; len(got) != 2 || got[0] != "490 more lines were left out" || got[1] != "later" {
			t.Errorf("after a minute: %q", got)
		}
		_ = l.Close()
	})
}
