// Package peers starts the real components that the end-to-end tests run
// against: a certified authorization server, a browser that signs in and
// consents, a terminal. None of them is ours; scripts/test --install brings
// them. A test whose peer is not here is left out, and says what is missing,
// unless APIAUTH_TEST_PEERS=required: then it fails.
//
// Every process that is started here ends with its test.
package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Missing leaves the test out because a peer is not installed, or fails it when
// APIAUTH_TEST_PEERS=required. what names the peer, how the way to get it.
func Missing(t testing.TB, what, how string) {
	t.Helper()
	if os.Getenv("APIAUTH_TEST_PEERS") == "required" {
		t.Fatalf("missing peer: %s: %s", what, how)
	}
	t.Skipf("missing peer: %s: %s", what, how)
}

// Program returns the path of the first of names that is in PATH. When there
// is none the test is left out, or fails, as Missing says.
func Program(t testing.TB, how string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Missing(t, names[0], how)
	return ""
}

// NodeModules returns the folder with the peers' npm packages. When it is not
// there the test is left out, or fails, as Missing says.
func NodeModules(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Root(t), "test", "peers", "node_modules")
	for _, name := range []string{"oidc-provider", "playwright-core"} {
		if _, err := os.Stat(filepath.Join(dir, name, "package.json")); err != nil {
			Missing(t, "npm package "+name, "npm ci --prefix test/peers")
		}
	}
	return dir
}

// Root returns the top folder of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}

// Artifacts returns the folder for what helps to understand a failed test:
// $APIAUTH_TEST_ARTIFACTS, else a folder that goes with the test.
func Artifacts(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("APIAUTH_TEST_ARTIFACTS")
	if dir == "" {
		return t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func node(t testing.TB) string {
	t.Helper()
	return Program(t, "apt-get install nodejs npm", "node")
}

// shortTempDir is like t.TempDir with a path that is short enough for a socket.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the folder of a peer: %v", err)
		}
	})
	return dir
}

func needsUnix(t testing.TB) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("this peer is driven through unix sockets and shell scripts")
	}
}

// quote makes one word of s for a POSIX shell.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
