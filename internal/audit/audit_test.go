package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// newLog is a log in a folder of its own, locked as far as one process needs.
func newLog(t testing.TB) *Log {
	t.Helper()
	var mu sync.Mutex
	return &Log{
		Path: filepath.Join(t.TempDir(), "github.log"),
		Key:  bytes.Repeat([]byte{7}, 32),
		Lock: func() (func(), error) { mu.Lock(); return mu.Unlock, nil },
	}
}

func entry(i int) Entry {
	return Entry{
		Time: time.Unix(1_700_000_000+int64(i), 0), Event: EventToken, Purpose: "git-credential",
		Caller: "/usr/lib/git-core/git", Folder: "/home/ada/src/rocket", Print: "0123456789abcdef",
	}
}

func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(Rules{}, entry(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t testing.TB, l *Log) *History {
	t.Helper()
	h, err := l.Read()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// a line goes into a file of our own and through no link.
func TestLogIsNoLink(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("on Windows only administrators make links")
	}
	for _, suffix := range []string{"", stateSuffix} {
		l := newLog(t)
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.WriteFile(elsewhere, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(elsewhere, l.Path+suffix); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Append(Rules{}, entry(1)); err == nil {
			t.Errorf("a line was written through the link %q", suffix)
		}
		if doc, err := os.ReadFile(elsewhere); err != nil || len(doc) > 0 {
			t.Errorf("the file behind the link has %d bytes: %v", len(doc), err)
		}
	}
}

func TestLogIsProven(t *testing.T) {
	l := newLog(t)
	if h := read(t, l); len(h.Lines) != 0 || len(h.Faults) != 0 {
		t.Fatalf("no log: %+v", h)
	}
	fill(t, l, 5)
	h := read(t, l)
	if h.Checked != 5 || len(h.Faults) != 0 || h.Lines[4].Number != 5 || h.Lines[0].Folder != "/home/ada/src/rocket" {
		t.Errorf("%+v", h)
	}
	for _, path := range []string{l.Path, l.Path + stateSuffix} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// TestTamperingIsFound changes a log in every way that the chain promises to
// show, with the line that is named.
func TestTamperingIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		change func(lines []string) []string
		want   string // the first fault
	}{
		"changed":   {func(l []string) []string { l[2] = strings.Replace(l[2], "git", "gut", 1); return l }, ":3: its code is wrong"},
		"removed":   {func(l []string) []string { return append(l[:1], l[2:]...) }, ":2: line number 3 stands where 2 is due"},
		"first":     {func(l []string) []string { return l[1:] }, ":1: line number 2 stands where 1 is due"},
		"reordered": {func(l []string) []string { l[1], l[2] = l[2], l[1]; return l }, ":2: line number 3 stands where 2 is due"},
		"doubled":   {func(l []string) []string { return append(l[:2], l[1:]...) }, ":3: line number 2 stands where 3 is due"},
		"cut off":   {func(l []string) []string { return l[:3] }, ":3: it ends here, and line number 5 was the last"},
		"half":      {func(l []string) []string { l[4] = l[4][:40]; return l }, ":5: the line is cut off"},
		"all":       {func([]string) []string { return nil }, ": it ends here, and line number 5 was the last"},
		"other key": {func(l []string) []string { l[3] = strings.Replace(l[3], `"k":"`, `"k":"0`, 1); return l }, ":4: the line is under another key"},
		"no line":   {func(l []string) []string { l[0] = "\n"; return l }, ":1: it is no line of a log"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			fill(t, l, 5)
			doc, err := os.ReadFile(l.Path)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Join(c.change(strings.SplitAfter(string(doc), "\n")[:5]), "")
			if err := os.WriteFile(l.Path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if h := read(t, l); len(h.Faults) == 0 || h.Faults[0].String() != l.Path+c.want && !strings.HasPrefix(h.Faults[0].String(), l.Path+c.want) {
				t.Fatalf("faults %v, want %s", h.Faults, c.want)
			}
			fill(t, l, 1) // does not cover it up
			if h := read(t, l); len(h.Faults) == 0 {
				t.Error("the next line hid it")
			}
		})
	}
}

func TestEndCannotBeForgotten(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed": os.Remove,
		"changed": func(path string) error {
			doc, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, bytes.Replace(doc, []byte("end1 1  5 "), []byte("end1 1  4 "), 1), 0o600)
		},
	} {
		l := newLog(t)
		fill(t, l, 5)
		if err := change(l.Path + stateSuffix); err != nil {
			t.Fatal(err)
		}
		if h := read(t, l); len(h.Faults) != 1 || !strings.Contains(h.Faults[0].Why, "its end is not written down") {
			t.Errorf("%s: %v", name, h.Faults)
		}
		fill(t, l, 1)
		if h := read(t, l); len(h.Faults) != 1 || !strings.Contains(h.Faults[0].Why, "its end had not been written down") {
			t.Errorf("%s, and one line more: %v", name, h.Faults)
		}
	}
}

