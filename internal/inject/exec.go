package inject

import (
	"fmt"
	"path/filepath"
)

// NotFoundError says that a command does not exist: status 127, as a shell
// has it.
type NotFoundError struct {
	Command string
	// Reason is empty, or says more than that there is no such file.
	Reason string
}

func (e *NotFoundError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("command %q not found: %s", e.Command, e.Reason)
	}
	return fmt.Sprintf("command %q not found", e.Command)
}

// ExitCode returns 127.
func (e *NotFoundError) ExitCode() int { return 127 }

// NotExecutableError says that a command exists and cannot be run: status 126,
// as a shell has it.
type NotExecutableError struct {
	Command string
	Path    string // the file
	Err     error
}

func (e *NotExecutableError) Error() string {
	if e.Path != "" && e.Path != e.Command {
		return fmt.Sprintf("cannot run %q (%s): %v", e.Command, e.Path, e.Err)
	}
	return fmt.Sprintf("cannot run %q: %v", e.Command, e.Err)
}

func (e *NotExecutableError) Unwrap() error { return e.Err }

// ExitCode returns 126.
func (e *NotExecutableError) ExitCode() int { return 126 }

// ExitError is how a child ended that did not take this process's place: Code
// is to be this process's own, and nothing is to be printed about it.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with status %d", e.Code) }

// ExitCode returns the child's own status.
func (e *ExitError) ExitCode() int { return e.Code }

// relative explains a command that was found only where it is not looked for.
func relative(command, found string) *NotFoundError {
	return &NotFoundError{command, fmt.Sprintf("%s stands in a relative entry of PATH, which is not searched; name it with its path", filepath.ToSlash(found))}
}
