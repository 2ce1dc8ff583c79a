package flow

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/apiauth/apiauth/internal/prompt"
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
	line, err := prompt.ReadHidden(ctx, in, out)
	switch {
	case errors.Is(err, prompt.ErrInterrupted):
		return "", ErrInterrupted
	case errors.Is(err, prompt.ErrEnded):
		return "", io.EOF
	case errors.Is(err, prompt.ErrTooLong):
		return "", ErrTooLong
	}
	return line, err
}
