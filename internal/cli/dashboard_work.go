package cli

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/dashboard"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// dashboardWork is what the dashboard shows and does. Each request has a
// workspace of its own, so that it sees what other processes have changed, and
// what changes something runs the command that does it at a terminal.
type dashboardWork struct {
	ctx    context.Context //nolint:containedctx // of the command: a login goes on when its request has ended
	g      *globals
	ws     *workspace // of the start
	logins sync.WaitGroup

	mu   sync.Mutex
	list []*pageLogin // the newest first
}

// globals is the command line of one request: the same project, nothing to ask
// at a terminal, and stderr taken down.
func (d *dashboardWork) globals(said io.Writer, input string) *globals {
	app, g := *d.g.app, *d.g
	app.Stdin, app.Stdout, app.Stderr = strings.NewReader(input), io.Discard, said
	app.StdinTTY, app.StdoutTTY, app.StderrTTY, app.Terminal = false, false, false, nil
	g.app = &app
	g.cfg.JSON, g.cfg.Quiet = false, false
	g.keychain = d.keyring()
	return &g
}

// keyring is the one keychain of all requests. It may ask the person to unlock.
func (d *dashboardWork) keyring() *keyring.Keyring {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ws.keyring()
}

func (d *dashboardWork) workspace() (*workspace, error) { return d.globals(io.Discard, "").workspace() }

// pageError is an error in the words that a terminal shows.
func pageError(err error) error {
	if err == nil {
		return nil
	}
	text := oauthCleanLong(err.Error())
	if _, hint := explain(err); hint != "" {
		text += "\n" + oauthCleanLong(hint)
	}
	return errors.New(text)
}

