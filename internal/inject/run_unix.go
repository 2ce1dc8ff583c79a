//go:build !windows

package inject

import (
	"os"
	"syscall"
)

func find(command string, env []string) (string, error) { return lookup(command, env) }

// exitCode is the status that a shell would report.
func exitCode(st *os.ProcessState) int {
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return st.ExitCode()
}
