package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/apiauth/apiauth/internal/connection"
)

// fileLock is an operating system lock on a file that is never removed or
// renamed.
type fileLock struct {
	once  sync.Once
	flock *flock.Flock
}

// heldError says that somebody else has the lock.
type heldError struct{ pid int }

func (e *heldError) Error() string {
	if e.pid > 0 {
		return fmt.Sprintf("process %d holds the lock", e.pid)
	}
	return "another process holds the lock"
}

// takeLock waits for the lock until wait is over (*heldError), or ctx ends. The
// wait is one blocking call and not a poll: of a hundred waiting processes each
// goes on as soon as its turn comes.
func takeLock(ctx context.Context, path string, wait time.Duration) (*fileLock, error) {
	if err := checkLockFile(path); err != nil {
		return nil, err
	}
	l := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|noFollow), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, writeError("lock", err)
	}
	if ok {
		return held(l, path), nil
	}
	if wait <= 0 {
		_ = l.Close()
		return nil, &heldError{pid: holder(path)}
	}
	_ = l.Close()

	got := make(chan error, 1)
	waiter := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|noFollow), flock.SetPermissions(0o600))
	var mu sync.Mutex
	abandoned := false
	go func() {
		err := waiter.Lock()
		mu.Lock()
		defer mu.Unlock()
		if abandoned {
			_ = waiter.Close()
			return
		}
		got <- err
	}()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	giveUp := func(reason error) (*fileLock, error) {
		mu.Lock()
		defer mu.Unlock()
		select {
		case err := <-got:
			if err == nil {
				return held(waiter, path), nil
			}
		default:
		}
		abandoned = true
		return nil, reason
	}
	select {
	case err := <-got:
		if err != nil {
			return nil, writeError("lock", err)
		}
		return held(waiter, path), nil
	case <-timer.C:
		return giveUp(&heldError{pid: holder(path)})
	case <-ctx.Done():
		return giveUp(fmt.Errorf("wait for the lock: %w", context.Cause(ctx)))
	}
}

// held writes down who holds the lock, for the message of those who wait. An
// unnamed holder is no reason to fail.
func held(l *flock.Flock, path string) *fileLock {
	if canRecordHolder {
		if f, err := os.OpenFile(path, os.O_WRONLY|noFollow, 0); err == nil {
			_, _ = fmt.Fprintf(f, "%-10d\n", os.Getpid())
			_ = f.Close()
		}
	}
	return &fileLock{flock: l}
}

func holder(path string) int {
	doc, err := os.ReadFile(path)
	if err != nil || len(doc) > 64 {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(doc)))
	if err != nil {
		return 0
	}
	return pid
}

func (l *fileLock) release() {
	l.once.Do(func() { _ = l.flock.Close() })
}

func checkLockFile(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return readError("lock", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", connection.ErrStoreRead, path)
	}
	return nil
}
