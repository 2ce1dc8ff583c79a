package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// childLock makes the test binary a process that holds a lock.
const childLock = "APIAUTH_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(childLock); path != "" { //nolint:forbidigo // the test binary as a process of its own
		os.Exit(holdLock(path)) //nolint:forbidigo // see above
	}
	os.Exit(m.Run()) //nolint:forbidigo // as testing documents it
}

// holdLock takes the lock, says so, and keeps it until its input ends.
func holdLock(path string) int {
	var locks lockTable
	lock, err := locks.take(context.Background(), path, 10*time.Second)
	if err != nil {
		return 1
	}
	defer lock.release()
	_, _ = os.Stdout.WriteString("locked\n") //nolint:forbidigo // the parent waits for it
	_, _ = io.Copy(io.Discard, os.Stdin)     //nolint:forbidigo // ends with the parent
	return 0
}

// home is one store with everything around it.
type home struct {
	*testing.T
	opt   Options
	mem   *keyringtest.Memory
	store *Store
}

const (
	fileRaw        = "file with a raw key"
	filePassphrase = "file with a passphrase"
	keychain       = "keychain"
)

// open makes a store of a kind in a folder of its own.
func open(t *testing.T, kind string) *home {
	t.Helper()
	return openIn(t, kind, filepath.Join(t.TempDir(), "state", "stores"), keyringtest.NewMemory())
}

func openIn(t *testing.T, kind, dir string, mem *keyringtest.Memory) *home {
	t.Helper()
	h := &home{T: t, mem: mem}
	h.opt = Options{
		Dir:        dir,
		Keychain:   keyring.New(keyring.Options{Backend: mem, Budget: -1, GOOS: "linux"}),
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
	}
	storeKind := KindFile
	switch kind {
	case fileRaw:
		raw, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{7}, keySize)))
		if err != nil {
			t.Fatal(err)
		}
		h.opt.Key = func() (secret.Text, error) { return raw, nil }
	case filePassphrase:
		h.opt.Passphrase = func(context.Context, bool) (secret.Text, error) { return secret.New("correct horse"), nil }
	default:
		storeKind = KindKeychain
	}
	var err error
	if h.store, err = Create(t.Context(), h.opt, storeKind); err != nil {
		t.Fatal(err)
	}
	return h
}

// again opens the same store as a later process does.
func (h *home) again() *home {
	h.Helper()
	s, err := Open(h.opt, h.store.ID())
	if err != nil {
		h.Fatal(err)
	}
	return &home{T: h.T, opt: h.opt, mem: h.mem, store: s}
}

func everyKind(t *testing.T, run func(h *home)) {
	t.Helper()
	for _, kind := range []string{fileRaw, filePassphrase, keychain} {
		t.Run(kind, func(t *testing.T) { run(open(t, kind)) })
	}
}

func key(name string) connection.Key { return connection.Key{Project: "p1", Name: name} }

func (h *home) lock(name string) *guard {
	h.Helper()
	g, err := h.store.Lock(h.Context(), key(name), 0)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(g.Unlock)
	return g.(*guard)
}

func sample(name string, generation uint64) *connection.Record {
	r := &connection.Record{Header: connection.Header{
		Format: connection.Format, Generation: generation, GrantGeneration: 1, Name: name, Provider: "spotify", Flow: connection.FlowBrowser,
		State: connection.StateOK, ConnectedAt: time.Unix(1700000000, 5).UTC(), ReceivedAt: time.Unix(1700000000, 5).UTC(),
		TTL: 3600, ExpiryKnown: true, HasRefresh: true, ScopesAsked: []string{"a", "b"},
		Pins: providers.Pins{Provider: "spotify", TokenEndpoint: "https://accounts.example/token", AuthMethod: "none", ClientID: "c1"},
	}}
	r.Body = connection.Body{Access: secret.New("access-of-" + name), Refresh: secret.New("refresh-of-" + name), Kept: map[string]string{"k": "v"}}
	return r
}

// put stores a sample record.
func (h *home) put(name string, generation uint64) {
	h.Helper()
	g := h.lock(name)
	defer g.Unlock()
	if err := g.Commit(h.Context(), sample(name, generation)); err != nil {
		h.Fatal(err)
	}
}

func (h *home) path(name, suffix string) string {
	return filepath.Join(h.store.Dir(), "p1", name+suffix)
}

func (h *home) wantErr(err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("got %v, want %v", err, want)
	}
}

func (h *home) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *home) read(name string) *connection.Record {
	h.Helper()
	r, err := h.store.Read(h.Context(), key(name))
	if err != nil {
		h.Fatal(err)
	}
	return r
}

