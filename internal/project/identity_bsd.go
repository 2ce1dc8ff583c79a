//go:build darwin || freebsd

package project

import (
	"io/fs"
	"os"
	"syscall"
)

// identityOf returns the identity of the folder at path.
func identityOf(path string) (Identity, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Identity{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() {
		return Identity{}, &fs.PathError{Op: "stat", Path: path, Err: syscall.ENOTDIR}
	}
	id := Identity{Device: uint64(sys.Dev), Inode: uint64(sys.Ino)} //nolint:gosec,unconvert // types differ between systems; only compared
	if born := sys.Birthtimespec; born.Sec > 0 {
		id.Born = born.Nano()
	}
	return id, nil
}
