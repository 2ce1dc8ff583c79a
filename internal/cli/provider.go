package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/store"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

func newProviderCmd(g *globals) *cobra.Command {
	return group(&cobra.Command{
		Use:     "provider",
		Short:   "The catalogue of providers, and your own definitions",
		GroupID: groupSetup,
		Long: `A provider is an entry of the catalogue: the facts about one issuer and its
APIs, without any secret. Definitions of your own lie beside it, one file each
('apiauth paths' says where).`,
	}, newProviderListCmd(g), newProviderShowCmd(g), newProviderAddCmd(g), newProviderCheckCmd(g))
}

func newProviderListCmd(g *globals) *cobra.Command {
	var flowName string
	cmd := &cobra.Command{
		Use:   "list [WORD]",
		Short: "List the providers, or those in which a word occurs",
		Example: `  apiauth provider list
  apiauth provider list --flow device
  apiauth provider list mail --json`,
		Args:              args(between(0, 1)),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			word := ""
			if len(args) > 0 {
				word = args[0]
			}
			return runProviderList(g, word, flowName)
		},
	}
	cmd.Flags().StringVar(&flowName, "flow", "", "only those that offer `FLOW`: "+strings.Join(providerFlows(), ", "))
	registerFlagCompletion(cmd, "flow", cobra.FixedCompletions(providerFlows(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func providerFlows() []string {
	return []string{providers.FlowBrowser, providers.FlowDevice, providers.FlowClientCredentials, providers.FlowJWTBearer, providers.FlowImplicit, providers.FlowKey}
}

func runProviderList(g *globals, word, flowName string) error {
	if flowName != "" && !slices.Contains(providerFlows(), flowName) {
		return usagef("--flow takes %s, not %q", strings.Join(providerFlows(), ", "), oauth.Clean(flowName))
	}
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	// Files that cannot be read are named, and do not hide the others.
	defs, err := ws.catalogue.List()
	for _, fault := range unjoin(err) {
		ws.warn("%v", fault)
	}
	list := []providerInfo{}
	rows := [][]string{{"ID", "NAME", "FLOWS", "VARIABLE", "ABOUT"}}
	for _, d := range defs {
		if flowName != "" && !slices.Contains(d.Flows, flowName) || !mentionsWord(d, word) {
			continue
		}
		list = append(list, describeProvider(d))
		about := d.Description
		switch {
		case d.Status != "":
			about = d.Status + ": " + about
		case d.ReplacesEntry:
			about = "(yours, in place of the catalogue's) " + about
		case d.Origin == providers.User:
			about = "(yours) " + about
		}
		flows := strings.Join(d.Flows, ", ")
		if d.NeedsDiscovery() {
			flows = "(discovered)"
		}
		rows = append(rows, []string{d.ID, d.Name, flows, d.Env, shorten(about, 70)})
	}
	if len(list) == 0 {
		ws.say("No provider matches. 'apiauth provider add FILE' or 'apiauth provider add ISSUER_URL' adds one.")
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, list)
	}
	if len(list) == 0 {
		return nil
	}
	return printTable(g.app.Stdout, rows...)
}

// unjoin takes apart what errors.Join made.
func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only the outermost is meant
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

func shorten(s string, runes int) string {
	if r := []rune(s); len(r) > runes {
		return strings.TrimRight(string(r[:runes-1]), " ,.;") + "…"
	}
	return s
}

// mentionsWord reports whether the word occurs in what describes a provider.
func mentionsWord(d *providers.Definition, word string) bool {
	if word == "" {
		return true
	}
	word = strings.ToLower(word)
	for _, text := range []string{d.ID, d.Name, d.Description, d.Env, d.API.BaseURL, d.Issuer} {
		if strings.Contains(strings.ToLower(text), word) {
			return true
		}
	}
	return slices.ContainsFunc(d.Scopes.Catalog, func(s providers.Scope) bool {
		return strings.Contains(strings.ToLower(s.Name+" "+s.Title), word)
	})
}

// providerInfo is a definition as it is printed for programs. Addresses may
// hold variables, written {name}.
type providerInfo struct {
	ID            string         `json:"id"`
	Name          string         `json:"name"`
	Description   string         `json:"description"`
	Status        string         `json:"status"`
	StatusNote    string         `json:"status_note,omitempty"`
	Origin        string         `json:"origin"` // catalogue, user or discovered
	Replaces      bool           `json:"replaces"`
	File          string         `json:"file,omitempty"`
	Issuer        string         `json:"issuer"`
	AuthorizeURL  string         `json:"authorize_url"`
	TokenURL      string         `json:"token_url"`
	DeviceURL     string         `json:"device_url"`
	RevokeURL     string         `json:"revoke_url"`
	IntrospectURL string         `json:"introspect_url"`
	UserinfoURL   string         `json:"userinfo_url"`
	AuthMethod    string         `json:"token_endpoint_auth_method"`
	SecretNeeded  bool           `json:"secret_needed"`
	PKCE          string         `json:"pkce"`
	Flows         []string       `json:"flows"`
	RedirectURI   string         `json:"redirect_uri"`
	RegisterURI   string         `json:"register_redirect_uri"`
	Variables     []variableInfo `json:"variables"`
	Scopes        []scopeInfo    `json:"scopes"`
	Env           string         `json:"env"`
	APIBase       string         `json:"api_base_url"`
	APIHosts      []string       `json:"api_hosts"`
	APIAuth       string         `json:"api_auth"`
	GitHosts      []string       `json:"git_hosts"`
	Token         tokenInfo      `json:"token"`
	Revocation    revocationInfo `json:"revocation"`
	Register      registerInfo   `json:"register"`
	Notes         []string       `json:"notes"`
	Sources       []sourceInfo   `json:"sources"`
	Verified      bool           `json:"verified"` // some of it was read on a page of the vendor
}

type variableInfo struct {
	Name        string   `json:"name"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Default     string   `json:"default"`
	Values      []string `json:"values"`
	From        string   `json:"from"`
}

type scopeInfo struct {
	Name        string `json:"name"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Category    string `json:"category"`
	Broad       bool   `json:"broad"`
	Default     bool   `json:"default"`
	Required    bool   `json:"required"`
}

type tokenInfo struct {
	ExpiresIn       string `json:"expires_in"` // seconds, or never; empty: the answer says
	Rotates         string `json:"rotates"`
	GrantLifetime   int64  `json:"grant_lifetime"`   // seconds from consent; 0: none known
	RefreshLifetime int64  `json:"refresh_lifetime"` // seconds without use; 0: none known
}

type revocationInfo struct {
	Style string `json:"style"`
	Page  string `json:"page"`
	Notes string `json:"notes"`
}

type registerInfo struct {
	Page  string   `json:"page"`
	Steps []string `json:"steps"`
	Notes string   `json:"notes"`
}

type sourceInfo struct {
	URL        string   `json:"url"`
	Checked    string   `json:"checked"`
	For        []string `json:"for"`
	Unverified bool     `json:"unverified"`
}

func describeProvider(d *providers.Definition) providerInfo {
	info := providerInfo{
		ID: d.ID, Name: d.Name, Description: d.Description, Status: d.Status, StatusNote: d.StatusNote,
		Origin: string(d.Origin), Replaces: d.ReplacesEntry, File: d.Path, Issuer: d.Issuer,
		AuthorizeURL: d.AuthorizationEndpoint, TokenURL: d.TokenEndpoint, DeviceURL: d.DeviceAuthorizationEndpoint,
		RevokeURL: d.RevocationEndpoint, IntrospectURL: d.IntrospectionEndpoint, UserinfoURL: d.UserinfoEndpoint,
		AuthMethod: d.TokenEndpointAuthMethod, SecretNeeded: needsSecret(d.Provider), PKCE: cmp.Or(d.PKCE, providers.PKCES256),
		Flows: orEmpty(d.Flows), Variables: []variableInfo{}, Scopes: []scopeInfo{}, Env: d.Env,
		APIBase: d.API.BaseURL, APIHosts: orEmpty(d.API.Hosts), APIAuth: apiAuthText(d.API.Auth), GitHosts: orEmpty(d.GitHosts),
		Token: tokenInfo{
			ExpiresIn: d.Token.ExpiresIn, Rotates: cmp.Or(d.Token.Rotates, "sometimes"),
			GrantLifetime: int64(d.Token.GrantLifetime.Seconds()), RefreshLifetime: int64(d.Token.RefreshLifetime.Seconds()),
		},
		Revocation: revocationInfo{cmp.Or(d.Revocation.Style, "none"), d.Revocation.Page, d.Revocation.Notes},
		Register:   registerInfo{d.Register.Page, orEmpty(d.Register.Steps), d.Register.Notes},
		Notes:      orEmpty(d.Notes), Sources: []sourceInfo{}, Verified: d.Verified(),
	}
	if d.AuthorizationEndpoint == "" {
		info.PKCE = ""
	} else {
		info.RedirectURI, info.RegisterURI = d.DefaultRedirect(), d.RegisterURI("")
	}
	for _, v := range d.Variables {
		info.Variables = append(info.Variables, variableInfo{v.Name, v.Title, v.Description, v.Default, orEmpty(v.Values), cmp.Or(v.From, providers.FromUser)})
	}
	for _, s := range allScopes(d.Provider) {
		info.Scopes = append(info.Scopes, scopeInfo{
			s.Name, s.Title, s.Description, s.Category, s.Broad,
			slices.Contains(d.Scopes.Default, s.Name), slices.Contains(d.Scopes.Required, s.Name),
		})
	}
	for _, s := range d.Sources {
		info.Sources = append(info.Sources, sourceInfo{s.URL, s.Checked, orEmpty(s.For), s.Unverified})
	}
	return info
}

// allScopes is the scope catalogue and whatever else is asked for.
func allScopes(p *providers.Provider) []providers.Scope {
	all := slices.Clone(p.Scopes.Catalog)
	for _, name := range slices.Concat(p.Scopes.Required, p.Scopes.Default) {
		if !slices.ContainsFunc(all, func(s providers.Scope) bool { return s.Name == name }) {
			all = append(all, providers.Scope{Name: name})
		}
	}
	return all
}

func apiAuthText(a providers.APIAuth) string {
	switch a.In {
	case "query":
		return "query parameter " + a.Name
	case "basic":
		return "HTTP Basic, as the user name"
	}
	name, prefix := cmp.Or(a.Name, "Authorization"), a.Prefix
	if strings.EqualFold(name, "Authorization") && prefix == "" {
		prefix = "Bearer "
	}
	return "header " + name + ": " + prefix + "<token>"
}

func newProviderShowCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID|ISSUER_URL",
		Short: "Show what is known about a provider",
		Long: `Show what is known about a provider: its flows, how to register a client there
with the exact redirect URI, its scopes, how its tokens live and how they are
revoked, and where these facts come from. The URL of an issuer is discovered.`,
		Args:              args(between(1, 1)),
		ValidArgsFunction: oneArg(completeProviders(g)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProviderShow(cmd.Context(), g, args[0])
		},
	}
}