// Projects lists all projects of the user, this one first.
func (d *dashboardWork) Projects(context.Context) ([]dashboard.Project, error) {
	ws, err := d.workspace()
	if err != nil {
		return nil, pageError(err)
	}
	infos, err := ws.projects(true)
	if err != nil {
		return nil, pageError(err)
	}
	list := []dashboard.Project{{ID: ws.projectID, Label: upperFirst(ws.label()), Current: true}}
	if ws.manifest != nil {
		list[0].Folders = []string{oauth.Clean(ws.manifest.Dir())}
	}
	for _, p := range infos {
		if p.ID == ws.projectID {
			continue
		}
		label := oauth.Clean(p.Label)
		if p.ID == project.Personal {
			label = "The personal project"
		}
		shown := dashboard.Project{ID: p.ID, Label: label}
		for _, f := range p.Folders {
			shown.Folders = append(shown.Folders, oauth.Clean(f))
		}
		list = append(list, shown)
	}
	return list, nil
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Connections lists what is stored in a project, and what is needed in this one.
func (d *dashboardWork) Connections(_ context.Context, id string) ([]dashboard.Connection, error) {
	ws, err := d.workspace()
	if err != nil {
		return nil, pageError(err)
	}
	if id != ws.projectID {
		if _, err := ws.registry.Get(id); err != nil {
			return nil, pageError(err)
		}
		ws.projectID, ws.manifest, ws.unbound, ws.opened = id, nil, nil, nil
	}
	var entries []statusEntry
	var s connection.Store
	if ws.unbound == nil {
		if entries, s, err = ws.entries(nil); err != nil {
			return nil, pageError(err)
		}
	} else if ws.manifest != nil {
		for _, c := range ws.manifest.Connections {
			entries = append(entries, statusEntry{Name: c.Name, Needed: c.Scopes, Required: true})
		}
	}
	list := make([]dashboard.Connection, 0, len(entries))
	for i := range entries {
		list = append(list, ws.pageConnection(s, &entries[i]))
	}
	return list, nil
}

func (ws *workspace) pageConnection(s connection.Store, e *statusEntry) dashboard.Connection {
	c := dashboard.Connection{Name: e.Name, State: dashboard.StateNotConnected}
	if ws.manifest != nil {
		wanted, _ := ws.manifest.Connection(e.Name)
		c.Provider = wanted.Provider
	}
	var asked, granted, refused []string
	switch h := e.Header; {
	case e.Problem != nil:
		c.State, c.Reason = dashboard.StateUnreadable, oauth.Clean(e.Problem.Error())
	case h != nil:
		c.State, c.Provider, c.Account = dashboard.StateOK, h.Provider, describeAccount(h.Account)
		if h.State == connection.StateNeedsConnect {
			c.State, c.Reason = dashboard.StateNeedsConnect, oauth.Clean(h.StateReason)
		}
		c.Key = h.Flow == connection.FlowKey
		c.ScopesKnown, c.Page = h.ScopesKnown, h.Pins.Revocation.Page
		c.Facts = pageFacts(s, h, ws.app.Now())
		asked = h.ScopesAsked
		if h.ScopesKnown {
			granted, refused = h.ScopesGranted, h.Missing(asked)
		}
	}
	c.ProviderName = oauth.Clean(c.Provider)
	broad := map[string]bool{}
	if def, err := ws.catalogue.Get(c.Provider); err == nil {
		c.ProviderName = oauth.Clean(def.Name)
		for _, scope := range def.Scopes.Catalog {
			broad[scope.Name] = scope.Broad
		}
		for _, scope := range def.Scopes.Required {
			if len(e.Needed) > 0 && !slices.Contains(e.Needed, scope) && slices.Contains(granted, scope) {
				e.Needed = append(slices.Clone(e.Needed), scope) // always asked for, so never too much
			}
		}
	}
	for _, name := range unique(slices.Concat(e.Needed, asked, granted)) {
		use := dashboard.ScopeUse{
			Name: oauth.Clean(name), Broad: broad[name],
			Asked: slices.Contains(asked, name), Granted: slices.Contains(granted, name), Needed: slices.Contains(e.Needed, name),
			Missing: slices.Contains(e.Missing, name) || c.State == dashboard.StateNotConnected,
			Refused: slices.Contains(refused, name),
		}
		use.Superfluous = use.Granted && len(e.Needed) > 0 && !use.Needed
		c.Scopes = append(c.Scopes, use)
	}
	return c
}

// pageFacts holds moments rather than what is left, so that a page changes only
// when something has.
func pageFacts(s connection.Store, h *connection.Header, now time.Time) []dashboard.Fact {
	moment := func(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }
	life := "no expiry known"
	if end := h.ExpiresAt(); !end.IsZero() {
		life = "until " + moment(end)
		if !end.After(now) {
			life = "ended on " + moment(end)
		}
		if h.CanRenew() {
			life += ", renewed when needed"
		} else {
			life += ", then a login"
		}
	}
	facts := []dashboard.Fact{{Label: "Token", Value: life}}
	day := func(label string, t time.Time) {
		if !t.IsZero() {
			facts = append(facts, dashboard.Fact{Label: label, Value: deadline(t, now)})
		}
	}
	if h.Flow == connection.FlowKey {
		day("Key", h.GrantDeadline)
	} else {
		day("Consent", h.GrantDeadline)
	}
	day("Refresh token", h.RefreshDeadline)
	facts = append(facts, dashboard.Fact{Label: "Connected", Value: moment(h.ConnectedAt) + " by " + h.Flow})
	if h.ReceivedAt.After(h.ConnectedAt) && h.Flow != connection.FlowKey {
		facts = append(facts, dashboard.Fact{Label: "Last refresh", Value: moment(h.ReceivedAt)})
	}
	return append(facts, dashboard.Fact{Label: "Store", Value: describeStore(s, h)})
}

// Providers lists those of the catalogue that mention a word.
func (d *dashboardWork) Providers(_ context.Context, word string) ([]dashboard.Provider, error) {
	ws, err := d.workspace()
	if err != nil {
		return nil, pageError(err)
	}
	defs, err := ws.catalogue.List()
	if len(defs) == 0 && err != nil {
		return nil, pageError(err)
	}
	clients := ws.clientIDs()
	var list []dashboard.Provider
	for _, def := range defs {
		if mentionsWord(def, word) {
			list = append(list, pageProvider(def, clients[def.ID]))
		}
	}
	return list, nil
}

// clientIDs are the stored clients that this project would use, by provider.
func (ws *workspace) clientIDs() map[string]string {
	ids := map[string]string{}
	_ = ws.eachStore(func(s *store.Store) error { // what cannot be read is shown by the page of clients
		registrations, err := s.Registrations()
		for _, r := range registrations {
			if r.Project == ws.projectID || r.Project == "" && ids[r.Provider] == "" {
				ids[r.Provider] = oauth.Clean(r.ClientID)
			}
		}
		return err
	})
	return ids
}

func pageProvider(def *providers.Definition, client string) dashboard.Provider {
	p := dashboard.Provider{
		ID: def.ID, Name: oauth.Clean(def.Name), Description: def.Description, Status: def.Status, StatusNote: def.StatusNote,
		Flows: def.Flows, Verified: def.Verified(), Own: def.Origin == providers.User,
		RegisterPage: registerPage(def.Provider, nil), RedirectURI: def.RegisterURI(""), Steps: def.Register.Steps,
		NoScopes: def.Scopes.Omit, ClientID: client,
		NoClient: slices.Equal(def.Flows, []string{flow.FlowKey}),
	}
	if p.ClientID == "" {
		p.ClientID = def.ClientID
	}
	for _, v := range def.Variables {
		if v.From == "" || v.From == providers.FromUser {
			p.Variables = append(p.Variables, dashboard.Variable{Name: v.Name, Title: v.Title, Default: v.Default, Values: v.Values})
		}
	}
	for _, s := range allScopes(def.Provider) {
		p.Scopes = append(p.Scopes, dashboard.Scope{
			Name: s.Name, Title: s.Title, Description: s.Description, Category: s.Category, Broad: s.Broad,
			Required: slices.Contains(def.Scopes.Required, s.Name), Default: slices.Contains(def.Scopes.Default, s.Name),
		})
	}
	return p
}

// Provider describes one of the catalogue. Of an issuer that is known by its
// address alone, nothing is asked here.
func (d *dashboardWork) Provider(_ context.Context, id string) (*dashboard.Provider, error) {
	ws, err := d.workspace()
	if err != nil {
		return nil, pageError(err)
	}
	client := ws.clientIDs()[id]
	if u, err := url.Parse(id); err == nil && u.Scheme == "https" && u.Host != "" {
		return &dashboard.Provider{ID: id, Name: oauth.Clean(id), Verified: true, ClientID: client}, nil
	}
	def, err := ws.catalogue.Get(id)
	if err != nil {
		return nil, pageError(err)
	}
	p := pageProvider(def, client)
	return &p, nil
}

// Clients lists the registrations of all projects and of this one.
func (d *dashboardWork) Clients(context.Context) ([]dashboard.Client, error) {
	ws, err := d.workspace()
	if err != nil {
		return nil, pageError(err)
	}
	var list []dashboard.Client
	err = ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		for _, r := range registrations {
			if r.Project != "" && r.Project != ws.projectID {
				continue
			}
			c := dashboard.Client{
				Provider: oauth.Clean(r.Provider), ID: oauth.Clean(r.ClientID), For: "all projects", RedirectURI: oauth.Clean(r.RedirectURI),
				Store: s.Kind(), Set: r.SetAt.Local().Format(time.DateOnly), HasSecret: r.HasSecret,
			}
			if r.Project != "" {
				c.For = "this project"
			}
			if c.RedirectURI == "" {
				c.RedirectURI = "the provider's default"
			}
			list = append(list, c)
		}
		return err
	})
	return list, pageError(err)
}

