//go:build linux

package crash

import (
	"context"
	"strings"
	"testing"
)

// Connecting again is killed at each writing call: until the new grant is
// stored the old one stays, so there is always one that lives, whatever the
// issuer thinks of reuse.
func TestReconnectKilled(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	step := 23
	if long() {
		step = 1
	}
	points := 0
	for n := 1; ; n += step {
		name, _ := h.expired()
		if !h.reconnect(name, func(c call) bool { return c.wrote == n }) {
			break
		}
		points++
	}
	for _, at := range []func(call) bool{
		isAnswer,
		second(func(c call) bool { return c.name() == "fsync" && strings.HasSuffix(c.path, ".wal") }),
		func(c call) bool { return c.name() == "write" && strings.Contains(c.path, ".rec.") },
		func(c call) bool { return c.name() == "unlinkat" },
		func(c call) bool { return c.name() == "exit_group" },
	} {
		name, _ := h.expired()
		if h.reconnect(name, at) {
			points++
		}
	}
	t.Logf("%d kill points", points)
}

// reconnect runs connect for a connection that exists until it is killed, and
// reports whether it was.
func (h *home) reconnect(name string, here func(call) bool) (killed bool) {
	h.t.Helper()
	before := h.is.Stats().Reuse
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	x := h.trace(tracing{
		port:  h.is.port(),
		enter: func(_ int, c call) bool { return here(c) },
		line: func(text string) {
			if u := strings.TrimSpace(text); strings.Contains(u, "code_challenge=") {
				_ = h.is.Approve(ctx, u) // which fails when nobody is there any more
			}
		},
	}, "connect", name, "--flow", "browser", "--no-browser")
	h.is.settle()
	if x.code != 0 && x.code != 128+9 {
		h.t.Fatalf("%s", x.redacted())
	}
	if _, err := h.proven(name); err != nil {
		h.t.Errorf("connect killed at call %d (%s %s), %d sent, %d sealed: no grant lives: %v", x.last.index, x.last.name(), x.last.path, x.sends, x.seals, err)
	}
	if n := h.is.Stats().Reuse - before; n != 0 {
		h.t.Errorf("connect killed at call %d (%s %s): %d reuses", x.last.index, x.last.name(), x.last.path, n)
	}
	return x.code != 0
}

// A rename is killed at each writing call: afterwards the connection has one
// name, the old or the new one, never both and never none.
func TestRenameKilled(t *testing.T) {
	t.Parallel()
	is := newIssuer(t, strict())
	h := withFile(t, is)
	step := 7
	if long() {
		step = 1
	}
	points, moved := 0, 0
	for n := 1; ; n += step {
		from, _ := h.expired()
		to := from + "-new"
		before := is.Stats().Reuse
		x := h.trace(tracing{port: is.port(), enter: func(_ int, c call) bool { return c.wrote == n }}, "rename", from, to)
		is.settle()
		if x.code != 0 && x.code != 128+9 {
			t.Fatalf("%s", x.redacted())
		}
		_, atNew := h.proven(to)
		_, atOld := h.proven(from)
		if (atNew == nil) == (atOld == nil) {
			t.Errorf("rename killed at call %d (%s %s): the old name: %v; the new one: %v", x.last.index, x.last.name(), x.last.path, atOld, atNew)
		}
		if r := is.Stats().Reuse - before; r != 0 {
			t.Errorf("rename killed at call %d (%s %s): %d reuses", x.last.index, x.last.name(), x.last.path, r)
		}
		if atNew == nil {
			moved++
		}
		if x.code == 0 {
			break
		}
		points++
	}
	t.Logf("%d kill points, in %d cases the new name holds", points, moved)
}
