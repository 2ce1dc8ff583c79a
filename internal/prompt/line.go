package prompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/secret"
)

// maxLine is the longest line that is taken, in bytes.
const maxLine = 64 << 10

// Line asks for one line, which is shown. Line breaks inside a bracketed paste are
// dropped, and one at its end counts as Enter. ErrTooLong: more than 64 KiB.
func (t Terminal) Line(ctx context.Context, title, description string) (string, error) {
	l := openLine{heading: clean(title), description: clean(description)}
	if err := t.ask(ctx, &l); err != nil {
		return "", err
	}
	return string(l.text), nil
}

// Hidden asks for one line that is not shown, only how many characters it has.
// An empty line is the zero Text. ErrTooLong: more than 64 KiB.
func (t Terminal) Hidden(ctx context.Context, title, description string) (secret.Text, error) {
	h := hiddenLine{heading: clean(title), description: clean(description)}
	if err := t.ask(ctx, &h); err != nil {
		return secret.Text{}, err
	}
	return secret.New(string(h.text)), nil
}

// ReadHidden reads one line without a question: nothing is shown but, on out, how
// many characters have come. There is no limit of 4,095 bytes as for lines that
// the terminal edits itself; Backspace and Ctrl-U work, and pastes as in Line.
// Input that is no terminal may end without a line break. What was typed before
// counts: the caller has said already what it waits for.
//
// Errors: ErrInterrupted, ErrEnded, ErrTooLong, the context's.
func ReadHidden(ctx context.Context, in *os.File, out io.Writer) (string, error) {
	kb, err := openKeyboard(ctx, in, out, false)
	if err != nil {
		return "", err
	}
	defer kb.close()
	var h hiddenLine
	shown := 0
	for {
		keys, err := kb.next(ctx)
		answered, stop := h.feed(keys)
		clear(keys)
		if n := h.count(); n != shown {
			shown = n
			_, _ = fmt.Fprintf(out, "\r(%d characters received) ", n)
		}
		if (answered || stop != nil || err != nil) && shown > 0 {
			_, _ = io.WriteString(out, "\n")
		}
		if !answered && stop == nil && errors.Is(err, io.EOF) {
			if kb.terminal || len(h.text) == 0 && !h.tooLong {
				return "", ErrEnded
			}
			answered, err = true, nil
			if h.tooLong {
				stop = ErrTooLong
			}
		}
		switch {
		case stop != nil:
			return "", stop
		case answered:
			return string(h.text), nil
		case err != nil:
			return "", err
		}
	}
}

// hiddenLine is the question of Hidden. It keeps bytes, not characters: a
// passphrase may be in any encoding.
type hiddenLine struct {
	heading, description string

	text    []byte
	tooLong bool
	broken  bool // the paste so far ends with a line break
}

func (h *hiddenLine) count() int { return utf8.RuneCount(h.text) }

// feed takes keys up to the one that ends the line.
func (h *hiddenLine) feed(keys []key) (answered bool, err error) {
	for _, k := range keys {
		if k.code == keyInterrupt {
			return false, ErrInterrupted
		}
		if answered, err = h.press(k); answered || err != nil {
			return answered, err
		}
	}
	return false, nil
}

func (h *hiddenLine) press(k key) (bool, error) {
	if k.pasted && k.code != keyEnter {
		h.broken = false
	}
	switch k.code {
	case keyEnter:
		if !k.pasted {
			return h.answered()
		}
		h.broken = true
	case keyPasteEnd:
		broken := h.broken
		h.broken = false
		if broken && (len(h.text) > 0 || h.tooLong) {
			return h.answered()
		}
	case keyEOT:
		if len(h.text) == 0 {
			return false, ErrEnded
		}
	case keyBackspace:
		if len(h.text) > 0 {
			_, n := utf8.DecodeLastRune(h.text)
			h.text = h.text[:len(h.text)-n]
		}
	case keyKill:
		h.text, h.tooLong = h.text[:0], false
	case keyTab:
		h.add('\t')
	case keyByte:
		h.add(byte(k.r))
	case keyRune:
		var b [utf8.UTFMax]byte
		h.add(b[:utf8.EncodeRune(b[:], k.r)]...)
	}
	return false, nil
}

