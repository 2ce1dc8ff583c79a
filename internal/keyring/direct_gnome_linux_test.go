package keyring_test

import (
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestDirectAgainstGnomeKeyring shows that the short way is taken where it can
// be, and left where it cannot.
func TestDirectAgainstGnomeKeyring(t *testing.T) {
	b := keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked)
	k := open(t, b, keyring.Options{Budget: -1})
	read := keyring.Direct()
	if _, ok := read(b.Address, service, account); ok {
		t.Error("an item that is not there was read")
	}
	for _, value := range []string{canary, "", "ä\x00\n", strings.Repeat("x", 100<<10)} {
		if err := k.Set(t.Context(), service, account, secret.New(value)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got, ok := read(b.Address, service, account); !ok || got != value {
				t.Errorf("%d bytes: ok %v, or another value", len(value), ok)
			}
		}
	}
	if _, ok := read(b.Address, service, account+"2"); ok {
		t.Error("an item of another name was read")
	}
	b.Lock(t)
	if _, ok := read(b.Address, service, account); ok {
		t.Error("a locked item was read")
	}
	b.Unlock(t)
	if _, ok := read(b.Address, service, account); !ok {
		t.Error("unlocked again, and not read")
	}
	if err := k.Delete(t.Context(), service, account); err != nil {
		t.Fatal(err)
	}
	if _, ok := read(b.Address, service, account); ok {
		t.Error("a deleted item was read")
	}
}
