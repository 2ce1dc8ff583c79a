//go:build linux

package crash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
)

// the clock of the machine jumps between one command and the next. What
// was stored then lies in the future, or far in the past; two requests at most
// lead to a live token, with an interrupted refresh or without.
func TestClockJumps(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, jump := range map[string]time.Duration{
		"ten days back": -10 * day, "ten days ahead": 10 * day,
		"an hour back": -time.Hour, "two minutes back": -2 * time.Minute,
		"thirty years back": -30 * 365 * day, "thirty years ahead": 30 * 365 * day,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, strict())
			h := withFile(t, is)
			conn, _ := h.expired()
			h.age(conn, time.Now().Add(-jump))
			h.jumped(conn)

			conn, token := h.expired()
			h.age(conn, time.Now().Add(-jump))
			h.interrupted(conn, token, time.Now().Add(-jump))
			h.jumped(conn)
		})
	}
}

func (h *home) jumped(name string) {
	h.t.Helper()
	before := h.is.Stats()
	r := h.run("token", name)
	after := h.is.Stats()
	if n := after.RefreshRequests - before.RefreshRequests; r.code != 0 || !h.is.Active(r.token()) || n > 2 {
		h.t.Errorf("%d requests: %s", n, r.redacted())
	}
	h.mustLive(name)
	if n := h.is.Stats().Reuse - before.Reuse; n != 0 {
		h.t.Errorf("%d reuses", n)
	}
}

// interrupted leaves the intent of a refresh behind that was never sent.
func (h *home) interrupted(name, token string, at time.Time) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	g, err := h.store.Lock(ctx, h.key(name), patience)
	if err != nil {
		h.t.Fatal(err)
	}
	defer g.Unlock()
	rec, err := g.Read(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(token))
	if err := g.Begin(ctx, connection.Intent{
		Kind: connection.IntentRefresh, Target: rec.Generation + 1, Grant: rec.GrantGeneration,
		TokenHash: hex.EncodeToString(sum[:]), PID: 1, Time: at,
	}); err != nil {
		h.t.Fatal(err)
	}
}
