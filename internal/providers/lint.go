package providers

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is something that a definition could do better. It is no error.
type Finding struct {
	Field string `json:"field"`
	Msg   string `json:"msg"`
}

// String prints the finding as field: msg.
func (f Finding) String() string { return f.Field + ": " + f.Msg }

// Lint returns what a valid definition still lacks for the people who use it.
func Lint(p *Provider) []Finding {
	var findings []Finding
	add := func(field, format string, args ...any) {
		findings = append(findings, Finding{field, fmt.Sprintf(format, args...)})
	}
	missing := func(field, value, what string) {
		if value == "" {
			add(field, "%s is missing", what)
		}
	}
	interactive := slices.Contains(p.Flows, FlowBrowser) || slices.Contains(p.Flows, FlowDevice)
	keyOnly := slices.Equal(p.Flows, []string{FlowKey})

	missing("description", p.Description, "a sentence about the provider")
	missing("env", p.Env, "the variable that carries the token")
	missing("placeholder", p.Placeholder, "the shape of its tokens")
	missing("api.base_url", p.API.BaseURL, "the address that paths are relative to")
	missing("register.page", p.Register.Page, "the page where a client is registered")
	if len(p.Register.Steps) == 0 {
		add("register.steps", "the steps of a registration are missing")
	}
	if len(p.Sources) == 0 {
		add("sources", "where the facts come from is missing")
	}
	for i, source := range p.Sources {
		if len(source.For) == 0 {
			add(fmt.Sprintf("sources[%d].for", i), "which facts rest on it is missing")
		}
	}
	missing("revocation.style", p.Revocation.Style, "how access ends at the provider")
	if p.Revocation.Style == "none" {
		missing("revocation.notes", p.Revocation.Notes, "what to do instead of revoking")
	}
	if p.Revocation.pin().ByAccessToken() && p.Revocation.Page == "" {
		missing("revocation.notes", p.Revocation.Notes, "what a person does when no living access token is left to revoke with")
	}
	if !keyOnly {
		missing("token.rotates", p.Token.Rotates, "whether refresh tokens are replaced")
	}
	if interactive {
		if p.PKCE == PKCENone && slices.Contains(p.Flows, FlowBrowser) && !mentions(p, "PKCE") {
			add("pkce", "why there is no PKCE should stand in notes")
		}
		missing("identity.subject", p.Identity.Subject, "the field that names the account")
		missing("identity.label", p.Identity.Label, "the field that a person knows the account by")
		if p.Identity.From != "token" {
			missing("userinfo_endpoint", p.UserinfoEndpoint, "the address that tells whose account it is")
		}
		if !p.Scopes.Omit && len(p.Scopes.Catalog) == 0 {
			add("scopes.catalog", "the scopes are missing")
		}
	}
	for i, scope := range p.Scopes.Catalog {
		at := fmt.Sprintf("scopes.catalog[%d]", i)
		missing(at+".title", scope.Title, "the title of "+scope.Name)
		missing(at+".description", scope.Description, "the description of "+scope.Name)
		missing(at+".category", scope.Category, "the category of "+scope.Name)
	}
	for i, v := range p.Variables {
		missing(fmt.Sprintf("variables[%d].title", i), v.Title, "the title of "+v.Name)
		missing(fmt.Sprintf("variables[%d].description", i), v.Description, "the description of "+v.Name)
	}
	for i, host := range p.API.Hosts {
		if strings.HasPrefix(host, ".") && !slices.ContainsFunc(p.Variables, func(v Variable) bool { return v.kept() }) && isTemplate(p.API.BaseURL) {
			add(fmt.Sprintf("api.hosts[%d]", i), "nothing in a token response or callback leads to a host under %s", host)
		}
	}
	return findings
}

func mentions(p *Provider, word string) bool {
	return slices.ContainsFunc(p.Notes, func(note string) bool { return strings.Contains(note, word) })
}
