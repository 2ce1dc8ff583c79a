package oauth

import (
	"errors"
	"fmt"
	"time"
)

// Errors of a request, told apart by what may have happened at the issuer.
var (
	// ErrNotSent: the request did not reach the issuer (dial, TLS, refused
	// URL). Nothing changed there.
	ErrNotSent = errors.New("the request was not sent")
	// ErrNoAnswer: bytes were sent and no complete answer came. The issuer may
	// or may not have acted.
	ErrNoAnswer = errors.New("the issuer's answer did not arrive")
	// ErrUnusable: an answer came that is neither a valid token response nor
	// an OAuth error.
	ErrUnusable = errors.New("the issuer's answer is not usable")
)

// Error is an OAuth error response (RFC 6749 section 5.2), also when it came
// with status 200. Code and Description are cleaned for display.
type Error struct {
	Status      int
	Code        string
	Description string
	URI         string
}

// Error describes the refusal in one line.
func (e *Error) Error() string {
	if e.Description == "" {
		return fmt.Sprintf("the issuer answered %s", e.Code)
	}
	return fmt.Sprintf("the issuer answered %s: %s", e.Code, e.Description)
}

// StatusError is an answer whose status alone tells what it means: 429 and 5xx.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // zero when not given or unreadable
}

// Error names the status and the wait that the issuer asks for.
func (e *StatusError) Error() string {
	if e.RetryAfter > 0 {
		return fmt.Sprintf("the issuer answered HTTP status %d and asks to wait %s", e.Status, e.RetryAfter)
	}
	return fmt.Sprintf("the issuer answered HTTP status %d", e.Status)
}
