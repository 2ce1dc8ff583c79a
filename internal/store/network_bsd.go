//go:build darwin || freebsd

package store

import "golang.org/x/sys/unix"

// fileSystem asks the kernel which file system holds dir, and whether it is
// local, see statfs(2).
func fileSystem(dir string) (kind string, remote bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", false
	}
	return unix.ByteSliceToString(st.Fstypename[:]), uint64(st.Flags)&unix.MNT_LOCAL == 0
}
