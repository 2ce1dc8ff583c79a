package inject

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// GitRequest is what git tells a credential helper that it looks for: the input
// format of git-credential(1).
type GitRequest struct {
	Protocol string
	Host     string // with its port, if there is one
	Path     string
	Username string // empty: any
}

// maxGitInput bounds a description: git's own lines are 64 KiB at most.
const maxGitInput = 256 << 10

// errGitInput says that a description is not one.
var errGitInput = errors.New("the input is not what git sends to a credential helper")

// ParseGitRequest reads a description up to an empty line or the end. Attributes
// that are not known are passed over, as the protocol asks for: those with
// several values (wwwauth[], capability[], state[]) too. A single one that is
// given twice holds as it was given last; an attribute url sets the parts that
// it has.
func ParseGitRequest(r io.Reader) (GitRequest, error) {
	doc, err := io.ReadAll(io.LimitReader(r, maxGitInput+1))
	if err != nil {
		return GitRequest{}, fmt.Errorf("read what git asks for: %w", err)
	}
	if len(doc) > maxGitInput {
		return GitRequest{}, errGitInput
	}
	var q GitRequest
	for line := range strings.SplitSeq(string(doc), "\n") {
		if line == "" {
			break
		}
		key, value, found := strings.Cut(line, "=")
		if !found || key == "" || strings.ContainsAny(value, "\x00\r") {
			return GitRequest{}, errGitInput
		}
		switch key {
		case "protocol":
			q.Protocol = value
		case "host":
			q.Host = value
		case "path":
			q.Path = value
		case "username":
			q.Username = value
		case "url":
			u, err := url.Parse(value)
			if err != nil || u.Scheme == "" || u.Host == "" {
				return GitRequest{}, errGitInput
			}
			q = GitRequest{Protocol: u.Scheme, Host: u.Host, Path: strings.TrimPrefix(u.Path, "/"), Username: u.User.Username()}
		}
	}
	return q, nil
}

// GitAnswer is what a helper answers.
type GitAnswer struct {
	Username string
	Token    secret.Text
	Expires  time.Time // zero: no expiry known
}

// Write writes the answer, with password_expiry_utc in seconds since 1970 where
// an expiry is known. A value that the line protocol cannot carry is a
// *ValueError, and nothing is written.
func (a GitAnswer) Write(w io.Writer, connection string) error {
	for _, v := range []string{a.Username, a.Token.Reveal()} {
		if v == "" || strings.ContainsAny(v, "\x00\r\n") {
			return &ValueError{"the git password", connection, "git-credential", "is empty or contains a line end or NUL"}
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "username=%s\npassword=%s\n", a.Username, a.Token.Reveal())
	if !a.Expires.IsZero() {
		fmt.Fprintf(&b, "password_expiry_utc=%d\n", a.Expires.Unix())
	}
	_, err := io.WriteString(w, b.String())
	return err
}
