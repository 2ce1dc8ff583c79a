package bundle_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
)

var errAny = []error{bundle.ErrDamaged, bundle.ErrKey, bundle.ErrNewer}

const project = "p1"

func moment() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// sealed is a bundle of two connections whose credentials are canaries.
func sealed(t testing.TB) (value, key secret.Text, h *bundle.Header) {
	t.Helper()
	return sealedWith(t, rand.Reader)
}

func sealedWith(t testing.TB, random io.Reader) (value, key secret.Text, h *bundle.Header) {
	t.Helper()
	record := func(name string) connection.Record {
		rec := connection.Record{Header: connection.Header{
			Format: connection.Format, Generation: 1, GrantGeneration: 1, Name: name, Provider: name, Flow: connection.FlowBrowser,
			State: connection.StateOK, ReceivedAt: moment(), TTL: 3600, ExpiryKnown: true, HasRefresh: true,
			Pins: providers.Pins{Provider: name, APIHosts: []string{"api.example.com"}, Env: "ENTRY"},
		}}
		rec.Body.Access, rec.Body.Refresh = secret.New("canary-access-"+name), secret.New("canary-refresh-"+name)
		rec.Body.Kept = map[string]string{"instance_url": "https://na1.example.com"}
		return rec
	}
	h = &bundle.Header{Project: project, Label: "shop", CreatedAt: moment(), ExpiresAt: moment().Add(time.Hour)}
	value, key, err := bundle.Seal(random, h, []bundle.Connection{
		{Record: record("one"), Env: "ONE", Holds: bundle.HoldsRefresh, ClientSecret: secret.New("canary-client-one")},
		{Record: record("two"), Holds: bundle.HoldsAccess},
	})
	if err != nil {
		t.Fatal(err)
	}
	return value, key, h
}

