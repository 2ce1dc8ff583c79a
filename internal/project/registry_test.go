package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if state := os.Getenv("PROJECT_TEST_BIND"); state != "" {
		id, err := Open(state).Bind(os.Args[1], "child")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print(id)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func folders(t *testing.T, names ...string) (root string) {
	t.Helper()
	root, err := Canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(root, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func wantUnbound(t *testing.T, r *Registry, dir string, reason Reason, id string) {
	t.Helper()
	p, err := r.Resolve(dir)
	unbound, ok := errors.AsType[*UnboundError](err)
	if p != nil || !ok || unbound.Reason != reason || unbound.ID != id {
		t.Errorf("Resolve(%s) = %v, %v (%+v); want unbound: %s", dir, p, err, unbound, reason)
	}
}

func wantBound(t *testing.T, r *Registry, dir, id string) {
	t.Helper()
	if p, err := r.Resolve(dir); err != nil || p.ID != id {
		t.Errorf("Resolve(%s) = %v, %v; want %s", dir, p, err, id)
	}
}

// a copy, another folder at the old path and a renamed folder are refused
// until somebody approves them.
func TestIsolation(t *testing.T) {
	root := folders(t, "a", "b")
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	r := Open(filepath.Join(root, "state"))

	wantUnbound(t, r, a, NeverBound, "")
	id, err := r.Bind(a, "my-site")
	must(t, err)
	if !validProjectID(id) || id == Personal {
		t.Errorf("id %q", id)
	}
	wantBound(t, r, a, id)
	wantBound(t, r, a+"/../a/", id)

	// A copy with the same manifest and label is a folder like any other.
	wantUnbound(t, r, b, NeverBound, "")
	other, err := r.Bind(b, "my-site")
	must(t, err)
	if other == id {
		t.Error("two folders share a project")
	}

	// A link to the folder is the folder; the path does not matter.
	link := filepath.Join(root, "link")
	must(t, os.Symlink(a, link))
	wantBound(t, r, link, id)

	// Renamed.
	moved := filepath.Join(root, "moved")
	must(t, os.Rename(a, moved))
	wantUnbound(t, r, moved, Moved, id)
	// A link left at the old place does not make it any better.
	must(t, os.Symlink(moved, a))
	wantUnbound(t, r, moved, Moved, id)
	wantUnbound(t, r, a, Moved, id)
	must(t, os.Remove(a))

	// Made anew at the old place.
	must(t, os.Mkdir(a, 0o755))
	wantUnbound(t, r, a, Recreated, id)

	// Approved.
	must(t, r.Link(moved, id))
	wantBound(t, r, moved, id)
	wantUnbound(t, r, a, NeverBound, "")
	must(t, r.Link(a, id)) // a second working tree
	wantBound(t, r, a, id)
	wantBound(t, r, moved, id)

	// To another project: taken from the first.
	must(t, r.Link(a, other))
	wantBound(t, r, a, other)
	p, err := r.Get(id)
	if err != nil || len(p.Folders) != 1 || p.Folders[0].Path != moved {
		t.Errorf("%+v, %v", p, err)
	}

	must(t, r.Unlink(a))
	wantUnbound(t, r, a, NeverBound, "")
	if err := r.Unlink(a); !isType[*UnboundError](err) {
		t.Errorf("unlinked twice: %v", err)
	}
	if err := r.Link(a, "0123456789abcdef"); !isType[*UnknownProjectError](err) {
		t.Errorf("linked to nothing: %v", err)
	}
	if err := r.Link(a, Personal); !isType[*UnknownProjectError](err) {
		t.Errorf("linked to the personal project: %v", err)
	}
	must(t, r.Remove(other))
	if _, err := r.Get(other); !isType[*UnknownProjectError](err) {
		t.Errorf("removed: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A file system that hands out the number of a deleted folder again must not
// pass the new folder off as the old one.
func TestRecreatedAtOnce(t *testing.T) {
	root := folders(t, "a")
	a := filepath.Join(root, "a")
	r := Open(filepath.Join(root, "state"))
	id, err := r.Bind(a, "")
	must(t, err)
	first, err := identityOf(a)
	must(t, err)
	// Times of birth come from a clock that ticks some hundred times a second:
	// wait for the next tick.
	probe := filepath.Join(root, "probe")
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		must(t, os.Mkdir(probe, 0o755))
		now, err := identityOf(probe)
		must(t, err)
		must(t, os.Remove(probe))
		if now.Born != first.Born || now.Born == 0 {
			break
		}
	}
	for range 20 {
		must(t, os.Remove(a))
		must(t, os.Mkdir(a, 0o755))
		now, err := identityOf(a)
		must(t, err)
		if now.Born == 0 {
			t.Skip("this file system tells no time of birth")
		}
		wantUnbound(t, r, a, Recreated, id)
	}
	must(t, os.Remove(a))
	must(t, r.Unlink(a)) // also when it is gone
}

func TestIdentity(t *testing.T) {
	i := Identity{Device: 1, Inode: 2, Born: 3}
	for _, c := range []struct {
		name string
		j    Identity
		want bool
	}{
		{"equal", Identity{1, 2, 3}, true},
		{"the device is numbered anew", Identity{9, 2, 3}, true},
		{"another inode", Identity{1, 9, 3}, false},
		{"another birth", Identity{1, 2, 9}, false},
		{"no birth told, same device", Identity{1, 2, 0}, true},
		{"no birth told, another device", Identity{9, 2, 0}, false},
	} {
		if got := i.same(c.j); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if got := c.j.same(i); got != c.want {
			t.Errorf("%s, the other way: %v", c.name, got)
		}
	}
	if (Identity{1, 2, 0}).same(Identity{9, 2, 0}) {
		t.Error("another device, no births: the same")
	}
}

func TestIdentityIsOfFoldersOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := identityOf(file); err == nil {
		t.Error("a file has the identity of a folder")
	}
}

func TestStoreAndList(t *testing.T) {
	root := folders(t, "a", "b")
	r := Open(filepath.Join(root, "state"))
	if l, err := r.List(); err != nil || len(l) != 0 {
		t.Errorf("%v, %v", l, err)
	}
	if _, err := os.Stat(filepath.Join(root, "state")); err == nil {
		t.Error("reading made the state folder")
	}
	if p, err := r.Get(Personal); err != nil || p.ID != Personal || p.Store != "" {
		t.Errorf("%v, %v", p, err)
	}
	must(t, r.SetStore(Personal, "keychain:1"))
	id, err := r.Bind(filepath.Join(root, "a"), "A")
	must(t, err)
	second, err := r.Bind(filepath.Join(root, "b"), "B")
	must(t, err)
	must(t, r.SetStore(id, "file:2"))
	must(t, r.SetStore(id, "file:2"))
	if p, err := r.Get(Personal); err != nil || p.Store != "keychain:1" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := r.Resolve(filepath.Join(root, "a")); err != nil || p.Store != "file:2" || p.Label != "A" {
		t.Errorf("%v, %v", p, err)
	}
	l, err := r.List()
	if err != nil || len(l) != 2 || l[0].ID != id || l[1].ID != second {
		t.Errorf("%v, %v", l, err)
	}
	if err := r.SetStore("0123456789abcdef", "x"); !isType[*UnknownProjectError](err) {
		t.Errorf("%v", err)
	}
	if _, err := r.Bind(filepath.Join(root, "a"), "bad\nlabel"); err == nil {
		t.Error("a label with a line end")
	}
	if again, err := r.Bind(filepath.Join(root, "a"), "other"); err != nil || again != id {
		t.Errorf("bound twice: %q, %v", again, err)
	}
}

// Two processes that meet an unbound folder at once make one project.
func TestBindAtOnce(t *testing.T) {
	root := folders(t, "a", "b", "c", "d")
	state := filepath.Join(root, "state")
	self, err := os.Executable()
	must(t, err)
	names := []string{"a", "b", "c", "d"}
	out := make([]bytes.Buffer, 12)
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), self, filepath.Join(root, names[i%len(names)]))
			cmd.Env = append(os.Environ(), "PROJECT_TEST_BIND="+state)
			cmd.Stdout = &out[i]
			if err := cmd.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r := Open(state)
	for i := range out {
		wantBound(t, r, filepath.Join(root, names[i%len(names)]), out[i].String())
	}
	if l, err := r.List(); err != nil || len(l) != len(names) {
		t.Errorf("%d projects, %v", len(l), err)
	}
	entries, err := os.ReadDir(state)
	must(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if want := []string{"projects.json", "projects.lock"}; !slices.Equal(left, want) {
		t.Errorf("the folder holds %q", left)
	}
}

func TestLockIsWaitedForAndGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(path, time.Second)
	must(t, err)
	if _, err := lockFile(path, time.Millisecond); !errors.Is(err, errLockBusy) {
		t.Errorf("held: %v", err)
	}
	unlock()
	unlock, err = lockFile(path, time.Second)
	must(t, err)
	unlock()
}

// A list that cannot be understood is reported and never written over.
func TestDamagedList(t *testing.T) {
	good := `{"format":1,"projects":[{"id":"0123456789abcdef","label":"","paths":[]}]}`
	for _, c := range []struct {
		name, text string
		newer      bool
	}{
		{"empty", "", false},
		{"cut off", good[:40], false},
		{"not JSON", "hello", false},
		{"a list", "[]", false},
		{"no format", `{"projects":[]}`, false},
		{"format as text", `{"format":"1","projects":[]}`, false},
		{"negative format", `{"format":-1}`, false},
		{"newer", `{"format":2,"projects":{"shape":"other"}}`, true},
		{"unknown field", `{"format":1,"projects":[],"more":1}`, false},
		{"unknown field inside", `{"format":1,"projects":[{"id":"0123456789abcdef","label":"","paths":[],"more":1}]}`, false},
		{"something behind", good + "{}", false},
		{"malformed id", `{"format":1,"projects":[{"id":"../../x","label":"","paths":[]}]}`, false},
		{"the same id twice", `{"format":1,"projects":[{"id":"personal","label":"","paths":[]},{"id":"personal","label":"","paths":[]}]}`, false},
		{"relative path", `{"format":1,"projects":[{"id":"0123456789abcdef","label":"","paths":[{"path":"x","device":"1","inode":"1"}]}]}`, false},
		{"number out of range", `{"format":1,"projects":[{"id":"0123456789abcdef","label":"","paths":[{"path":"/x","device":"-1","inode":"1"}]}]}`, false},
		{"too large", `{"format":1,"projects":[]` + strings.Repeat(" ", maxRegistry) + "}", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := folders(t, "a", "state")
			a := filepath.Join(root, "a")
			r := Open(filepath.Join(root, "state"))
			must(t, os.WriteFile(r.Path(), []byte(c.text), 0o600))
			wrong := isType[*CorruptError]
			if c.newer {
				wrong = isType[*NewerFormatError]
			}
			_, err1 := r.Resolve(a)
			_, err2 := r.Bind(a, "")
			_, err3 := r.List()
			_, err4 := r.Get(Personal)
			for i, err := range []error{err1, err2, err3, err4, r.Link(a, "0123456789abcdef"), r.Unlink(a), r.SetStore(Personal, "x"), r.Remove("0123456789abcdef")} {
				if !wrong(err) || len(err.Error()) > 500 {
					t.Errorf("call %d: %v", i, err)
				}
			}
			if got, err := os.ReadFile(r.Path()); err != nil || string(got) != c.text {
				t.Error("the list was changed")
			}
		})
	}
}

// A process that was killed between temporary file and rename leaves nothing
// that matters.
func TestLeftOverTemporaryFile(t *testing.T) {
	root := folders(t, "a", "state")
	r := Open(filepath.Join(root, "state"))
	must(t, os.WriteFile(r.Path()+".tmp", []byte("half"), 0o600))
	id, err := r.Bind(filepath.Join(root, "a"), "")
	must(t, err)
	wantBound(t, r, filepath.Join(root, "a"), id)
	if _, err := os.Stat(r.Path() + ".tmp"); err == nil {
		t.Error("it is still there")
	}
}

func TestListIsReadable(t *testing.T) {
	root := folders(t, "a")
	r := Open(filepath.Join(root, "state"))
	_, err := r.Bind(filepath.Join(root, "a"), "café <x>")
	must(t, err)
	data, err := os.ReadFile(r.Path())
	must(t, err)
	var got struct {
		Format   int
		Projects []struct {
			ID, Label string
			Paths     []struct{ Path, Device, Inode, Born string }
		}
	}
	must(t, json.Unmarshal(data, &got))
	if got.Format != 1 || len(got.Projects) != 1 || got.Projects[0].Paths[0].Path != filepath.Join(root, "a") || got.Projects[0].Paths[0].Inode == "" {
		t.Errorf("%s", data)
	}
	if runtime.GOOS == "linux" && got.Projects[0].Paths[0].Born == "" {
		t.Log("no time of birth on this file system")
	}
}

// The glance and the close look agree on every list that is written.
func TestGlance(t *testing.T) {
	root := folders(t, "plain", `sp ace`, `qu"ote`, `back\slash`, "amp<&>", "é日本", "line\nend", "a", "aa")
	r := Open(filepath.Join(root, "state"))
	entries, err := os.ReadDir(root)
	must(t, err)
	for _, e := range entries {
		dir := filepath.Join(root, e.Name())
		id, err := r.Bind(dir, `label with {"path":`)
		must(t, err)
		path, identity, err := identify(dir)
		must(t, err)
		data, err := r.load()
		must(t, err)
		p := glanceFolder(data, path, identity)
		if p == nil || p.ID != id {
			t.Errorf("%q: the glance finds %v", dir, p)
		}
		l, err := parseList("f", data)
		must(t, err)
		if q, err := l.resolve(path, identity); err != nil || !reflect.DeepEqual(p, q) {
			t.Errorf("%q: %+v and %+v, %v", dir, p, q, err)
		}
		identity.Inode++
		if p := glanceFolder(data, path, identity); p != nil {
			t.Errorf("%q: the glance finds a folder that was made anew", dir)
		}
		if p := glanceFolder(data[:len(data)-1], path, identity); p != nil {
			t.Error("the glance finds something in a list that is cut off")
		}
	}
	// A list that somebody has laid out differently is read all the same.
	data, err := r.load()
	must(t, err)
	var b bytes.Buffer
	must(t, json.Indent(&b, data, "", "\t"))
	must(t, os.WriteFile(r.Path(), b.Bytes(), 0o600))
	if _, err := r.Resolve(filepath.Join(root, "plain")); err != nil {
		t.Error(err)
	}
}

func TestPathMustBeUTF8(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a\xff")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("this file system has no such names")
	}
	if _, err := Open(t.TempDir()).Bind(dir, ""); err == nil || !strings.Contains(err.Error(), "UTF-8") {
		t.Errorf("%v", err)
	}
}

