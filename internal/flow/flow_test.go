package flow_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

func TestChoose(t *testing.T) {
	public := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "none", Flows: []string{"browser"}}
	both := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "none", Flows: []string{"browser", "device"}}
	github := &providers.Provider{
		ID: "github", Name: "GitHub", TokenEndpointAuthMethod: "client_secret_post", DeviceAuthMethod: "none", Flows: []string{"browser", "device"},
	}
	paste := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "none", RedirectURI: "https://app.example/cb", Flows: []string{"browser"}}
	machine := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "client_secret_basic", Flows: []string{"client-credentials"}}
	mixed := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "client_secret_basic", SecretOptional: true, Flows: []string{"browser", "client-credentials"}}
	key := &providers.Provider{ID: "p", Flows: []string{"key"}}
	robot := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "client_secret_post", Flows: []string{"browser", "jwt-bearer"}}
	legacy := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "client_secret_basic", Flows: []string{"browser", "implicit"}}
	signs := &providers.Provider{ID: "p", TokenEndpointAuthMethod: "private_key_jwt", Flows: []string{"client-credentials"}}
	desk := flow.Means{Browser: true, Terminal: true, Person: true}
	ssh := flow.Means{Terminal: true, Person: true}
	pipe := flow.Means{Person: true}
	ci := flow.Means{}
	secretCI := flow.Means{Secret: true}

	cases := []struct {
		name  string
		flow  string
		p     *providers.Provider
		means flow.Means
		want  string
		why   string // part of the error
	}{
		{"desk", "auto", both, desk, "browser", ""},
		{"empty is auto", "", both, desk, "browser", ""},
		{"ssh prefers a code", "auto", both, ssh, "device", ""},
		{"ssh without a device flow", "auto", public, ssh, "browser", ""},
		{"no terminal, a person reads", "auto", public, pipe, "browser", ""},
		{"ci", "auto", public, ci, "", "nobody is asked here"},
		{"ci, device", "auto", both, ci, "", "nobody is asked here"},
		{"github without a secret", "auto", github, desk, "device", ""},
		{"github with a secret", "auto", github, flow.Means{Browser: true, Terminal: true, Person: true, Secret: true}, "browser", ""},
		{"github, browser asked for, no secret", "browser", github, desk, "", "client secret"},
		{"github, device asked for", "device", github, desk, "device", ""},
		{"https redirect at a desk", "auto", paste, desk, "browser", ""},
		{"https redirect without a terminal", "auto", paste, pipe, "", "terminal"},
		{"registered redirect is https", "auto", public, flow.Means{Person: true, RedirectURI: "https://x.example/"}, "", "terminal"},
		{"paste asked for", "paste", public, ssh, "paste", ""},
		{"paste without a terminal", "paste", public, pipe, "", "terminal"},
		{"browser asked for in a pipe", "browser", public, pipe, "browser", ""},
		{"machine", "auto", machine, secretCI, "client-credentials", ""},
		{"machine without a secret", "auto", machine, desk, "", "client secret"},
		{"mixed at a desk", "auto", mixed, desk, "browser", ""},
		{"mixed in ci: not by itself", "auto", mixed, secretCI, "", "belongs to no person"},
		{"mixed in ci, asked for", "client-credentials", mixed, secretCI, "client-credentials", ""},
		{"mixed, no secret", "client-credentials", mixed, desk, "", "client secret"},
		{"key", "auto", key, desk, "key", ""},
		{"key in ci", "auto", key, ci, "", "--import-stdin"},
		{"not offered", "device", public, desk, "", "does not offer it; it offers browser"},
		{"jwt-bearer where there is none", "jwt-bearer", public, desk, "", "does not offer it"},
		{"jwt-bearer without a key", "jwt-bearer", robot, desk, "", "--key-file"},
		{"jwt-bearer", "jwt-bearer", robot, flow.Means{Key: true}, "jwt-bearer", ""},
		{"jwt-bearer in ci, not by itself", "auto", robot, flow.Means{Key: true, Secret: true}, "", "belongs to no person"},
		{"a key in the place of a secret", "client-credentials", signs, desk, "", "--key-file"},
		{"a key in its place", "client-credentials", signs, secretCI, "client-credentials", ""},
		{"implicit without the opt-in", "implicit", public, desk, "", "does not offer it"},
		{"implicit, asked for", "implicit", legacy, desk, "implicit", ""},
		{"implicit is not taken by itself", "auto", legacy, secretCI, "", "only used with --flow implicit"},
		{"unknown", "magic", public, desk, "", "no such flow"},
		{"none at all", "auto", &providers.Provider{ID: "p"}, desk, "", "names no flow"},
	}
	for _, c := range cases {
		got, err := flow.Choose(c.flow, c.p, c.means)
		if got != c.want || (err == nil) != (c.why == "") {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
			continue
		}
		if err != nil {
			if _, ok := errors.AsType[*flow.ChoiceError](err); !ok || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v, want a ChoiceError with %q", c.name, err, c.why)
			}
		}
	}
}

