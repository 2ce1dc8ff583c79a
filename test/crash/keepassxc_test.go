//go:build linux

package crash

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
)

// KeePassXC, the other Secret Service that people have, was seen to
// answer success and keep nothing when several programs write at once, not to
// answer at all when an item is written over, and to crash. Whatever it does, a
// grant outlives every refresh. Long form only: KeePassXC is no peer of the short
// one.
func TestKeePassXC(t *testing.T) {
	if !long() {
		t.Log("KeePassXC runs in the long form")
		return
	}
	is := newIssuer(t, strict())
	bus := keyringtest.StartKeePassXC(t)
	h := newHome(t, is, bus, "")
	h.define("peer")
	const size = 8
	var names []string
	for i := range size {
		names = append(names, fmt.Sprintf("k%d", i))
		h.connect(names[i], "--provider", "peer")
	}
	refreshes, notes := 0, map[string]int{}
	var slowest time.Duration
	record := func(name string, r result, took time.Duration) {
		t.Helper()
		refreshes++
		slowest = max(slowest, took)
		if r.code == 5 {
			notes["the keychain was gone"]++ // it crashes, rarely: without the sealing key nothing is sent
			return
		}
		if r.code != 0 || !is.Active(r.token()) {
			t.Errorf("the grant of %s is lost: %s", name, r.redacted())
		}
		for _, what := range []string{"did not take", "lost the refresh token", "could not be asked"} {
			if strings.Contains(r.flat(), what) {
				notes[what]++
			}
		}
	}
	round := func(atOnce int) {
		t.Helper()
		for group := range slices.Chunk(names, atOnce) {
			var all []*started
			for _, name := range group {
				all = append(all, h.start("token", name, "--refresh"))
			}
			for i, s := range all {
				record(group[i], s.wait(), s.took)
			}
		}
	}
	for range 3 {
		round(1)
	}
	for range 3 {
		round(size)
	}
	tell := func(when string) {
		t.Helper()
		suspended := strings.Count(h.must("status", "--json").out, `"write-suspended"`)
		t.Logf("%s: %d connections, %d of them without the keychain; %d refreshes, the slowest %v; notes %v",
			when, size, suspended, refreshes, slowest.Round(time.Millisecond), notes)
	}
	tell("after connect")
	h.run("doctor", "--fix")
	for range 3 {
		round(2)
	}
	tell("after doctor --fix")
	if st := is.Stats(); st.Reuse != 0 || st.Refreshes < size {
		t.Errorf("%d reuses, %d refreshes", st.Reuse, st.Refreshes)
	}
	if strings.Contains(h.must("status", "--json").out, `"needs-connect"`) {
		t.Error("a connection was given up")
	}
	var gone sync.WaitGroup
	for _, name := range names {
		gone.Go(func() {
			if r := h.run("disconnect", name); r.code != 0 && r.code != 5 {
				t.Error(r.redacted())
			}
		})
	}
	gone.Wait()
}
