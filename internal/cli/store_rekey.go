package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

const (
	newKeyVariable        = "APIAUTH_STORE_KEY_NEW"
	newPassphraseVariable = "APIAUTH_STORE_PASSPHRASE_NEW" //nolint:gosec // the name of a variable
)

func newStoreRekeyCmd(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rekey",
		Short: "Give this project's connections new sealing keys",
		Long: `Seal this project's connections and clients with new keys, in a new store of the
same kind. Every copy is read back before the original goes; when anything fails,
the project stays where it was. The providers are not asked for anything: tokens
stay as they are. The former store goes with the last project in it.

A keychain store makes its new keys itself. A file store takes its new key from
APIAUTH_STORE_KEY_NEW, or its new passphrase from APIAUTH_STORE_PASSPHRASE_NEW or a
prompt, while APIAUTH_STORE_KEY or APIAUTH_STORE_PASSPHRASE still opens the former.

Run it again when it was interrupted: it goes on where it was.`,
		Example: `  apiauth store rekey --all
  apiauth store key > ~/.apiauth-key-2 && chmod 600 ~/.apiauth-key-2
  APIAUTH_STORE_KEY_NEW_FILE=~/.apiauth-key-2 apiauth store rekey --all`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runStoreRekey(cmd.Context(), g, all) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "all projects of this project's store")
	return cmd
}

// rekeyJSON is what `store rekey --json` prints.
type rekeyJSON struct {
	Store         string          `json:"store"` // id of the store that holds them now
	Kind          string          `json:"kind"`
	Former        string          `json:"former"`
	FormerRemoved bool            `json:"former_removed"`
	Completed     bool            `json:"completed"` // an interrupted run was brought to its end
	Connections   []rekeyMoveJSON `json:"connections"`
}

type rekeyMoveJSON struct {
	Project string `json:"project"` // its id
	Name    string `json:"name"`
}

// rekey seals connections anew: from one store into its successor.
type rekey struct {
	ws       *workspace
	from, to *store.Store
	doc      rekeyJSON
}

func runStoreRekey(ctx context.Context, g *globals, all bool) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	release, err := store.MoveLock(ctx, ws.storeOptions())
	if err != nil {
		return err
	}
	defer release()
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return failf(exitUsage, "'apiauth connect NAME' makes a store with keys of its own", "%s has stored nothing yet", ws.label())
	}
	if err != nil {
		return err
	}
	r := rekey{ws: ws}
	r.doc.Connections = []rekeyMoveJSON{}
	if err := r.stores(ctx, s, all); err != nil {
		return err
	}
	if r.from != nil {
		if err := r.run(ctx, all); err != nil {
			return err
		}
	}
	return r.finish(g)
}

// stores finds out from where to where. An interrupted run goes first: then the
// store that is in use is the new one already, and something is left in the one
// before. from stays nil when there is nothing more to do.
func (r *rekey) stores(ctx context.Context, s *store.Store, all bool) error {
	before, err := s.Predecessor()
	switch {
	case errors.Is(err, connection.ErrNotStored):
		return r.successor(ctx, s)
	case err != nil:
		return err
	}
	left, err := before.Holds(r.ws.projectID)
	if err != nil {
		return err
	}
	if !left && !all && r.inUse(before.ID()) {
		return r.successor(ctx, s) // it is there for other projects, and they are not meant
	}
	r.from, r.to = before, s
	r.doc.Completed = true
	if s.Kind() == store.KindFile && r.given() {
		r.to, err = store.Open(r.options(), s.ID())
	}
	return err
}

func (r *rekey) successor(ctx context.Context, from *store.Store) error {
	opt := r.options()
	if from.Kind() == store.KindFile {
		probe, err := store.Open(opt, from.ID())
		if err != nil {
			return err
		}
		same, wrong := probe.CheckKey(ctx), from.CheckKey(ctx)
		switch {
		case same == nil && wrong == nil:
			return failf(exitUsage, "'apiauth store key' makes a key", "the new key is the key that the store has: %s", newKeyVariable)
		case same == nil:
			r.to, r.doc.Completed = from, true
			return nil
		case !errors.Is(same, connection.ErrStoreKey):
			return same
		case wrong != nil:
			return wrong
		}
	}
	to, err := store.Successor(ctx, opt, from, r.inUse)
	if errors.Is(err, connection.ErrStoreKey) {
		return failf(exitStore, "give the key that the first project was given, or move that one, too, with --all",
			"another project of this store was given another new key: %w", err)
	}
	if err != nil {
		return err
	}
	r.from, r.to = from, to
	return nil
}

