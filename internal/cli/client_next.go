package cli

import (
	"context"
	"fmt"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// rotates reports that a client's next secret is meant, not the client.
func (o *clientSetOptions) rotates() bool { return o.Next || o.Promote || o.DropNext }

// storedClient is a registration and the store that holds it.
type storedClient struct {
	store *store.Store
	reg   *connection.Registration
}

// runClientRotate stores, promotes or drops the next secret of a client, in each
// store that holds the client.
func runClientRotate(ctx context.Context, g *globals, opts clientSetOptions) error {
	if err := opts.checkRotate(); err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	scope, err := ws.clientScope(opts.Project)
	if err != nil {
		return err
	}
	held, err := ws.storedClients(opts.Provider, scope)
	if err != nil {
		return err
	}
	provider := oauth.Clean(opts.Provider)
	var next secret.Text
	if opts.Next {
		if next, err = ws.readNext(ctx, opts, held[0].reg); err != nil {
			return err
		}
	}
	found := false
	for _, c := range held {
		switch {
		case opts.Next:
			err = ws.setNext(ctx, c, next)
		case c.reg.NextSetAt.IsZero():
			continue
		case opts.Promote:
			err = c.store.PromoteNext(ctx, c.reg, secret.Text{})
		default:
			err = c.store.DropNext(ctx, c.reg)
		}
		if err != nil {
			return fmt.Errorf("change the next client secret of %s: %w", provider, err)
		}
		found = true
		switch {
		case g.cfg.JSON:
		case opts.Next:
			ws.say("Stored the next secret of client %s in the %s store.", oauth.Clean(c.reg.ClientID), c.store.Kind())
		case opts.Promote:
			ws.say("Promoted the next secret of client %s in the %s store.", oauth.Clean(c.reg.ClientID), c.store.Kind())
		default:
			ws.say("Removed the next secret of client %s from the %s store.", oauth.Clean(c.reg.ClientID), c.store.Kind())
		}
	}
	if !found {
		return failf(exitUsage, "'apiauth client list' shows what is stored", "no next secret is stored for the client of %s %s", provider, ws.scopeText(scope))
	}
	if g.cfg.JSON {
		now, err := held[0].store.Registration(opts.Provider, scope)
		if err != nil {
			return err
		}
		return printJSON(g.app.Stdout, describeClient(*now, held[0].store.Kind(), now.RedirectURI))
	}
	if opts.Next {
		ws.say("It takes the place of the present one once %s has accepted it.", provider)
	}
	return nil
}

// checkRotate refuses what would change more of a client than its secret.
func (o *clientSetOptions) checkRotate() error {
	given := 0
	for _, flag := range []bool{o.Next, o.Promote, o.DropNext} {
		if flag {
			given++
		}
	}
	switch {
	case given > 1:
		return usagef("--next, --promote and --drop-next exclude each other")
	case o.Key.given():
		return usagef("--next takes a client secret, not a key")
	case o.ClientID != "" || o.RedirectURI != "" || o.Port != 0 || len(o.Variables) > 0:
		return usagef("--next, --promote and --drop-next leave the rest of the client as it is; set that alone")
	case o.SecretStdin && !o.Next:
		return usagef("--client-secret-stdin goes with --next, not with --promote or --drop-next")
	}
	return nil
}

// storedClients finds a client with a secret in the stores that hold it for
// exactly that scope: at least one.
func (ws *workspace) storedClients(provider, scope string) ([]storedClient, error) {
	var held []storedClient
	signs := false
	err := ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		for _, r := range registrations {
			if r.Provider != provider || r.Project != scope || !r.HasSecret {
				continue
			}
			if oauth.UsesKey(r.AuthMethod) {
				signs = true
				continue
			}
			held = append(held, storedClient{s, &r})
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case len(held) > 0:
		return held, nil
	case signs:
		return nil, failf(exitUsage, "store a new key with 'apiauth client set --key-file', a new certificate with --client-certificate as well", "the client of %s has a key; it has no next secret", oauth.Clean(provider))
	}
	return nil, failf(exitUsage, "store one with 'apiauth client set'", "no client of %s with a secret is stored %s", oauth.Clean(provider), ws.scopeText(scope))
}

// readNext reads the next secret, from stdin or a person.
func (ws *workspace) readNext(ctx context.Context, opts clientSetOptions, r *connection.Registration) (secret.Text, error) {
	switch {
	case opts.SecretStdin:
		t, err := flow.ReadSecret(ws.app.Stdin)
		if err != nil {
			return secret.Text{}, failf(exitUsage, "pipe the secret as one line", "%w", err)
		}
		return t, nil
	case !ws.person():
		return secret.Text{}, usagef("the next secret is missing: give it with --client-secret-stdin")
	}
	t, err := askHidden(ctx, ws.app, "Next client secret of "+r.ClientID, "not shown while you type")
	if err != nil {
		return secret.Text{}, err
	}
	if t = emptyAsZero(t); t.IsZero() {
		return secret.Text{}, usagef("no client secret was given")
	}
	return t, nil
}

func (ws *workspace) setNext(ctx context.Context, c storedClient, next secret.Text) error {
	present, err := c.store.ClientSecret(ctx, c.reg)
	if err != nil {
		return err
	}
	if present.Equal(next) {
		return failf(exitUsage, "make a new one at the provider first", "that is the present secret")
	}
	return c.store.SetNext(ctx, c.reg, next)
}
