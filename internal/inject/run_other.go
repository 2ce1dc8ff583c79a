//go:build !linux && !windows

package inject

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const getTermios = unix.TIOCGETA

// attributes says what a resident parent's child is started as.
func attributes(c Child, tty bool) *syscall.SysProcAttr { return sharing(c, tty) }

// widen has nothing to do: the system chooses the size of a pipe.
func widen(*os.File) {}
