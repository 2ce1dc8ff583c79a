package inject

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
)

// Streams are the standard streams of a child. A stream that is an *os.File is
// handed over as it is.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run starts the command argv with the environment env (from ChildEnv) beside
// this process and waits for it: for modes that need a resident parent. It
// returns nil when the child ended with 0, an *ExitError with its status (128+n
// for a signal) otherwise, and a *NotFoundError or a *NotExecutableError when it
// did not start.
//
// When ctx ends, stop is called with the child once; it decides what the child
// is told. The child is waited for all the same.
func Run(ctx context.Context, argv, env []string, s Streams, stop func(*os.Process)) error {
	if len(argv) == 0 || argv[0] == "" {
		return &NotFoundError{Command: ""}
	}
	path, err := find(argv[0], env)
	if err != nil {
		return err
	}
	child := &exec.Cmd{Path: path, Args: argv, Env: env, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr}
	if child, err = start(child); err != nil {
		return notStarted(argv[0], path, err)
	}
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-ctx.Done():
			if stop != nil {
				stop(child.Process)
			}
		case <-done:
		}
	})
	err = child.Wait()
	close(done)
	watch.Wait()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ExitError{exitCode(ended.ProcessState)}
	}
	return err
}
