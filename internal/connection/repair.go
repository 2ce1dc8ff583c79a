package connection

import (
	"context"
	"fmt"
)

// Repair tries the keychain again for a connection whose keychain writes were
// suspended, and reports whether it now holds the refresh token. The sealed copy
// stays until a later process has read the keychain's.
func (s *Source) Repair(ctx context.Context, name string) (bool, error) {
	key := Key{Project: s.Project, Name: name}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return false, err
	}
	defer guard.Unlock()
	rec, err := s.recoverLocked(ctx, key, guard)
	if err != nil {
		return false, fmt.Errorf("repair %q: %w", name, err)
	}
	if rec == nil {
		return false, definite(ErrNotConnected, nil, "%q is not connected", name)
	}
	if rec.Keychain != KeychainSuspended || rec.Body.Refresh.IsZero() {
		return rec.Keychain != KeychainSuspended, nil
	}
	next := *rec
	next.Generation++
	next.Keychain = KeychainNone
	s.mark(guard, &next)
	ctx = context.WithoutCancel(ctx)
	if err := guard.Commit(ctx, &next); err != nil {
		return false, fmt.Errorf("repair %q: %w", name, err)
	}
	return s.follow(ctx, guard, &next).Keychain != KeychainSuspended, nil
}
