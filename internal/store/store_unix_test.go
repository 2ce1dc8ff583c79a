//go:build unix

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	for _, kind := range []string{fileRaw, keychain} {
		t.Run(kind, func(t *testing.T) {
			h := open(t, kind)
			h.put("a", 1)
			g := h.lock("a")
			h.must(g.Begin(t.Context(), intent(2)))
			h.must(h.store.SetClient(t.Context(), registration(""), secret.New("s")))
			h.must(filepath.WalkDir(filepath.Dir(h.opt.Dir), func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := d.Info()
				if err != nil {
					return err
				}
				want := fs.FileMode(0o600)
				if d.IsDir() {
					want = 0o700
				}
				if info.Mode().Perm() != want {
					t.Errorf("%s has mode %#o, want %#o", path, info.Mode().Perm(), want)
				}
				return nil
			}))
			h.must(os.Chmod(h.store.Dir(), 0o755)) //nolint:gosec // the point of the test
			g.Unlock()
			h.lock("a")
			if info, err := os.Stat(h.store.Dir()); err != nil || info.Mode().Perm() != 0o700 {
				t.Error("a folder that others may look into stayed so", err)
			}
		})
	}
}

func TestLinksAndStrangers(t *testing.T) {
	h := open(t, fileRaw)
	h.put("a", 1)
	target := filepath.Join(t.TempDir(), "target")
	doc, err := os.ReadFile(h.path("a", recordSuffix))
	h.must(err)
	h.must(os.WriteFile(target, doc, 0o600))
	replaceBy := func(path string, with func(path string) error) {
		t.Helper()
		_ = os.Remove(path)
		h.must(with(path))
	}
	link := func(path string) error { return os.Symlink(target, path) }

	replaceBy(h.path("a", recordSuffix), link)
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreRead)
	replaceBy(h.path("a", recordSuffix), func(p string) error { return syscall.Mkfifo(p, 0o600) })
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreRead)
	replaceBy(h.path("a", recordSuffix), func(p string) error { return os.WriteFile(p, doc, 0o600) })

	g := h.lock("a")
	replaceBy(h.path("a", journalSuffix), link)
	h.wantErr(g.Begin(t.Context(), intent(2)), connection.ErrStoreWrite)
	g.Unlock()
	if now, err := os.ReadFile(target); err != nil || string(now) != string(doc) {
		t.Error("the link's target was written", err)
	}
	replaceBy(h.path("b", lockSuffix), link)
	if _, err := h.store.Lock(t.Context(), key("b"), 0); err == nil {
		t.Error("a linked lock file was taken")
	}
	h.must(os.Symlink(t.TempDir(), filepath.Join(h.store.Dir(), "p2")))
	if _, err := h.store.Lock(t.Context(), connection.Key{Project: "p2", Name: "a"}, 0); !errors.Is(err, connection.ErrStoreWrite) {
		t.Errorf("a linked folder: %v", err)
	}
	h.must(os.Chmod(h.path("a", recordSuffix), 0o666)) //nolint:gosec // the point of the test
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreRead)

	if os.Geteuid() != 0 {
		t.Log("not root: folders of other users are not tried")
		return
	}
	h = open(t, fileRaw)
	h.put("a", 1)
	for _, path := range []string{h.store.Dir(), h.opt.Dir, filepath.Dir(h.path("a", ""))} {
		h.must(os.Chown(path, 12345, 12345))
		if _, err := h.store.Lock(t.Context(), key("a"), 0); !errors.Is(err, connection.ErrStoreWrite) {
			t.Errorf("%s of another user: %v", path, err)
		}
		if path != h.opt.Dir {
			if _, err := h.store.Read(t.Context(), key("a")); !errors.Is(err, connection.ErrStoreRead) {
				t.Errorf("read below %s of another user: %v", path, err)
			}
		}
		h.must(os.Chown(path, 0, 0))
	}
	h.must(os.Chown(h.path("a", recordSuffix), 12345, 12345))
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreRead)
}

func TestLockHolderStopped(t *testing.T) {
	h := open(t, fileRaw)
	cmd := h.holder("a")
	h.must(cmd.Process.Signal(syscall.SIGSTOP))
	defer func() { _ = cmd.Process.Signal(syscall.SIGCONT) }()
	for range 20 { // each leaves nothing behind but the one wait that all share
		_, err := h.store.Lock(t.Context(), key("a"), 5*time.Millisecond)
		var locked *connection.LockedError
		if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
			t.Fatalf("got %v", err)
		}
	}
	h.must(cmd.Process.Kill())
	g, err := h.store.Lock(t.Context(), key("a"), 10*time.Second)
	h.must(err)
	g.Unlock()
}