func (h *home) files() []string {
	h.Helper()
	entries, err := os.ReadDir(filepath.Join(h.store.Dir(), "p1"))
	h.must(err)
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), lockSuffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestRecordsRoundTrip(t *testing.T) {
	everyKind(t, func(h *home) {
		rec := sample("big", 3)
		rec.Body.Access = secret.New(strings.Repeat("a", 64<<10))
		rec.Body.Refresh = secret.New(strings.Repeat("r", 8<<10))
		rec.Body.Spare = secret.New(strings.Repeat("s", 8<<10))
		g := h.lock("big")
		h.must(g.Commit(h.Context(), rec))
		g.Unlock()
		got := h.again().read("big")
		if !reflect.DeepEqual(got.Header, rec.Header) {
			h.Errorf("the header came back as %+v", got.Header)
		}
		if !got.Body.Access.Equal(rec.Body.Access) || !got.Body.Refresh.Equal(rec.Body.Refresh) || !got.Body.Spare.Equal(rec.Body.Spare) || got.Body.Kept["k"] != "v" {
			h.Error("the body came back changed")
		}
		h.put("big-b", 1)
		names, err := h.store.Names("p1")
		if err != nil || !reflect.DeepEqual(names, []string{"big", "big-b"}) {
			h.Errorf("names: %v, %v", names, err)
		}
		doc, err := os.ReadFile(h.path("big-b", recordSuffix))
		if err != nil || bytes.Contains(doc, []byte("access-of")) || bytes.Contains(doc, []byte("refresh-of")) {
			h.Error("a credential stands in the file", err)
		}
		if got := h.files(); !reflect.DeepEqual(got, []string{"big-b.rec", "big.rec"}) {
			h.Errorf("files left: %v", got)
		}
	})
}

func TestHeaderAndNamesWakeNoKeychain(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	calls := h.mem.Calls(keyringtest.Any)
	h.mem.Script(keyringtest.Fault{Panic: true})
	if _, err := h.store.Header(key("a")); err != nil {
		t.Error(err)
	}
	if _, err := h.store.Names("p1"); err != nil {
		t.Error(err)
	}
	h.store.Pending(key("a"))
	if h.mem.Calls(keyringtest.Any) != calls {
		t.Error("the keychain was asked")
	}
}

func TestDamage(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.put("other", 1)
		path := h.path("a", recordSuffix)
		doc, err := os.ReadFile(path)
		h.must(err)
		broken := func(doc []byte, what string) {
			h.must(os.WriteFile(path, doc, 0o600))
			if _, err := h.store.Read(h.Context(), key("a")); !errors.Is(err, connection.ErrCorrupt) && !errors.Is(err, connection.ErrNewer) {
				h.Fatalf("%s: got %v", what, err)
			}
		}
		for i := range doc {
			flipped := bytes.Clone(doc)
			flipped[i] ^= 1
			broken(flipped, fmt.Sprintf("byte %d flipped", i))
		}
		for n := 0; n < len(doc); n += 7 {
			broken(doc[:n], fmt.Sprintf("cut at %d", n))
		}
		broken(append(bytes.Clone(doc), 0), "a byte more")
		h.read("other")
		h.must(os.WriteFile(path, doc, 0o600))
		h.read("a")
	})
}

func TestReplay(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.put("b", 1)
		second, err := h.store.Lock(h.Context(), connection.Key{Project: "p2", Name: "a"}, 0)
		h.must(err)
		h.must(second.Commit(h.Context(), sample("a", 1)))
		second.Unlock()
		a, err := os.ReadFile(h.path("a", recordSuffix))
		h.must(err)

		h.must(os.WriteFile(h.path("b", recordSuffix), a, 0o600))
		_, err = h.store.Read(h.Context(), key("b"))
		h.wantErr(err, connection.ErrCorrupt)

		h.must(os.WriteFile(h.path("b", recordSuffix), bytes.Replace(a, []byte(`"name":"a"`), []byte(`"name":"b"`), 1), 0o600))
		_, err = h.store.Read(h.Context(), key("b"))
		h.wantErr(err, connection.ErrCorrupt)

		h.must(os.WriteFile(filepath.Join(h.store.Dir(), "p2", "a.rec"), a, 0o600))
		_, err = h.store.Read(h.Context(), connection.Key{Project: "p2", Name: "a"})
		h.wantErr(err, connection.ErrCorrupt)

		// Another store with the same keys.
		other := openIn(h.T, fileRaw, filepath.Join(h.TempDir(), "stores"), h.mem)
		other.put("a", 1)
		h.must(os.WriteFile(other.path("a", recordSuffix), a, 0o600))
		_, err = other.store.Read(h.Context(), key("a"))
		h.wantErr(err, connection.ErrCorrupt)
	})
}

func TestNewerFormats(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	doc, err := os.ReadFile(h.path("a", recordSuffix))
	h.must(err)
	h.must(os.WriteFile(h.path("a", recordSuffix), bytes.Replace(doc, []byte("record 1"), []byte("record 2"), 1), 0o600))
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrNewer)
	g := h.lock("a")
	h.wantErr(g.Commit(t.Context(), sample("a", 9)), connection.ErrNewer)

	g = h.lock("b")
	h.must(os.WriteFile(h.path("b", journalSuffix), []byte("apiauth-wal 2\nwhatever"), 0o600))
	_, err = g.Journal(t.Context())
	h.wantErr(err, connection.ErrNewer)
	if !h.store.Pending(key("b")) {
		t.Error("the newer version's write-ahead file was removed")
	}

	meta := filepath.Join(h.store.Dir(), metaFile)
	doc, err = os.ReadFile(meta)
	h.must(err)
	h.must(os.WriteFile(meta, bytes.Replace(doc, []byte(`"format": 1`), []byte(`"format": 2`), 1), 0o600))
	_, err = Open(h.opt, h.store.ID())
	h.wantErr(err, connection.ErrNewer)
}

