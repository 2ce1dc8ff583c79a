package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/apiauth/apiauth/internal/connection"
)

const temporarySuffix = ".tmp"

// readFile reads a small file of ours. It follows no link, and refuses what
// belongs to somebody else.
func readFile(dir, name string) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, connection.ErrNotStored
	}
	if err != nil {
		return nil, readError("read "+path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, readError("read "+path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", connection.ErrStoreRead, path)
	}
	if err := checkOwner(path, info); err != nil {
		return nil, fmt.Errorf("%w: %w", connection.ErrStoreRead, err)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than %d", connection.ErrCorrupt, path, info.Size(), maxFileBytes)
	}
	doc := make([]byte, info.Size())
	n, err := io.ReadFull(f, doc)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, readError("read "+path, err)
	}
	return doc[:n], nil
}

// checkFolders refuses to read where somebody else could have put or taken away
// files: the folder of the store, and that of the project if it exists.
func (s *Store) checkFolders(project string) error {
	for _, dir := range []string{s.dir, project} {
		info, err := os.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return readError("read "+dir, err)
		case !info.IsDir():
			return fmt.Errorf("%w: %s is not a folder", connection.ErrStoreRead, dir)
		}
		if err := checkOwner(dir, info); err != nil {
			return fmt.Errorf("%w: %w", connection.ErrStoreRead, err)
		}
	}
	return nil
}

// writeFile replaces a file durably: temporary file, sync, rename, sync of the
// folder.
func (s *Store) writeFile(dir, name string, doc []byte) error {
	var raw [6]byte
	if _, err := io.ReadFull(s.opt.rand(), raw[:]); err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+name+"."+hex.EncodeToString(raw[:])+temporarySuffix)
	f, err := createFile(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(doc)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = renameFile(tmp, filepath.Join(dir, name))
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(dir)
}

// createFile makes an empty file that only its owner may read.
func createFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|noFollow, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = checkOwner(path, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// makeDir makes a folder that only its owner may enter, and refuses one that is
// a link, belongs to somebody else, or that others may write.
func makeDir(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createDir(dir); err != nil {
			return err
		}
		info, err = os.Lstat(dir)
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if err := checkOwner(dir, info); err != nil {
		return err
	}
	if hasModes && info.Mode().Perm()&0o055 != 0 {
		return os.Chmod(dir, 0o700) // the names in it are nobody else's business
	}
	return nil
}

// createDir makes a folder and those above it that are missing, each of them
// durably.
func createDir(dir string) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) && parent != dir {
		if err := createDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func writeError(what string, err error) error {
	switch {
	case errors.Is(err, connection.ErrStoreFull), errors.Is(err, connection.ErrStoreWrite), errors.Is(err, connection.ErrStoreRead):
		return fmt.Errorf("%s: %w", what, err)
	case isFull(err):
		return fmt.Errorf("%s: %w: %w", what, connection.ErrStoreFull, err)
	}
	return fmt.Errorf("%s: %w: %w", what, connection.ErrStoreWrite, err)
}

func readError(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, connection.ErrStoreRead, err)
}
