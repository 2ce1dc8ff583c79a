package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
)

type execOptions struct {
	Connections []string
	MinTTL      time.Duration
	Command     []string
}

func newExecCmd(g *globals) *cobra.Command {
	var opts execOptions
	cmd := &cobra.Command{
		Use:         "exec [-c NAME[=VAR]]... -- CMD [ARG...]",
		Short:       "Run a command with live tokens in its environment",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Run CMD with an access token for each connection of the project's apiauth.yaml, or
for each -c NAME, in its environment. The variable is the one after =, the
manifest's, the provider's own (SPOTIFY_ACCESS_TOKEN) or NAME_ACCESS_TOKEN.

CMD takes the place of apiauth: signals, terminal and exit status are its own. It
never sees a refresh token or a client secret. A token that ends while CMD runs is
not replaced: ask for enough with --min-ttl.`,
		Example: `  apiauth exec -- npm run build
  apiauth exec -c github=GH_TOKEN -- gh repo list`,
		Args: func(cmd *cobra.Command, a []string) error {
			if len(a) == 0 {
				return usagef("name the command to run after --, for example 'apiauth exec -- npm run build'")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Command = a
			return runExec(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows CMD is its own
	f.StringArrayVarP(&opts.Connections, "connection", "c", nil, "hand out `NAME`, or NAME=VARIABLE; repeat for more")
	minTTLFlag(f, &opts.MinTTL)
	_ = cmd.RegisterFlagCompletionFunc("connection", completeConnections(g))
	return cmd
}

func runExec(ctx context.Context, g *globals, opts execOptions) error {
	if opts.MinTTL < 0 {
		return usagef("--min-ttl takes a duration from 0 on")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if err := ws.narrowed(); err != nil {
		return err
	}
	vars, err := ws.variables(ctx, opts.Connections, connection.Option{MinTTL: opts.MinTTL})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // a signal came while a token was refreshed
	}
	return g.app.Exec(opts.Command, inject.ChildEnv(g.app.Environ(), vars))
}

// narrowed refuses what the manifest asks for and this version cannot do. A
// manifest may only narrow what a command gets, so ignoring it would give more.
func (ws *workspace) narrowed() error {
	if ws.manifest == nil {
		return nil
	}
	e := ws.manifest.Exec
	for _, asked := range []struct {
		key string
		set bool
	}{
		{"placeholder", e.Placeholder},
		{"allow", len(e.Allow) > 0},
		{"egress: strict", e.Egress == "strict"},
		{"scan", len(e.Scan) > 0},
	} {
		if asked.set {
			return failf(exitRefused, "take it out of the manifest if the command may have the real tokens without it",
				"%s asks for exec.%s, which this version cannot do", ws.manifest.File, asked.key)
		}
	}
	return nil
}
