package prompt

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRows is the most options that are shown at once.
const maxRows = 16

// Pick asks which of the options hold, and returns the values of the chosen ones
// in their order, without a limit on their number. Space or x chooses, a all that
// are shown, / narrows the list to what is typed then, Escape widens it again.
func (t Terminal) Pick(ctx context.Context, title, description string, options []Option) ([]string, error) {
	p := newPicker(title, description, options)
	p.many = true
	if err := t.ask(ctx, p); err != nil {
		return nil, err
	}
	chosen := []string{}
	for i, o := range options {
		if p.chosen[i] {
			chosen = append(chosen, o.Value)
		}
	}
	return chosen, nil
}

// Choose asks for one of the options and returns its value. The first that is
// Selected is the current one at the start.
func (t Terminal) Choose(ctx context.Context, title, description string, options []Option) (string, error) {
	p := newPicker(title, description, options)
	p.at = max(slices.Index(p.chosen, true), 0)
	if err := t.ask(ctx, p); err != nil {
		return "", err
	}
	return options[p.shown[p.at]].Value, nil
}

// picker is the question of Pick and of Choose.
type picker struct {
	heading, description string
	many                 bool

	options []Option // made fit to be shown
	chosen  []bool
	details bool // at least one option has a detail

	shown  []int // the options that match the filter
	at     int   // the current one, an index of shown
	top    int   // the first one in sight
	rows   int   // how many are in sight
	typing bool  // into the filter
	filter []rune
}

func newPicker(title, description string, options []Option) *picker {
	p := &picker{heading: clean(title), description: clean(description), rows: 1}
	for i, o := range options {
		o.Label, o.Detail = clean(o.Label), clean(o.Detail)
		p.details = p.details || o.Detail != ""
		p.options = append(p.options, o)
		p.chosen = append(p.chosen, o.Selected)
		p.shown = append(p.shown, i)
	}
	return p
}

func (p *picker) press(k key) (bool, error) {
	if p.typing {
		p.typed(k)
		return false, nil
	}
	if k.pasted {
		return false, nil
	}
	switch k.code {
	case keyEnter:
		return p.many || len(p.shown) > 0, nil
	case keyEOT:
		return false, ErrEnded
	case keyEscape:
		p.filter = nil
		p.narrow()
	case keyRune:
		p.command(k.r)
	default:
		p.move(k.code)
	}
	return false, nil
}

// command takes a letter while no filter is being typed.
func (p *picker) command(r rune) {
	switch r {
	case 'j':
		p.move(keyDown)
	case 'k':
		p.move(keyUp)
	case 'g':
		p.move(keyHome)
	case 'G':
		p.move(keyEnd)
	case '/':
		p.typing = true
	}
	if !p.many || len(p.shown) == 0 {
		return
	}
	switch r {
	case ' ', 'x':
		i := p.shown[p.at]
		p.chosen[i] = !p.chosen[i]
	case 'a':
		all := true
		for _, i := range p.shown {
			all = all && p.chosen[i]
		}
		for _, i := range p.shown {
			p.chosen[i] = !all
		}
	}
}

// typed takes a key while the filter is being typed.
func (p *picker) typed(k key) {
	switch k.code {
	case keyEnter:
		if !k.pasted {
			p.typing = false
		}
	case keyEscape:
		p.typing, p.filter = false, nil
		p.narrow()
	case keyBackspace:
		if len(p.filter) == 0 {
			p.typing = false
			return
		}
		p.filter = p.filter[:len(p.filter)-1]
		p.narrow()
	case keyKill, keyKillWord:
		p.filter = nil
		p.narrow()
	case keyRune:
		if unicode.IsGraphic(k.r) && len(p.filter) < 100 {
			p.filter = append(p.filter, k.r)
			p.narrow()
		}
	default:
		p.move(k.code)
	}
}

func (p *picker) move(code keyCode) {
	switch code {
	case keyUp, keyBacktab:
		p.at--
	case keyDown, keyTab:
		p.at++
	case keyPageUp:
		p.at -= p.rows
	case keyPageDown:
		p.at += p.rows
	case keyHome:
		p.at = 0
	case keyEnd:
		p.at = len(p.shown)
	}
	p.at = max(min(p.at, len(p.shown)-1), 0)
}

