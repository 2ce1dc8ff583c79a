//go:build linux

package crash

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// what becomes durable, and when. A process that is killed
// leaves its writes to the system, so that no kill shows a sync that is missing;
// a power cut would. The order of the system calls shows it.
func TestOrderOfARefresh(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	canTrace(t, h)
	name, _ := h.expired()
	var got []string
	x := h.trace(tracing{port: is.port(), enter: func(_ int, c call) bool {
		what := ""
		switch {
		case isAnswer(c):
			what = "write the answer"
		case c.name() == "pwrite64" && strings.HasSuffix(c.path, ".wal"):
			what = "write the intent"
		case c.name() == "fallocate" && strings.HasSuffix(c.path, ".wal"):
			what = "reserve space"
		case c.name() == "fsync" && strings.HasSuffix(c.path, ".wal"):
			what = "sync the write-ahead file"
		case c.name() == "fsync" && strings.HasSuffix(c.path, "/personal"):
			what = "sync the folder"
		case c.name() == "write" && strings.HasPrefix(c.path, "socket:"):
			what = "send"
		case c.name() == "write" && strings.HasSuffix(c.path, ".tmp"):
			what = "write the record"
		case c.name() == "fsync" && strings.HasSuffix(c.path, ".tmp"):
			what = "sync the record"
		case c.name() == "renameat" || c.name() == "renameat2":
			what = "rename the record"
		case c.nr == unix.SYS_WRITE && c.args[0] == 1:
			what = "print"
		}
		if what != "" && (len(got) == 0 || got[len(got)-1] != what) {
			got = append(got, what)
		}
		return false
	}}, "token", name)
	if x.code != 0 || !is.Active(x.token()) {
		t.Fatalf("a traced refresh: %s", x.redacted())
	}
	want := []string{
		"reserve space", "write the intent", "sync the write-ahead file", "sync the folder",
		"send",
		"write the answer", "sync the write-ahead file",
		"write the record", "sync the record", "rename the record", "sync the folder",
		"print",
	}
	if !slices.Equal(got, want) {
		t.Errorf("a refresh does this:\n  %s\nand should do this:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
