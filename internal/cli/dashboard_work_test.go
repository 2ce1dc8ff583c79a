package cli

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/dashboard"
	"github.com/apiauth/apiauth/internal/store"
)

// A refresh is told however soon it came; a key has none.
func TestPageFacts(t *testing.T) {
	login := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		title string
		h     connection.Header
		want  string // facts that are there, of those looked at
	}{
		{"just connected", connection.Header{Flow: "browser", ConnectedAt: login, ReceivedAt: login}, ""},
		{"refreshed at once", connection.Header{Flow: "browser", ConnectedAt: login, ReceivedAt: login.Add(time.Millisecond), GrantDeadline: login.Add(time.Hour)}, "Consent Last refresh"},
		{"a key of an earlier version", connection.Header{Flow: connection.FlowKey, ConnectedAt: login, ReceivedAt: login.Add(time.Microsecond), GrantDeadline: login.Add(time.Hour)}, "Key"},
	} {
		var told []string
		for _, fact := range pageFacts(new(store.Store), &tt.h, login) {
			if slices.Contains([]string{"Consent", "Key", "Last refresh"}, fact.Label) {
				told = append(told, fact.Label)
			}
		}
		if got := strings.Join(told, " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.title, got, tt.want)
		}
	}
}

// What is wrong with the day of a key is said at once, in words of the page.
func TestOrderWithADay(t *testing.T) {
	d := &dashboardWork{ctx: context.Background(), g: &globals{app: &App{Now: time.Now, Stderr: io.Discard}}}
	for day, want := range map[string]string{
		"2001-01-31": "the day on which the key ends: 2001-01-31 is over already",
		"soon":       `the day on which the key ends: "soon" is no date`,
		"2099-01-31": "goes with a key",
	} {
		err := d.Connect(t.Context(), dashboard.Order{Name: "peer", Provider: "peer", Expires: day})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "--") {
			t.Errorf("%s: %v, want %q", day, err, want)
		}
	}
}
