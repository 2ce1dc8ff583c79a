package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

func (d *doctor) stores() []*store.Store {
	metas, err := store.List(d.ws.storesDir())
	if err != nil {
		d.fail("stores", err, "")
	}
	var stores []*store.Store
	for _, m := range metas {
		s, err := store.Open(d.ws.storeOptions(), m.ID)
		if err != nil {
			d.fail("stores", err, "")
			continue
		}
		stores = append(stores, s)
	}
	return stores
}

// keychain proves the keychain with an item of its own, of the size that refresh
// tokens have, and removes it.
func (d *doctor) keychain(ctx context.Context, stores []*store.Store) {
	needed := !slices.ContainsFunc(stores, func(s *store.Store) bool { return s.Kind() == store.KindFile }) && d.ws.cfg.Store != store.KindFile ||
		slices.ContainsFunc(stores, func(s *store.Store) bool { return s.Kind() == store.KindKeychain })
	k := d.ws.keyring()
	began := d.g.app.Now()
	size, err := roundTrip(ctx, k)
	switch {
	case err == nil:
		d.ok("keychain", "%s kept %d bytes, gave them back and forgot them (%d ms)", k.Describe(), size, d.g.app.Now().Sub(began).Milliseconds())
	case !needed:
		d.add("keychain", checkNote, "", "it is not used; the grants are in a file store (%v)", err)
	default:
		d.fail("keychain", err, "")
	}
}

func roundTrip(ctx context.Context, k *keyring.Keyring) (size int, err error) {
	size = min(realSize, k.MaxValue())
	raw := make([]byte, size)
	_, _ = rand.Read(raw) // never fails
	const service = "apiauth.doctor"
	account := "probe-" + hex.EncodeToString(raw[:8])
	value := secret.New(base64.RawURLEncoding.EncodeToString(raw)[:size])
	defer func() {
		// Also when the write is said to have failed: it may have happened.
		gone := k.Delete(context.WithoutCancel(ctx), service, account)
		if err == nil && gone != nil {
			err = fmt.Errorf("the throw-away item could not be removed: %w", gone)
		}
	}()
	if err := k.Set(ctx, service, account, value); err != nil {
		return size, err
	}
	back, err := k.Get(ctx, service, account)
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return size, fmt.Errorf("it answered success and kept nothing: %w", keyring.ErrFailed)
	case err != nil:
		return size, err
	case !back.Equal(value):
		return size, fmt.Errorf("it gave back something else than it was given: %w", keyring.ErrFailed)
	}
	return size, nil
}

// lock proves that locks exclude each other where the store lies: on some
// network file systems they do not.
func (d *doctor) lock(ctx context.Context, s *store.Store) {
	var raw [6]byte
	_, _ = rand.Read(raw[:])
	key := connection.Key{Project: "doctor", Name: "probe-" + hex.EncodeToString(raw[:])}
	dir := filepath.Join(s.Dir(), key.Project)
	defer func() {
		_ = os.Remove(filepath.Join(dir, key.Name+".lock"))
		_ = os.Remove(dir) // stays when another doctor is at work
	}()
	first, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		d.fail("lock", err, "")
		return
	}
	second, err := s.Lock(ctx, key, 0)
	if err == nil {
		second.Unlock()
		first.Unlock()
		d.add("lock", checkFail, "move the state folder to a local disk with APIAUTH_STATE_DIR", "locks do not exclude each other in %s", s.Dir())
		return
	}
	first.Unlock()
	var held *connection.LockedError
	if !errors.As(err, &held) {
		d.fail("lock", err, "")
		return
	}
	third, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		d.fail("lock", err, "")
		return
	}
	third.Unlock()
	if kind, remote := s.FileSystem(); remote {
		d.add("lock", checkNote, "use it from one machine at a time, or name a local folder with APIAUTH_STATE_DIR",
			"%s store %s: one at a time on this machine; it lies on a network file system (%s), where that may not hold on another", s.Kind(), s.ID(), oauth.Clean(kind))
		return
	}
	d.ok("lock", "%s store %s: one at a time", s.Kind(), s.ID())
}

// leftovers looks for what interrupted commands left behind.
func (d *doctor) leftovers(ctx context.Context, s *store.Store) {
	if n := s.Tombstones(); n > 0 {
		what := plural(n, "disconnected connection") + " may still have keychain items"
		swept := 0
		err := error(nil)
		if d.opts.Fix {
			swept, err = s.Sweep(ctx)
		}
		switch {
		case err != nil:
			d.fail("leftovers", fmt.Errorf("%s: %w", what, err), "")
		case swept == n:
			d.add("leftovers", checkFixed, "", "removed the keychain items of %s", plural(n, "disconnected connection"))
		default:
			d.add("leftovers", checkFail, "'apiauth doctor --fix'", "%s", what)
		}
	}
	old := d.temporaries(s)
	if len(old) == 0 {
		return
	}
	if !d.opts.Fix {
		d.add("leftovers", checkNote, "'apiauth doctor --fix' removes them", "%s of interrupted commands", plural(len(old), "temporary file"))
		return
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.fail("leftovers", err, "")
			return
		}
	}
	d.add("leftovers", checkFixed, "", "removed %s of interrupted commands", plural(len(old), "temporary file"))
}

// temporaries are temporary files that no running command still needs: they are
// older than any command takes to write one.
func (d *doctor) temporaries(s *store.Store) []string {
	var old []string
	for _, pattern := range []string{filepath.Join(s.Dir(), ".*.tmp"), filepath.Join(s.Dir(), "*", ".*.tmp")} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && d.g.app.Now().Sub(info.ModTime()) > time.Hour {
				old = append(old, path)
			}
		}
	}
	return old
}

