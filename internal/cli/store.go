package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/store"
)

func newStoreCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "store",
		Short:   "Where grants are kept: the keychain, or sealed files",
		GroupID: groupSetup,
		Long: `A project's first connect chooses its store: --store, APIAUTH_STORE, config.yaml,
else the keychain of the operating system. The file store needs no keychain; its
key comes from APIAUTH_STORE_KEY (made by 'apiauth store key') or from a
passphrase.

Neither store protects against programs that run as you: they can read what you
can read.`,
	}, newStoreListCmd(g), newStoreKeyCmd(g), newStoreMoveCmd(g), newStoreRekeyCmd(g))
}

type storeInfo struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Folder      string    `json:"folder"`
	Connections int       `json:"connections"`
	Projects    int       `json:"projects"`
	Current     bool      `json:"current"` // this project's
	CreatedAt   time.Time `json:"created_at"`
}

func newStoreListCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:               "list",
		Short:             "List the stores",
		Aliases:           []string{"show"},
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runStoreList(g) },
	}
}

func runStoreList(g *globals) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	current := ""
	if id, err := ws.bound(); err == nil {
		if current, err = ws.recordedStore(id); err != nil {
			return err
		}
	}
	metas, err := store.List(ws.storesDir())
	if err != nil {
		return err
	}
	list := []storeInfo{}
	for _, m := range metas {
		s, err := store.Open(ws.storeOptions(), m.ID)
		if err != nil {
			return err
		}
		info := storeInfo{ID: m.ID, Kind: m.Kind, Folder: s.Dir(), Current: m.ID == current, CreatedAt: m.CreatedAt}
		projects, err := s.Projects()
		if err != nil {
			return err
		}
		for _, id := range projects {
			names, err := s.Names(id)
			if err != nil {
				return err
			}
			info.Connections += len(names)
			if len(names) > 0 {
				info.Projects++
			}
		}
		list = append(list, info)
	}
	if len(list) == 0 {
		ws.say("Nothing is stored yet; the first 'apiauth connect' makes a store.")
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, list)
	}
	if len(list) == 0 {
		return nil
	}
	rows := [][]string{{"ID", "KIND", "CONNECTIONS", "PROJECTS", "MADE", "FOLDER"}}
	for _, s := range list {
		kind := s.Kind
		if s.Current {
			kind += " (this project's)"
		}
		rows = append(rows, []string{s.ID, kind, strconv.Itoa(s.Connections), strconv.Itoa(s.Projects), s.CreatedAt.Format(time.DateOnly), s.Folder})
	}
	return printTable(g.app.Stdout, rows...)
}

func newStoreKeyCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Make a key for the file store and print it",
		Long: `Make a new random key for a file store and print it. It is stored nowhere: put
it where only your programs can read it, and hand it over as APIAUTH_STORE_KEY,
or as a file that APIAUTH_STORE_KEY_FILE names. Whoever loses the key loses what
was sealed with it.`,
		Example: `  apiauth store key > ~/.apiauth-key && chmod 600 ~/.apiauth-key
  export APIAUTH_STORE_KEY_FILE=~/.apiauth-key
  apiauth connect spotify --store file`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return runStoreKey(g) },
	}
}

func runStoreKey(g *globals) error {
	key, err := store.NewKey(g.app.Rand)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if _, err := fmt.Fprintln(g.app.Stdout, key.Reveal()); err != nil {
		return fmt.Errorf("print the key: %w", err)
	}
	if g.app.StdoutTTY && !g.cfg.Quiet {
		_, _ = fmt.Fprintln(g.app.Stderr, "This key is stored nowhere. Hand it over as APIAUTH_STORE_KEY or APIAUTH_STORE_KEY_FILE.")
	}
	return nil
}

func newStoreMoveCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "move {keychain|file}",
		Short: "Move this project's connections to the other store",
		Long: `Move this project's connections and clients to the other kind of store. Every
copy is read back before the original goes; when anything fails, the project
stays where it was. Nobody can refresh meanwhile.`,
		ValidArgs: []string{store.KindKeychain, store.KindFile},
		Args:      args(between(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runStoreMove(cmd.Context(), g, args[0])
		},
	}
}

func runStoreMove(ctx context.Context, g *globals, kind string) error {
	if kind != store.KindKeychain && kind != store.KindFile {
		return usagef("a store is keychain or file, not %q", kind)
	}
	g.cfg.Store, g.cfg.StoreFrom = "", "" // the argument says it all
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	release, err := store.MoveLock(ctx, ws.storeOptions())
	if err != nil {
		return err
	}
	defer release()
	from, err := ws.store()
	if errors.Is(err, errNoStore) {
		return failf(exitUsage, fmt.Sprintf("its first connect chooses: 'apiauth connect NAME --store %s'", kind), "%s has stored nothing yet", ws.label())
	}
	if err != nil {
		return err
	}
	if from.Kind() == kind {
		ws.say("%s keeps its connections in the %s store already.", capital(ws.label()), kind)
		return nil
	}
	if err := ws.completeRefreshes(ctx, from, ws.projectID); err != nil {
		return err
	}
	to, err := store.Create(ctx, ws.storeOptions(), kind)
	if err != nil {
		return err
	}
	var names []string
	finish, abort, err := store.Move(ctx, from, to, ws.projectID, func(name string) {
		names = append(names, name)
		ws.say("copied %s and read it back", name)
	})
	if err != nil {
		return fmt.Errorf("%w; the project stays in the %s store", err, from.Kind())
	}
	// The audit logs go along, as they do with new keys.
	logs, proven := rekey{ws: ws, from: from, to: to}, map[string]string{}
	for _, name := range names {
		proven[name] = logs.proof(ctx, connection.Key{Project: ws.projectID, Name: name})
	}
	if err := ws.registry.SetStore(ws.projectID, to.ID()); err != nil {
		abort()
		return fmt.Errorf("%w; the project stays in the %s store", err, from.Kind())
	}
	ws.opened = nil
	ctx = context.WithoutCancel(ctx)
	if err := errors.Join(finish(ctx), logs.carry(ctx, ws.projectID, proven)); err != nil {
		return withHint(fmt.Errorf("the connections are in the %s store now, but not everything could be removed from the %s store: %w", kind, from.Kind(), err),
			"'apiauth doctor --fix' removes what is left")
	}
	ws.say("%s keeps its connections in the %s store now.", capital(ws.label()), kind)
	return nil
}

// completeRefreshes brings interrupted refreshes to their end, so that nothing
// is in the air while connections move.
func (ws *workspace) completeRefreshes(ctx context.Context, s *store.Store, id string) error {
	names, err := s.Names(id)
	if err != nil {
		return err
	}
	var src *connection.Source
	for _, name := range names {
		if !s.Pending(connection.Key{Project: id, Name: name}) {
			continue
		}
		if src == nil {
			if src, err = ws.sourceOf(s, id); err != nil {
				return err
			}
		}
		if err := src.Recover(ctx, name); err != nil {
			return fmt.Errorf("complete the interrupted refresh of %q: %w", name, err)
		}
	}
	return nil
}

// capital begins a sentence.
func capital(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
