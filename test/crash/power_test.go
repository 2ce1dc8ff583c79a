//go:build linux

package crash

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
)

// a kill leaves what was written to the system; a power cut takes what
// was not synced. The refresh is cut off before each call that touches a file of
// the connection or the network, and the files are then made what a power cut may
// have left by the letter of fsync(2): contents as of the last sync of the file,
// names as of the last sync of the folder, or some of the newer ones. From each of
// these states a new process goes on. Lost is only what came between the issuer's
// commit and the sync of its answer, and only with a strict issuer.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]sandbox.Options{"strict": strict(), "grace": grace()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, o)
			h := withFile(t, is)
			canTrace(t, h)
			cuts, inside, lost, changed := 0, 0, 0, 0
			for n := 1; ; n++ {
				states := leftBehind()
				if !long() {
					states = []remains{states[n%4], states[4]} // two of them at each point
				}
				done := false
				for _, left := range states {
					conn, _ := h.expired()
					before := is.Stats()
					d := newMedium(h, conn)
					at := 0
					x := h.trace(tracing{port: is.port(), leave: d.leave, enter: func(_ int, c call) bool {
						if d.touches(c) {
							at++
						}
						return at == n
					}}, "token", conn)
					is.settle()
					committed := is.Stats().Refreshes - before.Refreshes
					if x.code != 128+9 {
						if x.code != 0 {
							t.Fatal(x.redacted())
						}
						done = true
						break
					}
					cuts++
					if d.cut(left) {
						changed++
					}
					window := committed > 0 && x.inWindow() && !d.recorded
					if window {
						inside++
					}
					r, err := h.proven(conn)
					where := fmt.Sprintf("cut before %s %s, left behind: %s; %d sent, %d sealed, %d committed", x.last.name(), x.last.path, left.name, x.sends, x.seals, committed)
					switch {
					case err == nil:
					case o.Grace == 0 && window && r.code == 4 && strings.Contains(r.flat(), "a refresh was interrupted"):
						lost++
					default:
						t.Errorf("%s: the grant is lost: %v", where, err)
					}
				}
				if done {
					break
				}
			}
			t.Logf("%d power cuts, %d of them took something, %d between commit and journal, %d lost there", cuts, changed, inside, lost)
			if changed < cuts/4 {
				t.Error("hardly any cut took anything: the test proves less than it says")
			}
		})
	}
}

// remains is one of the states that a power cut may leave.
type remains struct {
	name  string
	newer func(i int) bool // whether the i-th change of a name since the folder's last sync is there
	torn  bool             // half of what was written to a file since its last sync is there
}

func leftBehind() []remains {
	none := func(int) bool { return false }
	all := func(int) bool { return true }
	return []remains{
		{"what was synced", none, false},
		{"all names, contents as synced", all, false},
		{"all names, half of the contents", all, true},
		{"every other name", func(i int) bool { return i%2 == 0 }, false},
		{"the other names", func(i int) bool { return i%2 == 1 }, true},
	}
}

// medium knows of the files of one connection what is on the medium for certain.
type medium struct {
	t        testing.TB
	dir      string
	conn     string
	names    map[string]uint64 // as of the last sync of the folder
	contents map[uint64][]byte // by file, as of its last sync
	recorded bool              // the record is being written: by then the answer must be certain
}

// newMedium begins with everything synced.
func newMedium(h *home, conn string) *medium {
	d := &medium{t: h.t, dir: filepath.Dir(h.recordFile(conn)), conn: conn}
	d.names, d.contents = d.look()
	return d
}

// ours tells the files of the connection, but for its locks, which are empty.
func (d *medium) ours(name string) bool {
	name = strings.TrimPrefix(name, ".")
	return strings.HasPrefix(name, d.conn+".") && !strings.HasSuffix(name, ".lock")
}

func (d *medium) touches(c call) bool {
	d.recorded = d.recorded || c.name() == "write" && strings.HasSuffix(c.path, ".tmp")
	switch c.name() {
	case "pwrite64", "fsync", "fallocate", "write":
		return c.path == d.dir || strings.HasPrefix(c.path, "socket:") || filepath.Dir(c.path) == d.dir && d.ours(filepath.Base(c.path))
	case "renameat", "renameat2", "unlinkat", "exit_group":
		return true
	}
	return false
}

// leave takes down what a sync has made certain.
func (d *medium) leave(c call, ret int64) {
	if c.name() != "fsync" || ret != 0 {
		return
	}
	names, contents := d.look()
	if c.path == d.dir {
		d.names = names
		return
	}
	if file, ok := names[filepath.Base(c.path)]; ok && filepath.Dir(c.path) == d.dir {
		d.contents[file] = contents[file]
	}
}

// look reads the files as the system shows them.
func (d *medium) look() (names map[string]uint64, contents map[uint64][]byte) {
	names, contents = map[string]uint64{}, map[uint64][]byte{}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		d.t.Error(err)
	}
	for _, e := range entries {
		var st syscall.Stat_t
		path := filepath.Join(d.dir, e.Name())
		if !d.ours(e.Name()) || syscall.Stat(path, &st) != nil {
			continue
		}
		if names[e.Name()] = st.Ino; contents[st.Ino] == nil {
			contents[st.Ino], _ = os.ReadFile(path)
		}
	}
	return names, contents
}

// cut makes the files what the power cut left, and reports whether that differs
// from what the system showed.
func (d *medium) cut(r remains) (took bool) {
	now, written := d.look()
	names := maps.Clone(d.names)
	changes := map[string]bool{}
	for name := range now {
		changes[name] = now[name] != d.names[name]
	}
	for name := range d.names {
		changes[name] = now[name] != d.names[name]
	}
	i := 0
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		if !changes[name] {
			continue
		}
		if r.newer(i) {
			if file, there := now[name]; there {
				names[name] = file
			} else {
				delete(names, name)
			}
		}
		i++
	}
	for name := range now {
		if err := os.Remove(filepath.Join(d.dir, name)); err != nil {
			d.t.Error(err)
		}
	}
	took = !maps.Equal(names, now)
	for name, file := range names {
		content := d.contents[file]
		if r.torn && string(written[file]) != string(content) {
			half := len(written[file]) / 2
			content = append(slices.Clone(written[file][:half]), content[min(half, len(content)):]...)
		}
		took = took || string(content) != string(written[file])
		if err := os.WriteFile(filepath.Join(d.dir, name), content, 0o600); err != nil {
			d.t.Error(err)
		}
	}
	return took
}
