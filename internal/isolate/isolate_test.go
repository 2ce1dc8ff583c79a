package isolate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// place makes a home with a project and a run folder beside it.
func place(t *testing.T) Options {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("isolation is for unix")
	}
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Command: []string{"npm", "run", "build"},
		Home:    filepath.Join(root, "home"),
		Project: filepath.Join(root, "home", "work"),
		Dir:     filepath.Join(root, "home", "work", "sub"),
		Run:     filepath.Join(root, "run"),
		Hidden:  []string{filepath.Join(root, "home", ".config", "apiauth"), filepath.Join(root, "state"), filepath.Join(root, "key")},
		Path:    strings.Join([]string{"/usr/bin", "relative/bin", filepath.Join(root, "home", ".nvm", "versions", "v20", "bin"), filepath.Join(root, "home", ".local", "bin"), filepath.Join(root, "home", "work", "bin")}, ":"),
		Port:    4000,
		Self:    filepath.Join(root, "apiauth"),
		Socket:  filepath.Join(root, "run", "proxy"),
		Control: filepath.Join(root, "run", "control"),
	}
	for _, dir := range []string{o.Dir, o.Run, filepath.Join(root, "state"), filepath.Join(o.Home, ".config", "apiauth"),
		filepath.Join(o.Home, ".nvm", "versions", "v20", "bin"), filepath.Join(o.Home, ".local", "bin"), filepath.Join(o.Home, ".local", "share", "keyrings"), filepath.Join(o.Home, "work", "bin")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{o.Self, o.Socket, o.Control, filepath.Join(root, "key"), filepath.Join(o.Project, "apiauth.yaml")} {
		if err := os.WriteFile(file, nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	o.ReadOnly = []string{filepath.Join(o.Project, "apiauth.yaml")}
	return o
}

// mounts lists what the command line mounts where, in its order.
func mounts(argv []string) (list []string) {
	for i, word := range argv {
		switch word {
		case "--tmpfs":
			list = append(list, word+" "+argv[i+1])
		case "--bind", "--ro-bind":
			list = append(list, word+" "+argv[i+1]+" "+argv[i+2])
		}
	}
	return list
}

func TestBubblewrap(t *testing.T) {
	o := place(t)
	argv, err := Bubblewrap("/usr/bin/bwrap", []string{"isolated"}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-user", "--die-with-parent", "--new-session", "--proc", "--dev"} {
		if !slices.Contains(argv, word) {
			t.Errorf("%s is missing", word)
		}
	}
	list := mounts(argv)
	at := func(mount string) int {
		i := slices.Index(list, mount)
		if i < 0 {
			t.Errorf("there is no %s in\n%s", mount, strings.Join(list, "\n"))
		}
		return i
	}
	nvm := filepath.Join(o.Home, ".nvm")
	order := []int{
		at("--ro-bind / /"),
		at("--tmpfs /tmp"),
		at("--ro-bind " + nvm + " " + nvm),
		at("--bind " + o.Project + " " + o.Project),
		at("--ro-bind " + o.ReadOnly[0] + " " + o.ReadOnly[0]),
		at("--tmpfs " + o.Hidden[0]),
		at("--ro-bind /dev/null " + o.Hidden[2]),
		at("--ro-bind " + o.Run + " " + o.Run),
	}
	if !slices.IsSorted(order) {
		t.Errorf("the mounts stand in the wrong order:\n%s", strings.Join(list, "\n"))
	}
	for _, mount := range list {
		if mount == "--ro-bind "+filepath.Join(o.Home, ".local")+" "+filepath.Join(o.Home, ".local") {
			t.Error("~/.local is shown, and with it keyrings")
		}
		if strings.HasPrefix(mount, "--bind ") && mount != "--bind "+o.Project+" "+o.Project {
			t.Errorf("more than the project can be changed: %s", mount)
		}
	}
	end := slices.Index(argv, "--chdir")
	want := []string{"--chdir", o.Dir, "--", inside, "isolated", "--port", "4000", "--socket", o.Socket, "--control", o.Control, "--", "npm", "run", "build"}
	if !slices.Equal(argv[end:], want) {
		t.Errorf("the command line ends with %q", argv[end:])
	}
	o.OwnTerminal = true
	if argv, err = Bubblewrap("/usr/bin/bwrap", nil, o); err != nil || slices.Contains(argv, "--new-session") {
		t.Errorf("a terminal of its own is taken away: %v", err)
	}
}

// A socket can be connected to through a read-only mount, so those of other
// programs are covered, in the project too.
func TestSocketsAreCovered(t *testing.T) {
	o := place(t)
	in := filepath.Join(o.Project, "a server.sock")
	var config net.ListenConfig
	server, err := config.Listen(t.Context(), "unix", in)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	link, table := filepath.Join(o.Project, "link"), filepath.Join(o.Run, "table")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	line := "0000000000000000: 00000002 00000000 00010000 0001 01 %5d %s\n"
	text := "Num       RefCount Protocol Flags    Type St Inode Path\n" + fmt.Sprintf(line, 7, in) + fmt.Sprintf(line, 123456, in) +
		fmt.Sprintf(line, 8, o.Self) + fmt.Sprintf(line, 9, "/tmp/gone") + fmt.Sprintf(line, 10, "@/abstract") + fmt.Sprintf(line, 11, "relative") +
		fmt.Sprintf(line, 12, link) + "0000000000000000: 00000003 00000000 00000000 0001 03    13\n"
	if err := os.WriteFile(table, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Sockets = ListSockets(table)
	if want := []string{in, o.Self, "/tmp/gone", link}; !slices.Equal(o.Sockets, want) {
		t.Errorf("the table names %q, want %q", o.Sockets, want)
	}
	argv, err := Bubblewrap("/usr/bin/bwrap", []string{"isolated"}, o)
	if err != nil {
		t.Fatal(err)
	}
	var covered []string
	for _, mount := range mounts(argv) {
		if path, ok := strings.CutPrefix(mount, "--ro-bind /dev/null "); ok && path != o.Hidden[2] && !slices.Contains(covered, path) {
			covered = append(covered, path)
		}
	}
	if !slices.Equal(covered, []string{in}) {
		t.Errorf("covered is %q", covered)
	}
	if got := ListSockets(filepath.Join(o.Run, "none")); got != nil {
		t.Errorf("without a table: %q", got)
	}
}

func TestUnsafeProjects(t *testing.T) {
	base := place(t)
	for name, change := range map[string]func(*Options){
		"the home directory":     func(o *Options) { o.Project, o.Dir = o.Home, o.Home },
		"above the home":         func(o *Options) { o.Project, o.Dir = filepath.Dir(o.Home), filepath.Dir(o.Home) },
		"the root":               func(o *Options) { o.Project, o.Dir = "/", "/" },
		"the system":             func(o *Options) { o.Project, o.Dir = "/usr", "/usr" },
		"the state":              func(o *Options) { o.Project, o.Dir = o.Hidden[0], o.Hidden[0] },
		"a folder elsewhere":     func(o *Options) { o.Dir = filepath.Dir(o.Project) },
		"a link to the home":     func(o *Options) { link(t, o.Home, &o.Project); o.Dir = o.Project },
		"a home that is a link":  func(o *Options) { p := o.Home; link(t, o.Home, &o.Home); o.Project, o.Dir = p, p },
		"a state that is a link": func(o *Options) { p := o.Hidden[1]; link(t, p, &o.Hidden[1]); o.Project, o.Dir = p, p },
	} {
		o := base
		o.Hidden = slices.Clone(base.Hidden)
		change(&o)
		if _, err := Bubblewrap("/usr/bin/bwrap", nil, o); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Seatbelt(nil, o); !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s, for macOS: %v", name, err)
		}
	}
}

func link(t *testing.T, target string, path *string) {
	t.Helper()
	*path = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, *path); err != nil {
		t.Fatal(err)
	}
}

func TestEnv(t *testing.T) {
	got := Env([]string{"PATH=/bin", "DBUS_SESSION_BUS_ADDRESS=unix:path=/x", "XDG_RUNTIME_DIR=/run/user/1", "SSH_AUTH_SOCK=/x", "APIAUTH_STATE_DIR=/state", "GH_TOKEN=gho_x", "TMPDIR=/var/folders"})
	if want := []string{"PATH=/bin", "GH_TOKEN=gho_x", "TMPDIR=/tmp"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// bwrap is not taken from the project or a relative entry of PATH.
func TestFindBubblewrap(t *testing.T) {
	o := place(t)
	evil, good := filepath.Join(o.Project, "bin"), filepath.Join(filepath.Dir(o.Home), "good")
	for _, dir := range []string{evil, good} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "bwrap"), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(evil)
	found, err := FindBubblewrap(evil+":.::"+good, o.Project)
	if err != nil {
		t.Fatal(err)
	}
	if within(found, o.Project) || !filepath.IsAbs(found) {
		t.Errorf("found %s", found)
	}
	if found, err := FindBubblewrap(evil+":.:", o.Project); err == nil && within(found, o.Project) {
		t.Errorf("found %s", found)
	}
}

func TestSeatbelt(t *testing.T) {
	o := place(t)
	temporary := filepath.Join(o.Run, "tmp")
	profile, err := Seatbelt([]string{temporary}, o)
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, rule := range []string{
		"(version 1)",
		"(allow default)",
		"(deny network*)",
		`(allow network-outbound (remote ip "localhost:4000"))`,
		`(deny mach-lookup (global-name "com.apple.SecurityServer"))`,
		"(deny file-write*)",
		`(deny file-read* file-write* (subpath "` + o.Home + `"))`,
		`(allow file-read* file-write* (subpath "` + o.Project + `"))`,
		`(deny file-write* (literal "` + o.ReadOnly[0] + `"))`,
		`(deny file-read* file-write* (subpath "` + o.Hidden[1] + `"))`,
	} {
		at := strings.Index(profile, rule+"\n")
		if at <= last {
			t.Errorf("%s is missing or stands too early in\n%s", rule, profile)
		}
		last = at
	}
	if strings.Count(profile, "(") != strings.Count(profile, ")") {
		t.Error("the brackets do not match")
	}
	if got := literal(`a"b\c`); got != `"a\"b\\c"` {
		t.Errorf("a quote is written as %s", got)
	}
}
