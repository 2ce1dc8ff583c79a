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
	// ErrRefused: a rule of ours forbids the request (URL, header, client
	// authentication, CA file). It comes together with ErrNotSent, and trying
	// again does not help.
	ErrRefused = errors.New("the request is not allowed")
	// ErrCertificate: the client's certificate does not do (RFC 8705): it has
	// ended, the server refused it, or never asked for it. It comes together with
	// ErrRefused and ErrNotSent.
	ErrCertificate = errors.New("the client's certificate does not do")
)

// Error is an OAuth error response (RFC 6749 section 5.2), also when it came
// with status 200. Code and Description are cleaned for display.
type Error struct {
	Status      int
	Code        string
	Description string
	URI         string
	// Interval is the new polling interval of a device flow's slow_down, 1 s
	// to 60 s; zero when the response has none.
	Interval time.Duration
	// RetryAfter is the wait asked for; zero when not given or unreadable.
	RetryAfter time.Duration
}

// Error describes the refusal in one line.
func (e *Error) Error() string {
	if e.Description == "" {
		return fmt.Sprintf("the issuer answered %s", e.Code)
	}
	return fmt.Sprintf("the issuer answered %s: %s", e.Code, e.Description)
}

// StatusError is an answer whose status alone tells what it means: 429 and 5xx
// of a token endpoint, any status other than 2xx elsewhere.
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

// IsTemporary reports whether err says nothing about the grant, so that the
// same request may succeed later: network trouble, 429, 5xx, an answer that is
// not usable (a captive portal, a half-dead issuer), temporarily_unavailable
// and server_error. It is false for ErrRefused and for every other OAuth error.
func IsTemporary(err error) bool {
	if err == nil || errors.Is(err, ErrRefused) {
		return false
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status == 429 || e.Status >= 500 || temporaryCode(e.Code)
	}
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status == 408 || e.Status == 429 || e.Status >= 500
	}
	return errors.Is(err, ErrNotSent) || errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrUnusable)
}

// ErrorCode returns the code of an OAuth error response in err's chain, such as
// invalid_grant, or "" when there is none. 5xx and 429 never carry a code that
// condemns a grant: see ParseToken.
func ErrorCode(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// temporaryCode reports the codes that are no verdict on the grant.
func temporaryCode(code string) bool {
	switch code {
	case "temporarily_unavailable", "server_error", "slow_down", "authorization_pending":
		return true
	}
	return false
}

// failure is an error with a text of our own, so that nothing which the far
// side or the network stack put into an error reaches the user unchecked, and
// with the sentinels that callers tell it apart by.
type failure struct {
	text  string
	kinds []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.kinds }

func refusef(format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), []error{ErrNotSent, ErrRefused}}
}

func certificatef(format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), []error{ErrNotSent, ErrRefused, ErrCertificate}}
}

func unusablef(format string, args ...any) error {
	return &failure{fmt.Sprintf(format, args...), []error{ErrUnusable}}
}
