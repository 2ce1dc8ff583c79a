//go:build !windows

package flow_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// fifo makes a named pipe that ends its reader when the test ends.
func fifo(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = f.WriteString("end\n")
		_ = f.Close()
	})
	return path
}
