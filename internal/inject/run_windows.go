package inject

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
)

func find(command string, _ []string) (string, error) {
	path, err := exec.LookPath(command)
	switch {
	case errors.Is(err, exec.ErrDot):
		return "", relative(command, path)
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", &NotFoundError{Command: command}
	case err != nil:
		return "", &NotExecutableError{command, path, err}
	}
	return path, nil
}

func exitCode(st *os.ProcessState) int { return st.ExitCode() }

func start(child *exec.Cmd) (*exec.Cmd, error) { return child, child.Start() }

func notStarted(command, path string, err error) error {
	return &NotExecutableError{command, path, err}
}
