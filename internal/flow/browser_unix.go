//go:build !windows

package flow

import (
	"os/exec"
	"syscall"
)

// detach puts the helper into a process group of its own: Ctrl-C at our terminal
// ends us and not the browser.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
