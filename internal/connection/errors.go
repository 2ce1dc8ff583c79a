package connection

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
)

// Errors that callers tell apart. Each is wrapped with the connection's name.
var (
	// ErrNotConnected: nothing is stored under this name.
	ErrNotConnected = errors.New("not connected")
	// ErrNeedsConnect: a person must grant access again. The record is kept.
	ErrNeedsConnect = errors.New("access must be granted again")
	// ErrTemporary: the network or the issuer failed; nothing was lost.
	ErrTemporary = errors.New("temporary failure")
	// ErrClient: the issuer refuses the client registration.
	ErrClient = errors.New("the issuer refuses the client")
	// ErrRefused: the issuer refused the request for a reason that neither time
	// nor another login changes.
	ErrRefused = errors.New("the issuer refused the request")
	// ErrAccountDeclined: another account signed in, and the person said no.
	ErrAccountDeclined = errors.New("another account signed in; the connection was left as it was")
	// ErrNameTaken: a rename would overwrite a connection.
	ErrNameTaken = errors.New("a connection of that name exists")
)

// Errors of a Store.
var (
	ErrNotStored  = errors.New("no such record")
	ErrConflict   = errors.New("the record was changed by another process")
	ErrCorrupt    = errors.New("the record is damaged or was not written here")
	ErrNewer      = errors.New("the record was written by a newer version")
	ErrStoreFull  = errors.New("no space left for the store")
	ErrStoreWrite = errors.New("the store cannot be written")
	ErrStoreRead  = errors.New("the store cannot be read")
	ErrNotKept    = errors.New("the keychain answered success and did not keep the value")
	ErrStoreKey   = errors.New("the store's key is missing or wrong")
	// ErrNotExclusive: two could hold a connection's lock at once, and both would
	// use up its refresh token.
	ErrNotExclusive = errors.New("locks do not exclude each other")
)

// LockedError says that another process held the connection's lock for longer
// than the caller may wait.
type LockedError struct {
	Key    Key
	PID    int // 0 when unknown
	Waited time.Duration
}

// Error names the holder.
func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s has been working on %q for more than %s", who, e.Key.Name, e.Waited.Round(time.Second))
}

// ChangedError says that the definition of a provider no longer agrees with
// what the connection was bound to when the person approved it.
type ChangedError struct {
	Name     string
	Provider string
	Changes  []providers.Change
}

// Error lists the differences.
func (e *ChangedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the definition of %s changed since %q was connected", e.Provider, e.Name)
	for _, c := range e.Changes {
		fmt.Fprintf(&b, "\n  %s: was %s, is %s", c.Field, orNone(c.Was), orNone(c.Is))
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// DefiniteError carries a message together with the sentinel that classifies
// it, so that the text a person reads is not doubled by the sentinel's.
type DefiniteError struct {
	Kind error
	Msg  string
	Err  error // the cause, may be nil
}

// Error returns the message and the cause.
func (e *DefiniteError) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the class and the cause.
func (e *DefiniteError) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

func definite(kind, cause error, format string, a ...any) error {
	return &DefiniteError{Kind: kind, Msg: fmt.Sprintf(format, a...), Err: cause}
}
