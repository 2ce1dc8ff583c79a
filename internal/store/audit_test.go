package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
)

// write adds lines to the log of a connection, each as a process of its own does.
func (h *home) write(name string, lines int) {
	h.Helper()
	for range lines {
		log := h.again().auditLog(name)
		if _, err := log.Append(audit.Rules{}, audit.Entry{Time: time.Unix(1_700_000_000, 0), Event: audit.EventToken}); err != nil {
			h.Fatal(err)
		}
	}
}

func (h *home) auditLog(name string) *audit.Log {
	h.Helper()
	log, err := h.store.AuditLog(h.Context(), key(name))
	if err != nil {
		h.Fatal(err)
	}
	return log
}

// prove proves the log of a connection, and returns what was found.
func (h *home) prove(name string) (lines int, faults string) {
	h.Helper()
	found, err := h.again().auditLog(name).Read()
	if err != nil {
		h.Fatal(err)
	}
	for _, f := range found.Faults {
		faults += f.String() + "\n"
	}
	return found.Checked, faults
}

// refresh writes the record as a refresh does.
func (h *home) refresh(name string) {
	h.Helper()
	g := h.again().lock(name)
	defer g.Unlock()
	rec, err := g.Read(h.Context())
	h.must(err)
	rec.Generation++
	h.must(g.Commit(h.Context(), rec))
}

func (h *home) logFiles(name string) map[string][]byte {
	h.Helper()
	found, err := filepath.Glob(filepath.Join(h.store.Dir(), "p1", name+auditSuffix+"*"))
	h.must(err)
	files := map[string][]byte{}
	for _, path := range found {
		if !strings.HasSuffix(path, lockSuffix) {
			files[path], err = os.ReadFile(path)
			h.must(err)
		}
	}
	return files
}

func (h *home) putBack(files map[string][]byte) {
	h.Helper()
	for path, doc := range files {
		h.must(os.WriteFile(path, doc, 0o600))
	}
}

// TestAnchorIsSealedInTheRecord: each write of the record seals how far the log
// has come, and an older log with its older end is found from then on.
func TestAnchorIsSealedInTheRecord(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.write("a", 2)
		h.must(h.again().store.Anchor(h.Context(), key("a")))
		old := h.logFiles("a")
		before := h.read("a")
		h.write("a", 3)
		h.must(h.again().store.Anchor(h.Context(), key("a")))
		if now := h.again().read("a"); now.Generation != before.Generation || !now.Body.Refresh.Equal(before.Body.Refresh) {
			h.Errorf("the anchor changed the record: generation %d to %d", before.Generation, now.Generation)
		}
		if n, faults := h.prove("a"); n != 5 || faults != "" {
			h.Errorf("%d proven, %s", n, faults)
		}
		now := h.logFiles("a")
		h.putBack(old)
		if _, faults := h.prove("a"); !strings.Contains(faults, "it ends with line number 2, and the record has sealed number 5") {
			h.Errorf("an older copy: %q", faults)
		}
		h.refresh("a") // seals nothing less than before
		if _, faults := h.prove("a"); faults == "" {
			h.Error("a refresh covered it up")
		}
		h.putBack(now)
		if n, faults := h.prove("a"); n != 5 || faults != "" {
			h.Errorf("the true one again: %d proven, %s", n, faults)
		}

		h.write("a", 4)
		h.refresh("a")
		h.putBack(now)
		h.write("a", 1)
		if _, faults := h.prove("a"); !strings.Contains(faults, "line number 9 that is sealed in the record is not in it") {
			h.Errorf("behind a refresh: %q", faults)
		}
	})
}

// TestAnchorWaitsForNobody: who holds the lock may be about to write the record.
func TestAnchorWaitsForNobody(t *testing.T) {
	h := open(t, fileRaw)
	h.put("a", 1)
	h.write("a", 1)
	g := h.lock("a")
	h.must(g.Begin(t.Context(), intent(2)))
	h.must(h.again().store.Anchor(t.Context(), key("a")))
	if log := h.again().auditLog("a"); log.Anchor.Last != 0 {
		t.Error(log.Anchor)
	}
	g.Unlock()
	h.must(h.again().store.Anchor(t.Context(), key("a")))
	if log := h.again().auditLog("a"); log.Anchor.Last != 1 {
		t.Error(log.Anchor)
	}
	if !h.store.Pending(key("a")) {
		t.Error("an answer that is on its way was given up")
	}
	h.must(h.again().store.Anchor(t.Context(), key("nobody")))
	h.opt.FileSystem = func(string) (string, bool) { return "nfs", true }
	h.write("a", 1)
	h.must(h.again().store.Anchor(t.Context(), key("a")))
	if log := h.again().auditLog("a"); log.Anchor.Last != 1 {
		t.Error("written where another machine may be writing, too")
	}
}

