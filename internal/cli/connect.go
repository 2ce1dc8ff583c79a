package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
)

type connectOptions struct {
	Names       []string
	Provider    string
	Scopes      []string
	Chosen      bool // Scopes is a whole choice, in place of what was asked for before
	Flow        string
	NoBrowser   bool
	Port        int
	Timeout     time.Duration
	Account     string
	ClientID    string
	SecretStdin bool
	ImportStdin bool
	Explain     bool
	Yes         bool
	Variables   map[string]string
	RedirectURI string
	// obtained, when set, stands in for the flow: the grant was obtained
	// elsewhere.
	obtained  func(ctx context.Context, a *attempt) (*flow.Result, error)
	Site      string
	Resources []string
	Key       keyFlags
	Subject   string
	Expires   string // of a key or a token that the person has; see keyEnd
	ends      time.Time
}

func newConnectCmd(g *globals) *cobra.Command {
	var opts connectOptions
	cmd := &cobra.Command{
		Use:     "connect [NAME...]",
		Short:   "Obtain a grant and store it",
		GroupID: groupGrant,
		Long: `Run a provider's OAuth flow and keep the grant under NAME.

NAME is also the provider unless --provider says otherwise: 'connect spotify', or
'connect github-work --provider github'. A provider is an entry of the catalogue
('apiauth provider list') or the https URL of an issuer that publishes its
metadata. In a project without NAME, every connection of its apiauth.yaml that is
missing is connected.

Connecting again asks for what was granted before, plus what the manifest and
--scope name. The old grant stays until the new one is stored.`,
		Example: `  apiauth connect spotify
  apiauth connect github-work --provider github --scope repo
  apiauth connect keycloak --provider https://sso.example.com/realms/main
  apiauth connect spotify --flow client-credentials
  apiauth connect google-robot --provider google --key-file robot.json
  apiauth connect bank --client-id app-1 --client-certificate app.crt --client-key app.key`,
		ValidArgsFunction: completeConnectable(g),
		RunE: func(cmd *cobra.Command, names []string) error {
			opts.Names = names
			if opts.Expires == "" && cmd.Flags().Changed("expires") {
				return usagef("--expires is empty: give a date, or leave it out for a key without an end")
			}
			return runConnect(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Provider, "provider", "", "catalogue `ID` or issuer URL (default NAME)")
	f.StringSliceVar(&opts.Scopes, "scope", nil, "ask for `SCOPE`; repeat for more")
	f.StringVar(&opts.Flow, "flow", flow.FlowAuto, "auto, browser, device, paste, client-credentials, jwt-bearer, implicit or key")
	f.BoolVar(&opts.NoBrowser, "no-browser", false, "print the link, open no browser")
	f.IntVar(&opts.Port, "port", 0, "use this port for the loopback redirect (default: as registered, or any)")
	f.DurationVar(&opts.Timeout, "timeout", flow.DefaultTimeout, "give up waiting for the login after this `duration`")
	f.StringVar(&opts.Account, "account", "", "suggest this account to the provider")
	f.StringVar(&opts.ClientID, "client-id", "", "use this client instead of the stored one")
	f.BoolVar(&opts.SecretStdin, "client-secret-stdin", false, "read the client's secret from standard input and store it")
	f.BoolVar(&opts.ImportStdin, "import-stdin", false, "read an existing refresh token, personal access token or key from standard input")
	f.StringVar(&opts.Expires, "expires", "", "the `DATE` on which a key or token that you bring ends, as 2027-01-31 (its whole day still counts) or 90d; doctor, audit and status remind you")
	f.BoolVar(&opts.Explain, "explain", false, "tell each step in RFC terms, secrets masked")
	f.BoolVarP(&opts.Yes, "yes", "y", false, "agree to what would be asked: a new issuer, another account, changed endpoints")
	f.StringToStringVar(&opts.Variables, "var", nil, "a part of the provider's addresses, as `NAME=VALUE`, such as tenant=contoso; repeat for more")
	f.Lookup("var").DefValue = "" // or the help shows []
	f.StringVar(&opts.RedirectURI, "redirect-uri", "", "the redirect `URI` that the client is registered with")
	opts.Key.add(cmd)
	f.StringVar(&opts.Subject, "subject", "", "the `ACCOUNT` on whose behalf a client asks that signs with its key (jwt-bearer)")
	f.StringVar(&opts.Site, "site", "", "connect this `SITE`, where the account reaches several")
	f.StringArrayVar(&opts.Resources, "resource", nil, "ask for a token for this `URL` (RFC 8707); repeat for more")
	_ = cmd.RegisterFlagCompletionFunc("provider", completeProviders(g))
	_ = cmd.RegisterFlagCompletionFunc("flow", cobra.FixedCompletions(
		[]string{"auto", "browser", "device", "paste", "client-credentials", "jwt-bearer", "implicit", "key"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runConnect(ctx context.Context, g *globals, opts connectOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if opts.ends, err = keyEnd(opts.Expires, ws.app.Now()); err != nil {
		return usagef("--expires: %v", err)
	}
	names := opts.Names
	if len(names) == 0 {
		if names, err = missingConnections(ws); err != nil {
			return err
		}
		if len(names) == 0 {
			if len(ws.manifest.Connections) == 0 {
				return failf(exitUsage, "'apiauth connect NAME' connects one and adds it, for example 'apiauth connect spotify'", "%s names no connections", ws.manifest.File)
			}
			ws.say("Every connection of %s is there.", ws.label())
			return nil
		}
	}
	if len(names) > 1 && (opts.Provider != "" || opts.SecretStdin || opts.ImportStdin || opts.ClientID != "" || opts.Expires != "" || opts.Key.given()) {
		return usagef("--provider, --client-id, --client-secret-stdin, --key-file, --key-stdin, --client-certificate, --import-stdin and --expires are for one connection at a time")
	}
	if opts.Key.Stdin && opts.ImportStdin {
		return usagef("--key-stdin and --import-stdin cannot both read standard input")
	}
	if opts.SecretStdin && opts.ImportStdin {
		return usagef("--client-secret-stdin and --import-stdin cannot both read standard input")
	}
	for _, name := range names {
		if strings.Contains(name, "://") {
			return failf(exitUsage, fmt.Sprintf("choose a name for the connection: 'apiauth connect NAME --provider %s'", oauth.Clean(name)),
				"%q is the address of an issuer, not the name of a connection", oauth.Clean(name))
		}
		if !project.ValidName(name) {
			return usagef("%q is no connection name: use lower case letters, digits and hyphens, at most 63, beginning with a letter or digit", oauth.Clean(name))
		}
	}
	var stored []*connection.Record
	for _, name := range names {
		rec, err := connectOne(ctx, ws, opts, name)
		if err != nil {
			return err
		}
		stored = append(stored, rec)
	}
	if ws.cfg.JSON {
		return printStatusJSON(ws, stored)
	}
	return nil
}

// missingConnections are those of the manifest that are not stored.
func missingConnections(ws *workspace) ([]string, error) {
	if ws.manifest == nil {
		return nil, usagef("name what to connect, for example 'apiauth connect spotify'")
	}
	var s *store.Store
	if ws.unbound == nil {
		opened, err := ws.store()
		if err != nil && !errors.Is(err, errNoStore) {
			return nil, err
		}
		s = opened
	}
	var missing []string
	for _, c := range ws.manifest.Connections {
		if s != nil {
			h, err := s.Header(connection.Key{Project: ws.projectID, Name: c.Name})
			if err == nil && h.State == connection.StateOK && len(h.Missing(c.Scopes)) == 0 {
				continue
			}
			if err != nil && !errors.Is(err, connection.ErrNotStored) {
				return nil, err
			}
		}
		missing = append(missing, c.Name)
	}
	return missing, nil
}

// attempt is one login on its way.
type attempt struct {
	ws     *workspace
	opts   connectOptions
	name   string
	wanted project.Connection // from the manifest; zero without one
	before *connection.Header // the connection as it is stored; nil when it is new

	provider string // catalogue id or issuer URL
	def      *providers.Definition
	client   clientChoice
	pins     providers.Pins
	scopes   []string
	flow     string

	unanswered error // why the question about another account got no answer
}

// connectOne leads one connection from a name to a stored grant.
func connectOne(ctx context.Context, ws *workspace, opts connectOptions, name string) (_ *connection.Record, err error) {
	a := &attempt{ws: ws, opts: opts, name: name}
	if ws.manifest != nil {
		a.wanted, _ = ws.manifest.Connection(name)
	}
	if err := a.findProvider(ctx); err != nil {
		return nil, err
	}

	// Everything that can fail without a person fails before one is bothered,
	// and before anything is made.
	known, err := ws.knownStore()
	if err != nil {
		return nil, err
	}
	if err := a.readBefore(known); err != nil {
		return nil, err
	}
	if err := a.findClient(ctx, known); err != nil {
		return nil, err
	}
	if err := a.settle(ctx); err != nil {
		return nil, err
	}
	if err := a.approveChanges(ctx); err != nil {
		return nil, err
	}
	if client, err := ws.issuer(); err != nil {
		return nil, err
	} else if _, err := client.RoundTripper(); err != nil {
		return nil, err // a file of certificates that cannot be read
	}
	undoBind, err := ws.bind()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			undoBind()
		}
	}()
	s, err := ws.storeOrNew(ctx)
	if err != nil {
		return nil, err
	}
	key := connection.Key{Project: ws.projectID, Name: name}
	release, waited, err := s.LoginLock(ctx, key, func() {
		ws.say("Another login to %s is under way; waiting for it.", name)
	})
	if err != nil {
		return nil, err
	}
	defer release()
	if waited {
		if rec := a.doneByAnother(ctx, s, key); rec != nil {
			return rec, nil
		}
	}
	undo, err := s.Prepare(ctx, key)
	if err != nil {
		return nil, err
	}
	undoStore, err := ws.recordStore(s)
	if err != nil {
		undo()
		return nil, err
	}
	defer func() {
		if err != nil {
			undo()
			undoStore()
		}
	}()

	login, err := a.obtain(ctx)
	if err != nil {
		return nil, a.enrollError(err)
	}
	src, err := ws.source(s)
	if err != nil {
		return nil, err
	}
	if opts.Explain {
		src.Issuer = explainedIssuer{src.Issuer, a.tell}
	}
	rec, err := src.Enroll(ctx, *login)
	if err != nil {
		return nil, a.enrollError(err)
	}
	// Another login that was broken off may have taken both back.
	if _, err := ws.recordStore(s); err != nil {
		return nil, err
	}
	// Only now has the issuer accepted the client: a mistyped secret must not
	// replace one that works.
	if err := a.client.save(ctx, ws, s, a); err != nil {
		return nil, err
	}
	if err := ws.addToManifest(a); err != nil {
		ws.warn("%v", err)
	}
	ws.auditor(s).event(ctx, rec.Name, audit.EventConnect, rec.Provider)
	a.report(rec, s)
	ws.hook(ctx, hookConnect, rec.Name, "")
	return rec, nil
}

// readBefore reads what is stored under the name now. known may be nil.
func (a *attempt) readBefore(known *store.Store) error {
	if known == nil || a.ws.projectID == "" {
		return nil
	}
	h, err := known.Header(connection.Key{Project: a.ws.projectID, Name: a.name})
	switch {
	case errors.Is(err, connection.ErrNotStored), errors.Is(err, connection.ErrCorrupt):
		return nil
	case err != nil:
		return err
	}
	a.before = h
	if h.Provider != a.provider {
		return failf(exitUsage, fmt.Sprintf("disconnect it first, or use another name: 'apiauth connect NAME --provider %s'", oauth.Clean(a.provider)),
			"%q is connected to %s, not to %s", a.name, oauth.Clean(h.Provider), oauth.Clean(a.provider))
	}
	return nil
}

// doneByAnother reports the result of the login that this one waited for.
func (a *attempt) doneByAnother(ctx context.Context, s *store.Store, key connection.Key) *connection.Record {
	rec, err := s.Read(ctx, key)
	if err != nil || rec.State != connection.StateOK {
		return nil
	}
	if a.before != nil && rec.Generation <= a.before.Generation {
		return nil // the other one came to nothing
	}
	if len(rec.Missing(a.opts.Scopes)) > 0 {
		return nil
	}
	a.report(rec, s)
	return rec
}
