package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

func newClientCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "client",
		Short:   "Client registrations: ids and secrets of your own applications",
		GroupID: groupSetup,
		Long: `A client is your application as a provider knows it: an id, often a secret, and
the redirect URI that was registered. apiauth keeps one per provider, for all
your projects or for one of them. A secret comes from a prompt or from stdin,
never from a flag, and is stored like a refresh token. It is bound to the
provider's token endpoint and goes nowhere else.`,
	}, newClientSetCmd(g), newClientListCmd(g), newClientRemoveCmd(g))
}

type clientSetOptions struct {
	Provider    string
	ClientID    string
	SecretStdin bool
	Project     bool
	RedirectURI string
	Port        int
	Variables   []string
	Key         keyFlags
	Next        bool
	Promote     bool
	DropNext    bool
}

func newClientSetCmd(g *globals) *cobra.Command {
	var opts clientSetOptions
	cmd := &cobra.Command{
		Use:   "set PROVIDER",
		Short: "Store the client that you registered at a provider",
		Long: `Store the client that you registered at a provider, in place of an earlier one.
PROVIDER is a catalogue id or the URL of an issuer. The redirect URI that has to
stand in the provider's form is printed; 'apiauth provider show PROVIDER' tells
how to register.

At a terminal the secret is asked for without echo; an empty answer means a
public client. Elsewhere it is read with --client-secret-stdin. A client that
signs with a private key brings that with --key-file or --key-stdin; one that
authenticates with a certificate (mutual TLS) brings both with
--client-certificate and --client-key, or in one file.

With --next the secret is stored beside the present one. From then on it is tried
first, and takes the place of the present one once the provider has accepted it;
until then the present one is used when the provider refuses it. --promote puts
it in place at once, --drop-next removes it.`,
		Example: `  apiauth client set github --client-id Iv1.8a61f9b3
  pass show salesforce | apiauth client set salesforce --client-id 3MVG9 --client-secret-stdin
  apiauth client set gitlab --client-id ab12 --var host=gitlab.example.com --project
  pass show salesforce-new | apiauth client set salesforce --next --client-secret-stdin
  apiauth client set bank --client-id app-1 --client-certificate app.crt --client-key app.key`,
		Args:              args(between(1, 1)),
		ValidArgsFunction: oneArg(completeProviders(g)),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Provider = args[0]
			if opts.rotates() {
				return runClientRotate(cmd.Context(), g, opts)
			}
			return runClientSet(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.ClientID, "client-id", "", "the client's `ID`")
	f.BoolVar(&opts.SecretStdin, "client-secret-stdin", false, "read the client secret from stdin")
	opts.Key.add(cmd)
	f.BoolVar(&opts.Project, "project", false, "for this project only (default: for all of yours)")
	f.StringVar(&opts.RedirectURI, "redirect-uri", "", "the `URI` that you registered, when it is not the provider's default here")
	f.IntVar(&opts.Port, "port", 0, "the `PORT` of the redirect URI that you registered")
	f.StringArrayVar(&opts.Variables, "var", nil, "a part of the provider's addresses, as `NAME=VALUE` (repeat)")
	f.BoolVar(&opts.Next, "next", false, "store a second secret, which takes the place of the present one once accepted")
	f.BoolVar(&opts.Promote, "promote", false, "put the next secret in the place of the present one now")
	f.BoolVar(&opts.DropNext, "drop-next", false, "remove the next secret")
	return cmd
}

func runClientSet(ctx context.Context, g *globals, opts clientSetOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	scope, err := ws.clientScope(opts.Project)
	if err != nil {
		return err
	}
	variables, err := parseVariables(opts.Variables)
	if err != nil {
		return err
	}
	def, err := ws.definition(ctx, opts.Provider)
	if err != nil {
		return err
	}
	if strings.Contains(opts.Provider, "://") {
		// The person has just named the issuer; its hosts are shown and noted.
		if err := ws.approveIssuer(ctx, opts.Provider, def, true); err != nil {
			return err
		}
	}
	if def.TokenEndpoint == "" && def.AuthorizationEndpoint == "" {
		return failf(exitUsage, fmt.Sprintf("'apiauth connect %s' takes the key", opts.Provider),
			"%s needs no client: its API takes a key", oauth.Clean(def.Name))
	}
	redirect, err := chosenRedirect(def, opts)
	if err != nil {
		return err
	}
	// Everything is checked before a person is asked for anything.
	if _, err := def.Pin(providers.PinOptions{Variables: variables, ClientID: opts.ClientID, HasSecret: true, RedirectURI: redirect}); err != nil {
		return pinError(err)
	}
	id, clientSecret, name, err := ws.readClient(ctx, def, opts, redirect)
	if err != nil {
		return err
	}
	if clientSecret.IsZero() && needsSecret(def.Provider) {
		return failf(exitUsage, "give it at the prompt, or on stdin with --client-secret-stdin",
			"%s needs a client secret", oauth.Clean(def.Name))
	}
	pinned := providers.PinOptions{Variables: variables, ClientID: id, HasSecret: !clientSecret.IsZero(), RedirectURI: redirect}
	if name != opts.Provider {
		pinned.Flow = flow.FlowJWTBearer
	}
	pins, err := def.Pin(pinned)
	if err != nil {
		return pinError(err)
	}
	s, err := ws.clientStore(ctx, scope)
	if err != nil {
		return err
	}
	r := connection.Registration{
		Provider:      name,
		Project:       scope,
		ClientID:      id,
		TokenEndpoint: pins.TokenEndpoint,
		AuthMethod:    pins.AuthMethod,
		RedirectURI:   redirect,
		Variables:     variables,
		HasSecret:     !clientSecret.IsZero(),
		SetAt:         ws.app.Now().UTC(),
	}
	if err := s.SetClient(ctx, r, clientSecret); err != nil {
		return fmt.Errorf("store the client of %s: %w", oauth.Clean(opts.Provider), err)
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, describeClient(r, s.Kind(), def.RegisterURI(redirect)))
	}
	what := "client " + oauth.Clean(id)
	switch {
	case opts.Key.given():
		what = describeKey(id, r.AuthMethod)
	case r.HasSecret:
		what += " with its secret"
	}
	ws.say("Stored %s for %s, %s, in the %s store.", what, oauth.Clean(def.Name), ws.scopeText(scope), s.Kind())
	if name == opts.Provider {
		ws.sayRedirect(def, redirect, variables)
	}
	if recorded, err := ws.recordedStore(ws.projectID); ws.unbound != nil || err == nil && recorded == "" {
		if s.Kind() != store.KindKeychain && ws.cfg.StoreFrom == "--store" {
			ws.say("The first connect chooses the store: give it --store %s, too.", s.Kind())
		}
	}
	ws.noteOtherClients(s, opts.Provider, id)
	if scope == "" {
		ws.noteOtherStores(s, opts.Provider)
	}
	return nil
}

