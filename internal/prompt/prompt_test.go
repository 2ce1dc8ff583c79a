package prompt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func scopes() []Option {
	options := []Option{
		{Value: "user-read-email", Label: "Account: user-read-email  Email address", Detail: "Read the address of the account, which may identify a person.", Selected: true},
		{Value: "playlist-modify", Label: "Playlists: playlist-modify  Change playlists, those of others included  (broad)", Detail: "Add and remove tracks of every playlist that the account may change."},
		{Value: "曲", Label: "音楽: 曲  音楽を聴く、そしてプレイリストを編集する、すべての曲", Detail: "全部"},
	}
	for i := range 27 {
		options = append(options, Option{Value: fmt.Sprintf("scope-%02d", i), Label: fmt.Sprintf("Other: scope-%02d  Number %d", i, i)})
	}
	return options
}

// What is shown at three sizes of terminal.
func TestGolden(t *testing.T) {
	const question = "What may Spotify tokens do?"
	var got strings.Builder
	for _, size := range [][2]int{{80, 24}, {60, 12}, {20, 5}} {
		for _, c := range []struct {
			name, keys, until string
			put               func(ctx context.Context, term Terminal) error
		}{
			{"confirm", "\t", "[No]", func(ctx context.Context, term Terminal) error {
				_, err := term.Confirm(ctx, "Trust them with this login?", true)
				return err
			}},
			{"line", "abc def\x1b[D\x1b[D\x7f-", "abc -ef", func(ctx context.Context, term Terminal) error {
				_, err := term.Line(ctx, "Client ID", "redirect URI: http://127.0.0.1:8765/callback/spotify")
				return err
			}},
			{"hidden", "abc", "(3 charact", func(ctx context.Context, term Terminal) error {
				_, err := term.Hidden(ctx, "Client secret", "not shown while you type; leave it empty for a public client")
				return err
			}},
			{"choose", "", "> ", func(ctx context.Context, term Terminal) error {
				_, err := term.Choose(ctx, "Which project is /home/ada/a/rather/long/folder?", "It will use that project's connections.", scopes()[:3])
				return err
			}},
			{"pick", "", "> [x]", pick(question)},
			{"pick, further down", "jjx\x1b[6~k ", "[x] Other: scope", pick(question)},
			{"pick, filter", "/scope 2", "/ scope 2", pick(question)},
			{"pick, nothing left", "/zzz\r", "/ zzz", pick(question)},
		} {
			r := begin(t, size[0], size[1], false, c.put)
			r.until("\n")
			r.press(c.keys)
			shown := r.until(c.until)
			fmt.Fprintf(&got, "## %s, %d by %d\n%s", c.name, size[0], size[1], shown)
			for _, row := range strings.Split(strings.TrimSuffix(shown, "\n"), "\n") {
				if cells(row) >= size[0] {
					t.Errorf("%s: %q is too wide for %d", c.name, row, size[0])
				}
			}
			if n := strings.Count(shown, "\n"); n > size[1] {
				t.Errorf("%s: %d lines on a terminal of %d", c.name, n, size[1])
			}
			r.press("\x03")
			if err := r.answered(); !errors.Is(err, ErrInterrupted) {
				t.Errorf("%s: %v", c.name, err)
			}
			r.tidy()
		}
	}
	path := filepath.Join("testdata", "golden.txt")
	if os.Getenv("UPDATE") == "1" {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the screens changed; UPDATE=1 go test ./internal/prompt renews %s, then read the diff. Now:\n%s", path, got.String())
	}
}

func pick(title string) func(context.Context, Terminal) error {
	return func(ctx context.Context, term Terminal) error {
		_, err := term.Pick(ctx, title, "space selects, / filters, enter goes on", scopes())
		return err
	}
}

