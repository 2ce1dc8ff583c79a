package connection_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

func isGrant(_, account string) bool { return strings.HasSuffix(account, ".grant") }

func TestCopyGoesOnlyWhenAnotherProcessHasReadTheKeychain(t *testing.T) {
	r := start(t, sandbox.Options{}, store.KindKeychain) // no rotation
	src := r.process()
	_, err := src.Enroll(t.Context(), r.login("a", "alice"))
	r.must(err)
	state := func(want connection.KeychainState, copied bool) {
		t.Helper()
		rec := r.read("a")
		if rec.Keychain != want || rec.Body.Refresh.IsZero() == copied {
			t.Errorf("the keychain is %q with a copy %t, want %q, %t", rec.Keychain, !rec.Body.Refresh.IsZero(), want, copied)
		}
	}
	state(connection.KeychainPending, true)
	r.clock.add(pastExpiry)
	_, err = src.Token(t.Context(), "a", connection.Option{}) // the process that wrote it
	r.must(err)
	state(connection.KeychainPending, true)
	r.clock.add(pastExpiry)
	r.alive("a") // a later one
	state(connection.KeychainConfirmed, false)
	r.clock.add(pastExpiry)
	r.alive("a")
	state(connection.KeychainConfirmed, false)

	// And when the keychain then loses it, nothing is deleted, nothing sent.
	r.mem.Remove("apiauth."+r.store.ID(), "p1.a.grant")
	r.clock.add(pastExpiry)
	if n := r.requests(func() {
		_, err := r.token("a", connection.Option{})
		r.wantErr(err, connection.ErrNeedsConnect)
	}); n != 0 {
		t.Errorf("%d requests", n)
	}
	if r.read("a").State != connection.StateOK {
		t.Error("the record was condemned")
	}
}

func TestKeychainWritesFail(t *testing.T) {
	for name, fault := range map[string]func(m *keyringtest.Memory) (release func()){
		"lost": func(m *keyringtest.Memory) func() {
			m.Script(keyringtest.Fault{Op: keyringtest.Set, Match: isGrant, Skip: true})
			return nil
		},
		"denied": func(m *keyringtest.Memory) func() { m.Deny(keyringtest.Set); return nil },
		"panics": func(m *keyringtest.Memory) func() {
			m.Script(keyringtest.Fault{Op: keyringtest.Set, Panic: true})
			return nil
		},
		"overlong": func(m *keyringtest.Memory) func() { m.MaxSize(8); return nil },
		"frozen":   func(m *keyringtest.Memory) func() { m.RefuseOverwrites(); return nil },
		"hangs":    func(m *keyringtest.Memory) func() { return m.Hang(keyringtest.Set) },
		"late":     func(m *keyringtest.Memory) func() { return m.AnswerLate(keyringtest.Set) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, strict(), store.KindKeychain)
			r.connect("a")
			r.clock.add(pastExpiry)
			r.alive("a")
			r.opt.Keychain = keyring.New(keyring.Options{Backend: r.mem, Deadline: 40e6, Budget: -1, GOOS: "linux"}) // 40 ms
			release := fault(r.mem)
			r.clock.add(pastExpiry)
			r.alive("a")
			if rec := r.read("a"); rec.Keychain != connection.KeychainSuspended || rec.Body.Refresh.IsZero() {
				t.Errorf("the keychain is %q", rec.Keychain)
			}
			if !r.warned("doctor --fix") {
				t.Error("nobody was told")
			}
			if release != nil {
				release()
			}
			r.opt.Keychain = keyring.New(keyring.Options{Backend: r.mem, Budget: -1, GOOS: "linux"})
			sets := r.mem.Calls(keyringtest.Set)
			for range 3 {
				r.clock.add(pastExpiry)
				r.alive("a")
			}
			if n := r.mem.Calls(keyringtest.Set); n != sets {
				t.Errorf("the keychain was tried %d times more", n-sets)
			}
			if n := r.issuer.Stats().Reuse; n != 0 {
				t.Errorf("%d reuses", n)
			}
			r.mem.Heal()
			ok, err := r.process().Repair(t.Context(), "a")
			if err != nil || !ok {
				t.Fatalf("repair: %t, %v", ok, err)
			}
			for range 2 {
				r.clock.add(pastExpiry)
				r.alive("a")
			}
			if rec := r.read("a"); rec.Keychain != connection.KeychainPending {
				t.Errorf("after the repair the keychain is %q", rec.Keychain)
			}
		})
	}
}

