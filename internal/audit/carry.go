package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Carry moves the files of a log to another path on the same disk, where another
// key is in use from now on: their lines can be read there, and count as those of
// a former key. Lines that are there already are newer, and stay in front. What
// exceeds Files is dropped. Cut off anywhere, it is completed by a second call.
func Carry(from, to string) error {
	source, target := Log{Path: from}, Log{Path: to}
	ahead := 0
	for ahead < Files && Exists(target.name(ahead)) {
		ahead++
	}
	for n := Files - 1; n >= 0; n-- { // the file in use last: it says that there is a log
		if n == 0 && ahead == 0 {
			if err := carry(from+stateSuffix, to+stateSuffix); err != nil {
				return err
			}
		}
		slot := n + ahead
		for slot < Files && Exists(target.name(slot)) {
			slot++
		}
		if slot < Files {
			if err := carry(source.name(n), target.name(slot)); err != nil {
				return err
			}
		}
		if err := drop(source.name(n)); err != nil {
			return err
		}
	}
	return errors.Join(drop(from+stateSuffix), drop(from+markSuffix))
}

// Follow moves a log, which goes on under the same key, to the new name of its
// connection. Lines of a former connection of that name come behind it. Cut off
// anywhere, it is completed by a second call.
func Follow(from, to string) error {
	if !Exists(from) {
		return nil
	}
	if Exists(to) {
		if err := Carry(to, from); err != nil {
			return err
		}
	}
	return Carry(from, to)
}

func carry(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("carry the audit log over: %w", err)
	}
	return nil
}

func drop(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("carry the audit log over: %w", err)
	}
	return nil
}