func TestGenerations(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 5)
		g := h.lock("a")
		for _, old := range []uint64{0, 4, 5} {
			h.wantErr(g.Commit(h.Context(), sample("a", old)), connection.ErrConflict)
		}
		h.must(g.Begin(h.Context(), connection.Intent{Kind: connection.IntentRefresh, Target: 9}))
		if n, _ := g.Next(h.Context()); n != 9 {
			h.Errorf("with an own intent for 9 the next generation is %d", n)
		}
		g.Unlock()
		g = h.lock("a")
		if n, _ := g.Next(h.Context()); n != 10 {
			h.Errorf("above an intent of an earlier process for 9 the next generation is %d", n)
		}
		if h.store.Kind() == KindKeychain {
			h.must(g.SetGrant(h.Context(), connection.Grant{Generation: 41, Refresh: secret.New("r")}))
			if _, n := g.Next(h.Context()); n != 42 {
				h.Errorf("above grant 41 the next is %d", n)
			}
		}
		h.must(g.Commit(h.Context(), sample("a", 10)))
		if h.store.Pending(key("a")) {
			h.Error("the write-ahead file outlived the record")
		}
	})
}

func intent(target uint64) connection.Intent {
	draft := sample("a", 1).Header
	return connection.Intent{Kind: connection.IntentExchange, Target: target, TokenHash: "00ff", Grant: 3, PID: 7, Time: time.Unix(1700000000, 0).UTC(), Draft: &draft, Kept: map[string]string{"realm": "1"}}
}

func TestWriteAhead(t *testing.T) {
	everyKind(t, func(h *home) {
		g := h.lock("a")
		h.must(g.Begin(h.Context(), intent(4)))
		if info, err := os.Stat(h.path("a", journalSuffix)); err != nil || info.Size() < journalReserve {
			h.Error("no space is reserved", err)
		}
		g.Unlock()
		g = h.lock("a")
		j, err := g.Journal(h.Context())
		if err != nil || j == nil || j.Raw != nil || !reflect.DeepEqual(j.Intent, intent(4)) {
			h.Fatalf("the intent came back as %+v, %v", j, err)
		}
		raw := bytes.Repeat([]byte("answer\n\x00"), 24<<10)[:192<<10]
		h.must(g.Begin(h.Context(), intent(4)))
		h.must(g.Seal(h.Context(), raw))
		g.Unlock()
		doc, err := os.ReadFile(h.path("a", journalSuffix))
		h.must(err)
		if bytes.Contains(doc, []byte("answer")) {
			h.Error("the answer is not sealed")
		}

		h = h.again()
		g = h.lock("a")
		j, err = g.Journal(h.Context())
		if err != nil || j == nil || !bytes.Equal(j.Raw, raw) {
			h.Fatal("the sealed answer did not come back", err)
		}
		// Torn while it was sealed: the intent is what remains.
		torn := bytes.Clone(doc)
		for i := journalBlock + 9000; i < journalBlock+9100; i++ {
			torn[i] = 0
		}
		h.must(os.WriteFile(h.path("a", journalSuffix), torn, 0o600))
		if j, err = g.Journal(h.Context()); err != nil || j == nil || j.Raw != nil {
			h.Error("a torn answer was returned", err)
		}
		// Under another name the seal does not open.
		other := h.lock("b")
		h.must(other.Begin(h.Context(), intent(1)))
		h.must(other.Drop())
		h.must(os.WriteFile(h.path("b", journalSuffix), doc, 0o600))
		if j, err = other.Journal(h.Context()); err != nil || j == nil || j.Raw != nil {
			h.Error("another connection's answer was opened", err)
		}
		// A torn intent says nothing.
		h.must(os.WriteFile(h.path("a", journalSuffix), doc[:100], 0o600))
		if j, err = g.Journal(h.Context()); err != nil || j != nil || h.store.Pending(key("a")) {
			h.Error("a torn intent was kept", err)
		}
		// A target that was reached is history.
		h.must(os.WriteFile(h.path("a", journalSuffix), doc, 0o600))
		h.must(g.Commit(h.Context(), sample("a", 4)))
		h.must(os.WriteFile(h.path("a", journalSuffix), doc, 0o600))
		if j, err = g.Journal(h.Context()); err != nil || j != nil || h.store.Pending(key("a")) {
			h.Error("a write-ahead file that was promoted came back", err)
		}
	})
}

func TestPrepareLeavesNothing(t *testing.T) {
	everyKind(t, func(h *home) {
		undo, err := h.store.Prepare(h.Context(), key("a"))
		h.must(err)
		undo()
		if got := h.files(); len(got) != 0 || len(h.mem.Contents()) != 0 {
			h.Errorf("an aborted first connect left %v and %d keychain items", got, len(h.mem.Contents()))
		}
		undo, err = h.store.Prepare(h.Context(), key("a"))
		h.must(err)
		h.put("a", 1)
		undo() // too late: it counts
		h.read("a")
	})
}

