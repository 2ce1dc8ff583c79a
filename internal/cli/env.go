package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
)

type envOptions struct {
	Connections []string
	MinTTL      time.Duration
	Format      string
	Output      string
}

func newEnvCmd(g *globals) *cobra.Command {
	var opts envOptions
	cmd := &cobra.Command{
		Use:         "env [-c NAME[=VAR]]...",
		Short:       "Print live tokens as variables for a shell or a tool",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Print the variables that 'apiauth exec' would set, in the form of a shell or a file.
A value that a format cannot carry unchanged is refused.

The output holds real tokens: prefer 'apiauth exec', and write files with
--output, which makes them readable by you alone.`,
		Example: `  eval "$(apiauth env)"
  apiauth env --format fish | source
  apiauth env --format dotenv --output .env.local`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.cfg.JSON && !cmd.Flags().Changed("format") {
				opts.Format = inject.JSON
			}
			return runEnv(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&opts.Connections, "connection", "c", nil, "hand out `NAME`, or NAME=VARIABLE; repeat for more")
	minTTLFlag(f, &opts.MinTTL)
	f.StringVar(&opts.Format, "format", inject.Sh, strings.Join(inject.Formats(), ", "))
	f.StringVarP(&opts.Output, "output", "o", "", "write to `FILE` (mode 0600) instead of standard output")
	_ = cmd.RegisterFlagCompletionFunc("connection", completeConnections(g))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(inject.Formats(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runEnv(ctx context.Context, g *globals, opts envOptions) error {
	if opts.MinTTL < 0 {
		return usagef("--min-ttl takes a duration from 0 on")
	}
	// An unknown format is refused before any token is touched.
	if err := inject.Write(new(bytes.Buffer), opts.Format, nil); err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	vars, err := ws.variables(ctx, opts.Connections, connection.Option{MinTTL: opts.MinTTL})
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := inject.Write(&out, opts.Format, vars); err != nil {
		return err
	}
	if opts.Output == "" || opts.Output == "-" {
		if _, err := g.app.Stdout.Write(out.Bytes()); err != nil {
			return failf(exitFailure, "", "write the variables: %w", err)
		}
		return nil
	}
	path := opts.Output
	if !filepath.IsAbs(path) {
		path = filepath.Join(g.dir(), path)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return failf(exitUsage, "name a file, or leave --output away to print them", "write %s: it is no regular file", oauth.Clean(opts.Output))
	}
	if err := writePrivate(path, out.Bytes()); err != nil {
		return failf(exitFailure, "see whether its folder is there and can be written", "write %s: %w", oauth.Clean(opts.Output), pathReason(err))
	}
	ws.say("Wrote %s, readable by you alone.", opts.Output)
	return nil
}

// writePrivate replaces a file by one that only its owner may read, in one step.
func writePrivate(path string, doc []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	tmp := f.Name()
	_, err = f.Write(doc)
	if err == nil {
		err = f.Chmod(0o600)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("%w", err)
	}
	return nil
}
