package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

// Move copies the connections and the clients of a project into another store
// and proves each copy by reading it back. The caller then records the new
// store for the project, which is the moment when the move counts, and calls
// finish, which removes the originals. Until finish or abort has run, the
// originals stay locked, so that nobody refreshes behind the move's back. abort
// removes the copies again.
// Project scope: client registrations of the user stay where they are, and are
// copied.
//
// When it fails, nothing has changed for the project.
func Move(ctx context.Context, from, to *Store, project string, each func(name string)) (finish func(context.Context) error, abort func(), err error) {
	if from.meta.ID == to.meta.ID {
		return nil, nil, fmt.Errorf("move the connections: they are in the %s store already", to.meta.Kind)
	}
	names, err := from.Names(project)
	if err != nil {
		return nil, nil, err
	}
	var (
		guards []connection.Guard
		copied []connection.Key
		logins map[string]*fileLock
	)
	unlock := func() {
		for _, l := range logins {
			l.release()
		}
		for _, g := range guards {
			g.Unlock()
		}
	}
	undo := func() { // not the result: a failing return sets that to nil
		for _, key := range copied {
			to.discard(ctx, key)
		}
		copied = nil
		unlock()
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	if logins, err = from.lockLogins(ctx, project, nil); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		key := connection.Key{Project: project, Name: name}
		g, err := from.Lock(ctx, key, 35*time.Second)
		if err != nil {
			return nil, nil, err
		}
		guards = append(guards, g)
		if from.Pending(key) {
			return nil, nil, fmt.Errorf("move %q: an interrupted refresh must be completed first", name)
		}
		copied = append(copied, key)
		if err := copyConnection(ctx, g, to, key); err != nil {
			return nil, nil, fmt.Errorf("move %q: %w", name, err)
		}
		if each != nil {
			each(name)
		}
	}
	if err := copyClients(ctx, from, to, project); err != nil {
		return nil, nil, err
	}
	if logins, err = from.lockLogins(ctx, project, logins); err != nil {
		return nil, nil, err
	}
	if now, err := from.Names(project); err != nil {
		return nil, nil, err
	} else if !slices.Equal(now, names) {
		return nil, nil, errors.New("a login or a removal came in between; run it again")
	}
	finish = func(ctx context.Context) error {
		defer unlock()
		copied = nil // they count now
		var failed []error
		for _, g := range guards {
			failed = append(failed, g.Delete(ctx))
		}
		registrations, err := from.Registrations()
		failed = append(failed, err)
		for _, r := range registrations {
			if r.Project == project {
				failed = append(failed, from.RemoveClient(ctx, r.Provider, r.Project))
			}
		}
		return errors.Join(failed...)
	}
	return finish, undo, nil
}

// lockLogins keeps logins out of a project's connections, and adds to those that
// are held. One that is under way ends the move: it would be stored where the
// project was.
func (s *Store) lockLogins(ctx context.Context, project string, held map[string]*fileLock) (map[string]*fileLock, error) {
	found, err := filepath.Glob(filepath.Join(s.dir, project, "*"+loginSuffix))
	if err != nil {
		return held, err
	}
	if held == nil {
		held = map[string]*fileLock{}
	}
	for _, path := range found {
		if held[path] != nil {
			continue
		}
		lock, err := s.locks.take(ctx, path, 0)
		var busy *heldError
		if errors.As(err, &busy) {
			return held, fmt.Errorf("a login to %q is under way; finish it first", strings.TrimSuffix(filepath.Base(path), loginSuffix))
		}
		if err != nil {
			return held, err
		}
		held[path] = lock
	}
	return held, nil
}

// discard removes a copy that a move made in vain.
func (s *Store) discard(ctx context.Context, key connection.Key) {
	ctx = context.WithoutCancel(ctx)
	g, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		return
	}
	defer g.Unlock()
	_ = g.Delete(ctx) // a tombstone remembers what the keychain kept
}

func copyConnection(ctx context.Context, g connection.Guard, to *Store, key connection.Key) error {
	rec, err := g.Read(ctx)
	if err != nil {
		return err
	}
	if rec.HasRefresh && rec.Body.Refresh.IsZero() {
		grant, err := g.Grant(ctx)
		if err != nil {
			return fmt.Errorf("read its refresh token: %w", err)
		}
		if grant.Generation < rec.GrantGeneration {
			return fmt.Errorf("read its refresh token: %w", connection.ErrNotStored)
		}
		rec.Body.Refresh, rec.GrantGeneration = grant.Refresh, grant.Generation
	}
	dest, err := to.Lock(ctx, key, 10*time.Second)
	if err != nil {
		return err
	}
	defer dest.Unlock()
	// The copy keeps its body's refresh token: the keychain of a keychain store
	// catches up at the next refresh that brings another one.
	next := *rec
	generation, grantGeneration := dest.Next(ctx)
	next.Generation = max(generation, rec.Generation+1)
	next.GrantGeneration = max(rec.GrantGeneration, grantGeneration) // above what an earlier stay left in the keychain
	next.Keychain, next.KeychainRun = connection.KeychainNone, ""
	if to.meta.Kind == KindKeychain && next.HasRefresh {
		grant := connection.Grant{Generation: next.GrantGeneration, Refresh: next.Body.Refresh}
		switch {
		case !dest.FitsGrant(grant):
			next.Keychain = connection.KeychainTooLarge
		default:
			next.Keychain, next.KeychainRun = connection.KeychainPending, "move"
		}
	}
	if err := dest.Commit(ctx, &next); err != nil {
		return err
	}
	if next.Keychain == connection.KeychainPending {
		if err := dest.SetGrant(ctx, connection.Grant{Generation: next.GrantGeneration, Refresh: next.Body.Refresh}); err != nil {
			return err
		}
	}
	back, err := dest.Read(ctx)
	if err != nil {
		return fmt.Errorf("read the copy back: %w", err)
	}
	if !back.Body.Access.Equal(rec.Body.Access) || !back.Body.Refresh.Equal(rec.Body.Refresh) {
		return fmt.Errorf("read the copy back: %w", connection.ErrCorrupt)
	}
	return nil
}

