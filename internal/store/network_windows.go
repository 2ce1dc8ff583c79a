package store

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// fileSystem tells a share of another machine from a disk of this one.
func fileSystem(dir string) (kind string, remote bool) {
	volume := filepath.VolumeName(dir)
	if strings.HasPrefix(volume, `\\`) {
		return "share", true
	}
	root, err := windows.UTF16PtrFromString(volume + `\`)
	if err != nil {
		return "", false
	}
	return "share", windows.GetDriveType(root) == windows.DRIVE_REMOTE
}