func TestClientCredentials(t *testing.T) {
	a := attempt()
	if _, err := flow.ClientCredentials(a); err == nil {
		t.Error("a public client was let through")
	}
	a.Client = oauth.Client{ID: "client-1", Secret: secret.New("canary"), Method: oauth.AuthPost}
	a.Pins.Token.Params = map[string]string{"audience": "api"}
	got, err := flow.ClientCredentials(a)
	if err != nil {
		t.Fatal(err)
	}
	form := formOf(got.Request)
	if form["grant_type"] != "client_credentials" || form["scope"] != "read write" || form["audience"] != "api" || got.Via != flow.FlowClientCredentials {
		t.Errorf("the request is not complete: %v", got.Request.Form)
	}
	a.Pins.TokenEndpoint = ""
	if _, err := flow.ClientCredentials(a); err == nil {
		t.Error("a provider without a token endpoint was let through")
	}
}

func TestKeyAndImport(t *testing.T) {
	for _, bad := range []string{"", " ", "two words", "line\nbreak", "tab\there", "nul\x00", "ümlaut", strings.Repeat("k", 64<<10+1)} {
		for _, take := range []func(secret.Text) (*flow.Result, error){flow.Key, flow.Import} {
			if _, err := take(secret.New(bad)); err == nil || bad != "" && len(bad) < 20 && bad != " " && strings.Contains(err.Error(), bad) {
				t.Errorf("a credential of %d bytes: %v", len(bad), err)
			}
		}
	}
	got, err := flow.Key(secret.New(" sk_canary!|~ \n"))
	if err != nil || got.Key.Reveal() != "sk_canary!|~" || got.Via != flow.FlowKey {
		t.Errorf("the key was not taken: %v", err)
	}
	if got, err := flow.Import(secret.New("rt")); err != nil || got.Via != flow.FlowImport {
		t.Errorf("the token was not taken: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%+v", got), "canary") {
		t.Error("a result prints its key")
	}
}

func TestReadSecret(t *testing.T) {
	for in, want := range map[string]string{
		"value": "value", "value\n": "value", "value\r\n": "value", "value\n\n": "value", " v \n": " v ",
		strings.Repeat("k", 64<<10): strings.Repeat("k", 64<<10),
	} {
		if got, err := flow.ReadSecret(strings.NewReader(in)); err != nil || got.Reveal() != want {
			t.Errorf("%.20q (%d bytes): %d bytes, %v", in, len(in), got.Len(), err)
		}
	}
	for _, bad := range []string{"", "\n", "one\ntwo\n", "\nvalue", strings.Repeat("k", 64<<10+1)} {
		if _, err := flow.ReadSecret(strings.NewReader(bad)); err == nil {
			t.Errorf("%.20q (%d bytes) was taken", bad, len(bad))
		}
	}
}

// A device flow that wants a client of its own is not chosen where the address
// can be pasted: the client at hand is most likely made for the browser.
func TestChooseDeviceWithItsOwnClient(t *testing.T) {
	p := &providers.Provider{
		ID: "acme", Flows: []string{flow.FlowBrowser, flow.FlowDevice}, RedirectURI: "http://127.0.0.1:*/callback/acme",
		TokenEndpointAuthMethod: "none", DeviceNote: "Acme wants a device client.",
	}
	for _, c := range []struct {
		means flow.Means
		want  string
	}{
		{flow.Means{Person: true, Terminal: true}, flow.FlowBrowser},
		{flow.Means{Person: true}, flow.FlowDevice},
		{flow.Means{Person: true, Terminal: true, Browser: true}, flow.FlowBrowser},
	} {
		if got, err := flow.Choose(flow.FlowAuto, p, c.means); got != c.want || err != nil {
			t.Errorf("with %+v: %q, %v; want %q", c.means, got, err, c.want)
		}
	}
}

// A person who says no is told so in whatever words the provider has for it.
func TestDeniedError(t *testing.T) {
	for code, want := range map[string]string{
		"access_denied":            "access to Acme was not granted (access_denied): no",
		"access-denied":            "access to Acme was not granted (access-denied): no",
		"authorization_declined":   "access to Acme was not granted (authorization_declined): no",
		"user_cancelled_authorize": "access to Acme was not granted (user_cancelled_authorize): no",
		"user_cancelled_login":     "access to Acme was not granted (user_cancelled_login): no",
		"invalid_scope":            "Acme refused the login (invalid_scope): no",
	} {
		err := &flow.DeniedError{Provider: "Acme", Code: code, Description: "no"}
		if got := err.Error(); got != want || err.ByPerson() == (code == "invalid_scope") {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
