package providers_test

import (
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// A token goes to the git hosts of the pins and no other, compared exactly with
// their ports.
func TestServesGit(t *testing.T) {
	p, err := providers.Parse("gitea.yaml", []byte(`
id: gitea
name: Gitea
authorization_endpoint: "https://{host}/login/oauth/authorize"
token_endpoint: "https://{host}/login/oauth/access_token"
token_endpoint_auth_method: none
variables: [{name: host, default: gitea.example, host: true}]
api: {base_url: "https://{host}/api/v1", hosts: ["{host}"]}
git_hosts: ["{host}", git.gitea.example]
`), providers.User)
	if err != nil {
		t.Fatal(err)
	}
	pins, err := (&providers.Definition{Provider: p, Origin: providers.User}).Pin(providers.PinOptions{Variables: map[string]string{"host": "code.acme.example:8443"}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"code.acme.example:8443": true, "CODE.acme.example.:8443": true, "git.gitea.example": true, "git.gitea.example:443": true,
		"code.acme.example": false, "code.acme.example:8444": false, "git.gitea.example:80": false, "gitea.example": false,
		"x.git.gitea.example": false, "git.gitea.example.evil.example": false, "git.gitea.example@evil.example": false,
		"evil.example": false, "": false, "git.gitea.example/x": false, "git.gitea.example\x00": false,
	} {
		if pins.ServesGit(host) != want {
			t.Errorf("%q: want %v", host, want)
		}
	}
	if user := pins.GitUser(); user != "oauth2" {
		t.Errorf("the user name is %q", user)
	}
}

// The user names that the hosts of the catalogue document.
func TestCatalogueGitUsers(t *testing.T) {
	for id, want := range map[string]string{"github": "x-access-token", "github-app": "x-access-token", "gitlab": "oauth2"} {
		d, err := providers.Open("").Get(id)
		if err != nil {
			t.Fatal(err)
		}
		pins, err := d.Pin(providers.PinOptions{ClientID: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if got := pins.GitUser(); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}

// How the lists of well-known APIs go on, as they document it.
func TestCataloguePagination(t *testing.T) {
	for id, want := range map[string]providers.Pagination{
		"github":     {Style: providers.PagesLink},
		"github-app": {Style: providers.PagesLink},
		"gitlab":     {Style: providers.PagesLink},
		"spotify":    {Style: providers.PagesNextURL, Next: "next", Items: "items"},
		"salesforce": {Style: providers.PagesNextURL, Next: "nextRecordsUrl", Items: "records"},
		"microsoft":  {Style: providers.PagesNextURL, Next: "@odata.nextLink", Items: "value"},
		"google":     {Style: providers.PagesCursor, Next: "nextPageToken", Param: "pageToken", Items: "items"},
		"box":        {Style: providers.PagesCursor, Next: "next_marker", Param: "marker", Items: "entries"},
		"stripe":     {Style: providers.PagesCursor, Next: "next_page", Param: "page", Items: "data"},
		"contentful": {Style: providers.PagesOffset, Param: "skip", Total: "total", Size: "limit", Items: "items"},
	} {
		d, err := providers.Open("").Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if rules := d.API.Pagination; len(rules) == 0 || rules[0] != want {
			t.Errorf("%s: %+v, want %+v first", id, rules, want)
		}
	}
	if d, err := providers.Open("").Get("stripe"); err != nil || d.API.Pagination[1] != (providers.Pagination{Style: providers.PagesLastItem, Next: "id", Param: "starting_after", More: "has_more", Items: "data"}) || d.API.Body != "form" {
		t.Errorf("stripe: %v", err)
	}
}
