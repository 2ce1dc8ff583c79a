package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

const (
	lockSuffix      = ".lock"
	loginSuffix     = ".login" + lockSuffix
	tombstoneSuffix = ".gone"
)

// guard is a locked connection.
type guard struct {
	store *Store
	key   connection.Key
	dir   string
	lock  *fileLock
	wal   *journal

	// sealing is the sealing key, once it was read: under the lock it does not
	// change, and a keychain that is locked halfway must not stop the storing
	// of an answer.
	sealing []byte
	// sealedSize is the length of the write-ahead file up to the end of the
	// sealed answer in it; zero when there is none.
	sealedSize int64
	// log is what is sealed about the audit log of a connection that gets this
	// name; nil when it has it already.
	log *auditSeal
}

// Lock takes the exclusive lock of a connection. The lock file is separate from
// the record and never removed; the operating system releases the lock when
// its holder dies.
func (s *Store) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	dir, err := s.projectDir(key)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{s.opt.Dir, s.dir, dir} {
		if err := makeDir(d); err != nil {
			return nil, writeError("make the folder of the project", err)
		}
	}
	lock, err := s.locks.take(ctx, filepath.Join(dir, key.Name+lockSuffix), wait)
	if err != nil {
		var held *heldError
		if errors.As(err, &held) {
			return nil, &connection.LockedError{Key: key, PID: held.pid, Waited: wait}
		}
		return nil, err
	}
	if err := s.alive(); err != nil {
		lock.release()
		return nil, err
	}
	return &guard{store: s, key: key, dir: dir, lock: lock}, nil
}

// Unlock releases the lock. It may be called more than once.
func (g *guard) Unlock() {
	g.closeJournal()
	g.lock.release()
}

func (g *guard) closeJournal() {
	if g.wal != nil {
		_ = g.wal.file.Close()
		g.wal = nil
	}
}

// sealingKey reads the key of the connection, once.
func (g *guard) sealingKey(ctx context.Context) ([]byte, error) {
	if g.sealing == nil {
		k, err := g.store.sealingKey(ctx, g.key)
		if err != nil {
			return nil, err
		}
		g.sealing = k
	}
	return g.sealing, nil
}

// ensureKey is sealingKey that makes the key when there is none.
func (g *guard) ensureKey(ctx context.Context) ([]byte, error) {
	if g.sealing == nil {
		k, _, err := g.store.ensureKey(ctx, g.key)
		if err != nil {
			return nil, err
		}
		g.sealing = k
	}
	return g.sealing, nil
}

