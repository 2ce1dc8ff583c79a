package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// workspace is what one command works in: the folders, the project, its store.
// Nothing in it is opened before it is needed.
type workspace struct {
	app       *App
	cfg       config.Config
	dirs      config.Dirs
	dir       string // where the command acts: -C or the working directory
	catalogue *providers.Catalogue
	registry  *project.Registry
	manifest  *project.Manifest // nil in the personal project
	projectID string            // empty when the manifest's folder is not bound
	unbound   error             // why it is not

	keychain *keyring.Keyring
	http     *oauth.HTTP
	opened   *store.Store
	unsealed *bundle.Bundle // from APIAUTH_BUNDLE, once opened
	memory   *bundle.Store  // client credentials from variables
	trace    *trace         // with --debug

	purpose string    // the command, for the audit log
	unheard sync.Once // that the audit log cannot be written
}

// workspace finds the project that the command runs in. An unbound folder is
// no error yet: connect and project know what to do with one.
func (g *globals) workspace() (*workspace, error) {
	ws, err := g.homeless()
	if err != nil {
		return nil, err
	}
	if g.cfg.Personal {
		ws.projectID = project.Personal
		return ws, nil
	}
	path, found, err := project.Find(ws.dir, g.app.Home)
	if err != nil {
		return nil, err
	}
	if !found {
		ws.projectID = project.Personal
		return ws, nil
	}
	if ws.manifest, err = project.LoadManifest(path, providers.CheckEnvName); err != nil {
		return nil, err
	}
	binding, err := ws.registry.Resolve(ws.manifest.Dir())
	var unbound *project.UnboundError
	switch {
	case errors.As(err, &unbound):
		ws.unbound = err
	case err != nil:
		return nil, err
	default:
		ws.projectID = binding.ID
	}
	return ws, nil
}

// homeless is a workspace without a project, for commands that need none.
func (g *globals) homeless() (*workspace, error) {
	if g.chdir != "" {
		if st, err := os.Stat(g.dir()); err != nil || !st.IsDir() {
			return nil, failf(exitUsage, "give -C a folder that is there", "there is no folder %s", oauth.Clean(g.chdir))
		}
	}
	dirs, err := config.Paths(g.app.Env, g.app.GOOS, g.app.Home)
	if err != nil {
		return nil, err
	}
	return &workspace{
		app:       g.app,
		cfg:       g.cfg,
		dirs:      dirs,
		dir:       g.dir(),
		catalogue: providers.Open(dirs.Providers),
		registry:  project.Open(dirs.State),
		keychain:  g.keychain,
		purpose:   g.command,
	}, nil
}

// bound returns the project's id, or why there is none.
func (ws *workspace) bound() (string, error) {
	if ws.unbound != nil {
		return "", ws.unbound
	}
	return ws.projectID, nil
}

// label is what the project is called in front of people.
func (ws *workspace) label() string {
	switch {
	case ws.manifest == nil:
		return "the personal project"
	case ws.manifest.Project != "":
		return "project " + oauth.Clean(ws.manifest.Project)
	}
	return "the project in " + ws.manifest.Dir()
}

// storesDir is the folder of all stores.
func (ws *workspace) storesDir() string { return filepath.Join(ws.dirs.State, "stores") }

func (ws *workspace) keyring() *keyring.Keyring {
	if ws.keychain == nil {
		ws.keychain = keyring.New(keyring.Options{
			Interactive: ws.app.StdinTTY && ws.app.StderrTTY && !ws.cfg.NoInput && !ws.app.inCI(),
			Backend:     ws.app.Keychain,
			Env:         ws.app.env,
			GOOS:        ws.app.GOOS,
		})
	}
	return ws.keychain
}

func (ws *workspace) storeOptions() store.Options {
	var keychain store.Keychain = ws.keyring()
	if t := ws.debug(); t != nil {
		keychain = tracedKeychain{keychain, t}
	}
	return store.Options{
		Dir:        ws.storesDir(),
		Keychain:   keychain,
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
		Key:        func() (secret.Text, error) { return ws.secretVariable("APIAUTH_STORE_KEY") },
		Passphrase: ws.passphrase,
		Warn:       ws.warn,
		Rand:       ws.app.Rand,
		Now:        ws.app.Now,
	}
}

// errNoStore says that the project has stored nothing yet.
var errNoStore = errors.New("nothing is stored yet")

