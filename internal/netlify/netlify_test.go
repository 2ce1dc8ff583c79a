package netlify_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/netlify"
	"github.com/apiauth/apiauth/internal/secret"
)

// query is what every version of the package sends, shortened by blanks.
const query = `{"query":"query FindLoggedInServicesQuery { me { serviceMetadata { loggedInServices { friendlyServiceName } } } }"}`

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newTokens(t *testing.T) (*netlify.Tokens, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)}
	return &netlify.Tokens{Dir: filepath.Join(t.TempDir(), "site-tokens"), Now: c.Now, Rand: rand.Reader}, c
}

func mint(t *testing.T, tokens *netlify.Tokens, c *clock) (secret.Text, netlify.Site) {
	t.Helper()
	token, site, err := tokens.Mint(netlify.Site{ID: "site-1", Project: "p1", Connections: []string{"spotify"}, Expires: c.now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token, site
}

func TestSiteTokens(t *testing.T) {
	tokens, c := newTokens(t)
	token, site := mint(t, tokens, c)
	other, _ := mint(t, tokens, c)
	if got, err := tokens.Check(token); err != nil || got.Project != "p1" || got.TokenID != site.TokenID {
		t.Fatalf("the token is not good: %v", err)
	}
	// Nothing of the token is kept but its hash.
	entries, err := os.ReadDir(tokens.Dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(token.Reveal(), "apiauth_site_"), "_")
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(tokens.Dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), key) {
			t.Error("a site token is kept in clear")
		}
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	for _, bad := range []string{
		"", "apiauth_site_", token.Reveal() + "x", token.Reveal()[:len(token.Reveal())-1], strings.ToUpper(token.Reveal()),
		"apiauth_site_" + site.TokenID + "_" + strings.Repeat("A", 43), "apiauth_site_../../etc/pas_x", "apiauth_site_000000000000_x",
	} {
		if _, err := tokens.Check(secret.New(bad)); !errors.Is(err, netlify.ErrToken) {
			t.Errorf("a wrong token of %d bytes: %v", len(bad), err)
		}
	}
	list, err := tokens.List()
	if err != nil || len(list) != 2 {
		t.Fatalf("%d tokens, %v", len(list), err)
	}
	if ok, err := tokens.Revoke(site.TokenID); !ok || err != nil {
		t.Fatalf("revoke: %v, %v", ok, err)
	}
	if _, err := tokens.Check(token); !errors.Is(err, netlify.ErrToken) {
		t.Error("a revoked token is good")
	}
	if ok, err := tokens.Revoke("../../etc/passwd"); ok || err != nil {
		t.Errorf("a strange id: %v, %v", ok, err)
	}
	c.now = c.now.Add(time.Hour)
	if _, err := tokens.Check(other); !errors.Is(err, netlify.ErrToken) {
		t.Error("a token that has ended is good")
	}
	if list, err := tokens.List(); err != nil || len(list) != 0 {
		t.Errorf("%d ended tokens are listed, %v", len(list), err)
	}
}

func TestEndpoint(t *testing.T) {
	tokens, c := newTokens(t)
	token, _ := mint(t, tokens, c)
	failing := false
	var lines []string
	srv := httptest.NewServer(&netlify.Endpoint{
		Check: tokens.Check,
		Secrets: func(_ context.Context, site netlify.Site) ([]json.RawMessage, error) {
			if failing {
				return nil, errors.New("the keychain is locked")
			}
			return []json.RawMessage{json.RawMessage(`{"service":"SPOTIFY","site":"` + site.ID + `"}`)}, nil
		},
		Log: func(line string) { lines = append(lines, line) },
	})
	defer srv.Close()
	tests := []struct {
		name, method, path, kind, auth, body string
		status                               int
		want                                 string
	}{
		{"answered", "POST", "/graphql?app_id=site-1", "application/json", "Bearer " + token.Reveal(), query, 200, `{"data":{"me":{"serviceMetadata":{"loggedInServices":[{"service":"SPOTIFY","site":"site-1"}]}}}}`},
		{"no site id", "POST", "/graphql?app_id=undefined", "application/json", "Bearer " + token.Reveal(), query, 200, `"loggedInServices":[{`},
		{"another site", "POST", "/graphql?app_id=site-2", "application/json", "Bearer " + token.Reveal(), query, 403, "another site"},
		{"no token", "POST", "/graphql", "application/json", "", query, 401, "no site token"},
		{"wrong token", "POST", "/graphql", "application/json", "Bearer x", query, 401, "unknown, ended or revoked"},
		{"wrong path", "POST", "/", "application/json", "Bearer " + token.Reveal(), query, 404, ""},
		{"wrong method", "GET", "/graphql", "application/json", "Bearer " + token.Reveal(), "", 405, ""},
		{"a form", "POST", "/graphql", "text/plain", "Bearer " + token.Reveal(), query, 415, ""},
		{"another query", "POST", "/graphql", "application/json", "Bearer " + token.Reveal(), `{"query":"mutation { x }"}`, 400, ""},
		{"no JSON", "POST", "/graphql", "application/json", "Bearer " + token.Reveal(), `{`, 400, ""},
		{"too large", "POST", "/graphql", "application/json", "Bearer " + token.Reveal(), strings.Repeat("x", 65<<10), 413, ""},
	}
	send := func(t *testing.T, method, path, kind, auth, body string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		if auth != "" {
			req.Header.Set("Authorization", auth)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(data)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			resp, body := send(t, test.method, test.path, test.kind, test.auth, test.body)
			if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d, %s", resp.StatusCode, body)
			}
			if resp.Close != (test.status != 200) {
				t.Errorf("status %d and the connection ends: %v", resp.StatusCode, resp.Close)
			}
		})
	}
	failing = true
	resp, body := send(t, "POST", "/graphql", "application/json", "Bearer "+token.Reveal(), query)
	if resp.StatusCode != 200 || !strings.Contains(body, `"data":{"me":null}`) || !strings.Contains(body, `"errors"`) {
		t.Errorf("tokens that cannot be had: %d %s", resp.StatusCode, body)
	}
	if log := strings.Join(lines, "\n"); strings.Contains(log, "apiauth_site_") || !strings.Contains(log, "answered with 1") {
		t.Errorf("the log: %s", log)
	}
}
