package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

type providerAddOptions struct {
	From     string
	ID       string
	ClientID string
	Replace  bool
	Insecure bool
	Yes      bool
}

func newProviderAddCmd(g *globals) *cobra.Command {
	var opts providerAddOptions
	cmd := &cobra.Command{
		Use:   "add FILE|ISSUER_URL",
		Short: "Add a definition of your own",
		Long: `Add a provider definition to your own: from a file, or from what an issuer
publishes about itself (RFC 8414, OpenID Connect discovery). The hosts that
would receive credentials are shown first.

With --replace a definition stands in for a catalogue entry, or for an earlier
one of yours. It starts without the client that was stored for that id, and
connections that were made before ask for approval at their next connect.`,
		Example: `  apiauth provider add https://keycloak.example.com/realms/main --id company
  apiauth provider add ./intranet.yaml
  apiauth provider add http://127.0.0.1:8080 --id local --insecure-loopback`,
		Args: args(between(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.From = args[0]
			return runProviderAdd(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.ID, "id", "", "the provider's `ID` (default: the file's, or made from the URL)")
	f.StringVar(&opts.ClientID, "client-id", "", "write the public client `ID` into the definition")
	f.BoolVar(&opts.Replace, "replace", false, "stand in for the definition that has this id")
	f.BoolVar(&opts.Insecure, "insecure-loopback", false, "allow http to an issuer on this machine")
	f.BoolVarP(&opts.Yes, "yes", "y", false, "do not ask")
	return cmd
}

func runProviderAdd(ctx context.Context, g *globals, opts providerAddOptions) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	p, doc, err := ws.newDefinition(ctx, opts)
	if err != nil {
		return err
	}
	path := filepath.Join(ws.dirs.Providers, p.ID+".yaml")
	existing, err := ws.replacing(p, path, opts)
	if err != nil {
		return err
	}
	if p.Replaces != existing.builtIn {
		p.Replaces, doc = existing.builtIn, nil
	}
	if doc == nil {
		if doc, err = p.Marshal(); err != nil {
			return err
		}
	}
	// What is written is what was checked, and nothing else.
	checked, err := providers.Parse(path, doc, providers.User)
	if err != nil {
		return failf(exitUsage, "correct the definition, or give another --id", "%w", err)
	}
	ws.showHosts(checked, path, existing)
	question := "Add " + checked.ID + "?"
	if existing.any() {
		question = "Replace " + checked.ID + "?"
	}
	if err := ws.agree(ctx, question, opts.Yes); err != nil {
		return err
	}
	if existing.any() {
		// Before the new definition is there, so that the secret never meets it.
		if err := ws.dropClients(ctx, checked.ID); err != nil {
			return err
		}
	}
	if err := writeDefinition(path, doc); err != nil {
		return failf(exitStore, "'apiauth paths' shows where everything lies", "write the definition: %w", err)
	}
	if existing.any() {
		ws.notePinned(checked.ID)
	}
	if findings := providers.Lint(checked); len(findings) > 0 && !strings.Contains(opts.From, "://") {
		ws.say("%s could be better: 'apiauth provider check %s' lists them.", plural(len(findings), "thing"), path)
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, describeProvider(&providers.Definition{Provider: checked, Origin: providers.User, Path: path, ReplacesEntry: checked.Replaces}))
	}
	ws.say("Added %s as %s. Next: 'apiauth provider show %s', 'apiauth connect %s'.", checked.ID, path, checked.ID, checked.ID)
	return nil
}

// newDefinition reads the definition to be added. doc is its text when the file
// can be taken as it is.
func (ws *workspace) newDefinition(ctx context.Context, opts providerAddOptions) (p *providers.Provider, doc []byte, err error) {
	if strings.Contains(opts.From, "://") {
		p, err = ws.discoveredDefinition(ctx, opts)
	} else {
		if doc, err = ws.readDefinition(opts.From); err != nil {
			return nil, nil, err
		}
		p, err = providers.Parse(opts.From, doc, providers.User)
	}
	if err != nil {
		return nil, nil, err
	}
	changed := opts.ID != "" && opts.ID != p.ID || opts.ClientID != "" && opts.ClientID != p.ClientID ||
		opts.Insecure && !p.AllowInsecureLoopback
	if !changed {
		return p, doc, nil
	}
	p.ID = cmp.Or(opts.ID, p.ID)
	p.ClientID = cmp.Or(opts.ClientID, p.ClientID)
	p.AllowInsecureLoopback = p.AllowInsecureLoopback || opts.Insecure
	return p, nil, nil
}

func (ws *workspace) discoveredDefinition(ctx context.Context, opts providerAddOptions) (*providers.Provider, error) {
	if strings.HasPrefix(opts.From, "http://") && !opts.Insecure {
		return nil, failf(exitUsage, "use https, or --insecure-loopback for an issuer on this machine", "%s is not https", oauth.Clean(opts.From))
	}
	m, err := ws.discover(ctx, opts.From, opts.Insecure)
	if err != nil {
		return nil, err
	}
	p, err := providers.FromMetadata(opts.From, m)
	if err != nil {
		return nil, err
	}
	if p.RedirectURI == "" && opts.ID != "" {
		p.RedirectURI = "http://127.0.0.1:*/callback/" + opts.ID
	}
	p.Sources = []providers.Source{{URL: opts.From, Checked: ws.app.Now().UTC().Format(time.DateOnly), For: []string{"endpoints"}}}
	if !strings.HasPrefix(opts.From, "https://") {
		p.Sources = nil
	}
	return p, nil
}

// readDefinition reads a file that a person named. It is read once and capped.
func (ws *workspace) readDefinition(path string) ([]byte, error) {
	at := path
	if !filepath.IsAbs(at) {
		at = filepath.Join(ws.dir, at)
	}
	info, err := os.Stat(at)
	if err != nil {
		return nil, failf(exitUsage, "give the path of a definition, or the https URL of an issuer", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, failf(exitUsage, "give the path of a definition, or the https URL of an issuer", "read %s: it is not a regular file", oauth.Clean(path))
	}
	f, err := os.Open(at)
	if err != nil {
		return nil, failf(exitUsage, "", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	defer func() { _ = f.Close() }() // only read
	doc, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	if err != nil {
		return nil, failf(exitUsage, "", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	return doc, nil
}

// pathReason is the reason of a file error without the path, which the message
// names already.
func pathReason(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// existing is what a new definition would stand in for.
type existing struct {
	builtIn bool // an entry of the catalogue
	own     bool // a file of the user
}

func (e existing) any() bool { return e.builtIn || e.own }

// replacing finds what has the id already, and refuses when nobody said that it
// is to be replaced.
func (ws *workspace) replacing(p *providers.Provider, path string, opts providerAddOptions) (existing, error) {
	var e existing
	if _, err := providers.Open("").Digest(p.ID); err == nil {
		e.builtIn = true
	}
	if _, err := os.Lstat(path); err == nil {
		e.own = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return e, failf(exitStore, "'apiauth paths' shows where everything lies", "look for %s: %w", path, pathReason(err))
	}
	switch {
	case opts.Replace || !e.any():
		return e, nil
	case e.own:
		return e, failf(exitUsage, "--replace puts the new one in its place, --id gives it another id", "%s is there already", path)
	}
	return e, failf(exitUsage, "--replace puts yours in its place, --id gives it another id", "%s is in the catalogue already", p.ID)
}

// showHosts tells a person where credentials would go.
func (ws *workspace) showHosts(p *providers.Provider, path string, e existing) {
	ws.show("%s (%s) names these hosts, which would receive logins and tokens:", oauth.Clean(p.Name), p.ID)
	hosts := endpointHosts(p)
	if p.NeedsDiscovery() {
		if h, err := providers.URLHost(p.Issuer); err == nil {
			hosts = append(hosts, h+" (and what it publishes)")
		}
	}
	for _, h := range hosts {
		ws.show("  %s", oauth.Clean(h))
	}
	if p.AllowInsecureLoopback {
		ws.show("It may speak http to this machine.")
	}
	switch {
	case e.own:
		ws.show("It takes the place of %s.", path)
	case e.builtIn:
		ws.show("It takes the place of the catalogue's entry.")
	}
}

// dropClients removes the stored clients of a provider from every store.
func (ws *workspace) dropClients(ctx context.Context, id string) error {
	return ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		if err != nil {
			return err
		}
		for _, r := range registrations {
			if r.Provider != id {
				continue
			}
			if err := s.RemoveClient(ctx, r.Provider, r.Project); err != nil && !errors.Is(err, connection.ErrNotStored) {
				return fmt.Errorf("remove the client that was stored for %s: %w", id, err)
			}
			ws.say("Removed client %s, which was stored for the earlier definition.", oauth.Clean(r.ClientID))
		}
		return nil
	})
}

// notePinned counts the connections that were made with an earlier definition.
func (ws *workspace) notePinned(id string) {
	n := 0
	_ = ws.eachHeader(func(_ *store.Store, _ connection.Key, h *connection.Header, _ error) {
		if h != nil && h.Provider == id {
			n++
		}
	})
	if n > 0 {
		ws.say("%s made with the earlier definition will ask for 'apiauth connect' where the two differ.", plural(n, "connection"))
	}
}

// eachHeader calls do for every connection of the user, in all stores and
// projects. h is nil when its record cannot be read.
func (ws *workspace) eachHeader(do func(s *store.Store, key connection.Key, h *connection.Header, err error)) error {
	return ws.eachStore(func(s *store.Store) error {
		projects, err := s.Projects()
		if err != nil {
			return err
		}
		for _, id := range projects {
			names, err := s.Names(id)
			if err != nil {
				return err
			}
			for _, name := range names {
				key := connection.Key{Project: id, Name: name}
				h, err := s.Header(key)
				do(s, key, h, err)
			}
		}
		return nil
	})
}

// writeDefinition writes a file that appears whole or not at all.
func writeDefinition(path string, doc []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(doc); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
