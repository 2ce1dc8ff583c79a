package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
)

func newRenameCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "rename NAME NEW",
		Aliases: []string{"mv"},
		Short:   "Give a connection another name",
		GroupID: groupGrant,
		Long: `Give a connection another name. The provider is not asked for anything. Its audit
log goes along. An entry of the same name in apiauth.yaml stays as it is: edit it
there.`,
		Args:              args(between(2, 2)),
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			return runRename(cmd.Context(), g, a[0], a[1])
		},
	}
}

func runRename(ctx context.Context, g *globals, name, to string) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if _, err := ws.bound(); err != nil {
		return err
	}
	if !project.ValidName(to) {
		return usagef("%q is no connection name: use lower case letters, digits and hyphens, at most 63", oauth.Clean(to))
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return ws.notConnected(name)
	}
	if err != nil {
		return err
	}
	src, err := ws.source(s)
	if err != nil {
		return err
	}
	switch err := src.Rename(ctx, name, to); {
	case errors.Is(err, connection.ErrNotConnected):
		return ws.notConnected(name)
	case err != nil:
		return err
	}
	ws.auditor(s).event(ctx, to, audit.EventRenamed, "it was "+name+" before")
	ws.say("Renamed %s to %s.", name, to)
	if ws.manifest != nil {
		if _, ok := ws.manifest.Connection(name); ok {
			ws.warn("%s still names %q", ws.manifest.File, name)
		}
	}
	return nil
}
