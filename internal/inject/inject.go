// Package inject hands live access tokens to what uses them: the environment of
// a child process, or text that a shell or a tool reads. It obtains nothing: it
// takes credentials and names and knows how to deliver them unchanged, or to
// say why it will not.
package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// Entry is one connection whose token is wanted.
type Entry struct {
	// Connection is the connection's name, ProviderID its provider.
	Connection string
	ProviderID string
	// ProviderEnv is the variable that the provider's definition names. It is
	// used only when the connection bears the provider's name.
	ProviderEnv string
	// Override is the variable that the manifest or a flag names; it wins.
	Override string
	// Token is the live access token.
	Token secret.Text
	// Kept are the fields of the token response that the provider's definition
	// keeps, by their names in the response (instance_url).
	Kept map[string]string
}

// Var is one variable with its value.
type Var struct {
	Name       string
	Value      secret.Text
	Connection string // the connection that it comes from
	// Field is the kept field of the token response that it holds, and empty
	// when it holds the access token itself.
	Field string
}

// NameError says that a variable name cannot be used.
type NameError struct {
	Connection string
	Name       string
	Err        error
}

func (e *NameError) Error() string {
	return fmt.Sprintf("the variable %q for connection %q cannot be used: %v", e.Name, e.Connection, e.Err)
}

func (e *NameError) Unwrap() error { return e.Err }

// ConflictError says that two connections want the same variable.
type ConflictError struct {
	Name          string
	First, Second string // the connections
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the connections %q and %q both want the variable %s", e.First, e.Second, e.Name)
}

// ValueError says that a value cannot be carried by a format or by an
// environment. It never holds the value.
type ValueError struct {
	Name       string
	Connection string
	Format     string // empty: the environment itself
	Reason     string
}

func (e *ValueError) Error() string {
	if e.Format == "" {
		return fmt.Sprintf("the value for %s of connection %q cannot be put into an environment: it %s", e.Name, e.Connection, e.Reason)
	}
	return fmt.Sprintf("the value for %s of connection %q cannot be written as %s: it %s", e.Name, e.Connection, e.Format, e.Reason)
}

// VarName returns the variable that carries a connection's token: override (the
// manifest's or the flag's) when there is one, else providerEnv when the
// connection bears the provider's name, else NAME_ACCESS_TOKEN. The error is a
// *NameError when the name does not match [A-Z][A-Z0-9_]* (a leading
// underscore is possible only for names made from a leading digit).
func VarName(connection, providerID, providerEnv, override string) (string, error) {
	name := override
	switch {
	case name != "":
	case providerEnv != "" && connection == providerID:
		name = providerEnv
	default:
		name = capitals(connection) + "_ACCESS_TOKEN"
		return name, checkForm(connection, name, validName(name))
	}
	return name, checkForm(connection, name, wellFormed(name, false))
}

// KeptVarName returns the variable that carries a kept field of a connection's
// token response: SALESFORCE_INSTANCE_URL for the field instance_url of the
// connection salesforce. The error is a *NameError.
func KeptVarName(connection, field string) (string, error) {
	if field == "" {
		return "", &NameError{connection, "", errors.New("the kept field has no name")}
	}
	name := capitals(connection) + "_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(field))
	return name, checkForm(connection, name, validName(name))
}

// capitals turns a connection's name into the beginning of a variable name.
func capitals(connection string) string {
	s := strings.ToUpper(strings.ReplaceAll(connection, "-", "_"))
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return s
}

func checkForm(connection, name string, ok bool) error {
	if !ok {
		return &NameError{connection, name, errors.New("a variable is made of capitals, digits and _, and begins with a capital")}
	}
	return nil
}

// wellFormed matches [A-Z][A-Z0-9_]*, or [A-Z0-9][A-Z0-9_]* with digitFirst.
func wellFormed(s string, digitFirst bool) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
		case c >= '0' && c <= '9' && (i > 0 || digitFirst):
		case c == '_' && i > 0:
		default:
			return false
		}
	}
	return true
}

// maxName caps the length of a variable name in bytes.
const maxName = 128

// validName accepts what VarName and KeptVarName produce.
func validName(s string) bool { return wellFormed(s, false) || digitName(s) }

// digitName says whether s is a name made from a leading digit.
func digitName(s string) bool {
	return len(s) > 1 && s[0] == '_' && s[1] <= '9' && wellFormed(s[1:], true)
}

// Build turns entries into variables: for each its token, then its kept fields
// sorted by name. checkName refuses the names that a child's loader, shell,
// runtime or proxy would obey (a hostile repository chooses the name, a hostile
// issuer the value); nil refuses none. It is not asked about names that begin
// with an underscore and a digit, which nothing obeys.
//
// Two values on one variable are a *ConflictError, an unusable name is a
// *NameError, an empty token or a NUL in a value is a *ValueError.
func Build(entries []Entry, checkName func(name string) error) ([]Var, error) {
	var vars []Var
	owner := make(map[string]string)
	add := func(v Var) error {
		if checkName != nil && !digitName(v.Name) {
			if err := checkName(v.Name); err != nil {
				return &NameError{v.Connection, v.Name, err}
			}
		}
		if first, taken := owner[v.Name]; taken {
			return &ConflictError{v.Name, first, v.Connection}
		}
		owner[v.Name] = v.Connection
		if strings.IndexByte(v.Value.Reveal(), 0) >= 0 {
			return &ValueError{v.Name, v.Connection, "", "contains a NUL byte"}
		}
		vars = append(vars, v)
		return nil
	}
	for _, e := range entries {
		name, err := VarName(e.Connection, e.ProviderID, e.ProviderEnv, e.Override)
		if err != nil {
			return nil, err
		}
		if e.Token.IsZero() {
			return nil, &ValueError{name, e.Connection, "", "is empty"}
		}
		if err := add(Var{Name: name, Value: e.Token, Connection: e.Connection}); err != nil {
			return nil, err
		}
		fields := make([]string, 0, len(e.Kept))
		for f := range e.Kept {
			fields = append(fields, f)
		}
		slices.Sort(fields)
		for _, f := range fields {
			name, err := KeptVarName(e.Connection, f)
			if err != nil {
				return nil, err
			}
			if err := add(Var{Name: name, Value: secret.New(e.Kept[f]), Connection: e.Connection, Field: f}); err != nil {
				return nil, err
			}
		}
	}
	return vars, nil
}
