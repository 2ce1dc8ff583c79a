//go:build unix

// Command exec is the floor of "apiauth exec": a Go process that adds a variable
// and becomes another program.
package main

import (
	"os"
	"syscall"
)

func main() {
	err := syscall.Exec(os.Args[1], os.Args[1:], append(os.Environ(), "API_TOKEN=abc")) //nolint:gosec // that is what it is for
	_, _ = os.Stderr.WriteString(err.Error() + "\n")
	os.Exit(126)
}
