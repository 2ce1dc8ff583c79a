package project

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// identityOf returns the identity of the folder at path.
func identityOf(path string) (Identity, error) {
	var x unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_SYNC_AS_STAT, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &x)
	if err == nil {
		id := Identity{Device: unix.Mkdev(x.Dev_major, x.Dev_minor), Inode: x.Ino}
		if x.Mask&unix.STATX_BTIME != 0 {
			id.Born = x.Btime.Sec*1e9 + int64(x.Btime.Nsec)
		}
		return id, folder(path, uint32(x.Mode))
	}
	if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return Identity{}, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	// An old kernel, or a sandbox that filters statx.
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Identity{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return Identity{Device: uint64(st.Dev), Inode: st.Ino}, folder(path, st.Mode) //nolint:unconvert // its type differs between systems
}

func folder(path string, mode uint32) error {
	if mode&unix.S_IFMT != unix.S_IFDIR {
		return &fs.PathError{Op: "stat", Path: path, Err: unix.ENOTDIR}
	}
	return nil
}
