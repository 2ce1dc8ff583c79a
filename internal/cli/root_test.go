package cli

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/cobra"
)

func TestNamedCommand(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", ""},
		{"token x", "token"},
		{"-q --json --personal token x --store", "token"},
		{"-C dir token", "token"},
		{"--chdir token status", "status"},
		{"--store=file token", ""}, // more than a glance
		{"-Cdir token", ""},
		{"--unknown token status", ""},
		{"-- token", ""},
		{"--help token", ""},
		{"-C", ""},
		{"nonsense", "nonsense"},
		{"__complete token", "__complete"},
	} {
		if got := namedCommand(strings.Fields(c.line)); got != c.want {
			t.Errorf("namedCommand(%q) = %q, want %q", c.line, got, c.want)
		}
	}
}

// TestCommandAlone compares a tree that holds one command with the whole tree:
// nobody must be able to tell which of the two was there.
func TestCommandAlone(t *testing.T) {
	all := map[string]bool{}
	app, _ := bareApp()
	for _, c := range NewRoot(app).Commands() {
		if c.GroupID != "" {
			all[c.Name()] = true
		}
	}
	for _, name := range commandNames() {
		if constructor(name) == nil {
			t.Fatalf("no constructor of %q", name)
		}
		if got := newRoot(app, name).Commands(); len(got) != 1 || got[0].Name() != name {
			t.Errorf("the tree of %q holds %d commands", name, len(got))
		}
		delete(all, name)
		for _, rest := range []string{"--help", "-h", "--no-such-flag", "-Z", "too many words here", "--store", "help"} {
			line := append([]string{name}, strings.Fields(rest)...)
			if name == "sandbox" && !strings.HasPrefix(rest, "-") || name == "doctor" {
				continue // would start what takes time
			}
			alone, whole := outcome(t, newRoot, name, line), outcome(t, newRoot, "", line)
			if alone != whole {
				t.Errorf("%q alone:\n%s\nin the whole tree:\n%s", line, alone, whole)
			}
		}
	}
	if len(all) > 0 {
		t.Errorf("commandNames misses %v", all)
	}
}

// outcome is what a command line prints and how it ends.
func outcome(t *testing.T, tree func(*App, string) *cobra.Command, name string, line []string) string {
	t.Helper()
	app, out := bareApp()
	dir := t.TempDir()
	app.Dir, app.Home = dir, dir
	env := map[string]string{"APIAUTH_CONFIG_DIR": dir, "APIAUTH_STATE_DIR": dir}
	app.Env = func(n string) (string, bool) { v, ok := env[n]; return v, ok }
	root := tree(app, name)
	root.SetArgs(line)
	root.SetIn(app.Stdin)
	root.SetOut(out)
	root.SetErr(out)
	cmd, err := root.ExecuteContextC(t.Context())
	code := 0
	if err != nil {
		code = app.report(cmd, err)
	}
	return strings.ReplaceAll(out.String(), dir, "DIR") + "\ncode " + string(rune('0'+code%10))
}

// TestCatch shows when signals begin to be caught: at once, but for commands
// that mostly only read; those when they lock something.
func TestCatch(t *testing.T) {
	for _, c := range []struct {
		line string
		want bool
	}{
		{"list", true},
		{"version", false},
		{"token spotify", false},
		{"env -c spotify", false},
		{"exec -c spotify -- true", false},
	} {
		app, _ := bareApp()
		dir := t.TempDir()
		app.Stdin, app.Stdout, app.Stderr, app.Dir, app.Home = new(bytes.Buffer), new(bytes.Buffer), new(bytes.Buffer), dir, dir
		var caught atomic.Bool
		app.Catch = func() { caught.Store(true) }
		Main(t.Context(), app, strings.Fields(c.line))
		if caught.Load() != c.want {
			t.Errorf("%s: signals caught: %v, want %v", c.line, caught.Load(), c.want)
		}
	}
}
