package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/store"
)

// What audit can find, as --fail-on names it.
const (
	findUnused       = "unused"
	findBroad        = "broad"
	findExpiring     = "expiring"
	findNeedsConnect = "needs-connect"
	findUnverified   = "unverified"
	findLive         = "live"
	findOldSecret    = "old-secret"
	findAlert        = "alert"
)

func findingNames() []string {
	return []string{findUnused, findBroad, findExpiring, findNeedsConnect, findUnverified, findLive, findOldSecret, findAlert}
}

// expiringWithin is how close a deadline is when audit finds it.
const expiringWithin = 14 * 24 * time.Hour

type auditOptions struct {
	Names  []string
	Unused string
	FailOn []string
	Verify bool
	Live   bool

	unused time.Duration
}

func newAuditCmd(g *globals) *cobra.Command {
	var opts auditOptions
	cmd := &cobra.Command{
		Use:     "audit [NAME...]",
		Short:   "Review the connections of this project, and who used them",
		GroupID: groupUse,
		Long: `Review each connection: age, last use, scopes that nobody asked for, deadlines, the
age of the client secret and of the store's key, and which programs got tokens.

Each token that leaves is written down in a local log: time, command, and the path
and folder of the program that asked; never its arguments and never a token. With
--verify the log is proven: a line that was changed, removed, reordered or cut off,
and an old log that was put back, end with status 1 and the place. Whoever runs as
you, with your keychain open, can write a log anew; it does not stop that.

--fail-on ends with status 1 when one of these is found:
  unused         no use for longer than --unused
  broad          a scope that neither the manifest nor a default asks for
  expiring       consent, key or refresh token ends within 14 days
  needs-connect  the grant has ended
  unverified     the log is not what was written (implies --verify)
  live           the provider does not accept the token (implies --live)
  old-secret     the client secret is older than remind_secret_age (180 days)
  alert          something unusual was seen within the last 30 days`,
		Example: `  apiauth audit
  apiauth audit --verify --fail-on unused,broad,expiring
  apiauth audit log github --since 7d`,
		Args:              args(cobra.ArbitraryArgs), // names, besides the command below
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, names []string) error {
			opts.Names = names
			return runAudit(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Unused, "unused", "30d", "how long without use is too long, such as `30d` or 12h")
	f.StringSliceVar(&opts.FailOn, "fail-on", nil, "end with status 1 on a `FINDING`; repeat for more")
	f.BoolVar(&opts.Verify, "verify", false, "prove every line of the log")
	f.BoolVar(&opts.Live, "live", false, "prove each connection: get a token and ask the provider who it is")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(findingNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.AddCommand(newAuditLogCmd(g))
	return cmd
}

// finding is one thing that audit found.
type finding struct {
	Finding string `json:"finding"`
	Detail  string `json:"detail"`
}

// auditJSON is version 1 of what audit --json prints, one per connection.
type auditJSON struct {
	Name        string        `json:"name"`
	Project     string        `json:"project"`
	Provider    string        `json:"provider,omitempty"`
	State       string        `json:"state"`
	ConnectedAt *time.Time    `json:"connected_at,omitempty"`
	LastUse     *time.Time    `json:"last_use,omitempty"`
	LogSince    *time.Time    `json:"log_since,omitempty"`
	Uses        int           `json:"uses"`
	Callers     []callerJSON  `json:"callers"`
	Lines       int           `json:"lines"`
	Proven      *int          `json:"lines_proven,omitempty"` // with --verify
	Former      int           `json:"lines_of_former_connections,omitempty"`
	Faults      []audit.Fault `json:"faults,omitempty"`
	Superfluous []string      `json:"scopes_superfluous,omitempty"`
	Consent     *time.Time    `json:"grant_deadline,omitempty"`
	Refresh     *time.Time    `json:"refresh_deadline,omitempty"`
	SecretSet   *time.Time    `json:"client_secret_set_at,omitempty"`
	StoreKey    *time.Time    `json:"store_key_made_at,omitempty"`
	Live        string        `json:"live,omitempty"`
	Findings    []finding     `json:"findings"`

	deadline string // what Consent is the end of
}

type callerJSON struct {
	Executable string    `json:"executable"`
	Uses       int       `json:"uses"`
	Last       time.Time `json:"last"`
}

func runAudit(ctx context.Context, g *globals, opts auditOptions) error {
	var err error
	if opts.unused, err = parseSpan("--unused", opts.Unused); err != nil {
		return err
	}
	for _, name := range opts.FailOn {
		if !slices.Contains(findingNames(), name) {
			return usagef("--fail-on takes %s, not %q", strings.Join(findingNames(), ", "), oauth.Clean(name))
		}
	}
	opts.Verify = opts.Verify || slices.Contains(opts.FailOn, findUnverified)
	opts.Live = opts.Live || slices.Contains(opts.FailOn, findLive)
	if err := checkNames(opts.Names); err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if _, err := ws.bound(); err != nil {
		return err
	}
	list, _, err := ws.entries(opts.Names)
	if err != nil {
		return err
	}
	s, err := ws.store()
	if err != nil && !errors.Is(err, errNoStore) {
		return err
	}
	docs := []auditJSON{}
	failed := false
	for i := range list {
		doc, err := ws.review(ctx, s, &list[i], opts)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
		for _, f := range doc.Findings {
			failed = failed || slices.Contains(opts.FailOn, f.Finding) || opts.Verify && f.Finding == findUnverified
		}
	}
	if ws.cfg.JSON {
		err = printJSON(g.app.Stdout, docs)
	} else {
		err = ws.printAudit(docs)
	}
	if err == nil && failed {
		err = &silentError{exitFailure}
	}
	return err
}

// review looks at one connection from all sides.
func (ws *workspace) review(ctx context.Context, s *store.Store, e *statusEntry, opts auditOptions) (auditJSON, error) {
	doc := auditJSON{Name: e.Name, Project: ws.projectID, State: "not-connected", Callers: []callerJSON{}, Findings: []finding{}}
	find := func(name, format string, a ...any) {
		doc.Findings = append(doc.Findings, finding{name, fmt.Sprintf(format, a...)})
	}
	now := ws.app.Now()
	if s != nil {
		h, err := ws.history(ctx, s, e, opts.Verify)
		if err != nil {
			return doc, err
		}
		doc.tally(h, now, find)
		if opts.Verify {
			doc.Proven, doc.Former, doc.Faults = &h.Checked, h.Former, h.Faults
			for _, f := range h.Faults {
				find(findUnverified, "%s", f)
			}
		}
		if s.Kind() == store.KindFile {
			doc.StoreKey = instant(s.CreatedAt())
		}
	}
	if opts.Live && e.Header != nil {
		ws.prove(ctx, e)
		if doc.Live = e.Live; e.LiveErr != nil {
			doc.Live = "failed: " + oauth.Clean(e.LiveErr.Error())
			find(findLive, "%s", oauth.Clean(e.LiveErr.Error()))
		}
	}
	switch {
	case e.Problem != nil:
		doc.State = "unreadable"
		return doc, nil
	case e.Header == nil:
		return doc, nil
	}
	h := e.Header
	doc.Provider, doc.State = oauth.Clean(h.Provider), string(h.State)
	doc.deadline = deadlineOf(h)
	doc.ConnectedAt, doc.Consent, doc.Refresh = instant(h.ConnectedAt), instant(h.GrantDeadline), instant(h.RefreshDeadline)
	if doc.StoreKey == nil { // a keychain store makes a key for each connection
		doc.StoreKey = instant(h.ConnectedAt)
		if s != nil && s.CreatedAt().After(h.ConnectedAt) { // they were sealed anew
			doc.StoreKey = instant(s.CreatedAt())
		}
	}
	if h.State == connection.StateNeedsConnect {
		find(findNeedsConnect, "%s", oauth.Clean(h.StateReason))
	}
	last := h.ConnectedAt
	if doc.LastUse != nil {
		last = *doc.LastUse
	}
	if idle := now.Sub(last); idle > opts.unused && !ws.cfg.NoAudit {
		find(findUnused, "not used for %s", humanDuration(idle))
	}
	if doc.Superfluous = ws.superfluous(e); len(doc.Superfluous) > 0 {
		find(findBroad, "granted, and asked for by nobody: %s", cleanList(doc.Superfluous))
	}
	for _, d := range []struct {
		what string
		at   time.Time
	}{{deadlineOf(h), h.GrantDeadline}, {"refresh token", h.RefreshDeadline}} {
		if !d.at.IsZero() && d.at.Sub(now) < expiringWithin {
			find(findExpiring, "%s %s", d.what, deadline(d.at, now))
		}
	}
	if set, ok := ws.secretSet(s, h); ok {
		doc.SecretSet = instant(set)
		if age, old := ws.oldSecret(set); old {
			find(findOldSecret, "the client secret is %s old", humanDuration(age))
		}
	}
	return doc, nil
}

// history reads the log of a connection. Without verify no key is asked for.
func (ws *workspace) history(ctx context.Context, s *store.Store, e *statusEntry, verify bool) (*audit.History, error) {
	key := connection.Key{Project: ws.projectID, Name: e.Name}
	path, err := s.AuditPath(key)
	if err != nil {
		return nil, err
	}
	log := &audit.Log{Path: path}
	if verify && e.Header != nil {
		if log, err = s.AuditLog(ctx, key); err != nil {
			return nil, err
		}
		if !audit.Exists(path) {
			log.Lock = nil // which would make a file
		}
	}
	h, err := log.Read()
	if err != nil {
		return nil, failf(exitStore, "'apiauth doctor' looks at the files", "%w", err)
	}
	return h, nil
}

// tally counts uses and callers.
func (doc *auditJSON) tally(h *audit.History, now time.Time, find func(name, format string, a ...any)) {
	callers := map[string]*callerJSON{}
	doc.Lines = len(h.Lines)
	if len(h.Lines) > 0 {
		doc.LogSince = instant(h.Lines[0].Time)
	}
	for i := range h.Lines {
		l := &h.Lines[i]
		switch l.Event {
		case audit.EventAlert:
			if now.Sub(l.Time) < 30*24*time.Hour {
				find(findAlert, "%s on %s", oauth.Clean(l.Detail), l.Time.Local().Format("2006-01-02 15:04"))
			}
			continue
		case audit.EventToken, audit.EventCalls:
		default:
			continue
		}
		uses := l.Uses()
		doc.Uses += uses
		doc.LastUse = instant(l.Time)
		c := callers[l.Caller]
		if c == nil {
			c = &callerJSON{Executable: oauth.Clean(l.Caller)}
			callers[l.Caller] = c
		}
		c.Uses, c.Last = c.Uses+uses, l.Time
	}
	for _, c := range callers {
		doc.Callers = append(doc.Callers, *c)
	}
	slices.SortFunc(doc.Callers, func(a, b callerJSON) int { return b.Last.Compare(a.Last) })
}

// superfluous lists scopes that were granted although neither the manifest, nor
// else a default of the provider, asks for them.
func (ws *workspace) superfluous(e *statusEntry) []string {
	h := e.Header
	if !h.ScopesKnown {
		return nil
	}
	wanted := slices.Clone(e.Needed)
	if def, err := ws.catalogue.Get(h.Provider); err == nil {
		wanted = append(wanted, def.Scopes.Required...)
		if len(e.Needed) == 0 {
			wanted = append(wanted, def.Scopes.Default...)
		}
	}
	if len(wanted) == 0 {
		wanted = h.ScopesAsked
	}
	return h.Pins.MissingScopes(h.ScopesGranted, wanted)
}

// secretSet returns when the client secret of a connection was set.
func (ws *workspace) secretSet(s *store.Store, h *connection.Header) (time.Time, bool) {
	if s == nil || oauth.UsesCertificate(h.Pins.AuthMethod) { // a certificate has an end of its own
		return time.Time{}, false
	}
	all, err := s.Registrations()
	if err != nil {
		return time.Time{}, false
	}
	for _, id := range []string{ws.projectID, ""} {
		for _, r := range all {
			if r.Project == id && r.HasSecret && r.ClientID == h.Pins.ClientID && r.TokenEndpoint == h.Pins.TokenEndpoint {
				return r.SetAt, true
			}
		}
	}
	return time.Time{}, false
}

// oldSecret returns the age of a client secret, and whether it is time to remind
// of it.
func (ws *workspace) oldSecret(set time.Time) (age time.Duration, old bool) {
	age, limit := ws.app.Now().Sub(set), ws.cfg.SecretAge()
	return age, limit > 0 && age > limit
}

func (ws *workspace) printAudit(docs []auditJSON) error {
	if len(docs) == 0 {
		ws.say("Nothing is connected in %s. 'apiauth connect NAME' begins.", ws.label())
		return nil
	}
	var out strings.Builder
	now := ws.app.Now()
	day := func(t *time.Time) string {
		return fmt.Sprintf("%s (%s ago)", t.Local().Format("2006-01-02 15:04"), humanDuration(max(0, now.Sub(*t))))
	}
	for i := range docs {
		d := &docs[i]
		if i > 0 {
			fmt.Fprintln(&out)
		}
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		row := func(label, value string) { fmt.Fprintf(w, "  %s\t%s\n", label, value) }
		fmt.Fprintln(w, d.Name)
		row("state", d.State)
		for _, t := range []struct {
			label string
			at    *time.Time
		}{{"connected", d.ConnectedAt}, {"last use", d.LastUse}, {"secret set", d.SecretSet}, {"store key", d.StoreKey}} {
			if t.at != nil {
				row(t.label, day(t.at))
			}
		}
		if d.Consent != nil {
			row(d.deadline, deadline(*d.Consent, now))
		}
		if d.Refresh != nil {
			row("refresh", deadline(*d.Refresh, now))
		}
		uses := plural(d.Uses, "use")
		if d.LogSince != nil {
			uses += " since " + d.LogSince.Local().Format(time.DateOnly)
		}
		row("log", uses+d.proof())
		for i, c := range d.Callers {
			if i == 5 {
				row("", fmt.Sprintf("and %d more programs", len(d.Callers)-i))
				break
			}
			name := c.Executable
			if name == "" {
				name = "unknown"
			}
			row("caller", fmt.Sprintf("%s (%s, last %s)", name, plural(c.Uses, "use"), c.Last.Local().Format("2006-01-02 15:04")))
		}
		if d.Live != "" {
			row("live", d.Live)
		}
		for _, f := range d.Findings {
			row("finding", f.Finding+": "+f.Detail)
		}
		_ = w.Flush() // into memory
	}
	if _, err := io.WriteString(ws.app.Stdout, out.String()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// proof tells how much of the log was proven.
func (doc *auditJSON) proof() string {
	if doc.Proven == nil {
		return ""
	}
	text := fmt.Sprintf("; %s proven", plural(*doc.Proven, "line"))
	if doc.Former > 0 {
		text += fmt.Sprintf(", %d of a former connection, whose key is gone", doc.Former)
	}
	return text
}

// instant is a time as JSON shows it; nil for none.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// parseSpan reads a duration that may be in days.
func parseSpan(flag, text string) (time.Duration, error) {
	d, err := parseExpiry(text)
	if err != nil {
		return 0, usagef("%s takes a time up to 366d, such as 12h or 30d, not %q", flag, oauth.Clean(text))
	}
	return d, nil
}