// copyClients copies the project's own registrations and those of the user that
// the new store does not have.
func copyClients(ctx context.Context, from, to *Store, project string) error {
	registrations, err := from.Registrations()
	if err != nil {
		return err
	}
	for _, r := range registrations {
		if r.Project != project && r.Project != "" {
			continue
		}
		if r.Project == "" {
			if have, err := to.Registration(r.Provider, ""); err == nil && !r.SetAt.After(have.SetAt) {
				continue
			}
		}
		secret, err := from.ClientSecret(ctx, &r)
		if err != nil {
			return err
		}
		next, err := from.NextSecret(ctx, &r)
		if err != nil {
			return err
		}
		if err := to.putClient(ctx, r, secret); err != nil {
			return err
		}
		if next.IsZero() {
			continue
		}
		if err := to.SetNext(ctx, &r, next); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes keychain items of connections that were disconnected while the
// keychain could not be reached, and returns how many connections that were.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	found, err := filepath.Glob(filepath.Join(s.dir, "*", "*"+tombstoneSuffix))
	if err != nil {
		return 0, err
	}
	swept := 0
	for _, path := range found {
		key := connection.Key{
			Project: filepath.Base(filepath.Dir(path)),
			Name:    strings.TrimSuffix(filepath.Base(path), tombstoneSuffix),
		}
		if !validName(key.Project) || !validName(key.Name) {
			continue
		}
		if err := s.sweepOne(ctx, key); err != nil {
			return swept, err
		}
		swept++
	}
	return swept, nil
}

// Tombstones returns how many disconnected connections still have keychain
// items.
func (s *Store) Tombstones() int {
	found, err := filepath.Glob(filepath.Join(s.dir, "*", "*"+tombstoneSuffix))
	if err != nil {
		return 0
	}
	return len(found)
}

func (s *Store) sweepOne(ctx context.Context, key connection.Key) error {
	g, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		return err
	}
	defer g.Unlock()
	locked := g.(*guard)
	t, err := locked.tombstone()
	if err != nil || t == nil {
		return err
	}
	if _, err := locked.Read(ctx); !errors.Is(err, connection.ErrNotStored) {
		return nil // it was connected again, or a rename was completed just now
	}
	if s.meta.Kind != KindKeychain {
		return locked.removeTombstone()
	}
	return locked.sweep(ctx)
}

// Wipe removes every connection of a project, or of the whole store when
// project is empty, with keychain items and clients. What could not be removed
// is in the error; everything else is gone.
func (s *Store) Wipe(ctx context.Context, project string, each func(key connection.Key)) error {
	projects := []string{project}
	if project == "" {
		var err error
		if projects, err = s.Projects(); err != nil {
			return err
		}
	}
	var failed []error
	for _, p := range projects {
		names, err := s.traces(p)
		failed = append(failed, err)
		for _, name := range names {
			key := connection.Key{Project: p, Name: name}
			g, err := s.Lock(ctx, key, 5*time.Second)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			_, stored := s.Header(key)
			if err := g.Delete(ctx); err != nil {
				failed = append(failed, fmt.Errorf("remove %q: %w", name, err))
			} else if each != nil && !errors.Is(stored, connection.ErrNotStored) { // not for a lock alone
				each(key)
			}
			g.Unlock()
		}
	}
	registrations, err := s.Registrations()
	failed = append(failed, err)
	for _, r := range registrations {
		if project == "" || r.Project == project {
			failed = append(failed, s.RemoveClient(ctx, r.Provider, r.Project))
		}
	}
	return errors.Join(failed...)
}

// traces lists the names of a project of which any file is left: a login that
// was cut off before its record was written has a key in the keychain already.
func (s *Store) traces(project string) ([]string, error) {
	if !validName(project) {
		return nil, fmt.Errorf("%q is no valid project id", project)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the connections", err)
	}
	var names []string
	for _, e := range entries {
		if name, _, ok := strings.Cut(e.Name(), "."); ok && validName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// LoginLock keeps two logins of one connection from opening two browser tabs.
// It is not the connection's lock: tokens are served and refreshed meanwhile.
// waited reports that another login was under way.
func (s *Store) LoginLock(ctx context.Context, key connection.Key, onWait func()) (release func(), waited bool, err error) {
	dir, err := s.projectDir(key)
	if err != nil {
		return nil, false, err
	}
	if err := makeDir(dir); err != nil {
		return nil, false, writeError("make the folder of the project", err)
	}
	path := filepath.Join(dir, key.Name+loginSuffix)
	lock, err := s.locks.take(ctx, path, 0)
	var held *heldError
	if errors.As(err, &held) {
		waited = true
		if onWait != nil {
			onWait()
		}
		lock, err = s.locks.take(ctx, path, 10*time.Minute)
	}
	if err != nil {
		return nil, waited, err
	}
	return lock.release, waited, nil
}