func TestPrepareFindsOut(t *testing.T) {
	for name, fault := range map[string]func(m *keyringtest.Memory) error{
		"locked":      func(m *keyringtest.Memory) error { m.Lock(); return keyring.ErrLocked },
		"denied":      func(m *keyringtest.Memory) error { m.Deny(keyringtest.Set); return keyring.ErrDenied },
		"absent":      func(m *keyringtest.Memory) error { m.Absent(); return keyring.ErrAbsent },
		"loses":       func(m *keyringtest.Memory) error { m.LoseWrites(); return connection.ErrNotKept },
		"too small":   func(m *keyringtest.Memory) error { m.MaxSize(8); return keyring.ErrTooLarge },
		"never grows": func(m *keyringtest.Memory) error { m.RefuseOverwrites(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, keychain)
			want := fault(h.mem)
			if _, err := h.store.Prepare(t.Context(), key("a")); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
}

func TestKeyIsNeverWrittenOver(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	item := h.store.service() + "/" + keyItem(key("a"))
	before := h.mem.Contents()[item]
	h.mem.RefuseOverwrites()
	h.put("a", 2)
	undo, err := h.store.Prepare(t.Context(), key("a"))
	h.must(err)
	undo()
	if h.mem.Contents()[item] != before || before == "" {
		t.Error("the sealing key was replaced")
	}
	h.mem.Put(h.store.service(), keyItem(key("a")), "damaged")
	_, err = h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreKey)
	_, err = h.store.Prepare(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreKey)
	if h.mem.Contents()[item] != "damaged" {
		t.Error("a damaged key was written over")
	}
}

func TestKeychainLockedHalfway(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	g := h.lock("a")
	h.must(g.Begin(t.Context(), intent(2)))
	h.mem.Lock()
	h.must(g.Seal(t.Context(), []byte("answer")))
	h.must(g.Commit(t.Context(), sample("a", 2)))
	h.mem.Heal()
	if h.read("a").Generation != 2 {
		t.Error("the record was not stored")
	}
}

func TestKeychainHangs(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	h.opt.Keychain = keyring.New(keyring.Options{Backend: h.mem, Deadline: 30 * time.Millisecond, GOOS: "linux"})
	h = h.again()
	release := h.mem.Hang(keyringtest.Any)
	defer release()
	if _, err := h.store.Read(t.Context(), key("a")); !errors.Is(err, keyring.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	g := h.lock("a")
	h.wantErr(g.Begin(t.Context(), intent(2)), keyring.ErrTimeout)
	if h.store.Pending(key("a")) {
		t.Error("an intent was written without a key to seal the answer")
	}
}

func TestGrantItem(t *testing.T) {
	h := open(t, keychain)
	g := h.lock("a")
	_, err := g.Grant(t.Context())
	h.wantErr(err, connection.ErrNotStored)
	want := connection.Grant{Generation: 7, Refresh: secret.New("a token with blanks")}
	h.must(g.SetGrant(t.Context(), want))
	got, err := g.Grant(t.Context())
	if err != nil || got.Generation != 7 || !got.Refresh.Equal(want.Refresh) {
		t.Error("the grant came back changed", err)
	}
	h.mem.LoseWrites()
	h.wantErr(g.SetGrant(t.Context(), connection.Grant{Generation: 8, Refresh: secret.New("x")}), connection.ErrNotKept)
	for goos, limit := range map[string]int{"windows": 2560, "darwin": 2730} {
		h.opt.Keychain = keyring.New(keyring.Options{Backend: h.mem, GOOS: goos})
		g := h.again().lock("on-" + goos)
		if !g.FitsGrant(connection.Grant{Generation: 1, Refresh: secret.New(strings.Repeat("r", limit-200))}) ||
			g.FitsGrant(connection.Grant{Generation: 1, Refresh: secret.New(strings.Repeat("r", limit+1))}) {
			t.Errorf("%s: the limit is not held", goos)
		}
	}
	if open(t, fileRaw).lock("a").FitsGrant(want) {
		t.Error("a file store has no keychain")
	}
}

func TestDelete(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.put("b", 1)
		g := h.lock("a")
		h.must(g.SetGrant(h.Context(), connection.Grant{Generation: 1, Refresh: secret.New("r")}))
		h.must(g.Begin(h.Context(), intent(2)))
		h.must(os.WriteFile(h.path(".a.rec.0123", temporarySuffix), nil, 0o600))
		h.must(g.Delete(h.Context()))
		g.Unlock()
		if got := h.files(); !reflect.DeepEqual(got, []string{"b.rec"}) {
			h.Errorf("files left: %v", got)
		}
		for item := range h.mem.Contents() {
			if strings.Contains(item, ".a.") {
				h.Errorf("left in the keychain: %s", item)
			}
		}
		_, err := h.store.Read(h.Context(), key("a"))
		h.wantErr(err, connection.ErrNotStored)
		h.read("b")
	})
}