// Read opens the record, after it has completed a removal or a rename that was
// cut off.
func (g *guard) Read(ctx context.Context) (*connection.Record, error) {
	if err := g.reconcile(ctx); err != nil {
		return nil, err
	}
	h, sealed, err := g.store.load(g.key)
	if err != nil {
		return nil, err
	}
	if k := g.store.provenKey(g.key); g.sealing == nil && k != nil {
		// The key that this process has read before the lock. That it opens the
		// record proves that it still is the one; else the keychain is asked.
		if rec, err := g.store.unseal(g.key, h, sealed, k); err == nil {
			g.sealing = k
			return rec, nil
		}
	}
	k, err := g.sealingKey(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := g.store.unseal(g.key, h, sealed, k)
	if err == nil {
		g.store.prove(g.key, k)
	}
	return rec, err
}

// reconcile completes what a tombstone says when the record that it is about is
// still there. A tombstone about an earlier login is of no concern to the
// present one.
func (g *guard) reconcile(ctx context.Context) error {
	t, err := g.tombstone()
	if err != nil || t == nil {
		return err
	}
	h, err := g.store.Header(g.key)
	if errors.Is(err, connection.ErrNotStored) && g.store.meta.Kind == KindFile {
		return g.removeTombstone()
	}
	if err != nil {
		return nil // nothing here, or nothing that can be compared
	}
	doomed := t.Login == login(h)
	if doomed && t.MovedTo != "" {
		dest, err := g.store.Header(connection.Key{Project: g.key.Project, Name: t.MovedTo})
		if err != nil && !errors.Is(err, connection.ErrNotStored) {
			return err
		}
		doomed = err == nil && login(dest) == t.Login
	}
	if !doomed {
		return g.removeTombstone()
	}
	if t.MovedTo != "" {
		if err := g.store.follow(ctx, g.key, connection.Key{Project: g.key.Project, Name: t.MovedTo}); err != nil {
			return err
		}
	}
	if err := g.Delete(ctx); err != nil {
		if _, herr := g.store.Header(g.key); !errors.Is(herr, connection.ErrNotStored) {
			return err
		}
		// The keychain could not be asked: the tombstone stays.
	}
	return nil
}

// login tells one login of a connection from the next: a refresh leaves it as it
// is, a rename too.
func login(h *connection.Header) string {
	return h.ConnectedAt.UTC().Format(time.RFC3339Nano) + " " + h.Provider
}

// Begin makes the intent durable. The lock is proven and the sealing key read
// first: an answer that could not be sealed must not be asked for, nor one that
// somebody else may be asking for as well.
func (g *guard) Begin(ctx context.Context, in connection.Intent) error {
	if err := g.proveExclusive(); err != nil {
		return err
	}
	k, err := g.ensureKey(ctx)
	if err != nil {
		return err
	}
	g.closeJournal()
	g.sealedSize = 0
	wal, err := g.begin(k, in)
	if err != nil {
		return writeError("write ahead", err)
	}
	g.wal = wal
	return nil
}

// Seal makes the raw answer durable.
func (g *guard) Seal(_ context.Context, raw []byte) error {
	if g.wal == nil {
		return errors.New("seal an answer: no intent was written")
	}
	size, err := g.wal.seal(g.store.opt.rand(), g.store.binding(journalKind, g.key, g.wal.clear), raw)
	if err != nil {
		return writeError("seal the issuer's answer", err)
	}
	g.sealedSize = size
	return nil
}

// Drop removes the write-ahead file. The removal need not be durable: a file
// whose target has been reached is ignored.
func (g *guard) Drop() error {
	g.closeJournal()
	g.sealedSize = 0
	if err := removeFile(filepath.Join(g.dir, g.key.Name+journalSuffix)); err != nil {
		return writeError("remove the write-ahead file", err)
	}
	return nil
}

// Commit writes a record above the stored one and drops the write-ahead file.
func (g *guard) Commit(ctx context.Context, rec *connection.Record) error {
	h, err := g.store.Header(g.key)
	switch {
	case err == nil && rec.Generation <= h.Generation:
		return fmt.Errorf("%w: %q is at generation %d, this write has %d", connection.ErrConflict, g.key.Name, h.Generation, rec.Generation)
	case err != nil && !errors.Is(err, connection.ErrNotStored) && !errors.Is(err, connection.ErrCorrupt):
		return err
	}
	k, err := g.ensureKey(ctx)
	if err != nil {
		return err
	}
	if t, err := g.tombstone(); err != nil {
		return err
	} else if t != nil {
		// The items that it remembers are in use again.
		if err := g.removeTombstone(); err != nil {
			return err
		}
		if err := syncDir(g.dir); err != nil {
			return writeError("write the record of "+g.key.Name, err)
		}
	}
	log := g.store.reach(g.key, k, g.auditSeal(k))
	doc, err := g.store.sealRecord(g.key, rec, log, k)
	if err != nil {
		return err
	}
	err = g.store.writeFile(g.dir, g.key.Name+recordSuffix, doc)
	if err != nil && isFull(err) && g.shrink() {
		err = g.store.writeFile(g.dir, g.key.Name+recordSuffix, doc)
	}
	if err != nil {
		return writeError("write the record of "+g.key.Name, err)
	}
	g.store.rememberSeal(g.key, log)
	return g.Drop()
}

// auditSeal is what the stored record says about the audit log. A damaged one
// says nothing.
func (g *guard) auditSeal(k []byte) auditSeal {
	if g.log != nil {
		return *g.log
	}
	h, sealed, err := g.store.load(g.key)
	if err != nil {
		return auditSeal{}
	}
	if _, err := g.store.unseal(g.key, h, sealed, k); err != nil {
		return auditSeal{}
	}
	log, _ := g.store.auditSealOf(g.key)
	return log
}

// Next returns numbers above everything that is stored under this name. What
// cannot be read does not count: a person is logging in to replace it.
func (g *guard) Next(ctx context.Context) (generation, grant uint64) {
	if h, err := g.store.Header(g.key); err == nil {
		generation, grant = h.Generation, h.GrantGeneration
	}
	if doc, err := readFile(g.dir, g.key.Name+journalSuffix); err == nil {
		if in, _, _, ok := decodeIntent(doc); ok && in.Target > generation {
			generation = in.Target - 1 // this write reaches the target, and so retires the file
			if g.wal == nil {
				generation = in.Target
			}
		}
	}
	if item, err := g.Grant(ctx); err == nil {
		grant = max(grant, item.Generation)
	}
	return generation + 1, grant + 1
}

// Grant reads the keychain's grant item.
func (g *guard) Grant(ctx context.Context) (connection.Grant, error) {
	if g.store.meta.Kind != KindKeychain {
		return connection.Grant{}, connection.ErrNotStored
	}
	t, err := g.store.opt.Keychain.Get(ctx, g.store.service(), grantItem(g.key))
	if err != nil {
		if g.store.notFound(err) {
			return connection.Grant{}, connection.ErrNotStored
		}
		return connection.Grant{}, err
	}
	grant, ok := decodeGrant(t)
	if !ok {
		return connection.Grant{}, connection.ErrNotStored
	}
	return grant, nil
}

// SetGrant writes the grant item and reads it back: keychains were seen to
// answer success and keep nothing.
func (g *guard) SetGrant(ctx context.Context, grant connection.Grant) error {
	if g.store.meta.Kind != KindKeychain {
		return nil
	}
	if err := g.store.opt.Keychain.Set(ctx, g.store.service(), grantItem(g.key), encodeGrant(grant)); err != nil {
		return err
	}
	back, err := g.Grant(ctx)
	if err != nil && !errors.Is(err, connection.ErrNotStored) {
		return err
	}
	if err != nil || back.Generation != grant.Generation || !back.Refresh.Equal(grant.Refresh) {
		return connection.ErrNotKept
	}
	return nil
}

// FitsGrant reports whether the keychain of this platform takes the item.
func (g *guard) FitsGrant(grant connection.Grant) bool {
	return g.store.meta.Kind == KindKeychain && encodeGrant(grant).Len() <= g.store.opt.Keychain.MaxValue()
}

// tombstone remembers keychain items that are still to be removed, and where a
// renamed connection went.
type tombstone struct {
	Items   []string  `json:"items,omitempty"`
	MovedTo string    `json:"moved_to,omitempty"`
	Login   string    `json:"login,omitempty"` // which login of the connection it is about
	Time    time.Time `json:"time"`
}

func (g *guard) tombstone() (*tombstone, error) {
	doc, err := readFile(g.dir, g.key.Name+tombstoneSuffix)
	if errors.Is(err, connection.ErrNotStored) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var t tombstone
	if err := json.Unmarshal(doc, &t); err != nil {
		return &tombstone{}, nil
	}
	return &t, nil
}

func (g *guard) writeTombstone(t tombstone) error {
	t.Time = g.store.opt.now().UTC()
	if h, err := g.store.Header(g.key); err == nil {
		t.Login = login(h)
	}
	doc, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if err := g.store.writeFile(g.dir, g.key.Name+tombstoneSuffix, doc); err != nil {
		return writeError("write down what is to be removed", err)
	}
	return nil
}

func (g *guard) removeTombstone() error {
	if err := removeFile(filepath.Join(g.dir, g.key.Name+tombstoneSuffix)); err != nil {
		return writeError("remove a tombstone", err)
	}
	return nil
}

// Delete removes the connection: files first, durably, then keychain items. The
// tombstone comes before: cut off anywhere, the removal is completed later.
func (g *guard) Delete(ctx context.Context) error {
	keychain := g.store.meta.Kind == KindKeychain
	if keychain {
		if err := g.writeTombstone(tombstone{Items: []string{keyItem(g.key), grantItem(g.key)}}); err != nil && !isFull(err) {
			return err
		}
	}
	g.closeJournal()
	g.sealing, g.sealedSize = nil, 0
	g.store.forgetSeal(g.key)
	for _, suffix := range []string{journalSuffix, recordSuffix} { // an answer without a record would bring the connection back
		if err := removeFile(filepath.Join(g.dir, g.key.Name+suffix)); err != nil {
			return writeError("remove the files of "+g.key.Name, err)
		}
	}
	g.removeLeftovers()
	if err := syncDir(g.dir); err != nil {
		return writeError("remove the files of "+g.key.Name, err)
	}
	if !keychain {
		return g.removeTombstone()
	}
	return g.sweep(ctx)
}

// sweep removes the keychain items of a connection that is gone, and looks
// whether they are: keychains were seen to answer success and do nothing.
func (g *guard) sweep(ctx context.Context) error {
	for _, item := range []string{grantItem(g.key), keyItem(g.key)} {
		if err := g.store.opt.Keychain.Delete(ctx, g.store.service(), item); err != nil && !g.store.notFound(err) {
			return err
		}
		switch _, err := g.store.opt.Keychain.Get(ctx, g.store.service(), item); {
		case err == nil:
			return fmt.Errorf("%w: the keychain answered success and kept the item %s", connection.ErrStoreWrite, item)
		case !g.store.notFound(err):
			return err
		}
	}
	return g.removeTombstone()
}

// removeLeftovers removes temporary files of writers that were cut off.
func (g *guard) removeLeftovers() {
	found, err := filepath.Glob(filepath.Join(g.dir, "."+g.key.Name+".*"+temporarySuffix))
	if err != nil {
		return
	}
	for _, f := range found {
		_ = os.Remove(f)
	}
}

// MoveTo stores rec under to's name and deletes this connection. The tombstone
// is durable before the new record is, so that an interrupted rename never
// leaves two connections that would both use up one refresh token.
func (g *guard) MoveTo(ctx context.Context, to connection.Guard, rec *connection.Record) error {
	dest, ok := to.(*guard)
	if !ok || dest.key.Project != g.key.Project {
		return errors.New("a connection can be moved within its store and project only")
	}
	if _, err := dest.ensureKey(ctx); err != nil {
		return err
	}
	if err := g.writeTombstone(tombstone{MovedTo: dest.key.Name}); err != nil {
		return err
	}
	k, err := g.sealingKey(ctx)
	if err != nil {
		return errors.Join(err, g.removeTombstone())
	}
	log := g.store.reach(g.key, k, g.auditSeal(k))
	if log.key == nil {
		log.key = g.store.auditKey(g.key, k)
	}
	dest.log = &log
	if err := dest.Commit(ctx, rec); err != nil {
		return errors.Join(err, g.removeTombstone())
	}
	dest.log = nil
	if err := g.store.follow(ctx, g.key, dest.key); err != nil {
		return fmt.Errorf("move the audit log: %w", err)
	}
	return g.Delete(ctx)
}
