package store

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

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

// AuditKey derives the key of a connection's audit log from its sealing key.
// After Read the keychain is not asked again. The key ends with the connection.
func (s *Store) AuditKey(ctx context.Context, key connection.Key) ([]byte, error) {
	k := s.provenKey(key)
	if k == nil {
		var err error
		if k, err = s.sealingKey(ctx, key); err != nil {
			return nil, err
		}
	}
	return hkdf.Key(sha256.New, k, []byte(s.meta.ID), "apiauth\x00audit\x00"+key.Project+"\x00"+key.Name, keySize)
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
