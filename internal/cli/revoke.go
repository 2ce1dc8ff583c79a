package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

type revokeOptions struct {
	TokenStdin bool
	All        bool
	Provider   string
}

func newRevokeCmd(g *globals) *cobra.Command {
	var opts revokeOptions
	cmd := &cobra.Command{
		Use:     "revoke --token-stdin",
		Short:   "Deal with a token that leaked",
		GroupID: groupAway,
		Long: `Read a token from stdin, find the connection of this project that it belongs to,
end the whole grant at the provider, forget it here, and say what is left to do by
hand. When the provider cannot be reached, nothing is forgotten: try again.

A token that is not kept here may have been replaced since, or be of another
machine. With --provider it is sent to that provider's revocation endpoint all the
same, as the client of a connection that there is.

A client secret cannot be revoked by request: the page where it is replaced is
named. The status is 0 when the provider has confirmed, 3 when it could not be
reached, and 1 when something is left to do.`,
		Example: `  pbpaste | apiauth revoke --token-stdin
  pbpaste | apiauth revoke --token-stdin --provider github`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runRevoke(cmd.Context(), g, opts) },
	}
	f := cmd.Flags()
	f.BoolVar(&opts.TokenStdin, "token-stdin", false, "read the token from stdin, one line")
	f.BoolVar(&opts.All, "all", false, "look in all projects and stores")
	f.StringVar(&opts.Provider, "provider", "", "send a token that is not kept here to the provider `ID`")
	_ = cmd.RegisterFlagCompletionFunc("provider", completeProviders(g))
	return cmd
}

// revokeJSON is version 1 of what revoke --json prints.
type revokeJSON struct {
	Found      bool     `json:"found"`
	Connection string   `json:"connection,omitempty"`
	Provider   string   `json:"provider,omitempty"`
	Kind       string   `json:"kind,omitempty"`
	Revoked    bool     `json:"revoked"`   // the provider has confirmed
	Forgotten  bool     `json:"forgotten"` // the connection is gone here
	ByHand     []string `json:"by_hand"`   // what is left to do
}