// TestRepairKeepsASealedAnswer: what is in the write-ahead file is newer than
// what repair, rename and disconnect find in the record.
func TestRepairKeepsASealedAnswer(t *testing.T) {
	for name, do := range map[string]func(r *rig, src *connection.Source) string{
		"repair": func(r *rig, src *connection.Source) string {
			_, err := src.Repair(r.Context(), "a")
			r.must(err)
			return "a"
		},
		"rename": func(r *rig, src *connection.Source) string { r.must(src.Rename(r.Context(), "a", "b")); return "b" },
		"disconnect": func(r *rig, src *connection.Source) string {
			f, err := src.Disconnect(r.Context(), "a", false)
			r.must(err)
			if !f.Revoked {
				r.Errorf("not revoked: %v", f.Err)
			}
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, strict(), store.KindKeychain)
			r.connect("a")
			r.mem.Script(keyringtest.Fault{Op: keyringtest.Set, Match: isGrant, Skip: true})
			r.clock.add(pastExpiry)
			a := r.alive("a")
			r.mem.Heal()
			r.clock.add(pastExpiry)
			for n, p := 1, "?"; p != "after Seal"; n++ {
				if p = r.crashing(n, func(src *connection.Source) {
					src.Issuer = sealedOnly{src.Issuer, n}
					_, _ = src.Token(t.Context(), "a", connection.Option{})
				}); p == "" {
					t.Fatal("never came there")
				}
			}
			left := do(r, r.process())
			if left != "" {
				if n := r.requests(func() { r.alive(left) }); n != 0 {
					t.Errorf("%d requests: the answer was thrown away", n)
				}
				r.clock.add(pastExpiry)
				r.alive(left)
			} else if r.issuer.Active(a.Token) {
				t.Error("the family lives on")
			}
		})
	}
}

// sealedOnly keeps earlier crash points from reaching the issuer.
type sealedOnly struct {
	inner interface {
		PostToken(context.Context, oauth.TokenRequest) (oauth.Answer, error)
		Identity(context.Context, oauth.IdentityRequest) (oauth.Account, error)
		Sites(context.Context, oauth.SitesRequest) ([]oauth.Site, error)
		Revoke(context.Context, oauth.RevokeRequest) error
	}
	n int
}

func (s sealedOnly) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	if s.n < 7 { // Lock, Begin twice, the request, the answer, Seal: the 7th is "after Seal"
		return oauth.Answer{}, oauth.ErrNotSent
	}
	return s.inner.PostToken(ctx, r)
}

func (s sealedOnly) Sites(ctx context.Context, r oauth.SitesRequest) ([]oauth.Site, error) {
	return s.inner.Sites(ctx, r)
}

func (s sealedOnly) Identity(ctx context.Context, r oauth.IdentityRequest) (oauth.Account, error) {
	return s.inner.Identity(ctx, r)
}
func (s sealedOnly) Revoke(ctx context.Context, r oauth.RevokeRequest) error {
	return s.inner.Revoke(ctx, r)
}

func TestOlderCopyOfTheFiles(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	saved := copyTree(t, r.store.Dir())
	r.clock.add(pastExpiry)
	r.alive("a")
	r.clock.add(pastExpiry)
	r.alive("a")
	saved()
	r.clock.add(pastExpiry)
	r.alive("a")
	if !r.warned("older copy") {
		t.Error("nobody was told")
	}
	r.clock.add(pastExpiry)
	r.alive("a")
	if n := r.issuer.Stats().Reuse; n != 0 {
		t.Errorf("%d reuses", n)
	}
}

// copyTree remembers the files below dir; restore puts them back.
func copyTree(t *testing.T, dir string) (restore func()) {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[path], err = os.ReadFile(path) //nolint:gosec // below a temporary folder
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		for path, doc := range files {
			if err := os.WriteFile(path, doc, 0o600); err != nil { //nolint:gosec // below a temporary folder
				t.Fatal(err)
			}
		}
	}
}

