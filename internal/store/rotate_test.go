package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// client reads the registration and its secrets as another process does.
func (h *home) client() (r *connection.Registration, present, next secret.Text) {
	h.Helper()
	s := h.again().store
	r, err := s.Registration("spotify", "")
	h.must(err)
	present, err = s.ClientSecret(h.Context(), r)
	h.must(err)
	next, err = s.NextSecret(h.Context(), r)
	h.must(err)
	if next.IsZero() == !r.NextSetAt.IsZero() {
		h.Errorf("the next secret was set at %v, and is there: %t", r.NextSetAt, !next.IsZero())
	}
	return r, present, next
}

// wantSecrets compares with what is stored; an empty next is none.
func (h *home) wantSecrets(when, present, next string) {
	h.Helper()
	_, p, n := h.client()
	if !p.Equal(secret.New(present)) || n.IsZero() != (next == "") || next != "" && !n.Equal(secret.New(next)) {
		h.Errorf("%s: other secrets than %q and %q", when, present, next)
	}
	if want := 2; h.store.meta.Kind == KindKeychain {
		if next == "" {
			want = 1
		}
		if got := len(h.mem.Contents()); got != want {
			h.Errorf("%s: %d keychain items, want %d", when, got, want)
		}
	}
}

func TestNextSecret(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		h.wantErr(h.store.SetNext(ctx, new(registration("")), secret.New("n")), connection.ErrNotStored)
		h.must(h.store.SetClient(ctx, registration(""), secret.New("one")))
		h.wantSecrets("set", "one", "")
		stale, _, _ := h.client()
		h.must(h.store.PromoteNext(ctx, stale, secret.Text{}))
		h.must(h.store.DropNext(ctx, stale))
		h.wantSecrets("nothing to promote or to drop", "one", "")

		h.must(h.store.SetNext(ctx, stale, secret.New("two")))
		h.wantSecrets("next", "one", "two")
		h.must(h.store.SetNext(ctx, stale, secret.New("three")))
		h.wantSecrets("another next", "one", "three")
		h.must(h.store.PromoteNext(ctx, stale, secret.New("two")))
		h.wantSecrets("one that is not the next any more was used", "one", "three")
		before, _, _ := h.client()
		h.must(h.store.PromoteNext(ctx, before, secret.New("three")))
		h.wantSecrets("promoted", "three", "")
		h.must(h.store.PromoteNext(ctx, before, secret.New("three")))
		h.wantSecrets("promoted by another process, too", "three", "")
		// A process that has read the registration before.
		if got, err := h.store.ClientSecret(ctx, before); err != nil || !got.Equal(secret.New("three")) {
			h.Errorf("a process that was late has another secret, or %v", err)
		}
		if got, err := h.store.NextSecret(ctx, before); err != nil || !got.IsZero() {
			h.Errorf("a process that was late has a next secret, or %v", err)
		}
		after, _, _ := h.client()
		if !after.SetAt.Equal(before.NextSetAt) {
			h.Errorf("set at %v, want %v", after.SetAt, before.NextSetAt)
		}

		h.must(h.store.SetNext(ctx, after, secret.New("four")))
		h.must(h.store.DropNext(ctx, after))
		h.wantSecrets("dropped", "three", "")
		h.must(h.store.SetNext(ctx, after, secret.New("four")))
		h.must(h.store.SetClient(ctx, registration(""), secret.New("five")))
		h.wantSecrets("set anew", "five", "")
		r, _, _ := h.client()
		h.must(h.store.SetNext(ctx, r, secret.New("six")))
		h.must(h.store.RemoveClient(ctx, "spotify", ""))
		if files, err := filepath.Glob(filepath.Join(h.store.Dir(), clientsDir, "*.[nr]e*")); err != nil || len(files) != 0 || len(h.mem.Contents()) != 0 {
			h.Errorf("%d files and %d keychain items left, %v", len(files), len(h.mem.Contents()), err)
		}
	})
}

