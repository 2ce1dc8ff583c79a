package inject

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

func TestResidentChildEndsWithItsParent(t *testing.T) {
	cmd := wrapperAs(t, "resident", self(t), "count")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	if line, err := out.ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatal(line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the pipe open as long as it lives.
	if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
		t.Error(string(rest), err)
	}
	_ = cmd.Wait()
}

func TestMakeSharesItsJobs(t *testing.T) {
	makeBin := peers.Program(t, "apt-get install make", "make")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"Makefile": "all: ; +\"$(WRAPPER)\" $(MAKE) -f sub.mk\n",
		"sub.mk":   "all: a b\na b: ; @echo made $@\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"resident", "masked"} {
		cmd := wrapperAs(t, role)
		cmd.Path, cmd.Args, cmd.Dir = makeBin, []string{"make", "-j3", "WRAPPER=" + self(t)}, dir
		out, err := cmd.CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "made a") || !strings.Contains(text, "made b") || strings.Contains(text, "jobserver") {
			t.Errorf("%s: %v: %s", role, err, out)
		}
	}
}

func TestMaskedKeepsTheOrderOfOneLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := wrapperAs(t, "masked", "sh", "-c", `for i in 1 2 3 4 5 6 7 8; do echo "out $i $TOKEN"; echo "err $i" >&2; done`)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := 1; i <= 8; i++ {
		fmt.Fprintf(&want, "out %d ***\nerr %d\n", i, i)
	}
	if got, err := os.ReadFile(log); err != nil || string(got) != want.String() {
		t.Errorf("%s, %v", got, err)
	}
}

func TestMaskedStreamsApart(t *testing.T) {
	cmd := wrapperAs(t, "masked", "sh", "-c", `echo "out $TOKEN"; echo "err $TOKEN" >&2; printf %s live-tok`)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil || stdout.String() != "out ***\n***" || stderr.String() != "err ***\n" {
		t.Errorf("%q, %q, %v", stdout.String(), stderr.String(), err)
	}
}

// A reader that goes away ends the child as it would without us.
func TestMaskedChildLearnsThatNobodyReads(t *testing.T) {
	cmd := wrapperAs(t, "masked", "sh", "-c", `yes; kill -KILL $$`)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = []string{cmd.Args[0], "yes"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	_ = stdout.Close()
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 128+int(syscall.SIGPIPE) {
		t.Errorf("ended with %d", cmd.ProcessState.ExitCode())
	}
}

// What a child leaves running does not hold us up.
func TestMaskedDoesNotWaitForBackgroundJobs(t *testing.T) {
	cmd := wrapperAs(t, "masked", "sh", "-c", `echo first; sleep 600 & echo $!`)
	out, err := cmd.Output()
	var pid int
	if _, serr := fmt.Sscanf(string(out), "first\n%d\n", &pid); serr != nil || err != nil {
		t.Fatalf("%q, %v, %v", out, err, serr)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// inTerminal opens a terminal with a shell whose prompt tells the last status, and
// returns the program that is the wrapper there.
func inTerminal(t *testing.T, role string) (*peers.Term, string) {
	t.Helper()
	bash := peers.Program(t, "apt-get install bash", "bash")
	home := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "PS1=[$?]> ", "LANG=C.UTF-8", "INJECT_TEST_ROLE=" + role, "GOCOVERDIR=" + t.TempDir()}
	term := peers.Terminal(t, 80, 24, env, bash, "--norc", "--noprofile", "-i")
	term.WaitFor("[0]>")
	return term, self(t)
}

func TestTerminalSignalsArriveOnce(t *testing.T) {
	for _, role := range []string{"resident", "masked"} {
		t.Run(role, func(t *testing.T) {
			term, self := inTerminal(t, role)
			// The wrapper gives the child its own role.
			term.Type(self + " " + self + " count")
			term.Send("Enter")
			term.WaitFor("ready ")
			term.Send("C-c", "Enter")
			term.WaitFor("got interrupt")
			term.Send("C-\\", "Enter")
			term.WaitFor("got quit")
			term.Send("C-d")
			term.WaitFor(`{"interrupt":1,"quit":1}`)
		})
	}
}

func TestTerminalStopsAndContinues(t *testing.T) {
	for _, role := range []string{"resident", "masked"} {
		t.Run(role, func(t *testing.T) {
			term, self := inTerminal(t, role)
			term.Type(self + ` sh -c 'echo ready; read x; echo "read $x"; exit 3'`)
			term.Send("Enter")
			term.WaitFor("ready\n")
			term.Send("C-z")
			term.WaitFor("Stopped")
			term.Type("jobs | grep -c Stopped; echo in-shell")
			term.Send("Enter")
			term.WaitFor("\nin-shell")
			term.Type("fg")
			term.Send("Enter")
			term.WaitFor("fg\n" + self[:8]) // the shell reads no more
			term.Type("on")
			term.Send("Enter")
			term.WaitFor("read on\n[3]>")
		})
	}
}

func TestTerminalStaysOne(t *testing.T) {
	term, self := inTerminal(t, "masked")
	dir := t.TempDir()
	term.Type("cd " + dir + "; stty -g > before; " + self + ` sh -c 'test -t 0 && test -t 1 && test -t 2 && echo three; stty size; trap "stty size" WINCH; echo token=$TOKEN; read x; exit 4'; echo status=$?; stty -g | diff before - && echo same`)
	term.Send("Enter")
	term.WaitFor("three\n24 80\ntoken=")
	term.Resize(100, 30)
	term.WaitFor("30 100\n")
	term.Send("Enter")
	term.WaitFor("status=4")
	term.WaitFor("\nsame")
	term.Type("clear; " + self + ` sh -c 'kill -SEGV $$'; echo status=$?; stty -g | diff before - && echo same`)
	term.Send("Enter")
	term.WaitFor("status=139")
	term.WaitFor("\nsame")
}
