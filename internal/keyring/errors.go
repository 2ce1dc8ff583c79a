package keyring

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"unicode"

	gokeyring "github.com/zalando/go-keyring"
)

// What can be wrong with a keychain, for errors.Is.
var (
	// ErrNotFound: there is no such item. Delete never returns it.
	ErrNotFound = errors.New("the keychain has no such item")
	// ErrLocked: a person must unlock the keychain, or it was never set up.
	ErrLocked = errors.New("the keychain is locked")
	// ErrDenied: a person or the system refused.
	ErrDenied = errors.New("access to the keychain was denied")
	// ErrAbsent: there is no keychain here.
	ErrAbsent = errors.New("there is no keychain")
	// ErrTimeout: no answer in time. Where a write was not started it stands
	// for itself, and the write will not happen.
	ErrTimeout = errors.New("the keychain did not answer")
	// ErrUnknown: a write was started and its outcome is not known; it may
	// still happen. It is an ErrTimeout too.
	ErrUnknown error = unknownError{}
	// ErrTooLarge: the value does not fit. Nothing was sent.
	ErrTooLarge = errors.New("the value is too large for the keychain")
	// ErrName: a service or account that is never sent to a keychain.
	ErrName = errors.New("the name is not allowed in a keychain")
	// ErrFailed: anything else.
	ErrFailed = errors.New("the keychain failed")
)

// unknownError is the type of ErrUnknown. Nothing is formatted at each start.
type unknownError struct{}

func (unknownError) Error() string { return "nobody knows if it was written: " + ErrTimeout.Error() }

func (unknownError) Unwrap() error { return ErrTimeout }

// Error is what every method of Keyring returns. Its text never holds the
// item's value, and no character that could steer a terminal.
type Error struct {
	Op      string // get, set or delete
	Service string
	Account string
	Kind    error // one of the Err* values, or context.Canceled
	Err     error // what the keychain said; may be nil or Kind itself
}

// Error names the operation, the item, the kind and the reason.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "keychain: %s %s %s: %v", e.Op, printable(e.Service, 80), printable(e.Account, 200), e.Kind)
	if e.Err != nil && e.Err != e.Kind { //nolint:errorlint // identity is meant: do not say the same twice
		fmt.Fprintf(&b, ": %s", printable(e.Err.Error(), 300))
	}
	return b.String()
}

// Unwrap gives Kind and Err.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// printable caps s at limit bytes and takes out what could steer a terminal.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
}

// withhold drops an error whose text repeats the value, as it is or coded.
func withhold(err error, value string) error {
	if err == nil || value == "" {
		return err
	}
	text := err.Error()
	if strings.Contains(text, value) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(value))) {
		return errors.New("its message repeated the value and is not shown")
	}
	return err
}

// reason is a kind with an explanation of ours; its text is the explanation.
type reason struct {
	kind error
	text string
	err  error // what the keychain said, may be nil
}

func (r *reason) Error() string {
	if r.err == nil {
		return r.text
	}
	return r.text + " (" + r.err.Error() + ")"
}

func (r *reason) Unwrap() []error {
	if r.err == nil {
		return []error{r.kind}
	}
	return []error{r.kind, r.err}
}

// classify finds the kind of an error that a backend returned, and adds a
// reason where the error does not explain itself. The library's errors carry
// no type on Linux and only an exit status on macOS.
func classify(goos string, write bool, err error) (kind, cause error) {
	var r *reason
	if errors.As(err, &r) {
		return r.kind, err
	}
	for _, kind := range []error{
		ErrNotFound, ErrLocked, ErrDenied, ErrAbsent, ErrUnknown, ErrTimeout, ErrTooLarge, ErrName, ErrFailed,
	} {
		if errors.Is(err, kind) {
			if kind == ErrTimeout && write { //nolint:errorlint // a constant of the list
				return ErrUnknown, err
			}
			return kind, err
		}
	}
	explain := func(kind error, text string) (error, error) {
		return kind, &reason{kind: kind, text: text, err: err}
	}
	switch {
	case errors.Is(err, gokeyring.ErrNotFound):
		return ErrNotFound, nil
	case errors.Is(err, gokeyring.ErrSetDataTooBig):
		return ErrTooLarge, err
	case errors.Is(err, gokeyring.ErrUnsupportedPlatform):
		return explain(ErrAbsent, "this build of the program has no keychain for this system (on FreeBSD and DragonFly one needs cgo)")
	}
	switch goos {
	case "darwin":
		return classifyDarwin(err)
	case "windows":
		return classifyWindows(err)
	}
	return classifySecretService(write, err)
}

