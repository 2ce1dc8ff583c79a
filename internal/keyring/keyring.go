// Package keyring is a thin adapter over the keychain of the operating system.
// It adds what the library below it leaves to its callers: a deadline around
// every call, cancellation, one call at a time, limits on sizes and names, and
// errors that can be told apart.
//
// It does not add protection. Any process of the same user can read what lies
// in the keychain, on Linux it crosses the session bus in clear, and on macOS
// items made through the security tool are read by it without a question.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Backend is a keychain as the library below sees it: calls block, take no
// context, and may never return. A missing item is ErrNotFound (ours or the
// library's); a Backend may return any Err* value of this package, everything
// else is classified.
type Backend interface {
	Get(service, account string) (string, error)
	Set(service, account, value string) error
	Delete(service, account string) error
}

// Options configure a Keyring. The zero value is the operating system's
// keychain, used without a person in front of it.
type Options struct {
	// Interactive says that a person is there to answer the keychain's own
	// question (unlock, allow).
	Interactive bool
	// Deadline bounds one call, the wait for its turn included. Default: 30 s
	// when Interactive, else 4 s.
	Deadline time.Duration
	// Budget bounds the time spent in all calls together when not Interactive;
	// what is left of it also bounds each call. Default: 4 s. Negative: none,
	// for commands that run for hours.
	Budget time.Duration
	// Backend replaces the operating system's keychain.
	Backend Backend
	// Env looks up an environment variable. Default: os.Getenv.
	Env func(string) string
	// GOOS selects limits and the reading of errors. Default: runtime.GOOS.
	GOOS string
}

// Keyring reads and writes items of the keychain. It is safe for concurrent
// use and lets one call at a time through to the backend: some keychains lose
// writes or crash when asked in parallel. A process makes one Keyring and
// shares it.
//
// A call that did not end in time is abandoned, not stopped, since nothing can
// stop it. While it holds the backend every other call fails at once with
// ErrTimeout; when it ends after all, calls are let through again.
type Keyring struct {
	backend  Backend
	goos     string
	deadline time.Duration
	budget   time.Duration // zero or less: none

	mu      sync.Mutex
	current *turn         // the call that holds the backend, if any
	spent   time.Duration // in calls so far
}

// turn is one call's hold on the backend.
type turn struct {
	ended  chan struct{} // closed when the backend came back
	gaveUp chan struct{} // closed when its caller stopped waiting for it
}

// New makes a Keyring. It touches neither the keychain nor the bus.
func New(o Options) *Keyring {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if o.GOOS == "" {
		o.GOOS = runtime.GOOS
	}
	if o.Backend == nil {
		o.Backend = newOSKeychain(o.Env)
	}
	if o.Deadline <= 0 {
		o.Deadline = 4 * time.Second
		if o.Interactive {
			o.Deadline = 30 * time.Second
		}
	}
	if o.Budget == 0 {
		o.Budget = 4 * time.Second
	}
	if o.Interactive {
		o.Budget = -1
	}
	return &Keyring{backend: o.Backend, goos: o.GOOS, deadline: o.Deadline, budget: o.Budget}
}

// Get reads an item. A missing one is ErrNotFound.
func (k *Keyring) Get(ctx context.Context, service, account string) (secret.Text, error) {
	value, err := k.call(ctx, request{op: "get", service: service, account: account}, func() (string, error) {
		return k.backend.Get(service, account)
	})
	if err != nil {
		return secret.Text{}, err
	}
	if len(value) > maxRead {
		return secret.Text{}, &Error{Op: "get", Service: service, Account: account, Kind: ErrTooLarge,
			Err: fmt.Errorf("the item holds %d bytes, more than %d", len(value), maxRead)}
	}
	return secret.New(value), nil
}

// Set writes an item, replacing what it held. ErrUnknown says that the value
// may or may not have been written, or may be written later: read the item
// back before anything else. Some keychains answer success and write nothing,
// so a caller that depends on the item reads it back in any case.
func (k *Keyring) Set(ctx context.Context, service, account string, value secret.Text) error {
	clear := value.Reveal()
	_, err := k.call(ctx, request{op: "set", service: service, account: account, value: clear}, func() (string, error) {
		return "", k.backend.Set(service, account, clear)
	})
	return err
}

