//go:build linux

package crash

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// a lock that others could take too, here because its file is moved away
// under the one who holds it, stops the refresh before anything is sent: status 5
// with what to do. The grant is as it was.
func TestLockThatKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	canTrace(t, h)
	name, token := h.expired()
	moved := false
	x := h.trace(tracing{port: is.port(), leave: func(c call, ret int64) {
		if c.nr == unix.SYS_FLOCK && ret == 0 && !moved && strings.HasSuffix(c.path, name+".lock") {
			moved = os.Rename(c.path, c.path+".aside") == nil
		}
	}}, "token", name)
	if !moved {
		t.Fatal("the lock was not taken")
	}
	if text := x.flat(); x.code != 5 || x.out != "" || !strings.Contains(text, "locks do not exclude each other") || !strings.Contains(text, "APIAUTH_STATE_DIR") {
		t.Error(x.redacted())
	}
	if n := is.asked(token); n != 0 {
		t.Errorf("%d requests", n)
	}
	h.mustLive(name)
}