// store opens the project's store. It returns errNoStore when the project has
// none yet.
func (ws *workspace) store() (*store.Store, error) {
	if ws.opened != nil {
		return ws.opened, nil
	}
	id, err := ws.bound()
	if err != nil {
		return nil, err
	}
	recorded, err := ws.recordedStore(id)
	if err != nil {
		return nil, err
	}
	if recorded == "" {
		return nil, errNoStore
	}
	s, err := store.Open(ws.storeOptions(), recorded)
	if errors.Is(err, connection.ErrNotStored) {
		return nil, failf(exitStore, "'apiauth doctor' tells more", "the store %s of %s is missing below %s", recorded, ws.label(), ws.storesDir())
	}
	if err != nil {
		return nil, err
	}
	if wanted := ws.cfg.Store; wanted != "" && explicitStore(ws.cfg.StoreFrom) && wanted != s.Kind() {
		return nil, failf(exitUsage, fmt.Sprintf("'apiauth store move %s' moves its connections", wanted),
			"%s keeps its connections in the %s store, not in the %s store", ws.label(), s.Kind(), wanted)
	}
	ws.opened = s
	return s, nil
}

// explicitStore tells a choice for this call from the default that config.yaml
// holds for new projects.
func explicitStore(from string) bool { return from == "--store" || from == "APIAUTH_STORE" }

// recordedStore returns the id of the store that the project was given at its
// first connect, or nothing.
func (ws *workspace) recordedStore(projectID string) (string, error) {
	b, err := ws.registry.Get(projectID)
	var unknown *project.UnknownProjectError
	if errors.As(err, &unknown) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return b.Store, nil
}

// kind is the store that a project gets at its first connect.
func (ws *workspace) kind() string {
	if ws.cfg.Store != "" {
		return ws.cfg.Store
	}
	return store.KindKeychain
}

// knownStore is the store that storeOrNew would return, without making one: nil
// when there is none yet.
func (ws *workspace) knownStore() (*store.Store, error) {
	if ws.unbound == nil {
		s, err := ws.store()
		if !errors.Is(err, errNoStore) {
			return s, err
		}
	}
	id, err := store.Find(ws.storeOptions(), ws.kind())
	if errors.Is(err, connection.ErrNotStored) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return store.Open(ws.storeOptions(), id)
}

// storeOrNew is store that makes one of the chosen kind for a project's first
// connect.
func (ws *workspace) storeOrNew(ctx context.Context) (*store.Store, error) {
	s, err := ws.store()
	if !errors.Is(err, errNoStore) {
		return s, err
	}
	if err := ws.probeKeychain(ctx); err != nil {
		return nil, err
	}
	s, err = store.Create(ctx, ws.storeOptions(), ws.kind())
	if err != nil {
		return nil, err
	}
	ws.opened = s
	return s, nil
}

// probeKeychain asks the keychain for an item that is not there, before the
// first keychain store is made: a machine without one is left as it was.
func (ws *workspace) probeKeychain(ctx context.Context) error {
	if ws.kind() != store.KindKeychain {
		return nil
	}
	if _, err := store.Find(ws.storeOptions(), store.KindKeychain); !errors.Is(err, connection.ErrNotStored) {
		return err
	}
	_, err := ws.keyring().Get(ctx, "apiauth", "probe")
	if errors.Is(err, keyring.ErrNotFound) {
		return nil
	}
	return err
}

// source hands out tokens of the project's connections.
func (ws *workspace) source(s *store.Store) (*connection.Source, error) {
	id, err := ws.bound()
	if err != nil {
		return nil, err
	}
	return ws.sourceOver(caught{s, ws.app.catch}, id)
}

// sourceOf is source for the connections of any project.
func (ws *workspace) sourceOf(s *store.Store, id string) (*connection.Source, error) {
	return ws.sourceOver(caught{s, ws.app.catch}, id)
}

// sourceOver hands out tokens of a project's connections in any store.
func (ws *workspace) sourceOver(s connection.Store, id string) (*connection.Source, error) {
	client, err := ws.issuer()
	if err != nil {
		return nil, err
	}
	var run [8]byte
	if _, err := io.ReadFull(rand.Reader, run[:]); err != nil {
		return nil, err
	}
	src := &connection.Source{
		Store:       s,
		Project:     id,
		Issuer:      client,
		Definitions: ws.catalogue,
		Run:         hex.EncodeToString(run[:]),
		PID:         ws.app.PID,
		Now:         ws.app.Now,
		Sleep:       ws.app.Sleep,
		Warn:        ws.warn,
	}
	src.ClientSecret = func(ctx context.Context, h *connection.Header) (secret.Text, error) {
		if h.Flow == connection.FlowJWTBearer {
			return connection.StoredSecret(ctx, s, id, h) // the variable holds the secret of another client
		}
		t, err := ws.variableSecret(&h.Pins)
		if err != nil || !t.IsZero() {
			return t, err
		}
		return connection.StoredSecret(ctx, s, id, h)
	}
	src.NextSecret = func(ctx context.Context, h *connection.Header) (secret.Text, error) {
		if t, err := ws.variableSecret(&h.Pins); err != nil || !t.IsZero() {
			return secret.Text{}, err // a variable holds the only one that counts
		}
		return connection.StoredNext(ctx, s, id, h)
	}
	ws.traced(src, client)
	return src, nil
}

// caught is a store that a signal does not cut off from the first lock on: what
// is sent then has to be received and stored.
type caught struct {
	*store.Store
	catch func()
}

