//go:build !windows

package project

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// R-47, with the most open umask there is.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	root := folders(t, "a", "open")
	state := filepath.Join(root, "deep", "state")
	r := Open(state)
	if _, err := r.Bind(filepath.Join(root, "a"), ""); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{filepath.Dir(state): 0o700, state: 0o700, r.Path(): 0o600, filepath.Join(state, "projects.lock"): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	// A folder that is open to others is closed.
	open := filepath.Join(root, "open")
	must(t, os.Chmod(open, 0o777))
	if _, err := Open(open).Bind(filepath.Join(root, "a"), ""); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(open); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	// Restrictive masks leave the manifest readable and the list usable.
	syscall.Umask(0o777)
	path, err := Write(filepath.Join(root, "a"), &Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestUnsafePlaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		reads bool // reading is refused too
		spoil func(t *testing.T, state string)
	}{
		{"the list is a link", true, func(t *testing.T, state string) {
			must(t, os.WriteFile(filepath.Join(state, "elsewhere"), []byte(`{"format":1,"projects":[]}`), 0o600))
			must(t, os.Symlink("elsewhere", filepath.Join(state, "projects.json")))
		}},
		{"the list is a dangling link", true, func(t *testing.T, state string) {
			must(t, os.Symlink("nowhere", filepath.Join(state, "projects.json")))
		}},
		{"the list is a folder", true, func(t *testing.T, state string) { must(t, os.Mkdir(filepath.Join(state, "projects.json"), 0o700)) }},
		{"the list is a pipe", true, func(t *testing.T, state string) {
			must(t, syscall.Mkfifo(filepath.Join(state, "projects.json"), 0o600))
		}},
		{"others may write the list", true, func(t *testing.T, state string) {
			path := filepath.Join(state, "projects.json")
			must(t, os.WriteFile(path, []byte(`{"format":1,"projects":[]}`), 0o600))
			must(t, os.Chmod(path, 0o660))
		}},
		{"the list is somebody else's", true, func(t *testing.T, state string) {
			path := filepath.Join(state, "projects.json")
			must(t, os.WriteFile(path, []byte(`{"format":1,"projects":[]}`), 0o600))
			foreign(t, path)
		}},
		{"the folder is somebody else's", false, func(t *testing.T, state string) { foreign(t, state) }},
		{"the folder is a link", false, func(t *testing.T, state string) {
			must(t, os.Rename(state, state+"2"))
			must(t, os.Symlink(state+"2", state))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := folders(t, "a", "state")
			a, state := filepath.Join(root, "a"), filepath.Join(root, "state")
			must(t, os.Chmod(state, 0o700))
			c.spoil(t, state)
			r := Open(state)
			if _, err := r.Bind(a, ""); !isType[*UnsafeError](err) {
				t.Errorf("Bind: %v", err)
			}
			if _, err := r.Resolve(a); c.reads != isType[*UnsafeError](err) {
				t.Errorf("Resolve: %v", err)
			}
		})
	}
	if _, err := Open("relative").Bind(t.TempDir(), ""); !isType[*UnsafeError](err) {
		t.Errorf("relative: %v", err)
	}
}

// A lock file that is a link is not followed.
func TestLockFileIsNoLink(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(dir, "target"), filepath.Join(dir, "lock")))
	if _, err := lockFile(filepath.Join(dir, "lock"), 0); !isSymlinkError(err) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "target")); err == nil {
		t.Error("the target was made")
	}
}