func TestDeleteWithLockedKeychain(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	h.mem.Lock()
	g := h.lock("a")
	h.wantErr(g.Delete(t.Context()), keyring.ErrLocked)
	g.Unlock()
	if got := h.files(); !reflect.DeepEqual(got, []string{"a.gone"}) || h.store.Tombstones() != 1 {
		t.Errorf("left: %v", got)
	}
	_, err := h.store.Sweep(t.Context())
	h.wantErr(err, keyring.ErrLocked)
	h.mem.Heal()
	n, err := h.store.Sweep(t.Context())
	if err != nil || n != 1 || h.store.Tombstones() != 0 || len(h.mem.Contents()) != 0 {
		t.Errorf("swept %d, %v; %d items left", n, err, len(h.mem.Contents()))
	}

	// Connected again before anybody swept: the items are in use.
	h.put("a", 1)
	h.mem.Lock()
	g = h.lock("a")
	h.wantErr(g.Delete(t.Context()), keyring.ErrLocked)
	g.Unlock()
	h.mem.Heal()
	h.put("a", 1)
	if h.store.Tombstones() != 0 {
		t.Error("the tombstone outlived the new connection")
	}
	if _, err := h.store.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	h.again().read("a")

	// A keychain that says yes and keeps the items.
	h.mem.LoseWrites()
	g = h.lock("a")
	h.wantErr(g.Delete(t.Context()), connection.ErrStoreWrite)
	if h.store.Tombstones() != 1 {
		t.Error("no tombstone for items that stayed")
	}
}

func TestDeleteCutOff(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	g := h.lock("a")
	h.must(g.writeTombstone(tombstone{Items: []string{"x"}})) // and then the process died
	g.Unlock()
	g = h.again().lock("a")
	_, err := g.Read(t.Context())
	h.wantErr(err, connection.ErrNotStored)
	g.Unlock()
	if got := h.files(); len(got) != 0 || len(h.mem.Contents()) != 0 {
		t.Errorf("left: %v, %d items", got, len(h.mem.Contents()))
	}
}

func TestRenameCutOff(t *testing.T) {
	everyKind(t, func(h *home) {
		moved := sample("a", 1)
		moved.Name = "b"
		only := func(want string) {
			h.Helper()
			for _, name := range []string{"a", "b"} {
				g := h.lock(name)
				_, err := g.Read(h.Context())
				g.Unlock()
				if (err == nil) != (name == want) {
					h.Fatalf("%s: %v, want only %s", name, err, want)
				}
			}
			if h.store.Tombstones() != 0 {
				h.Error("a tombstone is left")
			}
		}
		h.put("a", 1)
		a, b := h.lock("a"), h.lock("b")
		h.must(a.writeTombstone(tombstone{MovedTo: "b"})) // died before the new record
		a.Unlock()
		b.Unlock()
		only("a")

		a, b = h.lock("a"), h.lock("b")
		h.must(a.writeTombstone(tombstone{MovedTo: "b"})) // died after it
		h.must(b.Commit(h.Context(), moved))
		a.Unlock()
		b.Unlock()
		only("b")

		b = h.lock("b")
		h.must(b.Delete(h.Context()))
		b.Unlock()
		h.put("a", 1)
		a, b = h.lock("a"), h.lock("b")
		h.must(a.MoveTo(h.Context(), b, moved))
		a.Unlock()
		b.Unlock()
		only("b")
		b = h.lock("b")
		h.must(b.Delete(h.Context()))
		b.Unlock()
		if len(h.mem.Contents()) != 0 {
			h.Errorf("%d keychain items left", len(h.mem.Contents()))
		}

		// Died before the new record; later somebody else moved in there.
		h.put("a", 1)
		a = h.lock("a")
		h.must(a.writeTombstone(tombstone{MovedTo: "b"}))
		a.Unlock()
		stranger := sample("b", 1)
		stranger.ConnectedAt = stranger.ConnectedAt.Add(time.Hour)
		b = h.lock("b")
		h.must(b.Commit(h.Context(), stranger))
		b.Unlock()
		a = h.lock("a")
		if _, err := a.Read(h.Context()); err != nil {
			h.Errorf("a rename that never happened removed its source: %v", err)
		}
	})
}