func runProviderShow(ctx context.Context, g *globals, id string) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	var def *providers.Definition
	if strings.Contains(id, "://") {
		def, err = ws.definition(ctx, id)
		if err == nil {
			def.Origin = providers.Discovered
		}
	} else {
		def, err = ws.catalogue.Get(id)
	}
	if err != nil {
		return err
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, describeProvider(def))
	}
	_, err = io.WriteString(g.app.Stdout, providerPage(def))
	return err
}

// page builds a text for people: headings and indented lines.
type page struct{ b strings.Builder }

func (p *page) head(title string) {
	if p.b.Len() > 0 {
		p.b.WriteByte('\n')
	}
	p.b.WriteString(title + "\n")
}

// line writes a label and a value in two columns, the value wrapped. An empty
// value is left out.
func (p *page) line(label, value string) {
	value = oauthCleanLong(value)
	if value == "" {
		return
	}
	const column = 18
	for i, l := range wrap(value, lineWidth-column) {
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(&p.b, "  %-*s%s\n", column-2, label, l)
	}
}

// text writes a paragraph.
func (p *page) text(indent, first, text string) {
	for i, l := range wrap(oauthCleanLong(text), lineWidth-len(indent)-len([]rune(first))) {
		lead := first
		if i > 0 {
			lead = strings.Repeat(" ", len([]rune(first)))
		}
		p.b.WriteString(indent + lead + l + "\n")
	}
}

