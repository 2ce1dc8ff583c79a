package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Two things stand in for a store in CI, and neither needs a binding: a bundle,
// and a client id with its secret in variables. Both fill a store in memory.

// bundleVariable reports whether the environment holds a bundle. Set to nothing
// counts as not set.
func (ws *workspace) bundleVariable() bool {
	return ws.app.env("APIAUTH_BUNDLE") != "" || ws.app.env("APIAUTH_BUNDLE_FILE") != ""
}

// bundle opens the bundle in the environment, once; nil when there is none.
func (ws *workspace) bundle() (*bundle.Bundle, error) {
	if ws.unsealed != nil || !ws.bundleVariable() {
		return ws.unsealed, nil
	}
	value, err := ws.secretVariable("APIAUTH_BUNDLE")
	if err != nil {
		return nil, err
	}
	key, err := ws.secretVariable("APIAUTH_BUNDLE_KEY")
	if err != nil {
		return nil, err
	}
	if key.IsZero() {
		return nil, failf(exitStore, ws.withoutSecrets("set APIAUTH_BUNDLE_KEY, or APIAUTH_BUNDLE_KEY_FILE, to the key that 'apiauth bundle create' printed"),
			"APIAUTH_BUNDLE is set, but %s", ws.emptyOr("APIAUTH_BUNDLE_KEY", "APIAUTH_BUNDLE_KEY is not"))
	}
	b, err := bundle.Open(value, key)
	if err != nil {
		return nil, bundleError(err)
	}
	if now := ws.app.Now(); !now.Before(b.ExpiresAt) {
		return nil, failf(exitNeedsConnect, "make a new one with 'apiauth bundle create' and put it in its place",
			"the bundle %s ended on %s", b.ID, b.ExpiresAt.UTC().Format("2006-01-02 15:04 MST"))
	}
	ws.unsealed = b
	return b, nil
}

// bundleError gives an error of the bundle room its status and its remedy.
func bundleError(err error) error {
	switch {
	case errors.Is(err, bundle.ErrNewer):
		return failf(exitStore, "update apiauth", "open APIAUTH_BUNDLE: %w", err)
	case errors.Is(err, bundle.ErrKey):
		return failf(exitStore, "APIAUTH_BUNDLE and APIAUTH_BUNDLE_KEY belong together: set both from one 'apiauth bundle create'", "open APIAUTH_BUNDLE: %w", err)
	default:
		return failf(exitStore, "set it again, whole and on one line, or make a new one with 'apiauth bundle create'", "open APIAUTH_BUNDLE: %w", err)
	}
}

// bundleOrigin hands out what the bundle holds.
func (ws *workspace) bundleOrigin(b *bundle.Bundle, name string) (*origin, error) {
	if _, ok := b.Summary(name); !ok {
		code, hint := exitUsage, "it holds "+summaryNames(b.Connections)
		if ws.knownName(name) {
			code, hint = exitNeedsConnect, "make one that holds it: 'apiauth bundle create "+name+"'"
		}
		return nil, failf(code, hint, "the bundle %s does not hold %q", b.ID, name)
	}
	src, err := ws.sourceOver(b.Store, b.Project)
	if err != nil {
		return nil, err
	}
	fromVariables := src.ClientSecret
	src.ClientSecret = func(ctx context.Context, h *connection.Header) (secret.Text, error) {
		if t := b.ClientSecret(h.Name); !t.IsZero() {
			return t, nil
		}
		return fromVariables(ctx, h)
	}
	remedy := func(_ string, err error) error {
		var changed *connection.ChangedError
		switch {
		case errors.As(err, &changed):
			return failf(exitRefused, "if that is expected, connect it again and make a new bundle with 'apiauth bundle create'", "%w", err)
		case errors.Is(err, connection.ErrNeedsConnect), errors.Is(err, connection.ErrNotConnected):
			return failf(exitNeedsConnect, "make a new bundle with 'apiauth bundle create'; one that holds client credentials or a refresh token lasts longer", "%w", err)
		}
		return err
	}
	note := func(a connection.Access) {
		if a.Header.Rotated {
			ws.warn("the issuer of %q replaced the refresh token, and a bundle cannot take the new one: make a new bundle before this one fails", a.Name)
		}
	}
	return &origin{store: b.Store, src: src, remedy: remedy, note: note}, nil
}

func summaryNames(list []bundle.Summary) string {
	names := make([]string, 0, len(list))
	for _, s := range list {
		names = append(names, oauth.Clean(s.Name))
	}
	return strings.Join(names, ", ")
}