func TestMove(t *testing.T) {
	for _, kinds := range [][2]string{{keychain, fileRaw}, {fileRaw, keychain}, {keychain, filePassphrase}} {
		t.Run(kinds[0]+" to "+kinds[1], func(t *testing.T) {
			mem := keyringtest.NewMemory()
			from := openIn(t, kinds[0], filepath.Join(t.TempDir(), "stores"), mem)
			to := openIn(t, kinds[1], filepath.Join(t.TempDir(), "stores"), mem)
			from.put("a", 3)
			g := from.lock("b") // the refresh token in the keychain only, where there is one
			rec := sample("b", 1)
			if from.store.Kind() == KindKeychain {
				from.must(g.SetGrant(t.Context(), connection.Grant{Generation: 1, Refresh: rec.Body.Refresh}))
				rec.Body.Refresh, rec.Keychain = secret.Text{}, connection.KeychainConfirmed
			}
			from.must(g.Commit(t.Context(), rec))
			g.Unlock()
			from.must(from.store.SetClient(t.Context(), registration("p1"), secret.New("s3cret")))
			items := len(mem.Contents())

			_, abort, err := Move(t.Context(), from.store, to.store, "p1", nil)
			from.must(err)
			abort()
			if names, _ := to.store.Names("p1"); len(names) != 0 {
				t.Errorf("an aborted move left %v", names)
			}
			from.read("a")
			if kinds[1] != keychain && len(mem.Contents()) != items {
				t.Errorf("an aborted move left %d items, there were %d", len(mem.Contents()), items)
			}

			finish, _, err := Move(t.Context(), from.store, to.store, "p1", nil)
			from.must(err)
			from.must(finish(t.Context()))
			for _, name := range []string{"a", "b"} {
				if got := to.again().read(name); !got.Body.Refresh.Equal(secret.New("refresh-of-"+name)) || !got.Body.Access.Equal(secret.New("access-of-"+name)) {
					t.Errorf("%s came over changed", name)
				}
				if _, err := from.store.Read(t.Context(), key(name)); !errors.Is(err, connection.ErrNotStored) {
					t.Errorf("%s stayed: %v", name, err)
				}
			}
			r, err := to.store.Registration("spotify", "p1")
			to.must(err)
			if s, err := to.store.ClientSecret(t.Context(), r); err != nil || !s.Equal(secret.New("s3cret")) {
				t.Error("the client secret did not come over", err)
			}
			for item := range mem.Contents() {
				if strings.HasPrefix(item, from.store.service()+"/") {
					t.Errorf("left in the keychain: %s", item)
				}
			}
		})
	}
	t.Run("refused with a refresh under way", func(t *testing.T) {
		from, to := open(t, fileRaw), open(t, keychain)
		from.put("a", 1)
		g := from.lock("a")
		from.must(g.Begin(t.Context(), intent(2)))
		g.Unlock()
		if _, _, err := Move(t.Context(), from.store, to.store, "p1", nil); err == nil {
			t.Error("moved")
		}
		from.lock("a").Unlock() // not locked any more
	})
	t.Run("the target fails", func(t *testing.T) {
		from, to := open(t, fileRaw), open(t, keychain)
		from.put("a", 1)
		to.mem.Deny(keyringtest.Set)
		if _, _, err := Move(t.Context(), from.store, to.store, "p1", nil); !errors.Is(err, keyring.ErrDenied) {
			t.Errorf("got %v", err)
		}
		from.read("a")
		if names, _ := to.store.Names("p1"); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
}

func registration(project string) connection.Registration {
	return connection.Registration{Provider: "spotify", Project: project, ClientID: "c1", TokenEndpoint: "https://accounts.example/token", AuthMethod: "client_secret_basic"}
}

// The certificates of a client are public: they stand with its registration, and come
// back with its key, also out of another store.
func TestClientCertificates(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		kept := secret.New(`{"pkcs8":"c4n4ry","x5c":["AAAA","BBBB"]}`)
		h.must(h.store.SetClient(ctx, registration(""), kept))
		r, err := h.again().store.Registration("spotify", "")
		h.must(err)
		if !slices.Equal(r.Certificates, []string{"AAAA", "BBBB"}) {
			h.Errorf("certificates %v", r.Certificates)
		}
		if s, err := h.again().store.ClientSecret(ctx, r); err != nil || !s.Equal(kept) {
			h.Errorf("the key came back without its certificates, or %v", err)
		}
		h.must(h.store.SetClient(ctx, registration(""), secret.New("a secret now")))
		r, err = h.store.Registration("spotify", "")
		h.must(err)
		if s, err := h.store.ClientSecret(ctx, r); err != nil || r.Certificates != nil || !s.Equal(secret.New("a secret now")) {
			h.Errorf("certificates %v are left, or %v", r.Certificates, err)
		}
	})
}

func TestClients(t *testing.T) {
	everyKind(t, func(h *home) {
		ctx := h.Context()
		_, err := h.store.Registration("spotify", "p1")
		h.wantErr(err, connection.ErrNotStored)
		h.must(h.store.SetClient(ctx, registration(""), secret.New("of the user")))
		h.must(h.store.SetClient(ctx, registration("p1"), secret.New("of the project")))
		for project, want := range map[string]string{"p1": "of the project", "p2": "of the user", "": "of the user"} {
			r, err := h.again().store.Registration("spotify", project)
			h.must(err)
			s, err := h.again().store.ClientSecret(ctx, r)
			if err != nil || !s.Equal(secret.New(want)) {
				h.Errorf("project %q: another secret, or %v", project, err)
			}
		}
		// The file is clear and may be edited: the secret stays with what it
		// was given for.
		path := filepath.Join(h.store.Dir(), clientsDir, clientHash("spotify", "")+recordSuffix)
		doc, err := os.ReadFile(path)
		h.must(err)
		if bytes.Contains(doc, []byte("of the user")) {
			h.Error("the secret stands in the file")
		}
		for was, is := range map[string]string{"accounts.example": "evil.example", `"c1"`: `"c2"`, "client_secret_basic": "client_secret_post"} {
			h.must(os.WriteFile(path, bytes.Replace(doc, []byte(was), []byte(is), 1), 0o600))
			r, err := h.store.Registration("spotify", "")
			h.must(err)
			if _, err = h.store.ClientSecret(ctx, r); !errors.Is(err, connection.ErrCorrupt) {
				h.Errorf("%s for %s: %v", is, was, err)
			}
		}
		h.must(os.WriteFile(path, bytes.Replace(doc, []byte("client 1"), []byte("client 2"), 1), 0o600))
		_, err = h.store.Registration("spotify", "")
		h.wantErr(err, connection.ErrNewer)
		h.must(os.WriteFile(path, doc, 0o600))

		// Without a secret now: the old one does not stay behind.
		h.must(h.store.SetClient(ctx, registration("p1"), secret.Text{}))
		r, err := h.store.Registration("spotify", "p1")
		h.must(err)
		if s, err := h.store.ClientSecret(ctx, r); err != nil || !s.IsZero() {
			h.Error("a secret came from nowhere", err)
		}
		all, err := h.store.Registrations()
		if err != nil || len(all) != 2 {
			h.Errorf("%d registrations, %v", len(all), err)
		}
		h.must(h.store.RemoveClient(ctx, "spotify", "p1"))
		h.must(h.store.RemoveClient(ctx, "spotify", ""))
		h.wantErr(h.store.RemoveClient(ctx, "spotify", ""), connection.ErrNotStored)
		if len(h.mem.Contents()) != 0 {
			h.Errorf("%d keychain items left", len(h.mem.Contents()))
		}
	})
}

