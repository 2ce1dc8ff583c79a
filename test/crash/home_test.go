//go:build linux

package crash

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// home is somebody's home with a store, in which expired connections can be
// made at will.
type home struct {
	t        testing.TB
	is       *issuer
	dir      string
	vars     map[string]string
	store    *store.Store
	template connection.Record
	made     *int // connections so far
}

// withFile is a home with a file store under a raw key.
func withFile(t *testing.T, is *issuer) *home {
	t.Helper()
	return withFileIn(t, is, "")
}

// withFileIn is withFile with its state in another folder.
func withFileIn(t *testing.T, is *issuer, state string) *home {
	t.Helper()
	key, err := store.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t, is, nil, state)
	h.vars["APIAUTH_STORE"] = "file"
	h.vars["APIAUTH_STORE_KEY"] = key.Reveal()
	h.begin(store.Options{Key: func() (secret.Text, error) { return key, nil }})
	return h
}

// withKeychain is a home with the real gnome-keyring.
func withKeychain(t *testing.T, is *issuer) *home {
	t.Helper()
	bus := keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked)
	bus.Use(t)
	h := newHome(t, is, bus, "")
	h.begin(store.Options{
		Keychain:   keyring.New(keyring.Options{Budget: -1, Env: bus.Lookup}),
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
	})
	return h
}

func newHome(t testing.TB, is *issuer, bus *keyringtest.Bus, state string) *home {
	t.Helper()
	h := &home{t: t, is: is, dir: t.TempDir(), made: new(int), vars: map[string]string{
		"PATH": os.Getenv("PATH"), "LANG": "C.UTF-8",
	}}
	if bus != nil {
		h.vars["XDG_RUNTIME_DIR"], h.vars["DBUS_SESSION_BUS_ADDRESS"] = bus.Runtime, bus.Address
	}
	if state == "" {
		state = filepath.Join(h.dir, "state")
	}
	h.vars["HOME"], h.vars["APIAUTH_STATE_DIR"], h.vars["APIAUTH_CONFIG_DIR"] = h.dir, state, filepath.Join(h.dir, "config")
	return h
}

