//go:build !linux && !windows

package inject

import "syscall"

// attributes says what a resident parent's child is started as.
func attributes(c Child, tty bool) *syscall.SysProcAttr { return sharing(c, tty) }