// Uses reads the log of this project, which may be unbound yet.
func (d *dashboardWork) Uses(_ context.Context, since time.Time) ([]dashboard.Use, error) {
	ws, err := d.workspace()
	if err != nil || ws.unbound != nil {
		return nil, pageError(err)
	}
	lines, err := ws.logLines(nil, since)
	if err != nil {
		return nil, pageError(err)
	}
	list := make([]dashboard.Use, 0, len(lines))
	for _, l := range lines {
		u := dashboard.Use{
			Time: l.Time, Connection: l.connection, Event: l.Event, Purpose: oauth.Clean(l.Purpose), Count: l.Uses(),
			Executable: oauth.Clean(l.Caller), Folder: oauth.Clean(l.Folder), Fingerprint: l.Print,
		}
		if l.Detail != "" {
			u.Event += ": " + oauth.Clean(l.Detail)
		}
		list = append(list, u)
	}
	return list, nil
}

// Proof proves the logs of this project's connections, with the keychain's keys.
func (d *dashboardWork) Proof(ctx context.Context) ([]dashboard.Proof, error) {
	ws, err := d.workspace()
	if err != nil || ws.unbound != nil {
		return nil, pageError(err)
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return nil, nil
	}
	if err != nil {
		return nil, pageError(err)
	}
	entries, _, err := ws.entries(nil)
	if err != nil {
		return nil, pageError(err)
	}
	var list []dashboard.Proof
	for i := range entries {
		e := &entries[i]
		if e.Header == nil {
			continue
		}
		p := dashboard.Proof{Connection: e.Name}
		h, err := ws.history(ctx, s, e, true)
		switch {
		case err != nil:
			p.Problem = oauth.Clean(err.Error())
		default:
			p.Lines, p.Former = h.Checked, h.Former
			if len(h.Faults) > 0 {
				first := h.Faults[0]
				first.File = filepath.Base(first.File)
				p.Fault, p.More = oauth.Clean(first.String()), len(h.Faults)-1
			}
		}
		list = append(list, p)
	}
	return list, nil
}

// Disconnect is the command of that name.
func (d *dashboardWork) Disconnect(_ context.Context, name string) (dashboard.Outcome, error) {
	said := new(transcript)
	err := runDisconnect(d.ctx, d.globals(said, ""), disconnectOptions{Names: []string{name}})
	return said.lines(), pageError(err)
}

// SetClient is 'client set'.
func (d *dashboardWork) SetClient(_ context.Context, f dashboard.ClientForm) (dashboard.Outcome, error) {
	said := new(transcript)
	opts := clientSetOptions{Provider: f.Provider, ClientID: f.ID, SecretStdin: !f.Secret.IsZero(), Project: f.Project}
	for name, value := range f.Variables {
		opts.Variables = append(opts.Variables, name+"="+value)
	}
	err := runClientSet(d.ctx, d.globals(said, f.Secret.Reveal()), opts)
	return said.lines(), pageError(err)
}

// Revoke is 'revoke --token-stdin --all'.
func (d *dashboardWork) Revoke(_ context.Context, token secret.Text) (dashboard.Outcome, error) {
	said := new(transcript)
	err := runRevoke(d.ctx, d.globals(said, token.Reveal()), revokeOptions{TokenStdin: true, All: true})
	return said.lines(), pageError(err)
}
