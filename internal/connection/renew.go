package connection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// renewal is one pass through the refresh order, under the lock:
//
//  1. lock, read again, use what another process stored meanwhile;
//  2. prove the write path, make the intent durable;
//  3. one request;
//  4. the raw answer sealed and synced before it is parsed;
//  5. parse; an unusable answer leaves everything as it was;
//  6. the new record durable, the write-ahead file gone, unlock, hand out.
type renewal struct {
	*Source
	key   Key
	guard Guard
	opt   Option
	aside bool // for a reader whose token is good

	interrupted time.Time // when an earlier process was cut off between sending and storing; zero: it was not
	itemRead    bool      // the grant item was read by this process
	itemGrant   Grant     // what it held
	sent        Grant     // what the last request carried
	nextRefused bool      // the issuer did not accept the next client secret
	requests    int
	waited      time.Duration
}

func (s *Source) renew(ctx context.Context, key Key, before *Record, o Option) (Access, error) {
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		var locked *LockedError
		if errors.As(err, &locked) && before != nil && !o.Refresh && s.live(before) && s.remainingAtLeast(before, o.MinTTL) {
			s.warn("%v; the stored token is still alive and was used", err)
			return s.access(before, false), nil
		}
		return Access{}, fmt.Errorf("get a token for %q: %w", key.Name, err)
	}
	defer guard.Unlock()
	r := &renewal{Source: s, key: key, guard: guard, opt: o}
	return r.run(ctx, before)
}

func (s *Source) remainingAtLeast(rec *Record, d time.Duration) bool {
	return !rec.ExpiryKnown || s.remaining(&rec.Header) >= d
}

func (r *renewal) run(ctx context.Context, before *Record) (Access, error) {
	name := r.key.Name
	rec, err := r.read(ctx)
	if err != nil {
		return Access{}, err
	}
	rec, promoted, err := r.recover(ctx, rec)
	if err != nil {
		return Access{}, err
	}
	if rec == nil {
		return Access{}, definite(ErrNotConnected, nil, "%q is not connected", name)
	}
	if err := r.checkPins(name, &rec.Header); err != nil {
		return Access{}, err
	}
	if r.interrupted.IsZero() {
		if r.done(before, rec, promoted) {
			return r.access(rec, promoted), nil
		}
		if access, err, done := r.settled(name, rec, r.opt); done {
			return access, err
		}
	}
	return r.refresh(ctx, rec)
}

// read returns nil when there is no record.
func (r *renewal) read(ctx context.Context) (*Record, error) {
	rec, err := r.guard.Read(ctx)
	if errors.Is(err, ErrNotStored) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the connection %q: %w", r.key.Name, err)
	}
	return rec, nil
}

// done reports whether what lies in the store now satisfies the caller: it is
// good, or it is alive and newer than what the caller had seen.
func (r *renewal) done(before, rec *Record, promoted bool) bool {
	if rec.State == StateNeedsConnect && r.opt.Refresh {
		return false
	}
	newer := promoted || (before != nil && rec.Generation > before.Generation && !rec.Body.Access.Equal(before.Body.Access))
	if newer && r.live(rec) {
		// A token that was just issued and lives shorter than asked for is the
		// best that the provider gives: a hundred waiting processes must not
		// ask for a hundred of them.
		ttl := time.Duration(rec.TTL) * time.Second
		return promoted || r.remainingAtLeast(rec, min(r.opt.MinTTL, ttl/2))
	}
	return r.good(rec, r.opt)
}

// refresh sends the token request for rec and stores its answer.
func (r *renewal) refresh(ctx context.Context, rec *Record) (Access, error) {
	if w, ok := r.Issuer.(warmer); ok && !oauth.UsesCertificate(rec.Pins.AuthMethod) { // such a connection is opened with the certificate
		w.Warm(ctx, tokenEndpoint(rec)) // while the keychain is asked and the intent is written
		defer w.Close()
	}
	grant, err := r.grant(ctx, rec)
	if err != nil {
		return Access{}, err
	}
	nextSecret := r.nextFor(ctx, &rec.Header)
	clientSecret := nextSecret
	if nextSecret.IsZero() {
		if clientSecret, err = r.secretFor(ctx, &rec.Header); err != nil {
			return Access{}, err
		}
	}
	tok, ans, err := r.send(ctx, rec, grant, clientSecret, !nextSecret.IsZero())
	// From here on the caller's cancellation no longer counts: an answer that
	// replaced the refresh token must become durable.
	ctx = context.WithoutCancel(ctx)
	if errors.Is(err, oauth.ErrUnusable) && ans.Status/100 == 2 {
		kept, serr := r.salvage(ctx, rec, ans, tokenHash(r.sent.Refresh))
		if serr != nil {
			r.warn("%v", serr)
		} else {
			rec = kept
		}
	}
	if err != nil {
		return r.failed(ctx, rec, err)
	}
	next := r.successor(rec, tok, ans)
	if err := r.commit(ctx, next); err != nil {
		return Access{}, err
	}
	next = r.follow(ctx, r.guard, next)
	if ttl, known := r.access(next, true).TTL(r.Now()); known && ttl < r.opt.MinTTL {
		r.warn("%s gives tokens that live %s; %s was asked for", rec.Provider, ttl.Round(time.Second), r.opt.MinTTL)
	}
	if !nextSecret.IsZero() && !r.nextRefused {
		r.promoteNext(ctx, &rec.Header, nextSecret)
	}
	return r.access(next, true), nil
}