// TestNextSecretIsBound: the clear file may be edited, and a next secret that was
// left by a process that set the client anew is none.
func TestNextSecretIsBound(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		h.must(h.store.SetClient(ctx, registration(""), secret.New("one")))
		r, _, _ := h.client()
		h.must(h.store.SetNext(ctx, r, secret.New("two")))
		path := filepath.Join(h.store.Dir(), clientsDir, clientHash("spotify", "")+nextSuffix)
		doc, err := os.ReadFile(path)
		h.must(err)
		if bytes.Contains(doc, []byte(`two`)) {
			h.Error("the secret stands in the file")
		}
		both := filepath.Join(h.store.Dir(), clientsDir, clientHash("spotify", "")+recordSuffix)
		present, err := os.ReadFile(both)
		h.must(err)
		edit := func(doc []byte) []byte {
			return bytes.Replace(doc, []byte("accounts.example"), []byte("evil.example"), 1)
		}
		h.must(os.WriteFile(path, edit(doc), 0o600))
		h.must(os.WriteFile(both, edit(present), 0o600))
		r, err = h.store.Registration("spotify", "")
		h.must(err)
		_, err = h.store.NextSecret(ctx, r)
		h.wantErr(err, connection.ErrCorrupt)
		h.wantErr(h.store.PromoteNext(ctx, r, secret.Text{}), connection.ErrCorrupt)

		h.must(h.store.SetClient(ctx, registration(""), secret.New("three")))
		h.must(os.WriteFile(path, doc, 0o600)) // as if it had been killed before the end
		h.must(h.store.PromoteNext(ctx, r, secret.Text{}))
		h.wantSecretsOnly("three")
		h.must(os.WriteFile(path, bytes.Replace(doc, []byte("client 1"), []byte("client 2"), 1), 0o600))
		_, err = h.store.Registration("spotify", "")
		h.must(err) // what is newer or damaged does not keep the present one from its work
		h.wantSecretsOnly("three")
	})
}

func (h *home) wantSecretsOnly(present string) {
	h.Helper()
	r, err := h.store.Registration("spotify", "")
	h.must(err)
	if got, err := h.store.ClientSecret(h.Context(), r); err != nil || !got.Equal(secret.New(present)) || !r.NextSetAt.IsZero() {
		h.Errorf("another secret, a next one at %v, or %v", r.NextSetAt, err)
	}
}

func TestNextSecretSurvivesFailures(t *testing.T) {
	h := open(t, keychain)
	ctx := t.Context()
	h.must(h.store.SetClient(ctx, registration(""), secret.New("one")))
	r, _, _ := h.client()
	h.must(h.store.SetNext(ctx, r, secret.New("two")))
	for name, fault := range map[string]func(){
		"denied": func() { h.mem.Deny(keyringtest.Set) },
		"lost":   func() { h.mem.LoseWrites() },
	} {
		fault()
		if err := h.store.SetNext(ctx, r, secret.New("three")); err == nil {
			t.Errorf("%s: stored", name)
		}
		h.mem.Heal()
		h.wantSecrets(name, "one", "two")
	}
	h.mem.Deny(keyringtest.Delete)
	if err := h.store.PromoteNext(ctx, r, secret.New("two")); !errors.Is(err, keyring.ErrDenied) {
		t.Errorf("got %v", err)
	}
	h.mem.Heal()
	if _, present, next := h.client(); !present.Equal(secret.New("two")) || !next.IsZero() {
		t.Error("not promoted, though the old item alone could not be removed")
	}
	r, _, _ = h.client()
	h.must(h.store.SetNext(ctx, r, secret.New("three"))) // over the item that was left
	h.must(h.store.RemoveClient(ctx, "spotify", ""))
	if n := len(h.mem.Contents()); n != 0 {
		t.Errorf("%d items left", n)
	}
}

func TestMoveTakesTheNextSecretAlong(t *testing.T) {
	for _, kinds := range [][2]string{{keychain, fileRaw}, {fileRaw, keychain}} {
		from, to := open(t, kinds[0]), open(t, kinds[1])
		from.must(from.store.SetClient(t.Context(), registration(""), secret.New("one")))
		r, _, _ := from.client()
		from.must(from.store.SetNext(t.Context(), r, secret.New("two")))
		if _, _, err := Move(t.Context(), from.store, to.store, "p1", nil); err != nil {
			t.Fatal(err)
		}
		to.wantSecrets("moved", "one", "two")
	}
}
