//go:build unix

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/sandbox"
)

// messages is the golden file of what people read when something is wrong:
// UPDATE=1 go test ./test/e2e -run Messages writes it anew. Read the diff as
// somebody would to whom it happens.
type messages struct {
	path string
	want map[string]string

	mu      sync.Mutex
	order   []string
	got     map[string]string
	partial bool // a peer is missing, and with it some messages
}

const goldenMessages = "testdata/messages.txt"

func openMessages(t *testing.T) *messages {
	t.Helper()
	m := &messages{path: goldenMessages, want: map[string]string{}, got: map[string]string{}}
	content, err := os.ReadFile(m.path)
	if err != nil && os.Getenv("UPDATE") == "" {
		t.Fatal(err)
	}
	for _, section := range strings.Split("\n"+string(content), "\n== ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		m.want[name] = strings.TrimSpace(text) + "\n"
		m.order = append(m.order, name)
	}
	t.Cleanup(func() {
		var b strings.Builder
		for _, name := range m.order {
			text, ok := m.got[name]
			if !ok && m.partial {
				text, ok = m.want[name]
			}
			switch {
			case ok:
				fmt.Fprintf(&b, "== %s\n%s\n", name, text)
			case os.Getenv("UPDATE") == "" && !t.Failed():
				t.Errorf("%s holds %q, which nothing says any more", m.path, name)
			}
		}
		if os.Getenv("UPDATE") == "" {
			return
		}
		if err := os.WriteFile(m.path, []byte(b.String()), 0o600); err != nil {
			t.Error(err)
		}
	})
	return m
}

