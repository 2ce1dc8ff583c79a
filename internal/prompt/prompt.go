// Package prompt puts questions to a person at a terminal: yes or no, one line,
// one hidden line, one of several, some of several.
//
// The rules of its output: it draws on one writer (stderr), below what stands
// there, without the alternate screen; the title is always in sight; after the
// answer one line remains, which never holds what was typed hidden. Texts may
// come from strangers: control characters, escape sequences and bidirectional
// controls in them do not get out. What was typed before a question was on the
// screen, and what comes behind its answer, is dropped: nobody answers a
// question that they have not seen, and a paste does not end up in the shell.
package prompt

import (
	"context"
	"errors"
	"io"
	"os"
)

var (
	// ErrInterrupted: the person pressed Ctrl-C.
	ErrInterrupted = errors.New("interrupted at the terminal")
	// ErrEnded: the person pressed Ctrl-D where nothing was typed, or the terminal
	// is gone.
	ErrEnded = errors.New("the terminal's input ended before an answer came")
	// ErrTooLong: a line has more than 64 KiB.
	ErrTooLong = errors.New("the line is longer than 64 KiB")
)

// Terminal is where questions are put. Its methods return ErrInterrupted,
// ErrEnded, the context's error when that ends first, and errors of the system;
// in every case the terminal is as before.
type Terminal struct {
	// In gives the keys. It is switched to raw mode while a question is asked;
	// what is no terminal is read as it is.
	In *os.File
	// Out shows the question.
	Out io.Writer
	// Size is the size of the terminal in cells; nil asks the system. 80 by 24 is
	// taken for a size that is not known.
	Size func() (width, height int)
	// Plain does without colours.
	Plain bool
}

// Option is one thing to choose.
type Option struct {
	Value    string // what is returned
	Label    string // what is shown
	Detail   string // shown below the list while the option is the current one
	Selected bool   // chosen from the start
}

// Confirm puts a yes-or-no question. preset is the answer that Enter alone gives.
func (t Terminal) Confirm(ctx context.Context, question string, preset bool) (bool, error) {
	c := confirm{question: clean(question), yes: preset}
	err := t.ask(ctx, &c)
	return c.yes && err == nil, err
}

// question is what the loop of ask asks: it shows itself, takes keys, and says
// what remains of it.
type question interface {
	// lines is what is shown on a terminal of this size, and the column of the
	// cursor on the last line, negative for none.
	lines(width, height int) (shown []line, cursor int)
	// press takes one key and reports whether the question is answered.
	press(k key) (answered bool, err error)
	// remains is the line that stays after the answer.
	remains() string
	// title is the line that stays when there was no answer.
	title() string
}

func (t Terminal) ask(ctx context.Context, q question) (err error) {
	kb, err := openKeyboard(ctx, t.In, t.Out, true)
	if err != nil {
		return err
	}
	defer kb.close()
	s := screen{out: t.Out, size: t.size, plain: t.Plain}
	answered := false
	defer func() {
		if answered {
			s.finish(q.remains())
		} else {
			s.finish(q.title())
		}
	}()
	for {
		s.draw(q.lines)
		keys, err := kb.next(ctx)
		for _, k := range keys {
			if k.code == keyInterrupt {
				err = ErrInterrupted
			} else if answered, err = q.press(k); err == nil && !answered {
				continue
			}
			clear(keys)
			return err
		}
		clear(keys)
		if errors.Is(err, io.EOF) {
			err = ErrEnded
		}
		if err != nil {
			return err
		}
	}
}

// confirm is the question of Confirm.
type confirm struct {
	question string
	yes      bool
}

func (c *confirm) lines(width, height int) ([]line, int) {
	shown := wrap(c.question, width, max(height-1, 1), styleTitle)
	buttons := "   Yes   [No]"
	if c.yes {
		buttons = "  [Yes]   No"
	}
	shown = append(shown, line{buttons, styleCurrent})
	if len(shown) < height {
		shown = append(shown, line{cut("y/n, arrows switch, enter answers", width), styleDim})
	}
	return shown, -1
}

func (c *confirm) press(k key) (bool, error) {
	if k.pasted {
		return false, nil
	}
	switch k.code {
	case keyEnter:
		return true, nil
	case keyEOT:
		return false, ErrEnded
	case keyLeft, keyRight, keyUp, keyDown, keyTab, keyBacktab:
		c.yes = !c.yes
	case keyRune:
		switch k.r {
		case 'y', 'Y':
			c.yes = true
			return true, nil
		case 'n', 'N':
			c.yes = false
			return true, nil
		case 'h', 'j', 'k', 'l':
			c.yes = !c.yes
		}
	}
	return false, nil
}

func (c *confirm) title() string { return c.question }

func (c *confirm) remains() string {
	if c.yes {
		return answer(c.question, "yes")
	}
	return answer(c.question, "no")
}
