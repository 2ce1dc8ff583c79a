package inject

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/creack/pty"

	"github.com/apiauth/apiauth/test/peers"
)

// onPty runs a command on a pseudo-terminal of 80 by 24 and returns every byte
// that the terminal gets.
func onPty(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	out, _ := io.ReadAll(master) // ends with an error when the terminal is closed
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %q", err, out)
	}
	return out
}

// What a program writes to a terminal is what it writes without us, byte for
// byte, and what it wrote when it was captured.
func TestMaskedTerminalGetsTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"folder/x", "program", "file.tar.gz", "plain.txt"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, argv := range map[string][]string{
		"ls":       {"ls", "--color=auto", "-F"},
		"progress": {"sh", "-c", `for i in 10 40 70 100; do printf "\r\033[K%3d%% [\033[32m%s\033[m]" $i "####"; done; printf '\n\a\tend\t.\n'`},
		"question": {"sh", "-c", `stty -echo; printf 'Password: '; stty echo; printf 'a\0b\377\n'; tput setaf 1 bold; stty size; test -t 0 -a -t 1 -a -t 2`},
	} {
		t.Run(name, func(t *testing.T) {
			env := []string{"PATH=/usr/bin:/bin", "TERM=xterm-256color", "LC_ALL=C"}
			plain := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
			plain.Dir, plain.Env = dir, env
			want := onPty(t, plain)
			masked := wrapperAs(t, "masked", argv...)
			masked.Dir, masked.Env = dir, append(env, "INJECT_TEST_ROLE=masked", "GOCOVERDIR="+t.TempDir())
			if got := onPty(t, masked); !bytes.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			golden := filepath.Join("testdata", "terminal", name)
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(golden, want, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if kept, err := os.ReadFile(golden); err != nil || !bytes.Equal(kept, want) {
				t.Errorf("%q, want %q as captured, %v", want, kept, err)
			}
		})
	}
}

// Two signals of a kind may melt into one on their way, so that counting what
// arrives proves too little.
func TestTerminalKeysAreNotPassedOn(t *testing.T) {
	if got := string(onPty(t, wrapperAs(t, "reached"))); got != "true true true false false " {
		t.Errorf("INT, QUIT, TSTP, TERM, HUP have come from the terminal: %s", got)
	}
}

func TestMaskedTerminalMasks(t *testing.T) {
	out := onPty(t, wrapperAs(t, "masked", "sh", "-c", `echo "out $TOKEN"; echo "err $TOKEN" >&2; echo "tty $TOKEN" >/dev/tty; printf 'live-'; printf 'token'`))
	if string(out) != "out ***\r\nerr ***\r\ntty ***\r\n***" {
		t.Errorf("%d bytes, and not the masked ones", len(out))
	}
}

func TestMaskedEditor(t *testing.T) {
	vim := peers.Program(t, "apt-get install vim-tiny", "vim", "vim.tiny")
	term, self := inTerminal(t, "masked")
	file := filepath.Join(t.TempDir(), "file")
	term.Type("stty -g > ~/before; " + self + " " + vim + " -u NONE -i NONE -N " + file)
	term.Send("Enter")
	term.WaitFor("~\n~\n~\n")
	term.Type("ione")
	term.Send("Enter")
	term.Type("two")
	term.Send("Escape")
	term.Type(":r !echo $TOKEN")
	term.Send("Enter")
	term.WaitFor("one\ntwo\n***\n")
	term.Type(":wq")
	term.Send("Enter")
	term.WaitFor("file\n[0]>") // what is typed ahead goes to the editor
	term.Type("stty -g | diff ~/before - && echo same")
	term.Send("Enter")
	term.WaitFor("\nsame")
	// The file itself is the child's own affair.
	if text, err := os.ReadFile(file); err != nil || string(text) != "one\ntwo\nlive-token\n" {
		t.Error("the file is not what was typed", err)
	}
}

func TestMaskedPager(t *testing.T) {
	less := peers.Program(t, "apt-get install less", "less")
	term, self := inTerminal(t, "masked")
	term.Type("seq 1 100 | " + self + ` sh -c '(cat; echo $TOKEN) | ` + less + `'; echo status=$?`)
	term.Send("Enter")
	term.WaitFor("23\n:")
	term.Send("G") // keys come from the terminal: standard input is a pipe
	term.WaitFor("100\n***\n(END)")
	term.Send("q")
	term.WaitFor("status=0")
}

// A pager behind the pipe has the keyboard, although we have a child.
func TestResidentLeavesThePagerItsKeys(t *testing.T) {
	less := peers.Program(t, "apt-get install less", "less")
	for _, role := range []string{"resident", "masked"} {
		term, self := inTerminal(t, role)
		term.Type(self + " seq 1 100 | " + less + "; echo status=$?")
		term.Send("Enter")
		term.WaitFor("23\n:")
		term.Send("G")
		term.WaitFor("100\n(END)")
		term.Send("q")
		term.WaitFor("status=0")
	}
}

// In the background the keyboard is the shell's, and fg hands it over.
func TestMaskedJobInTheBackground(t *testing.T) {
	term, self := inTerminal(t, "masked")
	term.Type(self + ` sh -c 'echo be""gun; read x; echo "read $x"; read y; exit 3' &`)
	term.Send("Enter")
	term.WaitFor("begun")
	term.Type("echo shell-$((40+2))")
	term.Send("Enter")
	term.WaitFor("shell-42")
	term.Type("fg")
	term.Send("Enter")
	term.WaitFor("fg\n" + self[:8])
	term.Type("on")
	term.Send("Enter")
	term.WaitFor("read on")
	term.Send("C-c")
	term.WaitFor("[130]>")
	if strings.Contains(term.Screen(), "Stopped") {
		t.Error("the job was stopped")
	}
}
