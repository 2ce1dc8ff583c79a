package connection

import (
	"context"
	"fmt"
)

// Export returns a copy of a connection with its newest refresh token in the
// body, wherever that is kept, so that it can be sealed for use elsewhere. What
// an interrupted process left behind is completed first. Nothing is changed: the
// caller has to see that two places can use the grant, which those that rotate
// do not allow.
//
// It returns errors that wrap ErrNotConnected or ErrNeedsConnect, *ChangedError,
// *LockedError, or the store's.
func (s *Source) Export(ctx context.Context, name string) (*Record, error) {
	key := Key{Project: s.Project, Name: name}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return nil, fmt.Errorf("export %q: %w", name, err)
	}
	defer guard.Unlock()
	rec, err := s.recoverLocked(ctx, key, guard)
	if err != nil {
		return nil, fmt.Errorf("export %q: %w", name, err)
	}
	if rec == nil {
		return nil, definite(ErrNotConnected, nil, "%q is not connected", name)
	}
	if err := s.checkPins(name, &rec.Header); err != nil {
		return nil, err
	}
	if rec.State == StateNeedsConnect {
		return nil, needsConnect(name, rec)
	}
	out := *rec
	r := &renewal{Source: s, key: key, guard: guard}
	grant, err := r.grant(ctx, rec)
	if err != nil {
		return nil, err
	}
	out.Body.Refresh = grant.Refresh
	return &out, nil
}
