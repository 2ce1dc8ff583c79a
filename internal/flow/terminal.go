package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// Bracketed paste: a terminal that knows it marks where a paste begins and ends,
// so that a line break inside is not taken for the Enter key.
const (
	pasteOn    = "\x1b[?2004h"
	pasteOff   = "\x1b[?2004l"
	pasteBegin = "[200~"
	pasteEnd   = "[201~"
)

// ReadLineRaw reads one line from the terminal in without echo and without the
// limit of 4,095 bytes that a terminal has for lines it edits itself. out, which
// may be nil, shows how many characters have come. Backspace and Ctrl-U work;
// line breaks inside a bracketed paste are dropped, and one at its end counts as
// Enter. The terminal is restored before ReadLineRaw returns, which it does when
// ctx ends, too.
//
// Errors: ErrInterrupted for Ctrl-C, io.EOF for Ctrl-D or the end of input,
// ErrTooLong for more than 64 KiB, the context's error.
func ReadLineRaw(ctx context.Context, in *os.File, out io.Writer) (string, error) {
	if out == nil {
		out = io.Discard
	}
	fd := int(in.Fd()) //nolint:gosec // a descriptor fits
	if term.IsTerminal(fd) {
		old, err := term.MakeRaw(fd)
		if err != nil {
			return "", fmt.Errorf("read from the terminal: %w", err)
		}
		defer func() {
			// More lines than one may have been pasted; they are not for the
			// shell that reads the terminal next.
			dropInput(fd)
			_ = term.Restore(fd, old)
		}()
		keepOutput(fd)
		_, _ = io.WriteString(out, pasteOn)
		defer func() { _, _ = io.WriteString(out, pasteOff) }()
	}
	src, err := newInput(ctx, in)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	defer src.close()

	var e lineEditor
	shown := 0
	buf := make([]byte, 4096)
	for {
		n, err := src.read(ctx, buf)
		done, stop := e.feed(buf[:n])
		clear(buf[:n])
		if count := utf8.RuneCount(e.line); count != shown {
			shown = count
			_, _ = fmt.Fprintf(out, "\r(%d characters received) ", count)
		}
		if done || stop != nil || err != nil {
			if shown > 0 {
				_, _ = io.WriteString(out, "\n")
			}
		}
		switch {
		case stop != nil:
			return "", stop
		case done, errors.Is(err, io.EOF) && (len(e.line) > 0 || e.tooLong):
			if e.tooLong {
				return "", ErrTooLong
			}
			return string(e.line), nil
		case err != nil:
			return "", err
		}
	}
}

// lineEditor turns the bytes that a raw terminal sends into one line.
type lineEditor struct {
	line    []byte
	tooLong bool
	pasting bool
	broken  bool   // the paste so far ends with a line break
	escape  []byte // of an escape sequence that has begun, without ESC
	inEsc   bool
}

// feed takes bytes up to the end of the line; what follows it is dropped, since
// it belongs to nothing that was asked for.
func (e *lineEditor) feed(b []byte) (done bool, err error) {
	for _, c := range b {
		if e.inEsc && len(e.escape) == 0 && c < 0x20 {
			e.inEsc = false // the Escape key alone, and now another one
		}
		if e.inEsc && c != 0x03 {
			if e.sequence(c) {
				return true, nil
			}
			continue
		}
		switch c {
		case 0x1b:
			e.inEsc, e.escape = true, e.escape[:0]
		case '\r', '\n':
			if !e.pasting {
				return true, nil
			}
			e.broken = true
		case 0x03:
			return false, ErrInterrupted
		case 0x04:
			if len(e.line) == 0 && !e.pasting {
				return false, io.EOF
			}
		case 0x7f, 0x08:
			if len(e.line) > 0 {
				_, n := utf8.DecodeLastRune(e.line)
				e.line = e.line[:len(e.line)-n]
			}
		case 0x15:
			e.line, e.tooLong = e.line[:0], false
		default:
			e.broken = false
			switch {
			case c < 0x20 && c != '\t':
			case len(e.line) >= maxPaste:
				e.tooLong = true
			default:
				e.line = append(e.line, c)
			}
		}
	}
	return false, nil
}

// sequence takes one byte of an escape sequence and reports whether it ended the
// line: a paste that ends with a line break does.
func (e *lineEditor) sequence(c byte) bool {
	if c == 0x1b {
		e.escape = e.escape[:0]
		return false
	}
	e.escape = append(e.escape, c)
	if len(e.escape) == 1 && (c == '[' || c == 'O') {
		return false // CSI or SS3: more follows
	}
	if e.escape[0] == '[' && (c < 0x40 || c > 0x7e) && len(e.escape) < 32 {
		return false
	}
	e.inEsc = false
	switch {
	case bytes.Equal(e.escape, []byte(pasteBegin)):
		e.pasting, e.broken = true, false
	case bytes.Equal(e.escape, []byte(pasteEnd)):
		e.pasting = false
		return e.broken && (len(e.line) > 0 || e.tooLong)
	}
	return false
}
