//go:build !windows

package project

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// tree makes folders (names that end with /) and files, and returns the
// canonical path of their root.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root, err := Canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(root, name)
		if name[len(name)-1] == '/' {
			err = os.MkdirAll(path, 0o755)
		} else {
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = os.WriteFile(path, []byte("project: x\n"), 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFind(t *testing.T) {
	root := tree(t, "apiauth.yaml", "home/apiauth.yaml", "home/a/b/", "home/repo/.git/", "home/repo/sub/", "home/wt/.git", "home/wt/apiauth.yaml", "home/wt/x/y/",
		"home/near/apiauth.yaml", "home/near/in/apiauth.yaml", "home/near/in/deep/", "elsewhere/x/", "bare/home/x/")
	if err := os.Symlink(filepath.Join(root, "home/near/in"), filepath.Join(root, "elsewhere/link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, home, want string }{
		{"home/a/b", "home", "home/apiauth.yaml"},
		{"home", "home", "home/apiauth.yaml"},
		{"home/repo/sub", "home", ""}, // .git is the boundary
		{"home/repo", "home", ""},
		{"home/wt/x/y", "home", "home/wt/apiauth.yaml"}, // at the boundary itself
		{"home/near/in/deep", "home", "home/near/in/apiauth.yaml"},
		{"elsewhere/x", "home", "apiauth.yaml"}, // outside of home
		{"elsewhere/link", "home", "home/near/in/apiauth.yaml"},
		{"bare/home/x", "bare/home", ""}, // not above home
		{"home/a", "", "home/apiauth.yaml"},
	} {
		home := ""
		if c.home != "" {
			home = filepath.Join(root, c.home)
		}
		got, ok, err := Find(filepath.Join(root, c.dir), home)
		want := ""
		if c.want != "" {
			want = filepath.Join(root, c.want)
		}
		if err != nil || got != want || ok != (want != "") {
			t.Errorf("Find(%s) = %q, %v, %v; want %q", c.dir, got, ok, err, c.want)
		}
	}
	if _, _, err := Find(filepath.Join(root, "absent"), ""); err == nil {
		t.Error("a folder that is not there: no error")
	}
}

func TestFindStopsAtTheFileSystem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /dev/shm beside /")
	}
	here, err1 := deviceOf("/dev/shm")
	above, err2 := deviceOf("/dev")
	if err1 != nil || err2 != nil || here == above {
		t.Skip("/dev/shm is no file system of its own")
	}
	dir, err := os.MkdirTemp("/dev/shm", "apiauth-test-*")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	if path, ok, err := Find(dir, ""); ok || err != nil {
		t.Errorf("%q, %v", path, err)
	}
}

func TestManifestMustBeTrusted(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, path string)
	}{
		{"world-writable", func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) }},
		{"a link", func(t *testing.T, path string) {
			must(t, os.Rename(path, path+".real"))
			must(t, os.Symlink(path+".real", path))
		}},
		{"a dangling link", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("/nonexistent", path))
		}},
		{"a folder", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		}},
		{"a named pipe", func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, syscall.Mkfifo(path, 0o644))
		}},
		{"another owner", func(t *testing.T, path string) { foreign(t, path) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := tree(t, "apiauth.yaml", "near/apiauth.yaml")
			path := filepath.Join(root, "near", ManifestName)
			c.spoil(t, path)
			if _, ok, err := Find(filepath.Dir(path), ""); !isType[*UntrustedError](err) || ok {
				t.Errorf("Find: %v, %v", ok, err)
			}
			if _, err := LoadManifest(path, nil); !isType[*UntrustedError](err) {
				t.Errorf("LoadManifest: %v", err)
			}
		})
	}
}

// foreign gives a file to nobody.
func foreign(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	must(t, os.Lchown(path, 65534, 65534))
}