func TestLastLoginWins(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.clock.add(pastExpiry)
		l := r.login("a", "alice")
		first, err := r.token("a", connection.Option{}) // a refresh while the person was at it
		r.must(err)
		rec, err := r.process().Enroll(r.Context(), l)
		r.must(err)
		a := r.alive("a")
		if !a.Token.Equal(rec.Body.Access) || a.Token.Equal(first.Token) {
			r.Error("not the last login's token")
		}
		r.clock.add(pastExpiry)
		r.alive("a")
	})
}

func TestAnotherAccount(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		before := r.connect("a")
		_, err := r.process().Enroll(r.Context(), r.login("a", "bob"))
		r.wantErr(err, connection.ErrAccountDeclined)
		for _, yes := range []bool{false, true} {
			l := r.login("a", "bob")
			l.Confirm = func(_ context.Context, was, is connection.Account) bool {
				g, err := r.process().Store.Lock(r.Context(), connection.Key{Project: projectID, Name: "a"}, 0)
				if err != nil {
					r.Error("a person is waited for under the lock:", err)
				} else {
					g.Unlock()
				}
				if was.Subject != "user-alice" || is.Subject != "user-bob" {
					r.Errorf("asked about %v and %v", was, is)
				}
				return yes
			}
			_, err := r.process().Enroll(r.Context(), l)
			a := r.alive("a")
			if yes && (err != nil || a.Header.Account.Subject != "user-bob") || !yes && (!errors.Is(err, connection.ErrAccountDeclined) || !a.Token.Equal(before.Body.Access)) {
				r.Errorf("yes %t: %v, account %v", yes, err, a.Header.Account)
			}
		}
		r.clock.add(pastExpiry)
		r.alive("a")
	})
}

func TestFailedLoginLeavesTheGrant(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		for fault, want := range map[string]error{
			"token-500": connection.ErrTemporary, "token-html": connection.ErrTemporary, "token-drop-after": connection.ErrTemporary,
			"invalid-grant": connection.ErrRefused, "bad-type": connection.ErrTemporary,
		} {
			l := r.login("a", "alice")
			r.must(r.issuer.SetFaults(fault))
			if n := r.requests(func() {
				_, err := r.process().Enroll(r.Context(), l)
				r.wantErr(err, want)
			}); n != 1 {
				r.Errorf("%s: the code was sent %d times", fault, n)
			}
			r.must(r.issuer.SetFaults())
			r.clock.add(pastExpiry)
			r.alive("a")
		}
		_, err := r.process().Enroll(r.Context(), connection.Login{Draft: r.login("a", "alice").Draft})
		if err == nil {
			r.Error("a login of nothing was stored")
		}
	})
}

func TestStaticKey(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		l := r.login("key", "alice")
		l.Request, l.Key, l.Draft.Flow = nil, secret.New("static-key"), connection.FlowKey
		_, err := r.process().Enroll(r.Context(), l)
		r.must(err)
		r.clock.add(1000 * pastExpiry)
		a, err := r.process().Token(r.Context(), "key", connection.Option{})
		if err != nil || !a.Token.Equal(secret.New("static-key")) || !a.ExpiresAt.IsZero() {
			r.Errorf("the key did not come back: %v", err)
		}
		_, err = r.process().Token(r.Context(), "key", connection.Option{Refresh: true})
		r.wantErr(err, connection.ErrNeedsConnect)
	})
}

// TestImport: the token that a person brought along survives a crash between
// the sealed answer and the record.
func TestImport(t *testing.T) {
	r := start(t, sandbox.Options{}, store.KindKeychain)
	imported := r.connect("source").Body.Refresh
	for n := 1; n < 12; n++ {
		l := r.login("a", "alice")
		l.Request.Form = oauth.RefreshForm(imported)
		l.Imported, l.Draft.Flow = imported, connection.FlowImport
		point := r.crashing(n, func(src *connection.Source) { _, _ = src.Enroll(t.Context(), l) })
		if point != "" && point != "after Seal" {
			continue
		}
		r.clock.add(pastExpiry)
		r.alive("a")
	}
}