// begin connects as a person does, and takes the record of that as the pattern
// of all others.
func (h *home) begin(o store.Options) {
	h.t.Helper()
	h.define("peer")
	h.connect("peer")
	o.Dir = filepath.Join(h.vars["APIAUTH_STATE_DIR"], "stores")
	metas, err := store.List(o.Dir)
	if err != nil || len(metas) != 1 {
		h.t.Fatalf("there is no store after connect: %v", err)
	}
	if h.store, err = store.Open(o, metas[0].ID); err != nil {
		h.t.Fatal(err)
	}
	rec, err := h.store.Read(h.t.Context(), h.key("peer"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.template = *rec
}

// define adds the issuer as a provider.
func (h *home) define(id string) {
	h.t.Helper()
	definition := filepath.Join(h.dir, "definition.yaml")
	if err := os.WriteFile(definition, []byte(h.is.definition(id)), 0o600); err != nil {
		h.t.Fatal(err)
	}
	h.must("provider", "add", definition, "--yes")
}

func (h *home) connect(args ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := h.command(ctx, append([]string{"connect", "--flow", "browser", "--no-browser"}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewScanner(io.LimitReader(stderr, 1<<20))
	for lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if line := strings.TrimSpace(lines.Text()); strings.Contains(line, "code_challenge=") {
			if err := h.is.Approve(ctx, line); err != nil {
				h.t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		h.t.Fatalf("connect: %v\n%s", err, said.String())
	}
}

// as is the same home for another test, such as a part of this one.
func (h *home) as(t testing.TB) *home {
	other := *h
	other.t = t
	return &other
}

func (h *home) key(name string) connection.Key {
	return connection.Key{Project: project.Personal, Name: name}
}

// expired makes a connection of its own grant, whose access token has expired
// two hours ago. It returns the name and the refresh token.
func (h *home) expired() (name, refresh string) {
	h.t.Helper()
	access, token := h.is.grant()
	*h.made++
	name = fmt.Sprintf("c%04d", *h.made)
	rec := h.template
	rec.Generation, rec.GrantGeneration = 0, 1
	rec.Name = name
	rec.Body.Access, rec.Body.Refresh = access, token
	h.write(name, time.Now().Add(-2*time.Hour), func(_ context.Context, _ connection.Guard) (*connection.Record, error) { return &rec, nil })
	return name, token.Reveal()
}

// age changes when, by its record, the access token of a connection arrived;
// it lives for an hour.
func (h *home) age(name string, received time.Time) {
	h.t.Helper()
	h.write(name, received, func(ctx context.Context, g connection.Guard) (*connection.Record, error) { return g.Read(ctx) })
}

// write stores a record.
func (h *home) write(name string, received time.Time, get func(context.Context, connection.Guard) (*connection.Record, error)) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	g, err := h.store.Lock(ctx, h.key(name), patience)
	if err != nil {
		h.t.Fatal(err)
	}
	defer g.Unlock()
	rec, err := get(ctx, g)
	if err != nil {
		h.t.Fatal(err)
	}
	rec.Generation++
	rec.ReceivedAt = received.Round(0)
	rec.TTL, rec.ExpiryKnown = 3600, true
	if h.store.Kind() == store.KindKeychain && rec.Generation == 1 {
		// The delicate state: the keychain alone has the refresh token.
		grant := connection.Grant{Generation: rec.GrantGeneration, Refresh: rec.Body.Refresh}
		if err := g.SetGrant(ctx, grant); err != nil {
			h.t.Fatal(err)
		}
		rec.Keychain, rec.KeychainRun, rec.Body.Refresh = connection.KeychainConfirmed, "", secret.Text{}
	}
	if err := g.Commit(ctx, rec); err != nil {
		h.t.Fatal(err)
	}
}

// recordFile is the path of a connection's record.
func (h *home) recordFile(name string) string {
	return filepath.Join(h.store.Dir(), project.Personal, name+".rec")
}

// env is the whole environment of what runs in this home.
func (h *home) env() []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(h.vars)) {
		list = append(list, k+"="+h.vars[k])
	}
	return list
}

func (h *home) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binaryPath(), args...)
	cmd.Dir, cmd.Env = h.dir, h.env()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// result is how a command ended.
type result struct {
	args []string
	code int // 128+n when signal n ended it
	out  string
	err  string
}

// token is the one line on stdout.
func (r result) token() secret.Text { return secret.New(strings.TrimSpace(r.out)) }

// redacted tells how a command ended, without what it printed on stdout.
func (r result) redacted() string {
	return fmt.Sprintf("apiauth %s: exit code %d, %d bytes on stdout, stderr:\n%s", strings.Join(r.args, " "), r.code, len(r.out), r.err)
}

// flat is the message without line breaks.
func (r result) flat() string { return strings.Join(strings.Fields(r.err), " ") }

// run runs apiauth to its end.
func (h *home) run(args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := h.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return ended(ctx, h.t, args, cmd.Run(), &stdout, &stderr)
}

// must is run for a command that has to succeed.
func (h *home) must(args ...string) result {
	h.t.Helper()
	r := h.run(args...)
	if r.code != 0 {
		h.t.Fatal(r.redacted())
	}
	return r
}

func ended(ctx context.Context, t testing.TB, args []string, err error, stdout, stderr *bytes.Buffer) result {
	t.Helper()
	r := result{args: args, code: -1, out: stdout.String(), err: stderr.String()}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("a command did not end within %v: %s", patience, r.redacted())
		return r
	}
	if ctx.Err() != nil {
		return r // the test is over
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		r.code = 0
	case errors.As(err, &exit):
		r.code = code(exit.Sys().(syscall.WaitStatus))
	default:
		t.Errorf("run apiauth: %v", err)
	}
	return r
}

func code(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// started is a command on its way that nobody traces.
type started struct {
	h              *home
	args           []string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan struct{}
	res            result
	took           time.Duration
}

func (h *home) start(args ...string) *started {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	s := &started{h: h, args: args, cmd: h.command(ctx, args...), done: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		cancel()
		h.t.Fatal(err)
	}
	begin := time.Now()
	go func() {
		defer cancel()
		err := s.cmd.Wait()
		s.took = time.Since(begin)
		s.res = ended(ctx, h.t, args, err, &s.stdout, &s.stderr)
		close(s.done)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-s.done
	})
	return s
}

func (s *started) signal(sig syscall.Signal) {
	s.h.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.h.t.Fatal(err)
	}
}

func (s *started) wait() result {
	s.h.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		s.h.t.Fatalf("apiauth %s did not end within %v", strings.Join(s.args, " "), patience)
	}
	return s.res
}

// proven asks with new processes whether a grant lives: a token that the issuer
// knows, and another refresh that succeeds. It returns why not.
func (h *home) proven(name string) (result, error) {
	h.t.Helper()
	for _, args := range [][]string{{"token", name}, {"token", name, "--refresh"}} {
		r := h.run(args...)
		if r.code != 0 {
			return r, errors.New(r.redacted())
		}
		if !h.is.Active(r.token()) {
			return r, fmt.Errorf("apiauth %s printed a token that does not live", strings.Join(args, " "))
		}
	}
	return result{}, nil
}

// mustLive fails the test when a grant is lost.
func (h *home) mustLive(name string) {
	h.t.Helper()
	if _, err := h.proven(name); err != nil {
		h.t.Errorf("the grant of %s is lost: %v", name, err)
	}
}
