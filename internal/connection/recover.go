package connection

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// answerMeta is the first line of an answer inside the write-ahead file; the
// body follows it as it came. Nothing but the sealed file may hold it.
type answerMeta struct {
	Status      int       `json:"status"`
	ContentType string    `json:"content_type,omitempty"`
	RetryAfter  string    `json:"retry_after,omitempty"`
	Date        time.Time `json:"date,omitzero"`
	ReceivedAt  time.Time `json:"received_at"`
	// Imported is the refresh token that the request carried, where it stays
	// valid unless the answer brings another one.
	Imported string `json:"imported,omitempty"`
}

func encodeAnswer(a oauth.Answer, imported secret.Text) []byte {
	meta := answerMeta{a.Status, a.ContentType, a.RetryAfter, a.Date, a.ReceivedAt.Round(0), imported.Reveal()}
	line, err := json.Marshal(meta)
	if err != nil { // a date outside of years 0 to 9999, as only an issuer sends it
		meta.Date = time.Time{}
		line, _ = json.Marshal(meta)
	}
	return append(append(line, '\n'), a.Body...)
}

func decodeAnswer(raw []byte) (_ oauth.Answer, imported secret.Text, err error) {
	line, body, found := bytes.Cut(raw, []byte{'\n'})
	if !found {
		return oauth.Answer{}, imported, errors.New("the write-ahead file holds no answer")
	}
	var m answerMeta
	if err := json.Unmarshal(line, &m); err != nil {
		return oauth.Answer{}, imported, errors.New("the write-ahead file holds no answer")
	}
	a := oauth.Answer{Status: m.Status, ContentType: m.ContentType, RetryAfter: m.RetryAfter, Date: m.Date, ReceivedAt: m.ReceivedAt, Body: body}
	return a, secret.New(m.Imported), nil
}

// recoverAside is recovery for a reader whose token is good: it must not wait
// for a process that is refreshing right now, and a failure that may pass is no
// failure of the reader. Where the issuer has ended the grant over the
// interrupted refresh, its access tokens are gone as well: that is the error.
func (s *Source) recoverAside(ctx context.Context, key Key, rec *Record) (*Record, error) {
	guard, err := s.Store.Lock(ctx, key, 0)
	if err != nil {
		return rec, nil // somebody is at work on it
	}
	defer guard.Unlock()
	r := &renewal{Source: s, key: key, guard: guard, aside: true}
	access, err := r.run(ctx, rec)
	switch {
	case errors.Is(err, ErrNeedsConnect):
		return nil, err
	case err != nil:
		s.warn("an interrupted refresh of %q could not be completed: %v", key.Name, err)
		return rec, nil
	}
	now, err := guard.Read(ctx)
	if err != nil || !now.Body.Access.Equal(access.Token) {
		return rec, nil
	}
	return now, nil
}

// recover completes what an earlier process left behind. With a sealed answer it
// promotes that without the network; with an intent alone it sets interrupted,
// so that the same token is sent once more at once: issuers with a grace period
// accept that.
func (r *renewal) recover(ctx context.Context, rec *Record) (_ *Record, promoted bool, err error) {
	j, err := r.guard.Journal(ctx)
	if err != nil {
		return nil, false, err
	}
	if j == nil {
		return rec, false, nil
	}
	switch {
	case j.Intent.Kind == IntentExchange && j.Raw != nil:
		return r.promoteExchange(ctx, rec, j)
	case j.Intent.Kind == IntentExchange:
		return rec, false, r.guard.Drop() // a code is sent at most once
	case rec == nil:
		return nil, false, r.guard.Drop() // a refresh of a connection that has been removed
	case j.Raw == nil:
		age := r.Now().Sub(j.Intent.Time)
		if rec.CanRenew() && !(r.aside && (age < -backwardsClock || age > resendAside)) {
			r.interrupted = j.Intent.Time
		}
		return rec, false, nil
	}
	ans, _, err := decodeAnswer(j.Raw)
	if err != nil {
		return rec, false, r.guard.Drop()
	}
	r.sent = Grant{Generation: max(rec.GrantGeneration, j.Intent.Grant)}
	for _, ours := range []secret.Text{rec.Body.Refresh, rec.Body.Spare} {
		if !ours.IsZero() && tokenHash(ours) == j.Intent.TokenHash {
			r.sent.Refresh = ours
		}
	}
	tok, err := oauth.ParseToken(ans, rules(&rec.Pins))
	if err != nil {
		if oauth.ErrorCode(err) == "invalid_grant" && rec.CanRenew() {
			// Whoever got that answer did not live to write it down. It may
			// have been the answer to a token that was sent again.
			r.interrupted = j.Intent.Time
		}
		// An answer that nobody can use, but for the refresh token in it. The
		// next request writes over it.
		salvaged, serr := r.salvage(ctx, rec, ans, j.Intent.TokenHash)
		return salvaged, false, serr
	}
	if !tok.Refresh.IsZero() && tokenHash(tok.Refresh) == j.Intent.TokenHash {
		tok.Refresh = secret.Text{} // the issuer repeated the token that was sent
	}
	next := r.successor(rec, tok, ans)
	if err := r.commit(ctx, next); err != nil {
		return nil, false, err
	}
	return r.follow(ctx, r.guard, next), true, nil
}

// promoteExchange completes a login whose answer was sealed but not stored. A
// login by another account than the stored one was never confirmed: it is
// dropped.
func (r *renewal) promoteExchange(ctx context.Context, rec *Record, j *Journal) (*Record, bool, error) {
	if j.Intent.Draft == nil {
		return rec, false, r.guard.Drop()
	}
	ans, imported, err := decodeAnswer(j.Raw)
	if err != nil {
		return rec, false, r.guard.Drop()
	}
	next, err := r.granted(ctx, rec, *j.Intent.Draft, j.Intent.Kept, ans, oauth.Client{})
	if err != nil {
		// Not the error: what the issuer said may repeat the code, and the
		// request that could tell is gone.
		r.warn("the answer of an interrupted login to %q was of no use", r.key.Name)
		return rec, false, r.guard.Drop()
	}
	keepImported(next, imported)
	if rec != nil && otherAccount(rec.Account, next.Account) {
		r.warn("an interrupted login to %q by another account was discarded", r.key.Name)
		return rec, false, r.guard.Drop()
	}
	if err := r.place(ctx, r.guard, next); err != nil {
		return nil, false, err
	}
	return r.follow(ctx, r.guard, next), true, nil
}

// keepImported adds the refresh token that a person brought along to a record
// whose first answer had none.
func keepImported(rec *Record, imported secret.Text) {
	if !rec.HasRefresh && !imported.IsZero() {
		rec.Body.Refresh, rec.HasRefresh = imported, true
	}
}

func otherAccount(was, is Account) bool {
	return was.Subject != "" && is.Subject != "" && was.Subject != is.Subject
}

// Recover completes what an interrupted process left behind for a connection,
// without asking for a token. Commands that change a connection call it first.
func (s *Source) Recover(ctx context.Context, name string) error {
	key := Key{Project: s.Project, Name: name}
	if !s.Store.Pending(key) {
		return nil
	}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return err
	}
	defer guard.Unlock()
	_, err = s.recoverLocked(ctx, key, guard)
	return err
}

// recoverLocked reads the record, nil when there is none, and completes what an
// interrupted process left behind. No request for a token is made.
func (s *Source) recoverLocked(ctx context.Context, key Key, guard Guard) (*Record, error) {
	r := &renewal{Source: s, key: key, guard: guard}
	rec, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	rec, _, err = r.recover(ctx, rec)
	return rec, err
}
