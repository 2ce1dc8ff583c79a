package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

const authHeader = "Authorization: Bearer " + testPlaceholder

// body gives size bytes that look like data.
func body(size int64) io.Reader {
	return io.LimitReader(endless(strings.Repeat("0123456789abcdef", 4096)), size)
}

type endless string

func (e endless) Read(p []byte) (int, error) { return copy(p, e), nil }

// heap is what is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Large bodies pass in both directions without being kept.
func TestLargeBodiesAreNotKept(t *testing.T) {
	const size = 16 << 20
	for _, h2 := range []bool{false, true} {
		r := newEgressRig(t)
		r.serveBare(apiHost, h2, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			n, err := io.Copy(io.Discard, req.Body)
			if err != nil || req.Header.Get("Authorization") != "Bearer "+testToken {
				t.Errorf("%d bytes arrived, %v", n, err)
			}
			w.Header().Set("X-Got", fmt.Sprint(n))
			w.Header().Set("X-Heap", fmt.Sprint(heap()))
			_, _ = io.Copy(w, body(size))
		}))
		r.start()
		before := heap()
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://"+apiHost+"/", body(size))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testPlaceholder)
		resp, err := r.client(h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyN(io.Discard, resp.Body, size-100)
		after := heap()
		rest, _ := io.Copy(io.Discard, resp.Body)
		n += rest
		if err != nil || n != size || resp.Header.Get("X-Got") != fmt.Sprint(int64(size)) {
			t.Errorf("http2 %v: %d bytes came back, %s arrived, %v", h2, n, resp.Header.Get("X-Got"), err)
		}
		_ = resp.Body.Close()
		during, _ := strconv.ParseInt(resp.Header.Get("X-Heap"), 10, 64)
		if grown := max(during, after) - before; during == 0 || grown > size/2 {
			t.Errorf("http2 %v: the heap grew by %d bytes", h2, grown)
		}
	}
}

// Events arrive when they happen, and the end of the child ends the request.
func TestEventsFlow(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newEgressRig(t)
		next, gone := make(chan string), make(chan struct{})
		r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			for {
				select {
				case text := <-next:
					_, _ = io.WriteString(w, text)
					w.(http.Flusher).Flush()
				case <-req.Context().Done():
					close(gone)
					return
				}
			}
		}))
		r.start()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+apiHost+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testPlaceholder)
		resp, err := r.client(h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(resp.Body)
		for i := range 3 {
			next <- fmt.Sprintf("data: %d %s\n", i, testToken)
			if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d %s\n", i, testPlaceholder) {
				t.Fatalf("event %d: %v, and the text is not what it should be", i, err)
			}
		}
		_ = resp.Body.Close()
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			t.Error("the API did not learn that the child is gone")
		}
	}
}

// Over HTTP/2 both sides may speak at once, as gRPC does.
func TestBothWaysAtOnce(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		in := bufio.NewReader(req.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				break
			}
			_, _ = io.WriteString(w, "got "+line)
			w.(http.Flusher).Flush()
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	r.start()
	body, say := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+apiHost+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testPlaceholder)
	req.Header.Set("Te", "trailers")
	resp, err := r.client(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintf(say, "%d\n", i)
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("got %d\n", i) {
			t.Fatalf("line %d: %q %v", i, line, err)
		}
	}
	_ = say.Close()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("the end: %q, %v, %v", rest, err, resp.Trailer)
	}
	if !strings.Contains(r.arrived(apiHost), "Te: trailers") {
		t.Error("the API did not learn that trailers are welcome")
	}
}

