package connection_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

const (
	projectID = "p1"
	verifier  = "verifier-verifier-verifier-verifier-verifier-0"
	redirect  = "http://127.0.0.1:45454/callback/sandbox"
)

// clock is a clock that only moves when it is told to.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// rig is the strict issuer, a store, and what a process needs to use them.
type rig struct {
	*testing.T
	issuer      *sandbox.Server
	clock       *clock
	dir         string
	definitions string
	catalogue   *providers.Catalogue
	mem         *keyringtest.Memory
	opt         store.Options
	store       *store.Store
	runs        atomic.Int64
	mu          sync.Mutex
	warnings    []string
}

func start(t *testing.T, o sandbox.Options, kind string) *rig {
	t.Helper()
	r := &rig{T: t, clock: &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}, dir: t.TempDir(), mem: keyringtest.NewMemory()}
	o.Now, o.AutoApprove = r.clock.now, true
	var err error
	if r.issuer, err = sandbox.Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.issuer.Close() })
	r.definitions = filepath.Join(r.dir, "providers")
	r.must(os.MkdirAll(r.definitions, 0o700))
	r.define(r.issuer.ProviderYAML("sandbox"))
	r.catalogue = providers.Open(r.definitions)
	r.opt = storeOptions(filepath.Join(r.dir, "stores"), keyring.New(keyring.Options{Backend: r.mem, Budget: -1, GOOS: "linux"}))
	if r.store, err = store.Create(t.Context(), r.opt, kind); err != nil {
		t.Fatal(err)
	}
	return r
}

func storeOptions(dir string, k store.Keychain) store.Options {
	raw := secret.New(base64.RawURLEncoding.EncodeToString(make([]byte, 32)))
	return store.Options{
		Dir:        dir,
		Keychain:   k,
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
		Key:        func() (secret.Text, error) { return raw, nil },
	}
}

func (r *rig) define(yaml []byte) {
	r.Helper()
	r.must(os.WriteFile(filepath.Join(r.definitions, "sandbox.yaml"), yaml, 0o600))
}

// process is a Source as a new process has it.
func (r *rig) process() *connection.Source {
	r.Helper()
	s, err := store.Open(r.opt, r.store.ID())
	r.must(err)
	client, err := oauth.NewHTTP(oauth.Options{Now: r.clock.now})
	r.must(err)
	return &connection.Source{
		Store: s, Project: projectID, Issuer: client, Definitions: r.catalogue,
		Run: fmt.Sprintf("run%d", r.runs.Add(1)), PID: os.Getpid(), Now: r.clock.now,
		Sleep: func(ctx context.Context, d time.Duration) error { r.clock.add(d); return ctx.Err() },
		Warn: func(format string, a ...any) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.warnings = append(r.warnings, fmt.Sprintf(format, a...))
		},
	}
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) wantErr(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Fatalf("got %v, want %v", err, want)
	}
}

func (r *rig) warned(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.warnings, "\n"), part)
}

// login walks to the point where a code is there to be exchanged.
func (r *rig) login(name, account string) connection.Login {
	r.Helper()
	def, err := r.catalogue.Get("sandbox")
	r.must(err)
	pins, err := def.Pin(providers.PinOptions{Flow: "browser"})
	r.must(err)
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {pins.ClientID}, "redirect_uri": {redirect}, "state": {"s"}, "scope": {"profile items.read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "login_hint": {account},
	}
	location, err := r.issuer.Consent(r.Context(), pins.AuthorizationEndpoint+"?"+q.Encode(), sandbox.Choice{})
	r.must(err)
	u, err := url.Parse(location)
	r.must(err)
	return connection.Login{
		Draft: connection.Header{Name: name, Provider: "sandbox", ProviderDigest: def.Digest, Flow: connection.FlowBrowser, ScopesAsked: []string{"profile", "items.read"}, Pins: pins},
		Request: &oauth.TokenRequest{
			Endpoint: pins.TokenEndpoint, Client: oauth.Client{ID: pins.ClientID, Method: pins.AuthMethod}, AllowInsecureLoopback: true,
			Form: oauth.CodeExchange(secret.New(u.Query().Get("code")), redirect, secret.New(verifier), nil),
		},
	}
}

// connect stores a new grant of alice, whose access token lives an hour unless
// the sandbox was told otherwise.
func (r *rig) connect(name string) *connection.Record {
	r.Helper()
	rec, err := r.process().Enroll(r.Context(), r.login(name, "alice"))
	r.must(err)
	return rec
}

// token asks as a new process, and proves that the answer is alive.
func (r *rig) token(name string, o connection.Option) (connection.Access, error) {
	r.Helper()
	a, err := r.process().Token(r.Context(), name, o)
	if err == nil && !r.issuer.Active(a.Token) {
		r.Errorf("%s: the token is dead at the issuer", name)
	}
	return a, err
}

// alive is token that must succeed.
func (r *rig) alive(name string) connection.Access {
	r.Helper()
	a, err := r.token(name, connection.Option{})
	if err != nil {
		r.Fatalf("%s: %v", name, err)
	}
	return a
}

func (r *rig) read(name string) *connection.Record {
	r.Helper()
	rec, err := r.store.Read(r.Context(), connection.Key{Project: projectID, Name: name})
	r.must(err)
	return rec
}

// requests counts the token requests that do causes.
func (r *rig) requests(do func()) int {
	before := r.issuer.Stats().TokenRequests
	do()
	return r.issuer.Stats().TokenRequests - before
}

const pastExpiry = 2 * time.Hour

func bothKinds(t *testing.T, o sandbox.Options, run func(r *rig)) {
	t.Helper()
	for _, kind := range []string{store.KindKeychain, store.KindFile} {
		t.Run(kind, func(t *testing.T) { run(start(t, o, kind)) })
	}
}

// strict rotates and revokes at the first reuse; gracious allows for a lost
// answer.
func strict() sandbox.Options { return sandbox.Options{RotateRefresh: true} }
func gracious() sandbox.Options {
	return sandbox.Options{RotateRefresh: true, Grace: time.Minute}
}