// connections looks at those of this project. Only with --live it uses them.
func (d *doctor) connections(ctx context.Context) {
	if d.ws.unbound != nil {
		return
	}
	s, err := d.ws.store()
	if errors.Is(err, errNoStore) {
		d.ok("connections", "none yet")
		return
	}
	if err != nil {
		d.fail("connections", err, "")
		return
	}
	names, err := s.Names(d.ws.projectID)
	if err != nil {
		d.fail("connections", err, "")
		return
	}
	if len(names) == 0 {
		d.ok("connections", "none yet")
	}
	for _, name := range names {
		d.connection(ctx, s, name)
	}
}

func (d *doctor) connection(ctx context.Context, s *store.Store, name string) {
	key := connection.Key{Project: d.ws.projectID, Name: name}
	h, err := s.Header(key)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	if h.Keychain == connection.KeychainSuspended {
		d.suspended(ctx, s, name)
	}
	// Its seal is opened: that takes the key and finds damage.
	if _, err := s.Read(ctx, key); err != nil && !errors.Is(err, connection.ErrNotStored) {
		d.fail(name, err, "")
		return
	}
	if err := holdsGrant(ctx, s, key, h); err != nil {
		d.fail(name, err, "")
		return
	}
	now := d.g.app.Now()
	again := fmt.Sprintf("'apiauth connect %s'", name)
	if h.Flow == connection.FlowKey && !h.GrantDeadline.IsZero() {
		again = fmt.Sprintf("make another key, and 'apiauth connect %s --expires DATE'", name)
	}
	if ends := d.ws.certificateEnds(s, h); !ends.IsZero() && ends.Sub(now) < certificateSoon {
		remedy := fmt.Sprintf("'apiauth client set %s --client-id %s --client-certificate FILE --client-key FILE'", oauth.Clean(h.Provider), oauth.Clean(h.Pins.ClientID))
		if now.After(ends) {
			d.add(name, checkFail, remedy, "the client's certificate ended %s", ends.Format(time.DateOnly))
			return
		}
		d.add(name, checkNote, remedy, "the client's certificate ends %s", ends.Format(time.DateOnly))
	}
	switch {
	case h.State == connection.StateNeedsConnect:
		d.add(name, checkFail, again, "access must be granted again: %s", cmp.Or(h.StateReason, "the issuer no longer accepts the grant"))
		return
	case !h.GrantDeadline.IsZero() && now.After(h.GrantDeadline):
		d.add(name, checkFail, again, "the %s ended %s", deadlineOf(h), h.GrantDeadline.Local().Format(time.DateOnly))
		return
	case !h.RefreshDeadline.IsZero() && now.After(h.RefreshDeadline):
		d.add(name, checkFail, again, "the refresh token was not used until %s and has ended", h.RefreshDeadline.Local().Format(time.DateOnly))
		return
	case s.Pending(key):
		d.add(name, checkNote, fmt.Sprintf("'apiauth token %s' completes it", name), "a refresh was interrupted")
	case !h.GrantDeadline.IsZero() && h.GrantDeadline.Sub(now) < 14*24*time.Hour:
		d.add(name, checkNote, again, "the %s ends %s", deadlineOf(h), h.GrantDeadline.Local().Format(time.DateOnly))
	}
	if d.opts.Live {
		d.live(ctx, s, name, h)
		return
	}
	d.ok(name, "%s, %s", h.Provider, describeExpiry(h, now))
}

// holdsGrant proves that the keychain still has the refresh token of a record
// that relies on it. A connection that is at work now is left alone.
func holdsGrant(ctx context.Context, s *store.Store, key connection.Key, h *connection.Header) error {
	if !h.HasRefresh || h.Keychain != connection.KeychainConfirmed {
		return nil
	}
	guard, err := s.Lock(ctx, key, 0)
	if err != nil {
		var held *connection.LockedError
		if errors.As(err, &held) {
			return nil
		}
		return err
	}
	defer guard.Unlock()
	grant, err := guard.Grant(ctx)
	switch {
	case errors.Is(err, connection.ErrNotStored):
		return fmt.Errorf("the keychain no longer holds its refresh token: %w", connection.ErrNeedsConnect)
	case err != nil:
		return err
	case grant.Generation < h.GrantGeneration:
		return fmt.Errorf("the keychain holds an older refresh token than the record knows of: %w", connection.ErrNeedsConnect)
	}
	return nil
}

func (d *doctor) suspended(ctx context.Context, s *store.Store, name string) {
	if !d.opts.Fix {
		d.add(name, checkFail, "'apiauth doctor --fix' tries again", "the keychain did not take its refresh token; a sealed copy is in the record, nothing was lost")
		return
	}
	src, err := d.ws.source(s)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	repaired, err := src.Repair(ctx, name)
	switch {
	case err != nil:
		d.fail(name, err, "")
	case repaired:
		d.add(name, checkFixed, "", "the keychain holds its refresh token again")
	default:
		d.add(name, checkFail, "see what is said of the keychain above", "the keychain still does not take its refresh token; nothing was lost")
	}
}

// live asks for a new token. What cannot be renewed is only read.
func (d *doctor) live(ctx context.Context, s *store.Store, name string, h *connection.Header) {
	src, err := d.ws.source(s)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	access, err := src.Token(ctx, name, connection.Option{Refresh: h.CanRenew()})
	if err != nil {
		d.fail(name, err, "")
		return
	}
	did := "gave a stored token; only the API can tell whether it is accepted"
	if access.Refreshed {
		did = "gave a new token"
	}
	d.ok(name, "%s %s, %s", h.Provider, did, describeExpiry(&access.Header, d.g.app.Now()))
}