// A placeholder in the middle of a long body ends the request before its bytes
// have left, and the child learns why.
func TestPlaceholderInAStream(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newEgressRig(t)
		ended := make(chan error, 1)
		r.serve(apiHost, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			_, err := io.Copy(io.Discard, req.Body)
			ended <- err
		}))
		r.start()
		text := io.MultiReader(body(300<<10), strings.NewReader(testPlaceholder[:9]), strings.NewReader(testPlaceholder[9:]+"&end"))
		got := r.send(r.client(h2), "POST", "https://"+apiHost+"/", text, authHeader)
		if got.StatusCode != 403 || !strings.Contains(got.body, "stands in the body") {
			t.Errorf("http2 %v: %d %s", h2, got.StatusCode, got.body)
		}
		if err := <-ended; err == nil {
			t.Errorf("http2 %v: the API took the request for a whole one", h2)
		}
		if arrived := r.arrived(apiHost); strings.Contains(arrived, testPlaceholder[:6]) || strings.Contains(arrived, "&end") {
			t.Errorf("http2 %v: the placeholder arrived", h2)
		}
	}
}

func TestPlaceholderInATrailer(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newEgressRig(t)
		ended := make(chan error, 1)
		r.serve(apiHost, http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			_, err := io.Copy(io.Discard, req.Body)
			if err == nil && req.Trailer.Get("X-End") == "" {
				err = io.ErrUnexpectedEOF
			}
			ended <- err
		}))
		r.start()
		for value, status := range map[string]int{"fine": 200, testPlaceholder: 403} {
			req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+apiHost+"/", io.MultiReader(strings.NewReader("text")))
			if err != nil {
				t.Fatal(err)
			}
			req.Trailer = http.Header{"X-End": {value}}
			resp, err := r.client(h2).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if err := <-ended; resp.StatusCode != status || (err == nil) != (status == 200) {
				t.Errorf("http2 %v: %d, and the API saw %v", h2, resp.StatusCode, err)
			}
		}
	}
}

// A client that asks first is answered by the API, not by us.
func TestExpectContinue(t *testing.T) {
	r := newEgressRig(t)
	r.serveBare(apiHost, false, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprint(w, n)
	}))
	r.start()
	for path, want := range map[string]string{"/yes": "100 then 200", "/no": "413"} {
		conn := r.secure(apiHost)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\n%s\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", path, apiHost, authHeader)
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(resp.StatusCode)
		if resp.StatusCode == 100 {
			_, _ = io.WriteString(conn, "hello")
			if resp, err = http.ReadResponse(in, nil); err != nil {
				t.Fatal(err)
			}
			got += " then " + fmt.Sprint(resp.StatusCode)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// secure opens a tunnel to a pinned host, and TLS in it.
func (r *egressRig) secure(host string) *tls.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.egress.Addr())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", host, r.auth())
	if resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 {
		r.t.Fatal("CONNECT failed")
	}
	pool := r.roots.Clone()
	pool.AppendCertsFromPEM(r.egress.CA())
	return tls.Client(conn, &tls.Config{ServerName: host, RootCAs: pool})
}