func (r *renewal) commit(ctx context.Context, rec *Record) error {
	if err := r.guard.Commit(ctx, rec); err != nil {
		return fmt.Errorf("store the connection %q: %w", r.key.Name, err)
	}
	return nil
}

// grant finds the refresh token to send: our own copy if there is one, else the
// keychain's. The keychain is read also beside a copy, to learn whether it has
// caught up, and to notice that the files are an older copy.
func (r *renewal) grant(ctx context.Context, rec *Record) (Grant, error) {
	ours := Grant{Generation: rec.GrantGeneration, Refresh: rec.Body.Refresh}
	if !rec.HasRefresh {
		return ours, nil
	}
	haveCopy := !ours.Refresh.IsZero()
	switch {
	case rec.Keychain == KeychainConfirmed, rec.Keychain == KeychainPending && !strings.HasSuffix(rec.KeychainRun, r.Run):
	case haveCopy:
		return ours, nil
	}
	item, err := r.guard.Grant(ctx)
	switch {
	case err == nil && item.Generation > rec.GrantGeneration:
		r.itemRead, r.itemGrant = true, item
		r.warn("the files of %q are an older copy: the keychain holds a newer grant, which was used", r.key.Name)
		return item, nil
	case err == nil && item.Generation == rec.GrantGeneration:
		r.itemRead, r.itemGrant = true, item
		if haveCopy && !item.Refresh.Equal(ours.Refresh) {
			r.itemGrant = Grant{} // same number, other token: trust the record, confirm nothing
			return ours, nil
		}
		return item, nil
	case err == nil || errors.Is(err, ErrNotStored):
		r.itemRead, r.itemGrant = true, item // missing, or behind
		if haveCopy {
			return ours, nil
		}
		return Grant{}, definite(ErrNeedsConnect, nil, "get a token for %q: the keychain no longer holds its newest refresh token", r.key.Name)
	case haveCopy:
		r.warn("the keychain could not be asked (%v); the sealed copy of the grant was used", err)
		return ours, nil
	default:
		return Grant{}, fmt.Errorf("read the refresh token of %q: %w", r.key.Name, err)
	}
}