// TestKilledInBetween: a process that is killed between the line and its end, or
// within the line, leaves a log that is whole.
func TestKilledInBetween(t *testing.T) {
	l := newLog(t)
	fill(t, l, 3)
	before, err := os.ReadFile(l.Path + stateSuffix)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1)
	if err := os.WriteFile(l.Path+stateSuffix, before, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"n":5,"t"`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	fill(t, l, 1)
	if h := read(t, l); len(h.Faults) != 0 || h.Checked != 5 {
		t.Errorf("%d proven, faults %v", h.Checked, h.Faults)
	}
}

func TestRotation(t *testing.T) {
	l := newLog(t)
	l.MaxFile = 2000
	fill(t, l, 100)
	found, err := filepath.Glob(l.Path + "*")
	if err != nil || len(found) != Files+1 {
		t.Fatalf("%v, %v", found, err)
	}
	h := read(t, l)
	if len(h.Faults) != 0 || h.Lines[0].Number == 1 || h.Lines[len(h.Lines)-1].Number != 100 || h.Checked != len(h.Lines) {
		t.Fatalf("%d lines from %d, faults %v", len(h.Lines), h.Lines[0].Number, h.Faults)
	}
	if err := os.Remove(l.name(Files - 1)); err != nil {
		t.Fatal(err)
	}
	if h := read(t, l); len(h.Faults) == 0 {
		t.Error("nobody misses the oldest file")
	}
}

func TestAnotherKeyBeginsAnew(t *testing.T) {
	l := newLog(t)
	fill(t, l, 3)
	l.Key = bytes.Repeat([]byte{8}, 32)
	if h := read(t, l); len(h.Faults) != 1 || h.Faults[0].Why != "no line is under the key of the connection" {
		t.Errorf("%v", h.Faults)
	}
	fill(t, l, 2)
	if h := read(t, l); len(h.Faults) != 0 || h.Former != 3 || h.Checked != 2 {
		t.Errorf("%+v", h)
	}
}

func TestManyWriters(t *testing.T) {
	l := newLog(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if _, err := l.Append(Rules{}, entry(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if h := read(t, l); h.Checked != 50 || len(h.Faults) != 0 {
		t.Errorf("%d proven, %v", h.Checked, h.Faults)
	}
}

func TestFingerprint(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	if f := Fingerprint(a, "token"); len(f) != 16 || f == Fingerprint(b, "token") || f == Fingerprint(a, "other") || f != Fingerprint(a, "token") {
		t.Error(f)
	}
}

func TestEachRuleAlertsOnce(t *testing.T) {
	rules := Rules{Settle: 3, Burst: 5, Errors: 2}
	at := time.Unix(1_700_000_000, 0)
	token := func(caller string, after time.Duration) Entry {
		return Entry{Time: at.Add(after), Event: EventToken, Caller: caller}
	}
	for name, c := range map[string]struct {
		entries []Entry
		want    string
	}{
		"usual":      {[]Entry{token("a", 0), token("a", 1), token("b", 2)}, ""},
		"new caller": {[]Entry{token("a", 0), token("a", 1), token("a", 2), token("evil", 3), token("evil", 4)}, RuleNewCaller},
		"burst":      {[]Entry{{Time: at, Event: EventCalls, Count: 6}, {Time: at.Add(1), Event: EventCalls, Count: 9}}, RuleBurst},
		"slow":       {[]Entry{{Time: at, Event: EventCalls, Count: 5}, {Time: at.Add(time.Minute), Event: EventCalls, Count: 5}}, ""},
		"errors":     {[]Entry{{Time: at, Event: EventCalls, Count: 1, Refused: 3}, {Time: at, Event: EventCalls, Count: 1, Refused: 3}}, RuleErrors},
		"failures":   {[]Entry{{Time: at, Event: EventCalls, Count: 4, Failed: 2}, {Time: at, Event: EventCalls, Count: 1, Failed: 1}}, RuleErrors},
		"of many":    {[]Entry{{Time: at, Event: EventCalls, Count: 5}, {Time: at.Add(time.Minute), Event: EventCalls, Count: 3, Failed: 3}}, ""},
		"a few":      {[]Entry{{Time: at, Event: EventCalls, Failed: 2}, {Time: at.Add(10 * time.Minute), Event: EventCalls, Failed: 2}}, ""},
		"of api":     {[]Entry{{Time: at, Event: EventToken, Purpose: "api"}, {Time: at, Event: EventCalls, Failed: 3}}, RuleErrors},
		"ended":      {[]Entry{{Time: at, Event: EventRefused}, {Time: at, Event: EventRefused}, {Time: at, Event: EventRefused}}, RuleRefused},
		"made anew":  {[]Entry{{Time: at, Event: EventRefused}, {Time: at, Event: EventConnect}, {Time: at, Event: EventRefused}}, ""},
	} {
		l := newLog(t)
		var got []string
		for _, e := range c.entries {
			alerts, err := l.Append(rules, e)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range alerts {
				if a.Rule != RuleEnded {
					got = append(got, a.Rule)
				}
			}
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: alerts %v, want %q", name, got, c.want)
		}
		written := 0
		for _, line := range read(t, l).Lines {
			if line.Event == EventAlert {
				written++
			}
		}
		if written != len(got) {
			t.Errorf("%s: %d alerts in the log, want %d", name, written, len(got))
		}
	}
}

func FuzzRead(f *testing.F) {
	l := newLog(f)
	fill(f, l, 3)
	doc, err := os.ReadFile(l.Path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(doc)
	f.Add([]byte("{}\t\n"))
	end, err := os.Open(l.Path + stateSuffix)
	if err != nil {
		f.Fatal(err)
	}
	st, known := newChain(l.Key).readState(end)
	if err := end.Close(); err != nil || !known {
		f.Fatal(known, err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := prover{h: &History{}, key: l.Key, chain: newChain(l.Key), state: st, known: true}
		p.file("log", text)
		p.end("log", true)
		if bytes.Equal(text, doc) != (len(p.h.Faults) == 0) {
			t.Fatalf("%d faults in %q", len(p.h.Faults), text)
		}
	})
}

// BenchmarkRead proves 100,000 lines.
func BenchmarkRead(b *testing.B) {
	l := newLog(b)
	l.MaxFile = 1 << 30
	list := make([]Entry, 100_000)
	for i := range list {
		list[i] = entry(i)
	}
	if _, err := l.Append(Rules{}, list...); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		h, err := l.Read()
		if err != nil || h.Checked != len(list) {
			b.Fatal(fmt.Errorf("%d lines: %w", h.Checked, err))
		}
	}
}

func TestFails(t *testing.T) {
	for status, want := range map[int]bool{200: false, 301: false, 400: false, 401: false, 403: true, 404: false, 409: false, 429: true, 500: true, 503: true} {
		if Fails(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}
