//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

const manifest = `project: my-site
connections:
  peer:
    scopes: [profile]
    env: SITE_TOKEN
`

// Two projects of one person hold two grants of the same account: what ends one
// leaves the other alone.
func TestTwoProjectsHoldSeparateGrants(t *testing.T) {
	t.Parallel()
	is := peers.Issuer(t, peers.IssuerOptions{})
	p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	tap := newTap(t, is.URL+"/token")
	p.addProvider(definition("peer", is, tap.url, is.Public, "client_id: "+is.Public.ID+"\n"))

	tokens := map[string]string{}
	for _, dir := range []string{"one", "two", "personal"} {
		q := p.in(dir)
		if dir != "personal" {
			q.write("apiauth.yaml", manifest)
		}
		if r := visitConnect(q, &peers.Visitor{}, "peer"); r.code != 0 {
			t.Fatal(r.redacted())
		}
		tokens[dir] = q.must("token", "peer").token()
		if tokens[dir] != tap.lastAccess() {
			t.Errorf("the project in %s got another project's token", dir)
		}
	}
	if n := keychainItems(t, p.bus); n != 6 {
		t.Errorf("three connections have %d items in the keychain", n)
	}
	// --personal, -C and a folder inside a project lead where they say.
	if got := p.in("one").must("--personal", "token", "peer").token(); got != tokens["personal"] {
		t.Error("--personal inside a project gives another token")
	}
	if got := p.in("two/src/deep").must("token", "peer").token(); got != tokens["two"] {
		t.Error("a folder inside a project gives another token")
	}
	if got := p.must("-C", filepath.Join(p.home, "one"), "exec", "--", "printenv", "SITE_TOKEN").token(); got != tokens["one"] {
		t.Error("-C and exec give another token")
	}

	p.in("one").must("disconnect", "peer")
	for dir, token := range tokens {
		if alive := is.Active(t, secret.New(token)); alive != (dir != "one") {
			t.Errorf("after disconnect in one, the token of %s lives: %v", dir, alive)
		}
	}
	if r := p.in("one").run("token", "peer"); r.code != 4 || r.out != "" {
		t.Errorf("no fallback to the personal project: %s", r.redacted())
	}
	if got := p.in("two").must("token", "peer").token(); got != tokens["two"] {
		t.Error("the other project lost its token")
	}
	if n := keychainItems(t, p.bus); n != 4 {
		t.Errorf("two connections have %d items in the keychain", n)
	}
	p.holdsNone(tap.secrets()...)
}

// A repository reaches nothing by having a manifest: its folder must be the one
// that the person connected.
func TestAFolderIsBoundByItself(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	site := p.in("site")
	site.write("apiauth.yaml", strings.Replace(manifest, "my-site", "site", 1))
	h.mustConnect(site, "peer")
	token := site.must("token", "peer").token()

	refused := func(t *testing.T, q *person) {
		t.Helper()
		for _, args := range [][]string{
			{"token", "peer"}, {"exec", "--", "true"}, {"exec", "-c", "peer", "--", "true"}, {"env", "--format", "sh"},
			{"api", "peer", "me"}, {"status"}, {"list"}, {"disconnect", "peer"}, {"rename", "peer", "other"},
		} {
			r := q.run(args...)
			if r.code != 6 || r.out != "" {
				t.Errorf("want exit code 6 and nothing on stdout: %s", r.redacted())
			}
			if !strings.Contains(r.err, "apiauth connect") || !strings.Contains(r.err, "apiauth project") {
				t.Errorf("the remedy is not named: %s", r.redacted())
			}
		}
		if h.tap.lastAccess() != token {
			t.Error("somebody asked the issuer for a token")
		}
	}
	copyOf := func(dir string) *person {
		q := p.in(dir)
		content, err := os.ReadFile(filepath.Join(site.dir, "apiauth.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		q.write("apiauth.yaml", string(content))
		return q
	}

	t.Run("copied manifest", func(t *testing.T) { refused(t, copyOf("copy")) })

	t.Run("renamed folder", func(t *testing.T) {
		moved := p.in("moved")
		must(t, os.Remove(moved.dir))
		must(t, os.Rename(site.dir, moved.dir))
		refused(t, moved)
		must(t, os.Rename(moved.dir, site.dir))
		if got := site.must("token", "peer").token(); got != token {
			t.Error("moved back, it gives another token")
		}
	})

	t.Run("re-created folder", func(t *testing.T) {
		old := filepath.Join(p.home, "old-site")
		must(t, os.Rename(site.dir, old)) // keeps the inode from being given to the new one
		q := p.in("site")
		content, err := os.ReadFile(filepath.Join(old, "apiauth.yaml"))
		must(t, err)
		q.write("apiauth.yaml", string(content))
		refused(t, q)
	})

	t.Run("link", func(t *testing.T) {
		q := p.in("site")
		// Without a terminal the project has to be named, and never is by its label.
		if r := q.run("project", "link"); r.code != 2 || !strings.Contains(r.err, "--project") {
			t.Errorf("%s", r.redacted())
		}
		if r := q.run("project", "link", "--project", "site"); r.code != 2 {
			t.Errorf("a label decided: %s", r.redacted())
		}
		type info struct {
			ID          string   `json:"id"`
			Label       string   `json:"label"`
			Connections []string `json:"connections"`
		}
		id := ""
		for _, i := range fromJSON[[]info](t, q.must("project", "show", "--all", "--json")) {
			if i.Label == "site" && len(i.Connections) == 1 {
				id = i.ID
			}
		}
		q.must("project", "link", "--project", id)
		if got := q.must("token", "peer").token(); got != token {
			t.Error("after link it gives another token")
		}
		q.must("project", "unlink")
		refused(t, q)
		q.must("project", "link", "--project", id)
	})

	t.Run("connect makes a new project", func(t *testing.T) {
		q := copyOf("clone")
		h.mustConnect(q)
		second := q.must("token", "peer").token()
		if second == token || second != h.tap.lastAccess() {
			t.Error("the clone did not get a grant of its own")
		}
		if got := p.in("site").must("token", "peer").token(); got != token {
			t.Error("the first project's token changed")
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
