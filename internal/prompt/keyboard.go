package prompt

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Bracketed paste: a terminal that knows it marks where a paste begins and ends,
// so that a line break inside is not taken for the Enter key.
const (
	pasteOn    = "\x1b[?2004h"
	pasteOff   = "\x1b[?2004l"
	pasteBegin = "200~"
	pasteEnd   = "201~"
)

// escapeWait is how long the rest of an escape sequence may take: a network may
// divide one. After it, ESC was the Escape key.
const escapeWait = 50 * time.Millisecond

// keyboard is a terminal in raw mode.
type keyboard struct {
	in       *input
	dec      decoder
	buf      []byte
	restore  func()
	terminal bool
}

// openKeyboard switches the terminal in to raw mode and asks for bracketed paste
// on out. fresh drops what was typed before. The end of ctx ends a read.
func openKeyboard(ctx context.Context, in *os.File, out io.Writer, fresh bool) (*keyboard, error) {
	if in == nil {
		return nil, ErrEnded
	}
	kb := &keyboard{buf: make([]byte, 4096), restore: func() {}}
	fd := int(in.Fd()) //nolint:gosec // a descriptor fits
	kb.terminal = term.IsTerminal(fd)
	if kb.terminal {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return nil, fmt.Errorf("read from the terminal: %w", err)
		}
		keepOutput(fd)
		if fresh {
			dropInput(fd)
		}
		plain := understandEscapes(out)
		_, _ = io.WriteString(out, pasteOn)
		kb.restore = func() {
			_, _ = io.WriteString(out, pasteOff)
			plain()
			dropInput(fd)
			_ = term.Restore(fd, old)
		}
	}
	src, err := newInput(ctx, in)
	if err != nil {
		kb.restore()
		return nil, fmt.Errorf("read from the terminal: %w", err)
	}
	kb.in = src
	return kb, nil
}

// close makes the terminal what it was.
func (kb *keyboard) close() {
	kb.in.close()
	clear(kb.buf)
	kb.restore()
}

// next waits for keys. It returns none when the size of the terminal has changed.
// Keys may come along with the error that ends the input: io.EOF, the context's.
func (kb *keyboard) next(ctx context.Context) ([]key, error) {
	var wait time.Duration
	if kb.dec.pending() {
		wait = escapeWait
	}
	n, err := kb.in.read(ctx, kb.buf, wait)
	keys := kb.dec.feed(kb.buf[:n], nil)
	clear(kb.buf[:n])
	if n == 0 && wait > 0 || err != nil {
		keys = kb.dec.flush(keys)
	}
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return keys, err
}
