//go:build unix

package placeholder

import (
	"strings"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// An isolated command at a terminal has one of its own: it knows the size, jobs
// and Ctrl-C work, and what it types into its terminal (TIOCSTI) does not get to
// the shell that waits outside.
func TestIsolatedTerminal(t *testing.T) {
	t.Parallel()
	bubblewrap(t)
	w := newWorld(t, nil)
	w.file("type.py", `import fcntl, os, sys, termios
try:
    for c in b"echo typed\n":
        fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), termios.TIOCSTI, bytes([c]))
except OSError:
    sys.exit(1) # new kernels refuse it
`)
	env := append(w.env(), "TERM=xterm-256color", "PS1=outer> ")
	term := peers.Terminal(t, 100, 30, env, "sh", "-c", "cd "+w.dir+" && exec bash --norc")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(term.History())
		}
	})
	type line struct{ text, want string }
	term.WaitFor("outer>")
	for _, l := range []line{
		{peers.Binary() + " exec --isolate -- env PS1='in''ner> ' bash --norc", "inner>"},
		{"stty size; echo size", "30 100\nsize\ninner>"},
		{"sh -c 'echo begun; exec sleep 1000'", "^C\ninner>"},
		{"sh -c 'echo again; exec sleep 1001'", "Stopped"},
		{"kill %1; echo of jobs", "of jobs\n"},
		{"python3 type.py || echo typed", "\ntyped\ninner>"},
		{"exit 7", "exit\nouter>"},
		{"echo code $?", "code 7"},
	} {
		term.Type(l.text)
		term.Send("Enter")
		switch {
		case strings.Contains(l.text, "begun"):
			term.WaitFor("\nbegun")
			term.Send("C-c")
		case strings.Contains(l.text, "again"):
			term.WaitFor("\nagain")
			term.Send("C-z")
		}
		term.WaitFor(l.want)
	}
	if _, after, _ := strings.Cut(term.History(), "code 7"); strings.Contains(after, "typed") {
		t.Error("the command typed for the shell outside")
	}
	term.Type("exit")
	term.Send("Enter")
	if code := term.WaitExit(); code != 0 {
		t.Errorf("the shell outside ended with %d", code)
	}
}
