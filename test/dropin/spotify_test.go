//go:build unix

package dropin

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox/fakes"
)

type sdkAnswer struct {
	ID    string   `json:"id"`
	Error string   `json:"error"`
	Asked []string `json:"asked"`
}

func (p *person) sdk(f *fakes.Fake, argv ...string) sdkAnswer {
	p.t.Helper()
	r := p.runWith([]string{"SPOTIFY_STAND_IN=" + f.URL + "/api.spotify.com"}, argv...)
	if r.err != nil {
		p.t.Fatalf("%v\n%s", r.err, r.stderr)
	}
	var a sdkAnswer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		p.t.Fatalf("no JSON: %v", err)
	}
	return a
}

// The token in the SDK's own form: it is used as it is, and no refresh happens
// behind apiauth's back, neither with a live token nor with one that has ended.
func TestSpotifySDKWithAToken(t *testing.T) {
	p := newPerson(t)
	f := fakes.Spotify(t)
	p.must("apiauth", "project", "init", "spotify", "--label", "music")
	p.connect(f)
	doc := p.must("apiauth", "token", "spotify", "--format", "spotify-sdk")
	var token struct {
		AccessToken  string  `json:"access_token"`
		TokenType    string  `json:"token_type"`
		ExpiresIn    int64   `json:"expires_in"`
		RefreshToken *string `json:"refresh_token"`
		Expires      int64   `json:"expires"`
	}
	if err := json.Unmarshal([]byte(doc), &token); err != nil {
		t.Fatal("the token is no JSON")
	}
	if left := time.Until(time.UnixMilli(token.Expires)); left < 50*time.Minute || left > 61*time.Minute {
		t.Errorf("expires is %v away: it must be in milliseconds", left)
	}
	if token.ExpiresIn < 3000 || token.ExpiresIn > 3600 || token.TokenType != "Bearer" || token.RefreshToken == nil || *token.RefreshToken != "" {
		t.Errorf("expires_in %d, token_type %q, refresh_token there: %v", token.ExpiresIn, token.TokenType, token.RefreshToken != nil)
	}
	file := filepath.Join(p.home, "token.json")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	before := f.Stats().TokenRequests
	if a := p.sdk(f, "node", p.script("spotify.mjs"), "token", file); a.ID == "" || a.Error != "" {
		t.Errorf("the SDK failed: %s", a.Error)
	}
	if after := f.Stats().TokenRequests; after != before {
		t.Errorf("the SDK asked the issuer for tokens %d times", after-before)
	}
}

// The SDK with the proxy as its fetch target: it holds the key of the run, and
// the token stays on this side.
func TestSpotifySDKThroughTheProxy(t *testing.T) {
	p := newPerson(t)
	f := fakes.Spotify(t)
	p.must("apiauth", "project", "init", "spotify", "--label", "music")
	p.connect(f)
	token := strings.TrimSpace(p.must("apiauth", "token", "spotify"))
	a := p.sdk(f, "apiauth", "proxy", "spotify", "--allow", "GET /me", "--", "node", p.script("spotify.mjs"), "proxy")
	if a.ID == "" || a.Error != "" {
		t.Fatalf("the SDK failed: %s", a.Error)
	}
	out := p.must("apiauth", "proxy", "spotify", "--", "env")
	if strings.Contains(out, token) {
		t.Error("the environment under the proxy holds the token")
	}
	before := f.Stats().APICalls
	p.sdk(f, "apiauth", "proxy", "spotify", "--allow", "GET /search", "--", "node", p.script("spotify.mjs"), "proxy")
	if after := f.Stats().APICalls; after != before {
		t.Error("a call that is not allowed reached the API")
	}
}
