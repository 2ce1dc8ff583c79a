// Package secret holds credentials as values that do not print.
package secret

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Text is a credential: an access token, a refresh token, a client secret, a
// code verifier. The value sits in a closure, because a string field would
// still be printed in full by %v of a struct that holds it unexported, and by
// test-diff printers that follow pointers. Comparing two Texts with == does not
// compile; use Equal. The zero value is the empty credential.
//
// Go cannot promise to wipe a string from memory, so Text does not claim it.
type Text struct{ reveal func() string }

// New wraps s.
func New(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{func() string { return s }}
}

// Reveal returns the credential in the clear. It is the only door: searching
// the repository for calls of Reveal lists every place where one leaves.
func (t Text) Reveal() string {
	if t.reveal == nil {
		return ""
	}
	return t.reveal()
}

// IsZero reports whether the credential is empty.
func (t Text) IsZero() bool { return t.reveal == nil }

// Len returns the length of the credential in bytes.
func (t Text) Len() int { return len(t.Reveal()) }

// Equal compares two credentials in constant time (for equal lengths).
func (t Text) Equal(u Text) bool {
	return subtle.ConstantTimeCompare([]byte(t.Reveal()), []byte(u.Reveal())) == 1
}

// String returns a fixed text in place of the credential.
func (Text) String() string { return redacted }

// GoString returns a fixed text in place of the credential.
func (Text) GoString() string { return redacted }

// Format writes a fixed text for every verb.
func (Text) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue keeps the credential out of structured logs.
func (Text) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON writes a fixed text. Storage and wire formats have record types
// of their own that call Reveal.
func (Text) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText writes a fixed text.
func (Text) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText always fails: a store that once wrote "[redacted]" must learn
// it now and not when the credential is needed.
func (*Text) UnmarshalText([]byte) error {
	return errors.New("secret: a credential cannot be decoded implicitly, build it with New")
}
