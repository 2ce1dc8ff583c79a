package cli

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
)

type disconnectOptions struct {
	Names []string
	All   bool
	Local bool
}

func newDisconnectCmd(g *globals) *cobra.Command {
	var opts disconnectOptions
	cmd := &cobra.Command{
		Use:     "disconnect NAME...",
		Aliases: []string{"remove", "rm"},
		Short:   "Forget a grant, and revoke it at the provider",
		GroupID: groupGrant,
		Long: `Forget the grant locally, always, and then revoke it at the provider where that can
be done. It says which of the two happened; where the provider has no way to
revoke, it names the page on which a person can.`,
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, names []string) error {
			opts.Names = names
			return runDisconnect(cmd.Context(), g, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.All, "all", false, "disconnect every connection of the project")
	cmd.Flags().BoolVar(&opts.Local, "local", false, "forget locally, revoke nothing")
	return cmd
}

// disconnectJSON is version 1 of what disconnect --json prints, one per name.
type disconnectJSON struct {
	Name      string `json:"name"`
	Forgotten bool   `json:"forgotten"`
	Revoked   bool   `json:"revoked"`
	Detail    string `json:"detail,omitempty"`
	Page      string `json:"page,omitempty"` // where a person can remove access
}

func runDisconnect(ctx context.Context, g *globals, opts disconnectOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if _, err := ws.bound(); err != nil {
		return err
	}
	if opts.All == (len(opts.Names) > 0) {
		return usagef("name what to disconnect, or give --all")
	}
	if err := checkNames(opts.Names); err != nil {
		return err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		if opts.All {
			ws.say("Nothing is connected in %s.", ws.label())
			return nil
		}
		return ws.notConnected(opts.Names[0])
	}
	if err != nil {
		return err
	}
	names := opts.Names
	if opts.All {
		if names, err = s.Names(ws.projectID); err != nil {
			return err
		}
	}
	src, err := ws.source(s)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		ws.say("Nothing is connected in %s.", ws.label())
	}
	results := []disconnectJSON{}
	var failed error
	for _, name := range names {
		if _, err := s.Header(connection.Key{Project: ws.projectID, Name: name}); err == nil {
			ws.auditor(s).event(ctx, name, audit.EventDisconnect, "") // now, because its key goes with it
		}
		farewell, err := src.Disconnect(ctx, name, opts.Local)
		if errors.Is(err, connection.ErrNotConnected) {
			failed = errors.Join(failed, ws.notConnected(name))
			continue
		}
		results = append(results, ws.sayFarewell(name, farewell, err))
		if err == nil {
			ws.hook(ctx, hookDisconnect, name, "")
		}
		failed = errors.Join(failed, err)
	}
	if ws.cfg.JSON {
		enc := json.NewEncoder(g.app.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(results); err != nil {
			return err
		}
	}
	return failed
}

// sayFarewell tells which of forgetting and revoking happened.
func (ws *workspace) sayFarewell(name string, f connection.Farewell, err error) disconnectJSON {
	doc := disconnectJSON{Name: name, Forgotten: err == nil, Revoked: f.Revoked, Page: f.Header.Pins.Revocation.Page}
	provider := oauth.Clean(f.Header.Provider)
	switch {
	case err != nil:
		doc.Detail = oauth.Clean(err.Error())
	case f.Revoked:
		doc.Detail = "forgotten here and revoked at " + provider
		ws.say("Disconnected %s: %s.", name, doc.Detail)
	case f.Skipped:
		doc.Detail = "forgotten here; nothing was revoked, as asked"
		ws.say("Disconnected %s: %s.", name, doc.Detail)
	case f.Err != nil:
		doc.Detail = "forgotten here; not revoked: " + oauth.Clean(f.Err.Error())
		ws.warn("disconnected %s: forgotten here, but %s did not confirm that the grant is revoked: %v", name, provider, f.Err)
	default:
		doc.Detail = "forgotten here; " + provider + " offers no revocation"
		ws.say("Disconnected %s: %s.", name, doc.Detail)
	}
	if !f.Revoked && doc.Page != "" {
		ws.say("Remove its access by hand at %s", doc.Page)
	}
	return doc
}
