package cli

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/leak"
)

type execOptions struct {
	Connections []string
	MinTTL      time.Duration
	Limits      limitFlags
	Netlify     string
	Mask        string
	Scan        []string
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
not replaced: ask for enough with --min-ttl.

--mask puts *** in the place of the tokens in what CMD prints, in the forms that
encoders give them. --scan looks for them in files when CMD has ended, as does the
manifest's exec.scan: a finding fails a CMD that ended with 0. With either, apiauth
stays and passes signals on.

--placeholder gives CMD placeholders in the shape of tokens, and a proxy of its own
(HTTPS_PROXY) that puts the token in their place: toward the connection's hosts
only, in the one place that the provider names, within --allow. What CMD can dump
works nowhere else, and a token that ends is replaced. By itself that does not stop
a program that runs apiauth or asks the keychain. --isolate does: CMD then sees the
system read-only, an empty home directory and the project's folder, and reaches
nothing but that proxy, which leads to public hosts (or with --egress strict to none
but the APIs). The manifest's exec section narrows what flags allow, never widens.

With --netlify, programs that call getSecrets of the npm package
@netlify/functions, 0.9.0 to 1.4.0, get these connections from there, and the
environment holds no token of a provider.`,
		Example: `  apiauth exec -- npm run build
  apiauth exec -c github=GH_TOKEN -- gh repo list
  apiauth exec --isolate --allow 'GET /user/*' -- npm ci`,
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
	opts.Limits.add(f)
	f.StringVar(&opts.Netlify, "netlify", "", "answer getSecrets of @netlify/functions in CMD, in the `STYLE` function or build")
	f.Lookup("netlify").NoOptDefVal = netlifyFunction
	_ = cmd.RegisterFlagCompletionFunc("netlify", cobra.FixedCompletions(netlifyStyles(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("egress", cobra.FixedCompletions([]string{"open", "strict"}, cobra.ShellCompDirectiveNoFileComp))
	f.StringVar(&opts.Mask, "mask", "auto", "hide the tokens in what CMD prints: auto, always or never (auto: in CI, unless at a terminal)")
	f.StringArrayVar(&opts.Scan, "scan", nil, "fail if a token stands in the file or folder `PATH` afterwards; repeat for more")
	_ = cmd.RegisterFlagCompletionFunc("connection", completeConnections(g))
	_ = cmd.RegisterFlagCompletionFunc("mask", cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runExec(ctx context.Context, g *globals, opts execOptions) error {
	if opts.MinTTL < 0 {
		return usagef("--min-ttl takes a duration from 0 on")
	}
	mask, err := g.app.masks(opts.Mask)
	if err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	l, err := ws.limits(opts.Limits)
	if err != nil {
		return err
	}
	scan, err := ws.scanPaths(opts.Scan)
	if err != nil {
		return err
	}
	plan := execPlan{argv: opts.Command}
	var vars []inject.Var
	var secrets, found []leak.Secret // what is masked, and what is looked for
	if opts.Netlify != "" || l.placeholder {
		if err := ws.checkIsolation(l); err != nil {
			return err
		}
		begin := ws.standIns
		if opts.Netlify != "" {
			begin = func(ctx context.Context, named []string, l limits) (*standIns, error) {
				return ws.netlifyRun(ctx, opts.Netlify, named, l)
			}
		}
		run, err := begin(ctx, opts.Connections, l)
		if err != nil {
			return err
		}
		if plan.resident = true; run.site == nil {
			vars = run.vars // else they come from getSecrets alone
		}
		plan.before = append(plan.before, run.logged, run.begin)
		secrets = run.tokens.secrets()
		found = append(run.placeholders(), secrets...)
		if run.site != nil {
			secrets = append(secrets, leak.Secret{Kind: "site token", Value: run.site.token})
		}
	} else {
		if vars, err = ws.variables(ctx, opts.Connections, connection.Option{MinTTL: opts.MinTTL}); err != nil {
			return err
		}
		secrets = handedOut(vars)
		found = secrets
	}
	plan.env = inject.ChildEnv(g.app.Environ(), vars)
	if mask {
		plan.mask(secrets)
	}
	if len(scan) > 0 {
		plan.scan(ws, scan, found)
	}
	return plan.run(ctx, g.app)
}

// execPlan is what becomes of exec's command. The modes change it, each one
// what it needs: variables, the child, something to do before or after.
type execPlan struct {
	argv, env []string
	// resident says that a mode needs this process while the child runs.
	// Without it the child takes its place.
	resident bool
	// before runs when all tokens are there and the child is not; what it
	// returns runs when the child is gone. Several nest, the first outermost. What
	// it starts lives until then, also when ctx ends: a signal is the child's.
	before []func(ctx context.Context, p *execPlan) (after func(), err error)
	// child starts the child and waits for it; nil is inject.Run.
	child func(ctx context.Context, c inject.Child) (code int, err error)
	// checks run when the child has ended, and tell what they have found. A
	// finding is a failure only of a child that had none.
	checks []func(ctx context.Context) error
}

func (p *execPlan) run(ctx context.Context, app *App) error {
	var afters []func()
	defer func() {
		for _, after := range slices.Backward(afters) {
			after()
		}
	}()
	for _, begin := range p.before {
		after, err := begin(ctx, p)
		if err != nil {
			return err
		}
		afters = append(afters, after)
	}
	if err := ctx.Err(); err != nil {
		return err // a signal came meanwhile
	}
	if !p.resident {
		return app.Exec(p.argv, p.env)
	}
	ctx = context.WithoutCancel(ctx)
	go debug.FreeOSMemory() // of what the start has read; from now on this process waits
	child := p.child
	if child == nil {
		child = inject.Run
	}
	code, err := child(ctx, inject.Child{Argv: p.argv, Env: p.env, Stdin: app.Stdin, Stdout: app.Stdout, Stderr: app.Stderr})
	if err != nil {
		return err
	}
	var found error
	for _, check := range p.checks {
		found = errors.Join(found, check(ctx))
	}
	if code == exitOK {
		return found
	}
	if found != nil {
		_ = app.report(nil, found)
	}
	return ended(code, nil)
}

// ended makes the status of a child an error, unless it is 0.
func ended(code int, err error) error {
	if err == nil && code != exitOK {
		return &inject.ExitError{Code: code}
	}
	return err
}
