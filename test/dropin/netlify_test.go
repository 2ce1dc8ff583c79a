//go:build unix

package dropin

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox/fakes"
)

// versions are those releases of @netlify/functions whose getSecrets differ.
func versions() []string { return []string{"0.9.0", "0.11.1", "1.0.0", "1.1.0", "1.4.0"} }

// answer is what testdata/secrets.cjs prints.
type answer struct {
	Secrets map[string]struct {
		FriendlyServiceName string  `json:"friendlyServiceName"`
		Service             string  `json:"service"`
		IsLoggedIn          bool    `json:"isLoggedIn"`
		BearerToken         *string `json:"bearerToken"`
		GrantedScopes       []struct {
			Scope     string          `json:"scope"`
			ScopeInfo json.RawMessage `json:"scopeInfo"`
		} `json:"grantedScopes"`
	} `json:"secrets"`
	Rejected string   `json:"rejected"`
	Said     []string `json:"said"`
}

func (p *person) script(name string) string {
	p.t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		p.t.Fatal(err)
	}
	return path
}

// secrets calls the package inside exec. change is put before node, such as
// env -u NAME.
func (p *person) secrets(style, version, call string, change ...string) answer {
	p.t.Helper()
	argv := append([]string{"apiauth", "exec", "--netlify=" + style, "--"}, change...)
	r := p.run(append(argv, "node", p.script("secrets.cjs"), version, call)...)
	if r.err != nil {
		p.t.Fatalf("%s %s: %v\n%s", version, call, r.err, r.stderr)
	}
	var a answer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		p.t.Fatalf("%s %s prints no JSON: %v", version, call, err)
	}
	return a
}

// newSite is a person whose project has Spotify and GitHub.
func newSite(t *testing.T) (*person, *fakes.Fake, *fakes.Fake) {
	t.Helper()
	p := newPerson(t)
	spotify, github := fakes.Spotify(t), fakes.GitHub(t)
	p.must("apiauth", "project", "init", "spotify", "github", "box", "--label", "my-site")
	p.connect(spotify)
	p.connect(github)
	return p, spotify, github
}

func TestGetSecretsOfEveryVersion(t *testing.T) {
	p, spotify, github := newSite(t)
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			for _, call := range []string{"event", "handler"} {
				a := p.secrets("function", version, call)
				keys := make([]string, 0, 3)
				for key := range a.Secrets {
					keys = append(keys, key)
				}
				slices.Sort(keys)
				if !slices.Equal(keys, []string{"box", "gitHub", "spotify"}) {
					t.Fatalf("%s: the keys are %q, rejected %q, said %q", call, keys, a.Rejected, a.Said)
				}
				one := a.Secrets["gitHub"]
				if one.Service != "GITHUB" || one.FriendlyServiceName != "GitHub" || !one.IsLoggedIn || one.BearerToken == nil || len(one.GrantedScopes) == 0 {
					t.Errorf("%s: gitHub is not what it was: %s %s %v", call, one.Service, one.FriendlyServiceName, one.IsLoggedIn)
				}
				if box := a.Secrets["box"]; box.IsLoggedIn || box.BearerToken != nil || box.Service != "BOX" || box.FriendlyServiceName != "Box" {
					t.Errorf("%s: box is not connected, and is %+v", call, box)
				}
			}
		})
	}
	if s := spotify.Stats(); s.TokenRequests != 1 {
		t.Errorf("Spotify saw %d token requests for ten calls", s.TokenRequests)
	}
	if s := github.Stats(); s.Refreshes != 0 {
		t.Errorf("GitHub saw %d refreshes", s.Refreshes)
	}
	// Exactly the five members of the query, from the wire.
	doc := p.must("apiauth", "secrets")
	var raw map[string]map[string]json.RawMessage
	if err := json.Unmarshal([]byte(doc), &raw); err != nil {
		t.Fatal(err)
	}
	for key, members := range raw {
		if len(members) != 5 {
			t.Errorf("%s has %d members", key, len(members))
		}
	}
}