// record holds a result against the golden file, and against what is true of
// every message: exit code, nothing on stdout, a reason, a remedy, 80 columns.
func (m *messages) record(t *testing.T, p *person, name string, code int, r result) {
	t.Helper()
	if r.code != code {
		t.Errorf("%s: want exit code %d: %s", name, code, r.redacted())
	}
	if r.out != "" {
		t.Errorf("%s: %d bytes on stdout", name, len(r.out))
	}
	if !strings.Contains(r.err, "apiauth: error: ") && !strings.Contains(r.err, "apiauth: note: ") {
		t.Errorf("%s: no line begins with apiauth: error: %s", name, r.redacted())
	}
	if !strings.Contains(r.err, "apiauth: hint: ") {
		t.Errorf("%s: there is no remedy: %s", name, r.redacted())
	}
	for line := range strings.Lines(r.err) {
		line = strings.TrimRight(line, "\n")
		bare := strings.TrimPrefix(strings.TrimPrefix(line, "apiauth: error: "), "apiauth: hint: ")
		if utf8.RuneCountInString(line) > 80 && strings.ContainsRune(strings.TrimSpace(bare), ' ') {
			t.Errorf("%s: a line has %d columns: %s", name, utf8.RuneCountInString(line), line)
		}
	}
	text := fmt.Sprintf("$ apiauth %s\nexit %d\n%s", strings.Join(r.args, " "), r.code, r.err)
	text = p.neutral(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.got[name]; there {
		t.Fatalf("there are two messages called %q", name)
	}
	m.got[name] = text
	want, there := m.want[name]
	if !there {
		m.order = append(m.order, name)
	}
	if want != text && os.Getenv("UPDATE") == "" {
		t.Errorf("%s: want\n%s\ngot\n%s", name, want, text)
	}
}

// neutral takes out what differs from run to run, without changing a length.
func (p *person) neutral(text string) string {
	text = strings.ReplaceAll(text, filepath.Dir(p.home), "/tmp/ada-00000000")
	text = regexp.MustCompile(`127\.0\.0\.1(:|%3A)\d{5}`).ReplaceAllString(text, "127.0.0.1${1}40000")
	text = regexp.MustCompile(`--port \d{5}`).ReplaceAllString(text, "--port 40000")
	text = regexp.MustCompile(`port \d{5} `).ReplaceAllString(text, "port 40000 ")
	text = regexp.MustCompile(`\b[0-9a-f]{16}\b`).ReplaceAllString(text, "0123456789abcdef")
	return regexp.MustCompile(`(state|code_challenge)=[\w-]{43}`).ReplaceAllString(text, "$1=0123456789012345678901234567890123456789012")
}

// Every message of the bad input that people have, and no grant lost by it.
func TestMessages(t *testing.T) {
	t.Parallel()
	m := openMessages(t)
	t.Run("of commands", func(t *testing.T) { messagesOfCommands(t, m) })
	t.Run("of keychains", func(t *testing.T) { messagesOfKeychains(t, m) })
}

func messagesOfCommands(t *testing.T, m *messages) {
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.recordBrowser()
	p.addProvider(h.definition("local"))
	h.mustConnect(p, "local")
	kept := p.must("token", "local").token()
	untouched := func(t *testing.T) {
		t.Helper()
		if got := p.must("--personal", "token", "local").token(); got != kept {
			t.Error("the stored grant is not what it was")
		}
	}
	say := func(q *person, name string, code int, args ...string) {
		t.Helper()
		m.record(t, q, name, code, q.run(args...))
		untouched(t)
	}

	say(p, "unknown command", 2, "conect", "spotify")
	say(p, "unknown flag", 2, "token", "local", "--min-tll", "5s")
	say(p, "unknown provider", 2, "connect", "spotfy")
	say(p, "unknown provider, nothing like it", 2, "connect", "qqqqqqqq")
	say(p, "unknown connection", 2, "token", "locl")
	say(p, "unknown connection, nothing like it", 2, "token", "qqqqqqqq")
	say(p, "known, not connected", 4, "token", "spotify")
	say(p, "exec, nothing named", 2, "exec", "--", "true")
	say(p, "bad name", 2, "connect", "Local_1", "--provider", "local")

	say(p, "no client registered", 2, "connect", "spotify")
	say(p, "no client registered, https redirect", 2, "connect", "salesforce")
	p.addProvider(string(h.ConfidentialYAML("firm")))
	say(p, "no client secret", 2, "connect", "firm", "--flow", "browser")

	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	say(p, "callback port taken", 2, "connect", "other", "--provider", "local", "--flow", "browser", "--port", port)
	must(t, taken.Close())

	say(p, "nobody to ask", 2, "--no-input", "connect", "other", "--provider", "local")
	say(p.as("CI", "true"), "nobody to ask in CI", 2, "connect", "other", "--provider", "local")
	nobrowser := p.as("BROWSER", "", "PATH", filepath.Join(p.home, "nothing"))
	say(nobrowser, "no browser", 1, "connect", "other", "--provider", "local", "--flow", "browser", "--timeout", "1s")

	t.Run("consent denied", func(t *testing.T) {
		r := p.start("connect", "other", "--provider", "local", "--flow", "browser", "--no-browser")
		must(t, h.Answer(t.Context(), r.authorizeURL(), sandbox.Choice{Deny: true}))
		res := r.wait()
		m.record(t, p, "consent denied", 1, res)
		untouched(t)
	})

	t.Run("wrong client secret", func(t *testing.T) {
		id, _ := h.ConfidentialClient()
		r := p.startIn("not the secret\n", "connect", "firm", "--flow", "browser", "--no-browser", "--client-id", id, "--client-secret-stdin")
		must(t, h.Approve(t.Context(), r.authorizeURL()))
		m.record(t, p, "wrong client secret", 2, r.wait())
		if out := p.must("client", "list").out; strings.Contains(out, "firm") {
			t.Error("a client secret that does not work was stored")
		}
		untouched(t)
	})

	t.Run("scope that the issuer does not know", func(t *testing.T) {
		r := p.start("connect", "other", "--provider", "local", "--flow", "browser", "--no-browser", "--scope", "nonsense")
		address := r.authorizeURL()
		_ = h.Approve(t.Context(), address) // it redirects with the error
		m.record(t, p, "unknown scope", 2, r.wait())
		untouched(t)
	})

	manifestCase := func(name, content string) {
		t.Helper()
		q := p.in("manifest")
		q.write("apiauth.yaml", content)
		say(q, name, 2, "status")
		must(t, os.Remove(filepath.Join(q.dir, "apiauth.yaml")))
	}
	manifestCase("manifest, unknown key", "project: site\nconnections:\n  spotify:\n    scope: [user-read-private]\n")
	manifestCase("manifest, duplicate key", "connections:\n  spotify: {}\n  github: {}\n  spotify: {}\n")
	manifestCase("manifest, wrong type", "connections:\n  spotify:\n    scopes: user-read-private\n")
	manifestCase("manifest, forbidden variable", "connections:\n  spotify:\n    env: LD_PRELOAD\n")
	manifestCase("manifest, two connections on one variable", "connections:\n  local:\n    env: TOKEN\n  second:\n    provider: local\n    env: TOKEN\n")
	manifestCase("manifest, no YAML", "connections: [\n")

	providerCase := func(name, from, to string) {
		t.Helper()
		doc := strings.Replace(h.definition("mine"), from, to, 1)
		p.write("mine.yaml", doc)
		say(p, name, 2, "provider", "add", "mine.yaml", "--yes")
	}
	providerCase("provider file, unknown key", "pkce: S256\n", "pcke: S256\n")
	providerCase("provider file, duplicate key", "pkce: S256\n", "pkce: S256\npkce: S256\n")
	providerCase("provider file, http endpoint", "allow_insecure_loopback: true\n", "")
	p.write("../.config/apiauth/providers/broken.yaml", "id: broken\nname: Broken\nname: Twice\n")
	say(p, "user's provider file, duplicate key", 2, "connect", "broken")
	must(t, os.Remove(filepath.Join(p.home, ".config/apiauth/providers/broken.yaml")))

	site := p.in("site")
	site.write("apiauth.yaml", "project: site\nconnections:\n  local: {}\n  second:\n    provider: local\n")
	say(site, "unbound folder", 6, "token", "local")
	h.mustConnect(site, "local")
	h.mustConnect(site, "second")
	say(site, "two connections on one variable", 2, "exec", "-c", "local=TOKEN", "-c", "second=TOKEN", "--", "true")
	must(t, os.Rename(site.dir, site.dir+"-old"))
	site = p.in("site")
	site.write("apiauth.yaml", "connections:\n  local: {}\n")
	say(site, "re-created folder", 6, "token", "local")
	say(p.in("site-old"), "moved folder", 6, "token", "local")
	say(site, "project link without a terminal", 2, "project", "link")

	say(p, "other store than the project's", 2, "--store", "keychain", "token", "local")
	say(p.as("APIAUTH_STORE_KEY", ""), "no key for the file store", 5, "token", "local")
	say(p.as("APIAUTH_STORE_KEY", strings.Repeat("A", 43)), "wrong key for the file store", 5, "token", "local")

	say(p, "child not found", 127, "exec", "-c", "local", "--", "no-such-program")
	p.write("plain.txt", "no program\n")
	say(p, "child not executable", 126, "exec", "-c", "local", "--", "./plain.txt")
	say(p, "forbidden variable", 2, "exec", "-c", "local=LD_PRELOAD", "--", "true")

	t.Run("issuer out of reach", func(t *testing.T) {
		must(t, h.SetFaults("token-500"))
		m.record(t, p, "issuer fails", 3, p.run("token", "local", "--refresh"))
		must(t, h.SetFaults("invalid-grant"))
		q := p.in("revoked")
		q.write("apiauth.yaml", "connections:\n  local: {}\n")
		must(t, h.SetFaults())
		h.mustConnect(q, "local")
		must(t, h.SetFaults("invalid-grant"))
		m.record(t, p, "grant withdrawn", 4, q.run("token", "local", "--refresh"))
		must(t, h.SetFaults())
		untouched(t)
	})

	t.Run("changed endpoint", func(t *testing.T) {
		changed := strings.Replace(h.definition("local"), "revocation_endpoint: "+h.Issuer(), "revocation_endpoint: https://revoke.example.com", 1)
		path := filepath.Join(p.home, ".config/apiauth/providers/local.yaml")
		before, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, []byte(changed), 0o600))
		m.record(t, p, "changed endpoint", 6, p.run("token", "local"))
		m.record(t, p, "changed endpoint, not approved", 6, p.run("connect", "local"))
		must(t, os.WriteFile(path, before, 0o600))
		untouched(t)
	})

	t.Run("record of a newer version", func(t *testing.T) {
		q := p.in("newer")
		q.write("apiauth.yaml", "connections:\n  local: {}\n")
		h.mustConnect(q, "local")
		var newest string
		for _, file := range p.grants() {
			if newest == "" || modified(t, file).After(modified(t, newest)) {
				newest = file
			}
		}
		content, err := os.ReadFile(newest)
		must(t, err)
		must(t, os.WriteFile(newest, []byte(strings.Replace(string(content), " 1\n", " 9\n", 1)), 0o600))
		m.record(t, q, "record of a newer version", 5, q.run("token", "local"))
		must(t, os.WriteFile(newest, content[:len(content)-20], 0o600))
		m.record(t, q, "damaged record", 5, q.run("token", "local"))
		untouched(t)
	})
}