// classifyDarwin reads the exit status of /usr/bin/security, which is the low
// byte of the OSStatus (SecBase.h). The tool's text does not get here.
func classifyDarwin(err error) (kind, cause error) {
	explain := func(kind error, text string) (error, error) {
		return kind, &reason{kind: kind, text: text, err: err}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
			return explain(ErrAbsent, "the security tool is missing")
		}
		return ErrFailed, err
	}
	switch exit.ExitCode() {
	case 44: // errSecItemNotFound, -25300
		return ErrNotFound, nil
	case 36: // errSecInteractionNotAllowed, -25308
		return explain(ErrLocked, "user interaction is not allowed, as in an SSH session or with a locked login keychain")
	case 29: // errSecInteractionRequired, -25315
		return explain(ErrLocked, "user interaction is required")
	case 51: // errSecAuthFailed, -25293
		return explain(ErrDenied, "the keychain's password was wrong or not given")
	case 128: // errSecUserCanceled, -128
		return explain(ErrDenied, "the question was cancelled")
	case 52: // errSecReadOnly, -25292
		return explain(ErrDenied, "the keychain is read-only")
	case 100: // errSecInvalidOwnerEdit, -25244
		return explain(ErrDenied, "the item belongs to another program")
	case 195: // wrPermErr, -61
		return explain(ErrDenied, "the keychain file may not be written")
	case 37: // errSecNoDefaultKeychain, -25307
		return explain(ErrAbsent, "there is no default keychain")
	case 50: // errSecNoSuchKeychain, -25294
		return explain(ErrAbsent, "the keychain file is missing")
	case 53: // errSecNotAvailable, -25291
		return explain(ErrAbsent, "no keychain is available")
	}
	return ErrFailed, err
}

// classifyWindows reads the error number of the credential functions.
func classifyWindows(err error) (kind, cause error) {
	explain := func(kind error, text string) (error, error) {
		return kind, &reason{kind: kind, text: text, err: err}
	}
	var number syscall.Errno
	if !errors.As(err, &number) {
		return ErrFailed, err
	}
	switch number {
	case 1168: // ERROR_NOT_FOUND
		return ErrNotFound, nil
	case 1312: // ERROR_NO_SUCH_LOGON_SESSION
		return explain(ErrAbsent, "Windows gives this kind of logon, such as SSH or a service, no credential store")
	case 1058, 1062, 1722: // ERROR_SERVICE_DISABLED, ERROR_SERVICE_NOT_ACTIVE, RPC_S_SERVER_UNAVAILABLE
		return explain(ErrAbsent, "the Credential Manager service does not run")
	case 5: // ERROR_ACCESS_DENIED
		return explain(ErrDenied, "Windows refused access, as it does in some SSH sessions")
	case 1314: // ERROR_PRIVILEGE_NOT_HELD
		return ErrDenied, err
	case 1223: // ERROR_CANCELLED
		return explain(ErrDenied, "the question was cancelled")
	case 1783: // RPC_X_BAD_STUB_DATA
		return ErrTooLarge, err
	}
	return ErrFailed, err
}

// classifySecretService reads D-Bus error names where there are any, and for
// the rest the texts of the library and of gnome-keyring.
func classifySecretService(write bool, err error) (kind, cause error) {
	explain := func(kind error, text string) (error, error) {
		return kind, &reason{kind: kind, text: text, err: err}
	}
	lost := ErrTimeout
	if write {
		lost = ErrUnknown
	}
	name := busErrorName(err)
	switch {
	case name == "org.freedesktop.DBus.Error.ServiceUnknown", name == "org.freedesktop.DBus.Error.NameHasNoOwner",
		strings.HasPrefix(name, "org.freedesktop.DBus.Error.Spawn."):
		return explain(ErrAbsent, "no Secret Service answers on the session bus")
	case name == "org.freedesktop.DBus.Error.NoReply", name == "org.freedesktop.DBus.Error.Timeout",
		name == "org.freedesktop.DBus.Error.TimedOut", name == "org.freedesktop.DBus.Error.Disconnected":
		return explain(lost, "the Secret Service went away during the call")
	case name == "org.freedesktop.DBus.Error.AccessDenied", name == "org.freedesktop.DBus.Error.AuthFailed",
		name == "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired":
		return ErrDenied, err
	case name == "org.freedesktop.Secret.Error.IsLocked":
		return ErrLocked, err
	case name != "":
		return ErrFailed, err
	}
	text := err.Error()
	var dial *net.OpError
	switch {
	case strings.HasPrefix(text, "failed to unlock correct collection"):
		if strings.Contains(text, "/aliases/default") {
			return explain(ErrLocked, "the default collection is locked, or was never created")
		}
		return explain(ErrLocked, "the collection stayed locked")
	case errors.Is(err, fs.ErrPermission), text == "dbus: authentication failed":
		return explain(ErrDenied, "the session bus belongs to somebody else")
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, exec.ErrNotFound), errors.Is(err, exec.ErrDot), strings.HasPrefix(text, "dbus: couldn't determine address"),
		strings.HasPrefix(text, "dbus: invalid bus address"), strings.HasPrefix(text, "dbus: invalid address"):
		return explain(ErrAbsent, "the session bus cannot be reached")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.EPIPE),
		errors.Is(err, syscall.ECONNRESET), text == "dbus: connection closed by user":
		return explain(lost, "the session bus went away during the call")
	}
	return ErrFailed, err
}
