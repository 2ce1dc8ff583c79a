//go:build linux

package crash

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// a signal at any moment of a refresh ends the process with 128 and its
// number, and not before the answer to what was sent is durable. One that comes
// a few system calls before the end may find the program done: then the token
// is printed as if it had come later.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		for _, m := range []struct {
			name    string
			at      func(call) bool // nil: when the issuer has the request
			commits []int           // what may come of it
			late    bool
		}{
			{"before the intent", func(c call) bool { return c.name() == "fallocate" }, []int{0, 1}, false},
			{"before it is sent", func(c call) bool { return c.name() == "connect" }, []int{0, 1}, false},
			{"in flight", nil, []int{1}, false},
			{"after the answer", isAnswer, []int{1}, false},
			{"before the record", func(c call) bool { return c.name() == "renameat" }, []int{1}, true},
		} {
			t.Run(sig.String()+" "+m.name, func(t *testing.T) {
				t.Parallel()
				is := newIssuer(t, strict())
				h := withFile(t, is)
				name, _ := h.expired()
				x := h.signalled(name, sig, m.at)
				done := m.late && x.code == 0 && is.Active(x.token())
				if x.code != 128+int(sig) && !done || x.sends != x.seals || x.sends > 1 {
					t.Errorf("%d sent, %d sealed: %s", x.sends, x.seals, x.redacted())
				}
				noTrace(t, x.result)
				is.settle()
				if n := is.Stats().Refreshes; n < m.commits[0] || n > m.commits[len(m.commits)-1] {
					t.Errorf("%d refreshes, expected %v", n, m.commits)
				}
				h.mustLive(name)
				if st := is.Stats(); st.Reuse != 0 {
					t.Errorf("%d reuses", st.Reuse)
				}
			})
		}
	}
}

// signalled sends a signal at a moment of a refresh.
func (h *home) signalled(name string, sig syscall.Signal, at func(call) bool) traced {
	h.t.Helper()
	once := false
	tr := tracing{port: h.is.port()}
	if at != nil {
		tr.enter = func(pid int, c call) bool {
			if !once && at(c) {
				once = true
				_ = unix.Kill(pid, sig)
			}
			return false
		}
		return h.trace(tr, "token", name)
	}
	// In flight: the answer is held back until the signal has been delivered.
	held := h.is.holdNext(false)
	var pid int
	var known sync.Once
	running := make(chan struct{})
	tr.enter = func(p int, _ call) bool {
		known.Do(func() { pid = p; close(running) })
		return false
	}
	tr.signal = func(s syscall.Signal) {
		if s == sig && !once {
			once = true
			close(held.release)
		}
	}
	ended := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		select {
		case <-held.arrived:
			<-running
			_ = unix.Kill(pid, sig)
		case <-ended:
		}
	})
	x := h.trace(tr, "token", name)
	close(ended)
	sending.Wait()
	return x
}

// noTrace looks for what a crashed program leaves on stderr.
func noTrace(t *testing.T, r result) {
	t.Helper()
	for _, sign := range []string{"goroutine ", "panic:", "runtime error", "SIGSEGV"} {
		if strings.Contains(r.err, sign) {
			t.Errorf("a stack trace: %s", r.redacted())
		}
	}
}

// a token that cannot be printed is durable all the same, and the failure
// is told by the exit code and without a stack trace. Not by the exit code when
// stdout was closed before the start: Go's runtime opens /dev/null in its place,
// and no program can tell that from a caller who did so.
func TestStdoutClosedOrFull(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) *os.File{
		"full": func(t *testing.T) *os.File {
			f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			return f
		},
		"pipe without a reader": func(t *testing.T) *os.File { // as in: apiauth token NAME | true
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			_ = r.Close()
			return w
		},
		"closed": func(*testing.T) *os.File { return nil }, // as in: apiauth token NAME >&-
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, strict())
			h := withFile(t, is)
			conn, _ := h.expired()
			out := open(t)
			tr := tracing{port: is.port(), stdout: out, noStdout: out == nil}
			x := h.trace(tr, "token", conn)
			if out != nil {
				_ = out.Close()
			}
			if (x.code == 0) != tr.noStdout || x.sends != 1 || x.seals != 1 {
				t.Errorf("%d sent, %d sealed: %s", x.sends, x.seals, x.redacted())
			}
			noTrace(t, x.result)
			if n := is.Stats().Refreshes; n != 1 {
				t.Errorf("%d refreshes", n)
			}
			r := h.run("token", conn)
			if n := is.Stats().RefreshRequests; n != 1 || r.code != 0 || !is.Active(r.token()) {
				t.Errorf("the token was not kept: %d requests: %s", n, r.redacted())
			}
			h.mustLive(conn)
		})
	}
}
