package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// copyOf reads the files of a log, to be put back later.
func copyOf(t *testing.T, l *Log) map[string][]byte {
	t.Helper()
	found, err := filepath.Glob(l.Path + "*")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, path := range found {
		doc, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = doc
	}
	return files
}

func putBack(t *testing.T, l *Log, files map[string][]byte) {
	t.Helper()
	for path := range copyOf(t, l) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for path, doc := range files {
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// anchor moves the anchor on, as a store does at each write of the record.
func (l *Log) anchor(t *testing.T) {
	t.Helper()
	l.Anchor = l.Reached(time.Unix(1_700_000_000, 0))
}

func TestOldCopyPutBackIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(t *testing.T, l *Log) // what happens to five lines, of which all are anchored
		want string
	}{
		"log and end": {func(t *testing.T, l *Log) {
			old := newLog(t)
			old.Path = l.Path
			files := copyOf(t, l)
			putBack(t, l, nil)
			fill(t, old, 3)
			for path := range files {
				files[path] = copyOf(t, l)[path]
			}
			putBack(t, l, files)
		}, "it ends with line number 3, and the record has sealed number 5"},
		"nothing": {func(t *testing.T, l *Log) { putBack(t, l, nil) }, "the log is missing, and the record has sealed its line number 5"},
		"another log, as long": {func(t *testing.T, l *Log) {
			putBack(t, l, nil)
			other := newLog(t)
			other.Path = l.Path
			for i := range 7 {
				e := entry(i)
				e.Folder = "/elsewhere"
				if _, err := other.Append(Rules{}, e); err != nil {
					t.Fatal(err)
				}
			}
		}, "the line is another one than the record has sealed"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t)
			fill(t, l, 5)
			if l.anchor(t); l.Anchor.Last != 5 {
				t.Fatal(l.Anchor)
			}
			c.put(t, l)
			if h := read(t, l); len(h.Faults) != 1 || !strings.Contains(h.Faults[0].Why, c.want) {
				t.Fatalf("faults %v, want %q", h.Faults, c.want)
			}
			if was := l.Anchor; l.Reached(time.Now()) != was {
				t.Error("the anchor followed the copy")
			}
			// Neither a longer log nor a later anchor covers it up.
			for range 3 {
				fill(t, l, 3)
				l.anchor(t)
			}
			if l.Anchor.Last <= 5 {
				t.Errorf("the anchor stays at %d for ever", l.Anchor.Last)
			}
			if h := read(t, l); len(h.Faults) != 1 || !strings.Contains(h.Faults[0].Why, "line number 5 that is sealed in the record is not in it") {
				t.Errorf("in the end: %v", h.Faults)
			}
		})
	}
}

// TestAnchorGivesNoFalseAlarm: logs that went on as they should, seen with
// anchors of any age.
func TestAnchorGivesNoFalseAlarm(t *testing.T) {
	l := newLog(t)
	l.MaxFile = 1500
	var anchors []Anchor
	for i := range 120 {
		if i%7 == 0 {
			l.anchor(t)
			anchors = append(anchors, l.Anchor)
		}
		slow := *l // another process, whose record is older
		slow.Anchor = anchors[i%len(anchors)]
		fill(t, &slow, 1)
	}
	for _, a := range append(anchors, l.Reached(time.Now())) {
		l.Anchor = a
		if h := read(t, l); len(h.Faults) != 0 {
			t.Fatalf("with the anchor at %d of 120 lines: %v", a.Last, h.Faults)
		}
	}
	if l.Anchor.Last != 120 {
		t.Errorf("the anchor reached %d of 120", l.Anchor.Last)
	}
}

// TestKilledAfterTheAnchor: the process died between the anchor and the next
// line, or between that line and its end.
func TestKilledAfterTheAnchor(t *testing.T) {
	l := newLog(t)
	fill(t, l, 3)
	l.anchor(t)
	if h := read(t, l); len(h.Faults) != 0 {
		t.Error(h.Faults)
	}
	end, err := os.ReadFile(l.Path + stateSuffix)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 1)
	if err := os.WriteFile(l.Path+stateSuffix, end, 0o600); err != nil {
		t.Fatal(err)
	}
	l.anchor(t)
	fill(t, l, 1)
	if h := read(t, l); len(h.Faults) != 0 || h.Checked != 5 {
		t.Errorf("%d proven, %v", h.Checked, h.Faults)
	}
}

func TestBehind(t *testing.T) {
	l := newLog(t)
	fill(t, l, 4)
	if l.Behind() != 4 {
		t.Error(l.Behind())
	}
	l.anchor(t)
	fill(t, l, 2)
	if l.Behind() != 2 {
		t.Error(l.Behind())
	}
}

// TestFollow gives a connection a name that another one had before.
func TestFollow(t *testing.T) {
	l, former := newLog(t), newLog(t)
	l.MaxFile = 600
	fill(t, l, 5)
	l.anchor(t)
	former.Key = bytes.Repeat([]byte{9}, 32)
	fill(t, former, 2)
	whole := copyOf(t, l)
	for range 2 {
		if err := Follow(l.Path, former.Path); err != nil {
			t.Fatal(err)
		}
	}
	if len(whole) != 3 || len(copyOf(t, l)) != 0 { // one put aside, one in use, the end
		t.Errorf("%d files, and %d are left", len(whole), len(copyOf(t, l)))
	}
	l.Path = former.Path
	fill(t, l, 1)
	h := read(t, l)
	if len(h.Faults) != 0 || h.Former != 2 || h.Checked != 6 || h.Lines[len(h.Lines)-1].Number != 6 {
		t.Errorf("%d former, %d proven, %v", h.Former, h.Checked, h.Faults)
	}
}
