//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package flow

import (
	"context"
	"os"
)

// keepOutput has nothing to do: raw mode leaves the output alone here.
func keepOutput(int) {}

// dropInput has nothing to do: a console gives a paste to nobody else.
func dropInput(int) {}

// input reads a file so that the end of a context interrupts it. A read that is
// under way then cannot be taken back: it waits for the next key and drops it.
type input struct{ f *os.File }

type chunk struct {
	data []byte
	err  error
}

func newInput(_ context.Context, f *os.File) (*input, error) { return &input{f}, nil }

func (*input) close() {}

func (r *input) read(ctx context.Context, buf []byte) (int, error) {
	got := make(chan chunk, 1)
	own := make([]byte, len(buf))
	go func() {
		n, err := r.f.Read(own)
		got <- chunk{own[:n], err}
	}()
	select {
	case c := <-got:
		n := copy(buf, c.data)
		clear(c.data)
		return n, c.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