func TestRoundTrip(t *testing.T) {
	value, key, h := sealed(t)
	b, err := bundle.Open(secret.New(" "+value.Reveal()+"\n"), secret.New(key.Reveal()+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if b.ID != h.ID || b.Project != project || b.Label != "shop" || !b.ExpiresAt.Equal(h.ExpiresAt) || len(b.Connections) != 2 {
		t.Errorf("%+v", b.Header)
	}
	rec, err := b.Store.Read(t.Context(), connection.Key{Project: project, Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if !rec.Body.Access.Equal(secret.New("canary-access-one")) || !rec.Body.Refresh.Equal(secret.New("canary-refresh-one")) ||
		rec.Body.Kept["instance_url"] != "https://na1.example.com" || rec.Pins.Env != "ENTRY" || !rec.ExpiresAt().Equal(moment().Add(time.Hour)) {
		t.Error("the record is not what was sealed")
	}
	if !b.ClientSecret("one").Equal(secret.New("canary-client-one")) || !b.ClientSecret("two").IsZero() || !b.ClientSecret("three").IsZero() {
		t.Error("the client secrets are not what was sealed")
	}
	one, _ := b.Summary("one")
	two, ok := b.Summary("two")
	if _, other := b.Summary("three"); !ok || other || one.Env != "ONE" || !one.ExpiresAt.IsZero() || !two.ExpiresAt.Equal(moment().Add(time.Hour)) {
		t.Errorf("%+v, %+v", one, two)
	}
}

// TestNothingIsClear looks for credentials in the value, in the header, and in
// what prints a bundle.
func TestNothingIsClear(t *testing.T) {
	value, key, h := sealed(t)
	again, key2, h2 := sealed(t)
	if value.Equal(again) || key.Equal(key2) || h.ID == h2.ID {
		t.Error("two bundles share key, id or value")
	}
	b, err := bundle.Open(value, key)
	if err != nil {
		t.Fatal(err)
	}
	clear, _, _ := strings.Cut(value.Reveal()[len("apiauth-bundle.1."):], ".")
	head, err := base64.RawURLEncoding.DecodeString(clear)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{value.Reveal(), string(head), fmt.Sprintf("%v %+v %#v", b, b, b)} {
		if strings.Contains(text, "canary") || strings.Contains(text, key.Reveal()) {
			t.Error("a credential is in the clear") // the text would tell it
		}
	}
}

// TestChangesAreNoticed changes every character of a bundle and of its key.
func TestChangesAreNoticed(t *testing.T) {
	value, key, _ := sealed(t)
	change := func(s string, i int) secret.Text {
		c := byte('A')
		if s[i] == c {
			c = 'B'
		}
		return secret.New(s[:i] + string(c) + s[i+1:])
	}
	check := func(value, key secret.Text, what string) {
		t.Helper()
		b, err := bundle.Open(value, key)
		known := false
		for _, kind := range errAny {
			known = known || errors.Is(err, kind)
		}
		if b != nil || !known {
			t.Fatalf("%s: %v", what, err)
		}
	}
	text := value.Reveal()
	for i := range len(text) {
		check(change(text, i), key, fmt.Sprintf("character %d", i))
		check(secret.New(text[:i]), key, fmt.Sprintf("cut at %d", i))
	}
	for i := range len(key.Reveal()) {
		check(value, change(key.Reveal(), i), fmt.Sprintf("character %d of the key", i))
	}
	other, _, _ := sealed(t)
	check(other, key, "another bundle's key")
	// The header of one bundle with the sealed part of another.
	cut := strings.LastIndexByte(text, '.')
	check(secret.New(text[:cut]+other.Reveal()[strings.LastIndexByte(other.Reveal(), '.'):]), key, "a sealed part from elsewhere")
	check(secret.Text{}, key, "nothing")
	check(value, secret.Text{}, "no key")
}

func TestNewerFormat(t *testing.T) {
	value, key, _ := sealed(t)
	newer := secret.New(strings.Replace(value.Reveal(), ".1.", ".2.", 1))
	if _, err := bundle.Open(newer, key); !errors.Is(err, bundle.ErrNewer) {
		t.Errorf("%v", err)
	}
	if _, err := bundle.Read(newer); !errors.Is(err, bundle.ErrNewer) {
		t.Errorf("%v", err)
	}
}

// FuzzOpen holds that whatever comes is refused, or is a bundle that was sealed.
func FuzzOpen(f *testing.F) {
	value, key, _ := sealedWith(f, strings.NewReader(strings.Repeat("x", 100))) // the same in every worker
	f.Add(value.Reveal(), key.Reveal())
	f.Add("apiauth-bundle.1.e30.AAAA", key.Reveal())
	f.Add("apiauth-bundle.9.", "")
	f.Add(value.Reveal()[:200], "short")
	f.Fuzz(func(t *testing.T, v, k string) {
		h, err := bundle.Read(secret.New(v))
		if (h == nil) == (err == nil) {
			t.Fatalf("%v, %v", h, err)
		}
		b, err := bundle.Open(secret.New(v), secret.New(k))
		switch {
		case (b == nil) == (err == nil):
			t.Fatalf("%v", err)
		case err == nil && (k != strings.TrimSpace(k) || strings.TrimSpace(v) != v):
		case err == nil && (v != value.Reveal() || k != key.Reveal()) && strings.NewReplacer("\r", "", "\n", "").Replace(v+k) != value.Reveal()+key.Reveal():
			t.Fatal("something else opens")
		}
	})
}

// source is a Source over a store in memory that holds client credentials, with
// a real issuer behind it.
func source(t *testing.T) (*connection.Source, *bundle.Store, *sandbox.Server) {
	t.Helper()
	issuer, err := sandbox.Start(t.Context(), sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Close() })
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "machine.yaml"), issuer.ConfidentialYAML("machine"), 0o600); err != nil {
		t.Fatal(err)
	}
	catalogue := providers.Open(dir)
	def, err := catalogue.Get("machine")
	if err != nil {
		t.Fatal(err)
	}
	id, clientSecret := issuer.ConfidentialClient()
	pins, err := def.Pin(providers.PinOptions{Flow: "client-credentials", ClientID: id, HasSecret: true})
	if err != nil {
		t.Fatal(err)
	}
	s := bundle.NewStore("ID", "variables")
	s.Put(connection.Key{Project: project, Name: "machine"}, &connection.Record{Header: connection.Header{
		Format: connection.Format, Generation: 1, GrantGeneration: 1, Name: "machine", Provider: "machine", ProviderDigest: def.Digest,
		Flow: connection.FlowClientCredentials, State: connection.StateOK, ConnectedAt: time.Now(), ScopesAsked: []string{"items.read"}, Pins: pins,
	}})
	client, err := oauth.NewHTTP(oauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &connection.Source{
		Store: s, Project: project, Issuer: client, Definitions: catalogue, Run: "run", PID: 1, Now: time.Now,
		Sleep:        func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		ClientSecret: func(context.Context, *connection.Header) (secret.Text, error) { return clientSecret, nil },
	}, s, issuer
}

// TestOneRequestForAll asks from twenty goroutines; what one of them gets, the
// others find in memory.
func TestOneRequestForAll(t *testing.T) {
	src, s, issuer := source(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a, err := src.Token(t.Context(), "machine", connection.Option{})
			if err != nil || !issuer.Active(a.Token) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if n := issuer.Stats().TokenRequests; n != 1 {
		t.Errorf("%d requests", n)
	}
	was, err := s.Header(connection.Key{Project: project, Name: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Token(t.Context(), "machine", connection.Option{Refresh: true}); err != nil {
		t.Fatal(err)
	}
	now, err := s.Header(connection.Key{Project: project, Name: "machine"})
	if err != nil || now.Generation <= was.Generation || issuer.Stats().TokenRequests != 2 {
		t.Errorf("generation %d after %d, %v", now.Generation, was.Generation, err)
	}
	if _, err := src.Token(t.Context(), "nobody", connection.Option{}); !errors.Is(err, connection.ErrNotConnected) {
		t.Errorf("%v", err)
	}
}

func TestStoreInMemory(t *testing.T) {
	_, s, _ := source(t)
	key := connection.Key{Project: project, Name: "machine"}
	if names, err := s.Names(project); err != nil || len(names) != 1 || names[0] != "machine" {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := s.Names("another"); err != nil || len(names) != 0 {
		t.Errorf("%q, %v", names, err)
	}
	g, err := s.Lock(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	var locked *connection.LockedError
	if _, err := s.Lock(t.Context(), key, time.Millisecond); !errors.As(err, &locked) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Lock(ctx, key, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	rec, err := g.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Commit(t.Context(), rec); !errors.Is(err, connection.ErrConflict) {
		t.Errorf("an older record replaces a newer one: %v", err)
	}
	for what, err := range map[string]error{
		"delete": g.Delete(t.Context()), "move": g.MoveTo(t.Context(), g, rec), "write to a keychain": g.SetGrant(t.Context(), connection.Grant{}),
		"set a client":    s.SetClient(t.Context(), connection.Registration{}, secret.Text{}),
		"remove a client": s.RemoveClient(t.Context(), "machine", ""),
	} {
		if err == nil {
			t.Errorf("it lets one %s", what)
		}
	}
	g.Unlock()
	g.Unlock() // twice is no harm
	if g, err = s.Lock(t.Context(), key, 0); err != nil {
		t.Fatal(err)
	}
	g.Unlock()
}

func TestMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bundles")
	if list, err := bundle.List(dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	_, _, h := sealed(t)
	_, _, later := sealed(t)
	later.CreatedAt = later.CreatedAt.Add(time.Hour)
	for _, m := range []*bundle.Header{later, h} {
		if err := bundle.Remember(dir, bundle.Made{Header: *m}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := bundle.Find(dir, h.ID)
	if err != nil {
		t.Fatal(err)
	}
	m.RevokedAt = moment()
	if err := bundle.Remember(dir, *m); err != nil {
		t.Fatal(err)
	}
	list, err := bundle.List(dir)
	if err != nil || len(list) != 2 || list[0].ID != h.ID || !list[0].RevokedAt.Equal(moment()) || !list[1].RevokedAt.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	for _, id := range []string{"", "0123456789abcdef", "../" + h.ID, strings.ToUpper(h.ID)} {
		if _, err := bundle.Find(dir, id); !errors.Is(err, bundle.ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
	file := filepath.Join(dir, h.ID+".json")
	if runtime.GOOS != "windows" {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if err := os.Symlink(file, filepath.Join(dir, "0123456789abcdef.json")); err != nil {
			t.Fatal(err)
		}
		if _, err := bundle.Find(dir, "0123456789abcdef"); err == nil || errors.Is(err, bundle.ErrUnknown) {
			t.Errorf("a link is read: %v", err)
		}
		if err := os.Remove(filepath.Join(dir, "0123456789abcdef.json")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.List(dir); err == nil {
		t.Error("a damaged file is passed over")
	}
}
