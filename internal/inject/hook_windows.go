package inject

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// apart keeps a process from getting the console's interrupts.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}
