package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

// MoveLock keeps two commands that move connections between stores apart. It
// waits 10 s at most.
func MoveLock(ctx context.Context, o Options) (release func(), err error) {
	if err := makeDir(o.Dir); err != nil {
		return nil, writeError("make the folder of the stores", err)
	}
	var locks lockTable
	lock, err := locks.take(ctx, filepath.Join(o.Dir, ".move"+lockSuffix), 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("another move of connections is under way: %w", err)
	}
	return lock.release, nil
}

// Successor returns the store that takes over from another one of its kind, with
// keys of its own. It makes one unless an earlier run has; o holds the new key
// of a file store. used reports whether a project is recorded in the store of
// that id. A successor that no project uses is left of a run that was cut off:
// its copies are old, and its key may be lost, so it is emptied and made anew.
// The caller holds MoveLock.
func Successor(ctx context.Context, o Options, from *Store, used func(id string) bool) (*Store, error) {
	metas, err := List(o.Dir)
	if err != nil {
		return nil, err
	}
	for _, m := range metas {
		if m.Replaces != from.meta.ID || m.Kind != from.meta.Kind {
			continue
		}
		s, err := Open(o, m.ID)
		if err != nil {
			return nil, err
		}
		if used(m.ID) {
			if err := s.CheckKey(ctx); err != nil {
				return nil, err
			}
			return s, nil
		}
		if err := s.Wipe(ctx, "", nil); err != nil {
			return nil, fmt.Errorf("empty the store %s of an interrupted run: %w", m.ID, err)
		}
		if _, err := remove(ctx, s); err != nil {
			return nil, fmt.Errorf("remove the store %s of an interrupted run: %w", m.ID, err)
		}
	}
	release, err := lockStores(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("create a store: %w", err)
	}
	defer release()
	return create(ctx, o, from.meta.Kind, from.meta.ID)
}

// Predecessor opens the store that this one replaces. It returns
// connection.ErrNotStored when that is gone, or when it replaces none.
func (s *Store) Predecessor() (*Store, error) {
	if s.meta.Replaces == "" {
		return nil, connection.ErrNotStored
	}
	return Open(s.opt, s.meta.Replaces)
}

// CheckKey proves that the key at hand opens the store. The keys of a keychain
// store are proven with each connection.
func (s *Store) CheckKey(ctx context.Context) error {
	if s.meta.Kind != KindFile {
		return nil
	}
	return s.openMaster(ctx)
}

// Holds reports whether a store has anything of a project besides locks:
// records, what remembers keychain items, audit logs, clients.
func (s *Store) Holds(project string) (bool, error) {
	if !validName(project) {
		return false, fmt.Errorf("%q is no valid project id", project)
	}
	left, err := s.contents(project)
	if err != nil || len(left) > 0 {
		return err == nil, err
	}
	registrations, err := s.Registrations()
	for _, r := range registrations {
		if r.Project == project {
			return true, err
		}
	}
	return false, err
}

// contents lists the files of a project's folder that are more than locks.
func (s *Store) contents(project string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the files of the project", err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), lockSuffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Settle completes a move that was cut off after the project's new store had
// been recorded: the originals go. Only one that was refreshed after it had been
// copied is copied once more.
func Settle(ctx context.Context, from, to *Store, project string) error {
	names, err := from.Names(project)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := settle(ctx, from, to, connection.Key{Project: project, Name: name}); err != nil {
			return fmt.Errorf("complete the move of %q: %w", name, err)
		}
	}
	return from.Wipe(ctx, project, nil)
}

func settle(ctx context.Context, from, to *Store, key connection.Key) error {
	g, err := from.Lock(ctx, key, 35*time.Second)
	if err != nil {
		return err
	}
	defer g.Unlock()
	original, err := from.Header(key)
	if errors.Is(err, connection.ErrNotStored) {
		return nil
	}
	if err != nil {
		return err
	}
	reached, err := to.Header(key)
	if errors.Is(err, connection.ErrNotStored) {
		return nil // it was disconnected since
	}
	if err != nil {
		return err
	}
	if login(original) != login(reached) || !original.ReceivedAt.After(reached.ReceivedAt) {
		return nil
	}
	return copyConnection(ctx, g, to, key)
}

// Retire removes a store whose connections are in another one now, when nothing
// is left in it: clients of the user are copied first. It reports whether the
// store is gone. The caller holds MoveLock, and knows that no project is recorded
// in the store.
func Retire(ctx context.Context, from, to *Store) (gone bool, err error) {
	projects, err := from.Projects()
	if err != nil {
		return false, err
	}
	if from.Tombstones() > 0 {
		if _, err := from.Sweep(ctx); err != nil {
			return false, err
		}
	}
	for _, project := range projects {
		if left, err := from.contents(project); err != nil || len(left) > 0 {
			return false, err
		}
	}
	registrations, err := from.Registrations()
	if err != nil {
		return false, err
	}
	for _, r := range registrations {
		if r.Project != "" {
			return false, nil
		}
	}
	if err := copyClients(ctx, from, to, ""); err != nil {
		return false, err
	}
	for _, r := range registrations {
		if err := from.RemoveClient(ctx, r.Provider, ""); err != nil {
			return false, err
		}
	}
	return remove(ctx, from)
}

// remove removes the folder of a store that has nothing but locks. What somebody
// puts into it meanwhile keeps it: store.json goes last, and Lock looks for it.
func remove(ctx context.Context, s *Store) (gone bool, err error) {
	release, err := lockStores(ctx, s.opt)
	if err != nil {
		return false, err
	}
	defer release()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return false, readError("list the projects", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if empty, err := s.removeLocks(ctx, filepath.Join(s.dir, e.Name())); !empty || err != nil {
			return false, err
		}
	}
	meta, err := readFile(s.dir, metaFile)
	if err != nil {
		return false, err
	}
	if err := os.Remove(filepath.Join(s.dir, metaFile)); err != nil {
		return false, writeError("remove the former store", err)
	}
	if err := os.Remove(s.dir); err != nil { // it is in use again
		return false, s.writeFile(s.dir, metaFile, meta)
	}
	return true, syncDir(s.opt.Dir)
}

// alive sees that the store was not removed since it was opened: what is written
// then would never be found again.
func (s *Store) alive() error {
	if _, err := os.Lstat(filepath.Join(s.dir, metaFile)); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: the connections were moved out of the store %s meanwhile; run it again", connection.ErrStoreRead, s.meta.ID)
	}
	return nil
}

// removeLocks removes a folder that holds nothing but locks that are free.
func (s *Store) removeLocks(ctx context.Context, dir string) (empty bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, readError("list the files of the project", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), lockSuffix) {
			return false, nil
		}
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		lock, err := s.locks.take(ctx, path, 0)
		var busy *heldError
		if errors.As(err, &busy) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		err = os.Remove(path)
		lock.release()
		if err != nil {
			return false, nil //nolint:nilerr // some systems remove no file that is open: the store stays
		}
	}
	return os.Remove(dir) == nil, nil
}
