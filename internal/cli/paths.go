package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/project"
)

func newPathsCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "paths",
		Short:   "Print where everything lies",
		GroupID: groupCare,
		Long: `Print where apiauth keeps its files. None of them needs to exist yet.

The folders follow the system's rules and can be moved with APIAUTH_CONFIG_DIR
and APIAUTH_STATE_DIR. Refresh tokens and client secrets are not in these files
but in the keychain of the operating system, unless the file store is used.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		// Whoever looks for a broken configuration has to be told where it is.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { _ = g.loadOrDefaults(cmd); return nil },
		RunE:              func(*cobra.Command, []string) error { return runPaths(g) },
	}
}

func runPaths(g *globals) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	manifest, _, err := project.Find(ws.dir, g.app.Home)
	if err != nil {
		ws.warn("%v", err)
	}
	places := struct {
		Config    string `json:"config"`
		Providers string `json:"providers"`
		State     string `json:"state"`
		Projects  string `json:"projects"`
		Stores    string `json:"stores"`
		Bundles   string `json:"bundles"`
		Manifest  string `json:"manifest"` // empty in the personal project
	}{
		filepath.Join(ws.dirs.Config, config.FileName), ws.dirs.Providers, ws.dirs.State,
		ws.registry.Path(), ws.storesDir(), ws.bundlesDir(), manifest,
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, places)
	}
	rows := [][]string{
		{"config", places.Config},
		{"providers", places.Providers},
		{"state", places.State},
		{"projects", places.Projects},
		{"stores", places.Stores},
		{"bundles", places.Bundles},
	}
	if manifest != "" {
		rows = append(rows, []string{"manifest", manifest})
	}
	return printTable(g.app.Stdout, rows...)
}
