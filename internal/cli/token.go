package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
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

Formats:
  plain        the token alone
  header       the header that carries it, for curl -H @-
  json         with connection, provider, expiry and scopes
  spotify-sdk  for SpotifyApi.withAccessToken of @spotify/web-api-ts-sdk
  netrc        lines for the hosts that take the token as a password: those of git
  k8s-exec     for the exec plugin of a kubeconfig`,
		Example: `  apiauth token spotify --format header | curl -H @- https://api.spotify.com/v1/me
  TOKEN=$(apiauth token github)
  apiauth token box --scope item_preview --resource https://api.box.com/2.0/files/42`,
		Args:              args(between(1, 1)),
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
	f.StringVar(&opts.Format, "format", "plain", "one of "+strings.Join(tokenFormats(), ", "))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(tokenFormats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runToken(ctx context.Context, g *globals, opts tokenOptions) error {
	if !slices.Contains(tokenFormats(), opts.Format) {
		return usagef("--format takes %s, not %q", strings.Join(tokenFormats(), ", "), oauth.Clean(opts.Format))
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
	doc, err := tokenDocument(access, opts.Format, g.app.Now(), g.app.env("KUBERNETES_EXEC_INFO"))
	if err != nil {
		return err
	}
	if _, err := g.app.Stdout.Write(doc); err != nil {
		return failf(exitFailure, "the token is stored; nothing was lost", "write the token: %w", err)
	}
	return nil
}

func tokenFormats() []string {
	return []string{"plain", "header", "json", "spotify-sdk", "netrc", "k8s-exec"}
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

// tokenDocument is the token in one of tokenFormats. execInfo is what a
// Kubernetes client says about the answer that it wants.
func tokenDocument(a connection.Access, format string, now time.Time, execInfo string) ([]byte, error) {
	switch format {
	case "header":
		auth := a.Header.Pins.APIAuth
		if auth.In == "query" {
			return nil, failf(exitUsage, "use 'apiauth api', which puts it there", "the token of %q goes into the query, not into a header", a.Name)
		}
		if auth.In == "basic" {
			return nil, failf(exitUsage, "use 'apiauth api', which puts it there", "the token of %q goes into basic authentication", a.Name)
		}
		return []byte(auth.Name + ": " + auth.Prefix + a.Token.Reveal() + "\n"), nil
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
		var b bytes.Buffer
		err := printJSON(&b, doc)
		return b.Bytes(), err
	case "spotify-sdk":
		return inject.SpotifySDK(a.Token, a.ExpiresAt, now)
	case "netrc":
		machines := netrcMachines(a)
		if len(machines) == 0 {
			return nil, failf(exitUsage, "use --format header where the token goes into a header",
				"a netrc file holds passwords, and no host of %q is known to take the token as one", a.Name)
		}
		return inject.Netrc(a.Name, machines)
	case "k8s-exec":
		doc, err := inject.ExecCredential(execInfo, a.Token, a.ExpiresAt)
		if err != nil {
			return nil, failf(exitUsage, "give apiVersion client.authentication.k8s.io/v1 in the exec section of the kubeconfig", "%w", err)
		}
		return doc, nil
	}
	return []byte(a.Token.Reveal() + "\n"), nil
}

// netrcMachines lists the pinned hosts that take the token as a password, which
// are those of git repositories. A host with a port is left out, because a netrc
// file knows none: its token would go to every port of that host.
func netrcMachines(a connection.Access) []inject.Machine {
	var list []inject.Machine
	for _, host := range a.Header.Pins.GitHosts {
		if !strings.Contains(host, ":") {
			list = append(list, inject.Machine{Host: host, Login: a.Header.Pins.GitUser(), Password: a.Token.Reveal()})
		}
	}
	return list
}