// Delete removes an item. A missing one is no error. ErrUnknown says that the
// item may still be there, or may go later.
func (k *Keyring) Delete(ctx context.Context, service, account string) error {
	_, err := k.call(ctx, request{op: "delete", service: service, account: account}, func() (string, error) {
		return "", k.backend.Delete(service, account)
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// Describe names the kind of keychain for people. It asks nobody.
func (k *Keyring) Describe() string {
	switch k.goos {
	case "darwin":
		return "macOS keychain"
	case "windows":
		return "Windows Credential Manager"
	}
	return "Secret Service (GNOME keyring, KWallet, KeePassXC)"
}

// request is what one call is about.
type request struct {
	op, service, account string
	value                string // what Set writes
}

func (r request) writes() bool { return r.op != "get" }

// fail builds the Error of a request.
func (r request) fail(kind, err error) *Error {
	return &Error{Op: r.op, Service: r.service, Account: r.account, Kind: kind, Err: withhold(err, r.value)}
}

// call checks the request, waits for its turn and runs do under the deadline.
// Errors are *Error.
func (k *Keyring) call(ctx context.Context, r request, do func() (string, error)) (string, error) {
	if err := checkNames(r.service, r.account); err != nil {
		return "", r.fail(ErrName, err)
	}
	if r.op == "set" {
		if limit := k.largest(r.service, r.account); len(r.value) > limit {
			return "", r.fail(ErrTooLarge, fmt.Errorf("%d bytes where %d fit", len(r.value), limit))
		}
	}
	if err := ctx.Err(); err != nil {
		return "", r.fail(contextKind(err, ErrTimeout), err)
	}
	limit, err := k.allowance()
	if err != nil {
		return "", r.fail(ErrTimeout, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	t, err := k.acquire(ctx, timer.C)
	if err != nil {
		return "", r.fail(contextKind(err, ErrTimeout), err)
	}
	value, err := k.run(ctx, timer.C, t, limit, do)
	if err == nil {
		return value, nil
	}
	var gone *abandonedError
	if errors.As(err, &gone) {
		kind := contextKind(gone.cause, ErrTimeout)
		if r.writes() {
			kind = ErrUnknown
		}
		return "", r.fail(kind, gone.cause)
	}
	var crash *panicError
	if errors.As(err, &crash) && r.writes() {
		return "", r.fail(ErrUnknown, err) // it may have been on its way
	}
	kind, cause := classify(k.goos, r.writes(), err)
	return "", r.fail(kind, cause)
}

// contextKind is a cancellation as itself, and otherwise the given kind.
func contextKind(err, kind error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	return kind
}

// allowance is the time that a call may take now.
func (k *Keyring) allowance() (time.Duration, error) {
	if k.budget <= 0 {
		return k.deadline, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.budget - k.spent
	if left <= 0 {
		return 0, fmt.Errorf("the %v that one command may spend on the keychain are used up", k.budget)
	}
	return min(k.deadline, left), nil
}

// acquire waits until no other call holds the backend and takes the hold. It
// fails at once while a call that was given up holds it.
func (k *Keyring) acquire(ctx context.Context, timeout <-chan time.Time) (*turn, error) {
	for {
		k.mu.Lock()
		holder := k.current
		if holder == nil {
			t := &turn{ended: make(chan struct{}), gaveUp: make(chan struct{})}
			k.current = t
			k.mu.Unlock()
			return t, nil
		}
		k.mu.Unlock()
		select {
		case <-holder.ended:
		case <-holder.gaveUp:
			select {
			case <-holder.ended:
			default:
				return nil, errors.New("an earlier call to it has not ended yet")
			}
		case <-timeout:
			return nil, errors.New("other calls to it took all the time")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// run runs do in a goroutine of its own, because nothing else bounds it, and
// waits for its answer as long as the caller may wait. It counts the time.
func (k *Keyring) run(ctx context.Context, timeout <-chan time.Time, t *turn, limit time.Duration, do func() (string, error)) (string, error) {
	type answer struct {
		value string
		err   error
	}
	done := make(chan answer, 1)
	start := time.Now()
	go func() {
		var a answer
		defer func() {
			// The library trusts the other side: it asserts types of answers,
			// and uses a nil signal when the bus ends during a question.
			if p := recover(); p != nil {
				a = answer{err: &panicError{p}}
			}
			done <- a
			k.release(t)
		}()
		a.value, a.err = do()
	}()
	defer func() {
		k.mu.Lock()
		k.spent += time.Since(start)
		k.mu.Unlock()
	}()
	var cause error
	select {
	case a := <-done:
		return a.value, a.err
	case <-timeout:
		cause = fmt.Errorf("it took longer than %v; it may be waiting for a window of its own to be answered", limit)
	case <-ctx.Done():
		cause = ctx.Err()
	}
	select {
	case a := <-done:
		return a.value, a.err
	default:
	}
	close(t.gaveUp)
	return "", &abandonedError{cause}
}

// release ends a turn.
func (k *Keyring) release(t *turn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = nil
	close(t.ended)
}

// abandonedError says that the caller stopped waiting.
type abandonedError struct{ cause error }

func (e *abandonedError) Error() string { return e.cause.Error() }

// panicError is a panic of the library. Only the runtime's own panics are
// shown: they hold names of types and no values.
type panicError struct{ value any }

func (e *panicError) Error() string {
	const text = "the keychain library failed on its answer"
	if err, ok := e.value.(runtime.Error); ok {
		return text + ": " + err.Error()
	}
	return text
}
