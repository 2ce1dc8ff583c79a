//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package prompt

import (
	"context"
	"os"
	"time"
)

// keepOutput has nothing to do: raw mode leaves the output alone here.
func keepOutput(int) {}

// input reads a file so that the end of a context interrupts it. A read that is
// under way then cannot be taken back: it waits for the next key and drops it.
type input struct {
	f       *os.File
	pending chan chunk // of the read that is under way, or nil
}

type chunk struct {
	data []byte
	err  error
}

func newInput(_ context.Context, f *os.File) (*input, error) { return &input{f: f}, nil }

func (*input) close() {}

// read waits for input, at most for the given time if that is not 0; when it is
// over, read returns 0 and no error.
func (r *input) read(ctx context.Context, buf []byte, wait time.Duration) (int, error) {
	if r.pending == nil {
		r.pending = make(chan chunk, 1)
		go func(f *os.File, got chan<- chunk, own []byte) {
			n, err := f.Read(own)
			got <- chunk{own[:n], err}
		}(r.f, r.pending, make([]byte, len(buf)))
	}
	var over <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case c := <-r.pending:
		r.pending = nil
		n := copy(buf, c.data)
		clear(c.data)
		return n, c.err
	case <-over:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
