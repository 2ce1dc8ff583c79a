//go:build !windows

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// ownerTrusted says whether a file belongs to the user or to root.
func ownerTrusted(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && (sys.Uid == 0 || int64(sys.Uid) == int64(os.Geteuid()))
}

func worldWritable(st fs.FileInfo) bool { return st.Mode().Perm()&0o002 != 0 }
