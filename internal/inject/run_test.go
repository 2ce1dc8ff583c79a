//go:build !windows

package inject

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// runCode is the status that a caller of Run would end with.
func runCode(code int, err error) int {
	if coded, ok := errors.AsType[interface {
		error
		ExitCode() int
	}](err); ok {
		return coded.ExitCode()
	}
	if err != nil {
		return -1
	}
	return code
}

func TestRunStatus(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"plain": "exit 12\n", "lost": "#!/nonexistent/x\n", "binary": "\x00\x01"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"PATH=" + dir + ":/usr/bin:/bin"}
	for _, c := range []struct {
		argv []string
		want int
	}{
		{[]string{"sh", "-c", "exit 0"}, 0},
		{[]string{"sh", "-c", "exit 42"}, 42},
		{[]string{"sh", "-c", "exit 255"}, 255},
		{[]string{"sh", "-c", "kill -KILL $$"}, 137},
		{[]string{"sh", "-c", "kill -SEGV $$"}, 139},
		{[]string{"plain"}, 12},
		{[]string{"lost"}, 127},
		{[]string{"binary"}, 126},
		{[]string{"absent"}, 127},
		{[]string{dir}, 126},
		{nil, 127},
	} {
		code, err := Run(t.Context(), Child{Argv: c.argv, Env: env})
		if runCode(code, err) != c.want {
			t.Errorf("%q: %d, %v, want %d", c.argv, code, err, c.want)
		}
	}
}

func TestRunStreamsAndEnvironment(t *testing.T) {
	var out bytes.Buffer
	in := bytes.NewBufferString("a\x00b")
	_, err := Run(t.Context(), Child{Argv: []string{"sh", "-c", `cat; printf %s "$V"`}, Env: []string{"V=1"}, Stdin: in, Stdout: &out})
	if err != nil || out.String() != "a\x00b1" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestRunStopsOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	stops := 0
	go func() {
		var b [1]byte
		_, _ = r.Read(b[:])
		cancel()
		_, _ = io.Copy(io.Discard, r)
	}()
	// The child says when its trap stands; it is waited for after the signal.
	code, err := Run(ctx, Child{
		Argv: []string{"sh", "-c", `trap 'kill $!; exit 9' TERM; sleep 60 >/dev/null 2>&1 & echo r; wait`},
		Env:  []string{"PATH=/usr/bin:/bin"}, Stdout: w,
		Stop: func(p *os.Process) { stops++; _ = p.Signal(syscall.SIGTERM) },
	})
	_ = w.Close()
	if runCode(code, err) != 9 || stops != 1 {
		t.Errorf("%d, %v after %d stops", code, err, stops)
	}
}
