//go:build linux

package crash

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// whatever a token endpoint answers, the credential stays as
// it is, a command makes four requests at most, needs little memory, prints
// nothing that a terminal would obey, and its exit code tells a temporary
// failure (3) from a lost grant (4) and from a refused client (2). When the
// issuer is well again, the same store works without a login.
func TestFailingIssuer(t *testing.T) {
	is := newIssuer(t, strict())
	h := withFile(t, is)
	canTrace(t, h)
	type attempt struct {
		mode
		conn, token string
		x           traced
	}
	var all []*attempt
	for _, m := range modes() {
		conn, token := h.expired()
		is.setFault(token, m.fault)
		all = append(all, &attempt{mode: m, conn: conn, token: token})
	}
	if len(all) < 40 {
		t.Errorf("%d ways to fail", len(all))
	}
	var running sync.WaitGroup
	for _, a := range all {
		running.Go(func() { a.x = h.trace(tracing{signals: true}, "token", a.conn) })
	}
	t.Parallel() // some take half a minute: others need not
	running.Wait()
	for _, a := range all {
		t.Run(a.name, func(t *testing.T) {
			h, r := h.as(t), a.x
			t.Logf("exit code %d, %d requests, %v, %d MiB: %s", r.code, is.asked(a.token), r.elapsed.Round(time.Millisecond), r.peak>>10, r.flat())
			if r.code != a.code {
				t.Errorf("exit code %d instead of %d: %s", r.code, a.code, r.redacted())
			}
			if n := is.asked(a.token); n < 1 || n > 4 {
				t.Errorf("%d requests", n)
			}
			if r.peak == 0 || r.peak > 200<<10 {
				t.Errorf("%d KiB of memory", r.peak)
			}
			if r.elapsed > 75*time.Second {
				t.Errorf("it took %v", r.elapsed)
			}
			harmless(t, r.out+r.err)
			noTrace(t, r.result)

			is.setFault(a.token, nil)
			if a.ends {
				asked := is.asked(a.token)
				if r := h.run("token", a.conn); r.code != 4 || is.asked(a.token) != asked {
					t.Errorf("after a refusal, with %d more requests: %s", is.asked(a.token)-asked, r.redacted())
				}
				rec, err := h.store.Read(t.Context(), h.key(a.conn))
				if err != nil || !is.Active(rec.Body.Refresh) {
					t.Errorf("the refresh token was not kept: %v", err)
				}
				return
			}
			h.mustLive(a.conn)
		})
	}
	if st := is.Stats(); st.Reuse != 0 {
		t.Errorf("%d reuses", st.Reuse)
	}
}

// the answer to a refresh that was carried out gets lost. It is
// asked for once more with the same token, and no oftener; an issuer with a
// grace period makes up for it.
func TestAnswersLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ lost, code, asked int }{{1, 0, 2}, {2, 3, 2}, {3, 3, 2}} {
		t.Run(fmt.Sprint(c.lost), func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, grace())
			h := withFile(t, is)
			name, token := h.expired()
			is.loseAnswers(token, c.lost)
			r := h.run("token", name)
			if r.code != c.code || is.asked(token) != c.asked {
				t.Errorf("%d requests: %s", is.asked(token), r.redacted())
			}
			h.mustLive(name)
			if st := is.Stats(); st.Reuse != 0 {
				t.Errorf("%d reuses", st.Reuse)
			}
		})
	}
}

// the refresh was carried out and replaced the refresh token, and
// the answer is of no use but for the new one. A strict issuer takes no other
// from now on: it must not be thrown away with the rest.
func TestSpoiltAnswers(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	for name, spoil := range map[string]func(map[string]any){
		"no access token":           func(a map[string]any) { delete(a, "access_token") },
		"access token is null":      func(a map[string]any) { a["access_token"] = nil },
		"access token is a number":  func(a map[string]any) { a["access_token"] = 7 },
		"access token with escapes": func(a map[string]any) { a["access_token"] = "\x1b[2J\r\n" },
		"another type":              func(a map[string]any) { a["token_type"] = "mac" },
		"type is a list":            func(a map[string]any) { a["token_type"] = []any{"Bearer"} },
		"lives for ever":            func(a map[string]any) { a["expires_in"] = 1e300 },
		"ended before it began":     func(a map[string]any) { a["expires_in"] = -3600 },
		"lives until soon":          func(a map[string]any) { a["expires_in"] = "soon" },
		"lives an object":           func(a map[string]any) { a["expires_in"] = map[string]any{} },
		"scope is a number":         func(a map[string]any) { a["scope"] = 7 },
		"scope with escapes":        func(a map[string]any) { a["scope"] = "items.read \x1b[2J" },
	} {
		t.Run(name, func(t *testing.T) {
			h := h.as(t)
			conn, token := h.expired()
			is.spoilAnswers(token, spoil)
			r := h.run("token", conn)
			t.Logf("exit code %d: %s", r.code, r.flat())
			if r.code != 3 && (r.code != 0 || !is.Active(r.token())) || is.asked(token) != 1 {
				t.Errorf("%d requests: %s", is.asked(token), r.redacted())
			}
			harmless(t, r.out+r.err)
			h.mustLive(conn)
		})
	}
	if st := is.Stats(); st.Reuse != 0 {
		t.Errorf("%d reuses", st.Reuse)
	}
}

