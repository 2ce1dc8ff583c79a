package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
)

func newClientRemoveCmd(g *globals) *cobra.Command {
	var forProject bool
	cmd := &cobra.Command{
		Use:   "remove PROVIDER",
		Short: "Forget a client and its secret",
		Long: `Forget the client that is stored for a provider, with its secret. The provider
is not told: remove the application there when it is no longer needed.
Connections that need the secret cannot be refreshed any more.`,
		Args:              args(between(1, 1)),
		ValidArgsFunction: oneArg(completeClients(g)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runClientRemove(cmd.Context(), g, args[0], forProject)
		},
	}
	cmd.Flags().BoolVar(&forProject, "project", false, "the one that is for this project only")
	return cmd
}

func runClientRemove(ctx context.Context, g *globals, provider string, forProject bool) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	scope, err := ws.clientScope(forProject)
	if err != nil {
		return err
	}
	removed := 0
	err = ws.eachStore(func(s *store.Store) error {
		err := s.RemoveClient(ctx, provider, scope)
		switch {
		case errors.Is(err, connection.ErrNotStored):
			return nil
		case err != nil:
			return fmt.Errorf("remove the client of %s: %w", oauth.Clean(provider), err)
		}
		removed++
		return nil
	})
	if err != nil {
		return err
	}
	if removed == 0 {
		return failf(exitUsage, "'apiauth client list' shows what is stored", "no client of %q is stored %s", oauth.Clean(provider), ws.scopeText(scope))
	}
	ws.say("Removed the client of %s that was stored %s.", oauth.Clean(provider), ws.scopeText(scope))
	return nil
}

// completeClients completes the providers that a client is stored for.
func completeClients(g *globals) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var names []string
		if ws, err := g.completing(cmd); err == nil {
			_ = ws.eachStore(func(s *store.Store) error {
				registrations, err := s.Registrations()
				for _, r := range registrations {
					names = append(names, r.Provider)
				}
				return err
			})
		}
		return matching(names, given, prefix), cobra.ShellCompDirectiveNoFileComp
	}
}
