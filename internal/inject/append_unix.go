//go:build unix

package inject

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK // a pipe in the place of a file must not hang us

func checkOwner(path string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner cannot be told", path)
	}
	if us := os.Geteuid(); us != 0 && int(st.Uid) != us {
		return fmt.Errorf("%s belongs to user %d, not to user %d", path, st.Uid, us)
	}
	return nil
}
