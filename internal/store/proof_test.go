package store

import (
	"errors"
	"os"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
)

// A copy that cannot be read back ends a move before anything counts: the
// originals stay, and the copy goes.
func TestMoveProvesItsCopies(t *testing.T) {
	from, to := open(t, fileRaw), open(t, keychain)
	from.put("a", 1)
	to.mem.Slow(keyringtest.Set, func() { // the keychain comes after the record
		path := to.path("a", recordSuffix)
		doc, err := os.ReadFile(path)
		if err != nil {
			return
		}
		doc[len(doc)-1] ^= 1
		if err := os.WriteFile(path, doc, 0o600); err != nil {
			t.Error(err)
		}
	})
	if _, _, err := Move(t.Context(), from.store, to.store, "p1", nil); !errors.Is(err, connection.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	from.read("a")
	if names, err := to.store.Names("p1"); len(names) != 0 || err != nil {
		t.Errorf("left: %v, %v", names, err)
	}
}