// options are the store's options with the new key in the place of the key.
func (r *rekey) options() store.Options {
	ws := r.ws
	opt := ws.storeOptions()
	opt.Key = func() (secret.Text, error) { return ws.secretVariable(newKeyVariable) }
	var chosen secret.Text
	opt.Passphrase = func(ctx context.Context, _ bool) (secret.Text, error) {
		if !chosen.IsZero() {
			return chosen, nil
		}
		if key, err := opt.Key(); err != nil || !key.IsZero() {
			return secret.Text{}, err
		}
		var err error
		if chosen, err = ws.secretVariable(newPassphraseVariable); err != nil || !chosen.IsZero() {
			return chosen, err
		}
		if !ws.person() {
			return secret.Text{}, failf(exitUsage, "'apiauth store key' makes a key", "the file store needs a new key: set %s, or %s", newKeyVariable, newPassphraseVariable)
		}
		chosen, err = ws.newPassphrase(ctx)
		return chosen, err
	}
	return opt
}

// given reports whether the environment holds a new key.
func (r *rekey) given() bool {
	for _, name := range []string{newKeyVariable, newPassphraseVariable} {
		if r.ws.app.env(name) != "" || r.ws.app.env(name+"_FILE") != "" {
			return true
		}
	}
	return false
}

// inUse reports whether any project is recorded in a store. What cannot be read
// counts as use.
func (r *rekey) inUse(id string) bool {
	ids, err := r.recorded(id)
	return err != nil || len(ids) > 0
}

// recorded lists the projects that keep their connections in a store.
func (r *rekey) recorded(id string) ([]string, error) {
	list, err := r.ws.registry.List()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, b := range list {
		if b.Store == id {
			ids = append(ids, b.ID)
		}
	}
	personal, err := r.ws.recordedStore(project.Personal)
	if err == nil && personal == id {
		ids = append(ids, project.Personal)
	}
	return ids, err
}

