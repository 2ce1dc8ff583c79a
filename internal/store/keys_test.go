package store

import (
	"errors"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
)

// TestKeyIsReadOnce counts how often the keychain is asked for a key.
func TestKeyIsReadOnce(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	h = h.again()
	calls := h.mem.Calls(keyringtest.Get)
	asked := func(want int) {
		t.Helper()
		if got := h.mem.Calls(keyringtest.Get) - calls; got != want {
			t.Errorf("asked %d times, want %d", got, want)
		}
		calls = h.mem.Calls(keyringtest.Get)
	}
	h.store.Ahead(t.Context(), key("a"))
	h.store.Ahead(t.Context(), key("a"))
	if _, err := h.store.Read(t.Context(), key("a")); err != nil {
		t.Fatal(err)
	}
	asked(1)
	if _, err := h.lock("a").Read(t.Context()); err != nil { // the key that was read before opens it
		t.Fatal(err)
	}
	asked(0)
	h.store.Ahead(t.Context(), key("nobody"))
	asked(0)
}

// TestProvenKeyOfAPredecessor: a connection that another process has removed and
// made anew has another key, and then the keychain is asked.
func TestProvenKeyOfAPredecessor(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	reader, other := h.again(), h.again()
	if _, err := reader.store.Read(t.Context(), key("a")); err != nil {
		t.Fatal(err)
	}
	g := other.lock("a")
	if err := g.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.Unlock()
	other.put("a", 1)
	g = reader.lock("a")
	if rec, err := g.Read(t.Context()); err != nil || rec.Body.Access.IsZero() {
		t.Errorf("the successor cannot be read: %v", err)
	}
}

// TestAheadFails: what went wrong is told by the method that needed the key.
func TestAheadFails(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	h = h.again()
	h.mem.Remove(h.store.service(), keyItem(key("a")))
	h.store.Ahead(t.Context(), key("a"))
	if _, err := h.store.Read(t.Context(), key("a")); !errors.Is(err, connection.ErrStoreKey) {
		t.Errorf("got %v, want ErrStoreKey", err)
	}
}
