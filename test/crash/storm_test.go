//go:build linux

package crash

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox"
)

// rounds of processes that all want a token of one connection, half of
// which are killed: at a random system call, at one of those that store a
// refresh, or, the worst, with the answer received and not yet written. The
// grant goes on from round to round. With an issuer that has a grace period nothing is lost, ever. With a
// strict one nothing is lost in a round in which no process was killed between
// sending a request and the return of the sync that makes its answer durable.
func TestStorm(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]sandbox.Options{"strict": strict(), "grace": grace()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newStorm(t, o, withFile).run(4)
		})
	}
}

// The same with the desktop's keychain.
func TestStormWithKeychain(t *testing.T) {
	for name, o := range map[string]sandbox.Options{"strict": strict(), "grace": grace()} {
		t.Run(name, func(t *testing.T) {
			newStorm(t, o, withKeychain).run(1)
		})
	}
}

// storm counts what happens.
type storm struct {
	t      *testing.T
	is     *issuer
	h      *home
	strict bool

	processes, kills, inWindow, lostInside, lostOutside int
}

func newStorm(t *testing.T, o sandbox.Options, with func(*testing.T, *issuer) *home) *storm {
	t.Helper()
	s := &storm{t: t, is: newIssuer(t, o), strict: o.Grace == 0}
	s.h = with(t, s.is)
	canTrace(t, s.h)
	return s
}

// run goes through rounds of twelve processes; thirty in the long form.
func (s *storm) run(rounds int) {
	s.t.Helper()
	const size = 12
	if long() {
		rounds = 30
	}
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("APIAUTH_TEST_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		seed = n
	}
	random := rand.New(rand.NewPCG(seed, seed))
	name, _ := s.h.expired()
	// How many system calls a refresh has.
	whole := s.h.trace(tracing{port: s.is.port()}, "token", name).calls
	before := s.is.Stats()
	// A short storm in which chance killed nobody goes on until it did.
	const more = 20
	for i := 0; i < rounds || s.kills == 0 && i < rounds+more; i++ {
		if !s.h.store.Pending(s.h.key(name)) {
			s.h.age(name, time.Now().Add(-2*time.Hour))
		}
		if !s.round(random, name, size, whole) {
			name, _ = s.h.expired() // the person logs in again
		}
	}
	st := s.is.Stats()
	s.t.Logf("seed %d: %d rounds, %d processes, %d kills, %d of them between request and journal, %d refreshes, %d grace reuses, %d reuses; lost inside the window %d, outside %d",
		seed, s.processes/size, s.processes, s.kills, s.inWindow, st.Refreshes-before.Refreshes, st.GraceReuse-before.GraceReuse, st.Reuse-before.Reuse, s.lostInside, s.lostOutside)
	if s.kills == 0 {
		s.t.Error("nobody was killed")
	}
}

// round lets size processes loose. It reports whether the grant lives on.
func (s *storm) round(random *rand.Rand, name string, size, whole int) (alive bool) {
	s.t.Helper()
	ended := make([]traced, size)
	doomed := make([]bool, size)
	var all sync.WaitGroup
	for i := range size {
		args := []string{"token", name}
		if random.IntN(3) == 0 {
			args = append(args, "--refresh")
		}
		end := func(call) bool { return false }
		if doomed[i] = random.IntN(2) == 0; doomed[i] {
			at := 1 + random.IntN(whole)
			switch random.IntN(6) {
			case 0:
				end = isAnswer
			case 1, 2:
				at = whole*3/5 + random.IntN(whole*2/5)
				fallthrough
			default:
				end = func(c call) bool { return c.index == at }
			}
		}
		all.Go(func() {
			ended[i] = s.h.trace(tracing{port: s.is.port(), enter: func(_ int, c call) bool { return end(c) }}, args...)
		})
	}
	all.Wait()
	s.is.settle()
	window := 0
	for _, x := range ended {
		s.processes++
		if x.code == 128+9 {
			s.kills++
			if x.inWindow() {
				window++
			}
		}
	}
	s.inWindow += window
	mayBeLost := s.strict && window > 0
	for i, x := range ended {
		switch {
		case x.code == 0 || doomed[i] && x.code == 128+9:
		case x.code == 4 && mayBeLost:
		default:
			s.t.Errorf("a process of a storm: %s", x.redacted())
		}
		noTrace(s.t, x.result)
	}
	reused := s.is.Stats().Reuse
	r, err := s.h.proven(name)
	switch {
	case err == nil:
		return true
	case mayBeLost && r.code == 4:
		s.lostInside++
		if _, err := os.Stat(s.h.recordFile(name)); err != nil {
			s.t.Errorf("the record of a lost grant was not kept: %v", err)
		}
	default:
		s.lostOutside++
		s.t.Error(fmt.Errorf("the grant is lost in a round with %d kills between request and journal, %d reuses: %w", window, reused, err))
	}
	return false
}
