package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
)

// report says what was obtained.
func (a *attempt) report(rec *connection.Record, s *store.Store) {
	ws := a.ws
	who := describeAccount(rec.Account)
	ws.say("Connected %s to %s as %s.", rec.Name, oauth.Clean(a.def.Name), who)
	if len(rec.ScopesAsked) > 0 || rec.ScopesKnown {
		granted := "not told by the provider"
		if rec.ScopesKnown {
			granted = cleanList(rec.ScopesGranted)
		}
		ws.say("  scopes   %s", granted)
	}
	if missing := rec.Missing(rec.ScopesAsked); len(missing) > 0 {
		ws.warn("the grant is narrower than what was asked for; missing: %s", cleanList(missing))
	}
	ws.say("  token    %s", describeExpiry(&rec.Header, ws.app.Now()))
	switch end := rec.GrantDeadline.Local().Format(time.DateOnly); {
	case rec.GrantDeadline.IsZero():
	case rec.Flow == connection.FlowKey:
		ws.say("  key      until %s", end)
	default:
		ws.say("  consent  until %s, whatever is refreshed", end)
	}
	ws.say("  store    %s", describeStore(s, &rec.Header))
	switch {
	case rec.Flow != connection.FlowKey:
	case !rec.GrantDeadline.IsZero():
		ws.warn("until then this key is as good as a password")
	case rec.Pins.Token.NeverExpires:
		ws.warn("this key is as good as a password: it does not expire by itself")
	default:
		ws.warn("this key is as good as a password; if it has an end, connect with --expires DATE, and you are reminded in time")
	}
	ws.say("Now: apiauth token %s", rec.Name)
}

// deadlineOf names what ends at the deadline of a grant.
func deadlineOf(h *connection.Header) string {
	if h.Flow == connection.FlowKey {
		return "key"
	}
	return "consent"
}

func describeAccount(a connection.Account) string {
	switch {
	case a.Label != "":
		return oauth.Clean(a.Label)
	case a.Subject != "":
		return oauth.Clean(a.Subject)
	}
	return "an account that the provider does not name"
}

func cleanList(list []string) string {
	if len(list) == 0 {
		return "(none)"
	}
	shown := make([]string, len(list))
	for i, s := range list {
		shown[i] = oauth.Clean(s)
	}
	return strings.Join(shown, ", ")
}

func describeStore(s connection.Store, h *connection.Header) string {
	switch {
	case s.Kind() == bundle.Kind:
		return "bundle " + s.ID() + ", read only"
	case s.Kind() == store.KindFile:
		return "encrypted file"
	case h.Keychain == connection.KeychainSuspended:
		return "keychain (key) and sealed file (refresh token: the keychain did not take it)"
	case h.Keychain == connection.KeychainTooLarge:
		return "keychain (key) and sealed file (the refresh token is too large for the keychain)"
	}
	return "keychain"
}

func describeExpiry(h *connection.Header, now time.Time) string {
	if !h.ExpiryKnown {
		return "no expiry known"
	}
	left := h.ExpiresAt().Sub(now).Round(time.Second)
	switch {
	case left <= 0 && h.CanRenew():
		return "expired, renewed when it is needed"
	case left <= 0:
		return "expired"
	case h.CanRenew():
		return fmt.Sprintf("lives %s, then it is renewed", humanDuration(left))
	}
	return fmt.Sprintf("lives %s, then a new login is needed", humanDuration(left))
}

// humanDuration prints the two largest units.
func humanDuration(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}
