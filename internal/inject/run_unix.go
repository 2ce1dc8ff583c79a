//go:build !windows

package inject

import (
	"errors"
	"os"
	"os/exec"
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

// start starts a child, through a shell if it is a script without an
// interpreter line, and returns the one that runs.
func start(child *exec.Cmd) (*exec.Cmd, error) {
	err := child.Start()
	if !errors.Is(err, syscall.ENOEXEC) {
		return child, err
	}
	argv, err := script(child.Path, child.Args)
	if err != nil {
		return nil, err
	}
	child = &exec.Cmd{Path: shell, Args: argv, Env: child.Env, Stdin: child.Stdin, Stdout: child.Stdout, Stderr: child.Stderr}
	err = child.Start()
	return child, err
}
