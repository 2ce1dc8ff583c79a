package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

type doctorOptions struct {
	Live bool
	Fix  bool

	loadErr error // what is wrong with the settings
}

func newDoctorCmd(g *globals) *cobra.Command {
	var opts doctorOptions
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Prove that the set-up works, and say what to do where it does not",
		GroupID: groupCare,
		Long: `Prove that the set-up works: folders, configuration, provider definitions, a
round trip through the keychain with an item of the real size, locks, the clock,
the port for logins, a browser, and this project's connections. Every failure
comes with its remedy; any failure ends with status 1. Without --live no network
is used.

--json is free of secrets and of your home folder's name, fit to share.`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { opts.loadErr = g.loadOrDefaults(cmd); return nil },
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), g, opts) },
	}
	f := cmd.Flags()
	f.BoolVar(&opts.Live, "live", false, "refresh each connection of this project for real")
	f.BoolVar(&opts.Fix, "fix", false, "repair what can be repaired without a person")
	return cmd
}

// The outcomes of a check.
const (
	checkOK    = "ok"
	checkNote  = "note"  // odd, but nothing fails for it
	checkFixed = "fixed" // it was wrong, and --fix repaired it
	checkFail  = "fail"
)

// check is one finding of doctor. It holds no secret and no account.
type check struct {
	Name   string `json:"check"`
	Status string `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

type doctor struct {
	g      *globals
	ws     *workspace
	opts   doctorOptions
	checks []check
}

func (d *doctor) add(name, status, remedy, format string, a ...any) {
	d.checks = append(d.checks, check{name, status, d.shareable(fmt.Sprintf(format, a...)), d.shareable(remedy)})
}

func (d *doctor) ok(name, format string, a ...any) { d.add(name, checkOK, "", format, a...) }

// fail adds an error, with the remedy that its class has unless there is a
// better one.
func (d *doctor) fail(name string, err error, remedy string) {
	if remedy == "" && errors.Is(err, connection.ErrNeedsConnect) {
		remedy = fmt.Sprintf("'apiauth connect %s'", name)
	}
	if remedy == "" {
		_, remedy = explain(err)
	}
	if remedy == "" || strings.Contains(remedy, "'apiauth doctor'") {
		remedy = withoutDoctor(err)
	}
	d.add(name, checkFail, remedy, "%v", err)
}

// withoutDoctor is the remedy where the usual one is to ask the doctor.
func withoutDoctor(err error) string {
	switch {
	case errors.Is(err, keyring.ErrTimeout):
		return "see whether the keychain waits for an answer on the screen, or start it anew; --store file does without it"
	case errors.Is(err, keyring.ErrTooLarge), errors.Is(err, keyring.ErrFailed), errors.Is(err, keyring.ErrName):
		return "start the keychain anew, or use another; --store file does without it"
	case errors.Is(err, connection.ErrCorrupt):
		return "'apiauth connect' with this name replaces a damaged connection"
	case errors.Is(err, connection.ErrStoreWrite), errors.Is(err, connection.ErrStoreRead):
		return "see that the folder is yours and can be written; 'apiauth paths' says where it is"
	}
	return "'apiauth paths' shows where everything lies; put back the damaged file from a backup, or move it away"
}

// shareable takes the home folder's name out of a text, and what could steer a
// terminal.
func (d *doctor) shareable(s string) string {
	if home := d.g.app.Home; len(home) > 1 {
		s = strings.ReplaceAll(s, home, "~")
	}
	return oauthCleanLong(strings.ReplaceAll(s, "\n", "; "))
}

func runDoctor(ctx context.Context, g *globals, opts doctorOptions) error {
	d := &doctor{g: g, opts: opts}
	if err := d.run(ctx); err != nil {
		return err
	}
	failures := 0
	for _, c := range d.checks {
		if c.Status == checkFail {
			failures++
		}
	}
	if g.cfg.JSON {
		err := printJSON(g.app.Stdout, struct {
			OK      bool    `json:"ok"`
			Version string  `json:"version"`
			Go      string  `json:"go"`
			OS      string  `json:"os"`
			Arch    string  `json:"arch"`
			Checks  []check `json:"checks"`
		}{failures == 0, g.app.Version.Number, runtime.Version(), g.app.GOOS, runtime.GOARCH, d.checks})
		if err != nil {
			return err
		}
	} else if err := d.print(); err != nil {
		return err
	}
	if failures > 0 {
		return &silentError{exitFailure}
	}
	return ctx.Err()
}

func (d *doctor) print() error {
	var b strings.Builder
	for _, c := range d.checks {
		const column = 22
		for i, line := range wrap(c.Detail, lineWidth-column) {
			if i == 0 {
				fmt.Fprintf(&b, "%-6s %-14s %s\n", c.Status, c.Name, line)
			} else {
				fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", column), line)
			}
		}
		if c.Remedy != "" {
			for _, line := range wrap("-> "+c.Remedy, lineWidth-column) {
				fmt.Fprintf(&b, "%s%s\n", strings.Repeat(" ", column), line)
			}
		}
	}
	_, err := io.WriteString(d.g.app.Stdout, b.String())
	return err
}

func (d *doctor) run(ctx context.Context) error {
	if d.opts.loadErr != nil {
		d.fail("config", d.opts.loadErr, "correct it; until then nothing but doctor, paths, reset and version runs")
	} else {
		d.ok("config", "the settings can be read")
	}
	var err error
	if d.ws, err = d.g.workspace(); err != nil {
		d.fail("project", err, "")
		if d.ws, err = d.g.homeless(); err != nil {
			return err
		}
		d.ws.unbound = errors.New("the project could not be read")
	} else {
		d.project()
	}
	d.environment()
	d.folders()
	d.catalogue()
	stores := d.stores()
	d.keychain(ctx, stores)
	for _, s := range stores {
		d.lock(ctx, s)
		d.leftovers(ctx, s)
	}
	d.connections(ctx)
	d.clock()
	d.ports(ctx)
	d.browser()
	return nil
}

func (d *doctor) project() {
	switch {
	case d.ws.unbound != nil:
		d.fail("project", d.ws.unbound, "")
	case d.ws.manifest == nil:
		d.ok("project", "the personal project (no %s from here up)", project.ManifestName)
	default:
		d.ok("project", "%s, by %s", d.ws.projectID, d.ws.manifest.File)
	}
	if _, err := d.ws.registry.List(); err != nil {
		d.fail("project", err, "")
	}
}

// environment looks for variables that nobody reads, and for files of
// credentials that others can read.
func (d *doctor) environment() {
	var known []string
	for _, s := range config.Environment() {
		if strings.HasPrefix(s.Name, "APIAUTH_") {
			known = append(known, s.Name)
		}
	}
	for _, kv := range d.g.app.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "APIAUTH_") || value == "" || name == "APIAUTH_BIN" { // the sandbox sets that for its command
			continue
		}
		base, isFile := strings.CutSuffix(name, "_FILE")
		switch {
		case slices.Contains(known, name) && name != "APIAUTH_CA_FILE":
		case name == "APIAUTH_CA_FILE":
			if _, err := os.Stat(value); err != nil {
				d.fail("environment", fmt.Errorf("%s: %w", name, err), "name a file of certificates, or unset it")
			}
		case isFile && (slices.Contains(known, base) || forProvider(base)):
			d.secretFile(name, value)
		case !forProvider(name):
			remedy := "'apiauth help environment' lists those that are read"
			if near := strictyaml.Suggest(name, known); near != "" {
				remedy = "did you mean " + near + "?"
			}
			d.add("environment", checkNote, remedy, "nothing reads the variable %s", oauth.Clean(name))
		}
	}
}

// forProvider reports whether a variable belongs to a provider's client.
func forProvider(name string) bool {
	for _, prefix := range []string{"APIAUTH_CLIENT_ID_", "APIAUTH_CLIENT_SECRET_", "APIAUTH_CLIENT_ISSUER_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (d *doctor) secretFile(name, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		d.fail("environment", fmt.Errorf("%s: %w", name, err), "name the file that holds it, or unset the variable")
	case d.g.app.GOOS != "windows" && info.Mode().Perm()&0o077 != 0:
		d.add("environment", checkFail, "chmod 600", "the file that %s names can be read by others (%#o)", name, info.Mode().Perm())
	}
}

// folders looks at the folders that hold credentials and what decides over
// them.
func (d *doctor) folders() {
	for _, f := range []struct {
		name, path string
		private    bool
	}{
		{"state", d.ws.dirs.State, true},
		{"stores", d.ws.storesDir(), true},
		{"configuration", d.ws.dirs.Config, false},
	} {
		info, err := os.Stat(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := d.canMake(f.path); err != nil {
				d.fail(f.name, fmt.Errorf("%s cannot be made: %w", f.path, pathReason(err)), "make it yourself, or name another place with APIAUTH_STATE_DIR and APIAUTH_CONFIG_DIR")
			} else {
				d.ok(f.name, "%s is not there yet; it is made when it is needed", f.path)
			}
			continue
		case err != nil:
			d.fail(f.name, err, "")
			continue
		case !info.IsDir():
			d.add(f.name, checkFail, "move it away", "%s is not a folder", f.path)
			continue
		}
		mode := info.Mode().Perm()
		open := mode&0o022 != 0 || f.private && mode&0o077 != 0
		switch {
		case d.g.app.GOOS == "windows" || !open:
			d.ok(f.name, "%s", f.path)
		case d.opts.Fix && os.Chmod(f.path, mode&^0o077) == nil:
			d.add(f.name, checkFixed, "", "%s was open to others (%#o)", f.path, mode)
		default:
			d.add(f.name, checkFail, "'apiauth doctor --fix', or chmod 700", "%s is open to others (%#o)", f.path, mode)
		}
	}
}

// canMake reports why a folder cannot be made: the nearest one above it that
// exists must let us in.
func (d *doctor) canMake(path string) error {
	for {
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		path = parent
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", path)
		}
		probe, err := os.MkdirTemp(path, ".apiauth-doctor-")
		if err != nil {
			return err
		}
		return os.Remove(probe)
	}
}

func (d *doctor) catalogue() {
	defs, err := d.ws.catalogue.List()
	for _, fault := range unjoin(err) {
		d.fail("providers", fault, "correct the file; 'apiauth provider check FILE' tells more")
	}
	if err != nil {
		return
	}
	own := 0
	for _, def := range defs {
		if def.Path != "" {
			own++
		}
	}
	d.ok("providers", "%d in the catalogue, %d of your own", len(defs)-own, own)
}

func (d *doctor) stores() []*store.Store {
	metas, err := store.List(d.ws.storesDir())
	if err != nil {
		d.fail("stores", err, "")
	}
	var stores []*store.Store
	for _, m := range metas {
		s, err := store.Open(d.ws.storeOptions(), m.ID)
		if err != nil {
			d.fail("stores", err, "")
			continue
		}
		stores = append(stores, s)
	}
	return stores
}

// keychain proves the keychain with an item of its own, of the size that refresh
// tokens have, and removes it.
func (d *doctor) keychain(ctx context.Context, stores []*store.Store) {
	needed := !slices.ContainsFunc(stores, func(s *store.Store) bool { return s.Kind() == store.KindFile }) && d.ws.cfg.Store != store.KindFile ||
		slices.ContainsFunc(stores, func(s *store.Store) bool { return s.Kind() == store.KindKeychain })
	k := d.ws.keyring()
	began := d.g.app.Now()
	size, err := roundTrip(ctx, k)
	switch {
	case err == nil:
		d.ok("keychain", "%s kept %d bytes, gave them back and forgot them (%d ms)", k.Describe(), size, d.g.app.Now().Sub(began).Milliseconds())
	case !needed:
		d.add("keychain", checkNote, "", "it is not used; the grants are in a file store (%v)", err)
	default:
		d.fail("keychain", err, "")
	}
}

// realSize is the size of a large refresh token: a JSON web token with claims.
const realSize = 2048

func roundTrip(ctx context.Context, k *keyring.Keyring) (size int, err error) {
	size = min(realSize, k.MaxValue())
	raw := make([]byte, size)
	_, _ = rand.Read(raw) // never fails
	const service = "apiauth.doctor"
	account := "probe-" + hex.EncodeToString(raw[:8])
	value := secret.New(base64.RawURLEncoding.EncodeToString(raw)[:size])
	defer func() {
		// Also when the write is said to have failed: it may have happened.
		gone := k.Delete(context.WithoutCancel(ctx), service, account)
		if err == nil && gone != nil {
			err = fmt.Errorf("the throw-away item could not be removed: %w", gone)
		}
	}()
	if err := k.Set(ctx, service, account, value); err != nil {
		return size, err
	}
	back, err := k.Get(ctx, service, account)
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return size, fmt.Errorf("it answered success and kept nothing: %w", keyring.ErrFailed)
	case err != nil:
		return size, err
	case !back.Equal(value):
		return size, fmt.Errorf("it gave back something else than it was given: %w", keyring.ErrFailed)
	}
	return size, nil
}

// lock proves that locks exclude each other where the store lies: on some
// network file systems they do not.
func (d *doctor) lock(ctx context.Context, s *store.Store) {
	var raw [6]byte
	_, _ = rand.Read(raw[:])
	key := connection.Key{Project: "doctor", Name: "probe-" + hex.EncodeToString(raw[:])}
	dir := filepath.Join(s.Dir(), key.Project)
	defer func() {
		_ = os.Remove(filepath.Join(dir, key.Name+".lock"))
		_ = os.Remove(dir) // stays when another doctor is at work
	}()
	first, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		d.fail("lock", err, "")
		return
	}
	second, err := s.Lock(ctx, key, 0)
	if err == nil {
		second.Unlock()
		first.Unlock()
		d.add("lock", checkFail, "move the state folder to a local disk with APIAUTH_STATE_DIR", "locks do not exclude each other in %s", s.Dir())
		return
	}
	first.Unlock()
	var held *connection.LockedError
	if !errors.As(err, &held) {
		d.fail("lock", err, "")
		return
	}
	third, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		d.fail("lock", err, "")
		return
	}
	third.Unlock()
	if kind, remote := s.FileSystem(); remote {
		d.add("lock", checkNote, "use it from one machine at a time, or name a local folder with APIAUTH_STATE_DIR",
			"%s store %s: one at a time on this machine; it lies on a network file system (%s), where that may not hold on another", s.Kind(), s.ID(), oauth.Clean(kind))
		return
	}
	d.ok("lock", "%s store %s: one at a time", s.Kind(), s.ID())
}

// leftovers looks for what interrupted commands left behind.
func (d *doctor) leftovers(ctx context.Context, s *store.Store) {
	if n := s.Tombstones(); n > 0 {
		what := plural(n, "disconnected connection") + " may still have keychain items"
		swept := 0
		err := error(nil)
		if d.opts.Fix {
			swept, err = s.Sweep(ctx)
		}
		switch {
		case err != nil:
			d.fail("leftovers", fmt.Errorf("%s: %w", what, err), "")
		case swept == n:
			d.add("leftovers", checkFixed, "", "removed the keychain items of %s", plural(n, "disconnected connection"))
		default:
			d.add("leftovers", checkFail, "'apiauth doctor --fix'", "%s", what)
		}
	}
	old := d.temporaries(s)
	if len(old) == 0 {
		return
	}
	if !d.opts.Fix {
		d.add("leftovers", checkNote, "'apiauth doctor --fix' removes them", "%s of interrupted commands", plural(len(old), "temporary file"))
		return
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.fail("leftovers", err, "")
			return
		}
	}
	d.add("leftovers", checkFixed, "", "removed %s of interrupted commands", plural(len(old), "temporary file"))
}

// temporaries are temporary files that no running command still needs: they are
// older than any command takes to write one.
func (d *doctor) temporaries(s *store.Store) []string {
	var old []string
	for _, pattern := range []string{filepath.Join(s.Dir(), ".*.tmp"), filepath.Join(s.Dir(), "*", ".*.tmp")} {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && d.g.app.Now().Sub(info.ModTime()) > time.Hour {
				old = append(old, path)
			}
		}
	}
	return old
}

// connections looks at those of this project. Only with --live it uses them.
func (d *doctor) connections(ctx context.Context) {
	if d.ws.unbound != nil {
		return
	}
	s, err := d.ws.store()
	if errors.Is(err, errNoStore) {
		d.ok("connections", "none yet")
		return
	}
	if err != nil {
		d.fail("connections", err, "")
		return
	}
	names, err := s.Names(d.ws.projectID)
	if err != nil {
		d.fail("connections", err, "")
		return
	}
	if len(names) == 0 {
		d.ok("connections", "none yet")
	}
	for _, name := range names {
		d.connection(ctx, s, name)
	}
}

func (d *doctor) connection(ctx context.Context, s *store.Store, name string) {
	key := connection.Key{Project: d.ws.projectID, Name: name}
	h, err := s.Header(key)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	if h.Keychain == connection.KeychainSuspended {
		d.suspended(ctx, s, name)
	}
	// Its seal is opened: that takes the key and finds damage.
	if _, err := s.Read(ctx, key); err != nil && !errors.Is(err, connection.ErrNotStored) {
		d.fail(name, err, "")
		return
	}
	if err := holdsGrant(ctx, s, key, h); err != nil {
		d.fail(name, err, "")
		return
	}
	now := d.g.app.Now()
	again := fmt.Sprintf("'apiauth connect %s'", name)
	if ends := d.ws.certificateEnds(s, h); !ends.IsZero() && ends.Sub(now) < certificateSoon {
		remedy := fmt.Sprintf("'apiauth client set %s --client-id %s --client-certificate FILE --client-key FILE'", oauth.Clean(h.Provider), oauth.Clean(h.Pins.ClientID))
		if now.After(ends) {
			d.add(name, checkFail, remedy, "the client's certificate ended %s", ends.Format(time.DateOnly))
			return
		}
		d.add(name, checkNote, remedy, "the client's certificate ends %s", ends.Format(time.DateOnly))
	}
	switch {
	case h.State == connection.StateNeedsConnect:
		d.add(name, checkFail, again, "access must be granted again: %s", cmp.Or(h.StateReason, "the issuer no longer accepts the grant"))
		return
	case !h.GrantDeadline.IsZero() && now.After(h.GrantDeadline):
		d.add(name, checkFail, again, "the consent ended %s", h.GrantDeadline.Format(time.DateOnly))
		return
	case !h.RefreshDeadline.IsZero() && now.After(h.RefreshDeadline):
		d.add(name, checkFail, again, "the refresh token was not used until %s and has ended", h.RefreshDeadline.Format(time.DateOnly))
		return
	case s.Pending(key):
		d.add(name, checkNote, fmt.Sprintf("'apiauth token %s' completes it", name), "a refresh was interrupted")
	case !h.GrantDeadline.IsZero() && h.GrantDeadline.Sub(now) < 14*24*time.Hour:
		d.add(name, checkNote, again, "the consent ends %s", h.GrantDeadline.Format(time.DateOnly))
	}
	if d.opts.Live {
		d.live(ctx, s, name, h)
		return
	}
	d.ok(name, "%s, %s", h.Provider, describeExpiry(h, now))
}

// holdsGrant proves that the keychain still has the refresh token of a record
// that relies on it. A connection that is at work now is left alone.
func holdsGrant(ctx context.Context, s *store.Store, key connection.Key, h *connection.Header) error {
	if !h.HasRefresh || h.Keychain != connection.KeychainConfirmed {
		return nil
	}
	guard, err := s.Lock(ctx, key, 0)
	if err != nil {
		var held *connection.LockedError
		if errors.As(err, &held) {
			return nil
		}
		return err
	}
	defer guard.Unlock()
	grant, err := guard.Grant(ctx)
	switch {
	case errors.Is(err, connection.ErrNotStored):
		return fmt.Errorf("the keychain no longer holds its refresh token: %w", connection.ErrNeedsConnect)
	case err != nil:
		return err
	case grant.Generation < h.GrantGeneration:
		return fmt.Errorf("the keychain holds an older refresh token than the record knows of: %w", connection.ErrNeedsConnect)
	}
	return nil
}

func (d *doctor) suspended(ctx context.Context, s *store.Store, name string) {
	if !d.opts.Fix {
		d.add(name, checkFail, "'apiauth doctor --fix' tries again", "the keychain did not take its refresh token; a sealed copy is in the record, nothing was lost")
		return
	}
	src, err := d.ws.source(s)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	repaired, err := src.Repair(ctx, name)
	switch {
	case err != nil:
		d.fail(name, err, "")
	case repaired:
		d.add(name, checkFixed, "", "the keychain holds its refresh token again")
	default:
		d.add(name, checkFail, "see what is said of the keychain above", "the keychain still does not take its refresh token; nothing was lost")
	}
}

// live asks for a new token. What cannot be renewed is only read.
func (d *doctor) live(ctx context.Context, s *store.Store, name string, h *connection.Header) {
	src, err := d.ws.source(s)
	if err != nil {
		d.fail(name, err, "")
		return
	}
	access, err := src.Token(ctx, name, connection.Option{Refresh: h.CanRenew()})
	if err != nil {
		d.fail(name, err, "")
		return
	}
	did := "gave a stored token; only the API can tell whether it is accepted"
	if access.Refreshed {
		did = "gave a new token"
	}
	d.ok(name, "%s %s, %s", h.Provider, did, describeExpiry(&access.Header, d.g.app.Now()))
}

// clock compares the clock with what the issuers' answers said, which costs no
// request.
func (d *doctor) clock() {
	now := d.g.app.Now()
	var newest *connection.Header
	_ = d.ws.eachHeader(func(_ *store.Store, _ connection.Key, h *connection.Header, _ error) {
		if h != nil && !h.IssuerDate.IsZero() && (newest == nil || h.ReceivedAt.After(newest.ReceivedAt)) {
			newest = h
		}
	})
	switch {
	case now.Year() < 2026:
		d.add("clock", checkFail, "set the clock", "it says %s", now.UTC().Format(time.RFC3339))
	case newest == nil:
		d.ok("clock", "%s; no issuer's answer to compare it with", now.UTC().Format(time.RFC3339))
	case newest.ReceivedAt.Sub(now) > 5*time.Minute:
		d.add("clock", checkFail, "set the clock", "it says %s, and said %s before", now.UTC().Format(time.RFC3339), newest.ReceivedAt.UTC().Format(time.RFC3339))
	default:
		off := newest.ReceivedAt.Sub(newest.IssuerDate)
		if off.Abs() > 5*time.Minute {
			d.add("clock", checkFail, "set the clock", "it differs by %s from that of %s", off.Abs().Round(time.Second), newest.Provider)
			return
		}
		d.ok("clock", "within %s of %s", max(off.Abs().Round(time.Second), time.Second), newest.Provider)
	}
}

// ports proves that a login could listen: on any port, and on those that were
// registered.
func (d *doctor) ports(ctx context.Context) {
	l, err := loopback.Listen(ctx, loopback.Options{})
	if err != nil {
		d.fail("port", err, "let apiauth listen on 127.0.0.1, or use --flow device")
		return
	}
	_ = l.Close()
	fixed := map[int][]string{}
	_ = d.ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		for _, r := range registrations {
			redirect := r.RedirectURI
			if redirect == "" {
				if def, err := d.ws.catalogue.Get(r.Provider); err == nil && def.AuthorizationEndpoint != "" {
					redirect = def.DefaultRedirect()
				}
			}
			if port := fixedPort(redirect); port > 0 && !slices.Contains(fixed[port], r.Provider) {
				fixed[port] = append(fixed[port], r.Provider)
			}
		}
		return err
	})
	bad := false
	for port, names := range fixed {
		l, err := loopback.Listen(ctx, loopback.Options{Port: port})
		if err != nil {
			bad = true
			d.fail("port", fmt.Errorf("%w; it is registered for %s", err, strings.Join(names, ", ")), "")
			continue
		}
		_ = l.Close()
	}
	if !bad {
		text := "a login can listen on 127.0.0.1"
		if len(fixed) > 0 {
			text += "; " + plural(len(fixed), "registered port") + " free"
		}
		d.ok("port", "%s", text)
	}
}

// fixedPort is the port of a loopback redirect, 0 for none or any.
func fixedPort(redirect string) int {
	u, err := url.Parse(strings.Replace(redirect, ":*/", "/", 1))
	if err != nil || u.Scheme != "http" {
		return 0
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		return 0
	}
	return n
}

func (d *doctor) browser() {
	o := flow.Opener{Env: d.g.app.env, GOOS: d.g.app.GOOS}
	if d.ws.manifest != nil {
		o.ProjectDir = d.ws.manifest.Dir()
	}
	commands := o.Commands("https://example.com/")
	remedy := "set BROWSER to one; or log in with --flow device, or by opening the printed link anywhere and pasting the final address"
	switch {
	case len(commands) > 0:
		d.ok("browser", "%s", commands[0][0])
	case d.g.app.GOOS == "windows" && d.g.app.SystemBrowser != nil:
		d.ok("browser", "the system's own")
	case d.g.app.env("BROWSER") != "":
		d.add("browser", checkNote, remedy, "none of the programs that BROWSER names (%s) was found", oauth.Clean(d.g.app.env("BROWSER")))
	default:
		d.add("browser", checkNote, remedy, "none was found")
	}
}
