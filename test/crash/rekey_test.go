//go:build linux

package crash

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/apiauth/apiauth/internal/store"
)

// kill -9 at each system call of `store rekey` that changes something outside of
// the process. Afterwards one key opens the connection, in one recorded place;
// a second run completes the first, the issuer sees no request, and the audit log
// is proven.
func TestKilledRekey(t *testing.T) {
	t.Parallel()
	killedRekeys(t, withFile(t, newIssuer(t, strict())), 7)
}

func TestKilledRekeyWithKeychain(t *testing.T) {
	killedRekeys(t, withKeychain(t, newIssuer(t, strict())), 23)
}

func killedRekeys(t *testing.T, h *home, step int) {
	t.Helper()
	canTrace(t, h)
	if long() {
		step = 1
	}
	requests := h.is.Stats().TokenRequests
	token := h.must("token", "peer").token()
	kills := 0
	for n := 1; ; n += step {
		former, file := h.vars["APIAUTH_STORE_KEY"]
		if file {
			key, err := store.NewKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			h.vars["APIAUTH_STORE_KEY_NEW"] = key.Reveal()
		}
		x := h.trace(tracing{enter: func(_ int, c call) bool { return c.wrote == n }}, "store", "rekey")
		if x.code == 0 {
			break
		}
		if x.code != 128+9 {
			t.Fatalf("call %d: %s", n, x.redacted())
		}
		kills++
		opened := 0
		keys := []string{former}
		if file {
			keys = append(keys, h.vars["APIAUTH_STORE_KEY_NEW"])
		}
		for _, key := range keys {
			if file {
				h.vars["APIAUTH_STORE_KEY"] = key
			}
			if r := h.run("token", "peer"); r.code == 0 && r.token().Equal(token) {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("killed at call %d (%s %s): %d keys open the connection", n, x.last.name(), x.last.path, opened)
		}
		if file {
			h.vars["APIAUTH_STORE_KEY"] = former
		}
		h.must("store", "rekey")
		if file {
			if r := h.run("token", "peer"); r.code != 5 {
				t.Errorf("killed at call %d (%s %s): the former key still opens: %s", n, x.last.name(), x.last.path, r.redacted())
			}
			h.vars["APIAUTH_STORE_KEY"] = h.vars["APIAUTH_STORE_KEY_NEW"]
		}
		if !h.must("token", "peer").token().Equal(token) {
			t.Errorf("killed at call %d: another token came", n)
		}
		if r := h.run("audit", "--verify", "--fail-on", "unverified"); r.code != 0 {
			t.Errorf("killed at call %d (%s %s): the audit log: %s%s", n, x.last.name(), x.last.path, r.out, r.redacted())
		}
		found, err := filepath.Glob(filepath.Join(h.vars["APIAUTH_STATE_DIR"], "stores", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		stores := 0
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && (filepath.Base(path) == "store.json" || info.IsDir() && filepath.Base(path) == "personal") {
				stores++
			}
		}
		if stores != 2 {
			t.Errorf("killed at call %d (%s %s): left %v", n, x.last.name(), x.last.path, found)
		}
	}
	if kills == 0 {
		t.Error("nothing was killed")
	}
	if got := h.is.Stats().TokenRequests; got != requests {
		t.Errorf("%d requests were sent to the issuer", got-requests)
	}
	t.Logf("%d kill points", kills)
}
