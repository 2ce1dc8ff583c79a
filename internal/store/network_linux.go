package store

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystem asks the kernel which file system holds dir, see statfs(2). Nothing
// is known where it does not answer.
func fileSystem(dir string) (kind string, remote bool) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(dir, &st)
		if err == nil {
			break
		}
		if err != unix.EINTR { //nolint:errorlint // a system call returns it as it is
			return "", false
		}
	}
	switch uint32(st.Type) { // some architectures sign it
	case unix.NFS_SUPER_MAGIC:
		return "nfs", true
	case unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		return "smb", true
	case unix.V9FS_MAGIC:
		return "9p", true
	case unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC:
		return "afs", true
	case unix.CEPH_SUPER_MAGIC:
		return "ceph", true
	case unix.CODA_SUPER_MAGIC:
		return "coda", true
	case unix.NCP_SUPER_MAGIC:
		return "ncp", true
	case unix.OCFS2_SUPER_MAGIC:
		return "ocfs2", true
	case 0x0bd00bd0: // lustre/include/uapi/linux/lustre/lustre_user.h, LL_SUPER_MAGIC
		return "lustre", true
	case 0x786f4256: // fs/vboxsf/vfsmod.h, VBOXSF_SUPER_MAGIC
		return "vboxsf", true
	case unix.FUSE_SUPER_MAGIC:
		kind = fuseKind(dir)
		return kind, !slices.Contains(localFuse(), kind)
	}
	return "", false
}

// localFuse lists what is mounted through FUSE and keeps its files on this
// machine.
func localFuse() []string {
	return []string{
		"fuseblk", "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.securefs",
	}
}

// fuseKind returns the type of the mount that holds dir, such as fuse.sshfs, from
// the fields that proc_pid_mountinfo(5) describes; "fuse" when it is not found.
func fuseKind(dir string) string {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "fuse"
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "fuse"
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	for line := range bytes.Lines(mounts) {
		left, right, found := strings.Cut(string(line), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if found && len(before) > 2 && len(after) > 0 && before[2] == device {
			return after[0]
		}
	}
	return "fuse"
}
