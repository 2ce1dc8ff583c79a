package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/store"
)

type statusOptions struct {
	Names []string
	Live  bool
}

func newStatusCmd(g *globals) *cobra.Command {
	var opts statusOptions
	cmd := &cobra.Command{
		Use:     "status [NAME...]",
		Short:   "Show the connections of this project",
		GroupID: groupGrant,
		Long: `Show provider, account, scopes, expiry, deadlines, state and store of each
connection. It reads local files only, and wakes neither keychain nor network;
--live proves each connection by getting a token and asking the provider for the
account.

What is stored is not protected from other programs of the same user: each of
them can ask the keychain, and apiauth itself, for a token.`,
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, names []string) error {
			opts.Names = names
			return runStatus(cmd.Context(), g, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.Live, "live", false, "prove each connection: get a token and ask the provider who it is")
	return cmd
}

func newListCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the connections of this project",
		GroupID: groupGrant,
		Args:    args(noArguments),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runList(g)
		},
	}
}

// statusEntry is one connection as status shows it. A broken record is shown
// too, with what is wrong.
type statusEntry struct {
	Name     string
	Header   *connection.Header // nil when it is not connected or unreadable
	Problem  error
	Needed   []string
	Missing  []string
	Live     string // result of --live
	LiveErr  error
	Required bool // the manifest names it
}

