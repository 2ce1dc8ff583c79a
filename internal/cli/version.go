package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func newVersionCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version",
		GroupID:     groupOther,
		Annotations: lateSignals(),
		Long: `Print which apiauth this is. With --json the parts come by name: version,
commit, date, go, os, arch.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		// A broken configuration must not keep anybody from saying which version
		// it breaks.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { _ = g.loadOrDefaults(cmd); return nil },
		RunE:              func(*cobra.Command, []string) error { return runVersion(g) },
	}
}

func runVersion(g *globals) error {
	commit := g.app.Version.Commit
	if commit == "" {
		commit = builtFrom()
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, struct {
			Version string `json:"version"`
			Commit  string `json:"commit"`
			Date    string `json:"date"`
			Go      string `json:"go"`
			OS      string `json:"os"`
			Arch    string `json:"arch"`
		}{g.app.Version.Number, commit, g.app.Version.Date, runtime.Version(), g.app.GOOS, runtime.GOARCH})
	}
	parts := []string{}
	if commit != "" {
		parts = append(parts, commit[:min(len(commit), 12)])
	}
	if g.app.Version.Date != "" {
		parts = append(parts, g.app.Version.Date)
	}
	parts = append(parts, runtime.Version(), g.app.GOOS+"/"+runtime.GOARCH)
	_, err := fmt.Fprintf(g.app.Stdout, "apiauth %s (%s)\n", g.app.Version.Number, strings.Join(parts, ", "))
	return err
}

// builtFrom is the commit that the go command noted, for builds without the
// release's linker flags.
func builtFrom() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
