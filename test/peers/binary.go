package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Main builds the program once and runs the tests of a package that is two
// folders below the top. It is for TestMain: it returns the exit code. With
// APIAUTH_TEST_BINARY a program that is there already is tested.
func Main(m *testing.M) int {
	path := Binary()
	if path == "" {
		dir, err := os.MkdirTemp("", "apiauth-built")
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

// Binary is the program under test; empty before Main has built it.
func Binary() string { return os.Getenv("APIAUTH_TEST_BINARY") }
