package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

// Prepare proves that a record can be stored.
func (s *Store) Prepare(ctx context.Context, key connection.Key) (undo func(), err error) {
	g, err := s.Lock(ctx, key, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer g.Unlock()
	locked := g.(*guard)
	if err := locked.proveExclusive(); err != nil {
		return nil, err
	}
	if err := locked.reconcile(ctx); err != nil {
		return nil, err
	}
	if t, err := locked.tombstone(); err != nil {
		return nil, err
	} else if t != nil && s.meta.Kind == KindKeychain {
		if _, err := s.Header(key); errors.Is(err, connection.ErrNotStored) {
			if err := locked.sweep(ctx); err != nil {
				return nil, err
			}
		}
	}
	_, made, err := s.ensureKey(ctx, key)
	if err != nil {
		return nil, err
	}
	probe := filepath.Join(locked.dir, "."+key.Name+".probe"+temporarySuffix)
	if err := proveWritable(probe, locked.dir); err != nil {
		if made {
			_ = s.opt.Keychain.Delete(ctx, s.service(), keyItem(key))
		}
		return nil, writeError("prove that the store can be written", err)
	}
	return func() { s.undoPrepare(key, made) }, nil
}

// undoPrepare removes the key that Prepare made, unless somebody has stored a
// record with it since.
func (s *Store) undoPrepare(key connection.Key, made bool) {
	if !made {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	g, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		return
	}
	defer g.Unlock()
	if _, err := s.Header(key); !errors.Is(err, connection.ErrNotStored) || s.Pending(key) {
		return
	}
	_ = s.opt.Keychain.Delete(ctx, s.service(), keyItem(key))
}

func proveWritable(probe, dir string) error {
	f, err := createFile(probe)
	if err != nil {
		return err
	}
	err = reserve(f, journalBlock+journalReserve)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close(), os.Remove(probe))
	if err != nil {
		return err
	}
	return syncDir(dir)
}
