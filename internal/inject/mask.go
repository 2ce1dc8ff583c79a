package inject

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apiauth/apiauth/internal/leak"
)

const (
	// idle is how long the first characters of what may be a secret are held
	// back when nothing follows them.
	idle = 20 * time.Millisecond
	// quiet is how long what a child has left running may be silent before its
	// output is no longer waited for.
	quiet = 100 * time.Millisecond
	// remainder caps in bytes what is read of that.
	remainder = 1 << 20
	// pipeSize is how large a pipe is made, in bytes, where that can be chosen.
	pipeSize = 1 << 20
)

// Masked is Run for a child whose standard output and standard error pass
// through a filter that puts leak.Mask in the place of every secret of set, in
// real time. Where they lead to one and the same file, so does the child's: their
// order stays.
//
// When c.Stdout is a terminal, the child gets a pseudo-terminal of its own, with
// the size, the modes and the keyboard of ours, so that it does not notice
// (Windows: a pipe). Otherwise it gets pipes.
//
// When the child has ended, what it wrote is masked to the end. What it has left
// running can write on as long as it is not silent for a tenth of a second.
func Masked(ctx context.Context, c Child, set *leak.Set) (int, error) {
	defer survivePipes()()
	var outs []*outlet
	t, err := openTerminal(&c)
	if err != nil {
		return 0, err
	}
	if t != nil {
		defer t.close()
		outs = append(outs, &outlet{from: t.master, end: t.slave, mask: set.NewMasker(t.screen)})
	}
	piped := func(to io.Writer) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		widen(w)
		outs = append(outs, &outlet{from: r, end: w, mask: set.NewMasker(to)})
		return w, nil
	}
	together := sameFile(c.Stdout, c.Stderr)
	if t == nil || c.Stdout != io.Writer(t.slave) {
		if c.Stdout, err = piped(c.Stdout); err != nil {
			return 0, err
		}
	}
	switch {
	case t != nil && c.Stderr == io.Writer(t.slave):
	case together:
		c.Stderr = c.Stdout
	default:
		if c.Stderr, err = piped(c.Stderr); err != nil {
			return 0, err
		}
	}
	var copies sync.WaitGroup
	started := c.Started
	c.Started = func() {
		if t != nil {
			t.start() // before anything is written to it
		}
		for _, o := range outs {
			_ = o.end.Close()
			copies.Go(o.copy)
		}
		if started != nil {
			started()
		}
	}
	c.terminal = t
	code, err := Run(ctx, c)
	for _, o := range outs {
		_ = o.end.Close() // it did not start
		o.finish()
	}
	copies.Wait()
	return code, err
}

// sameFile says that two streams lead to the same open file.
func sameFile(a, b io.Writer) bool {
	fa, ok := a.(*os.File)
	fb, too := b.(*os.File)
	if !ok || !too {
		return false
	}
	sa, err := fa.Stat()
	if err != nil {
		return false
	}
	sb, err := fb.Stat()
	return err == nil && os.SameFile(sa, sb)
}

// outlet is one way out of the child.
type outlet struct {
	from, end *os.File // ours and the child's
	mask      *leak.Masker
	ended     atomic.Bool // the child has ended
}

// finish tells copy that the child has ended.
func (o *outlet) finish() {
	o.ended.Store(true)
	_ = o.from.SetReadDeadline(time.Now().Add(quiet))
}

// copy masks what comes until there is no more, or until nobody wants it: then
// the child learns of that as it would without us.
func (o *outlet) copy() {
	defer o.from.Close()
	buf := make([]byte, 128<<10)
	late := 0
	for {
		o.wait()
		n, err := o.from.Read(buf)
		if n > 0 {
			if _, werr := o.mask.Write(buf[:n]); werr != nil {
				return
			}
		}
		if o.ended.Load() {
			if late += n; late > remainder {
				break
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !o.ended.Load() {
			err = o.mask.Idle()
		}
		if err != nil {
			break // the end, which a pseudo-terminal calls an error
		}
	}
	_ = o.mask.Close()
}

// wait sets how long the next read may take.
func (o *outlet) wait() {
	var until time.Time
	switch {
	case o.ended.Load():
		until = time.Now().Add(quiet)
	case o.mask.Holding():
		until = time.Now().Add(idle)
	}
	if err := o.from.SetReadDeadline(until); err != nil && o.mask.Holding() {
		_ = o.mask.Idle() // no such thing here: better shown at once than never
	}
	if until.IsZero() && o.ended.Load() {
		o.finish() // it came in between
	}
}
