//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package flow

import (
	"context"
	"errors"
	"io"
	"os"

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

// input reads a file so that the end of a context interrupts it. It uses
// select, because poll and kqueue do not know terminals on macOS.
type input struct {
	fd         int
	wake, send *os.File
	stop       func() bool
}

func newInput(ctx context.Context, f *os.File) (*input, error) {
	wake, send, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	r := &input{fd: int(f.Fd()), wake: wake, send: send} //nolint:gosec // a descriptor fits
	if r.fd >= unix.FD_SETSIZE || int(wake.Fd()) >= unix.FD_SETSIZE {
		_ = wake.Close()
		_ = send.Close()
		return nil, errors.New("too many files are open")
	}
	r.stop = context.AfterFunc(ctx, func() { _, _ = send.Write([]byte{0}) })
	return r, nil
}

func (r *input) close() {
	r.stop()
	_ = r.send.Close()
	_ = r.wake.Close()
}

func (r *input) read(ctx context.Context, buf []byte) (int, error) {
	wake := int(r.wake.Fd()) //nolint:gosec // a descriptor fits
	for {
		var set unix.FdSet
		set.Set(r.fd)
		set.Set(wake)
		_, err := unix.Select(max(r.fd, wake)+1, &set, nil, nil, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, err
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case !set.IsSet(r.fd):
			continue
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
