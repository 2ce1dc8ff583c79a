package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReverseAnswers(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for name, value := range map[string]string{
			"Set-Cookie": "s=1", "Authorization": "Bearer x", "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true",
			"Strict-Transport-Security": "max-age=1", "Clear-Site-Data": "*", "Alt-Svc": `h3=":443"`, "Content-Security-Policy": "default-src *",
			"Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "timeout=5", "Proxy-Authenticate": "Basic", "Refresh": "0; url=http://evil.example",
			"Etag": `"1"`, "X-RateLimit-Remaining": "7", "Cache-Control": "max-age=60", "WWW-Authenticate": "Bearer", "Vary": "Accept",
		} {
			h.Set(name, value)
		}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "tea")
	}, nil)
	resp, body := r.get("/one/x")
	if resp.StatusCode != http.StatusTeapot || body != "tea" || resp.ContentLength != 3 {
		t.Errorf("status %d, length %d, body %q", resp.StatusCode, resp.ContentLength, body)
	}
	for name, want := range map[string]string{
		"Etag": `"1"`, "X-RateLimit-Remaining": "7", "Cache-Control": "max-age=60", "WWW-Authenticate": "Bearer", "Vary": "Accept",
		"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff",
		"Set-Cookie": "", "Authorization": "", "Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": "", "Strict-Transport-Security": "",
		"Clear-Site-Data": "", "Alt-Svc": "", "X-Hop": "", "Proxy-Authenticate": "", "Refresh": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct {
		method string
		status int
	}{{http.MethodHead, 200}, {http.MethodGet, 204}, {http.MethodGet, 304}} {
		r := newReverseRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Etag", `"2"`)
			w.WriteHeader(c.status)
		}, nil)
		if resp, body := r.do(r.request(c.method, "/one/x", nil)); resp.StatusCode != c.status || body != "" || resp.Header.Get("Etag") == "" {
			t.Errorf("%s %d came as %d with %q", c.method, c.status, resp.StatusCode, body)
		}
	}
}

// TestReverseEchoesAreScrubbed is R-85 for the reverse proxy.
func TestReverseEchoesAreScrubbed(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		w.Header().Set("X-Echo", "it was "+token)
		switch r.URL.Path {
		case "/v1/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, `{"token":"`+token+`"}`)
			_ = z.Close()
		case "/v1/br":
			w.Header().Set("Content-Encoding", "br")
			_, _ = io.WriteString(w, "compressed")
		case "/v1/stream":
			half := len(token) / 2
			_, _ = io.WriteString(w, "a"+token[:half])
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, token[half:]+"b")
		default:
			_, _ = io.WriteString(w, `{"token":"`+token+`"}`)
		}
	}, nil)
	filler := strings.Repeat("x", len(firstToken))
	for path, want := range map[string]string{
		"/plain":  `{"token":"` + filler + `"}`,
		"/gzip":   `{"token":"` + filler + `"}`,
		"/stream": "a" + filler + "b",
	} {
		resp, body := r.get("/one" + path)
		if body != want || resp.Header.Get("X-Echo") != "it was "+filler || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the answer has the token, or is not what it was (%d bytes)", path, len(body))
		}
		if path == "/plain" && resp.ContentLength != int64(len(want)) {
			t.Errorf("%s: length %d, want %d", path, resp.ContentLength, len(want))
		}
	}
	if resp, body := r.get("/one/br"); resp.StatusCode != http.StatusBadGateway || word(t, body) != "no_answer" || strings.Contains(fmt.Sprint(resp.Header), firstToken) {
		t.Errorf("an answer that cannot be searched: status %d", resp.StatusCode)
	}
}

// TestReverseRedirects leads redirects to pinned hosts back through the proxy and
// follows none.
func TestReverseRedirects(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	var location string
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.ReplaceAll(location, "API", "http://"+r.Host))
		w.WriteHeader(http.StatusFound)
	}, func(o *ReverseOptions) {
		o.Routes[0].Hosts = append(o.Routes[0].Hosts, "files.example.com")
	})
	host := r.api.Listener.Addr().String()
	for from, want := range map[string]string{
		"API/v1/b?c=1#d":                r.URL() + "/one/b?c=1#d",
		"b":                             r.URL() + "/one/a/b",
		"/v1/b":                         r.URL() + "/one/b",
		"/v2/b":                         r.URL() + "/one/~" + host + "/v2/b",
		"API/v10":                       r.URL() + "/one/~" + host + "/v10",
		"https://files.example.com/f?s": r.URL() + "/one/~files.example.com/f?s",
		"http://files.example.com/f":    "http://files.example.com/f",
		other.URL + "/x":                other.URL + "/x",
		"https://u@files.example.com/f": "https://u@files.example.com/f",
	} {
		location = from
		resp, _ := r.get("/one/a/x")
		if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusFound || got != want {
			t.Errorf("%s: status %d, Location %s, want %s", from, resp.StatusCode, got, want)
		}
	}
}