// The issuer is not there at all, and then it is.
func TestIssuerGone(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	name, _ := h.expired()
	addr := is.addr
	is.down()
	r := h.run("token", name)
	if r.code != 3 || r.out != "" {
		t.Error(r.redacted())
	}
	is.up(addr)
	h.mustLive(name)
	if st := is.Stats(); st.Reuse != 0 {
		t.Errorf("%d reuses", st.Reuse)
	}
}

// harmless looks for what a terminal or a CI log would obey.
func harmless(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Error("the output is no UTF-8")
	}
	for _, r := range text {
		if r != '\n' && (r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			t.Errorf("the output holds %U", r)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Error("a line of the output begins like a CI command")
		}
	}
}

// mode is one way to fail.
type mode struct {
	name  string
	code  int  // the exit code
	ends  bool // a person must log in again
	fault fault
}

func modes() []mode {
	const (
		jsonType = "application/json"
		escapes  = "\x1b]0;owned\a\x1b[31m\r\n::add-mask::x\u202e\u0000"
	)
	answer := func(status int, kind, body string, headers ...string) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Content-Type", kind)
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	raw := func(send func(net.Conn)) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ int) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			defer func() { _ = conn.Close() }()
			_ = conn.SetDeadline(time.Now().Add(patience))
			send(conn)
		}
	}
	bytesOf := func(text string) fault {
		return raw(func(c net.Conn) { _, _ = c.Write([]byte(text)) })
	}
	flood := func(head, part string, most int) fault {
		return raw(func(c net.Conn) {
			block := bytes.Repeat([]byte(part), 1+(64<<10)/len(part))
			if _, err := c.Write([]byte(head)); err != nil {
				return
			}
			for sent := 0; sent < most; sent += len(block) {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		})
	}
	drip := func(head, part string) fault {
		return raw(func(c net.Conn) {
			_, _ = c.Write([]byte(head))
			tick := time.NewTicker(200 * time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if _, err := c.Write([]byte(part)); err != nil {
					return
				}
			}
		})
	}
	bomb := func() string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		zeros := make([]byte, 1<<20)
		for range 300 {
			_, _ = z.Write(zeros)
		}
		_ = z.Close()
		return b.String()
	}
	once := func(first fault, status int, body string) fault {
		return func(w http.ResponseWriter, r *http.Request, n int) {
			if n == 1 {
				first(w, r, n)
				return
			}
			answer(status, jsonType, body)(w, r, n)
		}
	}
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	return []mode{
		{"500", 3, false, answer(500, "text/plain", "")},
		{"501", 3, false, answer(501, "text/plain", "not here")},
		{"502 with a page", 3, false, answer(502, "text/html", "<h1>Bad gateway</h1>")},
		{"503 asks to wait a second", 3, false, answer(503, "text/html", "<h1>Maintenance</h1>", "Retry-After", "1")},
		{"504", 3, false, answer(504, "text/plain", "")},
		{"429 asks to wait a second", 3, false, answer(429, "text/plain", "", "Retry-After", "1")},
		{"429 asks to wait for ever", 3, false, answer(429, "text/plain", "", "Retry-After", "999999999999")},
		{"429 asks to wait until 2099", 3, false, answer(429, "text/plain", "", "Retry-After", "Thu, 01 Jan 2099 00:00:00 GMT")},
		{"429 asks to wait for nonsense", 3, false, answer(429, "text/plain", "", "Retry-After", "-1e9"+"soon")},
		{"408", 3, false, answer(408, "text/plain", "")},
		{"error in a 200", 3, false, answer(200, jsonType, `{"error":"temporarily_unavailable"}`)},
		{"server_error", 3, false, answer(500, jsonType, `{"error":"server_error"}`)},
		{"temporarily_unavailable", 3, false, answer(400, jsonType, `{"error":"temporarily_unavailable"}`)},
		{"slow_down", 3, false, answer(429, jsonType, `{"error":"slow_down"}`)},
		{"empty", 3, false, answer(200, jsonType, "")},
		{"a page in a 200", 3, false, answer(200, "text/html", "<!doctype html><title>Sign in to the network</title>")},
		{"not found", 3, false, answer(404, "text/html", "<h1>Not found</h1>")},
		{"forbidden by a wall", 3, false, answer(403, "text/html", "<h1>Request blocked</h1>")},
		{"truncated JSON", 3, false, answer(200, jsonType, `{"access_token":"sbx_at_`)},
		{"shorter than announced", 3, false, bytesOf(ok + "Content-Length: 400\r\n\r\n{\"access_token\":\"x\"")},
		{"chunks cut off", 3, false, bytesOf(ok + "Transfer-Encoding: chunked\r\n\r\n10\r\n{\"access_token\":\r\n")},
		{"chunks of nonsense", 3, false, bytesOf(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")},
		{"access_token is a number", 3, false, answer(200, jsonType, `{"access_token":12,"token_type":"Bearer"}`)},
		{"access_token is null", 3, false, answer(200, jsonType, `{"access_token":null,"token_type":"Bearer"}`)},
		{"no access_token", 3, false, answer(200, jsonType, `{"token_type":"Bearer","expires_in":3600}`)},
		{"access_token is an object", 3, false, answer(200, jsonType, `{"access_token":{"a":"b"},"token_type":"Bearer"}`)},
		{"access_token twice", 3, false, answer(200, jsonType, `{"access_token":"one","access_token":"two","token_type":"Bearer"}`)},
		{"line breaks in the token", 3, false, answer(200, jsonType, `{"access_token":"a\r\nX-Evil: 1","token_type":"Bearer"}`)},
		{"another token type", 3, false, answer(200, jsonType, `{"access_token":"a","token_type":"mac"}`)},
		{"an array", 3, false, answer(200, jsonType, `[{"access_token":"a"}]`)},
		{"no UTF-8", 3, false, answer(200, jsonType, "{\"access_token\":\"\xff\xfe\"}")},
		{"300,000 levels deep", 3, false, answer(200, jsonType, strings.Repeat("[", 300000))},
		{"1 GiB", 3, false, flood(ok+"Content-Length: 1073741824\r\n\r\n{\"access_token\":\"", "a", 1<<30)},
		{"endless chunks", 3, false, flood(ok+"Transfer-Encoding: chunked\r\n\r\n", "10\r\naaaaaaaaaaaaaaaa\r\n", 1<<30)},
		{"a gzip bomb of 300 MB", 3, false, answer(200, jsonType, bomb(), "Content-Encoding", "gzip")},
		{"endless header", 3, false, flood("HTTP/1.1 200 OK\r\n", "X-Fill: aaaaaaaaaaaaaaaa\r\n", 1<<30)},
		{"one long header line", 3, false, flood("HTTP/1.1 200 OK\r\nX-Fill: ", "a", 1<<30)},
		{"100 Continue without end", 3, false, flood("", "HTTP/1.1 100 Continue\r\n\r\n", 16<<20)},
		{"307 to another host", 3, false, answer(307, "text/plain", "", "Location", "http://127.0.0.1:1/token")},
		{"302 to a login", 3, false, answer(302, "text/plain", "", "Location", "/login")},
		{"no HTTP", 3, false, bytesOf("SSH-2.0-OpenSSH_9.2\r\n")},
		{"binary", 3, false, bytesOf("\x16\x03\x01\x00\xff\x00\x1b[2J\x07")},
		{"status out of range", 3, false, bytesOf("HTTP/1.1 999 \x1b[2J\r\nContent-Length: 0\r\n\r\n")},
		{"half a status line", 3, false, bytesOf("HTTP/1.1 20")},
		{"closed without a word", 3, false, bytesOf("")},
		{"reset", 3, false, raw(func(c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		})},
		{"escape sequences in the error", 1, false, answer(400, jsonType, `{"error":"invalid_request","error_description":"\u001b]0;owned\u0007\u001b[31m\r\n::add-mask::x\u202e"}`)},
		{"escape sequences in the code", 1, false, answer(400, jsonType, "{\"error\":\"bad\\u001b[2J\\r\\n::set-env\",\"error_uri\":\"https://x/\\u001b[2J\"}")},
		{"escape sequences in a page", 3, false, answer(500, "text/html", escapes)},
		{"unknown client", 2, false, answer(401, jsonType, `{"error":"invalid_client"}`, "WWW-Authenticate", `Basic realm="x"`)},
		{"escape sequences in a header", 3, false, answer(401, jsonType, `{"error":"invalid_client"}`, "WWW-Authenticate", "Basic realm=\"\x1b[2J\"")},
		{"unauthorized client", 2, false, answer(400, jsonType, `{"error":"unauthorized_client"}`)},
		{"unsupported grant type", 1, false, answer(400, jsonType, `{"error":"unsupported_grant_type"}`)},
		{"invalid scope", 1, false, answer(400, jsonType, `{"error":"invalid_scope"}`)},
		{"invalid_grant, then 503", 3, false, once(answer(400, jsonType, `{"error":"invalid_grant"}`), 503, "")},
		{"503, then invalid_grant", 4, true, once(answer(503, "text/plain", ""), 400, `{"error":"invalid_grant"}`)},
		{"invalid_grant", 4, true, answer(400, jsonType, `{"error":"invalid_grant","error_description":"`+strings.Repeat("x", 100000)+`"}`)},
		{"hangs", 3, false, raw(func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })},
		{"drips its header", 3, false, drip("HTTP/1.1 200 OK\r\n", "X: y\r\n")},
		{"drips its body", 3, false, drip(ok+"Content-Length: 100000\r\n\r\n", " ")},
	}
}
