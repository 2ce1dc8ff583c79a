package connection

import (
	"context"
	"errors"
	"fmt"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Farewell says what Disconnect did.
type Farewell struct {
	Header  Header
	Known   bool  // Header is filled: the record could be read
	Revoked bool  // the issuer confirmed
	Skipped bool  // the caller asked for local removal only
	Err     error // why the issuer did not confirm; nil with Revoked, Skipped, or where there is no way to revoke
}

// Disconnect forgets a connection locally, always, and then revokes it at the
// issuer where that can be done, within 10 s, or 20 s where that takes a living
// access token and ours has ended. A failed revocation is in the Farewell, not in
// the error.
//
// It returns an error that wraps ErrNotConnected when nothing is stored, and
// the store's error when keychain items could not be removed: the files are
// gone then all the same.
func (s *Source) Disconnect(ctx context.Context, name string, local bool) (Farewell, error) {
	key := Key{Project: s.Project, Name: name}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return Farewell{}, fmt.Errorf("disconnect %q: %w", name, err)
	}
	defer guard.Unlock()

	var f Farewell
	rec, readErr := guard.Read(ctx)
	if errors.Is(readErr, ErrNotStored) && !s.Store.Pending(key) {
		return Farewell{}, definite(ErrNotConnected, nil, "%q is not connected", name)
	}
	if !local && s.Store.Pending(key) {
		// The token that has to be revoked may be in a sealed answer.
		if now, err := s.recoverLocked(ctx, key, guard); err == nil && now != nil {
			rec, readErr = now, nil
		}
	}
	var refresh secret.Text
	switch {
	case readErr == nil:
		f.Header, f.Known = rec.Header, true
		if !local {
			refresh, f.Err = s.newest(ctx, guard, rec)
		}
	default:
		if h, err := s.Store.Header(key); err == nil {
			f.Header, f.Known = *h, true
		}
		f.Err = fmt.Errorf("the record could not be opened, so nothing could be revoked: %w", readErr)
	}
	// The client secret is read before the files go: its registration stays,
	// but a locked keychain should be known first.
	var clientSecret secret.Text
	if readErr == nil && !local && f.Err == nil {
		clientSecret, err = s.secretToRevoke(ctx, rec)
		if err != nil {
			f.Err = err
		}
	}
	delErr := guard.Delete(context.WithoutCancel(ctx))
	guard.Unlock()

	if local {
		f.Skipped, f.Err = true, nil
	} else if readErr == nil && f.Err == nil {
		if rec, f.Err = s.enliven(ctx, rec, refresh, clientSecret); f.Err == nil {
			f.Revoked, f.Err = s.revoke(ctx, rec, refresh, clientSecret, false)
		}
	}
	if delErr != nil {
		return f, fmt.Errorf("disconnect %q: the files are gone, the keychain items are not: %w", name, delErr)
	}
	return f, nil
}

// newest finds the refresh token to revoke: our copy, or the keychain's.
func (s *Source) newest(ctx context.Context, guard Guard, rec *Record) (secret.Text, error) {
	if !rec.HasRefresh {
		return secret.Text{}, nil
	}
	ours := rec.Body.Refresh
	if !ours.IsZero() && rec.Keychain != KeychainPending {
		return ours, nil
	}
	g, err := guard.Grant(ctx)
	switch {
	case err == nil && (ours.IsZero() || g.Generation > rec.GrantGeneration):
		return g.Refresh, nil
	case !ours.IsZero():
		return ours, nil
	case errors.Is(err, ErrNotStored):
		return secret.Text{}, errors.New("the keychain no longer holds the refresh token, so it could not be revoked")
	}
	return secret.Text{}, fmt.Errorf("the refresh token could not be read, so it could not be revoked: %w", err)
}

// secretToRevoke is the client's secret, if the provider wants it to end a grant.
func (s *Source) secretToRevoke(ctx context.Context, rec *Record) (secret.Text, error) {
	switch rec.Pins.Revocation.Auth {
	case providers.AuthBearer, providers.AuthNone, providers.AuthOmitted:
		if !s.tooLate(rec) {
			return secret.Text{}, nil
		}
	}
	return s.secretFor(ctx, &rec.Header)
}

// tooLate reports whether the grant ends by its access token only, and that has
// ended before.
func (s *Source) tooLate(rec *Record) bool {
	end := rec.ExpiresAt()
	return rec.Pins.Revocation.ByAccessToken() && rec.HasRefresh && !end.IsZero() && !end.After(s.Now())
}

