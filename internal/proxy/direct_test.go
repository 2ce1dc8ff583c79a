package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

// rawAPI is an API that writes its answers byte by byte. It hands the number of
// the connection and of the request on it to answer, which returns what to send
// and whether to hang up.
func rawAPI(t *testing.T, answer func(conn, request int) (text string, hangUp bool)) (o func(*ReverseOptions), conns *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conns = new(atomic.Int32)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(conns.Add(1))
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for request := 1; ; request++ {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					text, hangUp := answer(n, request)
					if _, err := io.WriteString(c, text); err != nil || hangUp {
						return
					}
				}
			}()
		}
	}()
	return func(o *ReverseOptions) {
		o.Routes[0].Base, o.Routes[0].Hosts = "http://"+l.Addr().String(), []string{l.Addr().String()}
	}, conns
}

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestDirectKeepsConnections(t *testing.T) {
	change, conns := rawAPI(t, func(int, int) (string, bool) { return okAnswer, false })
	r := newReverseRig(t, nil, change)
	// This API sends a body to HEAD, which must not be taken for the beginning of
	// the next answer.
	if resp, _ := r.do(r.request(http.MethodHead, "/one/x", nil)); resp.StatusCode != 200 {
		t.Fatalf("HEAD: status %d", resp.StatusCode)
	}
	if resp, body := r.get("/one/x"); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("after an answer with too much in it: status %d, %q", resp.StatusCode, body)
	}
	before := conns.Load()
	for range 5 {
		r.get("/one/x")
	}
	if n := conns.Load() - before; n != 0 {
		t.Errorf("%d more connections for 5 requests in a row", n)
	}
}

// TestDirectStaleConnection: a server may close a kept connection whenever it
// likes.
func TestDirectStaleConnection(t *testing.T) {
	change, conns := rawAPI(t, func(_, request int) (string, bool) {
		if request == 2 {
			return "", true
		}
		return okAnswer, false
	})
	r := newReverseRig(t, nil, change)
	for i := range 4 {
		if resp, body := r.get("/one/x"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("request %d: status %d, %q", i+1, resp.StatusCode, body)
		}
	}
	if n := conns.Load(); n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}

func TestDirectAnswers(t *testing.T) {
	for _, c := range []struct {
		name, text string
		status     int
		body       string
		conns      int32 // for two requests
	}{
		{"early hints come first", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + okAnswer, 200, "ok", 1},
		{"the server closes", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200, "ok", 2},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", 2},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, "ok", 1},
		{"another answer that nobody asked for", okAnswer + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200, "ok", 2},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", 1},
		{"no HTTP", "SSH-2.0-x\r\n\r\n", 502, "", 2},
		{"another protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 502, "", 2},
		{"a head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswerHead+100) + "\r\n\r\n", 502, "", 2},
	} {
		change, conns := rawAPI(t, func(int, int) (string, bool) { return c.text, false })
		r := newReverseRig(t, nil, change)
		for range 2 {
			resp, body := r.get("/one/x")
			if resp.StatusCode != c.status || c.status < 300 && body != c.body {
				t.Errorf("%s: status %d, %.40q", c.name, resp.StatusCode, body)
			}
		}
		if n := conns.Load(); n != c.conns {
			t.Errorf("%s: %d connections for two requests, want %d", c.name, n, c.conns)
		}
	}
}

// TestDirectClientGoesAway: the API is not kept busy for nobody.
func TestDirectClientGoesAway(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	r := newReverseRig(t, func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-req.Context().Done()
		close(gone)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	req := r.request(http.MethodGet, "/one/x", nil).WithContext(ctx)
	go func() {
		<-arrived
		cancel()
	}()
	if resp, err := r.client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("an answer came")
	}
	<-gone
}

// TestDirectSplitsNoHead: nothing that is put into a head begins another line.
func TestDirectSplitsNoHead(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api.example.com/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	insert(req, bearer(), secret.New("a\r\nX-Evil: 1"))
	if b, err := appendHead(nil, req); err == nil {
		t.Errorf("a token with a line end was written: %d bytes", len(b))
	}
	req.Header = http.Header{"X-A\r\nX-Evil": {"1"}}
	if _, err := appendHead(nil, req); err == nil {
		t.Error("a name with a line end was written")
	}
	req.Header = http.Header{"X-A": {"1"}}
	req.URL.RawQuery = "a=b\r\nX-Evil: 1"
	if _, err := appendHead(nil, req); err == nil {
		t.Error("a query with a line end was written")
	}
}
