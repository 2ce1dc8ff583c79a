//go:build linux

package crash

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// untilWaiting returns when the process waits for the lock of a connection: one
// of its threads is in the system call flock.
func (s *started) untilWaiting(name string) {
	s.h.t.Helper()
	pid := s.cmd.Process.Pid
	eventually(s.h.t, fmt.Sprintf("process %d waits for the lock of %s", pid, name), func() bool {
		select {
		case <-s.done:
			s.h.t.Errorf("a process ended that should wait for the lock: %s", s.res.redacted())
			return true
		default:
		}
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return false
		}
		for _, th := range threads {
			where, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/wchan", pid, th.Name()))
			if err == nil && strings.Contains(string(where), "flock") || inFlock(pid, th.Name()) {
				return true
			}
		}
		return false
	})
}

// untilStopped returns when a stopped process really stands.
func untilStopped(t testing.TB, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d stands", pid), func() bool { return state(pid) == "T" })
}

// state is the letter that /proc gives.
func state(pid int) string {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(doc), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}

// inFlock reads the system call that a thread is in, where the kernel tells it.
func inFlock(pid int, thread string) bool {
	doc, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", pid, thread))
	if err != nil {
		return false
	}
	nr, _, _ := strings.Cut(string(doc), " ")
	return nr == fmt.Sprint(unix.SYS_FLOCK)
}
