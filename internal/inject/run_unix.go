//go:build !windows

package inject

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func find(command string, env []string) (string, error) { return lookup(command, env) }

// run starts the child and waits for it. All of that is one thread's work: the
// kernel kills the child when the thread that started it ends.
func run(ctx context.Context, c Child, cmd *exec.Cmd) (code int, err error) {
	type end struct {
		code int
		err  error
	}
	ended := make(chan end)
	go func() {
		runtime.LockOSThread()
		code, err := runHere(ctx, c, cmd)
		ended <- end{code, err}
	}()
	e := <-ended
	return e.code, e.err
}

func runHere(ctx context.Context, c Child, cmd *exec.Cmd) (int, error) {
	tty := controllingTerminal()
	if tty != nil {
		defer tty.Close()
	}
	cmd.SysProcAttr = attributes(c, tty != nil)

	signals := make(chan os.Signal, 64)
	if c.Stop == nil {
		c.notify(signals) // before the start: what comes meanwhile waits
		defer signal.Stop(signals)
	}
	cmd, err := start(cmd)
	if err != nil {
		return 0, notStarted(c.Argv[0], cmd.Path, err)
	}
	done := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() {
		if c.Stop != nil {
			watch(ctx, done, cmd.Process, c.Stop)
			return
		}
		for {
			select {
			case sig := <-signals:
				switch {
				case c.Pass != nil:
					c.Pass(sig)
				case !c.reached(sig, tty):
					_ = cmd.Process.Signal(sig)
				}
			case <-done:
				return
			}
		}
	})
	if c.terminal != nil {
		c.terminal.child.Store(int64(cmd.Process.Pid))
	}
	if c.Started != nil {
		c.Started()
	}
	ws, err := await(cmd.Process.Pid, func() { c.stopped(tty, cmd.Process.Pid) })
	close(done)
	helpers.Wait()
	// The process has been waited for: this waits for what copies its streams.
	if werr := cmd.Wait(); err == nil && werr != nil && !errors.Is(werr, syscall.ECHILD) {
		err = werr
	}
	if ws.Signaled() {
		return 128 + int(ws.Signal()), err
	}
	return ws.ExitStatus(), err
}

// notify catches what is passed on, except what this process was started to
// ignore (nohup): the child ignores that as well. A Ctrl-Z must not stop us before
// the child has stopped, which may still be reading what is meant for the shell.
func (c *Child) notify(signals chan<- os.Signal) {
	caught := []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
	if c.terminal == nil {
		caught = append(caught, syscall.SIGTSTP)
	}
	for _, sig := range caught {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
}

// reached says that a signal has come to the child already, because the
// terminal sent it to our whole group.
func (c *Child) reached(sig os.Signal, tty *os.File) bool {
	if tty == nil || c.terminal != nil {
		return false
	}
	switch sig {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP:
		return foreground(tty)
	case syscall.SIGHUP:
		_, err := unix.IoctlGetInt(fd(tty), unix.TIOCGPGRP)
		return err != nil // the terminal is gone
	}
	return false
}

// stopped follows a child that has stopped, so that the shell notices.
func (c *Child) stopped(tty *os.File, pid int) {
	switch {
	case c.terminal != nil:
		c.terminal.suspend(pid)
	case tty != nil && !continued(pid):
		_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	}
}

// continued says that a child which was seen to stop goes on already: somebody
// continued it before we could look.
func continued(pid int) bool {
	var ws unix.WaitStatus
	got, err := unix.Wait4(pid, &ws, unix.WNOHANG|unix.WCONTINUED, nil)
	return err == nil && got == pid && ws.Continued()
}

// await waits for the end of a child and reports each time that it stops.
func await(pid int, stopped func()) (unix.WaitStatus, error) {
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(pid, &ws, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return ws, os.NewSyscallError("wait4", err)
		case ws.Stopped():
			stopped()
		default:
			return ws, nil
		}
	}
}

// controllingTerminal opens the terminal of this session, nil when there is none.
func controllingTerminal() *os.File {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return tty
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
		return child, err
	}
	child = &exec.Cmd{
		Path: shell, Args: argv, Env: child.Env, Dir: child.Dir, SysProcAttr: child.SysProcAttr,
		Stdin: child.Stdin, Stdout: child.Stdout, Stderr: child.Stderr,
	}
	err = child.Start()
	return child, err
}

// sharing decides what the child has in common with us: at a terminal the
// process group, on a terminal of its own nothing.
func sharing(c Child, tty bool) *syscall.SysProcAttr {
	switch {
	case c.terminal != nil:
		return &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1}
	case tty || c.Stop != nil:
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Setpgid: true}
}
