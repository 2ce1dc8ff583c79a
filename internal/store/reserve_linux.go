package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve makes sure that size bytes can be written to f whatever happens to
// the disk.
func reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return writeZeros(f, size)
		}
		return err
	}
}
