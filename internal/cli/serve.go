package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/netlify"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

type serveOptions struct {
	Connections []string
	Netlify     string
	TTL         time.Duration
	List        bool
	Revoke      string
}

func newServeCmd(g *globals) *cobra.Command {
	var opts serveOptions
	cmd := &cobra.Command{
		Use:     "serve --netlify [-c NAME]...",
		Short:   "Answer getSecrets of @netlify/functions for as long as it runs",
		GroupID: groupUse,
		Long: `Answer getSecrets of the npm package @netlify/functions, 0.9.0 to 1.4.0, unpatched:
what 'apiauth exec --netlify' does for one command, for every program that is
started with the variables printed here. They hold a site token, which opens the
chosen connections of this project and nothing else, and ends with this command, by
--ttl, or by --revoke. It is kept as a hash only.

The variables lead Node.js to a proxy on this machine that answers for
graph.netlify.com and serve.onegraph.com and passes everything else on untouched.`,
		Example: `  apiauth serve --netlify > netlify.env     # in one terminal
  . ./netlify.env && npx netlify dev        # in another
  apiauth serve --list`,
		Args: args(noArguments),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServe(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&opts.Connections, "connection", "c", nil, "answer with `NAME`; repeat for more (default: the manifest's)")
	f.StringVar(&opts.Netlify, "netlify", "", "answer getSecrets; the variables are in the `STYLE` function or build")
	f.Lookup("netlify").NoOptDefVal = netlifyFunction
	f.DurationVar(&opts.TTL, "ttl", siteTokenTTL, "end the site token after this `duration`")
	f.BoolVar(&opts.List, "list", false, "list the site tokens that are in use")
	f.StringVar(&opts.Revoke, "revoke", "", "end the site token with this `ID` at once")
	cmd.MarkFlagsMutuallyExclusive("netlify", "list", "revoke")
	_ = cmd.RegisterFlagCompletionFunc("netlify", cobra.FixedCompletions(netlifyStyles(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("connection", completeConnections(g))
	return cmd
}

func runServe(ctx context.Context, g *globals, opts serveOptions) error {
	switch {
	case opts.List:
		ws, err := g.homeless()
		if err != nil {
			return err
		}
		return listSiteTokens(ws)
	case opts.Revoke != "":
		ws, err := g.homeless()
		if err != nil {
			return err
		}
		there, err := ws.siteTokens().Revoke(opts.Revoke)
		if err != nil {
			return failf(exitStore, "", "%w", pathReason(err))
		}
		if !there {
			return failf(exitUsage, "'apiauth serve --list' shows those in use", "there is no site token %s", oauth.Clean(opts.Revoke))
		}
		ws.say("Revoked the site token %s.", opts.Revoke)
		return nil
	case opts.Netlify == "":
		return usagef("say what to serve: --netlify answers getSecrets of @netlify/functions")
	case opts.TTL <= 0:
		return usagef("--ttl takes a positive duration")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	n, err := ws.netlifySite(opts.Netlify, opts.Connections, opts.TTL)
	if err != nil {
		return err
	}
	run := &standIns{ws: ws, site: n}
	plan := &execPlan{env: g.app.Environ()}
	after, err := run.begin(ctx, plan)
	if err != nil {
		return err
	}
	defer after()
	if err := ws.printSite(n, plan.env); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// printSite prints the variables that programs need, and for people what they
// are good for.
func (ws *workspace) printSite(n *netlifySite, env []string) error {
	var vars []inject.Var
	for _, kv := range env {
		switch name, value, _ := strings.Cut(kv, "="); name {
		case "NETLIFY", "NETLIFY_DEV", "NETLIFY_GRAPH_TOKEN", "ONEGRAPH_AUTHLIFY_TOKEN", "SITE_ID",
			"HTTPS_PROXY", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "NODE_USE_ENV_PROXY":
			vars = append(vars, inject.Var{Name: name, Value: secret.New(value)})
		}
	}
	format := inject.Sh
	if ws.cfg.JSON {
		format = inject.JSON
	}
	var out bytes.Buffer
	if err := inject.Write(&out, format, vars); err != nil {
		return err
	}
	if _, err := ws.app.Stdout.Write(out.Bytes()); err != nil {
		return failf(exitFailure, "", "write the variables: %w", err)
	}
	ws.say("Answering getSecrets for %s with %s; site token %s, until %s. Ctrl-C ends it.",
		ws.label(), strings.Join(n.names, ", "), n.site.TokenID, n.site.Expires.Local().Format("2006-01-02 15:04"))
	return nil
}

type siteTokenJSON struct {
	ID          string    `json:"id"`
	SiteID      string    `json:"site_id"`
	Project     string    `json:"project"`
	Connections []string  `json:"connections"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"`
	PID         int       `json:"pid"`
}

func listSiteTokens(ws *workspace) error {
	list, err := ws.siteTokens().List()
	if err != nil {
		return failf(exitStore, "", "%w", pathReason(err))
	}
	if ws.cfg.JSON {
		docs := []siteTokenJSON{}
		for _, s := range list {
			docs = append(docs, siteTokenJSON{s.TokenID, s.ID, s.Project, orEmpty(s.Connections), s.Created, s.Expires, s.PID})
		}
		return printJSON(ws.app.Stdout, docs)
	}
	if len(list) == 0 {
		ws.say("No site token is in use.")
		return nil
	}
	rows := [][]string{{"ID", "PROJECT", "CONNECTIONS", "UNTIL", "PROCESS"}}
	for _, s := range list {
		rows = append(rows, siteTokenRow(s))
	}
	return printTable(ws.app.Stdout, rows...)
}

func siteTokenRow(s netlify.Site) []string {
	return []string{
		s.TokenID, oauth.Clean(s.Project), oauth.Clean(strings.Join(s.Connections, ", ")),
		s.Expires.Local().Format("2006-01-02 15:04"), fmt.Sprint(s.PID),
	}
}
