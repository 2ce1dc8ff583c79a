package cli

import (
	"slices"
	"testing"
)

// Two lists of patterns together allow what both allow, and nothing else.
func TestNarrow(t *testing.T) {
	for _, c := range []struct{ a, b, want []string }{
		{[]string{"GET /user/*"}, []string{"GET /user/me"}, []string{"GET /user/me"}},
		{[]string{"GET /user/me"}, []string{"GET /user/*"}, []string{"GET /user/me"}},
		{[]string{"* /user/*"}, []string{"GET /*"}, []string{"GET /user/*"}},
		{[]string{"GET /*"}, []string{"* /user/*"}, []string{"GET /user/*"}},
		{[]string{"* /a"}, []string{"* /a"}, []string{"* /a"}},
		{[]string{"GET /user/*"}, []string{"POST /user/*"}, nil},
		{[]string{"GET /user/*"}, []string{"GET /admin"}, nil},
		{[]string{"GET /user"}, []string{"GET /user/*"}, nil},
		{[]string{"GET /user/*"}, []string{"GET /use*"}, []string{"GET /user/*"}},
		{[]string{"GET /a", "POST /b/*"}, []string{"* /b/c", "GET /a*"}, []string{"GET /a", "POST /b/c"}},
	} {
		if got := narrow(c.a, c.b); !slices.Equal(got, c.want) {
			t.Errorf("%q and %q give %q, want %q", c.a, c.b, got, c.want)
		}
	}
}