func (r *rig) nothingLeft() {
	r.Helper()
	if n := len(r.mem.Contents()); n != 0 {
		r.Errorf("%d keychain items left", n)
	}
	files, err := filepath.Glob(filepath.Join(r.store.Dir(), projectID, "*"))
	r.must(err)
	for _, f := range files {
		if !strings.HasSuffix(f, ".lock") {
			r.Errorf("left: %s", filepath.Base(f))
		}
	}
}

func TestDisconnect(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		rec := r.connect("a")
		f, err := r.process().Disconnect(r.Context(), "a", false)
		r.must(err)
		if !f.Revoked || f.Err != nil || r.issuer.Active(rec.Body.Access) {
			r.Errorf("revoked %t, %v", f.Revoked, f.Err)
		}
		r.nothingLeft()
		_, err = r.process().Disconnect(r.Context(), "a", false)
		r.wantErr(err, connection.ErrNotConnected)

		rec = r.connect("a")
		f, err = r.process().Disconnect(r.Context(), "a", true)
		r.must(err)
		if !f.Skipped || f.Revoked || !r.issuer.Active(rec.Body.Access) {
			r.Error("a local removal reached the issuer")
		}
		r.nothingLeft()

		r.connect("a")
		r.must(r.issuer.SetFaults("revoke-500"))
		f, err = r.process().Disconnect(r.Context(), "a", false)
		r.must(err)
		if f.Revoked || f.Err == nil {
			r.Error("a failed revocation was called a success")
		}
		r.nothingLeft()

		r.connect("a")
		r.must(r.issuer.Close())
		f, err = r.process().Disconnect(r.Context(), "a", false)
		r.must(err)
		if f.Revoked || f.Err == nil {
			r.Error("nobody was there to revoke")
		}
		r.nothingLeft()
	})
}

func TestDisconnectWithLockedKeychain(t *testing.T) {
	r := start(t, strict(), store.KindKeychain)
	r.connect("a")
	r.mem.Lock()
	f, err := r.process().Disconnect(t.Context(), "a", false)
	r.wantErr(err, keyring.ErrLocked)
	if f.Revoked || f.Err == nil || !f.Known {
		t.Errorf("revoked %t, %v", f.Revoked, f.Err)
	}
	r.mem.Heal()
	_, err = r.token("a", connection.Option{})
	r.wantErr(err, connection.ErrNotConnected)
	if n, err := r.store.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	r.nothingLeft()
}

// TestDisconnectWithoutTheRefreshToken: an access token that was revoked is no
// grant that was revoked.
func TestDisconnectWithoutTheRefreshToken(t *testing.T) {
	r := start(t, sandbox.Options{}, store.KindKeychain)
	r.connect("a")
	r.clock.add(pastExpiry)
	r.alive("a") // only the keychain has it now
	r.mem.Script(keyringtest.Fault{Op: keyringtest.Get, Match: isGrant, Skip: true, Err: keyring.ErrDenied, Times: 1})
	f, err := r.process().Disconnect(t.Context(), "a", false)
	r.must(err)
	if f.Revoked || f.Err == nil {
		t.Error("called revoked")
	}
}

func TestRename(t *testing.T) {
	bothKinds(t, strict(), func(r *rig) {
		r.connect("a")
		r.connect("taken")
		r.wantErr(r.process().Rename(r.Context(), "a", "taken"), connection.ErrNameTaken)
		r.wantErr(r.process().Rename(r.Context(), "a", "a"), connection.ErrNameTaken)
		r.wantErr(r.process().Rename(r.Context(), "nobody", "b"), connection.ErrNotConnected)
		if n := r.requests(func() { r.must(r.process().Rename(r.Context(), "a", "b")) }); n != 0 {
			r.Errorf("%d requests", n)
		}
		_, err := r.token("a", connection.Option{})
		r.wantErr(err, connection.ErrNotConnected)
		for range 3 {
			r.alive("b")
			r.clock.add(pastExpiry)
		}
		for _, name := range []string{"b", "taken"} {
			_, err := r.process().Disconnect(r.Context(), name, true)
			r.must(err)
		}
		r.nothingLeft()
	})
}
