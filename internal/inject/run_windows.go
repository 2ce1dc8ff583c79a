package inject

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
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

// run starts the child and waits for it. The child shares the console, so
// Ctrl-C and Ctrl-Break reach it directly and are ignored here meanwhile. Both
// stand in a job object: when this process is killed, the child ends too.
func run(ctx context.Context, c Child, cmd *exec.Cmd) (int, error) {
	release := joinJob()
	defer release()
	if c.Stop == nil {
		interrupts := make(chan os.Signal, 1)
		signal.Notify(interrupts, os.Interrupt)
		defer signal.Stop(interrupts)
	}
	if err := cmd.Start(); err != nil {
		return 0, notStarted(c.Argv[0], cmd.Path, err)
	}
	if c.Started != nil {
		c.Started()
	}
	done := make(chan struct{})
	if c.Stop != nil {
		go watch(ctx, done, cmd.Process, c.Stop)
	}
	err := cmd.Wait()
	close(done)
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return ended.ExitCode(), nil
	}
	return 0, err
}

func notStarted(command, path string, err error) error {
	return &NotExecutableError{command, path, err}
}
