package cli

import (
	"errors"
	"strings"
	"testing"
	"unicode"
)

// whatever an error holds, its message cannot steer a terminal or a CI.
func TestMessagesCannotSteer(t *testing.T) {
	for _, hostile := range []string{
		"\x1b]0;title\x07", "\x1b[2J", "\u009b31m", "\u202egpj", "a\rb", "a\x00b\x7f", "\n::add-mask::x", "\n##vso[task.setvariable]x", "x\n\n::error::y",
	} {
		var b strings.Builder
		printError(&b, errors.New("the issuer says "+hostile+" and more"), "look at "+hostile)
		for line := range strings.Lines(b.String()) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, func(r rune) bool { return unicode.Is(unicode.C, r) }) {
				t.Errorf("%q is printed as %q", hostile, line)
			}
			if !strings.HasPrefix(line, "apiauth: ") && !strings.HasPrefix(line, "  ") {
				t.Errorf("%q makes a line of its own: %q", hostile, line)
			}
			if word := strings.TrimSpace(line); strings.HasPrefix(word, "::") || strings.HasPrefix(word, "##") {
				t.Errorf("%q makes a CI command: %q", hostile, line)
			}
		}
	}
}
