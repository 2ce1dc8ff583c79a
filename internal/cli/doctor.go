package cli

import (
	"context"
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

// realSize is the size of a large refresh token: a JSON web token with claims.
const realSize = 2048

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
