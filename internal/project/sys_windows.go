package project

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

// errSymlink stands for what O_NOFOLLOW answers elsewhere.
var errSymlink = errors.New("it is a symbolic link")

// openNoFollow opens a file for reading and refuses a symbolic link in its last
// place (see isSymlinkError).
func openNoFollow(path string) (*os.File, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errSymlink}
	}
	return os.Open(path)
}

func isSymlinkError(err error) bool { return errors.Is(err, errSymlink) }

// Owner and permissions are the access list's, which a user's profile keeps to
// the user; Go's mode bits say nothing about it.
func ownerTrusted(fs.FileInfo, bool) bool { return true }

func worldWritable(fs.FileInfo) bool { return false }

func writableByOthers(fs.FileInfo) bool { return false }

func openToOthers(fs.FileInfo) bool { return false }

func information(dir string) (windows.ByHandleFileInformation, error) {
	var info windows.ByHandleFileInformation
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return info, err
	}
	h, err := windows.CreateFile(name, 0, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return info, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer func() { _ = windows.CloseHandle(h) }()
	err = windows.GetFileInformationByHandle(h, &info)
	return info, err
}

func deviceOf(dir string) (uint64, error) {
	info, err := information(dir)
	return uint64(info.VolumeSerialNumber), err
}

// identityOf returns the identity of the folder at path: the volume's serial
// number, the file index (whose high part counts uses on NTFS) and the time of
// creation.
func identityOf(path string) (Identity, error) {
	info, err := information(path)
	if err != nil {
		return Identity{}, err
	}
	if info.FileAttributes&windows.FILE_ATTRIBUTE_DIRECTORY == 0 {
		return Identity{}, &fs.PathError{Op: "stat", Path: path, Err: windows.ERROR_DIRECTORY}
	}
	return Identity{
		Device: uint64(info.VolumeSerialNumber),
		Inode:  uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow),
		Born:   info.CreationTime.Nanoseconds(),
	}, nil
}

// lockFile takes an exclusive lock on the file at path, which it makes, and
// waits for others no longer than wait. The lock ends with the process.
func lockFile(path string, wait time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = tryUntil(wait, func() (bool, error) {
		err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
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

// syncDir does nothing: Windows has no sync for a folder.
func syncDir(string) error { return nil }
