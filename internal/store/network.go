package store

import (
	"fmt"
	"path/filepath"

	"github.com/apiauth/apiauth/internal/connection"
)

// FileSystem names the kind of file system that holds the store, as far as this
// system tells, and whether other machines can reach the same files: then it
// depends on server and mount whether a lock that is taken here holds there.
func (s *Store) FileSystem() (kind string, remote bool) {
	if s.opt.FileSystem != nil {
		return s.opt.FileSystem(s.dir)
	}
	return fileSystem(s.dir)
}

// proveExclusive shows, before anything is asked for that can be had only once,
// that the lock which this guard holds keeps others out. A lock that a second
// opening of the file can take as well, as on some network file systems, or
// because somebody replaced the file, is none: connection.ErrNotExclusive. That
// locks reach other machines cannot be shown from here; where there can be such,
// the person is told once.
func (g *guard) proveExclusive() error {
	path := filepath.Join(g.dir, g.key.Name+lockSuffix)
	second := newLock(path)
	taken, err := second.TryLock()
	if cerr := second.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return writeError("prove the lock of "+g.key.Name, err)
	}
	if taken {
		return fmt.Errorf("%w in %s", connection.ErrNotExclusive, g.dir)
	}
	g.store.tellRemote()
	return nil
}

func (s *Store) tellRemote() {
	if s.opt.Warn == nil {
		return
	}
	s.told.Do(func() {
		if kind, remote := s.FileSystem(); remote {
			s.opt.Warn("the store lies on a network file system (%s), where the locks of one machine may not hold on another: use it from one at a time, or name a local folder with APIAUTH_STATE_DIR", kind)
		}
	})
}
