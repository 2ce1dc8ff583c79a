//go:build linux

// Command peak runs a program and prints its peak resident memory in KiB. It is
// a process of its own because the kernel counts a parent's memory for a child
// that was forked from it: a small parent does not show.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	check(err)
	fd := null.Fd()
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{fd, fd, fd}})
	check(err)
	var use syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, nil, 0, &use); err != syscall.EINTR { //nolint:errorlint // an errno
			break
		}
	}
	check(err)
	fmt.Println(use.Maxrss)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
