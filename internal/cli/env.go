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
		Short:       "Print live tokens as variables for a shell, a file or a CI system",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Print the variables that 'apiauth exec' would set, in the form of a shell, a file or
a CI system. A value that a format cannot carry unchanged is refused.

The output holds real tokens: prefer 'apiauth exec', and write files with
--output, which makes them readable by you alone.

In CI, what can be masked is masked before it is used: github prints the commands
that mask and appends to the file that GITHUB_ENV names, azure prints secret
variables, buildkite is for eval and tells the redactor first. circleci appends to
the file that BASH_ENV names; gitlab is for artifacts:reports:dotenv, docker for
--env-file, netlify for a build plugin.`,
		Example: `  eval "$(apiauth env)"
  apiauth env --format fish | source
  apiauth env --format dotenv --output .env.local
  apiauth env --format github`,
		Args: args(noArguments),
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
	// What cannot work is refused before any token is touched.
	if err := inject.Write(new(bytes.Buffer), opts.Format, nil); err != nil {
		return err
	}
	to := inject.DeliveryOf(opts.Format)
	if to.Inside != "" && g.app.env(to.Inside) == "" {
		return failf(exitUsage, "use another format there, or 'apiauth exec'",
			"--format %s is for a job of that CI system, and %s is not set here", opts.Format, to.Inside)
	}
	if to.Fixed && opts.Output != "" {
		return usagef("--format %s has a place of its own: leave --output away", opts.Format)
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
	if to.Caveat != "" {
		ws.warn("%s", to.Caveat)
	}
	if to.File != "" {
		return ws.appendVariables(opts.Format, to.File, out.Bytes(), vars)
	}
	if opts.Output == "" || opts.Output == "-" {
		if _, err := g.app.Stdout.Write(out.Bytes()); err != nil {
			return failf(exitFailure, "", "write the variables: %w", err)
		}
		return nil
	}
	if err := ws.writeOutput(opts.Output, out.Bytes()); err != nil {
		return err
	}
	ws.say("Wrote %s, readable by you alone.", opts.Output)
	return nil
}

// writeOutput writes secrets to the file that --output names, readable by its
// owner alone.
func (ws *workspace) writeOutput(output string, doc []byte) error {
	path := output
	if !filepath.IsAbs(path) {
		path = filepath.Join(ws.dir, path)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return failf(exitUsage, "name a file, or leave --output away to print them", "write %s: it is no regular file", oauth.Clean(output))
	}
	if err := writePrivate(path, doc); err != nil {
		return failf(exitFailure, "see whether its folder is there and can be written", "write %s: %w", oauth.Clean(output), pathReason(err))
	}
	return nil
}

// appendVariables adds variables to the file that a CI system reads them from,
// once its log masks them.
func (ws *workspace) appendVariables(format, variable string, text []byte, vars []inject.Var) error {
	if err := inject.WriteMasks(ws.app.Stdout, format, vars); err != nil {
		return failf(exitFailure, "nothing was set", "write the commands that mask the tokens: %w", err)
	}
	path := ws.app.env(variable)
	if !filepath.IsAbs(path) {
		path = filepath.Join(ws.dir, path)
	}
	if err := inject.Append(path, text); err != nil {
		return failf(exitFailure, "the CI system makes that file for each step: see what changed "+variable,
			"append to the file that %s names: %w", variable, pathReason(err))
	}
	ws.say("Set %s for the steps that follow.", names(vars))
	return nil
}

// names lists variables for a message.
func names(vars []inject.Var) string {
	list := make([]string, 0, len(vars))
	for _, v := range vars {
		list = append(list, v.Name)
	}
	return strings.Join(list, ", ")
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
