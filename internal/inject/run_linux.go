package inject

import "syscall"

// attributes says what a resident parent's child is started as.
func attributes(c Child, tty bool) *syscall.SysProcAttr {
	a := sharing(c, tty)
	a.Pdeathsig = syscall.SIGKILL
	return a
}