// variablesProject is the project of what comes from variables.
const variablesProject = "ci"

// clientOrigin hands out tokens for client credentials that stand in variables,
// without a store. It is nil when the variables are not set for the provider of
// that name, or something is stored under it.
func (ws *workspace) clientOrigin(name string) (*origin, error) {
	provider, scopes := name, []string(nil)
	if ws.manifest != nil {
		if c, found := ws.manifest.Connection(name); found {
			scopes = c.Scopes
			if c.Provider != "" {
				provider = c.Provider
			}
		}
	}
	if strings.Contains(provider, "://") {
		return nil, nil // an issuer has no variables
	}
	c, set, err := config.ClientFor(ws.app.Env, provider)
	if err != nil || !set || c.Secret.IsZero() || ws.isStored(name) {
		return nil, err
	}
	def, err := ws.catalogue.Get(provider)
	if err != nil {
		return nil, err
	}
	by, err := ws.variablesFlow(def, c)
	if err != nil || by.flow == "" {
		return nil, err
	}
	if ws.memory == nil {
		ws.memory = bundle.NewStore("variables", "variables")
	}
	key := connection.Key{Project: variablesProject, Name: name}
	if _, err := ws.memory.Header(key); errors.Is(err, connection.ErrNotStored) {
		rec, err := ws.clientRecord(name, def, by, scopes)
		if err != nil {
			return nil, err
		}
		ws.memory.Put(key, rec)
	}
	src, err := ws.sourceOver(ws.memory, variablesProject)
	if err != nil {
		return nil, err
	}
	if by.flow == flow.FlowJWTBearer {
		src.ClientSecret = func(_ context.Context, h *connection.Header) (secret.Text, error) {
			t, err := ws.variableSecret(&h.Pins) // says whether it may go there at all
			if err != nil || t.IsZero() {
				return t, err
			}
			file, err := oauth.ParseKeyFile(t, secret.Text{})
			if err != nil {
				return secret.Text{}, err
			}
			return file.Key.Encode()
		}
	}
	remedy := func(_ string, err error) error {
		if errors.Is(err, connection.ErrClient) {
			id := variableName(provider)
			return withHint(err, fmt.Sprintf("compare APIAUTH_CLIENT_ID_%s and APIAUTH_CLIENT_SECRET_%s with the client's registration", id, id))
		}
		return err
	}
	return &origin{store: ws.memory, src: src, remedy: remedy}, nil
}

// variablesLogin is how a client in variables obtains tokens; flow is empty when
// it cannot.
type variablesLogin struct {
	flow, clientID, subject string
}

// variablesFlow decides by what the secret is: with a private key, as PEM or in
// the provider's own file, the client signs (RFC 7523), else it asks with client
// credentials.
func (ws *workspace) variablesFlow(def *providers.Definition, c config.Client) (variablesLogin, error) {
	if slices.Contains(def.Flows, flow.FlowJWTBearer) {
		if file, err := oauth.ParseKeyFile(c.Secret, secret.Text{}); err == nil {
			variable := "APIAUTH_CLIENT_SUBJECT_" + variableName(def.ID)
			by := variablesLogin{flow.FlowJWTBearer, cmp.Or(c.ID, file.ClientID), cmp.Or(ws.app.env(variable), file.Subject)}
			switch {
			case by.clientID == "":
				return variablesLogin{}, failf(exitUsage, "set APIAUTH_CLIENT_ID_"+variableName(def.ID), "the key in APIAUTH_CLIENT_SECRET_%s does not say which client it belongs to", variableName(def.ID))
			case def.JWTBearer.Subject == "client":
				by.subject = by.clientID
			case def.JWTBearer.Subject == "required" && by.subject == "":
				return variablesLogin{}, failf(exitUsage, "set "+variable, "%s wants to be told whose data the token is for", oauth.Clean(def.Name))
			case len(by.subject) > 512 || oauth.Clean(by.subject) != by.subject:
				return variablesLogin{}, usagef("%s: %q is not usable", variable, oauth.Clean(by.subject))
			}
			return by, nil
		}
	}
	if c.ID == "" || !slices.Contains(def.Flows, flow.FlowClientCredentials) {
		return variablesLogin{}, nil
	}
	return variablesLogin{flow: flow.FlowClientCredentials, clientID: c.ID}, nil
}

