package prompt

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// rig asks one question on a screen that is kept in memory, with keys from a pipe.
type rig struct {
	t      *testing.T
	screen *screenModel
	keys   *os.File
	cancel func()
	ended  chan struct{}
	err    error // of the question, once it has ended
}

// begin puts a question on a screen of the given size.
func begin(t *testing.T, width, height int, plain bool, put func(ctx context.Context, term Terminal) error) *rig {
	t.Helper()
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &rig{t: t, screen: newScreenModel(width, height), keys: keys, cancel: cancel, ended: make(chan struct{})}
	term := Terminal{In: in, Out: r.screen, Size: r.screen.size, Plain: plain}
	go func() {
		defer close(r.ended)
		r.err = put(ctx, term)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.ended
		_ = in.Close()
		_ = keys.Close()
	})
	return r
}

// press sends keys.
func (r *rig) press(keys string) {
	r.t.Helper()
	if _, err := io.WriteString(r.keys, keys); err != nil {
		r.t.Fatal(err)
	}
}

// until waits for a text on the screen.
func (r *rig) until(text string) string {
	r.t.Helper()
	limit := time.After(10 * time.Second)
	for {
		shown := r.screen.String()
		if strings.Contains(shown, text) {
			return shown
		}
		select {
		case <-r.screen.changed:
		case <-r.ended:
			if shown = r.screen.String(); !strings.Contains(shown, text) {
				r.t.Fatalf("the question ended with %v; the screen has no %q:\n%s", r.err, text, shown)
			}
			return shown
		case <-limit:
			r.t.Fatalf("the screen has no %q:\n%s", text, r.screen.String())
		}
	}
}

// answered waits for the end of the question.
func (r *rig) answered() error {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		r.t.Fatalf("the question did not end:\n%s", r.screen.String())
	}
	return r.err
}

// screenModel is a terminal that knows what we use: it fails on everything else.
type screenModel struct {
	changed chan struct{}

	mu            sync.Mutex
	width, height int
	rows          []string // of the screen and of what has scrolled away
	row, column   int
	wraps, cursor bool
	styled        bool // a style was asked for
	paste         bool
	wrong         []string
}

func newScreenModel(width, height int) *screenModel {
	return &screenModel{changed: make(chan struct{}, 1), width: width, height: height, rows: []string{""}, wraps: true, cursor: true}
}

func (m *screenModel) size() (int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.width, m.height
}

// resize breaks the lines anew, as terminals do.
func (m *screenModel) resize(width, height int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []string
	for i, row := range m.rows {
		for cells(row) > width {
			head := row
			for cells(head) > width {
				_, n := utf8.DecodeLastRuneInString(head)
				head = head[:len(head)-n]
			}
			rows = append(rows, head)
			row = row[len(head):]
		}
		if i == m.row {
			m.row = len(rows)
		}
		rows = append(rows, row)
	}
	m.rows, m.width, m.height = rows, width, height
}

// String is what is on the screen.
func (m *screenModel) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := m.rows[max(len(m.rows)-m.height, 0):]
	var b strings.Builder
	for _, row := range rows {
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	return b.String()
}

func (m *screenModel) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := string(p)
	for s != "" {
		if rest, ok := strings.CutPrefix(s, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= 0x40 && r <= 0x7e })
			if end < 0 {
				m.wrong = append(m.wrong, s)
				break
			}
			m.sequence(rest[:end], rest[end])
			s = rest[end+1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case r == '\r':
			m.column = 0
		case r == '\n':
			if m.row++; m.row == len(m.rows) {
				m.rows = append(m.rows, "")
			}
		case !unicode.IsGraphic(r):
			m.wrong = append(m.wrong, strconv.QuoteRune(r))
		default:
			m.put(r)
		}
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (m *screenModel) put(r rune) {
	if m.column+cellsOf(r) > m.width && m.wraps {
		m.column = 0
		if m.row++; m.row == len(m.rows) {
			m.rows = append(m.rows, "")
		}
	}
	head, tail := m.split()
	if rest := []rune(tail); len(rest) > 0 && cellsOf(r) > 0 {
		tail = string(rest[1:])
	}
	m.rows[m.row] = head + string(r) + tail
	m.column += cellsOf(r)
}

// split divides the row at the cursor.
func (m *screenModel) split() (head, tail string) {
	used := 0
	for i, r := range m.rows[m.row] {
		if used >= m.column && cellsOf(r) > 0 {
			return m.rows[m.row][:i], m.rows[m.row][i:]
		}
		used += cellsOf(r)
	}
	return m.rows[m.row] + strings.Repeat(" ", max(m.column-used, 0)), ""
}

func (m *screenModel) sequence(parameters string, last byte) {
	n, err := strconv.Atoi(parameters)
	if err != nil {
		n = 1
	}
	switch string(last) {
	case "A":
		m.row = max(m.row-n, len(m.rows)-m.height, 0)
	case "C":
		m.column = min(m.column+n, m.width-1)
	case "K":
		m.rows[m.row], _ = m.split()
	case "J":
		m.rows[m.row], _ = m.split()
		m.rows = m.rows[:m.row+1]
	case "m":
		m.styled = true
	case "h", "l":
		on := last == 'h'
		switch parameters {
		case "?25":
			m.cursor = on
		case "?7":
			m.wraps = on
		case "?2004":
			m.paste = on
		default:
			m.wrong = append(m.wrong, parameters+string(last))
		}
	default:
		m.wrong = append(m.wrong, parameters+string(last))
	}
}

// tidy fails the test when the question left the terminal in disorder, or asked
// it for something that not every terminal knows.
func (r *rig) tidy() {
	r.t.Helper()
	m := r.screen
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.wraps || !m.cursor || m.paste || len(m.wrong) > 0 || m.column != 0 {
		r.t.Errorf("wraps %t, cursor %t, paste %t, column %d, unknown %q", m.wraps, m.cursor, m.paste, m.column, m.wrong)
	}
}
