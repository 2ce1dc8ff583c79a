package inject

import (
	"context"
	"io"
	"os"
	"os/exec"
)

// Child is a command that runs beside this process. What of it is not said is
// as for Exec: it is looked up in the PATH of Env, a script without an
// interpreter line goes to the shell, and descriptors that the caller of this
// process handed down (make's jobserver, process substitution) stay open under
// their numbers, while our own do not reach it.
type Child struct {
	Argv []string
	Env  []string // from ChildEnv
	Dir  string   // empty: this process's own

	// A stream that is an *os.File is handed over as it is; nil is the null
	// device.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Stop is called once with the child when the context ends; it decides what
	// the child is told. The child is waited for all the same. With Stop, no
	// signal is passed on.
	Stop func(*os.Process)
	// Pass takes the signals in the child's place: the command is a process that
	// the child has started in namespaces of its own, where no signal of ours or
	// of the terminal reaches it. It is not called on Windows.
	Pass func(os.Signal)
	// Started, when set, is called once the child runs.
	Started func()

	// terminal is the pseudo-terminal that the child lives on, nil for none.
	terminal *terminal
}

// Run starts a child and waits for it: for modes that need a resident parent.
// It returns the status that a shell would report (128+n for a signal), and a
// *NotFoundError or a *NotExecutableError when the child did not start.
//
// Without Stop the end of the context means nothing: the child decides when it
// is over. INT, TERM, HUP, QUIT, USR1 and USR2 reach it exactly once. At
// a terminal it shares our process group, so Ctrl-C and Ctrl-\ reach it
// directly and are not passed on, Ctrl-Z and fg stop and continue both, and a
// pager behind a pipe keeps the keyboard. Without a terminal (CI, cron) it has a
// group of its own and gets what we get, whether that was meant for us or for
// our group.
//
// On Linux the child is killed when this process is; on Windows a job object
// does that. Elsewhere it goes on.
func Run(ctx context.Context, c Child) (int, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return 0, &NotFoundError{Command: ""}
	}
	path, err := find(c.Argv[0], c.Env)
	if err != nil {
		return 0, err
	}
	return run(ctx, c, &exec.Cmd{Path: path, Args: c.Argv, Env: c.Env, Dir: c.Dir, Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr})
}

// watch calls stop with the process when the context ends before done does.
func watch(ctx context.Context, done <-chan struct{}, p *os.Process, stop func(*os.Process)) {
	select {
	case <-ctx.Done():
		stop(p)
	case <-done:
	}
}
