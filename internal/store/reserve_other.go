//go:build !linux

package store

import "os"

// reserve makes sure that size bytes can be written to f whatever happens to
// the disk.
func reserve(f *os.File, size int64) error { return writeZeros(f, size) }
