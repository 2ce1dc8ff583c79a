package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/store"
)

type sandboxOptions struct {
	Demo      bool
	TokenTTL  time.Duration
	Rotate    bool
	Grace     time.Duration
	Fail      []string
	NoBrowser bool
	AsChild   bool // this process is the child of a demo
	Command   []string
}

func newSandboxCmd(g *globals) *cobra.Command {
	var opts sandboxOptions
	cmd := &cobra.Command{
		Use:     "sandbox [-- CMD [ARG...]]",
		Short:   "Try everything on an issuer and an API inside this program",
		GroupID: groupSetup,
		Long: `Start a strict OAuth issuer and a small API on loopback, connect to it for real, and
run CMD with SANDBOX_ACCESS_TOKEN, SANDBOX_API and a private configuration, so that
'apiauth token sandbox' works inside it. This binary is first in its PATH and its
path is in APIAUTH_BIN. Without CMD the sandbox stays up until Ctrl-C.

Everything runs through the same code as with a real provider. The store is a
temporary, sealed one unless --store keychain is given; nothing is left behind.
Without a terminal the consent page is approved by the program itself.

--demo walks through connect, use, expiry, refresh, hand-over and disconnect.

Faults for --fail:
` + faultTable(),
		Example: `  apiauth sandbox --demo
  apiauth sandbox -- sh -c 'curl -H "$(apiauth token sandbox --format header)" $SANDBOX_API/me'
  apiauth sandbox --token-ttl 5s --rotate --fail once:token-500`,
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Command = a
			if opts.AsChild {
				return sandboxChild(cmd.Context(), g.app)
			}
			if opts.Demo && !cmd.Flags().Changed("token-ttl") {
				opts.TokenTTL = 2 * time.Second
			}
			return runSandbox(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVar(&opts.Demo, "demo", false, "walk through everything by itself, a line each")
	f.DurationVar(&opts.TokenTTL, "token-ttl", time.Hour, "lifetime of access tokens")
	f.BoolVar(&opts.Rotate, "rotate", false, "give a new refresh token with each refresh; reuse revokes the grant")
	f.DurationVar(&opts.Grace, "grace", 0, "accept the previous refresh token once more for this `duration`")
	f.StringSliceVar(&opts.Fail, "fail", nil, "switch a `FAULT` on; repeat for more")
	f.BoolVar(&opts.NoBrowser, "no-browser", false, "open no browser; approve by itself")
	f.BoolVar(&opts.AsChild, "as-child", false, "act as the child of --demo")
	_ = f.MarkHidden("as-child")
	return cmd
}

func faultTable() string {
	var b strings.Builder
	for _, f := range sandbox.Faults() {
		fmt.Fprintf(&b, "  %-18s %s\n", f.Name, f.Does)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// sandboxRun is a running sandbox with a connection of its own.
type sandboxRun struct {
	g      *globals
	opts   sandboxOptions
	server *sandbox.Server
	root   string            // temporary folder
	vars   map[string]string // environment of everything inside
	inner  *App              // apiauth as it acts inside
	auto   bool              // nobody is asked; the program approves
}

const sandboxName = "sandbox"

func runSandbox(ctx context.Context, g *globals, opts sandboxOptions) (err error) {
	if opts.Demo && len(opts.Command) > 0 {
		return usagef("--demo and a command exclude each other")
	}
	if opts.Demo {
		opts.Rotate, opts.NoBrowser = true, true
	}
	if opts.TokenTTL <= 0 || opts.Grace < 0 {
		return usagef("--token-ttl and --grace take positive durations")
	}
	r := &sandboxRun{g: g, opts: opts}
	r.auto = opts.NoBrowser || !g.app.person(g)
	r.server, err = sandbox.Start(ctx, sandbox.Options{
		TokenTTL:      opts.TokenTTL,
		RotateRefresh: opts.Rotate,
		Grace:         opts.Grace,
		Fail:          opts.Fail,
	})
	if err != nil {
		return usagef("start the sandbox: %w", err)
	}
	defer func() { err = errors.Join(err, r.server.Close()) }()
	if err := r.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	if opts.Demo {
		return r.demo(ctx)
	}
	if r.auto {
		r.say("Nobody to ask and no browser: the sandbox approves the login by itself.")
		if _, err := r.step(ctx, "connect", sandboxName); err != nil {
			return err
		}
	} else if code := r.apiauth(ctx, io.Discard, "connect", sandboxName); code != exitOK {
		return &silentError{code}
	}
	if len(opts.Command) > 0 {
		return r.command(ctx)
	}
	r.say("Issuer  %s", r.server.Issuer())
	r.say("API     %s", r.server.APIBase())
	r.say("In another terminal:")
	for _, name := range []string{"APIAUTH_CONFIG_DIR", "APIAUTH_STATE_DIR"} {
		r.say("  export %s=%s", name, r.vars[name])
	}
	if path, ok := r.vars["APIAUTH_STORE_KEY_FILE"]; ok {
		r.say("  export APIAUTH_STORE_KEY_FILE=%s", path)
	}
	r.say("  apiauth token sandbox --personal")
	r.say("Ctrl-C ends it and removes everything.")
	<-ctx.Done()
	return nil
}

func (r *sandboxRun) say(format string, a ...any) {
	if !r.g.cfg.Quiet {
		fmt.Fprintf(r.g.app.Stderr, format+"\n", a...)
	}
}

// prepare makes the private configuration: a provider definition for the
// server, folders of its own, and the key of a sealed store.
func (r *sandboxRun) prepare() (err error) {
	if r.root, err = os.MkdirTemp("", "apiauth-sandbox-"); err != nil {
		return failf(exitStore, "", "make a temporary folder: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(r.root)
		}
	}()
	configDir, state, work := filepath.Join(r.root, "config"), filepath.Join(r.root, "state"), filepath.Join(r.root, "work")
	for _, dir := range []string{filepath.Join(configDir, "providers"), state, work, filepath.Join(r.root, "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return failf(exitStore, "", "make a temporary folder: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(configDir, "providers", sandboxName+".yaml"), r.server.ProviderYAML(sandboxName), 0o600); err != nil {
		return failf(exitStore, "", "write the sandbox's definition: %w", err)
	}
	r.vars = map[string]string{
		"APIAUTH_CONFIG_DIR": configDir,
		"APIAUTH_STATE_DIR":  state,
		"APIAUTH_PERSONAL":   "true",
		"SANDBOX_API":        r.server.APIBase(),
		"SANDBOX_ISSUER":     r.server.Issuer(),
	}
	kind := r.g.cfg.Store
	if kind == "" || r.g.cfg.StoreFrom != "--store" {
		kind = store.KindFile
	}
	r.vars["APIAUTH_STORE"] = kind
	if kind == store.KindFile {
		key, err := store.NewKey(r.g.app.Rand)
		if err != nil {
			return err
		}
		path := filepath.Join(r.root, "store.key")
		if err := os.WriteFile(path, []byte(key.Reveal()+"\n"), 0o600); err != nil {
			return failf(exitStore, "", "write the key of the temporary store: %w", err)
		}
		r.vars["APIAUTH_STORE_KEY_FILE"] = path
	}
	r.inner = r.innerApp(work)
	return nil
}

// innerApp is this program as it acts inside: the same code, with the private
// configuration in front of the environment.
func (r *sandboxRun) innerApp(work string) *App {
	inner := *r.g.app
	inner.Dir = work
	inner.Env = func(name string) (string, bool) {
		if v, ok := r.vars[name]; ok {
			return v, true
		}
		if strings.HasPrefix(name, "APIAUTH_") || r.auto && (name == "BROWSER" || name == "CI") {
			return "", false
		}
		return r.g.app.Env(name)
	}
	if r.auto {
		inner.StdinTTY = false
		inner.StartBrowser = nil
		inner.SystemBrowser = nil
		inner.Approve = r.server.Approve
	}
	return &inner
}

func (r *sandboxRun) remove() error {
	if r.vars["APIAUTH_STORE"] == store.KindKeychain {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.apiauth(ctx, io.Discard, "disconnect", "--all", "--local", "--quiet")
	}
	if err := os.RemoveAll(r.root); err != nil {
		return failf(exitFailure, "remove it by hand", "remove %s: %w", r.root, err)
	}
	return nil
}

// apiauth runs a command line inside, as a person would type it.
func (r *sandboxRun) apiauth(ctx context.Context, stdout io.Writer, args ...string) int {
	inner := *r.inner
	inner.Stdout = stdout
	if r.g.cfg.Quiet {
		args = append([]string{"--quiet"}, args...)
	}
	return Main(ctx, &inner, args)
}

// command runs the person's command inside and ends with its status.
func (r *sandboxRun) command(ctx context.Context) error {
	ws, err := (&globals{app: r.inner, cfg: r.innerConfig()}).workspace()
	if err != nil {
		return err
	}
	access, err := ws.token(ctx, sandboxName, connection.Option{MinTTL: 0})
	if err != nil {
		return err
	}
	environ := r.environ()
	environ = inject.ChildEnv(environ, []inject.Var{{Name: "SANDBOX_ACCESS_TOKEN", Value: access.Token}})
	// ChildEnv takes the key of the store away from every child; this one is to
	// use apiauth on the temporary store.
	if path, ok := r.vars["APIAUTH_STORE_KEY_FILE"]; ok {
		environ = append(environ, "APIAUTH_STORE_KEY_FILE="+path)
	}
	return r.run(ctx, r.opts.Command, environ)
}

func (r *sandboxRun) innerConfig() config.Config {
	cfg := r.g.cfg
	cfg.Personal, cfg.Store, cfg.StoreFrom = true, r.vars["APIAUTH_STORE"], "APIAUTH_STORE"
	return cfg
}

// environ is the environment of the command: the caller's, without apiauth's
// settings, with the private ones, and this binary first in PATH.
func (r *sandboxRun) environ() []string {
	var out []string
	path := ""
	for _, kv := range r.g.app.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH":
			path = value
			continue
		case strings.HasPrefix(name, "APIAUTH_"):
			continue
		}
		out = append(out, kv)
	}
	bin := filepath.Join(r.root, "bin")
	if self := r.g.app.Executable; self != "" {
		link := filepath.Join(bin, "apiauth")
		if r.g.app.GOOS == "windows" {
			link += ".exe"
		}
		if err := os.Symlink(self, link); err == nil || errors.Is(err, os.ErrExist) {
			path = bin + string(os.PathListSeparator) + path
		}
		out = append(out, "APIAUTH_BIN="+self)
	}
	out = append(out, "PATH="+path)
	for name, value := range r.vars {
		out = append(out, name+"="+value)
	}
	return out
}

// run starts the command and waits: the sandbox lives as long as it does.
func (r *sandboxRun) run(ctx context.Context, argv, environ []string) error {
	app := r.g.app
	return ended(inject.Run(ctx, inject.Child{Argv: argv, Env: environ, Stdin: app.Stdin, Stdout: app.Stdout, Stderr: app.Stderr}))
}
