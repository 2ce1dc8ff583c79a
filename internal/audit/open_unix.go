//go:build unix

package audit

import "syscall"

const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK // a pipe in the place of a file must not hang us