// entries lists what is stored and what the manifest asks for.
func (ws *workspace) entries(names []string) ([]statusEntry, connection.Store, error) {
	s, project, err := ws.shown()
	if err != nil {
		return nil, nil, err
	}
	var stored []string
	if s != nil {
		if stored, err = s.Names(project); err != nil {
			return nil, nil, err
		}
	}
	all := slices.Clone(stored)
	if ws.manifest != nil {
		for _, c := range ws.manifest.Connections {
			all = append(all, c.Name)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(names) > 0 {
		for _, n := range names {
			if !slices.Contains(all, n) {
				return nil, nil, ws.notConnected(n)
			}
		}
		all = names
	}
	var list []statusEntry
	for _, name := range all {
		e := statusEntry{Name: name}
		if ws.manifest != nil {
			if c, ok := ws.manifest.Connection(name); ok {
				e.Needed, e.Required = c.Scopes, true
			}
		}
		if slices.Contains(stored, name) {
			e.Header, e.Problem = s.Header(connection.Key{Project: project, Name: name})
			if e.Problem == nil {
				e.Missing = e.Header.Missing(e.Needed)
			}
		}
		list = append(list, e)
	}
	return list, s, nil
}

// shown is the store whose connections a person is shown: the bundle's, where
// the environment holds one, else the project's; nil where there is none yet.
func (ws *workspace) shown() (connection.Store, string, error) {
	b, err := ws.bundle()
	if err != nil {
		return nil, "", err
	}
	if b != nil {
		return b.Store, b.Project, nil
	}
	if _, err := ws.bound(); err != nil {
		return nil, "", err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return nil, ws.projectID, nil
	}
	if err != nil {
		return nil, "", err
	}
	return s, ws.projectID, nil
}

func runStatus(ctx context.Context, g *globals, opts statusOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	list, s, err := ws.entries(opts.Names)
	if err != nil {
		return err
	}
	failed := false
	if opts.Live {
		for i := range list {
			ws.prove(ctx, &list[i])
			failed = failed || list[i].LiveErr != nil
		}
	}
	if ws.cfg.JSON {
		if err := writeStatusJSON(g.app.Stdout, ws, s, list); err != nil {
			return err
		}
	} else if err := ws.printStatus(s, list); err != nil {
		return err
	}
	if failed {
		return &silentError{exitFailure}
	}
	return nil
}

// prove gets a token and asks the provider whose it is.
func (ws *workspace) prove(ctx context.Context, e *statusEntry) {
	access, err := ws.token(ctx, e.Name, connection.Option{})
	if err != nil {
		e.LiveErr = err
		return
	}
	e.Header = &access.Header
	e.Missing = e.Header.Missing(e.Needed)
	src := &connection.Source{Issuer: ws.http, Now: ws.app.Now}
	if from, err := ws.origin(e.Name); err == nil {
		src.ClientSecret = from.src.ClientSecret
	}
	account, err := src.Identify(ctx, &connection.Record{Header: access.Header, Body: connection.Body{Access: access.Token, Kept: access.Kept}})
	switch {
	case err != nil:
		e.LiveErr = err
	case account == (connection.Account{}):
		e.Live = "token at hand; the provider has no way to ask for the account"
	default:
		e.Live = "the provider answers: " + describeAccount(account)
	}
}

func (ws *workspace) printStatus(s connection.Store, list []statusEntry) error {
	if len(list) == 0 {
		ws.say("Nothing is connected in %s. 'apiauth connect NAME' begins.", ws.label())
		return nil
	}
	var out strings.Builder
	now := ws.app.Now()
	for i, e := range list {
		if i > 0 {
			fmt.Fprintln(&out)
		}
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		row := func(label, value string) { fmt.Fprintf(w, "  %s\t%s\n", label, value) }
		fmt.Fprintln(w, e.Name)
		switch {
		case e.Header == nil && e.Problem == nil:
			row("state", "not connected; run 'apiauth connect "+e.Name+"'")
			if len(e.Needed) > 0 {
				row("needed", cleanList(e.Needed))
			}
		case e.Problem != nil:
			row("state", "unreadable: "+oauth.Clean(e.Problem.Error()))
		default:
			ws.printHeader(row, s, &e, now)
		}
		if e.LiveErr != nil {
			row("live", "failed: "+oauth.Clean(e.LiveErr.Error()))
		} else if e.Live != "" {
			row("live", e.Live)
		}
		_ = w.Flush() // into memory
	}
	if _, err := io.WriteString(ws.app.Stdout, out.String()); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return nil
}

func (ws *workspace) printHeader(row func(label, value string), s connection.Store, e *statusEntry, now time.Time) {
	h := e.Header
	row("provider", oauth.Clean(h.Provider))
	row("account", describeAccount(h.Account))
	row("state", describeState(h))
	if len(h.ScopesAsked) > 0 {
		row("asked", cleanList(h.ScopesAsked))
	}
	if h.ScopesKnown {
		row("granted", cleanList(h.ScopesGranted))
	} else {
		row("granted", "not told by the provider")
	}
	if len(e.Needed) > 0 {
		row("needed", cleanList(e.Needed))
	}
	if len(e.Missing) > 0 {
		row("missing", cleanList(e.Missing)+"; run 'apiauth connect "+e.Name+"'")
	}
	row("token", describeExpiry(h, now))
	if !h.GrantDeadline.IsZero() {
		row(deadlineOf(h), deadline(h.GrantDeadline, now))
	}
	if !h.RefreshDeadline.IsZero() {
		row("refresh", deadline(h.RefreshDeadline, now))
	}
	if ends := ws.certificateEnds(s, h); !ends.IsZero() {
		text := deadline(ends, now)
		if ends.Sub(now) < certificateSoon {
			text += "; store the next one with 'apiauth client set " + oauth.Clean(h.Provider) + " --client-certificate'"
		}
		row("certificate", text)
	}
	row("store", describeStore(s, h))
	row("connected", h.ConnectedAt.Local().Format("2006-01-02 15:04")+" by "+h.Flow)
	if kept, ok := s.(*store.Store); ok {
		if set, known := ws.secretSet(kept, h); known {
			if age, old := ws.oldSecret(set); old {
				row("note", fmt.Sprintf("the client secret is %s old ('apiauth client set --next')", humanDuration(age)))
			}
		}
	}
}

func describeState(h *connection.Header) string {
	if h.State == connection.StateNeedsConnect {
		return "needs connect: " + oauth.Clean(h.StateReason)
	}
	return "ok"
}

func deadline(t, now time.Time) string {
	left := t.Sub(now)
	if left <= 0 {
		return "ended on " + t.Local().Format(time.DateOnly)
	}
	return fmt.Sprintf("until %s (%s left)", t.Local().Format(time.DateOnly), humanDuration(left))
}

func runList(g *globals) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	list, s, err := ws.entries(nil)
	if err != nil {
		return err
	}
	if ws.cfg.JSON {
		return writeStatusJSON(g.app.Stdout, ws, s, list)
	}
	if len(list) == 0 {
		ws.say("Nothing is connected in %s. 'apiauth connect NAME' begins.", ws.label())
		return nil
	}
	w := tabwriter.NewWriter(g.app.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPROVIDER\tACCOUNT\tSTATE")
	for _, e := range list {
		switch {
		case e.Problem != nil:
			fmt.Fprintf(w, "%s\t?\t?\tunreadable\n", e.Name)
		case e.Header == nil:
			fmt.Fprintf(w, "%s\t-\t-\tnot connected\n", e.Name)
		default:
			state := string(e.Header.State)
			if len(e.Missing) > 0 {
				state += ", scopes missing"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.Name, oauth.Clean(e.Header.Provider), describeAccount(e.Header.Account), state)
		}
	}
	return w.Flush()
}

// statusJSON is version 1 of what status --json prints, one per connection.
type statusJSON struct {
	Name            string     `json:"name"`
	Project         string     `json:"project"`
	State           string     `json:"state"` // ok, needs-connect, not-connected, unreadable
	Reason          string     `json:"reason,omitempty"`
	Provider        string     `json:"provider,omitempty"`
	Subject         string     `json:"subject,omitempty"`
	Account         string     `json:"account,omitempty"`
	Flow            string     `json:"flow,omitempty"`
	ScopesAsked     []string   `json:"scopes_asked,omitempty"`
	ScopesGranted   []string   `json:"scopes_granted"` // null: the provider does not tell
	ScopesNeeded    []string   `json:"scopes_needed,omitempty"`
	ScopesMissing   []string   `json:"scopes_missing,omitempty"`
	ExpiresAt       *time.Time `json:"expires_at,omitempty"`
	Renewable       bool       `json:"renewable"`
	GrantDeadline   *time.Time `json:"grant_deadline,omitempty"`
	RefreshDeadline *time.Time `json:"refresh_deadline,omitempty"`
	CertificateEnds *time.Time `json:"certificate_ends,omitempty"` // of the client
	ConnectedAt     *time.Time `json:"connected_at,omitempty"`
	Store           string     `json:"store,omitempty"`
	Keychain        string     `json:"keychain,omitempty"`
	APIHosts        []string   `json:"api_hosts,omitempty"`
	Live            *bool      `json:"live,omitempty"`
	LiveDetail      string     `json:"live_detail,omitempty"`
}

func writeStatusJSON(w io.Writer, ws *workspace, s connection.Store, list []statusEntry) error {
	docs := make([]statusJSON, 0, len(list))
	for _, e := range list {
		docs = append(docs, e.json(ws, s))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(docs)
}

func (e *statusEntry) json(ws *workspace, s connection.Store) statusJSON {
	doc := statusJSON{Name: e.Name, Project: ws.projectID, State: "not-connected", ScopesNeeded: e.Needed, ScopesMissing: e.Missing}
	if e.LiveErr != nil || e.Live != "" {
		ok := e.LiveErr == nil
		doc.Live, doc.LiveDetail = &ok, e.Live
		if !ok {
			doc.LiveDetail = oauth.Clean(e.LiveErr.Error())
		}
	}
	if e.Problem != nil {
		doc.State, doc.Reason = "unreadable", oauth.Clean(e.Problem.Error())
		return doc
	}
	h := e.Header
	if h == nil {
		return doc
	}
	doc.State, doc.Reason = string(h.State), oauth.Clean(h.StateReason)
	doc.Provider, doc.Flow = oauth.Clean(h.Provider), h.Flow
	doc.Subject, doc.Account = oauth.Clean(h.Account.Subject), oauth.Clean(h.Account.Label)
	doc.ScopesAsked = h.ScopesAsked
	if h.ScopesKnown {
		doc.ScopesGranted = append([]string{}, h.ScopesGranted...)
	}
	moment := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	doc.ExpiresAt, doc.Renewable = moment(h.ExpiresAt()), h.CanRenew()
	doc.GrantDeadline, doc.RefreshDeadline, doc.ConnectedAt = moment(h.GrantDeadline), moment(h.RefreshDeadline), moment(h.ConnectedAt)
	doc.CertificateEnds = moment(ws.certificateEnds(s, h))
	doc.Store, doc.Keychain = s.Kind(), string(h.Keychain)
	doc.APIHosts = h.Pins.APIHosts
	return doc
}

// printStatusJSON prints connections that were stored just now.
func printStatusJSON(ws *workspace, recs []*connection.Record) error {
	s, err := ws.store()
	if err != nil {
		return err
	}
	var list []statusEntry
	for _, rec := range recs {
		e := statusEntry{Name: rec.Name, Header: &rec.Header}
		if ws.manifest != nil {
			if c, ok := ws.manifest.Connection(rec.Name); ok {
				e.Needed, e.Missing = c.Scopes, rec.Missing(c.Scopes)
			}
		}
		list = append(list, e)
	}
	return writeStatusJSON(ws.app.Stdout, ws, s, list)
}

// checkNames refuses what cannot be a connection before anything is opened.
func checkNames(names []string) error {
	for _, n := range names {
		if !project.ValidName(n) {
			return usagef("%s is no connection name", strings.TrimSpace(oauth.Clean(n)))
		}
	}
	return nil
}
