package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func TestAPIAddress(t *testing.T) {
	pins := &providers.Pins{APIBase: "https://api.example.com/v4", APIHosts: []string{"api.example.com"}}
	for path, want := range map[string]string{
		"projects/group%2Fname":                 "https://api.example.com/v4/projects/group%2Fname",
		"/me?a=b%2Fc&d=https://x.example/#f":    "https://api.example.com/v4/me?a=b%2Fc&d=https://x.example/",
		"people:search":                         "https://api.example.com/v4/people:search",
		"https://api.example.com/v5/x":          "https://api.example.com/v5/x",
		"https://API.example.com:443/v5/%2e%":   "",
		"":                                      "https://api.example.com/v4/",
		"//api.example.com/me":                  "",
		"../v5/me":                              "",
		"x/%2e%2e/%2E%2E/y":                     "",
		`\\evil.example\me`:                     "",
		"https://api.example.com@evil.example/": "",
		"https://evil.example/":                 "",
		"https://api.example.com.evil.example/": "",
		"https://api.example.com:8443/":         "",
		"http://api.example.com/":               "",
		"https://user@api.example.com/":         "",
	} {
		got, err := apiURL(pins, path)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was taken as %s", path, got)
		case want != "" && err != nil:
			t.Errorf("%q: %v", path, err)
		case want != "" && got.String() != want:
			t.Errorf("%q is %s, want %s", path, got, want)
		}
	}
}

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
