//go:build linux

package crash

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
)

// kill -9 at each system call of a refresh that changes something
// outside of the process, each on a connection of its own. Afterwards a new
// process gets a live token. An issuer without a grace period may have replaced
// the token in an answer that never became durable; that, and only that, is a
// loss, and then the message says so and nothing is deleted.
func TestKilledAtEachWrite(t *testing.T) {
	t.Parallel()
	t.Run("strict", func(t *testing.T) {
		t.Parallel()
		newKills(t, strict(), withFile).row(5)
	})
	t.Run("grace", func(t *testing.T) {
		t.Parallel()
		newKills(t, grace(), withFile).row(13)
	})
}

// The same with the grant in the desktop's keychain, and there alone. Only one
// keychain at a time can be used from within a process: these are not parallel.
func TestKilledAtEachWriteWithKeychain(t *testing.T) {
	t.Run("strict", func(t *testing.T) { newKills(t, strict(), withKeychain).row(17) })
	t.Run("grace", func(t *testing.T) { newKills(t, grace(), withKeychain).row(41) })
}

// row kills at every step-th writing call, in the long form at each, until a
// refresh comes to its end. What differs from run to run is then met once more
// by what it does.
func (k *kills) row(step int) {
	if long() {
		step = 1
	}
	for n := 1; ; n += step {
		if _, done := k.at(func(c call) bool { return c.wrote == n }); done {
			break
		}
	}
	k.around()
	k.report()
}

// The same at every system call of any kind; in the short form at a few.
func TestKilledAtEachCall(t *testing.T) {
	t.Parallel()
	step := 127
	if long() {
		step = 1
	}
	for name, o := range map[string]sandbox.Options{"strict": strict(), "grace": grace()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKills(t, o, withFile)
			for n := 1; ; n += step {
				if _, done := k.at(func(c call) bool { return c.index == n }); done {
					break
				}
			}
			k.at(isAnswer)
			k.report()
		})
	}
}

// kills is a row of refreshes that are killed.
type kills struct {
	t          *testing.T
	is         *issuer
	h          *home
	strict     bool
	points     map[string]int // by the name of the system call
	committed  int            // kills after the issuer's commit
	inside     int            // kills between the commit and the sync of the journal
	lostInside int
	lost       int
}

func newKills(t *testing.T, o sandbox.Options, with func(*testing.T, *issuer) *home) *kills {
	t.Helper()
	k := &kills{t: t, is: newIssuer(t, o), strict: o.Grace == 0, points: map[string]int{}}
	k.h = with(t, k.is)
	canTrace(t, k.h)
	return k
}

// around kills at the calls on the way from the request to the record, each by
// what it does: their places differ from run to run.
func (k *kills) around() {
	for _, at := range []func(c call) bool{
		isAnswer,
		func(c call) bool { return c.name() == "fallocate" },
		func(c call) bool { return c.name() == "connect" },
		func(c call) bool { return c.name() == "write" && strings.HasPrefix(c.path, "socket:") },
		func(c call) bool { return c.name() == "fsync" && strings.HasSuffix(c.path, ".wal") },
		second(func(c call) bool { return c.name() == "fsync" && strings.HasSuffix(c.path, ".wal") }),
		func(c call) bool { return c.name() == "write" && strings.HasSuffix(c.path, ".tmp") },
		func(c call) bool { return c.name() == "fsync" && strings.HasSuffix(c.path, ".tmp") },
		func(c call) bool { return c.name() == "renameat" },
		func(c call) bool { return c.name() == "unlinkat" },
		second(func(c call) bool { return c.name() == "fsync" && strings.HasSuffix(c.path, "/personal") }),
		func(c call) bool { return c.name() == "exit_group" },
	} {
		k.at(at)
	}
}

// second is true the second time.
func second(is func(call) bool) func(call) bool {
	n := 0
	return func(c call) bool {
		if is(c) {
			n++
		}
		return n == 2
	}
}

// at kills one refresh and looks what became of the grant. done says that the
// refresh came to its end without having been killed.
func (k *kills) at(here func(call) bool) (x traced, done bool) {
	k.t.Helper()
	name, _ := k.h.expired()
	before := k.is.Stats()
	x = k.h.trace(tracing{port: k.is.port(), enter: func(_ int, c call) bool { return here(c) }}, "token", name)
	k.is.settle()
	committed := k.is.Stats().Refreshes - before.Refreshes
	if x.code != 128+9 {
		if x.code != 0 || !k.is.Active(x.token()) || committed != 1 || x.sends != 1 || x.seals != 1 {
			k.t.Fatalf("a refresh that nobody killed: %d commits, %d sent, %d sealed: %s", committed, x.sends, x.seals, x.redacted())
		}
		return x, true
	}
	where := fmt.Sprintf("killed at call %d (%s %s), %d sent, %d sealed, %d committed", x.last.index, x.last.name(), x.last.path, x.sends, x.seals, committed)
	k.points[x.last.name()]++
	inside := committed > 0 && x.inWindow()
	if committed > 0 {
		k.committed++
	}
	if inside {
		k.inside++
	}
	if committed > 0 && x.sends == 0 || x.seals > committed {
		k.t.Errorf("the trace and the issuer disagree: %s", where)
	}

	r, err := k.h.proven(name)
	switch {
	case err == nil:
	case k.strict && inside && r.code == 4:
		k.lostInside++
		k.explained(name, where, r)
	default:
		k.lost++
		k.t.Errorf("%s: the grant is lost: %v", where, err)
	}
	after := k.is.Stats()
	if reused := after.Reuse - before.Reuse; reused > 0 && !(k.strict && inside) {
		k.t.Errorf("%s: a refresh token was used twice", where)
	}
	return x, false
}

// explained checks what a person is told about a loss that nobody can avoid.
func (k *kills) explained(name, where string, r result) {
	k.t.Helper()
	if text := r.flat(); !strings.Contains(text, "a refresh was interrupted") || !strings.Contains(text, "apiauth connect") || r.out != "" {
		k.t.Errorf("%s: the message does not explain the loss: %s", where, r.redacted())
	}
	if _, err := os.Stat(k.h.recordFile(name)); err != nil {
		k.t.Errorf("%s: the record was not kept: %v", where, err)
	}
}

func (k *kills) report() {
	total := 0
	var list []string
	for _, name := range slices.Sorted(maps.Keys(k.points)) {
		total += k.points[name]
		list = append(list, fmt.Sprintf("%s %d", name, k.points[name]))
	}
	k.t.Logf("%d kill points, %d of them after the issuer's commit, %d between commit and journal: %d lost there, %d elsewhere (%s)",
		total, k.committed, k.inside, k.lostInside, k.lost, strings.Join(list, ", "))
	if k.inside == 0 {
		k.t.Error("no kill fell between commit and journal: the test proves less than it says")
	}
}