func providerPage(d *providers.Definition) string {
	p := new(page)
	p.head(oauth.Clean(d.Name) + " (" + d.ID + ")")
	p.text("  ", "", d.Description)
	if d.Status != "" {
		p.text("  ", "", "Status: "+d.Status+". "+d.StatusNote)
	}
	switch {
	case d.ReplacesEntry:
		p.text("  ", "", "This is your own definition, "+d.Path+". It replaces the catalogue's entry.")
	case d.Origin == providers.User:
		p.text("  ", "", "This is your own definition, "+d.Path+".")
	case d.Origin == providers.Discovered:
		p.text("  ", "", "This was discovered just now from what the issuer publishes.")
	}

	p.head("Connect")
	if d.NeedsDiscovery() {
		p.line("flows", "as the issuer publishes them")
	} else {
		p.line("flows", flowsText(d.Provider))
	}
	p.line("issuer", d.Issuer)
	p.line("authorize", d.AuthorizationEndpoint)
	p.line("token", d.TokenEndpoint)
	p.line("refresh", d.RefreshEndpoint)
	p.line("device", d.DeviceAuthorizationEndpoint)
	p.line("", d.DeviceNote)
	p.line("userinfo", d.UserinfoEndpoint)
	if d.AuthorizationEndpoint != "" {
		p.line("PKCE", cmp.Or(d.PKCE, providers.PKCES256))
	}
	p.line("client", clientText(d.Provider))
	p.line("client id", d.ClientID)
	for _, v := range d.Variables {
		p.line("variable", variableText(v))
	}

	p.head("Register a client")
	p.line("page", d.Register.Page)
	switch {
	case d.AuthorizationEndpoint == "":
	case d.RegisterURI("") == "":
		p.line("redirect URI", "none is registered")
	default:
		p.line("redirect URI", d.RegisterURI(""))
		note := "(exactly so)"
		if strings.Contains(d.DefaultRedirect(), ":*/") {
			note = "(exactly so; connect then uses any free port)"
		}
		p.line("", note)
	}
	p.line("sent as", d.RedirectName)
	for i, step := range d.Register.Steps {
		p.text("  ", fmt.Sprintf("%d. ", i+1), step)
	}
	p.text("  ", "", d.Register.Notes)

	p.scopes(d)

	p.head("Tokens")
	p.line("lifetime", lifetimeText(d.Token.ExpiresIn))
	p.line("refresh token", rotationText(d.Token.Rotates))
	if d.Token.GrantLifetime > 0 {
		p.line("grant ends", humanDuration(d.Token.GrantLifetime)+" after consent, however often it is refreshed")
	}
	if d.Token.RefreshLifetime > 0 {
		p.line("unused", "the refresh token ends after "+humanDuration(d.Token.RefreshLifetime)+" without use")
	}
	p.line("narrower", narrowText(d.TokenExchange))
	p.line("revocation", revocationText(d.Provider))
	p.line("", d.Revocation.Notes)

	p.head("API")
	p.line("base URL", d.API.BaseURL)
	p.line("hosts", strings.Join(d.API.Hosts, ", "))
	p.line("token goes in", apiAuthText(d.API.Auth))
	p.line("variable", d.Env)
	p.line("git hosts", strings.Join(d.GitHosts, ", "))

	if len(d.Notes) > 0 {
		p.head("Notes")
		for _, n := range d.Notes {
			p.text("  ", "- ", n)
		}
	}
	if len(d.Sources) > 0 {
		p.head("Sources")
		if !d.Verified() {
			p.text("  ", "", "None of these facts was compared with a page of the vendor yet. If connect fails, look at the page below first.")
		}
		for _, s := range d.Sources {
			mark := ""
			if s.Unverified {
				mark = "  UNVERIFIED: no page of the vendor says so"
			}
			p.text("  ", "- ", s.URL)
			p.text("    ", "", "checked "+cmp.Or(s.Checked, "never")+", for "+cmp.Or(strings.Join(s.For, ", "), "everything")+mark)
		}
	}
	return p.b.String()
}