func TestConfirm(t *testing.T) {
	for _, c := range []struct {
		keys   string
		preset bool
		want   bool
		err    error
	}{
		{"\r", true, true, nil},
		{"\r", false, false, nil},
		{"\n", true, true, nil},
		{"y", false, true, nil},
		{"Y", false, true, nil},
		{"n", true, false, nil},
		{"\t\r", true, false, nil},
		{"\x1b[C\r", true, false, nil},
		{"\x1b[D\x1b[D\r", true, true, nil},
		{"\x1bOB\r", false, true, nil},
		{"q\x1by\r", false, false, nil},                   // another key, and Alt-y
		{"\x1b[200~y\ny\n\x1b[201~\r", false, false, nil}, // a paste is no answer
		{"\x03", true, false, ErrInterrupted},
		{"\x04", true, false, ErrEnded},
	} {
		var got bool
		r := begin(t, 80, 24, false, func(ctx context.Context, term Terminal) (err error) {
			got, err = term.Confirm(ctx, "Go on?", c.preset)
			return err
		})
		r.until("Go on?")
		r.press(c.keys)
		if err := r.answered(); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %t, %v; want %t, %v", c.keys, got, err, c.want, c.err)
		}
		left := "Go on? no\n\n"
		switch {
		case c.err != nil:
			left = "Go on?\n\n"
		case c.want:
			left = "Go on? yes\n\n"
		}
		if shown := r.screen.String(); shown != left {
			t.Errorf("%q: left %q, want %q", c.keys, shown, left)
		}
		r.tidy()
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		keys, want string
		err        error
	}{
		{"hello\r", "hello", nil},
		{"\r", "", nil},
		{"héllo 音\r", "héllo 音", nil},
		{"hx\x7fello\r", "hello", nil},
		{"ello\x01h\r", "hello", nil},
		{"helo\x1b[Dl\x1b[F!\r", "hello!", nil},
		{"xhello\x1b[H\x1b[3~\r", "hello", nil},
		{"one two \x17hello\r", "one hello", nil},
		{"wrong\x15hello\r", "hello", nil},
		{"he\x1b[5~l\x1b[Alo\r", "hello", nil},
		{"\x1b[200~he\r\nllo\r\n\x1b[201~", "hello", nil},
		{"\x1b[200~he\x1b[31mllo\x1b[201~\r", "hello", nil},
		{"he\xffllo\u009b\u202e\r", "hello", nil},
		{"hel\x04lo\r", "hello", nil},
		{"helxo\x1b[D\x1b[D\x1b[C\x04\r", "helx", nil},
		{"\x04", "", ErrEnded},
		{"he\x03", "", ErrInterrupted},
		{strings.Repeat("x", maxLine) + "\r", strings.Repeat("x", maxLine), nil},
		{strings.Repeat("x", maxLine+1) + "\r", "", ErrTooLong},
	} {
		var got string
		r := begin(t, 40, 10, true, func(ctx context.Context, term Terminal) (err error) {
			got, err = term.Line(ctx, "Name", "of the thing")
			return err
		})
		r.until("\n>")
		go func() { _, _ = r.keys.WriteString(c.keys) }() // more than a pipe holds
		if err := r.answered(); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.40q: %.40q, %v; want %.40q, %v", c.keys, got, err, c.want, c.err)
		}
		if c.want != "" && len(c.want) < 20 {
			if shown := r.screen.String(); shown != "Name: "+c.want+"\n\n" {
				t.Errorf("%q: left %q", c.keys, shown)
			}
		}
		r.tidy()
		if r.screen.styled {
			t.Error("plain has styles")
		}
	}
}

// A terminal that goes away answers nothing.
func TestEndOfInput(t *testing.T) {
	r := begin(t, 40, 10, true, func(ctx context.Context, term Terminal) error {
		_, err := term.Line(ctx, "Name", "")
		return err
	})
	r.until("\n>")
	r.press("hel")
	r.until("hel")
	_ = r.keys.Close()
	if err := r.answered(); !errors.Is(err, ErrEnded) {
		t.Errorf("%v, want the end", err)
	}
	if _, err := (Terminal{Out: r.screen}).Confirm(t.Context(), "Go on?", true); !errors.Is(err, ErrEnded) {
		t.Errorf("no terminal at all: %v, want the end", err)
	}
}

