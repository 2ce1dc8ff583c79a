package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/test/peers"
)

// atTerminal runs this test binary as apiauth in a terminal.
type atTerminal struct {
	t         *testing.T
	home, dir string
	program   string
}

func newTerminal(t *testing.T) *atTerminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &atTerminal{t: t, home: t.TempDir(), program: filepath.Join(t.TempDir(), "apiauth")}
	a.dir = filepath.Join(a.home, "site")
	if err := os.Mkdir(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, a.program); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	return a
}

func (a *atTerminal) run(args ...string) *peers.Term {
	a.t.Helper()
	env := []string{
		"HOME=" + a.home,
		"PATH=" + os.Getenv("PATH"),
		"LANG=C.UTF-8",
		"GORACE=" + quickExit,
		"APIAUTH_CONFIG_DIR=" + filepath.Join(a.home, "config"),
		"APIAUTH_STATE_DIR=" + filepath.Join(a.home, "state"),
		"APIAUTH_FAKE_KEYCHAIN=" + a.keychain(),
	}
	return peers.Terminal(a.t, 100, 30, env, append([]string{a.program, "-C", a.dir}, args...)...)
}

func (a *atTerminal) keychain() string { return filepath.Join(a.home, "keychain") }

func (a *atTerminal) ends(term *peers.Term, want int) {
	a.t.Helper()
	if code := term.WaitExit(); code != want {
		a.t.Fatalf("exit status %d, want %d:\n%s", code, want, term.History())
	}
}

func TestPromptHidesTheClientSecret(t *testing.T) {
	a := newTerminal(t)
	term := a.run("client", "set", "github", "--client-id", "Iv1.8a61")
	term.WaitFor("Client secret of Iv1.8a61")
	term.Paste("c4n4ry-s3cret")
	term.Send("Enter")
	a.ends(term, 0)
	screen := term.History()
	if strings.Contains(screen, "c4n4ry") {
		t.Error("the secret is on the screen")
	}
	if !strings.Contains(screen, "Stored client Iv1.8a61 with its secret for GitHub") {
		t.Errorf("the answer is missing:\n%s", screen)
	}
	items, err := os.ReadDir(a.keychain())
	if err != nil || len(items) != 1 {
		t.Errorf("the keychain holds %d items, want 1 (%v)", len(items), err)
	}

	// Ctrl-C leaves what was stored.
	term = a.run("client", "set", "github", "--client-id", "other")
	term.WaitFor("Client secret of other")
	term.Send("C-c")
	a.ends(term, exitSignal+2)
	term = a.run("client", "list")
	a.ends(term, 0)
	if out := term.History(); !strings.Contains(out, "Iv1.8a61") || strings.Contains(out, "other") {
		t.Errorf("client list after Ctrl-C:\n%s", out)
	}
}

func TestPromptAsksForIDAndSecret(t *testing.T) {
	a := newTerminal(t)
	term := a.run("client", "set", "spotify")
	term.WaitFor("Client ID")
	term.WaitFor("/callback/spotify")
	term.Type("abc123")
	term.Send("Enter")
	if def, err := providers.Open("").Get("spotify"); err != nil {
		t.Fatal(err)
	} else if def.TokenEndpointAuthMethod != providers.AuthNone {
		term.WaitFor("Client secret")
		term.Send("Enter")
	}
	a.ends(term, 0)
	if out := term.History(); !strings.Contains(out, "Stored client abc123 for Spotify") {
		t.Errorf("the answer is missing:\n%s", out)
	}
}

func TestPromptReset(t *testing.T) {
	a := newTerminal(t)
	a.ends(a.run("client", "set", "spotify", "--client-id", "abc123", "--no-input"), 0)
	term := a.run("reset")
	term.WaitFor("type reset to go on")
	term.Type("yes")
	term.Send("Enter")
	a.ends(term, exitFailure)
	if _, err := os.Stat(filepath.Join(a.home, "state", "stores")); err != nil {
		t.Fatalf("after a wrong word: %v", err)
	}
	term = a.run("reset")
	term.WaitFor("type reset to go on")
	term.Type("reset")
	term.Send("Enter")
	a.ends(term, 0)
	if _, err := os.Stat(filepath.Join(a.home, "state")); !os.IsNotExist(err) {
		t.Errorf("after reset the state folder: %v", err)
	}
}

