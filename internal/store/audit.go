package store

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
)

const (
	auditSuffix = ".log"
	// auditWait is how long one line of an audit log waits for others.
	auditWait = 2 * time.Second
)

// AuditPath returns the file of a connection's audit log. It lies beside the
// record and outlives it: Wipe and the removal of the folder end it.
func (s *Store) AuditPath(key connection.Key) (string, error) {
	dir, err := s.projectDir(key)
	if err != nil {
		return "", err
	}
	if err := s.checkFolders(dir); err != nil {
		return "", err
	}
	return filepath.Join(dir, key.Name+auditSuffix), nil
}

// MakeAuditFolder makes the folder of a connection's audit log where there is
// none yet.
func (s *Store) MakeAuditFolder(key connection.Key) error {
	dir, err := s.projectDir(key)
	if err != nil {
		return err
	}
	if err := makeDir(dir); err != nil {
		return writeError("make the folder of the project", err)
	}
	return nil
}

// AuditLock keeps other processes away from a connection's audit log.
func (s *Store) AuditLock(ctx context.Context, key connection.Key) (release func(), err error) {
	path, err := s.AuditPath(key)
	if err != nil {
		return nil, err
	}
	return s.lockAudit(ctx, path)
}

func (s *Store) lockAudit(ctx context.Context, path string) (release func(), err error) {
	// Most lines wait for nobody: then the name of the holder, which would cost
	// as much as the line, is not written down.
	if quick := newLock(path + ".lock"); checkLockFile(path+".lock") == nil {
		if ok, err := quick.TryLock(); ok && err == nil {
			return func() { _ = quick.Close() }, nil
		}
	}
	l, err := s.locks.take(ctx, path+".lock", auditWait)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

// AuditLog returns the log of a connection with its key, its lock, and the anchor
// that the record has sealed. After Read neither the record nor the keychain is
// asked again. The key ends with the connection.
func (s *Store) AuditLog(ctx context.Context, key connection.Key) (*audit.Log, error) {
	path, err := s.AuditPath(key)
	if err != nil {
		return nil, err
	}
	seal, known := s.auditSealOf(key)
	if !known {
		// Of a record that is gone or damaged there is no anchor, and its log is
		// proven with the key that most have.
		_, err := s.Read(ctx, key)
		if err != nil && !errors.Is(err, connection.ErrNotStored) && !errors.Is(err, connection.ErrCorrupt) {
			return nil, err
		}
		seal, _ = s.auditSealOf(key)
	}
	if seal.key == nil {
		k := s.provenKey(key)
		if k == nil {
			if k, err = s.sealingKey(ctx, key); err != nil {
				return nil, err
			}
		}
		seal.key = s.auditKey(key, k)
	}
	if seal.anchor.Last > 0 && !audit.Exists(path) {
		if err := s.completeRename(ctx, key); err != nil {
			return nil, err
		}
	}
	return &audit.Log{Path: path, Key: seal.key, Anchor: seal.anchor, Lock: func() (func(), error) { return s.lockAudit(ctx, path) }}, nil
}

// auditKey derives the key of a log from the sealing key of its connection.
func (s *Store) auditKey(key connection.Key, k []byte) []byte {
	derived, err := hkdf.Key(sha256.New, k, []byte(s.meta.ID), "apiauth\x00audit\x00"+key.Project+"\x00"+key.Name, keySize)
	if err != nil {
		panic("store: " + err.Error()) // only for a length that SHA-256 cannot give
	}
	return derived
}

// auditSeal is what the sealed part of a record says about the audit log.
type auditSeal struct {
	anchor audit.Anchor
	key    []byte // of the log, where it is not derived: the connection had another name before
}

// String is the form inside the record: number, code, time and key.
func (a auditSeal) String() string {
	if a.anchor.At.IsZero() && a.key == nil {
		return ""
	}
	return fmt.Sprintf("%d %s %d %s", a.anchor.Last, a.anchor.MAC, a.anchor.At.Unix(), base64.RawStdEncoding.EncodeToString(a.key))
}

// parseAuditSeal reads what String wrote. The record is sealed: what does not fit
// comes from a newer version.
func parseAuditSeal(text string) (a auditSeal) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 {
		return a
	}
	a.anchor.Last, _ = strconv.ParseUint(parts[0], 10, 64)
	a.anchor.MAC = parts[1]
	at, _ := strconv.ParseInt(parts[2], 10, 64)
	a.anchor.At = time.Unix(at, 0)
	if k, err := base64.RawStdEncoding.DecodeString(parts[3]); err == nil && len(k) == keySize {
		a.key = k
	}
	return a
}