// send makes the token request, again where that is safe and of use, and
// returns a valid answer that is sealed in the write-ahead file.
//
// next says that clientSecret is the client's next one. When the issuer refuses
// the client for it, the present one is used once.
func (r *renewal) send(ctx context.Context, rec *Record, grant Grant, clientSecret secret.Text, next bool) (oauth.Token, oauth.Answer, error) {
	var (
		started     = r.Now()
		ambiguous   = !r.interrupted.IsZero() // a request may have been carried out without its answer being stored
		resent      bool
		secondGrant bool
		serverError bool
		signedAgain bool // with the issuer's clock
		notSent     int
	)
	for {
		req := r.request(rec, grant, clientSecret)
		ans, err := r.post(ctx, rec, grant, req)
		if err != nil {
			var store *storeError
			switch {
			case errors.As(err, &store):
				return oauth.Token{}, oauth.Answer{}, err
			case errors.Is(err, oauth.ErrRefused):
				return oauth.Token{}, oauth.Answer{}, r.drop(err) // a rule of ours: the same again helps nobody
			case errors.Is(err, oauth.ErrUnusable):
				return oauth.Token{}, oauth.Answer{}, r.drop(err) // an answer, though not one to keep: a redirect, a flood
			case errors.Is(err, oauth.ErrNotSent):
				if !ambiguous {
					_ = r.guard.Drop() // nothing reached the issuer; a leftover intent would only cost a request
				}
				notSent++
				if notSent > 2 || r.pause(ctx, time.Duration(notSent)*250*time.Millisecond) != nil {
					return oauth.Token{}, oauth.Answer{}, err
				}
				continue
			case resent || ctx.Err() != nil || r.Now().Sub(started) > resendWithin || r.requests >= maxTokenRequests:
				return oauth.Token{}, oauth.Answer{}, err
			}
			ambiguous, resent = true, true
			if r.interrupted.IsZero() {
				r.interrupted = r.Now()
			}
			continue
		}

		tok, err := oauth.ParseToken(ans, rules(&rec.Pins))
		if err == nil {
			return tok, ans, nil
		}
		wait, busy, limited := issuerBusy(err)
		switch {
		case errors.Is(err, oauth.ErrUnusable) && ans.Status/100 == 2:
			return oauth.Token{}, ans, err // the sealed answer stays: a grant may be in it
		case r.requests >= maxTokenRequests:
			return oauth.Token{}, ans, r.drop(err)
		case next && !r.nextRefused && clientRefused(ans, err):
			// The grant was not looked at. The same request, once, with the
			// secret that was good before.
			present, serr := r.secretFor(ctx, &rec.Header)
			if serr != nil {
				return oauth.Token{}, ans, r.drop(serr)
			}
			r.warnNextRefused(&rec.Header)
			clientSecret, r.nextRefused = present, true
			continue
		case req.Skewed(ans, err) && !signedAgain:
			signedAgain = true
			r.warnClock(ans)
			continue
		case oauth.ErrorCode(err) == "invalid_grant" && !secondGrant && !rec.ByClient():
			secondGrant = true
			if !rec.Body.Spare.IsZero() && grant.Refresh.Equal(rec.Body.Refresh) {
				// The newest token came in an answer that was broken otherwise.
				grant.Refresh = rec.Body.Spare
				continue
			}
			if item, gerr := r.guard.Grant(ctx); gerr == nil && item.Generation > grant.Generation {
				r.itemRead, r.itemGrant = true, item
				grant = item
			}
			continue
		case busy && (limited || !serverError):
			serverError = serverError || !limited
			if r.waited+wait > maxWaitTotal {
				return oauth.Token{}, ans, r.drop(err)
			}
			r.waited += wait
			if perr := r.pause(ctx, wait); perr != nil {
				return oauth.Token{}, ans, r.drop(err)
			}
			continue
		default:
			return oauth.Token{}, ans, r.drop(err)
		}
	}
}

// issuerBusy reads an answer that asks for patience: how long to wait before
// the next request, at least a second; limited tells 429, which may come again,
// from a failing server, which gets one more chance.
func issuerBusy(err error) (wait time.Duration, busy, limited bool) {
	var (
		status *oauth.StatusError
		coded  *oauth.Error
		code   int
	)
	switch {
	case errors.As(err, &status):
		code, wait = status.Status, status.RetryAfter
	case errors.As(err, &coded) && oauth.IsTemporary(err):
		code, wait = coded.Status, coded.RetryAfter
	default:
		return 0, false, false
	}
	return max(wait, time.Second), true, code == 429
}

// drop removes the write-ahead file after a definite answer. That the grant has
// ended is remembered in the record first, which then removes the file.
func (r *renewal) drop(err error) error {
	if oauth.ErrorCode(err) == "invalid_grant" {
		return err
	}
	if derr := r.guard.Drop(); derr != nil {
		r.warn("%v", derr)
	}
	return err
}

func (r *renewal) pause(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.Sleep(ctx, d)
}

// storeError marks failures of our own disk or keychain around a request.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

// post makes the intent durable, sends one request, and seals its answer. The
// request does not follow the caller's cancellation: once sent, its answer is
// awaited and stored.
func (r *renewal) post(ctx context.Context, rec *Record, grant Grant, req oauth.TokenRequest) (oauth.Answer, error) {
	if err := ctx.Err(); err != nil {
		return oauth.Answer{}, err
	}
	in := Intent{Kind: IntentRefresh, Target: rec.Generation + 1, TokenHash: tokenHash(grant.Refresh), Grant: grant.Generation, PID: r.PID, Time: r.Now()}
	if !r.interrupted.IsZero() {
		in.Time = r.interrupted // the first request is the one that counts
	}
	if err := r.guard.Begin(ctx, in); err != nil {
		return oauth.Answer{}, &storeError{fmt.Errorf("prepare the refresh of %q, nothing was sent: %w", r.key.Name, err)}
	}
	r.requests++
	r.sent = grant
	return sendSealed(ctx, r.Source, r.guard, req, secret.Text{})
}

// sendSealed sends req once and makes the raw answer durable before it returns.
// It lets go of the caller's cancellation: what is sent has to be received and
// stored. After a cancellation it goes on for lingerTimeout at most.
func sendSealed(ctx context.Context, s *Source, guard Guard, req oauth.TokenRequest, imported secret.Text) (oauth.Answer, error) {
	caller := ctx
	// The time of a request is limited where it is made, and there patiently.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(caller, func() {
		linger := time.NewTimer(lingerTimeout)
		defer linger.Stop()
		select {
		case <-linger.C:
			cancel()
		case <-ctx.Done():
		}
	})()
	ans, err := s.Issuer.PostToken(ctx, req)
	if err != nil {
		return oauth.Answer{}, err
	}
	if err := guard.Seal(ctx, encodeAnswer(ans, imported)); err != nil {
		// The answer is still in memory, and Commit may yet succeed.
		s.warn("the issuer's answer could not be written ahead: %v", err)
	}
	return ans, nil
}

