// Package cli is the command line: one file per command, each a constructor, an
// options struct and a plain function. It translates between people and the
// rooms that do the work, and holds nothing else.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/keyring"
)

// App is everything that a command may touch of the world outside. main fills
// it once; tests fill it with their own.
type App struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// StdinTTY, StdoutTTY and StderrTTY say which of the three are terminals.
	StdinTTY, StdoutTTY, StderrTTY bool
	// Terminal is the terminal to read keys from when StdinTTY is set.
	Terminal *os.File

	Env     func(name string) (string, bool)
	Environ func() []string
	Dir     string // working directory, absolute
	Home    string
	GOOS    string
	PID     int
	// Executable is the path of this binary.
	Executable string
	// Caller returns the executable and the working directory of the process
	// that started this one; nil tells neither.
	Caller func() (executable, folder string)

	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	Rand  io.Reader

	// Keychain replaces the operating system's keychain; nil for the real one.
	Keychain keyring.Backend
	// StartBrowser starts a browser's command line; nil starts a process.
	StartBrowser func(ctx context.Context, argv []string) error
	// SystemBrowser opens a URL where the system has no program for that
	// (Windows).
	SystemBrowser func(url string) error
	// Approve, when set, stands in for browser and person: it walks a login by
	// itself. Only the sandbox sets it, for its own issuer.
	Approve func(ctx context.Context, url string) error
	// ReadPaste, when set, stands in for the terminal at which a final address is
	// pasted. Only the dashboard sets it.
	ReadPaste func(ctx context.Context) (string, error)
	// Exec replaces this process by a command. It returns only on failure.
	Exec func(argv, env []string) error
	// Conceal hides this process from others of the same user, as far as the
	// system can; nil does nothing.
	Conceal func()
	// Catch makes signals that ask this process to end cancel the context of
	// Main instead. It may be called more than once; nil does nothing.
	Catch func()
	// Interrupted returns the number of the signal that ended the context, or 0.
	Interrupted func() int

	Version Version
}

// Version is set by the linker.
type Version struct {
	Number string // without a leading v
	Commit string
	Date   string
}

// Main runs the command line and returns the exit status.
func Main(ctx context.Context, app *App, args []string) int {
	root := newRoot(app, namedCommand(args))
	root.SetArgs(args)
	root.SetIn(app.Stdin)
	root.SetOut(app.Stdout)
	root.SetErr(app.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	return app.report(cmd, err)
}

// report prints an error and returns its exit status.
func (a *App) report(cmd *cobra.Command, err error) int {
	if n := a.interruptedBy(); n > 0 && errors.Is(err, context.Canceled) {
		return exitSignal + n
	}
	var silent *silentError
	if errors.As(err, &silent) {
		return silent.code
	}
	if child, ok := errors.AsType[*inject.ExitError](err); ok {
		return child.Code
	}
	code, hint := explain(err)
	printError(a.Stderr, err, hint)
	if code == exitUsage && cmd != nil && isUsageError(err) {
		fmt.Fprintf(a.Stderr, "apiauth: hint: '%s --help' lists what it takes\n", cmd.CommandPath())
	}
	return code
}

func (a *App) catch() {
	if a.Catch != nil {
		a.Catch()
	}
}

func (a *App) interruptedBy() int {
	if a.Interrupted == nil {
		return 0
	}
	return a.Interrupted()
}

func (a *App) env(name string) string {
	v, _ := a.Env(name)
	return v
}

// person reports whether somebody is there to answer questions.
func (a *App) person(g *globals) bool {
	return a.StdinTTY && a.StderrTTY && !g.cfg.NoInput && !a.inCI()
}

func (a *App) inCI() bool {
	v, _ := a.Env("CI")
	return v != "" && v != "0" && v != "false"
}