// sayRedirect names what has to stand in the provider's form.
func (ws *workspace) sayRedirect(def *providers.Definition, redirect string, variables map[string]string) {
	if def.AuthorizationEndpoint == "" {
		return
	}
	uri := def.RegisterURI(redirect)
	if uri == "" {
		ws.say("%s takes no redirect URI in its form.", oauth.Clean(def.Name))
		return
	}
	ws.say("This redirect URI has to be registered there, exactly:")
	ws.say("  %s", oauth.Clean(uri))
	if page := registerPage(def.Provider, variables); page != "" {
		ws.say("at %s", oauth.Clean(page))
	}
}

// registerPage is where an application is registered, with the values that the
// variables in its address have, or else their defaults.
func registerPage(p *providers.Provider, variables map[string]string) string {
	page := p.Register.Page
	for _, v := range p.Variables {
		if value := cmp.Or(variables[v.Name], v.Default); value != "" {
			page = strings.ReplaceAll(page, "{"+v.Name+"}", value)
		}
	}
	return page
}

// noteOtherClients names the connections of this project that were made with
// another client: they go on with that one and get no secret of this one.
func (ws *workspace) noteOtherClients(s *store.Store, provider, id string) {
	if ws.unbound != nil {
		return
	}
	names, err := s.Names(ws.projectID)
	if err != nil {
		return
	}
	var others []string
	for _, name := range names {
		h, err := s.Header(connection.Key{Project: ws.projectID, Name: name})
		if err == nil && h.Provider == provider && h.Pins.ClientID != id && h.Pins.ClientID != "" {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		ws.warn("%s: made with another client; connect again to use this one", strings.Join(others, ", "))
	}
}

// noteOtherStores names the stores that hold a client of the provider for all
// projects, too: their projects go on with that one.
func (ws *workspace) noteOtherStores(s *store.Store, provider string) {
	_ = ws.eachStore(func(other *store.Store) error {
		if other.ID() == s.ID() {
			return nil
		}
		if _, err := other.Registration(provider, ""); err == nil {
			ws.warn("the %s store has a client of %s as well, which its projects go on with; set it in one of them, too",
				other.Kind(), oauth.Clean(provider))
		}
		return nil
	})
}

// clientScope is the project that a registration is for; empty for all projects
// of the user.
func (ws *workspace) clientScope(forProject bool) (string, error) {
	if !forProject {
		return "", nil
	}
	if ws.projectID == project.Personal {
		return "", failf(exitUsage, "leave --project away to set it for all of yours, or write a manifest with 'apiauth project init'",
			"--project: there is no project here")
	}
	return ws.bound()
}

func (ws *workspace) scopeText(scope string) string {
	if scope == "" {
		return "for all your projects"
	}
	return "for " + ws.label()
}

// clientStore is the store that a registration goes to: the project's, or the
// one that its first connect will choose.
func (ws *workspace) clientStore(ctx context.Context, scope string) (*store.Store, error) {
	if ws.unbound == nil || scope != "" {
		return ws.storeOrNew(ctx)
	}
	return store.Create(ctx, ws.storeOptions(), ws.kind())
}

// readClient finds the id and the secret: a key, flags and stdin, else the person;
// and the name to register the client under.
func (ws *workspace) readClient(ctx context.Context, def *providers.Definition, opts clientSetOptions, redirect string) (id string, t secret.Text, name string, err error) {
	if !opts.Key.given() && oauth.UsesCertificate(def.TokenEndpointAuthMethod) {
		return "", secret.Text{}, "", failf(exitUsage, "give it with --client-id ID --client-certificate FILE --client-key FILE", "%s wants a client with a certificate", oauth.Clean(def.Name))
	}
	if !opts.Key.given() {
		id, t, err = ws.readIDAndSecret(ctx, def, opts, redirect)
		return id, t, opts.Provider, err
	}
	takes, bearer := takesKey(def.Provider, flow.FlowAuto)
	switch {
	case !takes && opts.Key.Certificate == "":
		return "", secret.Text{}, "", usagef("--key-file, --key-stdin: %s signs nothing with a client's key", oauth.Clean(def.Name))
	case opts.Key.Stdin && opts.SecretStdin:
		return "", secret.Text{}, "", usagef("--key-stdin and --client-secret-stdin cannot both read standard input")
	}
	file, err := opts.Key.clientKey(ctx, ws, def, bearer)
	if err != nil {
		return "", secret.Text{}, "", err
	}
	if id = cmp.Or(opts.ClientID, file.ClientID, def.ClientID); id == "" {
		return "", secret.Text{}, "", failf(exitUsage, "give it with --client-id", "the key file does not say which client it belongs to")
	}
	if opts.SecretStdin {
		if file.Key.Secret, err = flow.ReadSecret(ws.app.Stdin); err != nil {
			return "", secret.Text{}, "", failf(exitUsage, "pipe the secret as one line", "%w", err)
		}
	}
	name = opts.Provider
	if bearer {
		name = connection.ClientName(opts.Provider, connection.FlowJWTBearer)
	}
	t, err = file.Key.Encode()
	return id, t, name, err
}

func (ws *workspace) readIDAndSecret(ctx context.Context, def *providers.Definition, opts clientSetOptions, redirect string) (string, secret.Text, error) {
	id := opts.ClientID
	if id == "" {
		id = def.ClientID
	}
	if opts.SecretStdin {
		if id == "" {
			return "", secret.Text{}, usagef("--client-secret-stdin needs --client-id")
		}
		t, err := flow.ReadSecret(ws.app.Stdin)
		if err != nil {
			return "", secret.Text{}, failf(exitUsage, "pipe the secret as one line", "%w", err)
		}
		return id, t, nil
	}
	switch {
	case id == "" && ws.person():
		uri := def.RegisterURI(redirect)
		if uri == "" {
			uri = "none is registered"
		}
		id, t, err := askClient(ctx, ws.app, def, uri)
		if err != nil {
			return "", secret.Text{}, err
		}
		if id == "" {
			return "", secret.Text{}, usagef("no client id was given")
		}
		return id, emptyAsZero(t), nil
	case id == "":
		return "", secret.Text{}, usagef("the client's id is missing: give it with --client-id")
	case def.TokenEndpointAuthMethod == oauth.AuthNone, !ws.person():
		return id, secret.Text{}, nil
	}
	hint := "not shown while you type"
	if !needsSecret(def.Provider) {
		hint += "; leave it empty for a client without one"
	}
	t, err := askHidden(ctx, ws.app, "Client secret of "+id, hint)
	return id, emptyAsZero(t), err
}

// emptyAsZero makes an empty answer no secret at all.
func emptyAsZero(t secret.Text) secret.Text {
	if t.IsZero() || t.Len() == 0 {
		return secret.Text{}
	}
	return t
}

// needsSecret reports whether no flow of the provider works without a secret.
func needsSecret(p *providers.Provider) bool {
	return p.TokenEndpointAuthMethod != oauth.AuthNone && p.TokenEndpointAuthMethod != "" && !p.SecretOptional && p.DeviceAuthMethod != oauth.AuthNone
}

// chosenRedirect is the redirect that was registered; empty for the provider's
// own.
func chosenRedirect(def *providers.Definition, opts clientSetOptions) (string, error) {
	switch {
	case opts.RedirectURI != "" && opts.Port != 0:
		return "", usagef("--redirect-uri and --port exclude each other")
	case opts.Port == 0 && opts.RedirectURI == "":
		return "", nil
	case def.AuthorizationEndpoint == "":
		return "", usagef("%s has no browser flow, and so no redirect URI", oauth.Clean(def.Name))
	case opts.RedirectURI != "":
		return opts.RedirectURI, nil
	case opts.Port < 1 || opts.Port > 65535:
		return "", usagef("--port takes a number from 1 to 65535, not %d", opts.Port)
	}
	u, err := url.Parse(strings.Replace(def.DefaultRedirect(), ":*/", "/", 1))
	if err != nil || u.Scheme != "http" {
		return "", usagef("the redirect URI of %s has no port to choose; give the whole with --redirect-uri", oauth.Clean(def.Name))
	}
	u.Host = u.Hostname() + ":" + strconv.Itoa(opts.Port)
	if strings.Contains(u.Hostname(), ":") {
		u.Host = "[" + u.Hostname() + "]:" + strconv.Itoa(opts.Port)
	}
	return u.String(), nil
}

// pinError makes a wrong value of a flag a usage error.
func pinError(err error) error {
	var missing *providers.MissingVariableError
	if errors.As(err, &missing) {
		return err
	}
	return failf(exitUsage, "see --var, --redirect-uri and --port", "%w", err)
}

// parseVariables reads repeated NAME=VALUE.
func parseVariables(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" || value == "" {
			return nil, usagef("--var takes NAME=VALUE, not %q", oauth.Clean(pair))
		}
		if _, twice := values[name]; twice {
			return nil, usagef("--var names %s twice", oauth.Clean(name))
		}
		values[name] = value
	}
	return values, nil
}

// eachStore calls do for every store of the user.
func (ws *workspace) eachStore(do func(*store.Store) error) error {
	metas, err := store.List(ws.storesDir())
	if err != nil {
		return err
	}
	for _, m := range metas {
		s, err := store.Open(ws.storeOptions(), m.ID)
		if err != nil {
			return err
		}
		if err := do(s); err != nil {
			return err
		}
	}
	return nil
}
