package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox"
)

// stage is a machine of its own with an issuer, for commands that fail.
type stage struct {
	t      *testing.T
	home   string
	server *sandbox.Server
	env    map[string]string
	port   int // held by somebody else

	out bytes.Buffer
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server, err := sandbox.Start(t.Context(), sandbox.Options{RotateRefresh: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	visitor := httptest.NewServer(visit(server))
	t.Cleanup(visitor.Close)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	s := &stage{t: t, server: server, home: t.TempDir(), port: taken.Addr().(*net.TCPAddr).Port}
	s.env = map[string]string{
		"HOME": s.home, "PATH": os.Getenv("PATH"), "BROWSER": "apiauth", "TMPDIR": s.home,
		"APIAUTH_CONFIG_DIR": s.path("config"), "APIAUTH_STATE_DIR": s.path("state"),
		"APIAUTH_FAKE_KEYCHAIN": s.path("keychain"), "SANDBOX_VISITOR": visitor.URL,
		"GORACE": quickExit,
	}
	_, secret := server.ConfidentialClient()
	s.file("config/providers/sandbox.yaml", string(server.ProviderYAML("sandbox")))
	s.file("config/providers/machine.yaml", string(server.ConfidentialYAML("machine")))
	s.file("machine.secret", secret.Reveal()+"\n")
	for _, dir := range []string{"work", "site"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.home, filepath.FromSlash(name)) }

func (s *stage) file(name, content string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// call is how a command is run: in a folder, with stdin and other variables.
type call struct {
	dir   string // below home; default work
	stdin string
	env   map[string]string
}

func (s *stage) exec(c call, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "apiauth", args...)
	if c.dir == "" {
		c.dir = "work"
	}
	cmd.Dir = s.path(c.dir)
	cmd.Stdin = strings.NewReader(c.stdin)
	for name, value := range s.env {
		if other, ok := c.env[name]; ok {
			value = other
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	for name, value := range c.env {
		if _, ok := s.env[name]; !ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatalf("run apiauth %q: %v", args, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs what a case needs beforehand.
func (s *stage) must(c call, args ...string) string {
	s.t.Helper()
	stdout, stderr, code := s.exec(c, args...)
	if code != 0 {
		s.t.Fatalf("apiauth %q ended with %d:\n%s", args, code, stderr)
	}
	return stdout
}

// fails runs a command that must fail with a status, and writes its messages
// down.
func (s *stage) fails(title string, want int, c call, args ...string) {
	s.t.Helper()
	stdout, stderr, code := s.exec(c, args...)
	if code != want {
		s.t.Errorf("%s: status %d, want %d:\n%s", title, code, want, stderr)
	}
	if stdout != "" {
		s.t.Errorf("%s: stdout is for data, and got %d bytes", title, len(stdout)) // they may be a token
	}
	if !strings.Contains(stderr, "apiauth: error: ") {
		s.t.Errorf("%s: it is not said what failed:\n%s", title, stderr)
	}
	if !strings.Contains(stderr, "apiauth: hint: ") {
		s.t.Errorf("%s: it is not said what to do:\n%s", title, stderr)
	}
	shown := append([]string{"apiauth"}, args...)
	fmt.Fprintf(&s.out, "## %s\n$ %s\n%s[%d]\n\n", title, s.stable(strings.Join(shown, " ")), s.messages(title, stderr), code)
}

// messages brings stderr into a form that is the same on every machine: the
// lines of a message are joined, what differs is replaced, and they are broken
// again.
func (s *stage) messages(title, stderr string) string {
	var logical []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimRight(line, "\n")
		if n := len(logical); n > 0 && strings.HasPrefix(line, "  ") && strings.HasPrefix(logical[n-1], "apiauth: ") {
			logical[n-1] += " " + strings.TrimSpace(line)
			continue
		}
		logical = append(logical, line)
	}
	var b strings.Builder
	for _, line := range logical {
		line = s.stable(line)
		prefix := ""
		for _, p := range []string{"apiauth: error: ", "apiauth: hint: ", "apiauth: note: "} {
			if strings.HasPrefix(line, p) {
				prefix = p
			}
		}
		if prefix == "" {
			b.WriteString(line + "\n")
		} else {
			writeWrapped(&b, prefix, strings.TrimPrefix(line, prefix))
		}
	}
	for line := range strings.Lines(b.String()) {
		if line = strings.TrimRight(line, "\n"); len([]rune(line)) > lineWidth && !strings.Contains(line, "http") {
			s.t.Errorf("%s: a line of %d characters: %s", title, len([]rune(line)), line)
		}
	}
	return b.String()
}

// stable replaces what differs from one run to the next.
func (s *stage) stable(text string) string {
	text = strings.ReplaceAll(text, s.server.Issuer(), "http://127.0.0.1:PORT")
	text = strings.ReplaceAll(text, fmt.Sprint(s.port), "TAKEN")
	real := s.home
	if r, err := filepath.EvalSymlinks(s.home); err == nil {
		real = r
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, real, "HOME"), s.home, "HOME")
	text = regexp.MustCompile(`\b[0-9a-f]{16}\b`).ReplaceAllString(text, "ID")
	text = regexp.MustCompile(`127\.0\.0\.1(:|%3A)[0-9]+`).ReplaceAllString(text, "127.0.0.1${1}PORT")
	return regexp.MustCompile(`(state|code_challenge|nonce|client_id)=[A-Za-z0-9_.-]+`).ReplaceAllString(text, "$1=...")
}

// TestGoldenMessages holds what people read when something is wrong: what
// failed, why, and the remedy, at most 80 columns wide. UPDATE=1 renews
// testdata/messages.txt; read the difference.
func TestGoldenMessages(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("folders and modes of unix")
	}
	s := newStage(t)

	// Calls and names.
	s.fails("unknown provider", 2, call{}, "connect", "spotfy")
	s.fails("unknown connection, much like a provider", 2, call{}, "token", "sandbx")
	s.fails("known, but not connected", 4, call{}, "token", "sandbox")
	s.fails("unknown flag", 2, call{}, "token", "sandbox", "--frob")
	s.fails("missing argument", 2, call{}, "token")
	s.fails("unknown command", 2, call{}, "conect")
	s.fails("no client registered", 2, call{}, "connect", "spotify")
	s.fails("a flow that the provider does not have", 2, call{}, "connect", "spotify", "--client-id", "x", "--flow", "device")
	s.fails("nobody can be asked", 2, call{}, "reset")

	// The keychain, before anything is opened.
	broken := func(mode string) call { return call{env: map[string]string{"APIAUTH_FAKE_KEYCHAIN_MODE": mode}} }
	s.fails("no keychain", 5, broken("absent"), "connect", "sandbox")
	s.fails("locked keychain", 5, broken("locked"), "connect", "sandbox")
	s.fails("denied keychain", 5, broken("denied"), "connect", "sandbox")
	s.fails("a keychain that keeps nothing", 5, broken("lose"), "connect", "sandbox")
	if n := s.server.Stats().AuthorizeRequests; n != 0 {
		t.Errorf("a browser was opened %d times before it was sure that the grant can be stored", n)
	}

	// The login.
	s.fails("consent denied", 1, call{env: map[string]string{"APIAUTH_FAKE_BROWSER": "deny"}}, "connect", "sandbox")
	s.fails("callback port taken", 2, call{}, "connect", "sandbox", "--port", fmt.Sprint(s.port))
	s.fails("wrong client secret", 2, call{stdin: "wrong-" + "secret\n"}, "connect", "machine", "--client-id", "sandbox-confidential", "--client-secret-stdin", "--flow", "client-credentials")
	s.fails("nobody finished the login", 1, call{env: map[string]string{"APIAUTH_FAKE_BROWSER": "fail"}}, "connect", "sandbox", "--timeout", "300ms")
	s.must(call{}, "connect", "sandbox")
	s.must(call{}, "token", "sandbox")

	// Use.
	s.fails("temporary failure of the issuer", 3, s.faulty("token-500"), "token", "sandbox", "--refresh")
	s.fails("the network drops the request", 3, s.faulty("token-drop-before"), "token", "sandbox", "--refresh")
	s.faults()
	s.fails("another store than the project's", 2, call{env: map[string]string{"APIAUTH_STORE_KEY": testStoreKey}}, "token", "sandbox", "--store", "file")
	s.fails("child not found", 127, call{}, "exec", "-c", "sandbox", "--", "no-such-program")
	s.fails("child that cannot be run", 126, call{}, "exec", "-c", "sandbox", "--", s.path("machine.secret"))
	s.must(call{}, "connect", "other", "--provider", "sandbox")
	s.fails("two connections on one variable", 2, call{}, "exec", "-c", "sandbox=TOKEN", "-c", "other=TOKEN", "--", "true")
	s.fails("a variable that steers the loader", 2, call{}, "exec", "-c", "sandbox=LD_PRELOAD", "--", "true")
	s.fails("exec without connections", 2, call{}, "exec", "--", "true")
	s.fails("a name that is taken", 2, call{}, "rename", "other", "sandbox")
	s.fails("keychain locked at use", 5, broken("locked"), "token", "sandbox")

	// Files.
	s.file("site/apiauth.yaml", "project: site\nconnections:\n  sandbox:\n    scope: [profile]\n")
	s.fails("manifest with an unknown key", 2, call{dir: "site"}, "status")
	s.file("site/apiauth.yaml", "project: site\nconnections:\n  sandbox: {}\n  sandbox: {}\n")
	s.fails("manifest with a key twice", 2, call{dir: "site"}, "status")
	s.file("broken/broken.yaml", "id: broken\nname: Broken\nname: Twice\n")
	s.fails("provider file with a key twice", 2, call{dir: "broken"}, "provider", "add", "broken.yaml")
	s.file("config/config.yaml", "stoer: file\n")
	s.fails("settings with an unknown key", 2, call{}, "list")
	if err := os.Remove(s.path("config/config.yaml")); err != nil {
		t.Fatal(err)
	}

	// Projects.
	s.file("site/apiauth.yaml", "project: site\nconnections:\n  sandbox: {}\n")
	s.fails("folder that is not bound", 6, call{dir: "site"}, "token", "sandbox")
	s.must(call{dir: "site"}, "connect", "sandbox")
	s.fails("a name that is not in the manifest", 2, call{dir: "site"}, "token", "elsewhere")
	if err := os.Rename(s.path("site"), s.path("moved")); err != nil {
		t.Fatal(err)
	}
	s.fails("folder that has moved", 6, call{dir: "moved"}, "token", "sandbox")
	s.file("site/apiauth.yaml", "project: site\nconnections:\n  sandbox: {}\n")
	s.fails("folder that was made anew", 6, call{dir: "site"}, "token", "sandbox")
	s.fails("no such project", 2, call{dir: "site"}, "project", "link", "--project", "0000000000000000")
	if err := os.Chmod(s.path("moved/apiauth.yaml"), 0o666); err != nil {
		t.Fatal(err)
	}
	s.fails("manifest that everybody may write", 6, call{dir: "moved"}, "status")

	// A definition that changed after the login.
	definition := string(s.server.ProviderYAML("sandbox"))
	s.file("config/providers/sandbox.yaml", strings.Replace(definition, "token_endpoint: "+s.server.Issuer()+"/token", "token_endpoint: https://evil.example/token", 1))
	requests := s.server.Stats().TokenRequests
	s.fails("changed endpoint", 6, call{}, "token", "sandbox", "--refresh")
	if n := s.server.Stats().TokenRequests; n != requests {
		t.Errorf("%d requests went out", n-requests)
	}
	s.file("config/providers/sandbox.yaml", definition)
	s.must(call{}, "token", "sandbox", "--refresh") // no grant was lost on the way

	// The grant ends.
	s.fails("the issuer no longer accepts the grant", 4, s.faulty("invalid-grant"), "token", "sandbox", "--refresh")
	s.faults()

	// The file store.
	file := call{env: map[string]string{"APIAUTH_STATE_DIR": s.path("state2")}}
	s.fails("file store without a key", 5, file, "connect", "sandbox", "--store", "file")
	file.env["APIAUTH_STORE_KEY"] = "short"
	s.fails("file store with a malformed key", 5, file, "connect", "sandbox", "--store", "file")
	file.env["APIAUTH_STORE_KEY"] = testStoreKey
	s.must(file, "connect", "sandbox", "--store", "file")
	file.env["APIAUTH_STORE_KEY"] = strings.Replace(testStoreKey, "A", "B", 1)
	s.fails("file store with another key", 5, file, "token", "sandbox")
	file.env["APIAUTH_STORE_KEY"] = testStoreKey
	list, err := os.ReadFile(s.path("state2/projects.json"))
	if err != nil {
		t.Fatal(err)
	}
	s.file("state2/projects.json", regexp.MustCompile(`"format": *1`).ReplaceAllString(string(list), `"format":9`))
	s.fails("state of a newer version", 5, file, "token", "sandbox")
	s.file("state2/projects.json", "{")
	s.fails("damaged list of projects", 5, file, "token", "sandbox")

	const golden = "testdata/messages.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, s.out.Bytes(), 0o644); err != nil { //nolint:gosec // sources are readable
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.out.Bytes(), want) {
		got, expected := strings.Split(s.out.String(), "\n\n"), strings.Split(string(want), "\n\n")
		for i := range max(len(got), len(expected)) {
			g, w := at(got, i), at(expected, i)
			if g != w {
				t.Errorf("the messages differ from %s; read the difference, then UPDATE=1 go test ./internal/cli -run Golden\ngot:\n%s\nwant:\n%s", golden, g, w)
			}
		}
	}
}

const testStoreKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return ""
}

// faulty switches faults on and is the plain call.
func (s *stage) faulty(names ...string) call {
	s.t.Helper()
	s.faults(names...)
	return call{}
}

func (s *stage) faults(names ...string) {
	s.t.Helper()
	if err := s.server.SetFaults(names...); err != nil {
		s.t.Fatal(err)
	}
}
