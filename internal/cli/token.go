package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
)

type tokenOptions struct {
	Name    string
	MinTTL  time.Duration
	Refresh bool
	Format  string
	Narrow  connection.Narrow
}

func newTokenCmd(g *globals) *cobra.Command {
	var opts tokenOptions
	cmd := &cobra.Command{
		Use:         "token NAME",
		Short:       "Print a live access token",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Print an access token of the connection NAME that is good for at least --min-ttl.

It is refreshed first when it is about to end, by one process at a time however
many ask. After an API has refused a token, --refresh gets another one.

With --scope the token can do less, at providers that exchange tokens (RFC 8693):
'apiauth provider show' says which. It is asked for each time and not stored.

Formats: plain (the token alone), header (an Authorization header), json.`,
		Example: `  curl -H "$(apiauth token spotify --format header)" https://api.spotify.com/v1/me
  TOKEN=$(apiauth token github)
  apiauth token box --scope item_preview --resource https://api.box.com/2.0/files/42`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Name = a[0]
			if g.cfg.JSON && !cmd.Flags().Changed("format") {
				opts.Format = "json"
			}
			return runToken(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	minTTLFlag(f, &opts.MinTTL)
	f.BoolVar(&opts.Refresh, "refresh", false, "get a new token: the API refused the last one")
	f.StringSliceVar(&opts.Narrow.Scopes, "scope", nil, "get a narrower token with `SCOPE` alone; repeat for more")
	f.StringArrayVar(&opts.Narrow.Resources, "resource", nil, "with --scope: good for this `URL` only")
	f.StringArrayVar(&opts.Narrow.Audiences, "audience", nil, "with --scope: good for this `AUDIENCE` only")
	f.StringVar(&opts.Format, "format", "plain", "plain, header or json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"plain", "header", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runToken(ctx context.Context, g *globals, opts tokenOptions) error {
	switch opts.Format {
	case "plain", "header", "json":
	default:
		return usagef("--format takes plain, header or json, not %q", opts.Format)
	}
	if opts.MinTTL < 0 {
		return usagef("--min-ttl takes a duration from 0 on")
	}
	if len(opts.Narrow.Scopes) == 0 && len(opts.Narrow.Resources)+len(opts.Narrow.Audiences) > 0 {
		return usagef("--resource and --audience go with --scope")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	o := connection.Option{MinTTL: opts.MinTTL, Refresh: opts.Refresh}
	var access connection.Access
	if len(opts.Narrow.Scopes) == 0 {
		access, err = ws.token(ctx, opts.Name, o)
	} else {
		access, err = ws.narrower(ctx, opts.Name, opts.Narrow, o)
	}
	if err != nil {
		return err
	}
	return writeToken(g.app.Stdout, access, opts.Format, g.app.Now())
}

// tokenJSON is version 1 of what --format json prints.
type tokenJSON struct {
	Version     int               `json:"version"`
	Connection  string            `json:"connection"`
	Provider    string            `json:"provider"`
	AccessToken string            `json:"access_token"`
	TokenType   string            `json:"token_type"`
	ExpiresAt   *time.Time        `json:"expires_at,omitempty"`
	ExpiresIn   *int64            `json:"expires_in,omitempty"`
	Scopes      []string          `json:"scopes,omitempty"`
	Fields      map[string]string `json:"fields,omitempty"`
}

func writeToken(w io.Writer, a connection.Access, format string, now time.Time) error {
	var err error
	switch format {
	case "header":
		auth := a.Header.Pins.APIAuth
		if auth.In == "query" {
			return failf(exitUsage, "use 'apiauth api', which puts it there", "the token of %q goes into the query, not into a header", a.Name)
		}
		if auth.In == "basic" {
			return failf(exitUsage, "use 'apiauth api', which puts it there", "the token of %q goes into basic authentication", a.Name)
		}
		_, err = fmt.Fprintf(w, "%s: %s%s\n", auth.Name, auth.Prefix, a.Token.Reveal())
	case "json":
		doc := tokenJSON{
			Version: 1, Connection: a.Name, Provider: a.Header.Provider,
			AccessToken: a.Token.Reveal(), TokenType: "Bearer",
			Scopes: a.Header.ScopesGranted, Fields: a.Kept,
		}
		if ttl, known := a.TTL(now); known {
			at, seconds := a.ExpiresAt.UTC(), int64(ttl/time.Second)
			doc.ExpiresAt, doc.ExpiresIn = &at, &seconds
		}
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(doc)
	default:
		_, err = fmt.Fprintln(w, a.Token.Reveal())
	}
	if err != nil {
		return failf(exitFailure, "the token is stored; nothing was lost", "write the token: %w", err)
	}
	return nil
}
