package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

// findProvider decides which provider the name stands for.
func (a *attempt) findProvider(ctx context.Context) error {
	switch {
	case a.opts.Provider != "":
		a.provider = a.opts.Provider
	case a.wanted.Provider != "":
		a.provider = a.wanted.Provider
	default:
		a.provider = a.name
		if h := a.storedHeader(); h != nil {
			a.provider = h.Provider
		}
	}
	return a.define(ctx)
}

// storedHeader looks whether the name is connected already.
func (a *attempt) storedHeader() *connection.Header {
	if a.ws.unbound != nil {
		return nil
	}
	s, err := a.ws.store()
	if err != nil {
		return nil
	}
	h, err := s.Header(connection.Key{Project: a.ws.projectID, Name: a.name})
	if err != nil {
		return nil
	}
	return h
}

// damaged reports that something is stored under the name that cannot be read.
func (a *attempt) damaged() bool {
	if a.ws.unbound != nil {
		return false
	}
	s, err := a.ws.store()
	if err != nil {
		return false
	}
	_, err = s.Header(connection.Key{Project: a.ws.projectID, Name: a.name})
	return errors.Is(err, connection.ErrCorrupt)
}

func (a *attempt) define(ctx context.Context) error {
	def, err := a.ws.definition(ctx, a.provider)
	var unknown *providers.UnknownError
	if errors.As(err, &unknown) && a.provider == a.name && a.damaged() {
		return failf(exitUsage, fmt.Sprintf("name it: 'apiauth connect %s --provider ID'", a.name),
			"the record of %q is damaged, and does not tell its provider any more", a.name)
	}
	if err != nil {
		return err
	}
	if def.Status == "retired" {
		return failf(exitUsage, oauth.Clean(def.StatusNote), "%s no longer offers this", oauth.Clean(def.Name))
	}
	a.def = def
	if strings.Contains(a.provider, "://") {
		explicit := a.opts.Provider != ""
		return a.ws.approveIssuer(ctx, a.provider, def, explicit || a.opts.Yes)
	}
	return nil
}

// settle fixes everything that the flow needs: the flow itself, the pins, the
// scopes.
func (a *attempt) settle(ctx context.Context) error {
	ws := a.ws
	browser := ws.mayOpenBrowser(a.opts.NoBrowser)
	chosen := a.opts.Flow
	if a.byKey() {
		chosen = flow.FlowJWTBearer
	}
	if a.opts.ImportStdin && chosen == flow.FlowAuto {
		chosen = flow.FlowImport
		if slices.Equal(a.def.Flows, []string{flow.FlowKey}) {
			chosen = flow.FlowKey
		}
	}
	if chosen != flow.FlowImport && chosen != flowReceive && !(chosen == flow.FlowKey && a.opts.ImportStdin) {
		var err error
		chosen, err = flow.Choose(chosen, a.def.Provider, flow.Means{
			Browser:     browser,
			Terminal:    ws.person() || ws.app.ReadPaste != nil,
			Person:      !ws.cfg.NoInput && !ws.app.inCI(),
			Secret:      !a.client.Secret.IsZero(),
			Key:         chosen == flow.FlowJWTBearer && !a.client.Secret.IsZero(),
			RedirectURI: a.client.RedirectURI,
		})
		if err != nil {
			return a.choiceError(err)
		}
	}
	a.flow = chosen
	if a.opts.Expires != "" && chosen != flow.FlowKey && chosen != flow.FlowImport {
		return usagef("--expires is for a key or a token that you bring: how long a login lasts is told by %s", oauth.Clean(a.def.Name))
	}
	pinFlow := chosen
	if chosen == flow.FlowImport || chosen == flowReceive {
		pinFlow = flow.FlowBrowser
	}
	subject, err := a.bearerSubject(ctx)
	if err != nil {
		return err
	}
	pins, err := a.def.Pin(providers.PinOptions{
		Flow:        pinFlow,
		Variables:   a.client.Variables,
		ClientID:    a.client.ID,
		HasSecret:   !a.client.Secret.IsZero(),
		RedirectURI: a.client.RedirectURI,
		Site:        a.opts.Site,
		Resources:   a.opts.Resources,
		Subject:     subject,
	})
	if err != nil {
		return err
	}
	if a.opts.Site != "" && pins.Site == nil {
		return usagef("--site: an account at %s is not divided into sites", oauth.Clean(a.def.Name))
	}
	for _, resource := range a.opts.Resources {
		if u, err := url.Parse(resource); err != nil || u.Scheme == "" || u.Host == "" || u.Fragment != "" {
			return usagef("--resource: %q is not an absolute URL without a fragment (RFC 8707 section 2)", oauth.Clean(resource))
		}
	}
	a.pins = pins
	return a.chooseScopes(ctx)
}

