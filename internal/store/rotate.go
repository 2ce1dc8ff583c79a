package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// A client may have a second secret, which takes the place of the present one
// once the issuer has accepted it. It lies beside the registration, in a file
// that is a whole registration itself, so that one rename promotes it: before
// that nothing has changed, and after it nothing is missing. In a keychain each
// of the two has an item of its own, which its file names; an item that a file
// names is never written over.
const nextSuffix = ".next"

// clientSlots end the names of the keychain items that the secrets of one client
// may lie in: the present one, the next one, and one that is being written.
func clientSlots() []string { return []string{"", ".2", ".3"} }

// freeItem is a slot that is not used.
func freeItem(used []string) string {
	for _, slot := range clientSlots() {
		if !slices.Contains(used, slot) {
			return slot
		}
	}
	return "" // only beside a damaged file: two files name two slots at most
}

// usedItems lists the slots that the files of a client name; beside a damaged
// file, those in which anything lies. The lock must be held.
func (s *Store) usedItems(ctx context.Context, hash string) []string {
	if s.meta.Kind != KindKeychain {
		return nil
	}
	var used []string
	for _, suffix := range []string{recordSuffix, nextSuffix} {
		r, _, err := s.clientDoc(hash, suffix)
		switch {
		case err == nil && r.HasSecret:
			used = append(used, r.Item)
		case err != nil && !errors.Is(err, connection.ErrNotStored):
			return slices.DeleteFunc(clientSlots(), func(slot string) bool {
				_, err := s.opt.Keychain.Get(ctx, s.service(), clientItem(hash, slot))
				return err != nil && s.notFound(err)
			})
		}
	}
	return used
}

// dropItems removes the items of slots that no file names any more.
func (s *Store) dropItems(ctx context.Context, hash string, slots []string) error {
	if s.meta.Kind != KindKeychain {
		return nil
	}
	var failed []error
	for _, slot := range slots {
		if err := s.opt.Keychain.Delete(ctx, s.service(), clientItem(hash, slot)); err != nil && !s.notFound(err) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// nextOf reads the file of the next secret of r; connection.ErrNotStored when
// there is none. One that was stored beside another registration is none: it was
// left by a process that was killed while it set the client anew.
func (s *Store) nextOf(hash string, r *connection.Registration) (*connection.Registration, error) {
	next, _, err := s.clientDoc(hash, nextSuffix)
	if err != nil {
		return nil, err
	}
	if bindingOf(&next) != bindingOf(r) || !next.Replaces.Equal(r.SetAt) {
		return nil, connection.ErrNotStored
	}
	return &next, nil
}

// noteNext puts into r when its next secret was set. A file that cannot be read
// is told of by those who need it.
func (s *Store) noteNext(hash string, r *connection.Registration) {
	if next, err := s.nextOf(hash, r); err == nil {
		r.NextSetAt = next.SetAt
	}
}

// SetNext stores the next secret of a registration beside the present one, in
// place of an earlier next one. It returns connection.ErrNotStored when the
// registration is not there, or has no secret that could be replaced.
func (s *Store) SetNext(ctx context.Context, r *connection.Registration, t secret.Text) error {
	hash := clientHash(r.Provider, r.Project)
	unlock, err := s.openClients(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	present, _, err := s.clientFile(hash)
	if err != nil {
		return err
	}
	if !present.HasSecret || bindingOf(&present) != bindingOf(r) {
		return connection.ErrNotStored
	}
	used := s.usedItems(ctx, hash)
	next := present
	next.Replaces, next.SetAt = present.SetAt, s.opt.now().UTC()
	if err := s.writeClient(ctx, hash, nextSuffix, &next, t, used); err != nil {
		return err
	}
	if err := s.dropItems(ctx, hash, without(used, present.Item)); err != nil {
		return fmt.Errorf("remove the earlier next client secret of %s: %w", r.Provider, err)
	}
	return nil
}

func without(slots []string, slot string) []string {
	return slices.DeleteFunc(slices.Clone(slots), func(s string) bool { return s == slot })
}

// NextSecret reads the next secret of a registration; zero when it has none.
func (s *Store) NextSecret(ctx context.Context, r *connection.Registration) (secret.Text, error) {
	hash := clientHash(r.Provider, r.Project)
	next, err := s.nextOf(hash, r)
	var t secret.Text
	if err == nil {
		t, err = s.clientSecret(ctx, hash, nextSuffix, next)
	}
	if err != nil {
		// Without its file it is the present one by now, or was dropped.
		if _, gone := s.nextOf(hash, r); errors.Is(gone, connection.ErrNotStored) {
			return secret.Text{}, nil
		}
		return secret.Text{}, err
	}
	return t, nil
}

// PromoteNext makes the next secret of a registration the present one, and
// removes the old one. With used, it does so only while that is still the next
// one: another process may have been faster, and then there is nothing to do.
func (s *Store) PromoteNext(ctx context.Context, r *connection.Registration, used secret.Text) error {
	hash := clientHash(r.Provider, r.Project)
	unlock, err := s.openClients(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	present, _, err := s.clientFile(hash)
	if err != nil {
		return err
	}
	next, err := s.nextOf(hash, &present)
	if errors.Is(err, connection.ErrNotStored) || err == nil && bindingOf(&present) != bindingOf(r) {
		return nil
	}
	if err != nil {
		return err
	}
	t, err := s.clientSecret(ctx, hash, nextSuffix, next)
	if err != nil {
		return err
	}
	if !used.IsZero() && !t.Equal(used) {
		return nil
	}
	items := s.usedItems(ctx, hash)
	dir := filepath.Join(s.dir, clientsDir)
	if err := renameFile(filepath.Join(dir, hash+nextSuffix), filepath.Join(dir, hash+recordSuffix)); err != nil {
		return writeError("put the next client secret of "+r.Provider+" in place", err)
	}
	if err := syncDir(dir); err != nil {
		return writeError("put the next client secret of "+r.Provider+" in place", err)
	}
	if err := s.dropItems(ctx, hash, without(items, next.Item)); err != nil {
		return fmt.Errorf("remove the old client secret of %s: %w", r.Provider, err)
	}
	return nil
}

// DropNext removes the next secret of a registration, if there is one.
func (s *Store) DropNext(ctx context.Context, r *connection.Registration) error {
	hash := clientHash(r.Provider, r.Project)
	unlock, err := s.openClients(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	present, _, err := s.clientFile(hash)
	if err != nil {
		return err
	}
	items := s.usedItems(ctx, hash)
	dir := filepath.Join(s.dir, clientsDir)
	if err := removeFile(filepath.Join(dir, hash+nextSuffix)); err != nil {
		return writeError("remove the next client secret of "+r.Provider, err)
	}
	if err := syncDir(dir); err != nil {
		return writeError("remove the next client secret of "+r.Provider, err)
	}
	if present.HasSecret {
		items = without(items, present.Item)
	}
	if err := s.dropItems(ctx, hash, items); err != nil {
		return fmt.Errorf("remove the next client secret of %s: %w", r.Provider, err)
	}
	return nil
}