func modified(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	return info.ModTime()
}

// What the keychains of the world have to say, told in our words.
func messagesOfKeychains(t *testing.T, m *messages) {
	h := newHouse(t, sandbox.Options{})
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { m.partial = m.partial || t.Skipped() })
			test(t)
		})
	}
	connectRefused := func(t *testing.T, name string, p *person) {
		t.Helper()
		p.addProvider(h.definition("local"))
		browser := p.recordBrowser()
		m.record(t, p, name, 5, p.run("connect", "local"))
		if n := len(browser.opened()); n > 0 {
			t.Errorf("%s: a browser was opened", name)
		}
	}
	run("no bus", func(t *testing.T) { connectRefused(t, "no keychain: no session bus", newPerson(t, nil)) })
	run("no service", func(t *testing.T) {
		connectRefused(t, "no keychain: nobody on the bus", newPerson(t, keyringtest.StartBus(t)))
	})
	run("never set up", func(t *testing.T) {
		connectRefused(t, "keychain never set up", newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.NoPassword)))
	})
	run("locked", func(t *testing.T) {
		p := newPerson(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
		p.addProvider(h.definition("local"))
		h.mustConnect(p, "local")
		token := p.must("token", "local").token()
		p.bus.Lock(t)
		m.record(t, p, "locked keychain: token", 5, p.run("token", "local"))
		m.record(t, p, "locked keychain: connect", 5, p.run("connect", "second", "--provider", "local"))
		if left := p.grants(); len(left) != 1 {
			t.Errorf("the files of the grant: %v", left)
		}
		p.bus.Unlock(t)
		if got := p.must("token", "local").token(); got != token {
			t.Error("the grant is not what it was")
		}
		p.bus.Lock(t)
		m.record(t, p, "locked keychain: disconnect", 5, p.run("disconnect", "local"))
	})
	run("other store", func(t *testing.T) {
		b := keyringtest.StartBus(t)
		fake := keyringtest.StartFake(t, b, keyringtest.OK)
		p := newPerson(t, b)
		p.addProvider(h.definition("local"))
		h.mustConnect(p, "local")
		token := p.must("token", "local").token()
		m.record(t, p, "file store asked for, keychain chosen before", 2, p.run("--store", "file", "connect", "local"))
		fake.Behave(keyringtest.HangAlways)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r := p.run("token", "local")
		m.record(t, p, "keychain that hangs: token", 5, r)
		if r.took > 6*time.Second || ctx.Err() != nil {
			t.Errorf("it took %v", r.took)
		}
		m.record(t, p, "keychain that hangs: connect", 5, p.run("connect", "second", "--provider", "local"))
		fake.Behave(keyringtest.OK)
		if got := p.must("token", "local").token(); got != token {
			t.Error("the grant is not what it was")
		}
	})
	run("question refused", func(t *testing.T) {
		b := keyringtest.StartBus(t)
		keyringtest.StartFake(t, b, keyringtest.LockedPromptDismissed)
		connectRefused(t, "keychain: the person refuses to unlock it", newPerson(t, b))
	})
	run("loses writes", func(t *testing.T) {
		b := keyringtest.StartBus(t)
		keyringtest.StartFake(t, b, keyringtest.LoseWrites)
		connectRefused(t, "keychain that keeps nothing", newPerson(t, b))
	})
}
