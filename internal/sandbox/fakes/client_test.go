package fakes_test

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestCatalogueAgainstFakes walks each catalogue entry through its life with
// the product's protocol code: the entry, the client and the documented rules
// must agree.
func TestCatalogueAgainstFakes(t *testing.T) {
	scopes := map[string][]string{
		"spotify": {"user-read-private"}, "github": {"repo", "offline_access"}, "google": {"openid", "email"}, "keycloak": {"openid", "offline_access"},
		"box": {"root_readonly"}, "salesforce": {"api", "refresh_token", "openid"}, "stripe": {"read_only"}, "contentful": {"content_management_read"},
	}
	labels := map[string]string{
		"spotify": "Alice Example", "github": "alice", "google": "alice@example.com", "keycloak": "alice",
		"box": "alice@example.com", "salesforce": "alice@example.com", "stripe": "acct_1001", "contentful": "alice@example.com",
	}
	web, err := oauth.NewHTTP(oauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(web.Close)
	for _, f := range all(t) {
		t.Run(f.ID, func(t *testing.T) {
			ctx := t.Context()
			definition := f.Definition
			if entry := entryOf(t, f); entry != nil {
				var err error
				if definition, err = f.Rewrite(entry); err != nil {
					t.Fatal(err)
				}
			}
			p, err := providers.Parse(f.ID+".yaml", definition, providers.User)
			if err != nil {
				t.Fatal(err)
			}
			if p.NeedsDiscovery() {
				m, err := web.Discover(ctx, fakes.KeycloakIssuer(f), true)
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Complete(providers.Metadata(m)); err != nil {
					t.Fatal(err)
				}
			}
			pins, err := (&providers.Definition{Provider: p, Origin: providers.User}).Pin(providers.PinOptions{Flow: "browser", ClientID: f.ClientID, HasSecret: true})
			if err != nil {
				t.Fatal(err)
			}
			client := oauth.Client{ID: f.ClientID, Secret: f.ClientSecret, Method: pins.AuthMethod}
			redirect := strings.Replace(pins.RedirectURI, ":*", ":4711", 1)
			var verifier secret.Text
			pkce := pins.PKCE == "S256"
			if pkce {
				if verifier, err = oauth.NewVerifier(nil); err != nil {
					t.Fatal(err)
				}
			}
			to, err := oauth.AuthorizeURL(oauth.AuthorizeRequest{
				Endpoint: pins.AuthorizationEndpoint, ClientID: f.ClientID, RedirectURI: redirect, Scopes: scopes[f.ID],
				ScopeSeparator: pins.Token.RequestScopeSeparator, State: "0123456789abcdef0123456789abcdef", PKCE: pkce, Verifier: verifier,
				Params: p.Authorize, AllowInsecureLoopback: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			location, err := f.Consent(ctx, to)
			if err != nil {
				t.Fatal(err)
			}
			back, err := url.Parse(location)
			if err != nil || back.Query().Get("code") == "" {
				t.Fatalf("no code: %s", back.Query().Get("error"))
			}
			rules := oauth.Rules{Type: pins.Token.Type, ScopeSeparator: pins.Token.ScopeSeparator, Keep: pins.Token.Keep}
			ask := func(form oauth.Form) oauth.Token {
				t.Helper()
				a, err := web.PostToken(ctx, oauth.TokenRequest{Endpoint: pins.TokenEndpoint, Client: client, Form: form.With(pins.Token.Params), Headers: pins.Token.Headers, AllowInsecureLoopback: true})
				if err != nil {
					t.Fatal(err)
				}
				token, err := oauth.ParseToken(a, rules)
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			token := ask(oauth.CodeExchange(secret.New(back.Query().Get("code")), redirect, verifier, nil))
			// Google answers with the long names of scopes, which are addresses: the
			// entry knows them, and Rewrite has turned those toward the fake.
			if token.ScopesKnown && len(pins.MissingScopes(scopes[f.ID], token.Scopes)) > 0 && f.ID != "google" {
				t.Errorf("granted %v", token.Scopes)
			}
			if err := pins.BindAPI(token.Kept); err != nil {
				t.Fatal(err)
			}
			var who oauth.Account
			if pins.Identity.From == "token" {
				b, _ := json.Marshal(token.Kept)
				who, err = oauth.AccountIn(b, pins.Identity.Subject, pins.Identity.Label)
			} else {
				who, err = web.Identity(ctx, oauth.IdentityRequest{
					Endpoint: pins.UserinfoEndpoint, Access: token.Access, Subject: pins.Identity.Subject, Label: pins.Identity.Label,
					Headers: pins.Identity.Headers, AllowInsecureLoopback: true,
				})
			}
			if err != nil || who.Subject == "" || who.Label != labels[f.ID] {
				t.Errorf("account %q, %v; want the label %q", who.Label, err, labels[f.ID])
			}
			if !token.Refresh.IsZero() {
				next := ask(oauth.RefreshForm(token.Refresh))
				rotated := !next.Refresh.IsZero() && !next.Refresh.Equal(token.Refresh)
				if (rotated && pins.Token.Rotates == "never") || (!rotated && pins.Token.Rotates == "always") {
					t.Errorf("the entry says that refresh tokens rotate %s; this one rotated: %t", pins.Token.Rotates, rotated)
				}
				token.Access = next.Access
				if !next.Refresh.IsZero() {
					token.Refresh = next.Refresh
				}
			}
			if pins.Revocation.Style == "page" {
				return
			}
			err = web.Revoke(ctx, oauth.RevokeRequest{
				Style: pins.Revocation.Style, Endpoint: pins.RevocationEndpoint, Client: client, Access: token.Access, Refresh: token.Refresh,
				Subject: who.Subject, Rename: pins.Revocation.Rename, AllowInsecureLoopback: true,
				Manner: oauth.Manner{
					Method: pins.Revocation.Method, Format: pins.Revocation.Request, Auth: pins.Revocation.Auth, Token: pins.Revocation.Token, Params: pins.Revocation.Params,
				},
			})
			if err != nil {
				t.Errorf("revoke: %v", err)
			}
			if f.Active(token.Access) || (!token.Refresh.IsZero() && f.Active(token.Refresh)) {
				t.Error("a token outlived the revocation")
			}
		})
	}
}

// entryOf is the catalogue entry that a fake stands for, nil when there is none:
// software of one's own has its issuer's metadata, whatever the entry says.
func entryOf(t *testing.T, f *fakes.Fake) []byte {
	t.Helper()
	if f.ID == "keycloak" {
		return nil
	}
	entry, err := os.ReadFile(filepath.Join("..", "..", "providers", "catalog", f.ID+".yaml"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return entry
}
