package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// TestCatalogueReport holds the numbers in docs/providers.md against the
// catalogue; UPDATE=1 writes them.
func TestCatalogueReport(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		what string
		is   func(*providers.Definition) bool
	}{
		{"all", func(*providers.Definition) bool { return true }},
		{"OAuth 2.0", oauthEntry},
		{"static keys only", func(d *providers.Definition) bool { return !oauthEntry(d) }},
		{"compared with pages of the vendor", func(d *providers.Definition) bool { return d.Verified() }},
		{"not compared with any page of the vendor yet", func(d *providers.Definition) bool { return !d.Verified() }},
		{"restricted or retired", func(d *providers.Definition) bool { return d.Status != "" }},
		{"flow: browser, on this machine", func(d *providers.Definition) bool { return hasFlow(d, providers.FlowBrowser) && !pastes(d) }},
		{"flow: browser, the final address is pasted", func(d *providers.Definition) bool { return hasFlow(d, providers.FlowBrowser) && pastes(d) }},
		{"flow: device", func(d *providers.Definition) bool { return hasFlow(d, providers.FlowDevice) }},
		{"flow: client credentials", func(d *providers.Definition) bool { return hasFlow(d, providers.FlowClientCredentials) }},
		{"PKCE", func(d *providers.Definition) bool { return oauthEntry(d) && d.PKCE != providers.PKCENone }},
		{"a client without a secret is enough", func(d *providers.Definition) bool {
			return oauthEntry(d) && (d.SecretOptional || d.TokenEndpointAuthMethod == providers.AuthNone)
		}},
		{"refresh token changes at each refresh", func(d *providers.Definition) bool { return oauthEntry(d) && d.Token.Rotates == "always" }},
		{"revocation by request", func(d *providers.Definition) bool {
			return d.Revocation.Style != "" && d.Revocation.Style != "none" && d.Revocation.Style != "page"
		}},
		{"variables: tenant, region, own host", func(d *providers.Definition) bool { return len(d.Variables) > 0 }},
		{"scopes not separated by blanks", func(d *providers.Definition) bool {
			return d.Scopes.Separator != "" && d.Scopes.Separator != " "
		}},
		{"no scope parameter", func(d *providers.Definition) bool { return oauthEntry(d) && d.Scopes.Omit }},
		{"JSON or GET token requests", func(d *providers.Definition) bool { return d.Token.Request != "" && d.Token.Request != "form" }},
		{"renamed or nested parameters and fields", func(d *providers.Definition) bool {
			return len(d.AuthorizeRename)+len(d.Token.Rename)+len(d.Token.Fields) > 0 || d.Token.Inside != ""
		}},
		{"short-lived tokens are exchanged", func(d *providers.Definition) bool { return d.Token.Upgrade.Endpoint != "" }},
		{"a second call chooses the site or account", func(d *providers.Definition) bool { return d.Site.Endpoint != "" }},
		{"the token goes elsewhere than into Authorization: Bearer", func(d *providers.Definition) bool {
			return d.API.Auth.In != "" && d.API.Auth.In != "header" || d.API.Auth.Name != "" && d.API.Auth.Name != "Authorization" || d.API.Auth.Prefix != ""
		}},
	}
	const head = "<!-- table: report -->\n| entries | |\n|---|---|\n"
	var table strings.Builder
	for _, row := range rows {
		n := 0
		for _, d := range list {
			if row.is(d) {
				n++
			}
		}
		fmt.Fprintf(&table, "| %s | %d |\n", row.what, n)
	}
	text := read(t, "docs/providers.md")
	before, rest, ok := strings.Cut(text, head)
	if !ok {
		t.Fatal("docs/providers.md has no table of the catalogue")
	}
	if rest == table.String() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("the numbers are stale; UPDATE=1 go test ./test/docs writes them:\n%s", table.String())
	}
	path := filepath.Join(top(), "docs", "providers.md")
	if err := os.WriteFile(path, []byte(before+head+table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func oauthEntry(d *providers.Definition) bool {
	return d.TokenEndpoint != "" || d.NeedsDiscovery()
}

func hasFlow(d *providers.Definition, flow string) bool { return slices.Contains(d.Flows, flow) }

// pastes reports whether nothing on this machine can take the redirect.
func pastes(d *providers.Definition) bool { return strings.HasPrefix(d.DefaultRedirect(), "https:") }
