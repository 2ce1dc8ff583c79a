package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

func newProviderCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "provider",
		Short:   "The catalogue of providers, and your own definitions",
		GroupID: groupSetup,
		Long: `A provider is an entry of the catalogue: the facts about one issuer and its
APIs, without any secret. Definitions of your own lie beside it, one file each
('apiauth paths' says where).`,
	}, newProviderListCmd(g), newProviderShowCmd(g), newProviderAddCmd(g), newProviderCheckCmd(g), newProviderSchemaCmd(g))
}

func newProviderListCmd(g *globals) *cobra.Command {
	var flowName string
	cmd := &cobra.Command{
		Use:   "list [WORD]",
		Short: "List the providers, or those in which a word occurs",
		Example: `  apiauth provider list
  apiauth provider list --flow device
  apiauth provider list mail --json`,
		Args:              args(between(0, 1)),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			word := ""
			if len(args) > 0 {
				word = args[0]
			}
			return runProviderList(g, word, flowName)
		},
	}
	cmd.Flags().StringVar(&flowName, "flow", "", "only those that offer `FLOW`: "+strings.Join(providerFlows(), ", "))
	registerFlagCompletion(cmd, "flow", cobra.FixedCompletions(providerFlows(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func providerFlows() []string {
	return []string{providers.FlowBrowser, providers.FlowDevice, providers.FlowClientCredentials, providers.FlowJWTBearer, providers.FlowImplicit, providers.FlowKey}
}

func runProviderList(g *globals, word, flowName string) error {
	if flowName != "" && !slices.Contains(providerFlows(), flowName) {
		return usagef("--flow takes %s, not %q", strings.Join(providerFlows(), ", "), oauth.Clean(flowName))
	}
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	// Files that cannot be read are named, and do not hide the others.
	defs, err := ws.catalogue.List()
	for _, fault := range unjoin(err) {
		ws.warn("%v", fault)
	}
	list := []providerInfo{}
	rows := [][]string{{"ID", "NAME", "FLOWS", "VARIABLE", "ABOUT"}}
	for _, d := range defs {
		if flowName != "" && !slices.Contains(d.Flows, flowName) || !mentionsWord(d, word) {
			continue
		}
		list = append(list, describeProvider(d))
		about := d.Description
		switch {
		case d.Status != "":
			about = d.Status + ": " + about
		case d.ReplacesEntry:
			about = "(yours, in place of the catalogue's) " + about
		case d.Origin == providers.User:
			about = "(yours) " + about
		}
		flows := strings.Join(d.Flows, ", ")
		if d.NeedsDiscovery() {
			flows = "(discovered)"
		}
		rows = append(rows, []string{d.ID, d.Name, flows, d.Env, shorten(about, 70)})
	}
	if len(list) == 0 {
		ws.say("No provider matches. 'apiauth provider add FILE' or 'apiauth provider add ISSUER_URL' adds one.")
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, list)
	}
	if len(list) == 0 {
		return nil
	}
	return printTable(g.app.Stdout, rows...)
}

// unjoin takes apart what errors.Join made.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only the outermost is meant
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

func shorten(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return strings.TrimRight(string(r[:runes-1]), " ,.;") + "…"
	}
	return s
}

// mentionsWord reports whether the word occurs in what describes a provider.
func mentionsWord(d *providers.Definition, word string) bool {
	if word == "" {
		return true
	}
	word = strings.ToLower(word)
	for _, text := range []string{d.ID, d.Name, d.Description, d.Env, d.API.BaseURL, d.Issuer} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	return slices.ContainsFunc(d.Scopes.Catalog, func(s providers.Scope) bool {
		return strings.Contains(strings.ToLower(s.Name+" "+s.Title), word)
	})
}

func newProviderCheckCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check provider definitions",
		Long: `Check provider definitions. What is wrong is named with file, line and column and
ends with status 2; what could be better is listed and does not.`,
		Args: args(between(1, -1)),
		RunE: func(_ *cobra.Command, args []string) error { return runProviderCheck(g, args) },
	}
}

type checkedFile struct {
	File     string              `json:"file"`
	ID       string              `json:"id,omitempty"`
	Errors   []checkError        `json:"errors"`
	Findings []providers.Finding `json:"findings"`
}

type checkError struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Msg    string `json:"msg"`
}

func runProviderCheck(g *globals, files []string) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	list := []checkedFile{}
	bad := false
	for _, path := range files {
		c := checkedFile{File: path, Errors: []checkError{}, Findings: []providers.Finding{}}
		p, err := ws.checkDefinition(path)
		var place *strictyaml.Error
		switch {
		case errors.As(err, &place):
			c.Errors = append(c.Errors, checkError{place.Line, place.Column, place.Msg})
		case err != nil:
			c.Errors = append(c.Errors, checkError{Msg: err.Error()})
		default:
			c.ID = p.ID
			if base := strings.TrimSuffix(filepath.Base(path), ".yaml"); base != p.ID {
				c.Findings = append(c.Findings, providers.Finding{Field: "id", Msg: fmt.Sprintf("the file should be named %s.yaml", p.ID)})
			}
			c.Findings = append(c.Findings, providers.Lint(p)...)
		}
		list = append(list, c)
		if err != nil {
			bad = true
			if !g.cfg.JSON {
				_, hint := explain(err)
				printError(g.app.Stderr, err, hint)
			}
		}
		if g.cfg.JSON {
			continue
		}
		for _, f := range c.Findings {
			if _, err := fmt.Fprintf(g.app.Stdout, "%s: %s\n", oauth.Clean(path), oauth.Clean(f.String())); err != nil {
				return err
			}
		}
		if err == nil && len(c.Findings) == 0 {
			ws.say("%s: good", oauth.Clean(path))
		}
	}
	if g.cfg.JSON {
		if err := printJSON(g.app.Stdout, list); err != nil {
			return err
		}
	}
	if bad {
		return &silentError{exitUsage}
	}
	return nil
}

func (ws *workspace) checkDefinition(path string) (*providers.Provider, error) {
	doc, err := ws.readDefinition(path)
	if err != nil {
		return nil, err
	}
	return providers.Parse(path, doc, providers.User)
}
