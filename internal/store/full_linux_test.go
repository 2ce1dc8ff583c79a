package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// smallDisk mounts a file system of 1 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		if os.Getenv("APIAUTH_TEST_PEERS") == "required" { //nolint:forbidigo // how strict this run is
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("left out: a small disk cannot be mounted (%v)", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill takes all the space there is.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path) //nolint:gosec // below a temporary folder
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	_ = f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

func TestFullDisk(t *testing.T) {
	for _, kind := range []string{fileRaw, keychain} {
		t.Run(kind, func(t *testing.T) {
			disk := smallDisk(t)
			h := openIn(t, kind, filepath.Join(disk, "stores"), keyringtest.NewMemory())
			h.put("a", 1)
			free := fill(t, disk)
			g := h.lock("a")
			h.wantErr(g.Begin(t.Context(), intent(2)), connection.ErrStoreFull)
			_, err := h.store.Prepare(t.Context(), key("b"))
			h.wantErr(err, connection.ErrStoreFull)
			if h.store.Pending(key("a")) {
				t.Error("half an intent is left")
			}
			h.read("a")
			free()

			// Full in flight: the reserve holds the answer, and what the answer
			// does not need holds the record.
			h.must(g.Begin(t.Context(), intent(2)))
			free = fill(t, disk)
			h.must(g.Seal(t.Context(), make([]byte, 8<<10)))
			rec := sample("a", 2)
			rec.Body.Access = secret.New(strings.Repeat("a", 8<<10))
			h.must(g.Commit(t.Context(), rec))
			free()
			if h.read("a").Generation != 2 || h.store.Pending(key("a")) {
				t.Error("the record did not take the place of the reserve")
			}

			// An answer that leaves no room for the record is promoted later.
			h.must(g.Begin(t.Context(), intent(3)))
			free = fill(t, disk)
			h.must(g.Seal(t.Context(), make([]byte, 192<<10)))
			rec.Generation = 3
			rec.Body.Access = secret.New(strings.Repeat("a", 64<<10))
			h.wantErr(g.Commit(t.Context(), rec), connection.ErrStoreFull)
			g.Unlock()
			free()
			g = h.lock("a")
			j, err := g.Journal(t.Context())
			if err != nil || j == nil || len(j.Raw) != 192<<10 {
				t.Fatal("the answer is gone", err)
			}
			h.must(g.Commit(t.Context(), rec))

			// A later process finds a full disk and an answer: it uses the
			// reserve too.
			h.must(g.Begin(t.Context(), intent(4)))
			h.must(g.Seal(t.Context(), make([]byte, 8<<10)))
			g.Unlock()
			free = fill(t, disk)
			g = h.again().lock("a")
			if j, err := g.Journal(t.Context()); err != nil || j == nil || j.Raw == nil {
				t.Fatal("no answer", err)
			}
			rec.Generation = 4
			h.must(g.Commit(t.Context(), rec))
			free()

			// And a full disk does not keep anybody from forgetting.
			free = fill(t, disk)
			h.must(g.Delete(t.Context()))
			free()
			if got := h.files(); len(got) != 0 || len(h.mem.Contents()) != 0 {
				t.Errorf("left: %v and %d items", got, len(h.mem.Contents()))
			}
		})
	}
}