// choiceError adds how to register where that is what is missing.
func (a *attempt) choiceError(err error) error {
	if a.client.ID != "" && a.client.Secret.IsZero() && strings.Contains(err.Error(), "needs a client secret") {
		return withHint(err, fmt.Sprintf("store it with 'apiauth client set %s', or pipe it in with --client-secret-stdin", a.provider))
	}
	if choice, ok := errors.AsType[*flow.ChoiceError](err); ok && choice.Flow != flow.FlowAuto && a.provider != "" {
		hint := fmt.Sprintf("'apiauth provider show %s' tells which flows it offers and what each needs", a.provider)
		for _, source := range a.def.Sources {
			if !source.Unverified {
				hint += "; the provider's page: " + oauth.Clean(source.URL)
				break
			}
		}
		return withHint(err, hint)
	}
	return err
}

// chooseScopes decides what to ask for: what was granted before, what the
// manifest and the flags name, or what a person picks.
func (a *attempt) chooseScopes(ctx context.Context) error {
	facts := &a.def.Scopes
	if facts.Omit || a.flow == flowReceive || a.flow == flow.FlowKey || a.pins.JWTBearer != nil && a.pins.JWTBearer.NoScope {
		return nil
	}
	var scopes []string
	if a.before != nil && !a.opts.Chosen {
		scopes = append(scopes, a.before.ScopesAsked...)
		if a.before.ScopesKnown {
			scopes = append(scopes, a.before.ScopesGranted...)
		}
	}
	if !a.opts.Chosen {
		scopes = append(scopes, a.wanted.Scopes...)
	}
	scopes = append(scopes, a.opts.Scopes...)
	if len(scopes) == 0 && !a.opts.Chosen {
		if a.ws.person() && len(facts.Catalog) > 0 && a.flow != flow.FlowImport {
			picked, err := pickScopes(ctx, a.ws.app, a.def)
			if err != nil {
				return err
			}
			scopes = picked
		} else {
			scopes = append(scopes, facts.Default...)
		}
	}
	if a.flow != flow.FlowClientCredentials && a.flow != flow.FlowJWTBearer {
		scopes = append(scopes, facts.Required...)
	}
	for _, s := range scopes {
		if strings.ContainsAny(s, " \t\r\n,\"\\") || s == "" {
			return usagef("%q is no scope: give each with its own --scope", oauth.Clean(s))
		}
	}
	a.scopes = unique(scopes)
	return nil
}

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// approveChanges asks before a connection is bound to other endpoints than it
// was.
func (a *attempt) approveChanges(ctx context.Context) error {
	if a.before == nil || a.before.Provider != a.provider {
		return nil
	}
	changes := a.before.Pins.Changes(a.pins)
	if len(changes) == 0 {
		return nil
	}
	a.ws.show("The definition of %s changed since %q was connected:", oauth.Clean(a.provider), a.name)
	for _, c := range changes {
		a.ws.show("  %s", c.Field)
		a.ws.show("    was  %s", oauth.Clean(c.Was))
		a.ws.show("    is   %s", oauth.Clean(c.Is))
	}
	if a.opts.Yes {
		return nil
	}
	ok, err := a.ws.ask(ctx, "Connect with the changed definition?", false)
	if err != nil {
		return err
	}
	if !ok {
		return failf(exitRefused, fmt.Sprintf("approve it at a terminal, or with --yes: 'apiauth connect %s --yes'", a.name),
			"the changed definition of %s was not approved", oauth.Clean(a.provider))
	}
	return nil
}

func (a *attempt) registerPage() string {
	if page := registerPage(a.def.Provider, a.client.Variables); page != "" {
		return page
	}
	return "the provider's page for developers"
}
