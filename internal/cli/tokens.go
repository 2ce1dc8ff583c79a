package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// token gets a live token of one connection of the project, and tells an
// unknown name (2) from one that is known and not connected (4).
func (ws *workspace) token(ctx context.Context, name string, o connection.Option) (connection.Access, error) {
	return ws.obtained(ctx, name, func(src *connection.Source) (connection.Access, error) { return src.Token(ctx, name, o) })
}

// narrower is token for one that can do less.
func (ws *workspace) narrower(ctx context.Context, name string, n connection.Narrow, o connection.Option) (connection.Access, error) {
	return ws.obtained(ctx, name, func(src *connection.Source) (connection.Access, error) { return src.Downscope(ctx, name, n, o) })
}

func (ws *workspace) obtained(ctx context.Context, name string, get func(*connection.Source) (connection.Access, error)) (connection.Access, error) {
	if _, err := ws.bound(); err != nil {
		return connection.Access{}, err
	}
	if !project.ValidName(name) {
		return connection.Access{}, usagef("%q is no connection name", oauth.Clean(name))
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return connection.Access{}, ws.notConnected(name)
	}
	if err != nil {
		return connection.Access{}, err
	}
	src, err := ws.source(s)
	if err != nil {
		return connection.Access{}, err
	}
	access, err := get(src)
	if errors.Is(err, connection.ErrNotConnected) {
		return connection.Access{}, ws.notConnected(name)
	}
	if errors.Is(err, connection.ErrNeedsConnect) {
		return connection.Access{}, failf(exitNeedsConnect, "run 'apiauth connect "+name+"' to grant access again", "%w", err)
	}
	if errors.Is(err, connection.ErrStoreKey) && s.Kind() == store.KindKeychain {
		return connection.Access{}, failf(exitStore, "unless another keychain has it: run 'apiauth connect "+name+"' to grant access again", "%w", err)
	}
	if err == nil && ctx.Err() != nil {
		// A signal came while the answer was on its way: that is stored now.
		return connection.Access{}, context.Cause(ctx)
	}
	return access, err
}

// notConnected is the error for a name under which nothing is stored.
func (ws *workspace) notConnected(name string) error {
	known := false
	if ws.manifest != nil {
		_, known = ws.manifest.Connection(name)
	}
	if !known {
		_, err := ws.catalogue.Get(name)
		var unknown *providers.UnknownError
		known = !errors.As(err, &unknown)
	}
	if known {
		return failf(exitNeedsConnect, "run 'apiauth connect "+name+"'", "%q is not connected in %s", name, ws.label())
	}
	candidates := ws.names()
	if ids, err := ws.catalogue.IDs(); err == nil {
		candidates = append(candidates, ids...)
	}
	if near := strictyaml.Suggest(name, candidates); near != "" {
		return failf(exitUsage, "'apiauth list' shows the connections", "there is no connection %q in %s; did you mean %q?", name, ws.label(), near)
	}
	return failf(exitUsage, "'apiauth list' shows the connections, 'apiauth connect' makes one", "there is no connection %q in %s", name, ws.label())
}

// names lists the connections that are stored or in the manifest, without
// opening anything. It is for completion and suggestions: errors are no names.
func (ws *workspace) names() []string {
	var names []string
	if ws.manifest != nil {
		for _, c := range ws.manifest.Connections {
			names = append(names, c.Name)
		}
	}
	if s, err := ws.store(); err == nil {
		if stored, err := s.Names(ws.projectID); err == nil {
			names = append(names, stored...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// minTTLFlag adds --min-ttl. The default asks for nothing beyond the Source's own
// margin, which is at least a minute where the provider's tokens live longer.
func minTTLFlag(f *pflag.FlagSet, into *time.Duration) {
	f.DurationVar(into, "min-ttl", 0, "refresh first if less than this `duration` is left (default: 1m to 5m, by the token's lifetime)")
}

// selection is a connection that a command hands out, and the variable chosen
// for it.
type selection struct {
	Name     string
	Variable string
}

// parseSelections reads NAME or NAME=VAR.
func parseSelections(list []string) ([]selection, error) {
	var out []selection
	for _, item := range list {
		name, variable, given := cutVariable(item)
		if !project.ValidName(name) {
			return nil, usagef("-c takes NAME or NAME=VARIABLE, not %q", oauth.Clean(item))
		}
		if given {
			if err := providers.CheckEnvName(variable); err != nil {
				return nil, usagef("-c %s: %w", oauth.Clean(item), err)
			}
		}
		out = append(out, selection{name, variable})
	}
	return out, nil
}

func cutVariable(item string) (name, variable string, given bool) {
	for i := range len(item) {
		if item[i] == '=' {
			return item[:i], item[i+1:], true
		}
	}
	return item, "", false
}

// selected returns the connections to hand out: those named, else the
// manifest's. The personal project hands out nothing that is not named.
func (ws *workspace) selected(named []string) ([]selection, error) {
	if _, err := ws.bound(); err != nil {
		return nil, err
	}
	if len(named) > 0 {
		list, err := parseSelections(named)
		if err != nil {
			return nil, err
		}
		for i, sel := range list {
			if sel.Variable == "" && ws.manifest != nil {
				if c, ok := ws.manifest.Connection(sel.Name); ok {
					list[i].Variable = c.Env
				}
			}
		}
		return list, nil
	}
	if ws.manifest == nil {
		return nil, usagef("name the connections with -c: outside of a project nothing is handed out by itself")
	}
	if len(ws.manifest.Connections) == 0 {
		return nil, failf(exitUsage, "add one with 'apiauth connect NAME', or name one with -c", "%s names no connections", ws.manifest.File)
	}
	var list []selection
	for _, c := range ws.manifest.Connections {
		list = append(list, selection{c.Name, c.Env})
	}
	return list, nil
}

// variables gets a live token for each selected connection, under its variable.
func (ws *workspace) variables(ctx context.Context, named []string, o connection.Option) ([]inject.Var, error) {
	list, err := ws.selected(named)
	if err != nil {
		return nil, err
	}
	var entries []inject.Entry
	for _, sel := range list {
		access, err := ws.token(ctx, sel.Name, o)
		if err != nil {
			return nil, err
		}
		entries = append(entries, inject.Entry{
			Connection:  sel.Name,
			ProviderID:  access.Header.Provider,
			ProviderEnv: access.Header.Pins.Env,
			Override:    sel.Variable,
			Token:       access.Token,
			Kept:        access.Kept,
		})
	}
	return inject.Build(entries, providers.CheckEnvName)
}
