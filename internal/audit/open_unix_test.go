//go:build unix

package audit

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLogIsNoPipe: it would hang whoever opens it, until somebody writes.
func TestLogIsNoPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE} {
		if _, _, err := openRegular(path, flag); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("flag %#x: %v", flag, err)
		}
	}
}
