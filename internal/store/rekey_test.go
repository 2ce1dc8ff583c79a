package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// newKeyOptions are the options of a home with another key of a file store.
func (h *home) newKeyOptions() Options {
	h.Helper()
	opt := h.opt
	raw, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{9}, keySize)))
	h.must(err)
	if opt.Key != nil {
		opt.Key = func() (secret.Text, error) { return raw, nil }
	}
	if opt.Passphrase != nil {
		opt.Passphrase = func(context.Context, bool) (secret.Text, error) { return secret.New("battery staple"), nil }
	}
	return opt
}

func unused(string) bool { return false }

func TestRekey(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		h.put("a", 3)
		set := time.Unix(1_700_000_000, 0).UTC()
		r := registration("")
		r.SetAt = set
		h.must(h.store.putClient(ctx, r, secret.New("s3cret")))
		to, err := Successor(ctx, h.newKeyOptions(), h.store, unused)
		h.must(err)
		if gone, err := Retire(ctx, h.store, to); gone || err != nil {
			h.Fatalf("a store with connections was removed: %v", err)
		}
		finish, _, err := Move(ctx, h.store, to, "p1", nil)
		h.must(err)
		h.must(finish(ctx))
		if gone, err := Retire(ctx, h.store, to); !gone || err != nil {
			h.Errorf("the former store stays: %v", err)
		}
		if _, err := os.Lstat(h.store.Dir()); !errors.Is(err, os.ErrNotExist) {
			h.Errorf("its folder stays: %v", err)
		}
		rec, err := to.Read(ctx, key("a"))
		h.must(err)
		if !rec.Body.Refresh.Equal(secret.New("refresh-of-a")) {
			h.Error("the refresh token changed")
		}
		got, err := to.Registration("spotify", "p1")
		h.must(err)
		if s, err := to.ClientSecret(ctx, got); err != nil || !s.Equal(secret.New("s3cret")) || !got.SetAt.Equal(set) {
			h.Errorf("the client came over changed: %v, set %s", err, got.SetAt)
		}
		if h.opt.Key != nil || h.opt.Passphrase != nil {
			old, err := Open(h.opt, to.ID())
			h.must(err)
			_, err = old.Read(ctx, key("a"))
			h.wantErr(err, connection.ErrStoreKey)
		}
		// Who has the former store open writes nothing where nobody looks.
		if _, err := h.store.Lock(ctx, key("b"), 0); !errors.Is(err, connection.ErrStoreRead) {
			h.Errorf("locked in a store that is gone: %v", err)
		}
	})
}

func TestRekeyCutOff(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		h.put("a", 3)
		h.put("b", 1)
		first, err := Successor(ctx, h.newKeyOptions(), h.store, unused)
		h.must(err)
		_, abort, err := Move(ctx, h.store, first, "p1", nil)
		h.must(err)
		abort()
		to, err := Successor(ctx, h.newKeyOptions(), h.store, unused)
		h.must(err)
		if _, err := os.Lstat(first.Dir()); to.ID() == first.ID() || !errors.Is(err, os.ErrNotExist) {
			h.Errorf("the successor of an interrupted run stays: %v", err)
		}
		// Copied and recorded, and killed before the originals went; a program
		// that ran on refreshed one of them.
		for _, name := range []string{"a", "b"} {
			g := h.lock(name)
			h.must(copyConnection(ctx, g, to, key(name)))
			g.Unlock()
		}
		later := sample("b", 9)
		later.ReceivedAt = later.ReceivedAt.Add(time.Hour)
		later.Body.Refresh = secret.New("rotated")
		g := h.lock("b")
		h.must(g.Commit(ctx, later))
		g.Unlock()
		again, err := Successor(ctx, h.newKeyOptions(), h.store, func(id string) bool { return id == to.ID() })
		h.must(err)
		if again.ID() != to.ID() {
			h.Error("a successor that is in use was made anew")
		}
		h.must(Settle(ctx, h.store, to, "p1"))
		for name, want := range map[string]string{"a": "refresh-of-a", "b": "rotated"} {
			rec, err := to.Read(ctx, key(name))
			h.must(err)
			if !rec.Body.Refresh.Equal(secret.New(want)) {
				h.Errorf("%s has another refresh token", name)
			}
		}
		if gone, err := Retire(ctx, h.store, to); !gone || err != nil {
			h.Errorf("the former store stays: %v", err)
		}
	})
}

func TestMoveWaitsForNoLogin(t *testing.T) {
	from, to := open(t, fileRaw), open(t, keychain)
	from.put("a", 1)
	release, _, err := from.store.LoginLock(t.Context(), key("a"), nil)
	from.must(err)
	if _, _, err := Move(t.Context(), from.store, to.store, "p1", nil); err == nil {
		t.Error("moved behind a login")
	}
	release()
	_, abort, err := Move(t.Context(), from.store, to.store, "p1", nil)
	from.must(err)
	if _, err := from.store.locks.take(t.Context(), filepath.Join(from.store.Dir(), "p1", "a"+loginSuffix), 0); err == nil {
		t.Error("a login can begin while connections move")
	}
	abort()
}

func TestWhichOfTwoStores(t *testing.T) {
	for _, kind := range []string{fileRaw, keychain} {
		h := open(t, kind)
		opt := h.newKeyOptions()
		to, err := Successor(t.Context(), opt, h.store, unused)
		h.must(err)
		if id, err := Find(opt, h.store.Kind()); err != nil || id != to.ID() {
			t.Errorf("%s: the new key finds %s, %v", kind, id, err)
		}
		want := to.ID()
		if kind == fileRaw {
			want = h.store.ID()
		}
		if id, err := Find(h.opt, h.store.Kind()); err != nil || id != want {
			t.Errorf("%s: the former key finds %s, %v", kind, id, err)
		}
	}
}