// Where each release looks for the site token, row by row: in the event, in
// headers of three forms, in the environment of functions and of builds.
func TestWhereTheTokenIsLookedFor(t *testing.T) {
	p, _, _ := newSite(t)
	noEnvironment := []string{"env", "-u", "NETLIFY_GRAPH_TOKEN", "-u", "ONEGRAPH_AUTHLIFY_TOKEN", "-u", "NETLIFY_DEV", "-u", "NETLIFY"}
	byEvent := []string{"sh", "-c", `SITE_TOKEN=$NETLIFY_GRAPH_TOKEN; export SITE_TOKEN; exec "$@"`, "sh"}
	withToken := append(slices.Clone(byEvent), noEnvironment...)
	const needsEvent = "You must provide an event or request to `getSecrets` when used in functions and on-demand builders."
	const noEvent = "You must not pass arguments to `getSecrets` when used in builds."
	tests := []struct {
		name, style, version, call string
		change                     []string
		found                      bool
		said                       string
	}{
		{"old, environment", "function", "0.9.0", "event", []string{"env", "-u", "NETLIFY_GRAPH_TOKEN"}, true, ""},
		{"0.9.0, event", "function", "0.9.0", "authlify", withToken, true, ""},
		{"0.11.1, event", "function", "0.11.1", "authlify", withToken, true, ""},
		{"new, header", "function", "1.4.0", "header", withToken, true, ""},
		{"new, header in lower case, a list", "function", "1.4.0", "lowHeader", withToken, true, ""},
		{"new, Headers", "function", "1.1.0", "headers", withToken, true, ""},
		{"new, event.authlifyToken", "function", "1.4.0", "authlify", withToken, true, ""},
		{"new, event.netlifyGraphToken is not read", "function", "1.4.0", "graphOnly", withToken, false, ""},
		{"new, the old variable is not read", "function", "1.4.0", "event", []string{"env", "-u", "NETLIFY_GRAPH_TOKEN"}, false, ""},
		{"new, no NETLIFY_DEV", "function", "1.4.0", "event", []string{"env", "-u", "NETLIFY_DEV"}, false, ""},
		{"new, no event in a function", "function", "1.4.0", "none", nil, false, needsEvent},
		{"build, no event", "build", "1.4.0", "none", nil, true, ""},
		{"build, getSecretsForBuild", "build", "1.1.0", "build", nil, true, ""},
		{"build, an event", "build", "1.4.0", "event", nil, false, noEvent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := p.secrets(test.style, test.version, test.call, test.change...)
			if found := len(a.Secrets) == 3; found != test.found || a.Rejected != "" {
				t.Errorf("%d secrets, rejected %q, said %q", len(a.Secrets), a.Rejected, a.Said)
			}
			if test.said != "" && !slices.Contains(a.Said, test.said) {
				t.Errorf("it said %q", a.Said)
			}
		})
	}
}

// What the server refuses reaches the program at once, as it did: the status is
// the message, and nothing hangs.
func TestGetSecretsRefused(t *testing.T) {
	p, _, _ := newSite(t)
	began := time.Now()
	for _, version := range []string{"0.9.0", "1.4.0"} {
		a := p.secrets("function", version, "event", "env", "NETLIFY_GRAPH_TOKEN=wrong", "ONEGRAPH_AUTHLIFY_TOKEN=wrong")
		if a.Rejected != "401" {
			t.Errorf("%s: a wrong site token: %d secrets, rejected %q", version, len(a.Secrets), a.Rejected)
		}
	}
	// The package would wait for the server's idle time, minutes here.
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("two refusals took %v", took)
	}
	a := p.secrets("function", "1.4.0", "event", "env", "SITE_ID=another")
	if a.Rejected != "403" {
		t.Errorf("another site: %d secrets, rejected %q", len(a.Secrets), a.Rejected)
	}
}

// With --placeholder the program gets placeholders, which its run's proxy turns
// into tokens toward the provider only.
func TestGetSecretsWithPlaceholders(t *testing.T) {
	p, _, _ := newSite(t)
	token := strings.TrimSpace(p.must("apiauth", "token", "spotify"))
	r := p.run("apiauth", "exec", "--netlify", "--placeholder", "--", "node", p.script("secrets.cjs"), "1.4.0", "event")
	if r.err != nil {
		t.Fatalf("%v\n%s", r.err, r.stderr)
	}
	var a answer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		t.Fatal(err)
	}
	got := a.Secrets["spotify"].BearerToken
	if got == nil || *got == token || strings.Contains(r.stdout, token) {
		t.Error("the program saw the token, or nothing")
	}
}

