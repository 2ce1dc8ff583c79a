package pack_test

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers/pack"
)

func texts(n int) map[string][]byte {
	all := map[string][]byte{"empty": nil}
	for i := range n {
		var b strings.Builder
		for line := range 40 {
			fmt.Fprintf(&b, "a line that many have: %d\n", line)
		}
		fmt.Fprintf(&b, "and one of its own: %d\n", i*i)
		all[fmt.Sprintf("text-%d", i)] = []byte(b.String())
	}
	return all
}

func build(t *testing.T, before pack.Pack, all map[string][]byte) pack.Pack {
	t.Helper()
	p, err := pack.Make(before, all)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEachTextIsFoundAndReadAlone(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 100, 1000} {
		want := texts(n)
		p := build(t, "", want)
		if p.Len() != len(want) {
			t.Fatalf("%d texts, want %d", p.Len(), len(want))
		}
		var names []string
		for i := range p.Len() {
			names = append(names, p.Name(i))
		}
		if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(names, sorted) {
			t.Fatalf("names %q, want %q", names, sorted)
		}
		for name, text := range want {
			found, ok := p.Find(name)
			if !ok || found.Name != name || found.Digest != sha256.Sum256(text) {
				t.Fatalf("%s: %v %q, or another digest", name, ok, found.Name)
			}
			if got, err := p.Unpack(found); err != nil || string(got) != string(text) {
				t.Fatalf("%s: %v\n%s", name, err, got)
			}
		}
		for _, name := range []string{"", "a", "text-", "text-00", "z", "empty "} {
			if found, ok := p.Find(name); ok {
				t.Errorf("%q was found: %+v", name, found)
			}
		}
	}
}

func TestNoPackHasNoTexts(t *testing.T) {
	p := pack.Pack("")
	if _, ok := p.Find("a"); ok || p.Len() != 0 {
		t.Errorf("found: %v, %d texts", ok, p.Len())
	}
}

func TestOneChangeChangesLittle(t *testing.T) {
	all := texts(100)
	before := build(t, "", all)
	if again := build(t, before, all); again != before {
		t.Error("the same texts gave another pack")
	}
	all["text-50"] = []byte("something else\n")
	delete(all, "text-60")
	all["text-7x"] = []byte("new\n")
	after := build(t, before, all)
	for name, text := range all {
		found, ok := after.Find(name)
		if got, err := after.Unpack(found); !ok || err != nil || string(got) != string(text) {
			t.Errorf("%s: %v %v\n%s", name, ok, err, got)
		}
	}
	if after.Len() != len(all) {
		t.Errorf("%d texts, want %d", after.Len(), len(all))
	}
	// The dictionary stays, though other lines are the best now.
	for name := range all {
		all[name] = []byte(strings.Repeat("nothing of what there was: "+name+"\n", 30))
	}
	if len(build(t, before, all)) <= len(build(t, "", all)) {
		t.Error("the dictionary was made anew")
	}
}

func TestWhatIsPackedIsSmall(t *testing.T) {
	all, size := texts(200), 0
	for _, text := range all {
		size += len(text)
	}
	if p := build(t, "", all); len(p) > size/5 {
		t.Errorf("%d bytes of %d", len(p), size)
	}
}

func TestTooLong(t *testing.T) {
	for name, text := range map[string]int{"a": 1<<20 + 1, strings.Repeat("a", 256): 1} {
		if _, err := pack.Make("", map[string][]byte{name: make([]byte, text)}); err == nil {
			t.Errorf("a name of %d bytes, a text of %d: packed", len(name), text)
		}
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "b", "a.yaml": "a", "readme.md": "no"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := pack.Folder(dir, ".yaml")
	if err != nil || len(got) != 2 || string(got["a"]) != "a" || string(got["b"]) != "b" {
		t.Errorf("%v %q", err, got)
	}
	if _, err := pack.Folder(filepath.Join(dir, "none"), ".yaml"); err == nil {
		t.Error("no error for a folder that is not there")
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	p := build(t, "", texts(300))
	if n := testing.AllocsPerRun(100, func() { p.Find("text-123") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
