package inject

import (
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/secret"
)

// The shape that @netlify/functions 1.4.0 returned: five members for each, in
// camel case, GitHub being the exception.
func TestSecrets(t *testing.T) {
	info := &ScopeInfo{Category: "Account", Display: "user-read-private", IsDefault: true, Description: "Your <country>.", Title: "Country and plan"}
	doc, err := Secrets([]Secret{
		{FriendlyServiceName: "Spotify", Service: "SPOTIFY", Token: secret.New("BQ<x>"), GrantedScopes: []GrantedScope{{"user-read-private", info}, {"other", nil}}},
		{FriendlyServiceName: "GitHub", Service: "GITHUB", Token: secret.New("gho_x"), GrantedScopes: []GrantedScope{}},
		{FriendlyServiceName: "Stripe", Service: "STRIPE"},
	}, func(key string) { t.Errorf("%s is taken", key) })
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "gitHub": {
    "friendlyServiceName": "GitHub",
    "service": "GITHUB",
    "isLoggedIn": true,
    "bearerToken": "gho_x",
    "grantedScopes": []
  },
  "spotify": {
    "friendlyServiceName": "Spotify",
    "service": "SPOTIFY",
    "isLoggedIn": true,
    "bearerToken": "BQ<x>",
    "grantedScopes": [
      {
        "scope": "user-read-private",
        "scopeInfo": {
          "category": "Account",
          "scope": "user-read-private",
          "display": "user-read-private",
          "isDefault": true,
          "isRequired": false,
          "description": "Your <country>.",
          "title": "Country and plan"
        }
      },
      {
        "scope": "other",
        "scopeInfo": null
      }
    ]
  },
  "stripe": {
    "friendlyServiceName": "Stripe",
    "service": "STRIPE",
    "isLoggedIn": false,
    "bearerToken": null,
    "grantedScopes": null
  }
}
`
	if string(doc) != want {
		t.Errorf("%s", doc)
	}
}

func TestSecretKey(t *testing.T) {
	for name, want := range map[string]string{
		"Spotify": "spotify", "Salesforce": "salesforce", "Stripe": "stripe", "Box": "box", "Contentful": "contentful",
		"github-work": "githubWork", "Google Ads": "googleAds", "a__b..c d-": "aBCD", "-x": "x", "": "", "\u00c9t\u00e9 x": "\u00e9t\u00e9X",
	} {
		if got := (Secret{FriendlyServiceName: name, Service: strings.ToUpper(name)}).SecretKey(); got != want {
			t.Errorf("%q has the key %q, want %q", name, got, want)
		}
	}
	if got := (Secret{FriendlyServiceName: "GitHub", Service: "GITHUB"}).SecretKey(); got != "gitHub" {
		t.Errorf("GitHub has the key %q", got)
	}
	if got := ServiceName("salesforce-sandbox"); got != "SALESFORCE_SANDBOX" {
		t.Errorf("the service is %q", got)
	}
}

// Of two secrets with one key the last is printed, and it is said.
func TestSecretsWithOneKey(t *testing.T) {
	var taken []string
	doc, err := Secrets([]Secret{
		{FriendlyServiceName: "a-b", Service: "X"}, {FriendlyServiceName: "a.b", Service: "Y"},
	}, func(key string) { taken = append(taken, key) })
	if err != nil || len(taken) != 1 || taken[0] != "aB" || strings.Contains(string(doc), `"X"`) || !strings.Contains(string(doc), `"Y"`) {
		t.Errorf("%s, taken %v, %v", doc, taken, err)
	}
}