// guarded answers 200 to the token of that number and above, else 401.
func guarded(least int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var n int
		_, _ = fmt.Sscanf(r.Header.Get("Authorization"), "Bearer canary-token-%04d", &n)
		if n < least {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "refused")
			return
		}
		_, _ = w.Write(body)
	}
}

// TestReverseRefusedToken: one refresh and one more try where the request can be
// sent again, and no more than one refresh a minute.
func TestReverseRefusedToken(t *testing.T) {
	r := newReverseRig(t, guarded(2), nil)
	if resp, body := r.do(r.request(http.MethodPost, "/one/x", strings.NewReader("again"))); resp.StatusCode != 200 || body != "again" {
		t.Errorf("a refused token: status %d, body %q", resp.StatusCode, body)
	}
	if n := r.tokens.refreshed(); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}

	r = newReverseRig(t, guarded(2), nil)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if resp, _ := r.get("/one/x"); resp.StatusCode != 200 {
				t.Errorf("one of many: status %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	if n := r.tokens.refreshed(); n != 1 {
		t.Errorf("%d refreshes for 16 requests at once, want 1", n)
	}

	r = newReverseRig(t, guarded(100), nil)
	for range 5 {
		if resp, body := r.get("/one/x"); resp.StatusCode != 401 || body != "refused" {
			t.Errorf("an API that refuses everything: status %d, body %q", resp.StatusCode, body)
		}
	}
	if n := r.tokens.refreshed(); n != 1 {
		t.Errorf("%d refreshes within a minute, want 1", n)
	}
	r.later(61 * time.Second)
	r.get("/one/x")
	if n := r.tokens.refreshed(); n != 2 {
		t.Errorf("%d refreshes after a minute, want 2", n)
	}

	r = newReverseRig(t, guarded(2), nil)
	r.tokens.norefresh = errors.New("a static key")
	if resp, body := r.get("/one/x"); resp.StatusCode != 401 || body != "refused" {
		t.Errorf("a key that cannot be renewed: status %d, body %q", resp.StatusCode, body)
	}

	// What is not at hand any more is not sent again, and the API's own answer
	// comes back.
	for name, body := range map[string]io.Reader{
		"larger than 64 KiB":      bytes.NewReader(make([]byte, replayable+1)),
		"of a length not told":    io.MultiReader(strings.NewReader("chunked")),
		"that waits for continue": strings.NewReader("small"),
	} {
		r = newReverseRig(t, guarded(2), nil)
		req := r.request(http.MethodPost, "/one/x", body)
		if name == "that waits for continue" {
			req.Header.Set("Expect", "100-continue")
		}
		if resp, _ := r.do(req); resp.StatusCode != 401 || r.tokens.refreshed() != 0 {
			t.Errorf("a body %s: status %d, %d refreshes", name, resp.StatusCode, r.tokens.refreshed())
		}
	}
}

// TestReverseTellsAnswers: each answer to a token is told, the one before a renewal
// too, and none that is the proxy's own.
func TestReverseTellsAnswers(t *testing.T) {
	told := make(chan string, 10)
	r := newReverseRig(t, guarded(2), func(o *ReverseOptions) {
		o.Answered = func(_ context.Context, connection string, status int) { told <- fmt.Sprint(connection, " ", status) }
	})
	r.get("/one/x")
	r.get("/two/x")
	close(told)
	if first, second := <-told, <-told; first != "one 401" || second != "one 200" || len(told) != 0 {
		t.Errorf("%q, %q, %d more", first, second, len(told))
	}
}