// The environment holds the site token and no token of a provider.
func TestNetlifyEnvironment(t *testing.T) {
	p, _, _ := newSite(t)
	out := p.must("apiauth", "exec", "--netlify", "--", "env")
	for _, name := range []string{"spotify", "github"} {
		if strings.Contains(out, strings.TrimSpace(p.must("apiauth", "token", name))) {
			t.Errorf("the environment holds the token of %s", name)
		}
	}
	for _, want := range []string{"NETLIFY_DEV=true\n", "NETLIFY_GRAPH_TOKEN=apiauth_site_", "ONEGRAPH_AUTHLIFY_TOKEN=apiauth_site_", "SITE_ID="} {
		if !strings.Contains(out, want) {
			t.Errorf("the environment lacks %s", want)
		}
	}
	if strings.Contains(out, "_NETLIFY_GRAPH_TOKEN=") && strings.Contains(out, "\n_NETLIFY_GRAPH_TOKEN=") {
		t.Error("the variable of the Next plugin is set, which functions take for a build")
	}
	// Nothing of it stays.
	if left, err := os.ReadDir(filepath.Join(p.home, ".local", "state", "apiauth", "site-tokens")); err == nil && len(left) > 0 {
		t.Errorf("%d site tokens are left", len(left))
	}
}

// serving is a running 'apiauth serve --netlify' and the variables it printed.
func (p *person) serving() (env []string, stop func()) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	cmd := p.command(ctx, nil, "apiauth", "serve", "--netlify", "--json")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	var doc strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		doc.WriteString(lines.Text())
		if lines.Text() == "}" {
			break
		}
	}
	var vars map[string]string
	if err := json.Unmarshal([]byte(doc.String()), &vars); err != nil {
		p.t.Fatalf("serve prints no variables: %v", err)
	}
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return env, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		cancel()
	}
}

func (p *person) served(env []string) answer {
	p.t.Helper()
	r := p.runWith(env, "node", p.script("secrets.cjs"), "1.4.0", "event")
	if r.err != nil {
		p.t.Fatalf("%v\n%s", r.err, r.stderr)
	}
	var a answer
	if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// The long-running form: a disconnect, an expiry and a revocation count at the
// next call; the token of one project opens no other.
func TestServe(t *testing.T) {
	p, spotify, _ := newSite(t)
	env, stop := p.serving()
	defer stop()
	if a := p.served(env); !a.Secrets["spotify"].IsLoggedIn || !a.Secrets["gitHub"].IsLoggedIn {
		t.Fatalf("not logged in: rejected %q", a.Rejected)
	}

	// Another project of the same person has its own.
	first := p.project
	p.project = filepath.Join(p.home, "another")
	if err := os.Mkdir(p.project, 0o700); err != nil {
		t.Fatal(err)
	}
	p.must("apiauth", "project", "init", "spotify", "--label", "another")
	p.connect(spotify)
	other, stopOther := p.serving()
	defer stopOther()
	mixed := slices.Clone(other)
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name == "NETLIFY_GRAPH_TOKEN" || name == "ONEGRAPH_AUTHLIFY_TOKEN" {
			mixed = append(mixed, kv)
		}
	}
	if a := p.served(mixed); a.Rejected != "401" {
		t.Errorf("a token of another project: %d secrets, rejected %q", len(a.Secrets), a.Rejected)
	}
	p.project = first

	p.must("apiauth", "disconnect", "github")
	if a := p.served(env); a.Secrets["gitHub"].IsLoggedIn || a.Secrets["gitHub"].BearerToken != nil || !a.Secrets["spotify"].IsLoggedIn {
		t.Error("after a disconnect it is logged in all the same")
	}
	var list []struct {
		ID   string `json:"id"`
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal([]byte(p.must("apiauth", "serve", "--list", "--json")), &list); err != nil || len(list) != 2 {
		t.Fatalf("%d site tokens are listed, %v", len(list), err)
	}
	for _, token := range list {
		p.must("apiauth", "serve", "--revoke", token.ID)
	}
	if a := p.served(env); a.Rejected != "401" {
		t.Errorf("after the revocation: %d secrets, rejected %q", len(a.Secrets), a.Rejected)
	}
}
