//go:build !windows

package inject

import (
	"bytes"
	"errors"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a pseudo-terminal for a child, and what connects it with ours: our
// keyboard writes to it, the mask reads from it. The child has a session on it,
// so a Ctrl-C typed at ours reaches the child through it and not us.
type terminal struct {
	screen        *os.File // ours, to write to
	keys          *os.File // ours, to read from; nil without a controlling one
	master, slave *os.File
	child         atomic.Int64 // its process id, 0 before it runs

	mu    sync.Mutex
	found *term.State // our terminal's modes while they are changed
	done  chan struct{}
	woken chan struct{} // holds one value when we were continued
	front chan struct{} // holds one value when the keyboard may be ours again
	work  sync.WaitGroup
}

// openTerminal makes a terminal for a child whose standard output is one, and
// puts it in the place of those of its streams that are. It returns nil for a
// child whose output goes elsewhere.
func openTerminal(c *Child) (*terminal, error) {
	screen, ok := isTerminal(c.Stdout)
	if !ok {
		return nil, nil
	}
	master, slave, err := pty.Open()
	if err != nil {
		return nil, err
	}
	t := &terminal{
		screen: screen, keys: controllingTerminal(), master: master, slave: slave,
		done: make(chan struct{}), woken: make(chan struct{}, 1), front: make(chan struct{}, 1),
	}
	t.resize()
	// Ours has its erase key and its tabs; in the background it is in the modes of
	// the shell that reads a line.
	if t.keys != nil && foreground(t.keys) {
		if state, err := term.GetState(fd(screen)); err == nil {
			_ = term.Restore(fd(slave), state)
		}
	}
	c.Stdout = slave
	if _, ok := isTerminal(c.Stdin); ok {
		c.Stdin = slave
	}
	if _, ok := isTerminal(c.Stderr); ok {
		c.Stderr = slave
	}
	return t, nil
}

func isTerminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && f != nil && term.IsTerminal(fd(f))
}

// fd is a file's descriptor, without what File.Fd does to a file with deadlines.
func fd(f *os.File) int {
	n := -1
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(p uintptr) { n = int(p) })
	}
	return n
}

// start connects the two terminals once the child runs.
func (t *terminal) start() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGCONT)
	// In the background the keyboard and the modes are not ours: reading says so
	// with an error instead of stopping us. The child was not started like that.
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU)
	t.resize() // it may have changed before we were told
	t.takeKeyboard()
	t.work.Go(func() {
		defer signal.Stop(signals)
		for {
			select {
			case <-t.done:
				return
			case sig := <-signals:
				if sig == syscall.SIGCONT {
					tell(t.woken)
					t.takeKeyboard()
				}
				t.resize()
			}
		}
	})
	if t.keys != nil {
		t.work.Go(t.feed)
	}
}

// close gives our terminal back as it was.
func (t *terminal) close() {
	close(t.done)
	if t.keys != nil {
		_ = t.keys.SetReadDeadline(time.Unix(1, 0))
	}
	t.work.Wait()
	t.giveBack()
	signal.Reset(syscall.SIGTTIN, syscall.SIGTTOU)
	for _, f := range []*os.File{t.keys, t.master, t.slave} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// takeKeyboard makes our terminal hand over every key as it is, if we stand in
// the foreground.
func (t *terminal) takeKeyboard() {
	if t.keys == nil || !foreground(t.keys) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		if state, err := term.MakeRaw(fd(t.keys)); err == nil {
			t.found = state
		}
	}
	tell(t.front)
}

// giveBack restores our terminal's modes.
func (t *terminal) giveBack() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found != nil {
		_ = term.Restore(fd(t.keys), t.found)
		t.found = nil
	}
}

func foreground(tty *os.File) bool {
	group, err := unix.IoctlGetInt(fd(tty), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// resize gives the child's terminal our size, of which the system tells the
// child.
func (t *terminal) resize() {
	size, err := unix.IoctlGetWinsize(fd(t.screen), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	// Through the connection: what masks the output may close the terminal
	// meanwhile.
	if raw, err := t.master.SyscallConn(); err == nil {
		_ = raw.Control(func(p uintptr) { _ = unix.IoctlSetWinsize(int(p), unix.TIOCSWINSZ, size) })
	}
}

// feed hands keys on until the child has ended.
func (t *terminal) feed() {
	buf := make([]byte, 4096)
	for {
		n, err := t.keys.Read(buf)
		if n > 0 {
			t.press(buf[:n])
		}
		switch {
		case err == nil:
		case errors.Is(err, syscall.EIO): // we are in the background
			select {
			case <-t.front:
			case <-time.After(glance): // a shell says nothing to a job that runs
				t.takeKeyboard()
			case <-t.done:
				return
			}
		default:
			return
		}
	}
}

// glance is how often a job in the background looks whether it still is.
const glance = 200 * time.Millisecond

// press hands keys to the child. The key that suspends (Ctrl-Z) is ours as long
// as the child lets the terminal act on such keys and has no jobs of its own: the
// system would not stop a group without a shell in its session.
func (t *terminal) press(keys []byte) {
	modes, err := unix.IoctlGetTermios(fd(t.master), getTermios)
	if err == nil && modes.Lflag&unix.ISIG != 0 {
		group, err := unix.IoctlGetInt(fd(t.master), unix.TIOCGPGRP)
		at := bytes.IndexByte(keys, modes.Cc[unix.VSUSP])
		if err == nil && at >= 0 && int64(group) == t.child.Load() {
			_, _ = t.master.Write(keys[:at])
			_ = unix.Kill(-group, unix.SIGSTOP)
			keys = keys[at+1:]
		}
	}
	_, _ = t.master.Write(keys)
}

// lone is how long we wait to be stopped where no shell does job control.
const lone = 50 * time.Millisecond

// suspend follows a child that has stopped: our group stops with our terminal as
// it was, and when the shell continues us, so does the child.
func (t *terminal) suspend(pid int) {
	t.giveBack()
	forget(t.woken)
	_ = unix.Kill(0, unix.SIGTSTP)
	select {
	case <-t.woken:
	case <-time.After(lone):
	}
	t.takeKeyboard()
	t.resize()
	_ = unix.Kill(-pid, unix.SIGCONT)
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func forget(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// survivePipes makes a write to a pipe that nobody reads an error, as which the
// child then learns of it, instead of our own end.
func survivePipes() (restore func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGPIPE)
	return func() { signal.Stop(c) }
}