// scopes writes the scopes by category. Names come first, because they are what
// one types.
func (p *page) scopes(d *providers.Definition) {
	p.head("Scopes")
	if d.Scopes.Omit {
		p.text("  ", "", "This provider takes no scopes.")
		return
	}
	all := allScopes(d.Provider)
	if len(all) == 0 {
		p.text("  ", "", "None are described; give what the provider documents with --scope.")
		return
	}
	p.line("asked for", strings.Join(slices.Concat(d.Scopes.Required, d.Scopes.Default), " "))
	var categories []string
	for _, s := range all {
		if !slices.Contains(categories, s.Category) {
			categories = append(categories, s.Category)
		}
	}
	broad := false
	for _, c := range categories {
		fmt.Fprintf(&p.b, "\n  %s\n", cmp.Or(oauth.Clean(c), "Other"))
		for _, s := range all {
			if s.Category != c {
				continue
			}
			mark := ""
			switch {
			case slices.Contains(d.Scopes.Required, s.Name):
				mark = " [always]"
			case slices.Contains(d.Scopes.Default, s.Name):
				mark = " [default]"
			}
			if s.Broad {
				mark += " [broad]"
				broad = true
			}
			fmt.Fprintf(&p.b, "    %s%s\n", oauth.Clean(s.Name), mark)
			about := s.Title
			if s.Description != "" && s.Description != s.Title {
				about = strings.TrimSuffix(about, ".") + ". " + s.Description
			}
			p.text("        ", "", strings.TrimPrefix(about, ". "))
		}
	}
	if broad {
		p.b.WriteByte('\n')
		p.text("  ", "", "[broad]: more than most programs need; ask for it only when you do.")
	}
}

