package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzEntry: what the short way reads is what package json reads.
func FuzzEntry(f *testing.F) {
	at := time.Date(2026, 11, 26, 1, 2, 3, 4e6, time.UTC)
	for _, e := range []Entry{
		{},
		{Number: 1, Time: at, Event: EventToken, Purpose: "token", Caller: "/bin/sh", Folder: "/home/ada", Print: "00", Key: "ab"},
		{Number: 123456789, Time: at, Event: EventCalls, Count: 2, Refused: 3, Failed: 4, Detail: "<\"ä\x01>"},
		{Number: 12345678901, Time: at.Add(time.Nanosecond)},
	} {
		body, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	for _, body := range []string{
		"", "{}", "{", `{"n":01}`, `{"n":-1}`, `{"n":1.5}`, `{"n":1,"n":2}`, `{"N":1}`, `{"q":1}`, `{"n":"1"}`, `{"e":1}`, `{"e":"a"`, `{"e":"a",}`,
		`{"t":"2026-11-26T01:02:03+01:00"}`, `{"t":"2026-11-26T01:02:03+00:00"}`, `{"t":"x"}`, `{"c":99999999999999999999}`, `{"n":1}}`, `{"n":1 }`, `{"e":"a"b}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var short, long Entry
		if !new(parser).entry(body, &short) {
			return
		}
		if err := json.Unmarshal(body, &long); err != nil || !reflect.DeepEqual(short, long) {
			t.Fatalf("%q: %+v, and json: %+v, %v", body, short, long, err)
		}
	})
}

// FuzzWritten: a line is written as package json writes it.
func FuzzWritten(f *testing.F) {
	f.Add(uint64(1), int64(1_700_000_000_123_456_789), "token", 0, "/bin/sh", "")
	f.Add(uint64(2), int64(1_700_000_000_000_000_000), "calls", 9, "", "plain")
	f.Add(uint64(0), int64(0), "", -1, "<\"\\ä\x01\xff\u2028&>", "\x7f")
	f.Fuzz(func(t *testing.T, n uint64, at int64, event string, count int, caller, detail string) {
		e := Entry{Number: n, Time: time.Unix(0, at).UTC(), Event: event, Purpose: detail, Count: count, Refused: count / 2, Failed: count / 3,
			Caller: caller, Folder: event, Print: detail, Detail: detail, Key: caller}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.appendTo(nil); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s\nwant\n%s (%v)", got, want, err)
		}
	})
}

// FuzzState: what is read of the end of a log is what was written, and nothing
// else is taken for one.
func FuzzState(f *testing.F) {
	at := time.Unix(1_700_000_000, 123)
	f.Add(string((&state{}).appendTo(nil)))
	f.Add(string((&state{
		First: 3, Before: "0a", Last: 5, MAC: "ff", Size: 1 << 40, Key: "1234", Anchor: Anchor{Last: 4, MAC: "ee"},
		Habits: Habits{Uses: 7, Callers: []string{"aa", "bb"}, Burst: window{at, 1, 2, true}, Failed: window{at, 3, 4, false}, Ended: 2},
	}).appendTo(nil)))
	for _, body := range []string{"", "end1", "end1 ", "end2 1", "end1 -1  0  0  0  0 0 0 0 0 false 0 0 0 false 0 0 0 false", strings.Repeat(" ", 100)} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		st, ok := parseState(body)
		if !ok {
			return
		}
		again, ok := parseState(string(st.appendTo(nil)))
		if !ok || !reflect.DeepEqual(st, again) {
			t.Fatalf("%+v\nand read again\n%+v", st, again)
		}
	})
}

// TestUsualLinesTakeTheShortWay: else reading would be several times slower.
func TestUsualLinesTakeTheShortWay(t *testing.T) {
	l := newLog(t)
	fill(t, l, 1)
	for _, line := range read(t, l).Lines {
		var e Entry
		if !new(parser).entry(line.body, &e) || e != line.Entry {
			t.Errorf("%s: %+v", line.body, e)
		}
	}
}

// TestLongLogInPieces: a log that is read in several pieces is proven like a short
// one, and a fault is found at its line.
func TestLongLogInPieces(t *testing.T) {
	l := newLog(t)
	l.MaxFile = 1 << 30
	list := make([]Entry, 20_000)
	for i := range list {
		list[i] = entry(i)
	}
	if _, err := l.Append(Rules{}, list...); err != nil {
		t.Fatal(err)
	}
	whole := copyOf(t, l)[l.Path]
	if parts := pieces(whole, nil); len(whole) < 8*smallest || len(parts) == 0 {
		t.Fatalf("%d bytes in %d pieces", len(whole), len(parts))
	}
	if h := read(t, l); h.Checked != len(list) || len(h.Faults) != 0 || len(h.Lines) != len(list) {
		t.Fatalf("%d of %d lines proven, %v", h.Checked, len(list), h.Faults)
	}
	for _, at := range []int{1, 9_999, 10_000, 10_001, 20_000} {
		lines := bytes.SplitAfter(whole, []byte("\n"))
		lines[at-1] = bytes.Replace(lines[at-1], []byte("rocket"), []byte("racket"), 1)
		putBack(t, l, map[string][]byte{l.Path: bytes.Join(lines, nil), l.Path + stateSuffix: copyOf(t, l)[l.Path+stateSuffix]})
		h := read(t, l)
		if want := fmt.Sprintf("%s:%d: its code is wrong: the line, or the one before, was changed", l.Path, at); len(h.Faults) != 1 || h.Faults[0].String() != want {
			t.Errorf("faults %v, want %s", h.Faults, want)
		}
	}
}
