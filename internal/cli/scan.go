package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/oauth"
)

type scanOptions struct {
	Paths []string
	All   bool
}

func newScanCmd(g *globals) *cobra.Command {
	var opts scanOptions
	cmd := &cobra.Command{
		Use:     "scan PATH...",
		Short:   "Find tokens and client secrets that stand in files",
		GroupID: groupAway,
		Long: `Look in files, and in folders with all that lies below, for the tokens and client
secrets that apiauth keeps for this project: as they are, in base64, URL-encoded,
escaped as in JSON and HTML, in hexadecimal and in UTF-16. Files that git ignores
are searched, and what is in zip, tar, gzip and bzip2 archives. Symbolic links
below PATH are not followed.

Nothing is refreshed, and no value is printed. The status is 1 when something was
found or could not be read, and 0 when all of it is clean.`,
		Example: `  apiauth scan dist
  apiauth scan --all --json . | jq -r '.findings[].path'`,
		Args: args(between(1, -1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			opts.Paths = paths
			return runScan(cmd.Context(), g, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.All, "all", false, "look for the secrets of all projects and stores")
	return cmd
}

// scanJSON is version 1 of what scan --json prints.
type scanJSON struct {
	Findings []findingJSON `json:"findings"`
	Files    int64         `json:"files"`
	Bytes    int64         `json:"bytes"`
	// NotSearched could not be read, NotUnpacked are archives that were searched
	// only as they lie.
	NotSearched []string `json:"not_searched"`
	NotUnpacked []string `json:"not_unpacked"`
}

type findingJSON struct {
	Path       string   `json:"path"`
	Inside     []string `json:"inside,omitempty"` // archive entries, outermost first
	Line       int64    `json:"line"`             // from 1
	Offset     int64    `json:"offset"`           // bytes from 0
	Connection string   `json:"connection"`       // for a client secret the provider
	Kind       string   `json:"kind"`
	Form       string   `json:"form"` // raw, base64, base64url, url, json, html, escaped, hex, utf-16
}

func runScan(ctx context.Context, g *globals, opts scanOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	list, err := ws.keptSecrets(ctx, opts.All)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		of := ws.label()
		if opts.All {
			of = "any project"
		}
		ws.warn("nothing is kept for %s, so there is nothing to look for", of)
	}
	secrets := make([]leak.Secret, 0, len(list))
	for _, k := range list {
		secrets = append(secrets, k.Secret)
	}
	paths := make([]string, 0, len(opts.Paths))
	for _, path := range opts.Paths {
		if !filepath.IsAbs(path) && g.chdir != "" {
			path = filepath.Join(ws.dir, path)
		}
		paths = append(paths, path)
	}
	report, err := leak.NewSet(secrets).Scan(ctx, paths)
	if errors.Is(err, fs.ErrNotExist) {
		return failf(exitUsage, "name a file or a folder", "%s", "nothing to scan: "+oauth.Clean(err.Error()))
	}
	if err != nil {
		return err
	}
	if err := printReport(g, report); err != nil {
		return err
	}
	return ws.verdict(report)
}

func printReport(g *globals, r leak.Report) error {
	if !g.cfg.JSON {
		for _, f := range r.Findings {
			if _, err := fmt.Fprintln(g.app.Stdout, sentence(f)); err != nil {
				return fmt.Errorf("write the answer: %w", err)
			}
		}
		return nil
	}
	doc := scanJSON{Findings: []findingJSON{}, Files: r.Files, Bytes: r.Bytes, NotSearched: texts(r.Unread), NotUnpacked: texts(r.Closed)}
	for _, f := range r.Findings {
		doc.Findings = append(doc.Findings, findingJSON{f.Path, f.Inside, f.Line, f.Offset, f.Connection, f.Kind, f.Form})
	}
	return printJSON(g.app.Stdout, doc)
}

func texts(errs []error) []string {
	list := make([]string, 0, len(errs))
	for _, err := range errs {
		list = append(list, err.Error())
	}
	return list
}
