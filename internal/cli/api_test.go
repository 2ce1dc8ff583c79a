package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// an answer cannot steer the terminal that shows it, wherever its pieces
// begin and end.
func TestAnswersAtATerminal(t *testing.T) {
	answer := []byte("{\"n\":\"J\u00fcrg \U0001F600\"}\r\n\x1b]0;t\a\x1b[2J\u009b31m\u202e\u2066\t\xff.\n")
	want := "{\"n\":\"J\u00fcrg \U0001F600\"}\n]0;t[2J31m\t.\n"
	for size := 1; size <= len(answer); size++ {
		var out bytes.Buffer
		w := &plainWriter{out: &out}
		for rest := answer; len(rest) > 0; {
			n := min(size, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if out.String() != want {
			t.Fatalf("in pieces of %d: %q, want %q", size, out.String(), want)
		}
	}
}

// At a terminal JSON is indented, and whatever it is cannot steer it; elsewhere it
// comes byte for byte.
func TestAnswersAreIndentedAtATerminal(t *testing.T) {
	for _, c := range []struct {
		mime, body, terminal string
	}{
		{"application/json", `{"b":1.0,"a":["x"],"n":12345678901234567890}`, "{\n  \"b\": 1.0,\n  \"a\": [\n    \"x\"\n  ],\n  \"n\": 12345678901234567890\n}\n"},
		{"application/vnd.api+json; charset=utf-8", "[1]\n\n", "[\n  1\n]\n"},
		{"application/json", "{broken\x1b[2J", "{broken[2J"},
		{"application/json", "", ""},
		{"text/plain", `{"a":1}`, `{"a":1}`},
		{"application/json", `["` + strings.Repeat("x", maxPretty) + `"]`, `["` + strings.Repeat("x", maxPretty) + `"]`},
	} {
		for _, tty := range []bool{true, false} {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", c.mime)
				_, _ = io.WriteString(w, c.body)
			}))
			var out bytes.Buffer
			ws := &workspace{app: &App{Stdout: &out, StdoutTTY: tty, Now: time.Now}}
			access := connection.Access{Token: secret.New("canary"), Header: connection.Header{Pins: providers.Pins{
				APIBase: server.URL, APIHosts: []string{strings.TrimPrefix(server.URL, "http://")}, AllowInsecureLoopback: true,
				APIAuth: providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "},
			}}}
			opts := &apiOptions{Path: "me"}
			request, err := ws.apiRequest(opts, &access.Header.Pins, nil)
			if err != nil {
				t.Fatal(err)
			}
			caller, err := ws.caller(t.Context(), access)
			if err != nil {
				t.Fatal(err)
			}
			o := &apiOutput{ws: ws, opts: opts}
			if err := o.answer(t.Context(), caller, request); err != nil {
				t.Fatal(err)
			}
			want := c.body
			if tty {
				want = c.terminal
			}
			if out.String() != want {
				t.Errorf("%s, terminal %v: %.80q, want %.80q", c.mime, tty, out.String(), want)
			}
			server.Close()
		}
	}
}

// no line of a message begins like the command of a CI system, which pass
// over blanks at its beginning.
func TestNoCommandsInMessages(t *testing.T) {
	hostile := strings.Repeat("x", 70) + " ::add-mask::y ##[error]z " + strings.Repeat("z", 70) + " ##vso[task] ::stop-commands::a\n::set-env::b"
	var b bytes.Buffer
	writeWrapped(&b, "apiauth: error: ", hostile)
	for _, l := range wrap(oauthCleanLong(hostile), 70) {
		b.WriteString("  " + l + "\n")
	}
	for line := range strings.Lines(b.String()) {
		if l := strings.TrimSpace(line); strings.HasPrefix(l, "::") || strings.HasPrefix(l, "##") {
			t.Errorf("a line begins with %q", l)
		}
	}
}
