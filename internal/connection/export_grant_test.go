package connection_test

import (
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestExport finds the refresh token wherever it is, and changes nothing.
func TestExport(t *testing.T) {
	bothKinds(t, sandbox.Options{}, func(r *rig) {
		first := r.connect("a")
		for range 2 { // a later process confirms the keychain, and the copy goes
			r.clock.add(pastExpiry)
			r.alive("a")
		}
		was := r.read("a")
		if r.store.Kind() == "keychain" && !was.Body.Refresh.IsZero() {
			t.Fatal("the copy is still there: the test would prove little")
		}
		var rec *connection.Record
		if n := r.requests(func() {
			var err error
			rec, err = r.process().Export(t.Context(), "a")
			r.must(err)
		}); n != 0 {
			t.Errorf("%d requests", n)
		}
		if !rec.Body.Refresh.Equal(first.Body.Refresh) {
			t.Error("that is not the refresh token of the grant")
		}
		if now := r.read("a"); now.Generation != was.Generation || !now.Body.Refresh.Equal(was.Body.Refresh) {
			t.Error("the record was changed")
		}
		_, err := r.process().Export(t.Context(), "nobody")
		r.wantErr(err, connection.ErrNotConnected)
	})
}

func TestExportOfAnEndedGrant(t *testing.T) {
	r := start(t, sandbox.Options{}, "file")
	r.connect("a")
	r.must(r.issuer.SetFaults("invalid-grant"))
	_, err := r.token("a", connection.Option{Refresh: true})
	r.wantErr(err, connection.ErrNeedsConnect)
	rec, err := r.process().Export(t.Context(), "a")
	r.wantErr(err, connection.ErrNeedsConnect)
	if rec != nil {
		t.Error("a grant that has ended is given away")
	}
}

// TestExportCompletesARefresh takes the token that an interrupted process
// received, not the one before it.
func TestExportCompletesARefresh(t *testing.T) {
	r := start(t, strict(), "file")
	first := r.connect("a")
	r.clock.add(pastExpiry)
	src := r.process()
	src.Store = unwritable{src.Store}
	if _, err := src.Token(t.Context(), "a", connection.Option{}); err == nil {
		t.Fatal("the commit did not fail")
	}
	rec, err := r.process().Export(t.Context(), "a")
	r.must(err)
	if rec.Body.Refresh.Equal(first.Body.Refresh) || rec.Body.Refresh.Equal(secret.Text{}) {
		t.Error("that is the refresh token before the interrupted refresh")
	}
}
