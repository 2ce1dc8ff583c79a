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

// lockTable makes the goroutines of one process that want the same lock share
// one wait for the operating system. The wait is a blocking call and not a
// poll, so that of a hundred waiting processes each goes on as soon as its turn
// comes; but such a call cannot be given up, it costs a thread, and a process
// that runs for days must not pile them up behind a holder that hangs. The zero
// value is ready to use.
type lockTable struct {
	mu     sync.Mutex
	queues map[string]*lockQueue
}

// lockQueue is the wait for one lock. The goroutine that serves it hands the
// lock to one waiter after the other, and ends when nobody is left.
type lockQueue struct {
	waiting int               // guarded by the table's mutex
	granted chan *flock.Flock // never holds more than one: who holds it has the lock
	broken  chan struct{}     // closed when the lock cannot be had at all
	err     error             // why; set before broken is closed
}

// take waits for the lock until wait is over (*heldError), or ctx ends. A wait
// of zero or less tries once.
func (t *lockTable) take(ctx context.Context, path string, wait time.Duration) (*fileLock, error) {
	if err := checkLockFile(path); err != nil {
		return nil, err
	}
	l := newLock(path)
	ok, err := l.TryLock()
	if err != nil {
		return nil, writeError("lock", err)
	}
	if ok {
		return held(l, path), nil
	}
	if wait <= 0 {
		return nil, &heldError{pid: holder(path)}
	}

	q := t.join(path)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case l := <-q.granted:
		return held(l, path), nil
	case <-q.broken:
		return nil, writeError("lock", q.err)
	case <-timer.C:
		return t.leave(q, path, &heldError{pid: holder(path)})
	case <-ctx.Done():
		return t.leave(q, path, fmt.Errorf("wait for the lock: %w", context.Cause(ctx)))
	}
}

// join adds a waiter to the queue of a path, which is made when there is none.
func (t *lockTable) join(path string) *lockQueue {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[path]
	if q == nil {
		q = &lockQueue{granted: make(chan *flock.Flock, 1), broken: make(chan struct{})}
		if t.queues == nil {
			t.queues = map[string]*lockQueue{}
		}
		t.queues[path] = q
		go t.serve(q, path)
	}
	q.waiting++
	return q
}

// leave ends a wait in vain, unless the lock came at the last moment.
func (t *lockTable) leave(q *lockQueue, path string, reason error) (*fileLock, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case l := <-q.granted:
		return held(l, path), nil
	default:
		q.waiting--
		return nil, reason
	}
}

// serve takes the lock for the waiters of a queue.
func (t *lockTable) serve(q *lockQueue, path string) {
	for {
		l := newLock(path)
		err := l.Lock()
		t.mu.Lock()
		switch {
		case err != nil:
			q.err = err
			close(q.broken)
		case q.waiting > 0:
			q.waiting--
			q.granted <- l
		default:
			_ = l.Close()
		}
		if err != nil || q.waiting == 0 {
			delete(t.queues, path)
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
	}
}

func newLock(path string) *flock.Flock {
	return flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR|noFollow), flock.SetPermissions(0o600))
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
