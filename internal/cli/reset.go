package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/store"
)

type resetOptions struct {
	Project bool
	Yes     bool
}

func newResetCmd(g *globals) *cobra.Command {
	var opts resetOptions
	cmd := &cobra.Command{
		Use:     "reset",
		Short:   "Remove everything that apiauth keeps, keychain items included",
		GroupID: groupCare,
		Long: `Remove everything that apiauth keeps on this machine: connections, clients,
projects, your own provider definitions, the configuration, and the items in the
keychain. Manifests belong to your repositories and stay.

Nothing is revoked at the providers: 'apiauth disconnect --all' does that first.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		// A configuration that cannot be read is one of the things to remove.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { _ = g.loadOrDefaults(cmd); return nil },
		RunE:              func(cmd *cobra.Command, _ []string) error { return runReset(cmd.Context(), g, opts) },
	}
	f := cmd.Flags()
	f.BoolVar(&opts.Project, "project", false, "only what belongs to this project")
	f.BoolVarP(&opts.Yes, "yes", "y", false, "do not ask")
	return cmd
}

// loadOrDefaults is load for commands that must work when config.yaml does not:
// then the flags alone hold. It returns what is wrong with the file.
func (g *globals) loadOrDefaults(cmd *cobra.Command) error {
	err := g.load(cmd)
	if err != nil {
		g.cfg = config.Config{NoInput: g.noInput, Quiet: g.quiet, Debug: g.debug, JSON: g.json, Personal: g.personal}
	}
	return err
}

func runReset(ctx context.Context, g *globals, opts resetOptions) error {
	if opts.Project {
		return resetProject(ctx, g, opts)
	}
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	metas, err := store.List(ws.storesDir())
	if err != nil {
		return err
	}
	connections := 0
	if err := ws.eachHeader(func(*store.Store, connection.Key, *connection.Header, error) { connections++ }); err != nil {
		return err
	}
	ws.say("This removes %s, the clients, projects and settings in", plural(connections, "connection"))
	ws.say("  %s", ws.dirs.State)
	ws.say("  %s", ws.dirs.Config)
	if len(metas) > 0 {
		ws.say("and the keychain items that belong to them. Nothing is revoked at the providers.")
	}
	if n := ws.liveBundles(); n > 0 {
		ws.warn("still good elsewhere: %s made here; 'apiauth bundle revoke' says what ends such a thing", plural(n, "bundle"))
	}
	if err := ws.agreeToReset(ctx, opts.Yes); err != nil {
		return err
	}
	r := reset{ws: ws, removed: []string{}}
	for _, m := range metas {
		r.store(ctx, m)
	}
	r.files()
	return r.finish(g)
}

// agreeToReset asks for the word itself: nothing brings a grant back.
func (ws *workspace) agreeToReset(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	if !ws.person() {
		return failf(exitUsage, "add --yes when that is what you want", "nobody can be asked here whether to remove it")
	}
	word, err := askText(ctx, ws.app, "Remove all of it?", "type reset to go on")
	if err != nil {
		return err
	}
	if word != "reset" {
		return failf(exitFailure, "", "nothing was removed")
	}
	return nil
}

// reset removes things and goes on when one of them cannot be removed.
type reset struct {
	ws      *workspace
	removed []string
	kept    []string // stores that still have something
	failed  []error
}

func (r *reset) done(format string, a ...any) {
	r.removed = append(r.removed, fmt.Sprintf(format, a...))
}

// store empties one store and removes its folder. A store whose keychain items
// could not be removed stays: it remembers which they are.
func (r *reset) store(ctx context.Context, m store.Meta) {
	s, err := store.Open(r.ws.storeOptions(), m.ID)
	if err == nil {
		err = errors.Join(r.interrupted(ctx, s, ""), s.Wipe(ctx, "", func(key connection.Key) {
			r.done("connection %s of project %s", key.Name, key.Project)
		}))
	}
	if err == nil {
		_, err = s.Sweep(ctx)
	}
	if err != nil {
		r.kept = append(r.kept, m.ID)
		r.failed = append(r.failed, err)
		return
	}
	if err := os.RemoveAll(s.Dir()); err != nil {
		r.kept = append(r.kept, m.ID)
		r.failed = append(r.failed, err)
		return
	}
	r.done("%s store %s", m.Kind, s.Dir())
}

// interrupted removes first logins that were cut off: they have a write-ahead
// file and keychain items, and no record yet.
func (r *reset) interrupted(ctx context.Context, s *store.Store, projectID string) error {
	if projectID == "" {
		projectID = "*"
	}
	found, err := filepath.Glob(filepath.Join(s.Dir(), projectID, "*.wal"))
	if err != nil {
		return err
	}
	var failed []error
	for _, path := range found {
		key := connection.Key{Project: filepath.Base(filepath.Dir(path)), Name: strings.TrimSuffix(filepath.Base(path), ".wal")}
		if _, err := s.Header(key); !errors.Is(err, connection.ErrNotStored) {
			continue
		}
		guard, err := s.Lock(ctx, key, 5*time.Second)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if err := guard.Delete(ctx); err != nil {
			failed = append(failed, fmt.Errorf("remove %q: %w", key.Name, err))
		} else {
			r.done("interrupted login %s of project %s", key.Name, key.Project)
		}
		guard.Unlock()
	}
	return errors.Join(failed...)
}

// files removes what else is ours. What is not stays, and so does its folder.
func (r *reset) files() {
	ws := r.ws
	remove := func(path string) {
		err := os.Remove(path)
		switch {
		case err == nil:
			r.done("%s", path)
		case !errors.Is(err, fs.ErrNotExist):
			r.failed = append(r.failed, err)
		}
	}
	if len(r.kept) == 0 {
		remove(ws.registry.Path())
		remove(ws.approvalsPath())
		for _, name := range []string{
			filepath.Join(ws.storesDir(), ".lock"), filepath.Join(ws.storesDir(), ".move.lock"), ws.registry.Path() + ".tmp", ws.approvalsPath() + ".tmp", filepath.Join(ws.dirs.State, "projects.lock"),
		} {
			_ = os.Remove(name) // empty files that nobody misses
		}
		lists, _ := filepath.Glob(filepath.Join(ws.bundlesDir(), "*.json"))
		for _, path := range lists {
			remove(path)
		}
		_ = os.Remove(ws.bundlesDir())
		_ = os.Remove(ws.storesDir())
		_ = os.Remove(ws.dirs.State) // stays when something else is in it
	}
	definitions, _ := filepath.Glob(filepath.Join(ws.dirs.Providers, "*.yaml"))
	for _, path := range definitions {
		remove(path)
	}
	remove(filepath.Join(ws.dirs.Config, config.FileName))
	_ = os.Remove(ws.dirs.Providers)
	_ = os.Remove(ws.dirs.Config)
}

func (r *reset) finish(g *globals) error {
	if g.cfg.JSON {
		if err := printJSON(g.app.Stdout, map[string][]string{"removed": r.removed}); err != nil {
			return err
		}
	} else {
		for _, what := range r.removed {
			if _, err := fmt.Fprintln(g.app.Stdout, "removed "+oauthCleanLong(what)); err != nil {
				return err
			}
		}
		if len(r.removed) == 0 {
			r.ws.say("There was nothing to remove.")
		}
	}
	if err := errors.Join(r.failed...); err != nil {
		code, hint := explain(err)
		if hint == "" {
			hint = "run it again; what is gone is gone"
		}
		return failf(code, hint, "not everything could be removed: %w", err)
	}
	return nil
}

func resetProject(ctx context.Context, g *globals, opts resetOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	id, err := ws.bound()
	if err != nil {
		return err
	}
	g.cfg.Store = ""
	ws.cfg.Store = ""
	s, err := ws.store()
	if err != nil && !errors.Is(err, errNoStore) {
		return err
	}
	r := reset{ws: ws, removed: []string{}}
	count := 0
	if s != nil {
		names, err := s.Names(id)
		if err != nil {
			return err
		}
		count = len(names)
	}
	ws.say("This removes %s of %s, with the keychain items that belong to them.", plural(count, "connection"), ws.label())
	ws.say("Nothing is revoked at the providers, and the manifest stays.")
	if err := ws.agreeToReset(ctx, opts.Yes); err != nil {
		return err
	}
	if s != nil {
		err := errors.Join(r.interrupted(ctx, s, id), s.Wipe(ctx, id, func(key connection.Key) { r.done("connection %s", key.Name) }))
		if err != nil {
			r.failed = append(r.failed, err)
			return r.finish(g)
		}
		if s.Tombstones() == 0 {
			if err := os.RemoveAll(filepath.Join(s.Dir(), id)); err != nil {
				r.failed = append(r.failed, err)
			}
		}
	}
	err = ws.registry.Remove(id)
	var unknown *project.UnknownProjectError
	switch {
	case err == nil:
		r.done("project %s", id)
	case !errors.As(err, &unknown): // the personal project may never have been written down
		r.failed = append(r.failed, err)
	}
	return r.finish(g)
}
