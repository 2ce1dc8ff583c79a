//go:build !windows && !linux && !darwin && !freebsd

package project

import (
	"io/fs"
	"os"
	"syscall"
)

// identityOf returns the identity of the folder at path; this system tells no
// time of birth.
func identityOf(path string) (Identity, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Identity{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() {
		return Identity{}, &fs.PathError{Op: "stat", Path: path, Err: syscall.ENOTDIR}
	}
	return Identity{Device: uint64(sys.Dev), Inode: uint64(sys.Ino)}, nil
}