func TestClientSurvivesFailedReplacement(t *testing.T) {
	h := open(t, keychain)
	h.must(h.store.SetClient(t.Context(), registration(""), secret.New("works")))
	dir := filepath.Join(h.store.Dir(), clientsDir)
	path := filepath.Join(dir, clientHash("spotify", "")+recordSuffix)
	kept, err := os.ReadFile(path)
	h.must(err)
	h.must(os.Remove(path))
	h.must(os.MkdirAll(filepath.Join(path, "in the way"), 0o700)) // the rename onto it fails
	if err := h.store.SetClient(t.Context(), registration(""), secret.New("new")); err == nil {
		t.Fatal("stored")
	}
	h.must(os.RemoveAll(path))
	h.must(os.WriteFile(path, kept, 0o600))
	r, err := h.store.Registration("spotify", "")
	h.must(err)
	if s, err := h.store.ClientSecret(t.Context(), r); err != nil || !s.Equal(secret.New("works")) {
		t.Error("the secret that worked is gone", err)
	}
}

func TestWrongKeyIsNotDamage(t *testing.T) {
	for _, kind := range []string{fileRaw, filePassphrase} {
		t.Run(kind, func(t *testing.T) {
			h := open(t, kind)
			h.put("a", 1)
			other, err := NewKey(bytes.NewReader(bytes.Repeat([]byte{9}, keySize)))
			h.must(err)
			h.opt.Key = func() (secret.Text, error) { return other, nil }
			h.opt.Passphrase = func(context.Context, bool) (secret.Text, error) { return secret.New("wrong"), nil }
			_, err = h.again().store.Read(t.Context(), key("a"))
			h.wantErr(err, connection.ErrStoreKey)
			h.opt.Key = func() (secret.Text, error) { return secret.Text{}, nil }
			h.opt.Passphrase = nil
			_, err = h.again().store.Read(t.Context(), key("a"))
			h.wantErr(err, connection.ErrStoreKey)
		})
	}
	h := open(t, keychain)
	h.put("a", 1)
	h.mem.Remove(h.store.service(), keyItem(key("a")))
	_, err := h.store.Read(t.Context(), key("a"))
	h.wantErr(err, connection.ErrStoreKey) // the files alone are of no use
}

func TestReadBetweenTwoConnections(t *testing.T) {
	h := open(t, keychain)
	h.put("a", 1)
	// The reader has the old file when its owner is removed and connected anew.
	done := false
	h.mem.Slow(keyringtest.Get, func() {
		if done {
			return
		}
		done = true
		other := h.again()
		other.opt.Keychain = keyring.New(keyring.Options{Backend: h.mem, Budget: -1, GOOS: "linux"})
		other = other.again()
		g := other.lock("a")
		h.must(g.Delete(t.Context()))
		h.must(g.Commit(t.Context(), sample("a", 8)))
		g.Unlock()
	})
	if got := h.read("a"); got.Generation != 8 {
		t.Errorf("read generation %d", got.Generation)
	}
}

func TestWipe(t *testing.T) {
	everyKind(t, func(h *home) {
		h.put("a", 1)
		h.must(h.store.SetClient(h.Context(), registration(""), secret.New("s")))
		if _, err := h.store.Prepare(h.Context(), key("half")); err != nil { // died afterwards
			h.Fatal(err)
		}
		h.must(h.store.Wipe(h.Context(), "", nil))
		if got := h.files(); len(got) != 0 || len(h.mem.Contents()) != 0 {
			h.Errorf("left: %v and %d keychain items", got, len(h.mem.Contents()))
		}
	})
}

func TestOneStoreOfAKind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stores")
	a := openIn(t, keychain, dir, keyringtest.NewMemory())
	b := openIn(t, keychain, dir, a.mem)
	if a.store.ID() != b.store.ID() {
		t.Error("a second keychain store was made")
	}
	c := openIn(t, fileRaw, dir, a.mem)
	metas, err := List(dir)
	if err != nil || len(metas) != 2 || c.store.ID() == a.store.ID() {
		t.Errorf("%d stores, %v", len(metas), err)
	}
}