func flowsText(p *providers.Provider) string {
	var parts []string
	for _, f := range p.Flows {
		switch f {
		case providers.FlowBrowser:
			if strings.HasPrefix(p.DefaultRedirect(), "https://") {
				f = "browser (you paste the final address)"
			}
		case providers.FlowJWTBearer:
			f = "jwt-bearer (a client that signs with its key)"
		case providers.FlowImplicit:
			f = "implicit (outdated; only when asked for)"
		case providers.FlowKey:
			f = "key (a static key, typed or piped in)"
		}
		parts = append(parts, f)
	}
	return strings.Join(parts, ", ")
}

func clientText(p *providers.Provider) string {
	switch {
	case p.TokenEndpoint == "" && p.AuthorizationEndpoint == "":
		return ""
	case p.TokenEndpointAuthMethod == providers.AuthPrivateKeyJWT:
		return "with a private key (" + p.TokenEndpointAuthMethod + ")"
	case p.TokenEndpointAuthMethod == "" || p.TokenEndpointAuthMethod == providers.AuthNone:
		return "public, without a secret"
	case p.SecretOptional:
		return "public, or with a secret (" + p.TokenEndpointAuthMethod + ")"
	case p.DeviceAuthMethod == providers.AuthNone:
		return "with a secret (" + p.TokenEndpointAuthMethod + "); the device flow needs none"
	}
	return "with a secret (" + p.TokenEndpointAuthMethod + ")"
}

func variableText(v providers.Variable) string {
	text := v.Name + ": " + cmp.Or(v.Title, v.Description)
	switch v.From {
	case providers.FromToken:
		return text + "; comes with the token"
	case providers.FromCallback:
		return text + "; comes with the login"
	}
	if len(v.Values) > 0 {
		text += "; one of " + strings.Join(v.Values, ", ")
	}
	if v.Default != "" {
		return text + "; default " + v.Default
	}
	return text + "; give it with --var " + v.Name + "=VALUE"
}

func lifetimeText(expiresIn string) string {
	switch expiresIn {
	case "":
		return "as the provider's answer says"
	case "never":
		return "no end is known"
	}
	if d, err := time.ParseDuration(expiresIn + "s"); err == nil {
		return humanDuration(d) + ", when the answer does not say"
	}
	return expiresIn
}

func rotationText(rotates string) string {
	switch rotates {
	case "never":
		return "stays the same"
	case "always":
		return "is replaced at every refresh; the old one is dead"
	}
	return "may be replaced at a refresh"
}

func revocationText(p *providers.Provider) string {
	switch p.Revocation.Style {
	case "page":
		return "by hand, at " + p.Revocation.Page
	case "", "none":
		return "the provider offers none; tokens live until they end"
	}
	text := "disconnect revokes the grant at the provider"
	if p.Revocation.Page != "" {
		text += "; to look at it: " + p.Revocation.Page
	}
	return text
}

type providerAddOptions struct {
	From     string
	ID       string
	ClientID string
	Replace  bool
	Insecure bool
	Yes      bool
}