// narrow finds the options that have every word of the filter. The current one
// stays the current one if it is among them.
func (p *picker) narrow() {
	current := -1
	if p.at < len(p.shown) {
		current = p.shown[p.at]
	}
	words := strings.Fields(strings.ToLower(string(p.filter)))
	p.shown, p.at, p.top = p.shown[:0], 0, 0
	for i, o := range p.options {
		text := strings.ToLower(o.Label)
		fits := true
		for _, w := range words {
			fits = fits && strings.Contains(text, w)
		}
		if !fits {
			continue
		}
		if i == current {
			p.at = len(p.shown)
		}
		p.shown = append(p.shown, i)
	}
}

// lines shares out the height: the title first, three options, the description or
// the filter, the detail of the current option, and then all the options that
// there is room for.
func (p *picker) lines(width, height int) ([]line, int) {
	shown := wrap(p.heading, width, max(height/8, 1), styleTitle)
	free := height - len(shown)
	want := max(min(len(p.options), maxRows), 1)
	least := min(want, 3)

	var under []line
	switch {
	case p.typing || len(p.filter) > 0:
		text := cutFront("/ "+clean(string(p.filter)), width-1)
		under = []line{{text, styleCurrent}}
	case free > least:
		under = wrap(p.description, width, min(free-least, max(height/8, 1)), styleDim)
	}
	free -= len(under)
	status := 0
	if want < len(p.options) || free < want {
		if free-least > 1 {
			status = 1
		}
	}
	detail := 0
	if p.details {
		detail = min(max(free-least-status, 0), 1+min(height/12, 1))
	}
	p.rows = max(min(want, free-status-detail), 1)
	p.top = max(min(p.top, p.at), p.at-p.rows+1, 0)
	p.top = max(min(p.top, len(p.shown)-p.rows), 0)

	shown = append(shown, under...)
	for row := range p.rows {
		i := p.top + row
		switch {
		case i < len(p.shown):
			shown = append(shown, p.row(i, width))
		case len(p.shown) == 0 && row == 0:
			shown = append(shown, line{cut("  nothing has that; escape shows all", width), styleDim})
		}
	}
	if status > 0 {
		shown = append(shown, line{cut(p.status(), width), styleDim})
	}
	if detail > 0 && len(p.shown) > 0 {
		about := wrap(p.options[p.shown[p.at]].Detail, max(width-4, 1), detail, styleDim)
		for _, l := range about {
			shown = append(shown, line{cut("    "+l.text, width), styleDim})
		}
	}
	return shown, -1
}

func (p *picker) row(i, width int) line {
	o := p.options[p.shown[i]]
	mark, as := "  ", stylePlain
	if i == p.at {
		mark, as = "> ", styleCurrent
	}
	if p.many {
		box := "[ ] "
		if p.chosen[p.shown[i]] {
			box = "[x] "
		}
		mark += box
	}
	return line{cut(mark+o.Label, width), as}
}

// status says where in a longer list the current option is.
func (p *picker) status() string {
	text := "  none"
	if len(p.shown) > 0 {
		text = fmt.Sprintf("  %d of %d", p.at+1, len(p.shown))
	}
	if p.many {
		n := 0
		for _, on := range p.chosen {
			if on {
				n++
			}
		}
		text += fmt.Sprintf(", %d chosen", n)
	}
	return text
}

// cutFront keeps the end of a text.
func cutFront(s string, width int) string {
	for cells(s) > width {
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
	return s
}

func (p *picker) title() string { return p.heading }

func (p *picker) remains() string {
	var names []string
	if !p.many {
		names = []string{strings.TrimSpace(p.options[p.shown[p.at]].Label)}
	} else {
		for i, on := range p.chosen {
			if on {
				names = append(names, clean(p.options[i].Value))
			}
		}
	}
	if len(names) == 0 {
		names = []string{"(none)"}
	}
	return answer(p.heading, strings.Join(names, ", "))
}
