package providers_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// what a provider leaves out of its answer, or calls otherwise, is no
// narrower grant.
func TestMissingScopes(t *testing.T) {
	cases := []struct {
		provider       string
		asked, granted string
		missing        string
	}{
		{"spotify", "a b a c", "c", "a b"},
		{"spotify", "user-read-email", "User-Read-Email", "user-read-email"},
		{"spotify", "", "", ""},
		{"github", "user gist user:email", "gist user", ""},
		{"github", "repo public_repo repo:status repo_deployment repo:invite security_events", "repo", ""},
		{"github", "read:org write:org", "admin:org", ""},
		{"github", "admin:org read:org", "read:org", "admin:org"},
		{"github", "read:repo_hook", "repo", ""},
		{"github", "repo", "public_repo", "repo"},
		{"github", "offline_access gist", "gist", ""},
		{"google", "openid email profile", "openid https://www.googleapis.com/auth/userinfo.email https://www.googleapis.com/auth/userinfo.profile", ""},
		{"google", "https://www.googleapis.com/auth/userinfo.email", "email", ""},
		{"google", "email https://www.googleapis.com/auth/drive", "openid", "email https://www.googleapis.com/auth/drive"},
		{"google", "https://www.googleapis.com/auth/drive.readonly", "https://www.googleapis.com/auth/drive", ""},
		{"microsoft", "offline_access openid mail.read User.Read", "https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/User.Read", ""},
		{"microsoft", "Mail.Read Files.Read", "Mail.ReadWrite Files.ReadWrite.All", ""},
		{"microsoft", "Mail.ReadWrite", "Mail.Read", "Mail.ReadWrite"},
		{"salesforce", "offline_access api", "refresh_token api", ""},
		{"salesforce", "refresh_token", "offline_access", ""},
		{"salesforce", "refresh_token api chatter_api email", "full", "refresh_token"},
		{"gitlab", "read_user read_api", "api", ""},
		{"gitlab", "api", "read_api", "api"},
		{"contentful", "content_management_read", "content_management_manage", ""},
		{"stripe", "read_only", "read_write", ""},
		{"box", "root_readonly", "root_readwrite", ""},
	}
	for _, c := range cases {
		pins := pin(t, entry(t, c.provider), providers.PinOptions{ClientID: "client", HasSecret: true})
		asked := strings.Fields(c.asked)
		before := slices.Clone(asked)
		if got := strings.Join(pins.MissingScopes(asked, strings.Fields(c.granted)), " "); got != c.missing {
			t.Errorf("%s: asked %q, granted %q: missing %q, want %q", c.provider, c.asked, c.granted, got, c.missing)
		}
		if !slices.Equal(asked, before) {
			t.Errorf("%s: the scopes asked for were changed", c.provider)
		}
	}
}

// A definition of the user may include in a circle.
func TestMissingScopesCircle(t *testing.T) {
	d := &providers.Definition{Provider: parseUser(t, minimal+`scopes:
  prefix: "https://api.acme.example/"
  catalog:
    - {name: a, includes: [b]}
    - {name: b, includes: [a], also: [bee]}
    - {name: c, also: ["https://api.acme.example/sea"]}
`), Origin: providers.User}
	pins := pin(t, d, providers.PinOptions{})
	if got := pins.MissingScopes([]string{"a", "b", "c", "sea"}, []string{"https://api.acme.example/bee"}); strings.Join(got, " ") != "c sea" {
		t.Errorf("missing %v", got)
	}
	plain := pin(t, entry(t, "mapbox"), providers.PinOptions{})
	if plain.Scopes != nil {
		t.Errorf("rules without need: %+v", plain.Scopes)
	}
}

func TestFindScope(t *testing.T) {
	s := providers.Scopes{Prefix: "https://graph.example/", FoldCase: true, Catalog: []providers.Scope{{Name: "Mail.Read"}, {Name: "me", Also: []string{"profile"}}}}
	for name, want := range map[string]string{
		"Mail.Read": "Mail.Read", "mail.read": "Mail.Read", "https://graph.example/Mail.Read": "Mail.Read", "profile": "me", "other": "", "": "",
	} {
		if got, ok := s.Find(name); got.Name != want || ok != (want != "") {
			t.Errorf("%q is %q, want %q", name, got.Name, want)
		}
	}
	s = providers.Scopes{Catalog: []providers.Scope{{Name: "Mail.Read"}}}
	if _, ok := s.Find("mail.read"); ok {
		t.Error("the case of a name does not count")
	}
}
