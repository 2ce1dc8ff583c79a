//go:build !linux

package inject

// Conceal does what it can to keep this process's memory from other processes
// of the same user. On this system that is nothing.
func Conceal() {}
