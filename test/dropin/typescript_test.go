//go:build unix

package dropin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/test/peers"
)

// build makes a function of TypeScript runnable, as the host did: its types go,
// and the package that it imports, of that version and unpatched, comes into it.
func (p *person) build(source, version string) string {
	p.t.Helper()
	modules := peers.NodeModules(p.t)
	site := filepath.Join(p.home, "site-"+version)
	scope := filepath.Join(site, "node_modules", "@netlify")
	if err := os.MkdirAll(scope, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(modules, "netlify-functions-"+version), filepath.Join(scope, "functions")); err != nil {
		p.t.Fatal(err)
	}
	text, err := os.ReadFile(p.script(source))
	if err != nil {
		p.t.Fatal(err)
	}
	input, output := filepath.Join(site, source), filepath.Join(site, "built.cjs")
	if err := os.WriteFile(input, text, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.must("node", filepath.Join(modules, "rolldown", "bin", "cli.mjs"), input, "--platform", "node", "--format", "cjs", "--file", output)
	return output
}

// functionAnswer is what a function of the host returns.
type functionAnswer struct {
	StatusCode int    `json:"statusCode"`
	Body       string `json:"body"`
	Services   []struct {
		Service    string   `json:"service"`
		IsLoggedIn bool     `json:"isLoggedIn"`
		Scopes     []string `json:"scopes"`
		Account    string   `json:"account"`
	} `json:"-"`
}

// invoke runs a built function under exec --netlify=function with a node.
func (p *person) invoke(node, built string, env ...string) functionAnswer {
	p.t.Helper()
	r := p.runWith(env, "apiauth", "exec", "--netlify=function", "--", node, p.script("invoke.cjs"), built)
	if r.err != nil {
		p.t.Fatalf("%s: %v\n%s", built, r.err, r.stderr)
	}
	var a functionAnswer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		p.t.Fatalf("the function printed no answer: %v", err)
	}
	doc := struct{ Services any }{&a.Services}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
		p.t.Fatalf("the answer is no JSON: %v", err)
	}
	return a
}

// summary tells of each service whether it is logged in, and as whom.
func (a functionAnswer) summary() string {
	text := fmt.Sprint(a.StatusCode)
	for _, s := range a.Services {
		text += fmt.Sprintf(" %s %t %s", s.Service, s.IsLoggedIn, s.Account)
		if s.IsLoggedIn && len(s.Scopes) == 0 {
			text += "without scopes"
		}
	}
	return text
}

func apis(spotify, github *fakes.Fake) []string {
	return []string{"GITHUB_API_URL=" + github.URL + "/api.github.com", "SPOTIFY_API_URL=" + spotify.URL + "/api.spotify.com/v1"}
}

// TestTypeScriptFunction runs a function in TypeScript with each release of the
// package: it asks whether the site is logged in with each service, and calls two
// of their APIs with what it gets.
func TestTypeScriptFunction(t *testing.T) {
	p, spotify, github := newSite(t)
	env := apis(spotify, github)
	built := map[string]string{}
	for _, version := range versions() {
		built[version] = p.build("services.ts", version)
	}
	each := func(when, want string) {
		t.Helper()
		for _, version := range versions() {
			if got := p.invoke("node", built[version], env...).summary(); got != want {
				t.Errorf("%s, %s: %q, want %q", when, version, got, want)
			}
		}
	}
	each("connected", "200 Spotify true alice GitHub true alice Box false ")
	p.must("apiauth", "disconnect", "github")
	each("without GitHub", "200 Spotify true alice GitHub false  Box false ")
	spotify.RemoveAccess() // by the person, at the provider
	if r := p.run("apiauth", "token", "spotify", "--refresh"); r.err == nil {
		t.Error("the grant still works")
	}
	each("after the end of the grant", "412 Spotify false  GitHub false  Box false ")
}

// TestNodeThatObeysTheVariable runs it with a release of Node.js that obeys
// NODE_USE_ENV_PROXY by itself, without the few lines that older ones need, and
// with them.
func TestNodeThatObeysTheVariable(t *testing.T) {
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	node := filepath.Join(peers.NodeModules(t), "node-"+runtime.GOOS+"-"+arch, "bin", "node")
	if _, err := os.Stat(node); err != nil {
		peers.Missing(t, "Node.js 24 from npm", "npm ci --prefix test/peers, on Linux")
	}
	p, spotify, github := newSite(t)
	const want = "200 Spotify true alice GitHub true alice Box false "
	for _, version := range []string{"0.9.0", "1.4.0"} {
		built := p.build("services.ts", version)
		if got := p.invoke(node, built, apis(spotify, github)...).summary(); got != want {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
		alone := filepath.Join(p.home, "alone-"+version)
		if err := os.WriteFile(alone, []byte("#!/bin/sh\nunset NODE_OPTIONS\nexec "+node+" \"$@\"\n"), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
		if got := p.invoke(alone, built, apis(spotify, github)...).summary(); got != want {
			t.Errorf("%s, by itself: %q, want %q", version, got, want)
		}
	}
	// It is not that the program finds its way without any proxy.
	nowhere := filepath.Join(p.home, "nowhere")
	if err := os.WriteFile(nowhere, []byte("#!/bin/sh\nunset NODE_OPTIONS NODE_USE_ENV_PROXY\nexec "+node+" \"$@\"\n"), 0o700); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	r := p.runWith(apis(spotify, github), "apiauth", "exec", "--netlify=function", "--", nowhere, p.script("invoke.cjs"), filepath.Join(p.home, "site-1.4.0", "built.cjs"))
	if r.err == nil {
		t.Error("without either, the program has reached what is gone")
	}
}
