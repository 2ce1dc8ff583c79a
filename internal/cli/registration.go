package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// clientChoice is the client registration that a login uses, and what is to be
// stored of it.
type clientChoice struct {
	ID          string
	Secret      secret.Text
	RedirectURI string
	Variables   map[string]string
	// keep says that the registration came from a flag or the wizard and is to
	// be stored once the flow has succeeded.
	keep bool
}

// findClient decides which client to log in with: the flag, the manifest, the
// stored registration, the environment, the definition, or the wizard.
// s is nil where nothing has been stored yet.
func (a *attempt) findClient(ctx context.Context, s *store.Store) (err error) {
	c := &a.client
	var reg *connection.Registration
	if s != nil {
		reg, err = s.Registration(a.clientName(), a.ws.projectID)
		if err != nil && !errors.Is(err, connection.ErrNotStored) {
			return err
		}
	}
	holder := s // of reg
	if reg == nil {
		// One that is for all projects lies in the store of the project in
		// which it was set.
		if reg, holder, err = a.ws.registrationElsewhere(a.clientName()); err != nil {
			return err
		}
	}
	id := variableName(a.provider)
	switch {
	case a.opts.ClientID != "":
		c.ID = a.opts.ClientID
	case a.wanted.ClientID != "":
		c.ID = a.wanted.ClientID
		a.ws.show("Using client %s, which %s names.", oauth.Clean(c.ID), a.ws.manifest.File)
	case reg != nil && !a.keepsPublicClient(reg):
		c.ID = reg.ClientID
	case a.keepsPublicClient(reg):
		c.ID = a.before.Pins.ClientID
	case a.ws.app.env("APIAUTH_CLIENT_ID_"+id) != "":
		c.ID = a.ws.app.env("APIAUTH_CLIENT_ID_" + id)
	case a.def.ClientID != "":
		c.ID = a.def.ClientID
	}
	same := reg != nil && reg.ClientID == c.ID
	c.Variables = map[string]string{}
	if same {
		c.RedirectURI = reg.RedirectURI
		maps.Copy(c.Variables, reg.Variables)
	}
	if a.before != nil && a.before.Provider == a.provider {
		maps.Copy(c.Variables, a.before.Pins.Variables)
		if c.RedirectURI == "" && a.before.Pins.ClientID == c.ID {
			c.RedirectURI = a.before.Pins.RedirectURI
		}
	}
	maps.Copy(c.Variables, a.opts.Variables)
	if a.opts.RedirectURI != "" {
		c.RedirectURI = a.opts.RedirectURI
	}
	if err := a.askVariables(ctx); err != nil {
		return err
	}

	if a.keyOnly() {
		return nil
	}
	switch {
	case a.opts.Key.given():
		if err := a.readKey(); err != nil {
			return err
		}
		same = reg != nil && reg.ClientID == c.ID
	case a.opts.SecretStdin && a.byKey():
		return usagef("--client-secret-stdin goes with --key-file here: the client is stored with both")
	case a.opts.SecretStdin:
		if c.ID == "" {
			return usagef("--client-secret-stdin needs --client-id, or a client that is stored")
		}
		if c.Secret, err = flow.ReadSecret(a.ws.app.Stdin); err != nil {
			return failf(exitUsage, "", "%w", err)
		}
		c.keep = true
	case same:
		// A registration is bound to its endpoint and method: no other
		// combination gets its secret.
		pins, err := a.def.Pin(providers.PinOptions{Flow: flow.FlowBrowser, Variables: c.Variables, ClientID: c.ID, HasSecret: reg.HasSecret, RedirectURI: c.RedirectURI})
		if err != nil {
			return err
		}
		if reg.HasSecret && (pins.TokenEndpoint != reg.TokenEndpoint) {
			return failf(exitRefused, fmt.Sprintf("if that is expected, store the secret again with 'apiauth client set %s'", a.provider),
				"the client secret stored for %s belongs to %s, but its token endpoint is now %s", a.provider, reg.TokenEndpoint, pins.TokenEndpoint)
		}
		if c.Secret, err = holder.ClientSecret(ctx, reg); err != nil {
			return err
		}
		c.keep = holder != s // refreshes look for it in the project's own store
	}
	if c.Secret.IsZero() && c.ID != "" && !a.byKey() {
		pins, err := a.def.Pin(providers.PinOptions{Flow: flow.FlowBrowser, Variables: c.Variables, ClientID: c.ID, HasSecret: true, RedirectURI: c.RedirectURI})
		if err == nil {
			if c.Secret, err = a.ws.variableSecret(&pins); err != nil {
				return err
			}
		}
	}
	if a.opts.ClientID != "" && !same {
		// One without a secret is known by what is pinned; it must not take the
		// place of one whose secret other connections need.
		c.keep = reg == nil || holder != s || !reg.HasSecret || !c.Secret.IsZero()
	}
	if c.keep && reg != nil && !same && holder == s {
		if err := a.checkReplaced(s, reg); err != nil {
			return err
		}
	}
	if c.ID != "" || a.opts.ImportStdin {
		return nil // a personal access token needs no client; a refresh token says so later
	}
	if takes, _ := takesKey(a.def.Provider, a.opts.Flow); takes && (a.byKey() || len(a.def.Flows) == 1) {
		return failf(exitUsage, fmt.Sprintf("make a key at %s and give it with --key-file PATH", a.registerPage()),
			"no key of a client is known for %s", oauth.Clean(a.def.Name))
	}
	if a.ws.person() {
		return a.registerWithPerson(ctx)
	}
	return a.noClient()
}

// clientName is the name that the client of this login is registered under.
func (a *attempt) clientName() string {
	if a.byKey() {
		return connection.ClientName(a.provider, connection.FlowJWTBearer)
	}
	return a.provider
}