func TestHiddenIsNotShown(t *testing.T) {
	r := begin(t, 40, 10, false, func(ctx context.Context, term Terminal) error {
		got, err := term.Hidden(ctx, "Secret", "not shown")
		if got.Reveal() != "cänary\xff" {
			t.Errorf("%d bytes arrived changed", got.Len())
		}
		return err
	})
	r.until("\n>")
	r.press("cän")
	if shown := r.until("(3 characters)"); strings.Contains(shown, "c") && strings.Contains(shown, "än") {
		t.Error("it was shown")
	}
	r.press("\x1b[200~ary\xff\n\x1b[201~")
	if err := r.answered(); err != nil {
		t.Fatal(err)
	}
	if shown := r.screen.String(); shown != "Secret: (given)\n\n" {
		t.Errorf("left %q", shown)
	}
	r.tidy()
}

func TestPick(t *testing.T) {
	options := []Option{
		{Value: "a", Label: "Alpha  first", Selected: true}, {Value: "b", Label: "Beta  second"},
		{Value: "c", Label: "Gamma  third"}, {Value: "d", Label: "Delta  fourth", Selected: true},
	}
	for _, c := range []struct {
		keys string
		want []string
		err  error
	}{
		{"\r", []string{"a", "d"}, nil},
		{" \r", []string{"d"}, nil},
		{"x\x1b[B x\r", []string{"d"}, nil},
		{"jjx\r", []string{"a", "c", "d"}, nil},
		{"kk\x1b[A \r", []string{"d"}, nil},
		{"\x1b[F \r", []string{"a"}, nil},
		{"\x1b[4~\x1b[1~ \r", []string{"d"}, nil},
		{"\x1b[6~ \x1b[5~ \r", []string{}, nil},
		{"a\r", []string{"a", "b", "c", "d"}, nil},
		{"aa\r", []string{}, nil},
		{"/GAM\r \r", []string{"a", "c", "d"}, nil},
		{"/second be\rx\r", []string{"a", "b", "d"}, nil},
		{"/t\ra\r", []string{"a", "b", "c", "d"}, nil},
		{"/zzz\r a\r", []string{"a", "d"}, nil},
		{"/zzz\x1b[Z\x15bet\r \r", []string{"a", "b", "d"}, nil},
		{"/bx\x7f\r\x1b\r", []string{"a", "d"}, nil},
		{"/\x7fx\r", []string{"d"}, nil},
		{"\x1b[200~aaa x\n\x1b[201~\r", []string{"a", "d"}, nil},
		{"\x03", nil, ErrInterrupted},
		{"/ab\x03", nil, ErrInterrupted},
		{"\x04", nil, ErrEnded},
	} {
		var got []string
		r := begin(t, 60, 12, false, func(ctx context.Context, term Terminal) (err error) {
			got, err = term.Pick(ctx, "Which?", "", options)
			return err
		})
		r.until("Which?")
		r.press(c.keys)
		if err := r.answered(); !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v; want %q, %v", c.keys, got, err, c.want, c.err)
		}
		left := "Which? " + strings.Join(c.want, ", ") + "\n\n"
		switch {
		case c.err != nil:
			left = "Which?\n\n"
		case len(c.want) == 0:
			left = "Which? (none)\n\n"
		}
		if shown := r.screen.String(); shown != left {
			t.Errorf("%q: left %q, want %q", c.keys, shown, left)
		}
		r.tidy()
	}
}

// Escape is known by what does not follow it.
func TestEscapeClearsTheFilter(t *testing.T) {
	r := begin(t, 60, 12, false, pick("Which?"))
	r.until("Which?")
	r.press("/scope-1")
	r.until("/ scope-1")
	r.press("\x1b")
	r.until("14 of 30")
	r.press("/email\r")
	r.until("/ email")
	r.press("\x1b")
	r.until("1 of 30")
	r.press("\r")
	if err := r.answered(); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	for keys, want := range map[string]string{
		"\r": "b", "j\r": "c", "\x1b[A\r": "a", "/ga\r\r": "c", "/zzz\r\r\x1b\x1b[H\r": "a", "x \r": "b", "G\r": "c", "g\r": "a",
	} {
		var got string
		r := begin(t, 60, 12, false, func(ctx context.Context, term Terminal) (err error) {
			got, err = term.Choose(ctx, "Which", "", []Option{{Value: "a", Label: "alpha"}, {Value: "b", Label: "beta", Selected: true}, {Value: "c", Label: "gamma"}})
			return err
		})
		r.until("Which")
		r.press(keys)
		if err := r.answered(); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", keys, got, err, want)
		}
		r.tidy()
	}
}

