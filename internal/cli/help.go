package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// helpTopics are pages of help that belong to no command.
func helpTopics(g *globals) []*cobra.Command {
	topic := func(name, short string, text func() string) *cobra.Command {
		cmd := &cobra.Command{Use: name, Short: short}
		// Written when it is asked for: most calls are not for help.
		cmd.SetHelpFunc(func(*cobra.Command, []string) { _, _ = fmt.Fprint(g.app.Stdout, text()) })
		return cmd
	}
	return []*cobra.Command{
		topic("environment", "Variables that apiauth reads", environmentHelp),
		topic("exit-codes", "What the exit status says", exitCodesHelp),
	}
}

func environmentHelp() string {
	var b strings.Builder
	b.WriteString(`Variables that change what apiauth does. No other APIAUTH_ variable is read.

A flag goes before its variable, and a variable before config.yaml in the user's
own configuration folder; 'apiauth paths' says where that is. A variable that is
set to nothing counts as not set. For <ID> put the provider's id in capitals,
with - as _.

`)
	for _, s := range config.Environment() {
		fmt.Fprintf(&b, "%s\n", s.Name)
		for _, line := range wrap(s.Use, lineWidth-4) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
		switch {
		case s.Key != "" && s.Flag != "":
			fmt.Fprintf(&b, "    Flag: %s. In config.yaml: %s\n", s.Flag, s.Key)
		case s.Key != "":
			fmt.Fprintf(&b, "    In config.yaml: %s\n", s.Key)
		case s.Flag != "":
			fmt.Fprintf(&b, "    Flag: %s\n", s.Flag)
		}
	}
	return b.String()
}

func exitCodesHelp() string {
	return `What the exit status of apiauth says.

  0      done
  1      it failed, or a check found something
  2      wrong call, wrong configuration, or an unknown name
  3      temporary: the network or the issuer failed; try again
  4      a person has to run 'apiauth connect'
  5      the store: locked, denied, absent, full, or written by a newer version
  6      refused by policy: a folder that is not bound, a changed endpoint
  128+n  ended by signal n

'apiauth exec' ends with the status of its command once that runs. Before, the
status is one of the above, with a line on stderr that begins with "apiauth:";
127 says that the command was not found and 126 that it cannot be run, as a
shell does.
`
}

