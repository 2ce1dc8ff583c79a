package cli

import (
	"bytes"
	"strings"
	"testing"
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