func BenchmarkResolve(b *testing.B) {
	root, err := Canonical(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	r := Open(filepath.Join(root, "state"))
	var dir string
	for i := range 20 {
		dir = filepath.Join(root, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if _, err := r.Bind(dir, "x"); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestName), []byte(example), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		path, _, err := Find(dir, root)
		if err != nil {
			b.Fatal(err)
		}
		m, err := LoadManifest(path, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Resolve(m.Dir()); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`{"format":1,"projects":[{"id":"0123456789abcdef","label":"","paths":[{"path":"/x","device":"1","inode":"2","born":"3"}],"store":"s"}]}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseList("f", data)
		if err != nil {
			if !isType[*CorruptError](err) && !isType[*NewerFormatError](err) {
				t.Fatal(err)
			}
			return
		}
		out, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseList("f", out); err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
	})
}

func TestRestore(t *testing.T) {
	root := folders(t, "state", "site", "other")
	r := Open(filepath.Join(root, "state"))
	site := filepath.Join(root, "site")
	id, err := r.Bind(site, "site")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(filepath.Join(root, "other"), "other", id, "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	if p, err := r.Get(id); err != nil || p.Label != "site" || p.Store != "" || len(p.Folders) != 1 {
		t.Errorf("a project that was there was changed: %+v, %v", p, err)
	}
	if err := r.Remove(id); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(site, "site", id, "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	wantBound(t, r, site, id)
	if p, err := r.Get(id); err != nil || p.Store != "0123456789abcdef" {
		t.Errorf("Get = %+v, %v", p, err)
	}
	// The folder has begun another project meanwhile: the older one takes it back.
	if err := r.Remove(id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Bind(site, "new"); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(site, "site", id, "0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	wantBound(t, r, site, id)
	for _, bad := range []string{"", Personal, "../x"} {
		if err := r.Restore(site, "site", bad, ""); err == nil {
			t.Errorf("Restore of %q succeeded", bad)
		}
	}
}
