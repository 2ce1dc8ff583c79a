package inject

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// What /proc shows of a concealed process holds none of our secrets, and
// the process itself still has them.
func TestConceal(t *testing.T) {
	if os.Getenv("CONCEAL_CHILD") == "yes" {
		Conceal()
		shown, err := os.ReadFile("/proc/self/environ")
		dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Printf("dumpable=%d readable=%t secret=%t other=%t kept=%t\n", dumpable, err == nil,
			bytes.Contains(shown, []byte("a-long-secret")), bytes.Contains(shown, []byte("HARMLESS=plain")), os.Getenv("APIAUTH_STORE_KEY") == "a-long-secret")
		os.Exit(0)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self, "-test.run=^TestConceal$")
	cmd.Env = []string{"CONCEAL_CHILD=yes", "APIAUTH_STORE_KEY=a-long-secret", "HARMLESS=plain", "APIAUTH_BUNDLE=a-long-secret too"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	readable := os.Geteuid() == 0 // root reads it anyway
	if want := fmt.Sprintf("dumpable=0 readable=%t secret=false other=%t kept=true\n", readable, readable); string(out) != want {
		t.Errorf("%s, want %s", out, want)
	}
}
