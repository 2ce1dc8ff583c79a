package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/oauth"
)

func newBundleListCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "list",
		Aliases:           []string{"ls"},
		Short:             "List the bundles that were made here",
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runBundleList(g) },
	}
}

func runBundleList(g *globals) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	made, err := bundle.List(ws.bundlesDir())
	if err != nil {
		return failf(exitStore, "'apiauth paths' shows where it lies", "list the bundles: %w", err)
	}
	docs := make([]bundleShownJSON, 0, len(made))
	for i := range made {
		docs = append(docs, shownMade(&made[i], ws.app.Now()))
	}
	if ws.cfg.JSON {
		return printJSON(g.app.Stdout, docs)
	}
	if len(docs) == 0 {
		ws.say("No bundle was made here. 'apiauth bundle create' makes one.")
		return nil
	}
	rows := [][]string{{"ID", "PROJECT", "CREATED", "EXPIRES", "STATE", "CONNECTIONS"}}
	for _, d := range docs {
		names := make([]string, 0, len(d.Connections))
		for _, c := range d.Connections {
			names = append(names, c.Name)
		}
		label := d.Label
		if label == "" {
			label = d.Project
		}
		rows = append(rows, []string{d.ID, label, d.CreatedAt.Format(time.DateOnly), d.ExpiresAt.Format(time.DateOnly), d.State, strings.Join(names, ", ")})
	}
	return printTable(g.app.Stdout, rows...)
}

// liveBundles counts the bundles that were made here and are still good.
func (ws *workspace) liveBundles() (n int) {
	made, _ := bundle.List(ws.bundlesDir())
	for i := range made {
		if shownMade(&made[i], ws.app.Now()).State == "ok" {
			n++
		}
	}
	return n
}

func shownMade(m *bundle.Made, now time.Time) bundleShownJSON {
	doc := shownBundle(&m.Header, now)
	if !m.RevokedAt.IsZero() {
		at := m.RevokedAt.UTC()
		doc.State, doc.RevokedAt = "revoked", &at
	}
	return doc
}

func newBundleRevokeCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Mark a bundle as revoked, and say what ends what it holds",
		Long: `Mark a bundle that was made here as revoked, and say what remains to be done. A
sealed copy elsewhere cannot be called back: remove the variables of the CI system,
and where bundle and key may have leaked, end at the provider what is sealed.`,
		Args: args(between(1, 1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return madeIDs(g), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, a []string) error { return runBundleRevoke(g, a[0]) },
	}
}

// madeIDs completes bundles; an error is no bundle.
func madeIDs(g *globals) []string {
	ws, err := g.homeless()
	if err != nil {
		return nil
	}
	made, _ := bundle.List(ws.bundlesDir())
	var ids []string
	for _, m := range made {
		if m.RevokedAt.IsZero() {
			ids = append(ids, m.ID+"\t"+summaryNames(m.Connections))
		}
	}
	return ids
}

func runBundleRevoke(g *globals, id string) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	m, err := bundle.Find(ws.bundlesDir(), id)
	if errors.Is(err, bundle.ErrUnknown) {
		return failf(exitUsage, "'apiauth bundle list' shows those that were", "no bundle %s was made here", oauth.Clean(id))
	}
	if err != nil {
		return failf(exitStore, "'apiauth paths' shows where it lies", "find the bundle: %w", err)
	}
	if m.RevokedAt.IsZero() {
		m.RevokedAt = ws.app.Now().UTC().Truncate(time.Second)
		if err := bundle.Remember(ws.bundlesDir(), *m); err != nil {
			return failf(exitStore, "'apiauth paths' shows where it lies", "write down that the bundle is revoked: %w", pathReason(err))
		}
	}
	if ws.cfg.JSON {
		return printJSON(g.app.Stdout, shownMade(m, ws.app.Now()))
	}
	ws.say("Marked bundle %s as revoked. A sealed copy elsewhere cannot be called back:", m.ID)
	ws.say("  - remove APIAUTH_BUNDLE and APIAUTH_BUNDLE_KEY from the CI system")
	for _, s := range m.Connections {
		ws.say("  - %s: %s", oauth.Clean(s.Name), ws.endOf(s))
	}
	return nil
}

// endOf is what ends what a bundle holds of a connection.
func (ws *workspace) endOf(s bundle.Summary) string {
	page := ""
	if def, err := ws.catalogue.Get(s.Provider); err == nil {
		if page = registerPage(def.Provider, nil); page != "" {
			page = " at " + oauth.Clean(page)
		}
	}
	switch s.Holds {
	case bundle.HoldsClient:
		return "make a new client secret" + page
	case bundle.HoldsKey:
		return "make a new key" + page
	}
	return "'apiauth disconnect " + oauth.Clean(s.Name) + "' ends the grant, here as well"
}

func newBundleShowCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show what the bundle in APIAUTH_BUNDLE holds, without secrets",
		Long: `Show the header of the bundle that APIAUTH_BUNDLE or APIAUTH_BUNDLE_FILE holds. It
needs no key; with APIAUTH_BUNDLE_KEY the seal is verified as well.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runBundleShow(g) },
	}
}

func runBundleShow(g *globals) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	value, err := ws.secretVariable("APIAUTH_BUNDLE")
	if err != nil {
		return err
	}
	if value.IsZero() {
		return failf(exitUsage, "'apiauth bundle list' shows the bundles that were made here", "%s", ws.emptyOr("APIAUTH_BUNDLE", "APIAUTH_BUNDLE is not set"))
	}
	h, err := bundle.Read(value)
	if err != nil {
		return bundleError(err)
	}
	key, err := ws.secretVariable("APIAUTH_BUNDLE_KEY")
	if err != nil {
		return err
	}
	doc := shownBundle(h, ws.app.Now())
	verified := !key.IsZero()
	if verified {
		if _, err := bundle.Open(value, key); err != nil {
			return bundleError(err)
		}
	}
	doc.Verified = &verified
	if ws.cfg.JSON {
		return printJSON(g.app.Stdout, doc)
	}
	seal := "verified"
	if !verified {
		seal = "not verified: APIAUTH_BUNDLE_KEY is not set"
	}
	rows := [][]string{
		{"bundle", doc.ID}, {"project", strings.TrimSpace(doc.Label + " " + doc.Project)}, {"created", doc.CreatedAt.Format(time.DateOnly)},
		{"expires", doc.ExpiresAt.Format(time.DateOnly) + " (" + doc.State + ")"}, {"seal", seal},
	}
	for _, c := range doc.Connections {
		what := c.Provider + ", " + c.Holds
		if c.ExpiresAt != nil {
			what += " until " + c.ExpiresAt.Format("2006-01-02 15:04 MST")
		}
		if c.Env != "" {
			what += ", as " + c.Env
		}
		if len(c.APIHosts) > 0 {
			what += ", for " + strings.Join(c.APIHosts, " ")
		}
		rows = append(rows, []string{c.Name, what})
	}
	return printTable(g.app.Stdout, rows...)
}