func TestPromptChoosesTheProject(t *testing.T) {
	a := newTerminal(t)
	a.ends(a.run("project", "init", "--label", "First of two"), 0)
	moved := filepath.Join(a.home, "moved")
	if err := os.Rename(a.dir, moved); err != nil {
		t.Fatal(err)
	}
	old := a.dir
	a.dir = moved
	term := a.run("project", "show")
	a.ends(term, exitRefused)
	term = a.run("project", "link")
	term.WaitFor("Which project is")
	term.WaitFor("First of two")
	term.WaitFor(old[:min(len(old), 40)]) // a longer one is cut to the width
	term.Send("Enter")
	a.ends(term, 0)
	a.ends(a.run("project", "show"), 0)
}

func TestPromptBeforeAProviderIsAdded(t *testing.T) {
	a := newTerminal(t)
	file := filepath.Join(a.dir, "intranet.yaml")
	doc := "id: intranet\nname: Intranet\nauthorization_endpoint: https://login.example.com/a\ntoken_endpoint: https://login.example.com/t\ntoken_endpoint_auth_method: none\napi: {base_url: https://api.example.com}\n"
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	added := filepath.Join(a.home, "config", "providers", "intranet.yaml")
	term := a.run("provider", "add", file)
	term.WaitFor("Add intranet?")
	term.Send("n")
	a.ends(term, exitFailure)
	if _, err := os.Stat(added); !os.IsNotExist(err) {
		t.Errorf("after a no: %v", err)
	}
	term = a.run("provider", "add", file)
	term.WaitFor("login.example.com")
	term.WaitFor("Add intranet?")
	term.Send("y")
	a.ends(term, 0)
	if _, err := os.Stat(added); err != nil {
		t.Error(err)
	}
}

// A key that is encrypted is asked for its passphrase once, and kept under the
// store's own seal; its certificate, which is public, is not kept in the keychain.
func TestPromptAsksForThePassphraseOfAKey(t *testing.T) {
	openssl := peers.Program(t, "apt-get install openssl", "openssl")
	a := newTerminal(t)
	definition := "id: bank\nname: Bank\nauthorization_endpoint: https://bank.example/auth\ntoken_endpoint: https://bank.example/token\n" +
		"token_endpoint_auth_method: tls_client_auth\napi: {hosts: [bank.example]}\n"
	for path, text := range map[string]string{"config/providers/bank.yaml": definition, "site/app.crt": "", "site/app.key": ""} {
		path = filepath.Join(a.home, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), openssl, "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:opensesame", "-subj", "/CN=app-1", "-days", "10",
		"-keyout", filepath.Join(a.dir, "app.key"), "-out", filepath.Join(a.dir, "app.crt")).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	args := []string{"client", "set", "bank", "--client-id", "app-1", "--client-certificate", "app.crt", "--client-key", "app.key"}
	for passphrase, want := range map[string]string{"another-c4n4ry": "its passphrase or its encryption is not the right one", "opensesame": "Stored client app-1 with its certificate and key for Bank"} {
		term := a.run(args...)
		term.WaitFor("Passphrase of the key")
		term.Paste(passphrase)
		term.Send("Enter")
		code := term.WaitExit()
		if screen := term.History(); !strings.Contains(strings.Join(strings.Fields(screen), " "), want) || strings.Contains(screen, passphrase) || (code == 0) != (passphrase == "opensesame") {
			t.Errorf("exit status %d:\n%s", code, screen)
		}
	}
	items, err := filepath.Glob(filepath.Join(a.keychain(), "*"))
	if err != nil || len(items) != 1 {
		t.Fatalf("the keychain holds %d items, want 1 (%v)", len(items), err)
	}
	if item, err := os.ReadFile(items[0]); err != nil || strings.Contains(string(item), "x5c") || len(item) > 2560 {
		t.Errorf("the keychain's item has %d bytes (%v)", len(item), err)
	}
	term := a.run("client", "list")
	a.ends(term, 0)
	if screen := term.History(); !strings.Contains(screen, "certificate until") {
		t.Errorf("client list:\n%s", screen)
	}
}
