package project

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// UntrustedError says that a manifest was found and is not to be believed.
type UntrustedError struct {
	Path   string
	Reason string
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("refusing %s: %s", e.Path, e.Reason)
}

// Canonical returns the absolute path of a folder with all symbolic links
// resolved: the form that bindings are kept in.
func Canonical(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the folder: %w", err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("find the folder: %w", err)
	}
	return real, nil
}

// Find returns the manifest that holds for dir: the first apiauth.yaml on the
// way up from dir, up to and including home, the folder that holds .git, or the
// last folder of dir's file system, whichever comes first. The walk goes along
// the canonical path, and so does the path returned. home may be empty.
//
// A manifest that must not be believed (see LoadManifest) is an
// *UntrustedError: it is not passed over in favour of one further up.
func Find(dir, home string) (path string, ok bool, err error) {
	at, err := Canonical(dir)
	if err != nil {
		return "", false, err
	}
	if home != "" {
		if real, err := filepath.EvalSymlinks(home); err == nil {
			home = real
		}
		home = filepath.Clean(home)
	}
	device, err := deviceOf(at)
	if err != nil {
		return "", false, fmt.Errorf("find the folder: %w", err)
	}
	for {
		path := filepath.Join(at, ManifestName)
		switch st, err := os.Lstat(path); {
		case err == nil:
			if err := trusted(path, st); err != nil {
				return "", false, err
			}
			return path, true, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", false, manifestError(path, err)
		}
		if at == home {
			return "", false, nil
		}
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return "", false, nil
		}
		parent := filepath.Dir(at)
		if parent == at {
			return "", false, nil
		}
		if d, err := deviceOf(parent); err != nil || d != device {
			return "", false, nil //nolint:nilerr // a parent that cannot be read is a boundary too
		}
		at = parent
	}
}

// trusted says whether a manifest may be believed, by what the file system says
// about the file itself.
func trusted(path string, st fs.FileInfo) error {
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		return &UntrustedError{path, "it is a symbolic link; put the file itself there"}
	case !st.Mode().IsRegular():
		return &UntrustedError{path, "it is not a regular file"}
	case !ownerTrusted(st, true):
		return &UntrustedError{path, "it belongs to another user"}
	case worldWritable(st):
		return &UntrustedError{path, "everybody may write it; take that away with chmod o-w"}
	}
	return nil
}

func manifestError(path string, err error) error {
	if isSymlinkError(err) {
		return &UntrustedError{path, "it is a symbolic link; put the file itself there"}
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	return fmt.Errorf("read the manifest %s: %w", path, err)
}