func TestContextEndsAQuestion(t *testing.T) {
	r := begin(t, 60, 12, false, pick("Which?"))
	r.until("Which?")
	r.cancel()
	if err := r.answered(); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the cancellation", err)
	}
	if shown := r.screen.String(); shown != "Which?\n\n" {
		t.Errorf("left %q", shown)
	}
	r.tidy()
}

// What strangers wrote reaches the terminal without control characters; the model
// of the screen knows none but ours.
func TestHostileTexts(t *testing.T) {
	const evil = "a\x1b[2J\x1b]0;title\x07b\u009bc\r\nd\u202ee\x00\xff\u200b\U000e0041f"
	r := begin(t, 60, 12, true, func(ctx context.Context, term Terminal) error {
		_, err := term.Pick(ctx, evil, evil, []Option{{Value: evil, Label: evil, Detail: evil, Selected: true}})
		return err
	})
	r.until("[x]")
	r.press("/\u202e\u009b\x1b[2Ja\r\r")
	if err := r.answered(); err != nil {
		t.Error(err)
	}
	if shown := r.screen.String(); !strings.HasPrefix(shown, "a[2J]0;titlebc  de\ufffdf: a[2J") {
		t.Errorf("left %q", shown)
	}
	r.tidy()
}

// FuzzLayout holds that nothing is wider or higher than the terminal, that the
// title and the current option are in sight, and that no control character gets
// out.
func FuzzLayout(f *testing.F) {
	f.Add("What may it do?", "A label  with words", "jj x/a\r", uint8(80), uint8(24))
	f.Add("音楽を聴く", "音楽\x1b[31m\u0301\u0301", "/音\x7f\x1b[6~", uint8(20), uint8(5))
	f.Add("", "", "", uint8(1), uint8(1))
	f.Fuzz(func(t *testing.T, title, label, keys string, w, h uint8) {
		width, height := max(int(w), 10), max(int(h), 3)
		options := []Option{{Label: label, Detail: title}, {Label: title}}
		for i := range 20 {
			options = append(options, Option{Label: label, Selected: i%3 == 0})
		}
		p := newPicker(title, label, options)
		p.many = true
		l := &openLine{heading: clean(title), description: clean(label)}
		hidden := &hiddenLine{heading: clean(title), description: clean(label)}
		for _, q := range []question{p, l, hidden, &confirm{question: clean(title)}} {
			check := func() {
				shown, cursor := q.lines(width, height)
				if len(shown) > height || cursor > width {
					t.Fatalf("%T: %d lines of %d, cursor at %d of %d", q, len(shown), height, cursor, width)
				}
				current := q != question(p) || len(p.shown) == 0
				for _, line := range shown {
					if _, ok := q.(*confirm); cells(line.text) > width && !ok {
						t.Fatalf("%T: %q is wider than %d", q, line.text, width)
					}
					if clean(line.text) != line.text {
						t.Fatalf("%T: %q", q, line.text)
					}
					current = current || strings.HasPrefix(line.text, ">")
				}
				if !current {
					t.Fatalf("%T: the current option is out of sight:\n%v", q, shown)
				}
			}
			check()
			var d decoder
			for _, k := range d.flush(d.feed([]byte(keys), nil)) {
				if done, err := q.press(k); done || err != nil {
					break
				}
				check()
			}
			if clean(q.title()) != q.title() {
				t.Fatalf("%T: %q", q, q.title())
			}
		}
	})
}