// Answers without a body, parts and conditions are passed on as they are.
func TestAnswersOfAllKinds(t *testing.T) {
	r := newEgressRig(t)
	text := strings.Repeat("0123456789", 10000)
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		case "/bare":
			w.Header()["Content-Type"], w.Header()["Date"] = nil, nil
			_, _ = io.WriteString(w, "<html>")
		case "/headers":
			fmt.Fprint(w, req.Header)
		case "/broken":
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, "not all")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/short":
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "short")
			panic(http.ErrAbortHandler)
		default:
			http.ServeContent(w, req, "a.txt", time.Unix(1e9, 0), strings.NewReader(text))
		}
	}))
	r.start()
	for _, h2 := range []bool{false, true} {
		c := r.client(h2)
		get := func(method, path string, headers ...string) answer {
			return r.send(c, method, "https://"+apiHost+path, nil, append(headers, authHeader)...)
		}
		if got := get("HEAD", "/"); got.StatusCode != 200 || got.ContentLength != int64(len(text)) || got.body != "" {
			t.Errorf("HEAD: %d, length %d, %d bytes", got.StatusCode, got.ContentLength, len(got.body))
		}
		if got := get("GET", "/"); got.ContentLength != int64(len(text)) || got.body != text {
			t.Errorf("GET: length %d, %d bytes", got.ContentLength, len(got.body))
		}
		if got := get("GET", "/", "Range: bytes=10-19"); got.StatusCode != 206 || got.body != "0123456789" || got.Header.Get("Content-Range") != "bytes 10-19/100000" {
			t.Errorf("a part: %d %q", got.StatusCode, got.body)
		}
		if got := get("GET", "/204"); got.StatusCode != 204 || got.body != "" {
			t.Errorf("204: %d", got.StatusCode)
		}
		if got := get("GET", "/304"); got.StatusCode != 304 || got.Header.Get("ETag") != `"x"` {
			t.Errorf("304: %d", got.StatusCode)
		}
		if got := get("GET", "/bare"); len(got.Header["Content-Type"]) > 0 || len(got.Header["Date"]) > 0 {
			t.Errorf("something was added: %v", got.Header)
		}
		if got := get("GET", "/short"); got.StatusCode != 502 {
			t.Errorf("a small answer that broke off: %d %q", got.StatusCode, got.body)
		}
		if got := get("GET", "/broken"); !strings.Contains(got.body, "read: ") {
			t.Error("an answer that broke off looks whole")
		}
		if got := get("GET", "/headers", "Proxy-Secret: a", "Keep-Alive: b", "X-Mine: c", "Cookie: d=e"); strings.Contains(got.body, "Proxy") || strings.Contains(got.body, "Keep") ||
			!strings.Contains(got.body, "X-Mine:[c]") || !strings.Contains(got.body, "Cookie:[d=e]") || strings.Contains(got.body, "Go-http-client") != true {
			t.Errorf("the API saw %s", got.body)
		}
	}
}

// Many requests share a connection to the proxy, and connections to the API are
// used again.
func TestConnectionsAreUsedAgain(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing(), func(s *httptest.Server) { s.EnableHTTP2 = false })
	r.start()
	c := r.client(false)
	for range 20 {
		if got := r.send(c, "GET", "https://"+apiHost+"/", nil, authHeader); got.StatusCode != 200 {
			t.Fatalf("%d %s", got.StatusCode, got.body)
		}
	}
	if len(r.dialed) != 1 {
		t.Errorf("the API was dialled %d times", len(r.dialed))
	}
}

// A WebSocket gets its token in the handshake, an echo in its frames is blotted
// out, and the frames stay whole.
func TestWebSocket(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Sec-Websocket-Extensions") != "" {
			t.Errorf("the API was asked for %v", req.Header["Upgrade"])
		}
		conn, buf, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Echo: %s\r\n\r\n", req.Header.Get("Authorization"))
		frame := append([]byte{0x81, byte(len(testToken) + 2)}, "<"+testToken+">"...)
		_, _ = buf.Write(frame)
		_ = buf.Flush()
		_, _ = io.CopyN(conn, buf, 11) // an echo
	}))
	r.start()
	conn := r.secure(apiHost)
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET /live HTTP/1.1\r\nHost: %s\r\n%s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", apiHost, authHeader)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("the handshake failed: %v", err)
	}
	if resp.Header.Get("X-Echo") != "Bearer "+testPlaceholder || resp.Header.Get("Connection") != "Upgrade" {
		t.Error("the head is not what the child should see")
	}
	frame := make([]byte, len(testToken)+4)
	if _, err := io.ReadFull(in, frame); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(frame, []byte(testToken)) || frame[1] != byte(len(testToken)+2) || frame[2] != '<' || frame[len(frame)-1] != '>' {
		t.Error("the frame is not what the child should see")
	}
	_, _ = io.WriteString(conn, "child bytes")
	echo := make([]byte, 11)
	if _, err := io.ReadFull(in, echo); err != nil || string(echo) != "child bytes" {
		t.Errorf("%q %v", echo, err)
	}
	if !strings.Contains(r.arrived(apiHost), "Bearer "+testToken) {
		t.Error("the token did not arrive")
	}
}
