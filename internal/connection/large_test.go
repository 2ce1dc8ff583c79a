package connection_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

const (
	largeAccess  = 64 << 10
	largeRefresh = 8 << 10
	filling      = "~" // no token of the sandbox holds it
)

// filler stands before the token endpoint and makes its tokens large. A refresh
// token that comes back otherwise than it was given is refused.
func (r *rig) filler() (endpoint string, refused *atomic.Int64) {
	r.Helper()
	refused = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if err := q.ParseForm(); err != nil {
			http.Error(w, "no form", http.StatusBadRequest)
			return
		}
		if given := q.PostForm.Get("refresh_token"); given != "" {
			if len(given) != largeRefresh || !strings.HasSuffix(given, filling) {
				refused.Add(1)
				http.Error(w, "another refresh token", http.StatusBadRequest)
				return
			}
			q.PostForm.Set("refresh_token", strings.TrimRight(given, filling))
		}
		answer, err := http.PostForm(r.issuer.Issuer()+"/token", q.PostForm) //nolint:gosec,noctx // the sandbox
		if err != nil {
			http.Error(w, "no issuer", http.StatusBadGateway)
			return
		}
		defer func() { _ = answer.Body.Close() }()
		var doc map[string]any
		if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&doc); err != nil {
			http.Error(w, "no JSON", http.StatusBadGateway)
			return
		}
		for member, size := range map[string]int{"access_token": largeAccess, "refresh_token": largeRefresh} {
			if token, ok := doc[member].(string); ok {
				doc[member] = token + strings.Repeat(filling, size-len(token))
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(answer.StatusCode)
		_ = json.NewEncoder(w).Encode(doc)
	}))
	r.Cleanup(server.Close)
	return server.URL + "/token", refused
}

// an access token of 64 KiB and a refresh token of 8 KiB go through connect
// and refreshes with the limits of every platform; where the keychain is too
// small, the sealed record has the refresh token.
func TestLargeTokensOnEveryPlatform(t *testing.T) {
	for _, c := range []struct {
		goos  string
		limit int // of one item, as the platform's keychain itself would refuse more
		state connection.KeychainState
	}{
		{"linux", 1 << 20, connection.KeychainPending},
		{"darwin", 4096, connection.KeychainTooLarge},
		{"windows", 2560, connection.KeychainTooLarge},
	} {
		t.Run(c.goos, func(t *testing.T) {
			r := start(t, strict(), store.KindKeychain)
			endpoint, refused := r.filler()
			r.define(bytes.Replace(r.issuer.ProviderYAML("sandbox"), []byte("token_endpoint: "+r.issuer.Issuer()+"/token"), []byte("token_endpoint: "+endpoint), 1))
			r.mem.MaxSize(c.limit)
			r.opt.Keychain = keyring.New(keyring.Options{Backend: r.mem, Budget: -1, GOOS: c.goos})
			r.connect("a")
			before := ""
			for range 4 {
				r.clock.add(pastExpiry)
				a, err := r.process().Token(t.Context(), "a", connection.Option{})
				r.must(err)
				token := a.Token.Reveal()
				if len(token) != largeAccess || !r.issuer.Active(secret.New(strings.TrimRight(token, filling))) {
					t.Errorf("a token of %d bytes, or one that is dead at the issuer", len(token))
				}
				if token == before {
					t.Error("no refresh happened")
				}
				before = token
				again, err := r.process().Token(t.Context(), "a", connection.Option{})
				r.must(err)
				if again.Token.Reveal() != token {
					t.Error("the stored token is another one")
				}
			}
			if n := refused.Load(); n != 0 {
				t.Errorf("%d refresh tokens came back changed", n)
			}
			if n := r.issuer.Stats().Reuse; n != 0 {
				t.Errorf("%d reuses", n)
			}
			rec := r.read("a")
			if rec.Keychain != c.state || rec.Body.Refresh.Len() != largeRefresh { // until a later process has read the item back
				t.Errorf("the keychain is %q, the sealed refresh token has %d bytes", rec.Keychain, rec.Body.Refresh.Len())
			}
		})
	}
}