func TestNames(t *testing.T) {
	h := open(t, keychain)
	for _, name := range []string{"", "..", "a/b", `a\b`, "A", "a:b", "a\nb", "-a", "é", strings.Repeat("a", 64)} {
		if _, err := h.store.Lock(t.Context(), key(name), 0); err == nil {
			t.Errorf("%q was accepted", name)
		}
		if _, err := h.store.Read(t.Context(), connection.Key{Project: name, Name: "a"}); err == nil || errors.Is(err, connection.ErrNotStored) {
			t.Errorf("project %q: %v", name, err)
		}
	}
	if _, err := h.store.Lock(t.Context(), connection.Key{Project: clientsDir, Name: "a"}, 0); err == nil {
		t.Error("a project may not be called clients")
	}
}

// holder starts a process that holds the lock of a connection.
func (h *home) holder(name string) *exec.Cmd {
	h.Helper()
	h.lock(name).Unlock()                                                  // makes the folder
	cmd := exec.CommandContext(h.Context(), os.Args[0])                    //nolint:gosec // the test binary itself
	cmd.Env = append(os.Environ(), childLock+"="+h.path(name, lockSuffix)) //nolint:forbidigo // for the child
	in, err := cmd.StdinPipe()
	h.must(err)
	out, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	h.Cleanup(func() { _ = in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line := make([]byte, 7)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "locked\n" {
		h.Fatalf("the holder said %q, %v", line, err)
	}
	return cmd
}

func TestLockHolderKilled(t *testing.T) {
	h := open(t, fileRaw)
	cmd := h.holder("a")
	_, err := h.store.Lock(t.Context(), key("a"), 0)
	var locked *connection.LockedError
	if !errors.As(err, &locked) || locked.PID != cmd.Process.Pid {
		t.Fatalf("got %v, want the pid %d in it", err, cmd.Process.Pid)
	}
	got := make(chan error, 1)
	go func() {
		g, err := h.store.Lock(t.Context(), key("a"), 20*time.Second)
		if err == nil {
			g.Unlock()
		}
		got <- err
	}()
	h.must(cmd.Process.Kill())
	if err := <-got; err != nil {
		t.Errorf("nobody took over: %v", err)
	}
	if _, err := os.Stat(h.path("a", lockSuffix)); err != nil {
		t.Error("the lock file is gone", err)
	}
}

func TestLockManyWaiters(t *testing.T) {
	h := open(t, fileRaw)
	g := h.lock("a")
	results := make(chan error, 200)
	inside := make(chan struct{}, 1)
	for range 100 {
		go func() {
			g, err := h.store.Lock(t.Context(), key("a"), 30*time.Second)
			if err == nil {
				select {
				case inside <- struct{}{}:
					<-inside
				default:
					err = errors.New("two at once")
				}
				g.Unlock()
			}
			results <- err
		}()
	}
	for range 100 { // these give up
		go func() {
			_, err := h.store.Lock(t.Context(), key("a"), time.Millisecond)
			var locked *connection.LockedError
			if errors.As(err, &locked) {
				err = nil
			}
			results <- err
		}()
	}
	for range 100 { // those that give up come first: the lock is held
		h.must(<-results)
	}
	g.Unlock()
	for range 100 {
		h.must(<-results)
	}
	h.store.locks.mu.Lock()
	defer h.store.locks.mu.Unlock()
	if len(h.store.locks.queues) != 0 {
		t.Error("a queue is left over")
	}
}

func TestLockCancelled(t *testing.T) {
	h := open(t, fileRaw)
	g := h.lock("a")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { _, err := h.store.Lock(ctx, key("a"), time.Minute); got <- err }()
	cancel()
	h.wantErr(<-got, context.Canceled)
	g.Unlock()
	g2, err := h.store.Lock(t.Context(), key("a"), 10*time.Second)
	h.must(err)
	g2.Unlock()
}

func TestLoginLock(t *testing.T) {
	h := open(t, fileRaw)
	release, waited, err := h.store.LoginLock(t.Context(), key("a"), nil)
	if err != nil || waited {
		t.Fatal(waited, err)
	}
	h.lock("a").Unlock() // refreshes go on
	waiting := make(chan struct{})
	got := make(chan bool, 1)
	go func() {
		release, waited, err := h.store.LoginLock(t.Context(), key("a"), func() { close(waiting) })
		if err == nil {
			release()
		}
		got <- waited && err == nil
	}()
	<-waiting
	release()
	if !<-got {
		t.Error("the second login did not wait for the first")
	}
}

func BenchmarkHeaders(b *testing.B) {
	s := &Store{opt: Options{Dir: b.TempDir()}, meta: Meta{ID: "0123456789abcdef", Kind: KindFile, KDF: &kdf{Name: kdfRaw}}, master: make([]byte, keySize)}
	s.dir = filepath.Join(s.opt.Dir, s.meta.ID)
	for i := range 1000 {
		name := fmt.Sprintf("c%d", i)
		g, err := s.Lock(b.Context(), key(name), 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Commit(b.Context(), sample(name, 1)); err != nil {
			b.Fatal(err)
		}
		g.Unlock()
	}
	for b.Loop() {
		names, err := s.Names("p1")
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range names {
			if _, err := s.Header(key(name)); err != nil {
				b.Fatal(err)
			}
		}
	}
}
