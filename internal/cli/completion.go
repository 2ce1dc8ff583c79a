package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletionCmd(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "completion {bash|zsh|fish|powershell}",
		Short:   "Print a completion script for a shell",
		GroupID: groupOther,
		Long: `Print the script that completes apiauth's commands, flags, connections and
providers in a shell. Completion reads names only: it opens no keychain and no
network connection.

  bash        source <(apiauth completion bash)
  zsh         apiauth completion zsh > "${fpath[1]}/_apiauth"
  fish        apiauth completion fish > ~/.config/fish/completions/apiauth.fish
  powershell  apiauth completion powershell | Out-String | Invoke-Expression`,
		ValidArgs:         []string{"bash", "zsh", "fish", "powershell"},
		Args:              args(between(1, 1)),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil },
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(g.app.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(g.app.Stdout)
			case "fish":
				return root.GenFishCompletion(g.app.Stdout, true)
			case "powershell", "pwsh":
				return root.GenPowerShellCompletionWithDesc(g.app.Stdout)
			}
			return usagef("there is no completion for %q: use bash, zsh, fish or powershell", args[0])
		},
	}
	return cmd
}

// completeConnections completes the names of the project's connections. It
// reads the names of files and nothing else.
func completeConnections(g *globals) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return matching(g.connectionNames(cmd), given, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeProviders completes the ids of the catalogue and of the user's own
// definitions, by their file names.
func completeProviders(g *globals) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return matching(g.providerIDs(cmd), given, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeConnectable completes what connect takes: the manifest's connections,
// those that are stored, and the providers.
func completeConnectable(g *globals) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names := g.connectionNames(cmd)
		if ws, err := g.completing(cmd); err == nil && ws.manifest != nil {
			for _, c := range ws.manifest.Connections {
				names = append(names, c.Name)
			}
		}
		names = append(names, g.providerIDs(cmd)...)
		return matching(names, given, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}

// completing is the workspace for a completion. The settings are read again,
// because the flags on the line were parsed after the first time.
func (g *globals) completing(cmd *cobra.Command) (*workspace, error) {
	if err := g.load(cmd); err != nil {
		return nil, err
	}
	return g.workspace()
}

func (g *globals) connectionNames(cmd *cobra.Command) []string {
	ws, err := g.completing(cmd)
	if err != nil {
		cobra.CompErrorln(err.Error())
		return nil
	}
	s, err := ws.store()
	if err != nil {
		return nil
	}
	names, err := s.Names(ws.projectID)
	if err != nil {
		cobra.CompErrorln(err.Error())
	}
	return names
}

func (g *globals) providerIDs(cmd *cobra.Command) []string {
	if err := g.load(cmd); err != nil {
		return nil
	}
	ws, err := g.homeless()
	if err != nil {
		return nil
	}
	ids, err := ws.catalogue.IDs()
	if err != nil {
		cobra.CompErrorln(err.Error())
	}
	return ids
}

// matching keeps the names that begin with what was typed and do not stand on
// the line already.
func matching(names, given []string, prefix string) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool {
		return !strings.HasPrefix(n, prefix) || slices.Contains(given, n)
	})
}

// oneArg limits a completion to the first argument.
func oneArg(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(given) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, given, prefix)
	}
}

// registerFlagCompletion completes a flag's value. It fails only for a flag that
// is not there, which is a mistake in this program.
func registerFlagCompletion(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(fmt.Sprintf("%s: %v", cmd.CommandPath(), err))
	}
}
