package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// bareApp is an App that touches nothing.
func bareApp() (*App, *bytes.Buffer) {
	out := new(bytes.Buffer)
	return &App{
		Stdin: new(bytes.Buffer), Stdout: out, Stderr: out,
		Env: func(string) (string, bool) { return "", false }, Environ: func() []string { return nil },
		Now: time.Now, GOOS: "linux", Dir: "/", Home: "/nonexistent",
	}, out
}

// TestGoldenHelp compares the help of every command with testdata/help.
// UPDATE=1 renews it; read the difference before it is committed.
func TestGoldenHelp(t *testing.T) {
	const dir = "testdata/help"
	seen := map[string]bool{}
	app, out := bareApp()
	root := NewRoot(app)
	root.SetOut(out)
	root.InitDefaultHelpCmd()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() && !c.Hidden {
				visit(c)
			}
		}
		out.Reset()
		cmd.InitDefaultHelpFlag()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "_") + ".txt"
		seen[name] = true
		path := filepath.Join(dir, name)
		if os.Getenv("UPDATE") != "" {
			if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // sources are readable
				t.Fatal(err)
			}
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil { //nolint:gosec // sources are readable
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s has no golden help: UPDATE=1 go test ./internal/cli -run Golden", cmd.CommandPath())
			return
		}
		if got := out.Bytes(); !bytes.Equal(got, bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))) {
			t.Errorf("the help of %s differs from %s; read the difference, then UPDATE=1 go test ./internal/cli/... -run 'Golden|Generated'\n%s", cmd.CommandPath(), path, got)
		}
	}
	visit(root)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !seen[e.Name()] {
			if os.Getenv("UPDATE") != "" {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					t.Fatal(err)
				}
				continue
			}
			t.Errorf("%s belongs to no command", filepath.Join(dir, e.Name()))
		}
	}
}

// TestHelpFits keeps help texts within a terminal, flags aside: cobra lays
// those out.
func TestHelpFits(t *testing.T) {
	app, _ := bareApp()
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			visit(c)
		}
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: the short text is a phrase without a full stop, not %q", cmd.CommandPath(), cmd.Short)
		}
		for line := range strings.Lines(cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > 110 {
				t.Errorf("%s: a line of %d characters: %s", cmd.CommandPath(), n, line)
			}
		}
		if cmd.HasSubCommands() && cmd.HasParent() && cmd.Args == nil {
			t.Errorf("%s would take any word for its argument", cmd.CommandPath())
		}
	}
	visit(NewRoot(app))
}

// BenchmarkTree is what every start pays for the commands that it does not run.
func BenchmarkTree(b *testing.B) {
	app, _ := bareApp()
	for b.Loop() {
		NewRoot(app)
	}
}
