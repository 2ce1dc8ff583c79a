package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/bundle"
	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

func newBundleCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "bundle",
		Short:   "Seal connections into one value for CI",
		GroupID: groupAway,
		Long: `Seal chosen connections into one value, for a CI system that has no keychain. A
job gets it as APIAUTH_BUNDLE and its key as APIAUTH_BUNDLE_KEY, each also as a
file that APIAUTH_BUNDLE_FILE and APIAUTH_BUNDLE_KEY_FILE name. From them, token,
exec, env, api and status work without a login and without a binding. What they
refresh stays in memory: nothing is written back.`,
	}, newBundleCreateCmd(g), newBundleListCmd(g), newBundleRevokeCmd(g), newBundleShowCmd(g))
}

type bundleOptions struct {
	Connections []string
	Expires     string
	AccessOnly  bool
	Output      string
}

func newBundleCreateCmd(g *globals) *cobra.Command {
	var opts bundleOptions
	cmd := &cobra.Command{
		Use:         "create [NAME[=VAR]...]",
		Short:       "Seal connections, and print the bundle and its key",
		Annotations: lateSignals(),
		Long: `Seal the connections of the project's apiauth.yaml, or each NAME, under a new key.
NAME=VAR also chooses the variable that exec and env give it.

Client credentials are sealed as client id and secret, static keys as they are. A
grant with a refresh token is sealed only where the provider never replaces that:
elsewhere the job and this machine would end it for each other. Use client
credentials for those, or --access-only, which seals the access token until it
expires.

The key is shown once and kept nowhere. On a terminal both are printed; else name
a file for the bundle with --output, and the key alone goes to standard output, or
ask for both with --json. Whoever has both has what is sealed.`,
		Example: `  apiauth bundle create --output bundle.txt | gh secret set APIAUTH_BUNDLE_KEY
  gh secret set APIAUTH_BUNDLE < bundle.txt
  apiauth bundle create spotify=SPOTIFY_TOKEN --expires 30d
  apiauth bundle create github --access-only`,
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Connections = a
			return runBundleCreate(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Expires, "expires", "90d", "end after this `time`, such as 12h or 30d; at most 366d")
	f.BoolVar(&opts.AccessOnly, "access-only", false, "seal access tokens only, until they expire")
	f.StringVarP(&opts.Output, "output", "o", "", "write the bundle to `FILE` (mode 0600), and the key to standard output")
	return cmd
}

// maxExpiry bounds how long a bundle may be good for.
const maxExpiry = 366 * 24 * time.Hour

// parseExpiry reads how long a bundle is to be good for.
func parseExpiry(text string) (time.Duration, error) {
	d, ok := config.ParseAge(text, maxExpiry)
	if !ok {
		return 0, usagef("--expires takes a time up to 366d, such as 12h or 30d, not %q", oauth.Clean(text))
	}
	return d, nil
}

// bundleJSON is version 1 of what bundle create --json prints.
type bundleJSON struct {
	bundleShownJSON
	Bundle string `json:"bundle,omitempty"` // absent with --output
	Key    string `json:"key"`
}

// bundleShownJSON is version 1 of what bundle show and list print.
type bundleShownJSON struct {
	ID          string              `json:"id"`
	Project     string              `json:"project"`
	Label       string              `json:"label,omitempty"`
	State       string              `json:"state"` // ok, expired, revoked
	Verified    *bool               `json:"verified,omitempty"`
	CreatedAt   time.Time           `json:"created_at"`
	ExpiresAt   time.Time           `json:"expires_at"`
	RevokedAt   *time.Time          `json:"revoked_at,omitempty"`
	Connections []bundleSummaryJSON `json:"connections"`
}

type bundleSummaryJSON struct {
	Name      string     `json:"name"`
	Provider  string     `json:"provider"`
	Holds     string     `json:"holds"` // refresh token, client secret, key, access token
	Env       string     `json:"env,omitempty"`
	APIHosts  []string   `json:"api_hosts,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

func shownBundle(h *bundle.Header, now time.Time) bundleShownJSON {
	doc := bundleShownJSON{
		ID: oauth.Clean(h.ID), Project: oauth.Clean(h.Project), Label: oauth.Clean(h.Label), State: "ok",
		CreatedAt: h.CreatedAt.UTC(), ExpiresAt: h.ExpiresAt.UTC(), Connections: []bundleSummaryJSON{},
	}
	if !now.Before(h.ExpiresAt) {
		doc.State = "expired"
	}
	for _, s := range h.Connections {
		c := bundleSummaryJSON{Name: oauth.Clean(s.Name), Provider: oauth.Clean(s.Provider), Holds: oauth.Clean(s.Holds), Env: oauth.Clean(s.Env)}
		for _, host := range s.APIHosts {
			c.APIHosts = append(c.APIHosts, oauth.Clean(host))
		}
		if !s.ExpiresAt.IsZero() {
			at := s.ExpiresAt.UTC()
			c.ExpiresAt = &at
		}
		doc.Connections = append(doc.Connections, c)
	}
	return doc
}

func runBundleCreate(ctx context.Context, g *globals, opts bundleOptions) error {
	lifetime, err := parseExpiry(opts.Expires)
	if err != nil {
		return err
	}
	if opts.Output == "" && !g.cfg.JSON && !g.app.StdoutTTY {
		return failf(exitUsage, "write the bundle to a file with --output, and the key goes to standard output; or ask for both with --json",
			"the bundle and its key would end up in one place")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if ws.bundleVariable() {
		return failf(exitUsage, "unset APIAUTH_BUNDLE and APIAUTH_BUNDLE_FILE first", "a bundle is made from what is stored here, not from another bundle")
	}
	if _, err := ws.bound(); err != nil {
		return err
	}
	list, err := ws.selected(opts.Connections)
	if err != nil {
		return err
	}
	var sealed []bundle.Connection
	for _, sel := range list {
		c, err := ws.sealable(ctx, sel, opts.AccessOnly)
		if err != nil {
			return err
		}
		sealed = append(sealed, *c)
	}
	now := ws.app.Now().UTC().Truncate(time.Second)
	h := bundle.Header{Project: ws.projectID, CreatedAt: now, ExpiresAt: now.Add(lifetime)}
	if ws.manifest != nil {
		h.Label = ws.manifest.Project
	}
	value, key, err := bundle.Seal(ws.app.Rand, &h, sealed)
	if err != nil {
		return fmt.Errorf("seal the bundle: %w", err)
	}
	// What cannot be listed cannot be revoked: it is written down before it is
	// given away.
	if err := bundle.Remember(ws.bundlesDir(), bundle.Made{Header: h}); err != nil {
		return failf(exitStore, "'apiauth paths' shows where it would be", "write down which bundle was made: %w", pathReason(err))
	}
	ws.sayBundle(&h, sealed)
	return ws.handOutBundle(&h, value, key, opts.Output)
}

// bundlesDir is where it is written down which bundles were made.
func (ws *workspace) bundlesDir() string { return filepath.Join(ws.dirs.State, "bundles") }

// sealable is a connection as it goes into a bundle, or why it must not.
func (ws *workspace) sealable(ctx context.Context, sel selection, accessOnly bool) (*bundle.Connection, error) {
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return nil, ws.notConnected(sel.Name)
	}
	if err != nil {
		return nil, err
	}
	h, err := s.Header(connection.Key{Project: ws.projectID, Name: sel.Name})
	if errors.Is(err, connection.ErrNotStored) {
		return nil, ws.notConnected(sel.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the connection %q: %w", sel.Name, err)
	}
	if reason := replaces(h); reason != "" && !accessOnly {
		return nil, failf(exitRefused,
			fmt.Sprintf("use client credentials where the provider has them ('apiauth connect %s --flow client-credentials'), or seal the access token alone with --access-only, until it expires", sel.Name),
			"%q must not be sealed: %s, so the job and this machine would end the grant for each other", sel.Name, reason)
	}
	if h.CanRenew() && accessOnly {
		from, err := ws.storeOrigin(sel.Name)
		if err != nil {
			return nil, err
		}
		// As good as new: it is the longest that the provider gives.
		if _, err := from.token(ctx, sel.Name, connection.Option{MinTTL: time.Duration(h.TTL) * time.Second * 9 / 10}); err != nil {
			return nil, err
		}
	}
	src, err := ws.source(s)
	if err != nil {
		return nil, err
	}
	rec, err := src.Export(ctx, sel.Name)
	if err != nil {
		return nil, err
	}
	c := &bundle.Connection{Record: *rec, Env: sel.Variable, Holds: bundle.HoldsKey}
	c.Record.Generation, c.Record.GrantGeneration = 1, 1
	c.Record.Keychain, c.Record.KeychainRun = connection.KeychainNone, ""
	c.Record.Body.Spare = secret.Text{}
	switch {
	case accessOnly || !rec.CanRenew():
		c.Record.HasRefresh, c.Record.Body.Refresh, c.Record.Flow = false, secret.Text{}, connection.FlowKey
		if rec.ExpiryKnown {
			c.Holds = bundle.HoldsAccess
		}
		return c, nil
	case rec.Flow == connection.FlowClientCredentials:
		c.Holds = bundle.HoldsClient
		c.Record.Body.Access, c.Record.ExpiryKnown, c.Record.TTL = secret.Text{}, false, 0 // the job asks for its own
	default:
		c.Holds = bundle.HoldsRefresh
	}
	if rec.Pins.AuthMethod != oauth.AuthNone && rec.Pins.AuthMethod != "" {
		if c.ClientSecret, err = src.ClientSecret(ctx, &rec.Header); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// replaces says why a grant cannot be used in two places: its refresh token is
// replaced at a refresh, or may be.
func replaces(h *connection.Header) string {
	if !h.HasRefresh || h.Flow == connection.FlowClientCredentials {
		return ""
	}
	provider := oauth.Clean(h.Provider)
	switch {
	case h.Rotated:
		return provider + " was seen to replace its refresh token"
	case h.Pins.Token.Rotates == "never":
		return ""
	case h.Pins.Token.Rotates == "always":
		return provider + " replaces the refresh token at every refresh"
	case h.Pins.Token.Rotates == "sometimes":
		return provider + " replaces the refresh token at some refreshes"
	}
	return provider + " may replace the refresh token at a refresh"
}

// sayBundle tells what was sealed and for how long.
func (ws *workspace) sayBundle(h *bundle.Header, sealed []bundle.Connection) {
	ws.say("Sealed bundle %s, good until %s:", h.ID, h.ExpiresAt.Format(time.DateOnly))
	for i, s := range h.Connections {
		what := s.Holds
		if !s.ExpiresAt.IsZero() {
			what += " until " + s.ExpiresAt.UTC().Format("2006-01-02 15:04 MST")
		}
		ws.say("  %s  %s", s.Name, what)
		for _, deadline := range []time.Time{sealed[i].Record.GrantDeadline, sealed[i].Record.RefreshDeadline} {
			what := map[string]string{bundle.HoldsRefresh: "grant", bundle.HoldsKey: "key"}[s.Holds]
			if what != "" && !deadline.IsZero() && deadline.Before(h.ExpiresAt) {
				ws.warn("the %s of %q ends on %s, before the bundle", what, s.Name, deadline.Local().Format(time.DateOnly))
			}
		}
	}
}

// handOutBundle gives value and key away, never both into one file unless that
// was asked for with --json.
func (ws *workspace) handOutBundle(h *bundle.Header, value, key secret.Text, output string) error {
	out := ws.app.Stdout
	var err error
	switch {
	case output != "":
		if err := ws.writeOutput(output, []byte(value.Reveal()+"\n")); err != nil {
			return err
		}
		ws.say("Wrote %s, for APIAUTH_BUNDLE. The key, for APIAUTH_BUNDLE_KEY, is kept nowhere.", oauth.Clean(output))
		if ws.cfg.JSON {
			doc := bundleJSON{bundleShownJSON: shownBundle(h, ws.app.Now()), Key: key.Reveal()}
			err = printJSON(out, doc)
			break
		}
		_, err = fmt.Fprintln(out, key.Reveal())
	case ws.cfg.JSON:
		err = printJSON(out, bundleJSON{shownBundle(h, ws.app.Now()), value.Reveal(), key.Reveal()})
	default:
		ws.say("Store both as secrets of the CI system; the key is kept nowhere.")
		_, err = fmt.Fprintf(out, "APIAUTH_BUNDLE=%s\nAPIAUTH_BUNDLE_KEY=%s\n", value.Reveal(), key.Reveal())
	}
	if err != nil {
		return failf(exitFailure, "make another one; this one opens nowhere", "write the bundle: %w", err)
	}
	return nil
}
