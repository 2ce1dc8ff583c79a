//go:build !linux

package audit

// Caller returns the executable and the working directory of the process that
// started this one. This system has no file that tells, so both are empty.
func Caller() (executable, folder string) { return "", "" }
