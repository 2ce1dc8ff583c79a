package connection

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// successor is the record that a token response makes of rec.
func (r *renewal) successor(rec *Record, tok oauth.Token, ans oauth.Answer) *Record {
	next := *rec
	next.Generation++
	next.State, next.StateReason = StateOK, ""
	r.apply(&next, tok, ans)
	if err := next.Pins.BindAPI(next.Body.Kept); err != nil {
		r.warn("what %s says about its API now was not taken over: %v", rec.Provider, err)
		next.Body.Kept = rec.Body.Kept
	}
	next.Body.Spare = secret.Text{}

	switch {
	case rec.ByClient(): // RFC 6749 section 4.4.3: a refresh token has no place here
		return &next
	case !tok.Refresh.IsZero() && !tok.Refresh.Equal(r.sent.Refresh):
		r.rotate(rec, &next, tok.Refresh)
		return &next
	case !rec.Body.Spare.IsZero() && r.sent.Refresh.Equal(rec.Body.Spare):
		r.rotate(rec, &next, rec.Body.Spare) // the newer one was not accepted
		next.Rotated = rec.Rotated
		return &next
	}
	// The refresh token stays. The copy may go once the keychain is known to
	// hold it, and must not go before.
	item := r.itemGrant
	switch {
	case !r.itemRead:
	case item.Generation >= rec.GrantGeneration && !item.Refresh.IsZero() && item.Refresh.Equal(r.sent.Refresh):
		next.GrantGeneration = item.Generation
		next.Keychain = KeychainConfirmed
		next.Body.Refresh = secret.Text{}
	case !rec.Body.Refresh.IsZero() && item.Generation < rec.GrantGeneration:
		r.lost(rec, &next)
	}
	return &next
}

// rotate puts a new refresh token into next, the successor of rec.
func (r *renewal) rotate(rec, next *Record, refresh secret.Text) {
	next.GrantGeneration = max(r.sent.Generation, rec.GrantGeneration) + 1
	next.Rotated = true
	next.Body.Refresh = refresh
	r.mark(r.guard, next)
	if r.itemRead && !rec.Body.Refresh.IsZero() && r.itemGrant.Generation < rec.GrantGeneration {
		r.lost(rec, next)
	}
}

// lost decides what to do about a keychain that does not hold what should have
// been written to it. The process that should have done so may have been killed
// before: then it is written once more. A second time the keychain is at fault.
func (r *renewal) lost(rec, next *Record) {
	const again = "again-"
	if !strings.HasPrefix(rec.KeychainRun, again) {
		next.Keychain = KeychainNone
		r.mark(r.guard, next)
		if next.Keychain == KeychainPending {
			next.KeychainRun = again + r.Run
		}
		return
	}
	next.Keychain = KeychainSuspended
	r.warn("the keychain lost the refresh token of %q; a sealed copy is kept. 'apiauth doctor --fix' tries the keychain again", r.key.Name)
}

// salvage takes the new refresh token out of an answer that is of no use
// otherwise, and makes it durable: an issuer that rotates accepts only that one
// from now on. The token before it stays beside it, for the case that the answer
// was wrong about this too. sent is the hash of the token that was sent. It
// returns rec as it is when there is nothing to salvage.
func (r *renewal) salvage(ctx context.Context, rec *Record, ans oauth.Answer, sent string) (*Record, error) {
	refresh := oauthRefresh(ans, &rec.Pins.Token)
	if refresh.IsZero() || !rec.HasRefresh || tokenHash(refresh) == sent {
		return rec, nil
	}
	before := r.sent.Refresh
	if before.IsZero() {
		before = rec.Body.Refresh
	}
	if before.IsZero() {
		item, err := r.guard.Grant(ctx)
		if err != nil {
			return rec, nil // the answer stays where it is
		}
		before = item.Refresh
	}
	next := *rec
	next.Generation++
	r.rotate(rec, &next, refresh)
	next.Body.Spare = before
	if err := r.commit(ctx, &next); err != nil {
		return rec, err
	}
	return r.follow(ctx, r.guard, &next), nil
}

// oauthRefresh reads the refresh token of an answer whatever the rest of it is
// like, or nothing.
func oauthRefresh(ans oauth.Answer, p *providers.TokenPin) secret.Text {
	const limit = 64 << 10
	var doc map[string]any
	if ans.Status/100 != 2 || json.Unmarshal(ans.Body, &doc) != nil || doc["error"] != nil {
		return secret.Text{}
	}
	if inner, ok := member(doc, p.Inside).(map[string]any); ok {
		doc = inner
	}
	token, ok := member(doc, cmp.Or(p.Fields["refresh_token"], "refresh_token")).(string)
	if !ok || len(token) > limit || strings.ContainsFunc(token, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return secret.Text{}
	}
	return secret.New(token)
}

// member returns what stands at a path of names, or nil.
func member(doc map[string]any, path string) any {
	name, rest, more := strings.Cut(path, ".")
	if !more {
		return doc[name]
	}
	inner, _ := doc[name].(map[string]any)
	return member(inner, rest)
}

// apply puts the fields of a token response into rec; the refresh token is not
// among them.
func (s *Source) apply(rec *Record, tok oauth.Token, ans oauth.Answer) {
	rec.Body.Access = tok.Access
	rec.ReceivedAt = ans.ReceivedAt.Round(0)
	rec.IssuerDate = ans.Date
	p := &rec.Pins.Token
	switch {
	case tok.ExpiresKnown && (tok.ExpiresIn > 0 || !p.NeverExpires): // 0 is how some say that there is no end
		rec.TTL, rec.ExpiryKnown = int64(tok.ExpiresIn/time.Second), true
	case p.NeverExpires:
		rec.TTL, rec.ExpiryKnown = 0, false
	case rec.CanRenew() || !tok.Refresh.IsZero():
		rec.TTL, rec.ExpiryKnown = p.ExpiresIn, true
		if rec.TTL <= 0 {
			rec.TTL = 3600
		}
	default: // served until the API refuses it
		rec.TTL, rec.ExpiryKnown = 0, false
	}
	if tok.ScopesKnown {
		rec.ScopesGranted, rec.ScopesKnown = tok.Scopes, true
	}
	if len(tok.Kept) > 0 {
		kept := make(map[string]string, len(rec.Body.Kept)+len(tok.Kept))
		for k, v := range rec.Body.Kept {
			kept[k] = v
		}
		for k, v := range tok.Kept {
			kept[k] = v
		}
		rec.Body.Kept = kept
	}
	switch {
	case tok.RefreshExpiresIn > 0:
		rec.RefreshDeadline = rec.ReceivedAt.Add(tok.RefreshExpiresIn)
	case p.RefreshLifetime > 0 && (rec.HasRefresh || !tok.Refresh.IsZero()):
		rec.RefreshDeadline = rec.ReceivedAt.Add(time.Duration(p.RefreshLifetime) * time.Second)
	}
}
