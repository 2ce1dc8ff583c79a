package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// origin hands out the tokens of a connection, from wherever they come here.
type origin struct {
	store connection.Store
	src   *connection.Source
	// remedy says what a person can do about an error of src.
	remedy func(name string, err error) error
	// note tells of what is odd about a token that was refreshed; may be nil.
	note func(a connection.Access)
	// log is where hand-outs are written down; nil where the tokens come from
	// no store of this machine.
	log *auditor
}

// origin finds where a connection's tokens come from: the bundle in the
// environment, a client's variables, or the project's store. It tells an unknown
// name (2) from one that is known and not connected (4).
func (ws *workspace) origin(name string) (*origin, error) {
	if !project.ValidName(name) {
		return nil, usagef("%q is no connection name", oauth.Clean(name))
	}
	b, err := ws.bundle()
	switch {
	case err != nil:
		return nil, err
	case b != nil:
		return ws.bundleOrigin(b, name)
	}
	if from, err := ws.clientOrigin(name); from != nil || err != nil {
		return from, err
	}
	from, err := ws.storeOrigin(name)
	if err != nil {
		return nil, ws.inJob(name, err)
	}
	return from, nil
}

// storeOrigin hands out what the project has stored.
func (ws *workspace) storeOrigin(name string) (*origin, error) {
	if _, err := ws.bound(); err != nil {
		return nil, err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return nil, ws.notConnected(name)
	}
	if err != nil {
		return nil, err
	}
	if err := ws.refuseForeign(name); err != nil {
		return nil, err
	}
	src, err := ws.source(s)
	if err != nil {
		return nil, err
	}
	remedy := func(name string, err error) error {
		switch {
		case errors.Is(err, connection.ErrNotConnected):
			err = ws.notConnected(name)
		case errors.Is(err, connection.ErrNeedsConnect):
			err = failf(exitNeedsConnect, "run 'apiauth connect "+name+"' to grant access again", "%w", err)
		case errors.Is(err, connection.ErrStoreKey) && s.Kind() == store.KindKeychain:
			return failf(exitStore, "unless another keychain has it: run 'apiauth connect "+name+"' to grant access again", "%w", err)
		}
		return ws.inJob(name, err)
	}
	return &origin{store: s, src: src, remedy: remedy, log: ws.auditor(s)}, nil
}

// token gets a live token.
func (o *origin) token(ctx context.Context, name string, opt connection.Option) (connection.Access, error) {
	access, err := o.obtain(ctx, name, opt)
	if err == nil {
		o.log.token(ctx, access)
	}
	return access, err
}

// obtain is token for who writes the hand-out down himself.
func (o *origin) obtain(ctx context.Context, name string, opt connection.Option) (connection.Access, error) {
	access, err := o.src.Token(ctx, name, opt)
	return o.handedOut(ctx, name, access, err)
}

// narrower is token for one that can do less.
func (o *origin) narrower(ctx context.Context, name string, n connection.Narrow, opt connection.Option) (connection.Access, error) {
	access, err := o.src.Downscope(ctx, name, n, opt)
	if access, err = o.handedOut(ctx, name, access, err); err == nil {
		o.log.token(ctx, access)
	}
	return access, err
}

func (o *origin) handedOut(ctx context.Context, name string, access connection.Access, err error) (connection.Access, error) {
	if err != nil {
		o.log.refused(ctx, name, err)
		return connection.Access{}, o.remedy(name, err)
	}
	if ctx.Err() != nil {
		// A signal came while the answer was on its way: that is stored now.
		return connection.Access{}, context.Cause(ctx)
	}
	if o.note != nil && access.Refreshed {
		o.note(access)
	}
	return access, nil
}

// token gets a live token of one connection.
func (ws *workspace) token(ctx context.Context, name string, o connection.Option) (connection.Access, error) {
	from, err := ws.origin(name)
	if err != nil {
		return connection.Access{}, err
	}
	return from.token(ctx, name, o)
}

// narrower gets a live token of one connection that can do less.
func (ws *workspace) narrower(ctx context.Context, name string, n connection.Narrow, o connection.Option) (connection.Access, error) {
	from, err := ws.origin(name)
	if err != nil {
		return connection.Access{}, err
	}
	return from.narrower(ctx, name, n, o)
}

// knownName reports whether the manifest or the catalogue knows a name.
func (ws *workspace) knownName(name string) bool {
	if ws.manifest != nil {
		if _, ok := ws.manifest.Connection(name); ok {
			return true
		}
	}
	_, err := ws.catalogue.Get(name)
	var unknown *providers.UnknownError
	return !errors.As(err, &unknown)
}

// notConnected is the error for a name under which nothing is stored.
func (ws *workspace) notConnected(name string) error {
	if ws.knownName(name) {
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
// manifest's, else those of the bundle, which were chosen when it was made. The
// personal project hands out nothing that is not named.
func (ws *workspace) selected(named []string) ([]selection, error) {
	if _, err := ws.bound(); err != nil && ws.bindingNeeded() {
		name := ""
		if list, lerr := ws.chosen(nil, named); lerr == nil {
			name = list[0].Name
		}
		return nil, ws.inJob(name, err)
	}
	b, err := ws.bundle()
	if err != nil {
		return nil, err
	}
	list, err := ws.chosen(b, named)
	if err != nil || b == nil {
		return list, err
	}
	for i, sel := range list {
		if s, ok := b.Summary(sel.Name); ok && sel.Variable == "" {
			list[i].Variable = s.Env
		}
	}
	return list, nil
}

func (ws *workspace) chosen(b *bundle.Bundle, named []string) ([]selection, error) {
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
	if ws.manifest == nil && b != nil {
		var list []selection
		for _, s := range b.Connections {
			list = append(list, selection{s.Name, s.Env})
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