func runRevoke(ctx context.Context, g *globals, opts revokeOptions) error {
	if !opts.TokenStdin {
		return usagef("give the token on stdin with --token-stdin; a command line is no place for it")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	token, err := flow.ReadSecret(g.app.Stdin)
	if err != nil {
		return failf(exitUsage, "pipe the token as one line", "%w", err)
	}
	list, err := ws.keptSecrets(ctx, opts.All)
	if err != nil {
		return err
	}
	doc := revokeJSON{ByHand: []string{}}
	var failed error
	if k := belongs(list, token); k == nil {
		failed = ws.revokeUnknown(ctx, list, token, opts, &doc)
	} else if k.Kind == kindClient {
		failed = ws.replaceClient(k, &doc)
	} else {
		failed = ws.revokeKept(ctx, k, &doc)
	}
	if g.cfg.JSON {
		if err := printJSON(g.app.Stdout, doc); err != nil {
			return err
		}
	}
	for _, todo := range doc.ByHand {
		if !g.cfg.JSON {
			writeWrapped(g.app.Stderr, "apiauth: left to do: ", todo)
		}
	}
	return failed
}

// belongs finds what a token is. All are compared, each in constant time.
func belongs(list []kept, token secret.Text) *kept {
	var found *kept
	for i := range list {
		if list[i].Value.Equal(token) && found == nil {
			found = &list[i]
		}
	}
	return found
}

// revokeKept ends the grant of a connection.
func (ws *workspace) revokeKept(ctx context.Context, k *kept, doc *revokeJSON) error {
	provider := oauth.Clean(k.header.Provider)
	doc.Found, doc.Connection, doc.Provider, doc.Kind = true, k.Connection, k.header.Provider, k.Kind
	ws.say("This is the %s of %s.", k.Kind, k.Connection)
	farewell, err := k.source.Revoke(ctx, k.name)
	if errors.Is(err, connection.ErrTemporary) {
		return failf(exitTemporary, "nothing was forgotten: try again soon, the token still works", "%w", err)
	}
	if err != nil {
		if page := k.header.Pins.Revocation.Page; page != "" {
			doc.ByHand = append(doc.ByHand, "remove its access at "+page)
		}
		return err
	}
	doc.Revoked, doc.Forgotten = farewell.Revoked, true
	page := farewell.Header.Pins.Revocation.Page
	again := "connect again: 'apiauth connect " + k.name + "'"
	logs := "look at what " + provider + " logged for uses that were not yours"
	if !farewell.Revoked {
		ws.say("Forgot %s here. %s has no way to revoke by request: the token still works.", k.Connection, provider)
		where := "end it at the provider"
		if page != "" {
			where = "remove its access at " + page
		}
		doc.ByHand = append(doc.ByHand, where, logs, again)
		return failf(exitFailure, "", "the token is not revoked: that has to be done by hand")
	}
	ws.say("Revoked %s at %s and forgot it here.", k.Connection, provider)
	if farewell.Err != nil {
		doc.ByHand = append(doc.ByHand, fmt.Sprintf("the grant is ended, but the access token by itself was not confirmed (%s): it may work until it expires", oauth.Clean(farewell.Err.Error())))
	}
	doc.ByHand = append(doc.ByHand, logs, again)
	return nil
}

// replaceClient tells what to do about a client secret.
func (ws *workspace) replaceClient(k *kept, doc *revokeJSON) error {
	var provider string
	if k.registration != nil {
		provider = k.registration.Provider
	} else {
		provider = k.header.Provider // the secret of a CI variable
	}
	doc.Found, doc.Provider, doc.Kind = true, provider, k.Kind
	ws.say("This is the client secret of %s.", oauth.Clean(provider))
	where := "replace the secret where the application is registered"
	if def, err := ws.catalogue.Get(provider); err == nil {
		var values map[string]string
		if k.registration != nil {
			values = k.registration.Variables
		}
		if page := registerPage(def.Provider, values); page != "" {
			where = "replace the secret at " + oauth.Clean(page)
		}
	}
	doc.ByHand = append(doc.ByHand, where, "store the new one: 'apiauth client set "+oauth.Clean(provider)+"'", "look at what the provider logged for uses that were not yours")
	return failf(exitFailure, "", "a client secret cannot be revoked by request")
}

// revokeUnknown deals with a token that is not kept here.
func (ws *workspace) revokeUnknown(ctx context.Context, list []kept, token secret.Text, opts revokeOptions, doc *revokeJSON) error {
	if opts.Provider == "" {
		return failf(exitFailure, "it may have been replaced since, or be of another project: --all looks in all of them, --provider ID asks a provider all the same",
			"no connection has this token")
	}
	for _, k := range list {
		if k.header == nil || k.header.Provider != opts.Provider {
			continue
		}
		doc.Provider = opts.Provider
		ok, err := k.source.RevokeToken(ctx, k.name, token)
		if errors.Is(err, connection.ErrTemporary) {
			return failf(exitTemporary, "try again soon: the token may still work", "%w", err)
		}
		if err != nil {
			return err
		}
		if !ok {
			if page := k.header.Pins.Revocation.Page; page != "" {
				doc.ByHand = append(doc.ByHand, "remove its access at "+page)
			}
			return failf(exitFailure, "", "%s has no way to revoke by request", oauth.Clean(opts.Provider))
		}
		doc.Revoked = true
		ws.say("%s has confirmed: if it was a token of its, it works no more.", oauth.Clean(opts.Provider))
		return nil
	}
	return failf(exitUsage, "connect to it first, or end the token on its pages", "no connection is with the provider %q, so there is no client to ask it as", oauth.Clean(opts.Provider))
}
