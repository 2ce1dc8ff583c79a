//go:build linux

package crash

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// testMain builds the program once, for all tests.
func testMain(m *testing.M) int {
	path := os.Getenv("APIAUTH_TEST_BINARY")
	if path == "" {
		dir, err := os.MkdirTemp("", "apiauth-crash")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		path = filepath.Join(dir, "apiauth")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		build := exec.CommandContext(ctx, "go", "build", "-o", path, "../../cmd/apiauth")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build apiauth: %v\n%s", err, out)
			return 1
		}
	}
	if err := os.Setenv("APIAUTH_TEST_BINARY", path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// binaryPath is the program under test.
func binaryPath() string { return os.Getenv("APIAUTH_TEST_BINARY") }

// long reports whether the long form was asked for.
func long() bool { return os.Getenv("APIAUTH_TEST_LONG") != "" }