// rename gives a connection another name, as Source does.
func (h *home) rename(from, to string) {
	h.Helper()
	a, b := h.again().lock(from), h.again().lock(to)
	defer a.Unlock()
	defer b.Unlock()
	rec, err := a.Read(h.Context())
	h.must(err)
	rec.Name = to
	rec.Generation, rec.GrantGeneration = b.Next(h.Context())
	h.must(a.MoveTo(h.Context(), b, rec))
}

// TestLogFollowsARename: the lines stay proven, and the old name begins anew.
func TestLogFollowsARename(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.put("b", 1)
		h.write("b", 1)
		g := h.lock("b")
		h.must(g.Delete(h.Context())) // its lines stay, as those of a former connection
		g.Unlock()
		h.write("a", 3)
		h.rename("a", "b")
		if n, faults := h.prove("b"); n != 3 && n != 4 || faults != "" {
			h.Errorf("%d proven, %s", n, faults)
		}
		h.write("b", 1)
		old := h.logFiles("b")
		h.write("b", 1)
		h.refresh("b")
		h.rename("b", "c")
		if n, faults := h.prove("c"); n < 5 || faults != "" {
			h.Errorf("after the second rename: %d proven, %s", n, faults)
		}
		if len(h.logFiles("a"))+len(h.logFiles("b")) != 0 {
			h.Error("files are left under the old names")
		}

		h.put("a", 1)
		h.write("a", 1)
		if n, faults := h.prove("a"); n != 1 || faults != "" {
			h.Errorf("the old name: %d proven, %s", n, faults)
		}
		for path, doc := range old {
			h.must(os.WriteFile(strings.Replace(path, "b.log", "c.log", 1), doc, 0o600))
		}
		if _, faults := h.prove("c"); faults == "" {
			h.Error("an older copy is not found after a rename")
		}
	})
}

// TestLogOfARenameCutOff: killed between the new record and the move of the log.
func TestLogOfARenameCutOff(t *testing.T) {
	for name, use := range map[string]func(h *home){
		"the new name is used first": func(h *home) { h.write("b", 1) },
		"the old name is looked at first": func(h *home) {
			g := h.again().lock("a")
			_, _ = g.Read(h.Context())
			g.Unlock()
			h.write("b", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			everyKind(t, func(h *home) {
				h.put("a", 1)
				h.write("a", 3)
				a, b := h.again().lock("a"), h.again().lock("b")
				rec, err := a.Read(h.Context())
				h.must(err)
				h.must(a.writeTombstone(tombstone{MovedTo: "b"}))
				_, err = b.ensureKey(h.Context())
				h.must(err)
				log := a.store.reach(a.key, a.sealing, a.auditSeal(a.sealing))
				log.key = a.store.auditKey(a.key, a.sealing)
				rec.Name, b.log = "b", &log
				h.must(b.Commit(h.Context(), rec))
				a.Unlock()
				b.Unlock()
				use(h)
				if n, faults := h.prove("b"); n != 4 || faults != "" {
					h.Errorf("%d proven, %s", n, faults)
				}
				if _, err := h.again().store.Header(key("a")); err == nil {
					h.Error("the old name is still there")
				}
			})
		})
	}
}

// TestDamagedRecordLosesNoProof: the key of the log does not lie in the record.
func TestDamagedRecordLosesNoProof(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.write("a", 2)
		path := filepath.Join(h.store.Dir(), "p1", "a"+recordSuffix)
		doc, err := os.ReadFile(path)
		h.must(err)
		doc[len(doc)-1] ^= 1
		h.must(os.WriteFile(path, doc, 0o600))
		if n, faults := h.prove("a"); n != 2 || faults != "" {
			h.Errorf("%d proven, %s", n, faults)
		}
	})
}

func TestAuditSeal(t *testing.T) {
	for _, a := range []auditSeal{
		{},
		{anchor: audit.Anchor{Last: 7, MAC: "00ff", At: time.Unix(1_700_000_000, 0)}},
		{key: bytes.Repeat([]byte{3}, keySize), anchor: audit.Anchor{At: time.Unix(0, 0)}},
	} {
		if got := parseAuditSeal(a.String()); got.anchor != a.anchor || !bytes.Equal(got.key, a.key) {
			t.Errorf("%+v became %+v", a, got)
		}
	}
	for _, text := range []string{"", "x", "1 2", "-1 a b c", "1  2 !!"} {
		if got := parseAuditSeal(text); got.key != nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
