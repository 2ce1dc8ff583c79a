package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
)

// a lock that somebody else can take as well is none. Where file systems
// differ, the file of the lock being another than the one that is held has the
// same effect: no refresh begins.
func TestLockThatKeepsNobodyOut(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		g := h.lock("a")
		h.must(g.Begin(h.Context(), intent(2)))
		h.must(g.Drop())
		h.must(os.Rename(h.path("a", lockSuffix), h.path("a", ".aside")))
		err := g.Begin(h.Context(), intent(2))
		h.wantErr(err, connection.ErrNotExclusive)
		if !strings.Contains(err.Error(), filepath.Dir(h.path("a", ""))) {
			h.Errorf("the error does not name the folder: %v", err)
		}
		if h.store.Pending(key("a")) {
			h.Error("an intent was written all the same")
		}
		// The proof itself keeps nobody out afterwards.
		g.Unlock()
		h.must(h.lock("a").Begin(h.Context(), intent(2)))
	})
}

// what other machines can reach is told once, and before a refresh or a
// login only.
func TestNetworkFileSystemIsTold(t *testing.T) {
	for _, remote := range []bool{true, false} {
		t.Run(fmt.Sprint("remote ", remote), func(t *testing.T) {
			h := open(t, keychain)
			var told, asked []string
			h.opt.Warn = func(format string, a ...any) { told = append(told, fmt.Sprintf(format, a...)) }
			h.opt.FileSystem = func(dir string) (string, bool) {
				asked = append(asked, dir)
				return "nfs", remote
			}
			h.put("a", 1)
			h = h.again()
			h.read("a")
			g := h.lock("a")
			if _, err := g.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(asked) > 0 || len(told) > 0 {
				t.Errorf("a read asked for the file system: %v, %v", asked, told)
			}
			for range 2 {
				h.must(g.Begin(t.Context(), intent(2)))
			}
			_, err := h.store.Prepare(t.Context(), key("b"))
			h.must(err)
			if !slices.Equal(asked, []string{h.store.Dir()}) {
				t.Errorf("asked about %v", asked)
			}
			if remote != (len(told) == 1 && strings.Contains(told[0], "(nfs)")) || len(told) > 1 {
				t.Errorf("told: %q", told)
			}
			if kind, is := h.store.FileSystem(); kind != "nfs" || is != remote {
				t.Errorf("the store says %s, %t", kind, is)
			}
		})
	}
}

// A disk of this machine is no network, and neither is what is not there.
func TestLocalFileSystem(t *testing.T) {
	dir := t.TempDir()
	if kind, remote := fileSystem(dir); remote {
		t.Errorf("the temporary folder is on %s", kind)
	}
	if kind, remote := fileSystem(filepath.Join(dir, "none")); remote {
		t.Errorf("a missing folder is on %q", kind)
	}
}
