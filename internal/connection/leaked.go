package connection

import (
	"context"
	"errors"
	"fmt"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// Stored returns a connection with every secret that is kept of it, the refresh
// token in Body.Refresh wherever it lies. Nothing is asked of the issuer. A
// refresh token that the keychain has lost is left out.
//
// It returns an error that wraps ErrNotConnected when nothing is stored.
func (s *Source) Stored(ctx context.Context, name string) (*Record, error) {
	key := Key{Project: s.Project, Name: name}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	defer guard.Unlock()
	return s.stored(ctx, key, guard)
}

func (s *Source) stored(ctx context.Context, key Key, guard Guard) (*Record, error) {
	rec, err := s.recoverLocked(ctx, key, guard)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key.Name, err)
	}
	if rec == nil {
		return nil, definite(ErrNotConnected, nil, "%q is not connected", key.Name)
	}
	full := *rec
	if full.HasRefresh {
		g, err := guard.Grant(ctx)
		switch {
		case err == nil && (full.Body.Refresh.IsZero() || g.Generation > full.GrantGeneration):
			full.Body.Refresh = g.Refresh
		case err != nil && !errors.Is(err, ErrNotStored) && full.Body.Refresh.IsZero():
			return nil, fmt.Errorf("read %q: its refresh token: %w", key.Name, err)
		}
	}
	return &full, nil
}

// Revoke ends a grant of which a token has leaked: at the issuer first, within
// 10 s, then here. When the issuer does not confirm, everything stays as it was,
// so that it can be tried again; where there is no way to revoke, the grant is
// forgotten and the Farewell says so. Unlike Disconnect it asks for the end of
// the access token by itself as well, since issuers need not end it with the
// grant (RFC 7009 section 2.1).
//
// It returns an error that wraps ErrNotConnected when nothing is stored.
func (s *Source) Revoke(ctx context.Context, name string) (Farewell, error) {
	key := Key{Project: s.Project, Name: name}
	if h, err := s.Store.Header(key); err == nil && s.tooLate(&Record{Header: *h}) {
		// Why it cannot be renewed does not matter: the issuer says what comes
		// of a token that has ended.
		_, _ = s.Token(ctx, name, Option{})
	}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return Farewell{}, fmt.Errorf("revoke %q: %w", name, err)
	}
	defer guard.Unlock()
	rec, err := s.stored(ctx, key, guard)
	if err != nil {
		return Farewell{}, err
	}
	f := Farewell{Header: rec.Header, Known: true}
	clientSecret, err := s.secretToRevoke(ctx, rec)
	if err != nil {
		return f, fmt.Errorf("revoke %q: %w", name, err)
	}
	f.Revoked, f.Err = s.revoke(ctx, rec, rec.Body.Refresh, clientSecret, false)
	switch {
	case errors.Is(f.Err, oauth.ErrNoRevocation):
		f.Err = nil
	case f.Err != nil && temporary(f.Err):
		return f, definite(ErrTemporary, f.Err, "revoke %q", name)
	case f.Err != nil:
		return f, fmt.Errorf("revoke %q: %w", name, f.Err)
	}
	if f.Revoked && rec.Pins.Revocation.EachToken() && !rec.Body.Refresh.IsZero() && !rec.Body.Access.IsZero() {
		_, f.Err = s.revoke(ctx, rec, secret.Text{}, clientSecret, false)
	}
	if err := guard.Delete(context.WithoutCancel(ctx)); err != nil {
		return f, fmt.Errorf("revoke %q: the files are gone, the keychain items are not: %w", name, err)
	}
	return f, nil
}

// RevokeToken asks the issuer of a connection to end a token that is not stored:
// one that was replaced, or of another grant of the same client. It is false
// without an error where there is no way to ask for that.
func (s *Source) RevokeToken(ctx context.Context, name string, token secret.Text) (bool, error) {
	rec, err := s.Stored(ctx, name)
	if err != nil {
		return false, err
	}
	clientSecret, err := s.secretToRevoke(ctx, rec)
	if err != nil {
		return false, fmt.Errorf("revoke a token of %q: %w", name, err)
	}
	other := *rec
	other.Body = Body{Access: token}
	ok, err := s.revoke(ctx, &other, secret.Text{}, clientSecret, true)
	switch {
	case errors.Is(err, oauth.ErrNoRevocation):
		return false, nil // the provider takes refresh tokens only, and this may be one or not
	case err != nil && temporary(err):
		return false, definite(ErrTemporary, err, "revoke a token of %q", name)
	}
	return ok, err
}

func temporary(err error) bool {
	return errors.Is(err, oauth.ErrNotSent) || errors.Is(err, oauth.ErrNoAnswer) || oauth.IsTemporary(err) || errors.Is(err, context.DeadlineExceeded)
}
