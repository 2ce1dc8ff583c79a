package prompt

import "golang.org/x/sys/unix"

const (
	ioctlGetTermios   = unix.TCGETS
	ioctlSetTermios   = unix.TCSETS
	ioctlFlushTermios = unix.TCSETSF // drops unread input
)
