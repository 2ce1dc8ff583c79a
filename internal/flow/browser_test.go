package flow_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/flow"
)

func program(t *testing.T, path, script string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return path
}

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

func TestBrowserCommands(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("programs of this test are shell scripts")
	}
	root := t.TempDir()
	bin, project := filepath.Join(root, "bin"), filepath.Join(root, "project")
	firefox := program(t, filepath.Join(bin, "firefox"), "")
	xdg := program(t, filepath.Join(bin, "xdg-open"), "")
	program(t, filepath.Join(project, "node_modules/.bin/xdg-open"), "")
	program(t, filepath.Join(project, "firefox"), "")
	if err := os.WriteFile(filepath.Join(bin, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(project, link); err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(root, "linked")
	if err := os.MkdirAll(linked, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(project, "firefox"), filepath.Join(linked, "firefox")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(project)
	const u = "https://issuer.example/a?b=c"
	path := func(dirs ...string) string { return strings.Join(dirs, ":") }
	cases := []struct {
		name, browser, path string
		want                [][]string
	}{
		{"no variable", "", bin, [][]string{{xdg, u}}},
		{"nothing found", "", root, nil},
		{"a command", "firefox", bin, [][]string{{firefox, u}}},
		{"arguments, appended", "firefox --new-window -P x", bin, [][]string{{firefox, "--new-window", "-P", "x", u}}},
		{"placed", "firefox --url=%s --end", bin, [][]string{{firefox, "--url=" + u, "--end"}}},
		{"a list", "absent:firefox:xdg-open %s", bin, [][]string{{firefox, u}, {xdg, u}}},
		{"empty entries", ":: :firefox:", bin, [][]string{{firefox, u}}},
		{"blanks only", "  ", bin, [][]string{{xdg, u}}},
		{"absolute", firefox, "", [][]string{{firefox, u}}},
		{"relative", "./firefox", bin, nil},
		{"relative, deeper", "node_modules/.bin/xdg-open", bin, nil},
		{"no shell", "firefox;touch marker", bin, nil},
		{"not a program", "plain", bin, nil},
		{"not there", filepath.Join(bin, "absent"), bin, nil},
		{"working directory in PATH", "firefox", path(".", "", bin), [][]string{{firefox, u}}},
		{"project in PATH", "", path(filepath.Join(project, "node_modules/.bin"), bin), [][]string{{xdg, u}}},
		{"project in PATH by a link", "firefox", path(link, bin), [][]string{{firefox, u}}},
		{"program that is a link into the project", "firefox", path(linked, bin), [][]string{{firefox, u}}},
		{"only the project has one", "", filepath.Join(project, "node_modules/.bin"), nil},
	}
	for _, c := range cases {
		o := flow.Opener{Env: environment(map[string]string{"BROWSER": c.browser, "PATH": c.path}), ProjectDir: project, GOOS: "linux"}
		got := o.Commands(u)
		if !slices.EqualFunc(got, c.want, func(a, b []string) bool { return slices.Equal(a, b) }) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOpenChecksTheURL(t *testing.T) {
	bin := t.TempDir()
	browser := program(t, filepath.Join(bin, "browser"), "")
	var started [][]string
	o := flow.Opener{
		Env:   environment(map[string]string{"BROWSER": browser}),
		Start: func(_ context.Context, argv []string) error { started = append(started, argv); return nil },
	}
	for _, bad := range []string{
		"", "-x", "--help", "file:///etc/passwd", "javascript:alert(1)", "https://", "https:///x", "ftp://issuer.example/",
		"https://u:p@issuer.example/", "https://issuer.example/a b", "https://issuer.example/\n", "https://issuer.example/\x1b[31m",
		"https://-x.example/", "//issuer.example/", "issuer.example", "https://$(id).example/", "https://`id`/", "https://a|b/",
		"data:text/html,x", "https://issuer.example/" + strings.Repeat("x", 9<<10),
	} {
		if err := o.Open(t.Context(), bad); err == nil {
			t.Errorf("%.60q was opened", bad)
		}
	}
	if len(started) != 0 {
		t.Fatalf("%d helpers were started for bad URLs", len(started))
	}
	for _, odd := range []string{
		"https://issuer.example/?a=$(touch${IFS}marker)", "https://issuer.example/?a=`id`", "https://issuer.example/?a='b\"c", "https://issuer.example/?a=b|c;d",
	} {
		started = nil
		if err := o.Open(t.Context(), odd); err != nil {
			continue // refused is as good
		}
		if len(started) != 1 || len(started[0]) != 2 || strings.ContainsAny(started[0][1], "$`'\"|; ()") {
			t.Errorf("%q became %q", odd, started)
		}
	}
}

func TestOpenTriesTheNextAndReports(t *testing.T) {
	bin := t.TempDir()
	a, b := program(t, filepath.Join(bin, "a"), ""), program(t, filepath.Join(bin, "b"), "")
	var tried []string
	failing := map[string]error{a: errors.New("exit status 3")}
	o := flow.Opener{
		Env:   environment(map[string]string{"BROWSER": a + ":" + b}),
		Start: func(_ context.Context, argv []string) error { tried = append(tried, argv[0]); return failing[argv[0]] },
	}
	if err := o.Open(t.Context(), "https://issuer.example/"); err != nil || !slices.Equal(tried, []string{a, b}) {
		t.Errorf("%v after %q", err, tried)
	}
	failing[b] = errors.New("exit status 4")
	if err := o.Open(t.Context(), "https://issuer.example/"); err == nil || !strings.Contains(err.Error(), "exit status 4") {
		t.Errorf("%v, want both failures", err)
	}

	none := flow.Opener{GOOS: "linux"}
	if err := none.Open(t.Context(), "https://issuer.example/"); !errors.Is(err, flow.ErrNoBrowser) {
		t.Errorf("%v, want ErrNoBrowser", err)
	}
	var fell string
	windows := flow.Opener{GOOS: "windows", Fallback: func(u string) error { fell = u; return nil }}
	if err := windows.Open(t.Context(), "https://issuer.example/"); err != nil || fell != "https://issuer.example/" {
		t.Errorf("fallback: %v, %q", err, fell)
	}
}

// The real thing: a helper's output goes to our standard error, it gets one
// clean argument and none of our secrets, and it is not waited for.
func TestOpenRunsAHelper(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper of this test is a shell script")
	}
	t.Setenv("APIAUTH_STORE_PASSPHRASE", "canary-pass")
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	helper := program(t, filepath.Join(dir, "helper"),
		fmt.Sprintf("echo printed; { echo $#; echo \"$1\"; env | grep -c canary; } > %s.tmp; mv %s.tmp %s\n", seen, seen, seen))
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	o := flow.Opener{Env: environment(map[string]string{"BROWSER": helper}), Environ: os.Environ(), Stderr: stderr}
	if err := o.Open(t.Context(), "https://issuer.example/?a=b&c=d"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(seen)
	if err != nil || string(got) != "1\nhttps://issuer.example/?a=b&c=d\n0\n" {
		t.Errorf("%v, the helper saw %q", err, got)
	}
	if said, _ := os.ReadFile(stderr.Name()); string(said) != "printed\n" {
		t.Errorf("standard error has %q", said)
	}

	failing := program(t, filepath.Join(dir, "failing"), "exit 7\n")
	o.Env = environment(map[string]string{"BROWSER": failing})
	if err := o.Open(t.Context(), "https://issuer.example/"); err == nil || !strings.Contains(err.Error(), "7") {
		t.Errorf("%v, want the exit status of the helper", err)
	}

	// A browser that stays is not waited for when the login is over.
	staying := program(t, filepath.Join(dir, "staying"), fmt.Sprintf("read -r x < %s\n", fifo(t, dir)))
	o.Env = environment(map[string]string{"BROWSER": staying})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.Open(ctx, "https://issuer.example/"); err != nil {
		t.Errorf("a helper that stays: %v", err)
	}
}

// a helper that is a script finds no programs of the project, either.
func TestBrowserHelpersPath(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("programs of this test are shell scripts")
	}
	root := t.TempDir()
	bin, project := filepath.Join(root, "bin"), filepath.Join(root, "project")
	ran := filepath.Join(root, "ran")
	program(t, filepath.Join(bin, "xdg-open"), "dbus-probe\n")
	program(t, filepath.Join(bin, "dbus-probe"), "echo ours $KEPT$APIAUTH_STORE_KEY $PATH >>'"+ran+"'\n")
	for _, dir := range []string{project, filepath.Join(project, "tools")} {
		program(t, filepath.Join(dir, "dbus-probe"), "echo theirs >>'"+ran+"'\n")
	}
	t.Chdir(project)
	path := strings.Join([]string{".", "", "tools", project, filepath.Join(project, "tools"), bin}, ":")
	o := flow.Opener{
		Env:        environment(map[string]string{"PATH": path}),
		Environ:    []string{"PATH=" + path, "APIAUTH_STORE_KEY=secret", "KEPT=yes"},
		ProjectDir: project,
	}
	if err := o.Open(t.Context(), "https://issuer.example/"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(ran); err != nil || string(got) != "ours yes "+bin+"\n" {
		t.Errorf("ran %q, %v", got, err)
	}
}

// A file is handed over as an address in which nothing is left that a shell or an
// opener could take for something else.
func TestOpenFile(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/home/ada/.local/state/open.html":  "file:///home/ada/.local/state/open.html",
		"/home/a b/$(x)'&;%41/ü/open.html":  "file:///home/a%20b/%24%28x%29%27%26%3B%2541/%C3%BC/open.html",
		"C:/Users/ada/AppData/x#y?z/o.html": "file:///C:/Users/ada/AppData/x%23y%3Fz/o.html",
	} {
		var got string
		o := flow.Opener{GOOS: "windows", Fallback: func(url string) error { got = url; return nil }}
		if err := o.OpenFile(t.Context(), path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}