// clientRecord is a connection by a client in variables that has no token yet.
func (ws *workspace) clientRecord(name string, def *providers.Definition, by variablesLogin, scopes []string) (*connection.Record, error) {
	pins, err := def.Pin(providers.PinOptions{Flow: by.flow, ClientID: by.clientID, HasSecret: true, Subject: by.subject})
	var missing *providers.MissingVariableError
	if errors.As(err, &missing) {
		return nil, failf(exitUsage, "connect it where you can give the value, and seal it: 'apiauth bundle create "+name+"'",
			"get a token for %q with a client from variables: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case def.Scopes.Omit:
		scopes = nil
	case len(scopes) == 0:
		scopes = def.Scopes.Default
	}
	return &connection.Record{Header: connection.Header{
		Format: connection.Format, Generation: 1, GrantGeneration: 1,
		Name: name, Provider: pins.Provider, ProviderDigest: def.Digest, Flow: by.flow,
		Account: connection.Account{Label: cmp.Or(by.subject, "(the client itself)")}, ScopesAsked: scopes, State: connection.StateOK,
		ConnectedAt: ws.app.Now(), Pins: pins,
	}}, nil
}

// isStored reports whether the project has a connection of that name. A folder
// that is not bound has none.
func (ws *workspace) isStored(name string) bool {
	if ws.unbound != nil {
		return false
	}
	s, err := ws.store()
	if err != nil {
		return !errors.Is(err, errNoStore)
	}
	_, err = s.Header(connection.Key{Project: ws.projectID, Name: name})
	return !errors.Is(err, connection.ErrNotStored)
}

// bindingNeeded reports whether only the project's store can serve a command: no
// bundle and no client secret stands in the environment.
func (ws *workspace) bindingNeeded() bool {
	return !ws.bundleVariable() && !slices.ContainsFunc(ws.app.Environ(), func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		return value != "" && strings.HasPrefix(name, "APIAUTH_CLIENT_SECRET_")
	})
}

// emptyOr tells a variable that is set to nothing, as a CI system does with a
// secret that a job does not get, from one that is not set.
func (ws *workspace) emptyOr(name, otherwise string) string {
	if v, set := ws.app.Env(name); set && v == "" {
		return name + " is empty"
	}
	return otherwise
}

// inJob explains, in CI, why a connection cannot be had there: nobody can
// connect, so it names what a job needs instead. Elsewhere err stays as it is.
func (ws *workspace) inJob(name string, err error) error {
	code, _ := explain(err)
	var unbound *project.UnboundError
	if !ws.app.inCI() || code != exitNeedsConnect && !errors.As(err, &unbound) {
		return err
	}
	if name == "" {
		name = "NAME"
	}
	provider := name
	if ws.manifest != nil {
		if c, ok := ws.manifest.Connection(name); ok && c.Provider != "" && !strings.Contains(c.Provider, "://") {
			provider = c.Provider
		}
	}
	id := variableName(provider)
	hint := fmt.Sprintf("give the job APIAUTH_BUNDLE and APIAUTH_BUNDLE_KEY (made by 'apiauth bundle create %s')", name)
	if def, derr := ws.catalogue.Get(provider); derr == nil && slices.Contains(def.Flows, flow.FlowClientCredentials) {
		hint += fmt.Sprintf(", or APIAUTH_CLIENT_ID_%s and APIAUTH_CLIENT_SECRET_%s", id, id)
	}
	for _, variable := range []string{"APIAUTH_BUNDLE", "APIAUTH_BUNDLE_KEY", "APIAUTH_CLIENT_ID_" + id, "APIAUTH_CLIENT_SECRET_" + id} {
		if empty := ws.emptyOr(variable, ""); empty != "" {
			err = fmt.Errorf("%w; %s, so the job does not get that secret", err, empty)
			break
		}
	}
	return &hintError{code: code, err: err, hint: ws.withoutSecrets(hint)}
}

// withoutSecrets adds to a remedy that the job belongs to somebody else's pull
// request, which CI systems give no secrets.
func (ws *workspace) withoutSecrets(hint string) string {
	if config.ForeignChange(ws.app.Env) {
		return "a pull request from a fork gets no secrets: run this step for branches of the repository only; else " + hint
	}
	return hint
}

// refuseForeign keeps what is stored on this machine from a change of somebody
// else: a runner that is used again may hold what an earlier job connected.
func (ws *workspace) refuseForeign(name string) error {
	if !ws.app.inCI() || !config.ForeignChange(ws.app.Env) {
		return nil
	}
	return failf(exitRefused, "run this step for branches of the repository only",
		"the job runs for a change from another repository, which gets no token of %q that this machine has stored", name)
}