func (s *Store) auditSealOf(key connection.Key) (a auditSeal, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, known = s.seals[key]
	return a, known
}

// rememberSeal keeps what the last record of a name has said about its log.
func (s *Store) rememberSeal(key connection.Key, a auditSeal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seals == nil {
		s.seals = map[connection.Key]auditSeal{}
	}
	s.seals[key] = a
}

func (s *Store) forgetSeal(key connection.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seals, key)
}

// reach moves an anchor on to where the log of a connection is now.
func (s *Store) reach(key connection.Key, k []byte, a auditSeal) auditSeal {
	path, err := s.AuditPath(key)
	if err != nil {
		return a
	}
	log := &audit.Log{Path: path, Key: a.key, Anchor: a.anchor}
	if log.Key == nil {
		log.Key = s.auditKey(key, k)
	}
	a.anchor = log.Reached(s.opt.now())
	return a
}

// Anchor seals into the record of a connection how far its audit log has come.
// Every write of the record does that; this one is for records that are not
// written for long. Nothing else in the record changes, its number included.
// Nothing is done while another process has the lock of the connection, or where
// a lock may not keep other machines out.
func (s *Store) Anchor(ctx context.Context, key connection.Key) error {
	lock, err := s.Lock(ctx, key, 0)
	var locked *connection.LockedError
	if errors.As(err, &locked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	g := lock.(*guard)
	if _, remote := s.FileSystem(); remote || g.proveExclusive() != nil {
		return nil // what another machine writes meanwhile must not be undone
	}
	rec, err := g.Read(ctx)
	if errors.Is(err, connection.ErrNotStored) {
		return nil
	}
	if err != nil {
		return err
	}
	was, _ := s.auditSealOf(key)
	if path, err := s.AuditPath(key); err == nil && audit.Exists(path) {
		if err := (&audit.Log{Path: path}).Sync(); err != nil {
			return err
		}
	}
	now := s.reach(key, g.sealing, was)
	if now.anchor.Last == was.anchor.Last {
		return nil
	}
	doc, err := s.sealRecord(key, rec, now, g.sealing)
	if err != nil {
		return err
	}
	if err := s.writeFile(g.dir, key.Name+recordSuffix, doc); err != nil {
		return writeError("write the record of "+key.Name, err)
	}
	s.rememberSeal(key, now)
	return nil
}

// follow moves the audit log of a connection that has got another name.
func (s *Store) follow(ctx context.Context, from, to connection.Key) error {
	source, err := s.AuditPath(from)
	if err != nil {
		return err
	}
	target, err := s.AuditPath(to)
	if err != nil || !audit.Exists(source) {
		return err
	}
	first, second := from, to // alphabetical, so that two renames do not wait for each other
	if second.Name < first.Name {
		first, second = second, first
	}
	release, err := s.AuditLock(ctx, first)
	if err != nil {
		return err
	}
	defer release()
	releaseOther, err := s.AuditLock(ctx, second)
	if err != nil {
		return err
	}
	defer releaseOther()
	return audit.Follow(source, target)
}

// completeRename looks for a rename to this name that was cut off before the log
// had followed, and completes it.
func (s *Store) completeRename(ctx context.Context, key connection.Key) error {
	found, err := filepath.Glob(filepath.Join(s.dir, key.Project, "*"+tombstoneSuffix))
	if err != nil {
		return err
	}
	for _, path := range found {
		from := connection.Key{Project: key.Project, Name: strings.TrimSuffix(filepath.Base(path), tombstoneSuffix)}
		lock, err := s.Lock(ctx, from, auditWait)
		if err != nil {
			return err
		}
		g := lock.(*guard)
		t, err := g.tombstone()
		if err == nil && t != nil && t.MovedTo == key.Name {
			err = g.reconcile(ctx)
		}
		lock.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// AuditNames lists the names of a project that have an audit log, connected or
// not.
func (s *Store) AuditNames(project string) ([]string, error) {
	if !validName(project) {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the audit logs", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), auditSuffix); ok && validName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// CreatedAt returns when the store was made, and with it the key of a file
// store.
func (s *Store) CreatedAt() time.Time { return s.meta.CreatedAt }
