//go:build !windows

package isolate

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// ErrFolderAsStream says that a folder is open as standard input, output or error.
var ErrFolderAsStream = errors.New("a standard stream is a folder, through which a command gets out")

// KeepDescriptors lets no descriptor that the caller of this process handed down
// reach a command started from now on, but pipes (make's jobserver, process
// substitution) and the three standard streams: through an open folder a command
// walks out of every sandbox, and an open socket leads past the proxy. A
// standard stream that is a folder is ErrFolderAsStream.
func KeepDescriptors() error {
	list, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, entry := range list {
		fd, err := strconv.Atoi(entry.Name())
		var st syscall.Stat_t
		if err != nil || syscall.Fstat(fd, &st) != nil {
			continue // it was the list's own
		}
		switch kind := st.Mode & syscall.S_IFMT; {
		case fd <= 2 && kind == syscall.S_IFDIR:
			return ErrFolderAsStream
		case fd > 2 && kind != syscall.S_IFIFO:
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