func newProviderAddCmd(g *globals) *cobra.Command {
	var opts providerAddOptions
	cmd := &cobra.Command{
		Use:   "add FILE|ISSUER_URL",
		Short: "Add a definition of your own",
		Long: `Add a provider definition to your own: from a file, or from what an issuer
publishes about itself (RFC 8414, OpenID Connect discovery). The hosts that
would receive credentials are shown first.

With --replace a definition stands in for a catalogue entry, or for an earlier
one of yours. It starts without the client that was stored for that id, and
connections that were made before ask for approval at their next connect.`,
		Example: `  apiauth provider add https://keycloak.example.com/realms/main --id company
  apiauth provider add ./intranet.yaml
  apiauth provider add http://127.0.0.1:8080 --id local --insecure-loopback`,
		Args: args(between(1, 1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.From = args[0]
			return runProviderAdd(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.ID, "id", "", "the provider's `ID` (default: the file's, or made from the URL)")
	f.StringVar(&opts.ClientID, "client-id", "", "write the public client `ID` into the definition")
	f.BoolVar(&opts.Replace, "replace", false, "stand in for the definition that has this id")
	f.BoolVar(&opts.Insecure, "insecure-loopback", false, "allow http to an issuer on this machine")
	f.BoolVarP(&opts.Yes, "yes", "y", false, "do not ask")
	return cmd
}

func runProviderAdd(ctx context.Context, g *globals, opts providerAddOptions) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	p, doc, err := ws.newDefinition(ctx, opts)
	if err != nil {
		return err
	}
	path := filepath.Join(ws.dirs.Providers, p.ID+".yaml")
	existing, err := ws.replacing(p, path, opts)
	if err != nil {
		return err
	}
	if p.Replaces != existing.builtIn {
		p.Replaces, doc = existing.builtIn, nil
	}
	if doc == nil {
		if doc, err = p.Marshal(); err != nil {
			return err
		}
	}
	// What is written is what was checked, and nothing else.
	checked, err := providers.Parse(path, doc, providers.User)
	if err != nil {
		return failf(exitUsage, "correct the definition, or give another --id", "%w", err)
	}
	ws.showHosts(checked, path, existing)
	question := "Add " + checked.ID + "?"
	if existing.any() {
		question = "Replace " + checked.ID + "?"
	}
	if err := ws.agree(ctx, question, opts.Yes); err != nil {
		return err
	}
	if existing.any() {
		// Before the new definition is there, so that the secret never meets it.
		if err := ws.dropClients(ctx, checked.ID); err != nil {
			return err
		}
	}
	if err := writeDefinition(path, doc); err != nil {
		return failf(exitStore, "'apiauth paths' shows where everything lies", "write the definition: %w", err)
	}
	if existing.any() {
		ws.notePinned(checked.ID)
	}
	if findings := providers.Lint(checked); len(findings) > 0 && !strings.Contains(opts.From, "://") {
		ws.say("%s could be better: 'apiauth provider check %s' lists them.", plural(len(findings), "thing"), path)
	}
	if g.cfg.JSON {
		return printJSON(g.app.Stdout, describeProvider(&providers.Definition{Provider: checked, Origin: providers.User, Path: path, ReplacesEntry: checked.Replaces}))
	}
	ws.say("Added %s as %s. Next: 'apiauth provider show %s', 'apiauth connect %s'.", checked.ID, path, checked.ID, checked.ID)
	return nil
}

// newDefinition reads the definition to be added. doc is its text when the file
// can be taken as it is.
func (ws *workspace) newDefinition(ctx context.Context, opts providerAddOptions) (p *providers.Provider, doc []byte, err error) {
	if strings.Contains(opts.From, "://") {
		p, err = ws.discoveredDefinition(ctx, opts)
	} else {
		if doc, err = ws.readDefinition(opts.From); err != nil {
			return nil, nil, err
		}
		p, err = providers.Parse(opts.From, doc, providers.User)
	}
	if err != nil {
		return nil, nil, err
	}
	changed := opts.ID != "" && opts.ID != p.ID || opts.ClientID != "" && opts.ClientID != p.ClientID ||
		opts.Insecure && !p.AllowInsecureLoopback
	if !changed {
		return p, doc, nil
	}
	p.ID = cmp.Or(opts.ID, p.ID)
	p.ClientID = cmp.Or(opts.ClientID, p.ClientID)
	p.AllowInsecureLoopback = p.AllowInsecureLoopback || opts.Insecure
	return p, nil, nil
}

func (ws *workspace) discoveredDefinition(ctx context.Context, opts providerAddOptions) (*providers.Provider, error) {
	if strings.HasPrefix(opts.From, "http://") && !opts.Insecure {
		return nil, failf(exitUsage, "use https, or --insecure-loopback for an issuer on this machine", "%s is not https", oauth.Clean(opts.From))
	}
	m, err := ws.discover(ctx, opts.From, opts.Insecure)
	if err != nil {
		return nil, err
	}
	p, err := providers.FromMetadata(opts.From, m)
	if err != nil {
		return nil, err
	}
	if p.RedirectURI == "" && opts.ID != "" {
		p.RedirectURI = "http://127.0.0.1:*/callback/" + opts.ID
	}
	p.Sources = []providers.Source{{URL: opts.From, Checked: ws.app.Now().UTC().Format(time.DateOnly), For: []string{"endpoints"}}}
	if !strings.HasPrefix(opts.From, "https://") {
		p.Sources = nil
	}
	return p, nil
}

// readDefinition reads a file that a person named. It is read once and capped.
func (ws *workspace) readDefinition(path string) ([]byte, error) {
	at := path
	if !filepath.IsAbs(at) {
		at = filepath.Join(ws.dir, at)
	}
	info, err := os.Stat(at)
	if err != nil {
		return nil, failf(exitUsage, "give the path of a definition, or the https URL of an issuer", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	if !info.Mode().IsRegular() {
		return nil, failf(exitUsage, "give the path of a definition, or the https URL of an issuer", "read %s: it is not a regular file", oauth.Clean(path))
	}
	f, err := os.Open(at)
	if err != nil {
		return nil, failf(exitUsage, "", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	defer func() { _ = f.Close() }() // only read
	doc, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	if err != nil {
		return nil, failf(exitUsage, "", "read %s: %w", oauth.Clean(path), pathReason(err))
	}
	return doc, nil
}

// pathReason is the reason of a file error without the path, which the message
// names already.
func pathReason(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// existing is what a new definition would stand in for.
type existing struct {
	builtIn bool // an entry of the catalogue
	own     bool // a file of the user
}

func (e existing) any() bool { return e.builtIn || e.own }

// replacing finds what has the id already, and refuses when nobody said that it
// is to be replaced.
func (ws *workspace) replacing(p *providers.Provider, path string, opts providerAddOptions) (existing, error) {
	var e existing
	if _, err := providers.Open("").Digest(p.ID); err == nil {
		e.builtIn = true
	}
	if _, err := os.Lstat(path); err == nil {
		e.own = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return e, failf(exitStore, "'apiauth paths' shows where everything lies", "look for %s: %w", path, pathReason(err))
	}
	switch {
	case opts.Replace || !e.any():
		return e, nil
	case e.own:
		return e, failf(exitUsage, "--replace puts the new one in its place, --id gives it another id", "%s is there already", path)
	}
	return e, failf(exitUsage, "--replace puts yours in its place, --id gives it another id", "%s is in the catalogue already", p.ID)
}

// showHosts tells a person where credentials would go.
func (ws *workspace) showHosts(p *providers.Provider, path string, e existing) {
	ws.show("%s (%s) names these hosts, which would receive logins and tokens:", oauth.Clean(p.Name), p.ID)
	hosts := endpointHosts(p)
	if p.NeedsDiscovery() {
		if h, err := providers.URLHost(p.Issuer); err == nil {
			hosts = append(hosts, h+" (and what it publishes)")
		}
	}
	for _, h := range hosts {
		ws.show("  %s", oauth.Clean(h))
	}
	if p.AllowInsecureLoopback {
		ws.show("It may speak http to this machine.")
	}
	switch {
	case e.own:
		ws.show("It takes the place of %s.", path)
	case e.builtIn:
		ws.show("It takes the place of the catalogue's entry.")
	}
}

// dropClients removes the stored clients of a provider from every store.
func (ws *workspace) dropClients(ctx context.Context, id string) error {
	return ws.eachStore(func(s *store.Store) error {
		registrations, err := s.Registrations()
		if err != nil {
			return err
		}
		for _, r := range registrations {
			if r.Provider != id {
				continue
			}
			if err := s.RemoveClient(ctx, r.Provider, r.Project); err != nil && !errors.Is(err, connection.ErrNotStored) {
				return fmt.Errorf("remove the client that was stored for %s: %w", id, err)
			}
			ws.say("Removed client %s, which was stored for the earlier definition.", oauth.Clean(r.ClientID))
		}
		return nil
	})
}

// notePinned counts the connections that were made with an earlier definition.
func (ws *workspace) notePinned(id string) {
	n := 0
	_ = ws.eachHeader(func(_ *store.Store, _ connection.Key, h *connection.Header, _ error) {
		if h != nil && h.Provider == id {
			n++
		}
	})
	if n > 0 {
		ws.say("%s made with the earlier definition will ask for 'apiauth connect' where the two differ.", plural(n, "connection"))
	}
}

// eachHeader calls do for every connection of the user, in all stores and
// projects. h is nil when its record cannot be read.
func (ws *workspace) eachHeader(do func(s *store.Store, key connection.Key, h *connection.Header, err error)) error {
	return ws.eachStore(func(s *store.Store) error {
		projects, err := s.Projects()
		if err != nil {
			return err
		}
		for _, id := range projects {
			names, err := s.Names(id)
			if err != nil {
				return err
			}
			for _, name := range names {
				key := connection.Key{Project: id, Name: name}
				h, err := s.Header(key)
				do(s, key, h, err)
			}
		}
		return nil
	})
}

// writeDefinition writes a file that appears whole or not at all.
func writeDefinition(path string, doc []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(doc); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func newProviderCheckCmd(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check provider definitions",
		Long: `Check provider definitions. What is wrong is named with file, line and column and
ends with status 2; what could be better is listed and does not.`,
		Args: args(between(1, -1)),
		RunE: func(_ *cobra.Command, args []string) error { return runProviderCheck(g, args) },
	}
}

type checkedFile struct {
	File     string              `json:"file"`
	ID       string              `json:"id,omitempty"`
	Errors   []checkError        `json:"errors"`
	Findings []providers.Finding `json:"findings"`
}

type checkError struct {
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Msg    string `json:"msg"`
}

func runProviderCheck(g *globals, files []string) error {
	ws, err := g.homeless()
	if err != nil {
		return err
	}
	list := []checkedFile{}
	bad := false
	for _, path := range files {
		c := checkedFile{File: path, Errors: []checkError{}, Findings: []providers.Finding{}}
		p, err := ws.checkDefinition(path)
		var place *strictyaml.Error
		switch {
		case errors.As(err, &place):
			c.Errors = append(c.Errors, checkError{place.Line, place.Column, place.Msg})
		case err != nil:
			c.Errors = append(c.Errors, checkError{Msg: err.Error()})
		default:
			c.ID = p.ID
			if base := strings.TrimSuffix(filepath.Base(path), ".yaml"); base != p.ID {
				c.Findings = append(c.Findings, providers.Finding{Field: "id", Msg: fmt.Sprintf("the file should be named %s.yaml", p.ID)})
			}
			c.Findings = append(c.Findings, providers.Lint(p)...)
		}
		list = append(list, c)
		if err != nil {
			bad = true
			if !g.cfg.JSON {
				_, hint := explain(err)
				printError(g.app.Stderr, err, hint)
			}
		}
		if g.cfg.JSON {
			continue
		}
		for _, f := range c.Findings {
			if _, err := fmt.Fprintf(g.app.Stdout, "%s: %s\n", oauth.Clean(path), oauth.Clean(f.String())); err != nil {
				return err
			}
		}
		if err == nil && len(c.Findings) == 0 {
			ws.say("%s: good", oauth.Clean(path))
		}
	}
	if g.cfg.JSON {
		if err := printJSON(g.app.Stdout, list); err != nil {
			return err
		}
	}
	if bad {
		return &silentError{exitUsage}
	}
	return nil
}

func (ws *workspace) checkDefinition(path string) (*providers.Provider, error) {
	doc, err := ws.readDefinition(path)
	if err != nil {
		return nil, err
	}
	return providers.Parse(path, doc, providers.User)
}
