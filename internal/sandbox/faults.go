package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Fault is one switch that makes the sandbox misbehave.
type Fault struct{ Name, Does string }

// Faults lists the fault switches. A name may be preceded by "once:" (acts the
// first time only) and by "refresh:" (a token fault acts on refreshes only),
// in this order: "once:refresh:token-drop-after".
func Faults() []Fault {
	return []Fault{
		{"token-500", "the token endpoint answers 500; nothing is issued"},
		{"token-429", "the token endpoint answers 429 with Retry-After: 2; nothing is issued"},
		{"token-html", "the token endpoint answers 200 with an HTML page; nothing is issued"},
		{"token-hang", "the token endpoint reads the request and never answers"},
		{"token-drop-before", "the token endpoint closes the connection; nothing is issued"},
		{"token-drop-after", "tokens are issued and rotated, then the connection is closed: the answer is lost"},
		{"invalid-grant", "every code and refresh token is answered with invalid_grant; nothing changes"},
		{"slow", "the token endpoint waits before it answers (2 s by default)"},
		{"no-expires-in", "token responses have no expires_in"},
		{"expires-in-string", "expires_in is a string"},
		{"narrow-scope", "only the first of the scopes asked for is granted"},
		{"no-refresh-token", "token responses have no refresh_token; a refresh does not rotate"},
		{"bad-type", "token_type is mac"},
		{"userinfo-500", "userinfo answers 500"},
		{"revoke-500", "revocation answers 500; nothing is revoked"},
		{"device-slow-down", "every poll of the device flow is answered with slow_down"},
	}
}

type fault struct {
	name              string
	once, refreshOnly bool
	spent             bool
}

// SetFaults replaces the fault switches. It fails for an unknown name and then
// changes nothing.
func (s *Server) SetFaults(names ...string) error {
	var set []*fault
	for _, n := range names {
		f := &fault{}
		f.name, f.once = strings.CutPrefix(n, "once:")
		f.name, f.refreshOnly = strings.CutPrefix(f.name, "refresh:")
		if !slices.ContainsFunc(Faults(), func(k Fault) bool { return k.Name == f.name }) {
			return fmt.Errorf("the sandbox has no fault %q", n)
		}
		set = append(set, f)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = set
	return nil
}

// fires reports whether the fault acts now, and uses up a "once:" switch. The
// caller holds mu.
func (s *Server) fires(name string, refreshing bool) bool {
	for _, f := range s.faults {
		if f.name != name || f.spent || (f.refreshOnly && !refreshing) {
			continue
		}
		f.spent = f.once
		s.stats.Faults++
		return true
	}
	return false
}
