package peers_test

import (
	"os"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

func TestTerminal(t *testing.T) {
	env := []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello there", "LANG=C.UTF-8"}
	term := peers.Terminal(t, 60, 12, env, "sh", "-c", `
		printf '%s, your name? ' "$GREETING"; read -r name
		echo "<$name> on $(stty size) with ${HOME-no home}"
		stty -echo; printf 'secret? '; read -r s; stty echo; echo; echo "${#s} characters"
		exit 7`)
	term.WaitFor("hello there, your name?")
	term.Type("Ada; Lovelace é")
	term.WaitFor("Lovelace é")
	term.Send("Enter")
	term.WaitFor("<Ada; Lovelace é> on 12 60 with no home")
	term.WaitFor("secret?")
	term.Paste("correct horse")
	term.Send("Enter")
	term.WaitFor("13 characters")
	if code := term.WaitExit(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	if screen := term.Screen(); strings.Contains(screen, "horse") {
		t.Error("what was typed without echo is on the screen")
	}
}

func TestTerminalSignalsAndSize(t *testing.T) {
	term := peers.Terminal(t, 80, 24, []string{"PATH=" + os.Getenv("PATH")}, "sh", "-c",
		`trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done`)
	term.WaitFor("ready")
	term.Resize(40, 10)
	term.WaitFor("10 40")
	term.Send("C-c")
	if code := term.WaitExit(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}
