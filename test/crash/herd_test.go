//go:build linux

package crash

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// however many processes want a token of an expired connection at once,
// one asks the issuer, and all print what it got.
func TestOneRefreshForMany(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 20, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, strict())
			h := withFile(t, is)
			name, _ := h.expired()
			// The first waits at the issuer until all others have seen the
			// expired token, for otherwise they might come too late for the race.
			first := is.holdNext(true)
			all := []*started{h.start("token", name)}
			<-first.arrived
			for range n - 1 {
				all = append(all, h.start("token", name))
			}
			for _, s := range all[1:] {
				s.untilWaiting(name)
			}
			close(first.release)
			tokens := map[string]bool{}
			for _, s := range all {
				r := s.wait()
				if r.code != 0 {
					t.Error(r.redacted())
				}
				tokens[strings.TrimSpace(r.out)] = true
				if !is.Active(r.token()) {
					t.Error("a token was printed that does not live")
				}
			}
			if st := is.Stats(); st.RefreshRequests != 1 || st.Reuse != 0 || len(tokens) != 1 {
				t.Errorf("%d processes made %d requests and printed %d tokens; %d reuses", n, st.RefreshRequests, len(tokens), st.Reuse)
			}
			h.mustLive(name)
		})
	}
}

// The same with the desktop's keychain, let loose without a start line.
func TestOneRefreshForManyWithKeychain(t *testing.T) {
	is := newIssuer(t, strict())
	h := withKeychain(t, is)
	name, _ := h.expired()
	var all []*started
	for range 20 {
		all = append(all, h.start("token", name))
	}
	for _, s := range all {
		if r := s.wait(); r.code != 0 || !is.Active(r.token()) {
			t.Error(r.redacted())
		}
	}
	if st := is.Stats(); st.RefreshRequests != 1 || st.Reuse != 0 {
		t.Errorf("20 processes made %d requests; %d reuses", st.RefreshRequests, st.Reuse)
	}
	h.mustLive(name)
}

// the holder of the lock is killed in flight. Of those who wait, one takes
// over at once; the others use what it gets.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		before  bool // the issuer has not learned of the request
		commits int
	}{
		{"before the commit", true, 1}, {"after the commit", false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := strict()
			if !c.before {
				o = grace()
			}
			is := newIssuer(t, o)
			h := withFile(t, is)
			name, _ := h.expired()
			held := is.holdNext(c.before)
			holder := h.start("token", name)
			<-held.arrived
			var others []*started
			for range 19 {
				others = append(others, h.start("token", name))
			}
			for _, s := range others {
				s.untilWaiting(name)
			}
			holder.signal(syscall.SIGKILL)
			if r := holder.wait(); r.code != 128+9 {
				t.Fatal(r.redacted())
			}
			held.drop = true
			close(held.release)
			for _, s := range others {
				if r := s.wait(); r.code != 0 || !is.Active(r.token()) {
					t.Error(r.redacted())
				}
			}
			if st := is.Stats(); st.Refreshes != c.commits || st.Reuse != 0 {
				t.Errorf("%d refreshes instead of %d; %d reuses", st.Refreshes, c.commits, st.Reuse)
			}
			h.mustLive(name)
		})
	}
}

// the holder of the lock is stopped. Nobody refreshes beside it; those who
// wait end in their time and name its pid. When it goes on, all is as it was.
func TestHolderStopped(t *testing.T) {
	is := newIssuer(t, grace()) // the holder wakes long after its own deadlines
	h := withFile(t, is)
	name, _ := h.expired()
	held := is.holdNext(false)
	holder := h.start("token", name)
	<-held.arrived
	holder.signal(syscall.SIGSTOP)
	untilStopped(t, holder.cmd.Process.Pid)
	close(held.release) // the answer lies in the socket of the stopped process
	<-held.sent
	others := []*started{h.start("token", name), h.start("token", name), h.start("token", name, "--refresh")}
	t.Parallel() // they wait for half a minute: others need not
	for _, s := range others {
		r := s.wait()
		if s.took > 60*time.Second {
			t.Errorf("it waited %v", s.took)
		}
		if r.code != 3 || !strings.Contains(r.flat(), fmt.Sprintf("process %d ", holder.cmd.Process.Pid)) || r.out != "" {
			t.Errorf("pid %d is stopped: %s", holder.cmd.Process.Pid, r.redacted())
		}
	}
	if st := is.Stats(); st.RefreshRequests != 1 || st.Reuse != 0 {
		t.Errorf("%d requests, %d reuses beside a stopped holder", st.RefreshRequests, st.Reuse)
	}
	holder.signal(syscall.SIGCONT)
	r := holder.wait()
	t.Logf("the holder, once it went on: exit code %d", r.code)
	if r.code != 3 && (r.code != 0 || !is.Active(r.token())) {
		t.Errorf("the holder, once it went on: %s", r.redacted())
	}
	h.mustLive(name)
	if st := is.Stats(); st.Reuse != 0 {
		t.Errorf("%d reuses", st.Reuse)
	}
}

// the machine sleeps while an answer is under way. What lies in the socket
// when it wakes is not thrown away.
func TestStoppedInFlight(t *testing.T) {
	t.Parallel()
	sleep := time.Second
	if long() {
		sleep = 6 * time.Second
	}
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprintf("before=%v", before), func(t *testing.T) {
			t.Parallel()
			asleep(t, before, sleep)
		})
	}
	if !long() {
		return
	}
	// Longer than any deadline of a request. The clock that measures those
	// stands still while a machine sleeps, but not while a process is stopped.
	t.Run("a minute", func(t *testing.T) {
		t.Parallel()
		is := newIssuer(t, strict())
		h := withFile(t, is)
		name, _ := h.expired()
		woken := stopFor(t, is, h, name, false, time.Minute)
		r, err := h.proven(name)
		switch {
		case err == nil:
			t.Logf("woken after a minute: exit code %d, the grant lives", woken.code)
		case r.code == 4 && strings.Contains(r.flat(), "a refresh was interrupted"):
			t.Logf("woken after a minute: exit code %d, the grant is lost and the message says why", woken.code)
		default:
			t.Errorf("lost and not explained: %v", err)
		}
	})
}

func asleep(t *testing.T, before bool, d time.Duration) {
	is := newIssuer(t, strict())
	h := withFile(t, is)
	name, _ := h.expired()
	if r := stopFor(t, is, h, name, before, d); r.code != 0 || !is.Active(r.token()) {
		t.Errorf("after %v asleep: %s", d, r.redacted())
	}
	h.mustLive(name)
	if st := is.Stats(); st.Reuse != 0 {
		t.Errorf("%d reuses", st.Reuse)
	}
}

// stopFor stops a refresh in flight, lets the answer arrive, and wakes the
// process after d.
func stopFor(t *testing.T, is *issuer, h *home, name string, before bool, d time.Duration) result {
	t.Helper()
	held := is.holdNext(before)
	s := h.start("token", name)
	<-held.arrived
	s.signal(syscall.SIGSTOP)
	untilStopped(t, s.cmd.Process.Pid)
	close(held.release)
	<-held.sent
	night := time.NewTimer(d)
	defer night.Stop()
	<-night.C
	s.signal(syscall.SIGCONT)
	return s.wait()
}