func (r *rekey) run(ctx context.Context, all bool) error {
	ids := []string{r.ws.projectID}
	if all {
		before, err := r.recorded(r.from.ID())
		if err != nil {
			return err
		}
		now, err := r.recorded(r.to.ID())
		if err != nil {
			return err
		}
		ids = slices.Concat(before, now)
	}
	for _, id := range ids {
		recorded, err := r.ws.recordedStore(id)
		if err != nil {
			return err
		}
		if recorded == r.to.ID() {
			err = r.settle(ctx, id)
		} else {
			err = r.move(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	r.doc.Former = r.from.ID()
	if r.inUse(r.from.ID()) {
		return nil
	}
	gone, err := store.Retire(ctx, r.from, r.to)
	if err != nil {
		return withHint(fmt.Errorf("the connections have new keys, but the former store could not be removed: %w", err), "run it again to remove what is left")
	}
	r.doc.FormerRemoved = gone
	return nil
}

// move seals the connections of a project anew.
func (r *rekey) move(ctx context.Context, id string) error {
	ws := r.ws
	if err := ws.completeRefreshes(ctx, r.from, id); err != nil {
		return err
	}
	if err := r.to.Wipe(ctx, id, nil); err != nil { // copies of a run that was cut off
		return fmt.Errorf("remove the copies of an interrupted run: %w", err)
	}
	var names []string
	finish, abort, err := store.Move(ctx, r.from, r.to, id, func(name string) {
		names = append(names, name)
		r.tell(id, name)
	})
	if err != nil {
		return fmt.Errorf("%w; %s keeps its former keys", err, r.label(id))
	}
	proven := map[string]string{}
	for _, name := range names {
		proven[name] = r.proof(ctx, connection.Key{Project: id, Name: name})
	}
	if err := ws.registry.SetStore(id, r.to.ID()); err != nil {
		abort()
		return fmt.Errorf("%w; %s keeps its former keys", err, r.label(id))
	}
	ws.opened = nil
	err = errors.Join(finish(context.WithoutCancel(ctx)), r.carry(context.WithoutCancel(ctx), id, proven))
	return r.left(err)
}

// settle completes what an interrupted run has left of a project.
func (r *rekey) settle(ctx context.Context, id string) error {
	left, err := r.from.Holds(id)
	if err != nil || !left {
		return err
	}
	if err := r.ws.completeRefreshes(ctx, r.from, id); err != nil {
		return err
	}
	names, err := r.from.Names(id)
	if err != nil {
		return err
	}
	if err := store.Settle(ctx, r.from, r.to, id); err != nil {
		return r.left(err)
	}
	for _, name := range names {
		r.tell(id, name)
	}
	return r.left(r.carry(ctx, id, nil))
}

func (r *rekey) left(err error) error {
	if err == nil {
		return nil
	}
	return withHint(fmt.Errorf("the connections have new keys, but not everything could be removed from the former store: %w", err), "run it again to remove what is left")
}

func (r *rekey) tell(id, name string) {
	r.doc.Connections = append(r.doc.Connections, rekeyMoveJSON{id, name})
	if id == r.ws.projectID {
		r.ws.say("sealed %s anew and read it back", name)
		return
	}
	r.ws.say("sealed %s of %s anew and read it back", name, r.label(id))
}

func (r *rekey) label(id string) string {
	if id == r.ws.projectID {
		return r.ws.label()
	}
	return r.ws.projectLabel(id)
}

// proof proves the audit log of a connection while its key is still there, for
// the first line under the new one.
func (r *rekey) proof(ctx context.Context, key connection.Key) string {
	path, err := r.from.AuditPath(key)
	if err != nil || !audit.Exists(path) {
		return ""
	}
	log, err := r.from.AuditLog(ctx, key)
	if err != nil {
		return "the lines before could not be proven"
	}
	h, err := log.Read()
	switch {
	case err != nil:
		return "the lines before could not be proven"
	case len(h.Faults) > 0:
		r.ws.warn("the audit log of %q is not what was written: %s", key.Name, oauth.Clean(h.Faults[0].String()))
		return fmt.Sprintf("%s proven before, and not what was written: %s", plural(h.Checked, "line"), h.Faults[0])
	}
	return plural(h.Checked, "line") + " proven before"
}

// carry brings the audit logs of a project over, and begins to write them under
// the new keys.
func (r *rekey) carry(ctx context.Context, id string, proven map[string]string) error {
	names, err := r.from.AuditNames(id)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := r.carryOne(ctx, connection.Key{Project: id, Name: name}, proven[name]); err != nil {
			return fmt.Errorf("the audit log of %q: %w", name, err)
		}
	}
	return nil
}

func (r *rekey) carryOne(ctx context.Context, key connection.Key, proof string) error {
	from, err := r.from.AuditPath(key)
	if err != nil {
		return err
	}
	to, err := r.to.AuditPath(key)
	if err != nil {
		return err
	}
	if err := r.to.MakeAuditFolder(key); err != nil {
		return err
	}
	release, err := r.from.AuditLock(ctx, key)
	if err != nil {
		return err
	}
	releaseTo, err := r.to.AuditLock(ctx, key)
	if err == nil {
		err = audit.Carry(from, to)
		releaseTo()
	}
	release()
	if err != nil {
		return err
	}
	if _, err := r.to.Header(key); errors.Is(err, connection.ErrNotStored) {
		return nil // the log of a connection that is gone
	}
	log, err := r.to.AuditLog(ctx, key)
	if err != nil {
		return err
	}
	if _, err = log.Append(audit.DefaultRules(), audit.Entry{Time: r.ws.app.Now(), Event: audit.EventRekey, Purpose: r.ws.purpose, Detail: proof}); err != nil {
		return err
	}
	return r.to.Anchor(ctx, key)
}

func (r *rekey) finish(g *globals) error {
	r.doc.Store, r.doc.Kind = r.to.ID(), r.to.Kind()
	switch {
	case r.from == nil:
		r.ws.say("%s is sealed with the new key already.", capital(r.ws.label()))
	case r.doc.Completed:
		r.ws.say("The interrupted run is complete; the connections have new keys.")
	default:
		r.ws.say("%s sealed with new keys.", capital(plural(len(r.doc.Connections), "connection")))
	}
	if r.from != nil && !r.doc.FormerRemoved {
		r.ws.say("The former store %s stays: other projects, or their logs, are in it.", r.from.ID())
	}
	if r.from != nil && r.to.Kind() == store.KindFile {
		r.ws.say("From now on the new key opens it: set APIAUTH_STORE_KEY or APIAUTH_STORE_PASSPHRASE to it.")
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, r.doc)
	}
	return nil
}
