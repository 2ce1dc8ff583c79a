package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
)

func TestTableIsAligned(t *testing.T) {
	rows := [][]string{{"NAME", "WHAT", "LAST"}, {"ä", "", "x"}, {"a longer one", "two\twords\x1b[31m", ""}, {"z", "y", "x"}}
	var want, got bytes.Buffer
	w := tabwriter.NewWriter(&want, 0, 0, 2, ' ', 0)
	for _, row := range [][]string{{"NAME", "WHAT", "LAST"}, {"ä", "-", "x"}, {"a longer one", "two words", "-"}, {"z", "y", "x"}} {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := printTable(&got, rows...); err != nil || got.String() != want.String() {
		t.Errorf("%v\n%s\nwant\n%s", err, got.String(), want.String())
	}
	if err := printTable(&got); err != nil {
		t.Error(err)
	}
}

// TestLogAsJSON: the fast way prints what package json prints.
func TestLogAsJSON(t *testing.T) {
	at := time.Date(2026, 11, 26, 1, 2, 3, 4e6, time.UTC)
	for n, lines := range [][]logLine{
		nil,
		{{&audit.Entry{Time: at, Event: "token"}, "one"}},
		{
			{&audit.Entry{Time: at, Event: "calls", Count: 3, Refused: 2, Failed: 1, Purpose: "proxy"}, "one"},
			{&audit.Entry{Time: at.Add(time.Hour), Event: "", Caller: "/a <b> & \"c\" ä \x01\xff", Folder: "\u2028", Print: "00", Detail: "x"}, "two"},
		},
	} {
		docs := []auditLineJSON{}
		for _, l := range lines {
			docs = append(docs, auditLineJSON{l.Time, l.connection, l.Event, l.Purpose, l.Count, l.Refused, l.Failed, l.Caller, l.Folder, l.Print, l.Detail})
		}
		var want, got bytes.Buffer
		if err := printJSON(&want, docs); err != nil {
			t.Fatal(err)
		}
		if err := printLogJSON(&got, lines); err != nil || got.String() != want.String() {
			t.Errorf("%d: %v\n%s\nwant\n%s", n, err, got.String(), want.String())
		}
	}
}
