package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

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
	RedirectName  string         `json:"redirect_name,omitempty"` // sent in place of the redirect URI
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
		RedirectName: d.RedirectName,
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
	p.line("mutual TLS", d.MTLS.TokenEndpoint)
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
	case oauth.UsesCertificate(p.TokenEndpointAuthMethod):
		return "with a certificate (" + p.TokenEndpointAuthMethod + ")"
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
