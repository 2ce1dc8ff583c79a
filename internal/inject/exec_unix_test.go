//go:build !windows

package inject

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestMain lets the test binary be the wrapper (it calls Exec, Run or Masked with
// its arguments) and the child.
func TestMain(m *testing.M) {
	switch role := os.Getenv("INJECT_TEST_ROLE"); role {
	case "wrapper", "resident", "masked":
		_ = os.Setenv("INJECT_TEST_ROLE", "child")
		// Descriptors of our own, a caught signal and an ignored one, as the
		// real program has them.
		own, err := os.CreateTemp("", "inject-own-*")
		if err != nil {
			panic(err)
		}
		_ = os.Remove(own.Name())
		r, w, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, os.Interrupt, syscall.SIGTERM)
		env := ChildEnv(os.Environ(), []Var{{Name: "TOKEN", Value: secret.New("live-token")}})
		c := Child{Argv: os.Args[1:], Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		code := 0
		switch role {
		case "wrapper":
			err = Exec(os.Args[1:], env)
		case "resident":
			code, err = Run(context.Background(), c)
		case "masked":
			code, err = Masked(context.Background(), c, leak.NewSet([]leak.Secret{{Connection: "c", Value: secret.New("live-token")}}))
		}
		if err == nil {
			os.Exit(code)
		}
		_, _, _ = own, r, w
		fmt.Fprintln(os.Stderr, err)
		var coded interface{ ExitCode() int }
		if errors.As(err, &coded) {
			os.Exit(coded.ExitCode())
		}
		os.Exit(1)
	case "reached":
		tty, c := controllingTerminal(), &Child{}
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTERM, syscall.SIGHUP} {
			fmt.Print(c.reached(sig, tty), " ")
		}
		os.Exit(0)
	case "child":
		os.Exit(child(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// child is what the wrapper runs.
func child(args []string) int {
	switch args[0] {
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "kill":
		n, _ := strconv.Atoi(args[1])
		_ = syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "count":
		// Counts signals until told to stop, then prints the counts.
		caught := make(chan os.Signal, 64)
		signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
		fmt.Println("ready", os.Getpid())
		counts := map[string]int{}
		in := bufio.NewReader(os.Stdin)
		for {
			if _, err := in.ReadString('\n'); err != nil {
				break
			}
			s := <-caught
			counts[s.String()]++
			fmt.Println("got", s)
		}
		signal.Stop(caught)
		for len(caught) > 0 {
			counts[(<-caught).String()]++
		}
		_ = json.NewEncoder(os.Stdout).Encode(counts)
		return 7
	case "cat":
		_, _ = io.Copy(os.Stdout, os.Stdin)
	}
	return 0
}

func wrapper(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return wrapperAs(t, "wrapper", args...)
}

func wrapperAs(t *testing.T, role string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), self(t), args...)
	cmd.Env = append(os.Environ(), "INJECT_TEST_ROLE="+role, "GOCOVERDIR="+t.TempDir())
	return cmd
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func status(cmd *exec.Cmd) int {
	err := cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		if ws, ok := ended.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return ended.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// inEachMode runs a test for a command that takes our place, for one beside us
// and for one whose output is masked.
func inEachMode(t *testing.T, test func(t *testing.T, role string)) {
	t.Helper()
	for _, role := range []string{"wrapper", "resident", "masked"} {
		t.Run(role, func(t *testing.T) { test(t, role) })
	}
}

func TestExecStatusIsTheChilds(t *testing.T) { inEachMode(t, statusIsTheChilds) }

func statusIsTheChilds(t *testing.T, role string) {
	wrapper := func(t *testing.T, args ...string) *exec.Cmd { t.Helper(); return wrapperAs(t, role, args...) }
	for _, n := range []int{0, 1, 2, 42, 126, 127, 255} {
		if got := status(wrapper(t, self(t), "exit", strconv.Itoa(n))); got != n {
			t.Errorf("status %d, want %d", got, n)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGINT, syscall.SIGHUP} {
		if got := status(wrapper(t, self(t), "kill", strconv.Itoa(int(s)))); got != 128+int(s) {
			t.Errorf("status %d after %v, want %d", got, s, 128+int(s))
		}
	}
	// A Go program turns its own SEGV into a crash report; a shell does not.
	if got := status(wrapper(t, "sh", "-c", "kill -SEGV $$")); got != 128+int(syscall.SIGSEGV) {
		t.Errorf("status %d after SEGV", got)
	}
}

func TestExecSignalsArriveOnce(t *testing.T) {
	inEachMode(t, func(t *testing.T, role string) {
		signalsArriveOnce(t, role, func(p *os.Process, s syscall.Signal) error { return p.Signal(s) })
	})
}

// A service manager, or a shell for one of its jobs, signals the whole group.
func TestExecSignalsToTheGroupArriveOnce(t *testing.T) {
	inEachMode(t, func(t *testing.T, role string) {
		signalsArriveOnce(t, role, func(p *os.Process, s syscall.Signal) error { return syscall.Kill(-p.Pid, s) })
	})
}

func signalsArriveOnce(t *testing.T, role string, send func(p *os.Process, s syscall.Signal) error) {
	t.Helper()
	cmd := wrapperAs(t, role, self(t), "count")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal, as in CI
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(stdout)
	line := func() string { out.Scan(); return out.Text() }
	if got, want := line(), fmt.Sprint("ready ", cmd.Process.Pid); got != want && role == "wrapper" {
		t.Errorf("the child says %q, want %q: no parent stays behind", got, want)
	}
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
	for _, s := range signals {
		if err := send(cmd.Process, s); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(in, "\n")
		if got, want := line(), "got "+s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	_ = in.Close()
	var counts map[string]int
	if err := json.Unmarshal([]byte(line()), &counts); err != nil {
		t.Fatal(err)
	}
	for _, s := range signals {
		if counts[s.String()] != 1 {
			t.Errorf("%v arrived %d times", s, counts[s.String()])
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("ended with %v, want the child's 7", err)
	}
}

func TestExecEnvironmentAndDescriptors(t *testing.T) { inEachMode(t, environmentAndDescriptors) }

func environmentAndDescriptors(t *testing.T, role string) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("no /proc/self/fd")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	// No pipe and no substitution: the shell would hold descriptors for them.
	const script = `env; tr '\0' ' ' </proc/$$/cmdline; echo; echo descriptors:; ls /proc/$$/fd`
	descriptors := func(out []byte) string {
		_, list, _ := strings.Cut(string(out), "\ndescriptors:\n")
		return list
	}
	// What a child of this test has without the wrapper: 0 to 2, the caller's 3
	// (as make's jobserver), and whatever the test itself has inherited.
	plain := exec.CommandContext(t.Context(), "sh", "-c", script)
	plain.ExtraFiles = []*os.File{r}
	out, err := plain.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := descriptors(out)
	cmd := wrapperAs(t, role, "sh", "-c", script)
	cmd.ExtraFiles = []*os.File{r}
	cmd.Env = append(cmd.Env, "APIAUTH_STORE_KEY=canary", "APIAUTH_STORE_PASSPHRASE=canary", "APIAUTH_STORE_PASSPHRASE_FILE=canary",
		"APIAUTH_BUNDLE=canary", "APIAUTH_BUNDLE_KEY=canary", "APIAUTH_CLIENT_SECRET_SPOTIFY=canary", "TOKEN=stale", "MAKEFLAGS=kept")
	out, err = cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	handed := "TOKEN=live-token"
	if role == "masked" {
		handed = "TOKEN=" + leak.Mask
	}
	lines := strings.Split(string(out), "\n")
	for _, l := range lines {
		if strings.Contains(l, "canary") {
			t.Errorf("the child sees %q", l)
		}
		if strings.Contains(l, "live-token") && l != handed {
			t.Error("the token stands elsewhere than in its variable")
		}
	}
	if !slices.Contains(lines, handed) || slices.Contains(lines, "TOKEN=stale") || !slices.Contains(lines, "MAKEFLAGS=kept") {
		t.Error("the environment is not the inherited one with the variable set")
	}
	if got := descriptors(out); got != want || !strings.Contains(got, "3\n") {
		t.Errorf("open descriptors %q, want %q", got, want)
	}
}

func TestExecStandardStreamsAreClean(t *testing.T) { inEachMode(t, standardStreamsAreClean) }

func standardStreamsAreClean(t *testing.T, role string) {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 7)
	}
	cmd := wrapperAs(t, role, self(t), "cat")
	cmd.Stdin = strings.NewReader(string(data))
	out, err := cmd.Output()
	if err != nil || string(out) != string(data) {
		t.Errorf("%d bytes came back, %v", len(out), err)
	}
}

func TestExecLookup(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("bin/hello", "#!/bin/sh\nexit 11\n", 0o755)
	file("bin/plain", "exit 12\n", 0o755) // no interpreter line
	file("bin/empty", "", 0o755)
	file("bin/locked", "#!/bin/sh\nexit 0\n", 0o644)
	file("bin/lost", "#!/nonexistent/interpreter\n", 0o755)
	file("bin/binary", "\x00\x01\x02", 0o755)
	file("bin/both", "#!/bin/sh\n", 0o644)
	file("bin2/both", "#!/bin/sh\nexit 13\n", 0o755)
	file("bin/folder/x", "", 0o644)
	file("here", "#!/bin/sh\nexit 14\n", 0o755) // only in the working directory
	file("sh", "#!/bin/sh\nexit 15\n", 0o755)
	file("-dash/plain", "exit 16\n", 0o755)

	for _, c := range []struct {
		command, path string
		want          int
	}{
		{"hello", "BIN:BIN2", 11},
		{"plain", "BIN", 12},
		{"empty", "BIN", 0},
		{"locked", "BIN", 126},
		{"lost", "BIN", 127},
		{"binary", "BIN", 126},
		{"both", "BIN:BIN2", 13},
		{"folder", "BIN", 126},
		{"absent", "BIN:/nonexistent", 127},
		{"here", "BIN", 127},
		{"here", "", 127},
		{"here", ".", 127},
		{"here", ":BIN", 127},
		{"here", "BIN:", 127},
		{"hello", "bin", 127}, // relative entry
		{"sh", "::BIN", 127},
		{"./here", "", 14},
		{"./bin/locked", "", 126},
		{"./bin", "", 126},
		{"./nope", "", 127},
		{"bin/hello", "", 11},
		{"-dash/plain", "", 16},
		{"", "BIN", 127},
	} {
		path := strings.NewReplacer("BIN2", dir+"/bin2", "BIN", dir+"/bin").Replace(c.path)
		cmd := wrapper(t, c.command)
		cmd.Dir = dir
		cmd.Env = append(cmd.Env, "PATH="+path, "LC_ALL=C")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if got := status(cmd); got != c.want {
			t.Errorf("%q with PATH=%q: %d, want %d: %s", c.command, c.path, got, c.want, stderr.String())
		}
		if stderr.Len() > 0 && c.want != 126 && c.want != 127 {
			t.Errorf("%q: %s", c.command, stderr.String())
		}
	}
}

func TestExecNamesTheRelativeEntry(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	_, err := lookup("tool", []string{"PATH=.:/nonexistent"})
	nf, ok := errors.AsType[*NotFoundError](err)
	if !ok || !strings.Contains(nf.Error(), "./tool") {
		t.Errorf("%v", err)
	}
}

func TestExecTooLong(t *testing.T) {
	err := Exec([]string{"/bin/sh", strings.Repeat("x", 1<<22)}, nil)
	ne, ok := errors.AsType[*NotExecutableError](err)
	if !ok || !strings.Contains(ne.Error(), "too long") || len(ne.Error()) > 200 {
		t.Errorf("%v", err)
	}
}

// The Go runtime raises the limit of open files for itself; the child must get
// the one that the caller had (programs that use select need a low one).
func TestExecKeepsTheLimitOfOpenFiles(t *testing.T) {
	want, err := exec.CommandContext(t.Context(), "sh", "-c", "ulimit -n").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := wrapper(t, "sh", "-c", "ulimit -n").Output()
	if err != nil || string(got) != string(want) {
		t.Errorf("limit %q, %v; want %q", got, err, want)
	}
}
