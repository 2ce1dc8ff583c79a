//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package prompt

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// keepOutput lets line ends on the terminal be written as before: others print
// lines while we read.
func keepOutput(fd int) {
	t, err := unix.IoctlGetTermios(fd, ioctlGetTermios)
	if err != nil {
		return
	}
	t.Oflag |= unix.OPOST
	_ = unix.IoctlSetTermios(fd, ioctlSetTermios, t)
}

// dropInput throws away what has been typed and not been read.
func dropInput(fd int) {
	if t, err := unix.IoctlGetTermios(fd, ioctlGetTermios); err == nil {
		_ = unix.IoctlSetTermios(fd, ioctlFlushTermios, t)
	}
}

// understandEscapes has nothing to do: terminals know escape sequences.
func understandEscapes(io.Writer) (restore func()) { return func() {} }

// input reads a file so that the end of a context, and a change of the terminal's
// size, interrupt it. It uses select, because poll and kqueue do not know
// terminals on macOS.
type input struct {
	fd         int
	wake, send *os.File
	stop       func() bool
	resized    chan os.Signal
	done       chan struct{}
}

func newInput(ctx context.Context, f *os.File) (*input, error) {
	wake, send, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r := &input{fd: int(f.Fd()), wake: wake, send: send, resized: make(chan os.Signal, 1), done: make(chan struct{})} //nolint:gosec // a descriptor fits
	if r.fd >= unix.FD_SETSIZE || int(wake.Fd()) >= unix.FD_SETSIZE {
		_ = wake.Close()
		_ = send.Close()
		return nil, errors.New("too many files are open")
	}
	r.stop = context.AfterFunc(ctx, r.rouse)
	signal.Notify(r.resized, unix.SIGWINCH)
	go func() {
		defer close(r.done)
		for range r.resized {
			r.rouse()
		}
	}()
	return r, nil
}

// rouse ends a read that waits.
func (r *input) rouse() { _, _ = r.send.Write([]byte{0}) }

func (r *input) close() {
	r.stop()
	signal.Stop(r.resized)
	close(r.resized)
	<-r.done
	_ = r.send.Close()
	_ = r.wake.Close()
}

// read waits for input, at most for the given time if that is not 0. It returns
// 0 and no error when the time is over or the size has changed.
func (r *input) read(ctx context.Context, buf []byte, wait time.Duration) (int, error) {
	wake := int(r.wake.Fd()) //nolint:gosec // a descriptor fits
	for {
		var set unix.FdSet
		set.Set(r.fd)
		set.Set(wake)
		var limit *unix.Timeval
		if wait > 0 {
			tv := unix.NsecToTimeval(wait.Nanoseconds())
			limit = &tv
		}
		ready, err := unix.Select(max(r.fd, wake)+1, &set, nil, nil, limit)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case ready == 0:
			return 0, nil
		}
		if set.IsSet(wake) {
			var seen [64]byte
			_, _ = unix.Read(wake, seen[:])
		}
		if !set.IsSet(r.fd) {
			return 0, nil
		}
		n, err := unix.Read(r.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.EIO): // the terminal is gone
			return 0, io.EOF
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}
