package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/keyring"
)

// globals are the flags that every command has, and what became of them.
type globals struct {
	app *App
	cfg config.Config
	// command is the one that runs, without the program's own name.
	command string

	chdir    string
	personal bool
	store    string
	noInput  bool
	json     bool
	quiet    bool
	debug    bool

	keychain *keyring.Keyring // that every workspace shares; nil for each its own
}

// NewRoot builds the command tree.
func NewRoot(app *App) *cobra.Command { return newRoot(app, "") }

// newRoot builds the command tree, or of it the named command alone: the others
// would cost every start as much as all the rest of it. An empty or unknown name
// stands for all.
func newRoot(app *App, only string) *cobra.Command {
	g := &globals{app: app}
	version := false
	root := &cobra.Command{
		Use:   "apiauth",
		Short: "Connect to APIs that ask for OAuth, and use them without passing tokens around",
		Long: `apiauth runs a provider's OAuth flow once, keeps the refresh token in the
keychain of the operating system, and from then on hands a fresh access token
to whatever needs it: a script, a build, a CI job, a front end in development.

  apiauth connect spotify            log in once
  apiauth token spotify              print a live access token
  apiauth exec -- npm run build      run a command with tokens in its environment
  apiauth exec --isolate -- npm ci   the same, and it never holds a token
  apiauth sandbox --demo             see all of it, without any account`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if version {
				return nil // whatever the configuration is like
			}
			return g.load(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if version {
				_, err := fmt.Fprintf(app.Stdout, "apiauth %s\n", app.Version.Number)
				return err
			}
			return cmd.Help()
		},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknownCommand(cmd, args[0])
		},
	}
	// Cobra's own flag prints through a template; see internal/sandbox/pages.go
	// for what those cost.
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.SetHelpCommand(newHelpCmd(root))
	root.SetHelpCommandGroupID(groupOther) // after it, or the group is not taken

	f := root.PersistentFlags()
	f.StringVarP(&g.chdir, "chdir", "C", "", "act as if started in `DIR`")
	f.BoolVar(&g.personal, "personal", false, "use the personal project even inside a project")
	f.StringVar(&g.store, "store", "", "where a new project keeps its grants: keychain or file (default keychain)")
	f.BoolVar(&g.noInput, "no-input", false, "ask nothing and open no browser")
	f.BoolVar(&g.json, "json", false, "print data as JSON")
	f.BoolVarP(&g.quiet, "quiet", "q", false, "print errors only")
	f.BoolVar(&g.debug, "debug", false, "tell on stderr what is done; never prints a secret")

	root.AddGroup(
		&cobra.Group{ID: groupGrant, Title: "Obtain and keep grants:"},
		&cobra.Group{ID: groupUse, Title: "Use them:"},
		&cobra.Group{ID: groupAway, Title: "For CI, and when a token leaks:"},
		&cobra.Group{ID: groupSetup, Title: "Set up, and try out:"},
		&cobra.Group{ID: groupCare, Title: "Look after it:"},
		&cobra.Group{ID: groupOther, Title: "And:"},
	)
	if command := constructor(only); command != nil {
		root.AddCommand(command(g))
		return root
	}
	for _, name := range commandNames() {
		root.AddCommand(constructor(name)(g))
	}
	root.AddCommand(helpTopics(g)...)
	root.AddCommand(habits()...)
	return root
}

// commandNames lists the commands that constructor knows.
func commandNames() []string {
	return []string{
		"connect", "disconnect", "rename", "status", "list", "dashboard",
		"token", "exec", "env", "secrets", "api", "proxy", "serve", "receive", "git-credential",
		"audit", "bundle", "scan", "revoke",
		"client", "provider", "project", "store",
		"doctor", "paths", "reset", "sandbox", "completion", "version",
	}
}

// constructor returns what makes the named command, or nil.
func constructor(name string) func(*globals) *cobra.Command {
	switch name {
	case "connect":
		return newConnectCmd
	case "disconnect":
		return newDisconnectCmd
	case "rename":
		return newRenameCmd
	case "status":
		return newStatusCmd
	case "list":
		return newListCmd
	case "dashboard":
		return newDashboardCmd
	case "token":
		return newTokenCmd
	case "exec":
		return newExecCmd
	case isolatedName:
		return newIsolatedCmd
	case "env":
		return newEnvCmd
	case "secrets":
		return newSecretsCmd
	case "api":
		return newAPICmd
	case "audit":
		return newAuditCmd
	case "bundle":
		return newBundleCmd
	case "serve":
		return newServeCmd
	case "receive":
		return newReceiveCmd
	case "git-credential":
		return newGitCredentialCmd
	case "proxy":
		return newProxyCmd
	case "scan":
		return newScanCmd
	case "revoke":
		return newRevokeCmd
	case "client":
		return newClientCmd
	case "provider":
		return newProviderCmd
	case "project":
		return newProjectCmd
	case "store":
		return newStoreCmd
	case "doctor":
		return newDoctorCmd
	case "paths":
		return newPathsCmd
	case "reset":
		return newResetCmd
	case "sandbox":
		return newSandboxCmd
	case "completion":
		return newCompletionCmd
	case "version":
		return newVersionCmd
	}
	return nil
}

// namedCommand returns the command that a command line names. It returns nothing where
// that takes more than a glance: then the whole tree decides.
func namedCommand(args []string) string {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; a {
		case "-C", "--chdir", "--store":
			i++ // its value
		case "--personal", "--no-input", "--json", "-q", "--quiet", "--debug":
		default:
			if a == "" || a[0] == '-' {
				return ""
			}
			return a
		}
	}
	return ""
}

// The groups of the help page.
const (
	groupGrant = "grant"
	groupUse   = "use"
	groupAway  = "away"
	groupSetup = "setup"
	groupCare  = "care"
	groupOther = "other"
)

// catchesLate marks commands that mostly end before a signal could come. They
// catch signals from the moment on when they change something; until then a
// signal ends them as it ends any program.
const catchesLate = "apiauth.catches-late"

func lateSignals() map[string]string { return map[string]string{catchesLate: "yes"} }

// load reads the configuration; it runs before every command.
func (g *globals) load(cmd *cobra.Command) error {
	g.command = strings.TrimPrefix(cmd.CommandPath(), "apiauth ")
	if cmd.Annotations[catchesLate] == "" {
		g.app.catch()
	}
	flags := map[string]any{}
	set := func(flag, setting string, value any) {
		if f := cmd.Flag(flag); f != nil && f.Changed {
			flags[setting] = value
		}
	}
	set("personal", "personal", g.personal)
	set("store", "store", g.store)
	set("no-input", "no_input", g.noInput)
	set("quiet", "quiet", g.quiet)
	set("debug", "debug", g.debug)
	set("json", "json", g.json)
	dirs, err := config.Paths(g.app.Env, g.app.GOOS, g.app.Home)
	if err != nil {
		return err
	}
	cfg, err := config.Load(config.LoadOptions{Env: g.app.Env, Dir: dirs.Config, Flags: flags})
	if err != nil {
		return err
	}
	g.cfg = cfg
	return nil
}

// dir is the folder that the command acts in.
func (g *globals) dir() string {
	switch {
	case g.chdir == "":
		return g.app.Dir
	case filepath.IsAbs(g.chdir):
		return filepath.Clean(g.chdir)
	}
	return filepath.Join(g.app.Dir, g.chdir)
}

// args turns cobra's argument errors into usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return &usageError{fmt.Errorf("%s: %w", cmd.CommandPath(), err)}
		}
		return nil
	}
}
