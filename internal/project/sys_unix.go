//go:build !windows

package project

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openNoFollow opens a file for reading. A symbolic link in its last place is an
// error (see isSymlinkError), and a named pipe does not block.
func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// isSymlinkError recognises O_NOFOLLOW's refusal: ELOOP, EMLINK on FreeBSD.
func isSymlinkError(err error) bool {
	return errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EMLINK)
}

// ownerTrusted says whether a file belongs to the user, or to root where that
// is good enough.
func ownerTrusted(st fs.FileInfo, orRoot bool) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && (int64(sys.Uid) == int64(os.Geteuid()) || orRoot && sys.Uid == 0)
}

func worldWritable(st fs.FileInfo) bool { return st.Mode().Perm()&0o002 != 0 }

func writableByOthers(st fs.FileInfo) bool { return st.Mode().Perm()&0o022 != 0 }

func openToOthers(st fs.FileInfo) bool { return st.Mode().Perm()&0o077 != 0 }

func deviceOf(dir string) (uint64, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return 0, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return uint64(sys.Dev), nil //nolint:unconvert,gosec // its type differs between systems; only compared
}

// lockFile takes an exclusive lock on the file at path, which it makes, and
// waits for others no longer than wait. The lock ends with the process.
func lockFile(path string, wait time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = tryUntil(wait, func() (bool, error) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) //nolint:gosec // a descriptor is small
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		_ = f.Close()
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return func() { _ = f.Close() }, nil
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	// Some file systems cannot sync a folder and say so.
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}