// TestReverseStreams: what has come goes on before more is waited for, in both
// directions.
func TestReverseStreams(t *testing.T) {
	next := make(chan struct{})
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch r.URL.Path {
		case "/v1/events":
			w.Header().Set("Content-Type", "text/event-stream")
			_ = control.Flush()
			<-next
			_, _ = io.WriteString(w, "data: 1\n\n")
			_ = control.Flush()
			<-next
			_, _ = io.WriteString(w, "data: 2\n\n")
		case "/v1/known":
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "1")
			_ = control.Flush()
			<-next
			_, _ = io.WriteString(w, "2")
		case "/v1/both":
			_ = control.EnableFullDuplex()
			_ = control.Flush()
			in := bufio.NewReader(r.Body)
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				_, _ = io.WriteString(w, "got "+line)
				_ = control.Flush()
			}
		}
	}, nil)
	read := func(body io.Reader, n int) string {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(body, b); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	resp, err := r.client.Do(r.request(http.MethodGet, "/one/events", nil))
	if err != nil {
		t.Fatal(err)
	}
	next <- struct{}{}
	if got := read(resp.Body, 9); got != "data: 1\n\n" {
		t.Errorf("first event: %q", got)
	}
	next <- struct{}{}
	if got := read(resp.Body, 9); got != "data: 2\n\n" {
		t.Errorf("second event: %q", got)
	}
	_ = resp.Body.Close()

	if resp, err = r.client.Do(r.request(http.MethodGet, "/one/known", nil)); err != nil {
		t.Fatal(err)
	}
	if got := read(resp.Body, 1); got != "1" {
		t.Errorf("the first byte of two: %q", got)
	}
	next <- struct{}{}
	if got := read(resp.Body, 1); got != "2" {
		t.Errorf("the second byte of two: %q", got)
	}
	_ = resp.Body.Close()

	in, out := io.Pipe()
	if resp, err = r.client.Do(r.request(http.MethodPost, "/one/both", in)); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(out, line); err != nil {
			t.Fatal(err)
		}
		if got := read(resp.Body, 4+len(line)); got != "got "+line {
			t.Errorf("an answer while the request goes on: %q", got)
		}
	}
	_ = out.Close()
}

// TestReverseExpectContinue: a client that asks first is answered by the API, and
// sends no body that nobody takes.
func TestReverseExpectContinue(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}, nil)
	for path, want := range map[string]string{"no": "HTTP/1.1 413", "yes": "HTTP/1.1 100"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /one/%s HTTP/1.1\r\nHost: %s\r\nX-Apiauth-Key: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", path, strings.TrimPrefix(r.URL(), "http://"), r.Key().Reveal())
		in := bufio.NewReader(conn)
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("%s: %q, %v, want %s", path, line, err, want)
		}
		if path == "yes" {
			fmt.Fprint(conn, "body")
			_, _ = in.ReadString('\n')
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, _ := io.ReadAll(resp.Body); string(body) != "body" {
				t.Errorf("%s: the body came back as %q", path, body)
			}
			_ = resp.Body.Close()
		}
		_ = conn.Close()
	}
}

func TestReverseUpgrade(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		conn, in, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSet-Cookie: a=b\r\n\r\n")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "%s knows %s", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), line)
		}
	}, nil)
	addr := strings.TrimPrefix(r.URL(), "http://")
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /one/socket HTTP/1.1\r\nHost: %s\r\nX-Apiauth-Key: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n", addr, r.Key().Reveal())
	in := bufio.NewReader(conn)
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, head)
		}
		head += line
	}
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "Upgrade: websocket\r\n") || !strings.Contains(head, "Connection: Upgrade\r\n") || strings.Contains(head, "Set-Cookie") {
		t.Errorf("the head is %q", head)
	}
	for _, line := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || got != strings.Repeat("x", len(firstToken))+" knows "+line {
			t.Errorf("over the new protocol came %d bytes, the token among them: %v, %v", len(got), strings.Contains(got, "canary"), err)
		}
	}
}

// What the proxy could not search, or could not see the requests of, is not asked
// for: compressed frames, and protocols other than that of a WebSocket (HTTP/2
// among them, in which a client could make requests that no rule looks at).
func TestReverseUpgradesToWebSocketsOnly(t *testing.T) {
	r := newReverseRig(t, seen, nil)
	_, got := r.get("/one/x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Extensions: permessage-deflate")
	if !strings.Contains(got, "Upgrade: websocket") || strings.Contains(got, "deflate") {
		t.Errorf("the API got %s", got)
	}
	for _, protocol := range []string{"h2c", "HTTP/2.0", "websocket, h2c", "TLS/1.0"} {
		_, got = r.get("/one/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: "+protocol, "HTTP2-Settings: AAMAAABkAAQAAP__")
		if !strings.HasPrefix(got, "GET /v1/x\n") || strings.Contains(got, "Upgrade") || strings.Contains(got, "Http2") {
			t.Errorf("with %s the API got %s", protocol, got)
		}
	}
}
