package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
)

// limitFlags are exec's flags that limit what a command gets, as they were
// given.
type limitFlags struct {
	Placeholder bool
	Isolate     bool
	Allow       []string
	Egress      string

	given func(name string) bool // on the command line
}

func (l *limitFlags) add(f *pflag.FlagSet) {
	f.BoolVar(&l.Placeholder, "placeholder", false, "give placeholders, which only the run's own proxy turns into tokens")
	f.BoolVar(&l.Isolate, "isolate", false, "let CMD reach nothing but the project and that proxy (Linux, macOS)")
	f.StringArrayVar(&l.Allow, "allow", nil, "allow requests to the APIs by `'METHOD /PATH'`; repeat for more")
	f.StringVar(&l.Egress, "egress", "open", "what the proxy tunnels to, `open|strict`: all hosts, or none but the APIs")
	l.given = f.Changed
}

// limits are the limits that hold for one run.
type limits struct {
	placeholder bool
	isolate     bool
	strict      bool
	allow       []string // patterns; none: everything
}

// limits joins the flags and the manifest. Both may narrow what a command gets,
// and neither takes back what the other has narrowed.
func (ws *workspace) limits(l limitFlags) (limits, error) {
	if l.Egress != "open" && l.Egress != "strict" {
		return limits{}, usagef("--egress takes open or strict, not %q", oauth.Clean(l.Egress))
	}
	for _, pattern := range l.Allow {
		if err := project.CheckAllow(pattern); err != nil {
			return limits{}, usagef("--allow: %w", err)
		}
	}
	var asked project.Exec
	if ws.manifest != nil {
		asked = ws.manifest.Exec
	}
	manifest := asked.Placeholder || len(asked.Allow) > 0 || asked.Egress == "strict"
	got := limits{
		placeholder: manifest || l.Placeholder || l.Isolate,
		isolate:     l.Isolate,
		strict:      asked.Egress == "strict" || l.Egress == "strict",
		allow:       asked.Allow,
	}
	wider := func(flag, key string) error {
		return failf(exitRefused, "leave "+flag+" away, or change the manifest if it is yours", "%s asks for exec.%s, and %s would give more", ws.manifest.File, key, flag)
	}
	switch {
	case manifest && l.given("placeholder") && !l.Placeholder:
		key := "placeholder"
		if !asked.Placeholder {
			key = "allow or exec.egress, which need placeholders"
		}
		return limits{}, wider("--placeholder=false", key)
	case l.Isolate && l.given("placeholder") && !l.Placeholder:
		return limits{}, usagef("--isolate goes with placeholders, not with --placeholder=false")
	case asked.Egress == "strict" && l.given("egress") && l.Egress == "open":
		return limits{}, wider("--egress open", "egress: strict")
	case !got.placeholder && len(l.Allow) > 0:
		return limits{}, usagef("--allow needs --placeholder: nothing limits what a command does with a real token")
	case !got.placeholder && l.given("egress"):
		return limits{}, usagef("--egress needs --placeholder: without it no proxy stands in between")
	}
	switch {
	case len(asked.Allow) == 0:
		got.allow = l.Allow
	case len(l.Allow) > 0:
		if got.allow = narrow(asked.Allow, l.Allow); len(got.allow) == 0 {
			return limits{}, wider("--allow", "allow")
		}
	}
	return got, nil
}

// narrow returns the patterns for the requests that both lists allow.
func narrow(a, b []string) []string {
	var out []string
	for _, x := range a {
		for _, y := range b {
			if both, ok := meet(x, y); ok {
				out = append(out, both)
			}
		}
	}
	return out
}

// meet returns the pattern for the requests that both patterns allow.
func meet(a, b string) (string, bool) {
	methodA, pathA, _ := strings.Cut(a, " ")
	methodB, pathB, _ := strings.Cut(b, " ")
	method := methodA
	switch {
	case methodA == "*":
		method = methodB
	case methodB != "*" && methodA != methodB:
		return "", false
	}
	path, ok := meetPaths(pathA, pathB)
	return method + " " + path, ok
}

func meetPaths(a, b string) (string, bool) {
	headA, restA := strings.CutSuffix(a, "*")
	headB, restB := strings.CutSuffix(b, "*")
	switch {
	case restA && strings.HasPrefix(headB, headA):
		return b, true
	case restB && strings.HasPrefix(headA, headB):
		return a, true
	}
	return a, a == b
}
