package prompt

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// maxText is the largest text that is shown, in bytes.
const maxText = 4 << 10

// line is one line of what is shown, shorter than the terminal is wide.
type line struct {
	text  string
	style style
}

type style uint8

const (
	stylePlain style = iota
	styleTitle
	styleCurrent
	styleDim
)

// sgr is the sequence that begins a style.
func (s style) sgr() string {
	switch s {
	case styleTitle:
		return "\x1b[1m"
	case styleCurrent:
		return "\x1b[36m"
	case styleDim:
		return "\x1b[2m"
	}
	return ""
}

// screen draws lines over the lines that it drew before.
type screen struct {
	out    io.Writer
	size   func() (width, height int)
	plain  bool
	widths []int // of the lines that stand there
}

// draw shows what lines returns for the present size. The last cell of each line
// stays empty: terminals do not agree on what happens to the cursor there. On a
// terminal too small for anything, it shows the end.
func (s *screen) draw(lines func(width, height int) ([]line, int)) {
	width, height := s.size()
	shown, cursor := lines(max(width-1, 10), max(height, 3))
	shown = shown[max(len(shown)-height, 0):]
	var b strings.Builder
	b.WriteString("\x1b[?25l\x1b[?7l")
	s.home(&b, width, height)
	s.widths = s.widths[:0]
	for i, l := range shown {
		if i > 0 {
			b.WriteString("\r\n")
		}
		sgr := l.style.sgr()
		if s.plain || sgr == "" {
			b.WriteString(l.text)
		} else {
			b.WriteString(sgr + l.text + "\x1b[0m")
		}
		b.WriteString("\x1b[K")
		s.widths = append(s.widths, cells(l.text))
	}
	b.WriteString("\x1b[J\x1b[?7h")
	if cursor >= 0 {
		b.WriteString("\r")
		if cursor > 0 {
			fmt.Fprintf(&b, "\x1b[%dC", cursor)
		}
		b.WriteString("\x1b[?25h")
	}
	_, _ = io.WriteString(s.out, b.String())
}

// finish replaces what stands there by one line.
func (s *screen) finish(text string) {
	width, height := s.size()
	var b strings.Builder
	s.home(&b, width, height)
	b.WriteString("\x1b[J\x1b[?25h" + text + "\r\n")
	_, _ = io.WriteString(s.out, b.String())
	s.widths = nil
}

// home moves to the start of what stands there. A terminal that has become
// narrower has broken the lines that no longer fit.
func (s *screen) home(b *strings.Builder, width, height int) {
	rows := 0
	for _, w := range s.widths {
		rows += max(1, (w+width-1)/width)
	}
	b.WriteString("\r")
	if up := min(rows-1, height-1); up > 0 {
		fmt.Fprintf(b, "\x1b[%dA", up)
	}
}

// size asks for the size of the terminal.
func (t Terminal) size() (width, height int) {
	if t.Size != nil {
		width, height = t.Size()
	} else {
		f, ok := t.Out.(*os.File)
		if !ok {
			f = t.In
		}
		var err error
		if width, height, err = term.GetSize(int(f.Fd())); err != nil {
			width, height = 0, 0
		}
	}
	if width <= 0 || height <= 0 {
		width, height = 80, 24
	}
	return width, height
}

// answer is the line that remains: the title, and what was answered.
func answer(title, text string) string {
	if strings.HasSuffix(title, "?") || strings.HasSuffix(title, ":") {
		return title + " " + text
	}
	return title + ": " + text
}

// clean makes a text fit to be shown on one line: without control characters,
// bidirectional controls and other characters that are not seen, blanks for line
// breaks.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsGraphic(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// cut shortens a text to a width.
func cut(s string, width int) string {
	if cells(s) <= width {
		return s
	}
	used := 0
	for i, r := range s {
		used += cellsOf(r)
		if used > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// wrap breaks a text into at most limit lines, at blanks where there are some.
func wrap(s string, width, limit int, as style) []line {
	var lines []line
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if cells(s) <= width || len(lines) == limit-1 {
			return append(lines, line{cut(s, width), as})
		}
		used, at, blank := 0, 0, 0
		for i, r := range s {
			w := cellsOf(r)
			if r == ' ' {
				blank = i
			}
			if used+w > width {
				break
			}
			used += w
			at = i + utf8.RuneLen(r)
		}
		if at == 0 { // one cell, and a wide character
			return append(lines, line{cut(s, width), as})
		}
		if blank > 0 {
			at = blank
		}
		lines = append(lines, line{strings.TrimRight(s[:at], " "), as})
		s = s[at:]
	}
	return lines
}

// cells is the width of a text on a terminal.
func cells(s string) int {
	n := 0
	for _, r := range s {
		n += cellsOf(r)
	}
	return n
}

// cellsOf is the width of a character: 0 for one that joins the one before it, 2
// for the wide ones of East Asia and pictures, else 1. Terminals differ on the
// rest, so lines are never broken by them while we draw.
func cellsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case r >= 0x1160 && r <= 0x11ff, unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, // Hangul
		r >= 0x231a && r <= 0x231b, r == 0x2329, r == 0x232a,
		r >= 0x23e9 && r <= 0x23ec, r == 0x23f0, r == 0x23f3,
		r >= 0x25fd && r <= 0x25fe, r >= 0x2614 && r <= 0x2615,
		r >= 0x2648 && r <= 0x2653, r == 0x267f, r == 0x2693, r == 0x26a1,
		r >= 0x26aa && r <= 0x26ab, r >= 0x26bd && r <= 0x26be,
		r >= 0x26c4 && r <= 0x26c5, r == 0x26ce, r == 0x26d4, r == 0x26ea,
		r >= 0x26f2 && r <= 0x26f3, r == 0x26f5, r == 0x26fa, r == 0x26fd,
		r == 0x2705, r >= 0x270a && r <= 0x270b, r == 0x2728, r == 0x274c,
		r == 0x274e, r >= 0x2753 && r <= 0x2755, r == 0x2757,
		r >= 0x2795 && r <= 0x2797, r == 0x27b0, r == 0x27bf,
		r >= 0x2b1b && r <= 0x2b1c, r == 0x2b50, r == 0x2b55,
		r >= 0x2e80 && r <= 0x303e, r >= 0x3041 && r <= 0x33ff, // CJK, kana
		r >= 0x3400 && r <= 0x4dbf, r >= 0x4e00 && r <= 0x9fff,
		r >= 0xa000 && r <= 0xa4cf, r >= 0xa960 && r <= 0xa97f,
		r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe10 && r <= 0xfe19, r >= 0xfe30 && r <= 0xfe6f,
		r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x17000 && r <= 0x18cff, r >= 0x1b000 && r <= 0x1b2ff,
		r == 0x1f004, r == 0x1f0cf, r == 0x1f18e, r >= 0x1f191 && r <= 0x1f19a,
		r >= 0x1f200 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff,
		r >= 0x1f7e0 && r <= 0x1f7eb, r >= 0x1f900 && r <= 0x1f9ff,
		r >= 0x1fa70 && r <= 0x1faff,
		r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}