func (c caught) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	c.catch()
	return c.Store.Lock(ctx, key, wait)
}

// issuer is the HTTP client for authorization servers.
func (ws *workspace) issuer() (*oauth.HTTP, error) {
	if ws.http == nil {
		client, err := oauth.NewHTTP(oauth.Options{
			CAFile:    ws.cfg.CAFile,
			UserAgent: "apiauth/" + ws.app.Version.Number,
			Now:       ws.app.Now,
		})
		if err != nil {
			return nil, err
		}
		ws.http = client
	}
	return ws.http, nil
}

// warn tells a person what is odd but no failure.
func (ws *workspace) warn(format string, a ...any) {
	writeWrapped(ws.app.Stderr, "apiauth: note: ", fmt.Sprintf(format, a...))
}

// say prints a line for people, unless --quiet.
func (ws *workspace) say(format string, a ...any) {
	if !ws.cfg.Quiet {
		fmt.Fprintf(ws.app.Stderr, format+"\n", a...)
	}
}

// show prints a line that a person has to see before agreeing to anything, with
// --quiet, too.
func (ws *workspace) show(format string, a ...any) {
	fmt.Fprintf(ws.app.Stderr, format+"\n", a...)
}

// secretVariable reads a credential from NAME or from the file that NAME_FILE
// names.
func (ws *workspace) secretVariable(name string) (secret.Text, error) {
	t, _, err := config.Secret(ws.app.Env, name)
	if err != nil {
		return secret.Text{}, failf(exitUsage, "'apiauth help environment' lists the variables", "%w", err)
	}
	return t, nil
}

// passphrase asks for the passphrase of a file store, in the environment first.
func (ws *workspace) passphrase(ctx context.Context, create bool) (secret.Text, error) {
	t, err := ws.secretVariable("APIAUTH_STORE_PASSPHRASE")
	if err != nil || !t.IsZero() {
		return t, err
	}
	if !ws.person() {
		return secret.Text{}, nil
	}
	if !create {
		return askHidden(ctx, ws.app, "Passphrase of the file store", "")
	}
	return ws.newPassphrase(ctx)
}

// newPassphrase asks a person to choose the passphrase of a file store.
func (ws *workspace) newPassphrase(ctx context.Context) (secret.Text, error) {
	first, err := askHidden(ctx, ws.app, "New passphrase for the file store", "at least 8 characters; without it the grants are lost")
	if err != nil {
		return secret.Text{}, err
	}
	if first.Len() < 8 {
		return secret.Text{}, failf(exitUsage, "", "the passphrase has fewer than 8 characters")
	}
	again, err := askHidden(ctx, ws.app, "The same once more", "")
	if err != nil {
		return secret.Text{}, err
	}
	if !again.Equal(first) {
		return secret.Text{}, failf(exitUsage, "", "the two passphrases differ")
	}
	return first, nil
}

// person reports whether somebody is there to answer questions.
func (ws *workspace) person() bool {
	return ws.app.StdinTTY && ws.app.StderrTTY && !ws.cfg.NoInput && !ws.app.inCI()
}

// variableName is the part of APIAUTH_CLIENT_SECRET_<ID> that names a provider.
func variableName(provider string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, provider)
}

// variableSecret reads a client secret from the environment, as CI systems hand
// it over. Outside the catalogue it must be said which issuer it is for.
func (ws *workspace) variableSecret(p *providers.Pins) (secret.Text, error) {
	id := variableName(p.Provider)
	t, err := ws.secretVariable("APIAUTH_CLIENT_SECRET_" + id)
	if err != nil || t.IsZero() {
		return t, err
	}
	if wanted := ws.app.env("APIAUTH_CLIENT_ID_" + id); wanted != "" && wanted != p.ClientID {
		return secret.Text{}, nil
	}
	if ws.builtIn(p.Provider) {
		return t, nil
	}
	issuer := ws.app.env("APIAUTH_CLIENT_ISSUER_" + id)
	if issuer == "" {
		return secret.Text{}, failf(exitUsage, fmt.Sprintf("set APIAUTH_CLIENT_ISSUER_%s to its issuer or token endpoint", id),
			"APIAUTH_CLIENT_SECRET_%s is set, but %s is not in the catalogue, so it must be said where the secret may go", id, p.Provider)
	}
	if issuer != p.Issuer && issuer != p.TokenEndpoint {
		return secret.Text{}, failf(exitRefused, "", "APIAUTH_CLIENT_ISSUER_%s names %s, but the connection was made with %s", id, oauth.Clean(issuer), p.TokenEndpoint)
	}
	return t, nil
}

// builtIn reports whether a provider is a catalogue entry that no file of the
// user replaces.
func (ws *workspace) builtIn(id string) bool {
	def, err := ws.catalogue.Get(id)
	return err == nil && def.Origin == providers.BuiltIn
}