// registrationElsewhere finds a client that is for all projects of the user in
// the stores that are not this project's; nil when there is none.
func (ws *workspace) registrationElsewhere(provider string) (reg *connection.Registration, holder *store.Store, err error) {
	err = ws.eachStore(func(s *store.Store) error {
		r, err := s.Registration(provider, "")
		if errors.Is(err, connection.ErrNotStored) {
			return nil
		}
		if err == nil && (reg == nil || r.SetAt.After(reg.SetAt)) {
			reg, holder = r, s
		}
		return err
	})
	return reg, holder, err
}

// keepsPublicClient reports that the connection was made with a client that has
// no secret and is not stored, after the stored one was set.
func (a *attempt) keepsPublicClient(reg *connection.Registration) bool {
	h := a.before
	return h != nil && h.Provider == a.provider && h.Pins.ClientID != "" && h.Pins.AuthMethod == oauth.AuthNone &&
		reg != nil && reg.ClientID != h.Pins.ClientID && reg.SetAt.Before(h.ConnectedAt)
}

// checkReplaced refuses to store another client in place of one that other
// connections need for their refreshes, unless that was agreed to.
func (a *attempt) checkReplaced(s *store.Store, reg *connection.Registration) error {
	if a.opts.Yes || !reg.HasSecret {
		return nil
	}
	names, err := s.Names(a.ws.projectID)
	if err != nil {
		return err
	}
	var others []string
	for _, name := range names {
		h, err := s.Header(connection.Key{Project: a.ws.projectID, Name: name})
		if err == nil && name != a.name && h.Provider == a.provider && h.Pins.ClientID == reg.ClientID {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return failf(exitUsage, "--yes stores it all the same, and those have to be connected again; a project of its own can have another client ('apiauth client set PROVIDER --project')",
		"client %s is stored for %s, and its secret is needed by %s: another client would take its place", oauth.Clean(reg.ClientID), oauth.Clean(a.provider), strings.Join(others, ", "))
}

// keyOnly reports that no client is needed: the provider knows static keys only.
func (a *attempt) keyOnly() bool {
	return a.opts.Flow == flow.FlowKey || len(a.def.Flows) == 1 && a.def.Flows[0] == flow.FlowKey
}

// noClient says how to register, with the exact redirect URI.
func (a *attempt) noClient() error {
	return failf(exitUsage,
		fmt.Sprintf("register an application at %s with the redirect URI %s and run 'apiauth client set %s --client-id ID'", a.registerPage(), a.redirectToRegister(), a.provider),
		"no client is registered for %s", oauth.Clean(a.def.Name))
}

// askVariables finds the values of the provider's variables that only the user
// can know.
func (a *attempt) askVariables(ctx context.Context) error {
	for _, v := range a.def.Variables {
		if v.From != "" && v.From != providers.FromUser {
			continue
		}
		if a.client.Variables[v.Name] != "" || v.Default != "" {
			continue
		}
		if !a.ws.person() {
			return &providers.MissingVariableError{Provider: a.provider, Variable: v}
		}
		value, err := askText(ctx, a.ws.app, v.Title, v.Description)
		if err != nil {
			return err
		}
		a.client.Variables[v.Name] = value
	}
	return nil
}

// registerWithPerson leads a person through a client registration.
func (a *attempt) registerWithPerson(ctx context.Context) error {
	ws, def := a.ws, a.def
	ws.say("No client is registered for %s yet. It takes a minute:", oauth.Clean(def.Name))
	page := registerPage(def.Provider, a.client.Variables)
	if page != "" {
		ws.say("  1. open      %s", oauth.Clean(page))
	}
	for i, step := range def.Register.Steps {
		ws.sayItem(fmt.Sprintf("  %d. ", i+2), oauth.Clean(step))
	}
	ws.say("  redirect URI to register, exactly:")
	ws.say("    %s", a.redirectToRegister())
	if def.Register.Notes != "" {
		ws.sayItem("  note: ", oauth.Clean(def.Register.Notes))
	}
	if page != "" && ws.mayOpenBrowser(a.opts.NoBrowser) {
		if err := ws.openBrowser(ctx, page); err != nil {
			ws.warn("no browser could be opened: %v", err)
		}
	}
	id, clientSecret, err := askClient(ctx, ws.app, def, a.redirectToRegister())
	if err != nil {
		return err
	}
	if id == "" {
		return a.noClient()
	}
	a.client.ID, a.client.Secret, a.client.keep = id, clientSecret, true
	return nil
}

// sayItem prints an item of a list, wrapped so that a small terminal has room for
// it.
func (ws *workspace) sayItem(first, text string) {
	const width = 60
	for _, line := range wrap(text, width-len(first)) {
		ws.say("%s%s", first, line)
		first = strings.Repeat(" ", len(first))
	}
}

// save stores a registration that this login brought along, for all projects of
// the user.
func (c *clientChoice) save(ctx context.Context, ws *workspace, s *store.Store, a *attempt) error {
	if !c.keep {
		return nil
	}
	method := a.pins.AuthMethod
	err := s.SetClient(ctx, connection.Registration{
		Provider:      a.clientName(),
		ClientID:      c.ID,
		TokenEndpoint: a.pins.TokenEndpoint,
		AuthMethod:    method,
		RedirectURI:   c.RedirectURI,
		Variables:     c.Variables,
	}, c.Secret)
	if err != nil {
		return fmt.Errorf("store the client of %s: %w", a.provider, err)
	}
	what := "client " + oauth.Clean(c.ID)
	if a.opts.Key.given() {
		what = describeKey(c.ID)
	}
	ws.say("Stored %s for %s.", what, oauth.Clean(a.def.Name))
	return nil
}
