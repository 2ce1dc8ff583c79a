//go:build unix

package inject

import "syscall"

// apart keeps a process from ending with the terminal that it was started at.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