func (h *hiddenLine) add(b ...byte) {
	if len(h.text)+len(b) > maxLine {
		h.tooLong = true
		return
	}
	h.text = append(h.text, b...)
}

func (h *hiddenLine) answered() (bool, error) {
	if h.tooLong {
		return false, ErrTooLong
	}
	return true, nil
}

func (h *hiddenLine) lines(width, height int) ([]line, int) {
	shown := heading(h.heading, h.description, width, height)
	text := "> "
	if n := h.count(); n > 0 {
		text = fmt.Sprintf("> (%d characters)", n)
	}
	text = cut(text, width)
	return append(shown, line{text: text}), min(cells(text), width)
}

func (h *hiddenLine) title() string { return h.heading }

func (h *hiddenLine) remains() string {
	if len(h.text) == 0 {
		return answer(h.heading, "(empty)")
	}
	return answer(h.heading, "(given)")
}

// heading is a title and what there is room for of its description, with one line
// left below them.
func heading(title, description string, width, height int) []line {
	shown := wrap(title, width, max(height/3, 1), styleTitle)
	if room := height - 1 - len(shown); room > 0 {
		shown = append(shown, wrap(description, width, room, styleDim)...)
	}
	return shown
}

// openLine is the question of Line.
type openLine struct {
	heading, description string

	text    []rune
	at      int // where the next character goes
	size    int // in bytes
	tooLong bool
	broken  bool
}

func (l *openLine) press(k key) (bool, error) {
	if k.pasted && k.code != keyEnter {
		l.broken = false
	}
	switch k.code {
	case keyEnter:
		if !k.pasted {
			return l.answered()
		}
		l.broken = true
	case keyPasteEnd:
		broken := l.broken
		l.broken = false
		if broken && len(l.text) > 0 {
			return l.answered()
		}
	case keyEOT:
		if len(l.text) == 0 {
			return false, ErrEnded
		}
		l.remove(l.at, l.at+1)
	case keyDelete:
		l.remove(l.at, l.at+1)
	case keyBackspace:
		l.remove(l.at-1, l.at)
	case keyKill:
		l.remove(0, l.at)
	case keyKillWord:
		from := l.at
		for from > 0 && l.text[from-1] == ' ' {
			from--
		}
		for from > 0 && l.text[from-1] != ' ' {
			from--
		}
		l.remove(from, l.at)
	case keyLeft:
		l.at = max(l.at-1, 0)
	case keyRight:
		l.at = min(l.at+1, len(l.text))
	case keyHome:
		l.at = 0
	case keyEnd:
		l.at = len(l.text)
	case keyTab:
		if k.pasted {
			l.insert(' ')
		}
	case keyRune:
		if unicode.IsGraphic(k.r) {
			l.insert(k.r)
		}
	}
	return false, nil
}

func (l *openLine) insert(r rune) {
	if l.size+utf8.RuneLen(r) > maxLine {
		l.tooLong = true
		return
	}
	l.size += utf8.RuneLen(r)
	l.text = slices.Insert(l.text, l.at, r)
	l.at++
}

func (l *openLine) remove(from, to int) {
	if from < 0 || to > len(l.text) || from == to {
		return
	}
	for _, r := range l.text[from:to] {
		l.size -= utf8.RuneLen(r)
	}
	l.text = slices.Delete(l.text, from, to)
	l.at, l.tooLong = from, false
}

func (l *openLine) answered() (bool, error) {
	if l.tooLong {
		return false, ErrTooLong
	}
	return true, nil
}

// lines shows the part of the line around the cursor.
func (l *openLine) lines(width, height int) ([]line, int) {
	shown := heading(l.heading, l.description, width, height)
	room := max(width-3, 1) // for "> ", and the cursor behind the end
	from, used := l.at, 0
	for from > 0 && used+cellsOf(l.text[from-1]) <= room {
		from--
		used += cellsOf(l.text[from])
	}
	column := used
	to := l.at
	for to < len(l.text) && used+cellsOf(l.text[to]) <= room {
		used += cellsOf(l.text[to])
		to++
	}
	return append(shown, line{text: "> " + string(l.text[from:to])}), column + 2
}

func (l *openLine) title() string { return l.heading }

func (l *openLine) remains() string {
	text := strings.TrimSpace(clean(string(l.text)))
	if text == "" {
		text = "(empty)"
	}
	return answer(l.heading, text)
}
