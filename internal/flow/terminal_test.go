package flow_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/flow"
)

// Input that is no terminal is read the same way, without raw mode.
func TestReadLineRawKeys(t *testing.T) {
	const long = 65536
	cases := []struct {
		name, in, want string
		err            error
	}{
		{"a line", "hello\r", "hello", nil},
		{"a line feed", "hello\nmore", "hello", nil},
		{"an empty line", "\r", "", nil},
		{"no newline at the end", "hello", "hello", nil},
		{"backspace", "hex\x7fllp\bo\r", "hello", nil},
		{"backspace over a letter of two bytes", "hé\x7fello\r", "hello", nil},
		{"backspace at the start", "\x7f\x7fhello\r", "hello", nil},
		{"Ctrl-U", "wrong\x15hello\r", "hello", nil},
		{"arrow keys", "he\x1b[Dl\x1b[1;5Cl\x1bOAo\r", "hello", nil},
		{"Alt and a key", "he\x1bxllo\r", "hello", nil},
		{"control characters", "he\x01l\x02lo\r", "hello", nil},
		{"bracketed paste", "\x1b[200~hello\x1b[201~\r", "hello", nil},
		{"paste that ends with a line break", "\x1b[200~hello\r\n\x1b[201~", "hello", nil},
		{"paste with line breaks inside", "\x1b[200~he\r\nl\rl\no\x1b[201~\r", "hello", nil},
		{"two pastes", "\x1b[200~hel\x1b[201~\x1b[200~lo\x1b[201~\r", "hello", nil},
		{"empty paste", "\x1b[200~\n\x1b[201~hello\r", "hello", nil},
		{"long", strings.Repeat("x", long) + "\r", strings.Repeat("x", long), nil},
		{"too long", strings.Repeat("x", long+1) + "\r", "", flow.ErrTooLong},
		{"too long, then cleared", strings.Repeat("x", long+1) + "\x15hello\r", "hello", nil},
		{"Ctrl-C", "hel\x03lo\r", "", flow.ErrInterrupted},
		{"Escape, then Ctrl-C", "\x1b\x03", "", flow.ErrInterrupted},
		{"Ctrl-C in a sequence", "\x1b[1\x03", "", flow.ErrInterrupted},
		{"Escape, then Enter", "hello\x1b\r", "hello", nil},
		{"Escape twice", "hello\x1b\x1b[A\r", "hello", nil},
		{"Ctrl-D", "\x04", "", io.EOF},
		{"Ctrl-D in a line", "hel\x04lo\r", "hello", nil},
		{"nothing", "", "", io.EOF},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() { _, _ = io.WriteString(w, c.in); _ = w.Close() }()
			var out strings.Builder
			got, err := flow.ReadLineRaw(t.Context(), r, &out)
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("%d bytes %.40q, %v; want %.40q, %v", len(got), got, err, c.want, c.err)
			}
			if c.want != "" && strings.Contains(out.String(), c.want) {
				t.Error("what was typed was shown")
			}
		})
	}
}

func TestReadLineRawShowsACount(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, _ = io.WriteString(w, "héllo\r")
	_ = w.Close()
	var out strings.Builder
	if _, err := flow.ReadLineRaw(t.Context(), r, &out); err != nil || out.String() != "\r(5 characters received) \n" {
		t.Errorf("%v, showed %q", err, out.String())
	}
	if _, err := flow.ReadLineRaw(t.Context(), r, nil); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

func TestReadLineRawEndsWithItsContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if _, err := flow.ReadLineRaw(ctx, r, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the cancellation", err)
	}
}