// newHelpCmd shows the help of a command or a topic. A word that is neither is an
// error, not the front page.
func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			for _, c := range root.Commands() {
				if !c.Hidden {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, words []string) error {
			cmd, rest, err := root.Find(words)
			if err != nil || len(rest) > 0 {
				if cmd == nil {
					cmd = root
				}
				return unknownCommand(cmd, append(rest, words...)[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// habits are words that people type because other programs have them. Some run
// the command that is meant, the others say what it is called here. They are two
// commands of many names: each command costs every start a little.
func habits() []*cobra.Command {
	quiet := func(*cobra.Command, []string) error { return nil }
	alias := &cobra.Command{
		Use:                "login",
		Aliases:            []string{"add", "signin", "logout", "signout", "whoami"},
		Short:              "What other programs call connect, disconnect and status",
		Hidden:             true,
		DisableFlagParsing: true,
		PersistentPreRunE:  quiet,
		RunE: func(cmd *cobra.Command, args []string) error {
			real := "connect"
			switch cmd.CalledAs() {
			case "logout", "signout":
				real = "disconnect"
			case "whoami":
				real = "status"
			}
			root := cmd.Root()
			root.SetArgs(append([]string{real}, args...))
			called, err := root.ExecuteContextC(cmd.Context())
			if err != nil && isUsageError(err) {
				return failf(exitUsage, "'"+called.CommandPath()+" --help' lists what it takes", "%s", err.Error())
			}
			return err
		},
	}
	hint := &cobra.Command{
		Use: "get",
		Aliases: []string{
			"auth", "authorize", "reconnect", "delete", "print", "access-token", "refresh", "run", "export", "curl", "request", "show",
			"providers", "clients", "projects", "init", "config", "check", "uninstall", "upgrade", "update",
		},
		Short:              "What other programs call something else",
		Hidden:             true,
		DisableFlagParsing: true,
		PersistentPreRunE:  quiet,
		RunE: func(cmd *cobra.Command, args []string) error {
			given := "NAME"
			for _, a := range args {
				if !strings.HasPrefix(a, "-") {
					given = oauth.Clean(a)
					break
				}
			}
			return failf(exitUsage, strings.ReplaceAll(habitHint(cmd.CalledAs()), "NAME", given), "there is no command %q", cmd.CalledAs())
		},
	}
	return []*cobra.Command{alias, hint}
}

// habitHint says what a word of other programs is called here.
func habitHint(word string) string {
	switch word {
	case "auth":
		return "'apiauth connect NAME' logs in, 'apiauth token NAME' prints a token"
	case "authorize":
		return "'apiauth connect NAME' logs in"
	case "reconnect":
		return "'apiauth connect NAME' again does that"
	case "delete":
		return "'apiauth disconnect NAME' forgets a connection and revokes it where it can"
	case "refresh":
		return "'apiauth token NAME' refreshes when it is needed; after a 401 use 'apiauth token NAME --refresh'"
	case "run":
		return "'apiauth exec -- COMMAND' runs a command with tokens in its environment"
	case "export":
		return "'apiauth env --format sh' prints variables for a shell"
	case "curl", "request":
		return "'apiauth api NAME PATH' calls the API with the token added"
	case "show":
		return "'apiauth status NAME' shows a connection, 'apiauth provider show ID' a provider"
	case "providers":
		return "'apiauth provider list' shows the catalogue"
	case "clients":
		return "'apiauth client list' shows the client registrations"
	case "projects":
		return "'apiauth project show --all' lists the projects"
	case "init":
		return "'apiauth project init' writes a manifest; without one everything belongs to the personal project"
	case "config":
		return "'apiauth paths' says where config.yaml lies, 'apiauth help environment' what can be set"
	case "check":
		return "'apiauth doctor' proves the set-up, 'apiauth provider check FILE' a provider definition"
	case "uninstall":
		return "'apiauth reset' removes everything that apiauth keeps, keychain items included"
	case "upgrade", "update":
		return "apiauth comes by the way it was installed, and is updated by it"
	}
	return "'apiauth token NAME' prints a live access token"
}

// unknownCommand says what was probably meant. cmd is the command that name
// stands below.
func unknownCommand(cmd *cobra.Command, name string) error {
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() && !c.Hidden {
			known = append(known, c.Name())
		}
	}
	msg := fmt.Sprintf("unknown command %q", oauth.Clean(name))
	if cmd.HasParent() {
		msg += " for " + cmd.CommandPath()
	}
	near := strictyaml.Suggest(name, known)
	if near == "" {
		if s := cmd.SuggestionsFor(name); len(s) > 0 {
			near = s[0]
		}
	}
	if near != "" {
		return failf(exitUsage, fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), near), "%s", msg)
	}
	if !cmd.HasParent() {
		if _, err := providers.Open("").Digest(name); err == nil {
			return failf(exitUsage, fmt.Sprintf("'apiauth connect %s' logs in there, 'apiauth token %s' prints a token", name, name), "%s", msg)
		}
	}
	return failf(exitUsage, fmt.Sprintf("'%s --help' lists the commands", cmd.CommandPath()), "%s", msg)
}

// group makes a command that only holds others: alone it prints its help, and a
// word that is none of its commands is an error.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, words []string) error {
		if len(words) == 0 {
			return nil
		}
		return unknownCommand(cmd, words[0])
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(commands...)
	return cmd
}

// between checks that there are as many arguments as a command takes; without an
// upper end if most is negative. Its message repeats what stands in the command's
// line of use.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, words []string) error {
		n := len(words)
		if n >= least && (most < 0 || n <= most) {
			return nil
		}
		given := fmt.Sprintf("%d arguments", n)
		switch n {
		case 0:
			given = "no argument"
		case 1:
			given = "one argument"
		}
		_, takes, _ := strings.Cut(cmd.Use, " ")
		return fmt.Errorf("it takes %s, and was given %s", takes, given)
	}
}

// noArguments is cobra.NoArgs in our words: its own speak of a command.
func noArguments(_ *cobra.Command, words []string) error {
	if len(words) > 0 {
		return fmt.Errorf("it takes no argument, and was given %q", oauth.Clean(words[0]))
	}
	return nil
}
