package inject

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const getTermios = unix.TCGETS

// attributes says what a resident parent's child is started as.
func attributes(c Child, tty bool) *syscall.SysProcAttr {
	a := sharing(c, tty)
	a.Pdeathsig = syscall.SIGKILL
	return a
}

// widen makes a pipe larger than it comes, so that masking wakes less often.
func widen(pipe *os.File) { _, _ = unix.FcntlInt(uintptr(fd(pipe)), unix.F_SETPIPE_SZ, pipeSize) }