// warnClock says that our clock is wrong, and by how much.
func (s *Source) warnClock(ans oauth.Answer) {
	s.warn("this machine's clock differs from the issuer's by %s; the issuer's was used", ans.Date.Sub(ans.ReceivedAt).Abs().Round(time.Second))
}

// mark decides what will be tried with the keychain for a new refresh token.
func (s *Source) mark(guard Guard, rec *Record) {
	g := Grant{Generation: rec.GrantGeneration, Refresh: rec.Body.Refresh}
	switch {
	case rec.Keychain == KeychainSuspended:
	case s.Store.Kind() != "keychain":
		rec.Keychain = KeychainNone
	case !guard.FitsGrant(g):
		rec.Keychain = KeychainTooLarge
	default:
		rec.Keychain, rec.KeychainRun = KeychainPending, s.Run
	}
}

// follow lets the keychain catch up with a record that is durable. A failure
// costs nothing but is remembered: nothing more is tried until a person acts.
func (s *Source) follow(ctx context.Context, guard Guard, rec *Record) *Record {
	if rec.Keychain != KeychainPending || !strings.HasSuffix(rec.KeychainRun, s.Run) || rec.Body.Refresh.IsZero() {
		return rec
	}
	err := guard.SetGrant(ctx, Grant{Generation: rec.GrantGeneration, Refresh: rec.Body.Refresh})
	if err == nil {
		return rec
	}
	s.warn("the keychain did not take the refresh token of %q (%v); a sealed copy is kept in its record. 'apiauth doctor --fix' tries again", rec.Name, err)
	suspended := *rec
	suspended.Generation++
	suspended.Keychain = KeychainSuspended
	if err := guard.Commit(ctx, &suspended); err != nil {
		s.warn("%v", err)
		return rec
	}
	return &suspended
}

// failed turns the failure of a refresh into what the caller may do about it.
func (r *renewal) failed(ctx context.Context, rec *Record, err error) (Access, error) {
	name := r.key.Name
	var store *storeError
	code := oauth.ErrorCode(err)
	if code == "invalid_grant" {
		return r.ended(ctx, rec, err)
	}
	if !r.opt.Refresh && r.live(rec) && r.remainingAtLeast(rec, r.opt.MinTTL) {
		r.warn("%q could not be refreshed (%v); its token is still alive and was used", name, err)
		return r.access(rec, false), nil
	}
	switch {
	case errors.As(err, &store):
		return Access{}, store.err
	case code == "invalid_client" || code == "unauthorized_client" || code == "incorrect_client_credentials", errors.Is(err, oauth.ErrCertificate):
		return Access{}, definite(ErrClient, err, "refresh %q", name)
	case code != "" && !oauth.IsTemporary(err), errors.Is(err, oauth.ErrRefused):
		return Access{}, definite(ErrRefused, err, "refresh %q", name)
	}
	if wait, busy, _ := issuerBusy(err); busy && code != "" && wait > time.Second { // the other kind names it itself
		return Access{}, definite(ErrTemporary, err, "refresh %q: the issuer asks to wait %s", name, wait)
	}
	return Access{}, definite(ErrTemporary, err, "refresh %q", name)
}

// ended remembers that a person must act. The record is kept as it is, and a
// token that is still alive is still served.
func (r *renewal) ended(ctx context.Context, rec *Record, cause error) (Access, error) {
	next := *rec
	next.Generation++
	next.State = StateNeedsConnect
	next.StateReason = "the issuer no longer accepts the grant"
	if !r.interrupted.IsZero() {
		next.StateReason = fmt.Sprintf("a refresh was interrupted at %s between the issuer's answer and its storing, and the issuer no longer accepts the grant",
			r.interrupted.UTC().Format(time.RFC3339))
		// An issuer that counts the repeated token as stolen has ended the
		// access tokens of the grant as well: serving one would hide that.
		next.TTL, next.ExpiryKnown = 0, true
	}
	if err := r.commit(context.WithoutCancel(ctx), &next); err != nil {
		return Access{}, err
	}
	if r.live(&next) && !r.opt.Refresh {
		r.warn("%s; its last token is alive until %s", next.StateReason, next.ExpiresAt().UTC().Format(time.RFC3339))
		return r.access(&next, false), nil
	}
	return Access{}, definite(ErrNeedsConnect, cause, "get a token for %q: %s", r.key.Name, next.StateReason)
}
