package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/providers"
)

func newSecretsCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:         "secrets",
		Short:       "Print all tokens of the project, as Netlify's getSecrets did",
		GroupID:     groupUse,
		Annotations: lateSignals(),
		Long: `Print a JSON object with a member for each connection of the project: what
getSecrets of @netlify/functions returned until version 1.4. A connection that has
no usable token has isLoggedIn false and bearerToken null.

The output holds real tokens: pipe it into what needs it, and keep it out of
files and logs.`,
		Example: `  apiauth secrets | jq -r .spotify.bearerToken`,
		Args:    args(noArguments),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runSecrets(cmd.Context(), g)
		},
	}
}

func runSecrets(ctx context.Context, g *globals) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	list, err := ws.secrets(ctx)
	if err != nil {
		return err
	}
	doc, err := inject.Secrets(list, func(key string) {
		ws.warn("several connections are called %q here; only the last one is printed", key)
	})
	if err != nil {
		return err
	}
	if _, err := g.app.Stdout.Write(doc); err != nil {
		return failf(exitFailure, "the tokens are stored; nothing was lost", "write the tokens: %w", err)
	}
	return nil
}

// secrets gets what getSecrets returned: every connection of the project, in
// the order of the names. One that needs a person has no token; a failure that
// may pass, or of the store, fails as a whole.
func (ws *workspace) secrets(ctx context.Context) ([]inject.Secret, error) {
	if ws.manifest == nil && !ws.cfg.Personal {
		return nil, failf(exitUsage, "--personal prints those of the personal project", "outside of a project nothing is handed out by itself")
	}
	entries, _, err := ws.entries(nil)
	if err != nil {
		return nil, err
	}
	list := make([]inject.Secret, 0, len(entries))
	for i := range entries {
		s, err := ws.secret(ctx, entries, &entries[i])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (ws *workspace) secret(ctx context.Context, all []statusEntry, e *statusEntry) (inject.Secret, error) {
	out := inject.Secret{FriendlyServiceName: e.Name, Service: inject.ServiceName(e.Name)}
	id := ws.providerOf(e)
	def, err := ws.catalogue.Get(id)
	if err == nil && ws.standsFor(all, e, id) {
		out.FriendlyServiceName, out.Service = def.Name, inject.ServiceName(id)
	}
	if e.Header == nil && e.Problem == nil {
		return out, nil
	}
	from, err := ws.origin(e.Name)
	if err != nil {
		return inject.Secret{}, err
	}
	access, err := from.obtain(ctx, e.Name, connection.Option{})
	switch {
	case errors.Is(err, connection.ErrNeedsConnect):
		ws.warn("%v", err)
		return out, nil
	case err != nil:
		return inject.Secret{}, err
	case access.Header.State == connection.StateNeedsConnect:
		// Its last token may live on. A program that is told so asks for no
		// login before that is over, and the provider may know better.
		ws.warn("the grant of %q has ended; run 'apiauth connect %s'", e.Name, e.Name)
		return out, nil
	}
	from.log.token(ctx, access)
	out.Token = access.Token
	if access.Header.ScopesKnown {
		out.GrantedScopes = []inject.GrantedScope{}
		for _, scope := range access.Header.ScopesGranted {
			out.GrantedScopes = append(out.GrantedScopes, grantedScope(def, scope))
		}
	}
	return out, nil
}

// providerOf returns the provider of a connection, stored or only asked for.
func (ws *workspace) providerOf(e *statusEntry) string {
	if e.Header != nil {
		return e.Header.Provider
	}
	if ws.manifest != nil {
		if c, ok := ws.manifest.Connection(e.Name); ok && c.Provider != "" {
			return c.Provider
		}
	}
	return e.Name
}

// standsFor reports whether a connection goes by its provider's name: it bears
// that name, or is the only one with that provider.
func (ws *workspace) standsFor(all []statusEntry, e *statusEntry, id string) bool {
	return e.Name == id || !slices.ContainsFunc(all, func(other statusEntry) bool {
		return other.Name != e.Name && (other.Name == id || ws.providerOf(&other) == id)
	})
}

// grantedScope adds what the definition knows of a scope; def may be nil.
func grantedScope(def *providers.Definition, scope string) inject.GrantedScope {
	out := inject.GrantedScope{Scope: scope}
	if def == nil {
		return out
	}
	s, ok := def.Scopes.Find(scope)
	if !ok {
		return out
	}
	required := slices.Contains(def.Scopes.Required, s.Name)
	out.Info = &inject.ScopeInfo{
		Category: s.Category, Display: s.Name, Title: s.Title, Description: s.Description,
		IsRequired: required, IsDefault: required || slices.Contains(def.Scopes.Default, s.Name),
	}
	return out
}
