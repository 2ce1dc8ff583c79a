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
func runCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitCode()
	}
	return -1
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
		if err := Run(t.Context(), c.argv, env, Streams{}, nil); runCode(err) != c.want {
			t.Errorf("%q: %v, want %d", c.argv, err, c.want)
		}
	}
}

func TestRunStreamsAndEnvironment(t *testing.T) {
	var out bytes.Buffer
	in := bytes.NewBufferString("a\x00b")
	err := Run(t.Context(), []string{"sh", "-c", `cat; printf %s "$V"`}, []string{"V=1"}, Streams{Stdin: in, Stdout: &out}, nil)
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
	err := Run(ctx, []string{"sh", "-c", `trap 'kill $!; exit 9' TERM; sleep 60 >/dev/null 2>&1 & echo r; wait`}, []string{"PATH=/usr/bin:/bin"}, Streams{Stdout: w},
		func(p *os.Process) { stops++; _ = p.Signal(syscall.SIGTERM) })
	_ = w.Close()
	if runCode(err) != 9 || stops != 1 {
		t.Errorf("%v after %d stops", err, stops)
	}
}
