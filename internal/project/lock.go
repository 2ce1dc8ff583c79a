package project

import (
	"errors"
	"time"
)

// errLockBusy says that others held a lock for too long.
var errLockBusy = errors.New("another process holds it and does not let go")

// tryUntil calls try until it succeeds, fails, or wait has passed.
func tryUntil(wait time.Duration, try func() (bool, error)) error {
	for deadline := time.Now().Add(wait); ; {
		if done, err := try(); done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return errLockBusy
		}
		time.Sleep(5 * time.Millisecond)
	}
}
