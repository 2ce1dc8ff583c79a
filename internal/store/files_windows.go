package store

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

const (
	noFollow        = 0
	hasModes        = false
	canRecordHolder = false // the lock is mandatory: nobody could read it
)

// checkOwner relies on the access control list that files below the user's own
// profile inherit.
func checkOwner(string, fs.FileInfo) error { return nil }

// renameFile replaces to. A scanner or an indexer that has the file open makes
// that fail for some milliseconds.
func renameFile(from, to string) error {
	var err error
	for wait := time.Millisecond; wait < time.Second; wait *= 2 {
		err = os.Rename(from, to)
		if err == nil || (!errors.Is(err, windows.ERROR_SHARING_VIOLATION) && !errors.Is(err, windows.ERROR_ACCESS_DENIED)) {
			return err
		}
		time.Sleep(wait)
	}
	return err
}

// syncDir does nothing: Windows makes a rename durable with the file.
func syncDir(string) error { return nil }

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}
