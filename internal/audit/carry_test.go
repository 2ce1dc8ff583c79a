package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestCarry(t *testing.T) {
	l := newLog(t)
	l.MaxFile = 400
	fill(t, l, 6) // several files
	former := len(read(t, l).Lines)
	next := newLog(t)
	if err := Carry(l.Path, next.Path); err != nil {
		t.Fatal(err)
	}
	next.Key = bytes.Repeat([]byte{8}, 32)
	fill(t, next, 1)
	if h := read(t, next); len(h.Faults) != 0 || h.Former != former || h.Checked != 1 {
		t.Errorf("%d of %d former lines, %d proven, %v", h.Former, former, h.Checked, h.Faults)
	}
	if left, err := filepath.Glob(l.Path + "*"); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Lines that were written at the new place before the older ones came stay in
// front of them.
func TestCarryBehindNewerLines(t *testing.T) {
	l, next := newLog(t), newLog(t)
	fill(t, l, 3)
	next.Key = bytes.Repeat([]byte{8}, 32)
	fill(t, next, 2)
	for range 2 {
		if err := Carry(l.Path, next.Path); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, next, 1)
	if h := read(t, next); len(h.Faults) != 0 || h.Former != 3 || h.Checked != 3 {
		t.Errorf("%d former lines, %d proven, %v", h.Former, h.Checked, h.Faults)
	}
}

// A process that was killed between the first line under a new key and its end.
func TestKilledAtTheFirstLine(t *testing.T) {
	l := newLog(t)
	fill(t, l, 3)
	end, err := os.ReadFile(l.Path + stateSuffix)
	if err != nil {
		t.Fatal(err)
	}
	l.Key = bytes.Repeat([]byte{8}, 32)
	for lines := 1; lines <= 2; lines++ {
		fill(t, l, 1)
		if err := os.WriteFile(l.Path+stateSuffix, end, 0o600); err != nil {
			t.Fatal(err)
		}
		fill(t, l, 1)
		if h := read(t, l); (len(h.Faults) == 0) != (lines == 1) {
			t.Errorf("after %d lines: %v", lines, h.Faults)
		}
	}
}