// enliven returns rec with an access token that lives, where its grant can be
// ended by one only. It is the one refresh without a journal: rec is deleted
// already, nothing of the answer is kept, and a lost one leaves what a failed
// revocation leaves.
func (s *Source) enliven(ctx context.Context, rec *Record, refresh, clientSecret secret.Text) (*Record, error) {
	if !s.tooLate(rec) || refresh.IsZero() {
		return rec, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	ans, err := s.Issuer.PostToken(ctx, RefreshRequest(&rec.Pins, Client(&rec.Pins, clientSecret), refresh))
	if err != nil {
		return rec, fmt.Errorf("get a living access token to revoke with: %w", err)
	}
	tok, err := oauth.ParseToken(ans, rules(&rec.Pins))
	if err != nil {
		return rec, fmt.Errorf("get a living access token to revoke with: %w", err)
	}
	alive := *rec
	alive.Body.Access = tok.Access
	return &alive, nil
}

// revoke ends the grant of rec. foreign says that its access token is any token of
// that provider.
func (s *Source) revoke(ctx context.Context, rec *Record, refresh, clientSecret secret.Text, foreign bool) (bool, error) {
	p := &rec.Pins
	switch p.Revocation.Style {
	case "", "none", "page":
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	req := oauth.RevokeRequest{
		Style:                 p.Revocation.Style,
		Endpoint:              p.RevocationEndpoint,
		Client:                Client(p, clientSecret),
		Access:                rec.Body.Access,
		Refresh:               refresh,
		Subject:               rec.Account.Subject,
		Foreign:               foreign,
		Rename:                p.Token.Rename,
		Headers:               p.Token.Headers,
		AllowInsecureLoopback: p.AllowInsecureLoopback,
	}
	if r := &p.Revocation; r.Style == providers.RevokeRequest {
		req.Rename = r.Rename
		req.Manner = oauth.Manner{Method: r.Method, Format: r.Request, Auth: r.Auth, Token: r.Token, Params: r.Params}
	}
	err := s.Issuer.Revoke(ctx, req)
	if oauth.ErrorCode(err) == "invalid_client" {
		if next := s.nextFor(ctx, &rec.Header); !next.IsZero() {
			req.Client = Client(p, next)
			err = s.Issuer.Revoke(ctx, req)
		}
	}
	return err == nil, err
}

// Rename gives a connection another name, without asking the issuer for
// anything. It returns an error that wraps ErrNotConnected or ErrNameTaken.
func (s *Source) Rename(ctx context.Context, name, to string) error {
	if name == to {
		return definite(ErrNameTaken, nil, "%q already has that name", name)
	}
	if err := s.Recover(ctx, to); err != nil {
		return fmt.Errorf("rename %q: %w", name, err)
	}
	// Both locks are taken in alphabetical order, so that two renames cannot
	// wait for each other.
	first, second := name, to
	if second < first {
		first, second = second, first
	}
	a, err := s.Store.Lock(ctx, Key{s.Project, first}, s.lockWait())
	if err != nil {
		return fmt.Errorf("rename %q: %w", name, err)
	}
	defer a.Unlock()
	b, err := s.Store.Lock(ctx, Key{s.Project, second}, s.lockWait())
	if err != nil {
		return fmt.Errorf("rename %q: %w", name, err)
	}
	defer b.Unlock()
	from, dest := a, b
	if first != name {
		from, dest = b, a
	}
	rec, err := s.recoverLocked(ctx, Key{s.Project, name}, from)
	if err != nil {
		return fmt.Errorf("rename %q: %w", name, err)
	}
	if rec == nil {
		return definite(ErrNotConnected, nil, "%q is not connected", name)
	}
	if _, err := dest.Read(ctx); !errors.Is(err, ErrNotStored) {
		return definite(ErrNameTaken, nil, "rename %q: %q exists already", name, to)
	}
	if rec.HasRefresh && rec.Body.Refresh.IsZero() {
		g, err := from.Grant(ctx)
		if err != nil {
			return fmt.Errorf("rename %q: read its refresh token: %w", name, err)
		}
		if g.Generation < rec.GrantGeneration {
			return definite(ErrNeedsConnect, nil, "rename %q: the keychain no longer holds its newest refresh token", name)
		}
		rec.Body.Refresh = g.Refresh
	}
	next := *rec
	next.Name = to
	next.Generation, next.GrantGeneration = dest.Next(ctx)
	if next.HasRefresh {
		s.mark(dest, &next)
	}
	if err := from.MoveTo(context.WithoutCancel(ctx), dest, &next); err != nil {
		return fmt.Errorf("rename %q: %w", name, err)
	}
	s.follow(context.WithoutCancel(ctx), dest, &next)
	return nil
}
