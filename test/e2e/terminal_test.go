//go:build unix

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

// atTerminal runs apiauth in a terminal. When it is over the shell around it
// says whether the terminal is as it was. What stood on the screen is kept when
// the test fails.
func (p *person) atTerminal(cols, rows int, args ...string) *peers.Term {
	p.t.Helper()
	const around = `trap : INT; before=$(stty -g); "$@"; code=$?
test "$before" = "$(stty -g)" && echo "terminal restored"; exit $code`
	argv := append([]string{"sh", "-c", "cd '" + p.dir + "' && " + around, "sh", binary()}, args...)
	term := peers.Terminal(p.t, cols, rows, p.env(), argv...)
	p.t.Cleanup(func() {
		if !p.t.Failed() {
			return
		}
		history := term.History()
		name := regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(p.t.Name(), "-") + fmt.Sprintf("-%dx%d.txt", cols, rows)
		file := filepath.Join(peers.Artifacts(p.t), name)
		if err := os.WriteFile(file, []byte(history), 0o600); err != nil {
			p.t.Error(err)
		}
		p.t.Logf("the terminal, also in %s:\n%s", file, history)
	})
	return term
}

// ends waits for the end and holds the terminal and the exit code against what
// is wanted.
func (p *person) ends(term *peers.Term, code int) string {
	p.t.Helper()
	if got := term.WaitExit(); got != code {
		p.t.Errorf("exit code %d, want %d", got, code)
	}
	history := term.History()
	if !strings.Contains(history, "terminal restored") {
		p.t.Error("the terminal is not as it was")
	}
	return history
}

// storedNothing fails when a login that was broken off has left something.
func (p *person) storedNothing() {
	p.t.Helper()
	if left := p.grants(); len(left) > 0 {
		p.t.Errorf("files are left: %v", left)
	}
	if r := p.must("client", "list", "--json"); strings.TrimSpace(r.out) != "[]" {
		p.t.Error("a client is left")
	}
	if r := p.must("list", "--json"); strings.TrimSpace(r.out) != "[]" {
		p.t.Error("a connection is left")
	}
}

func scopeOf(t *testing.T, authorize string) []string {
	t.Helper()
	u, err := url.Parse(authorize)
	must(t, err)
	scopes := strings.Fields(u.Query().Get("scope"))
	slices.Sort(scopes)
	return scopes
}

// What is picked is what is asked for; required scopes are named and asked for
// whatever is picked.
func TestScopePicker(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {60, 12}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			// Nobody answers there: it is about the address only.
			nobody := &peers.IssuerProc{URL: "http://127.0.0.1:9", API: "http://127.0.0.1:9/api/"}
			p := withFileStore(t)
			browser := p.recordBrowser()
			p.addProvider(definition("peer", nobody, nobody.URL+"/token", peers.Client{ID: "x", Method: "none"}, "client_id: x\n"))
			term := p.atTerminal(size[0], size[1], "connect", "peer", "--flow", "browser")
			term.WaitFor("What may Peer tokens do?")
			if screen := term.Screen(); !strings.Contains(strings.Join(strings.Fields(screen), " "), "always asked for: openid") {
				t.Errorf("the required scope is not named:\n%s", screen)
			}
			term.Send("Space")                // not profile
			term.Send("Down", "Down", "Down") // over email and offline_access to api:read
			term.Send("Space")
			term.Send("Enter")
			if got, want := scopeOf(t, browser.wait(1)), []string{"api:read", "offline_access", "openid"}; !slices.Equal(got, want) {
				t.Errorf("asked for %v, picked %v", got, want)
			}
			term.WaitFor("(it is not shown).")
			term.Send("C-c")
			p.ends(term, 130)
			p.storedNothing()
		})
	}
}

// A person without a client is led to one, and on to the grant.
func TestGuidedRegistration(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {60, 12}} {
		t.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(t *testing.T) {
			t.Parallel()
			guidedRegistration(t, size[0], size[1])
		})
	}
}

func guidedRegistration(t *testing.T, cols, rows int) {
	t.Helper()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	browser := p.recordBrowser()
	p.addProvider(registrable(h))
	id, clientSecret := h.ConfidentialClient()

	term := p.atTerminal(cols, rows, "connect", "firm", "--flow", "browser")
	term.WaitFor("Client ID")
	screen := term.Screen()
	for _, text := range []string{"https://developer.example.com/apps", "Choose New app.", "http://127.0.0.1/callback/firm"} {
		if !strings.Contains(screen, text) {
			t.Errorf("%q is not shown", text)
		}
	}
	if opened := browser.wait(1); opened != "https://developer.example.com/apps" {
		t.Errorf("opened %s", opened)
	}
	term.Type(id)
	term.Send("Enter")
	term.WaitFor("Client secret")
	term.Paste(clientSecret.Reveal())
	term.Send("Enter")
	term.WaitFor("tokens do?")
	term.Send("/")
	term.Type("items.write")
	term.Send("Enter", "Space", "Enter")
	address := browser.wait(2)
	if got := scopeOf(t, address); !slices.Contains(got, "items.write") || !slices.Contains(got, "profile") {
		t.Errorf("asked for %v", got)
	}
	must(t, h.Approve(t.Context(), address))
	history := p.ends(term, 0)
	if strings.Contains(strings.ReplaceAll(history, "\n", ""), clientSecret.Reveal()[:20]) {
		t.Error("the client secret is on the screen")
	}
	if !strings.Contains(history, "Connected firm") || !strings.Contains(history, "Stored client "+id) {
		t.Error("the result is not told")
	}
	p.must("token", "firm")
	p.holdsNone(clientSecret.Reveal())
}

// registrable is the confidential client's definition, for somebody who has to
// register first.
func registrable(h *house) string {
	id, _ := h.ConfidentialClient()
	doc := strings.Replace(string(h.ConfidentialYAML("firm")), "client_id: "+id+"\n", "", 1)
	return doc + "register:\n  page: https://developer.example.com/apps\n  steps: [Choose New app.]\n"
}

// Ctrl-C at each question and each wait.
func TestCtrlC(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{RedirectURIs: []string{"https://app.example.test/callback"}})
	id, clientSecret := h.ConfidentialClient()
	for name, at := range map[string]struct {
		doc  string
		args []string
		go_  func(*peers.Term)
	}{
		"client id": {registrable(h), []string{"connect", "firm"}, func(term *peers.Term) { term.WaitFor("Client ID") }},
		"client secret": {registrable(h), []string{"connect", "firm"}, func(term *peers.Term) {
			term.WaitFor("Client ID")
			term.Type(id)
			term.Send("Enter")
			term.WaitFor("Client secret")
			term.Paste(clientSecret.Reveal())
		}},
		"scopes": {h.definition("firm"), []string{"connect", "firm"}, func(term *peers.Term) { term.WaitFor("tokens do?") }},
		"browser": {h.definition("firm"), []string{"connect", "firm", "--flow", "browser", "--scope", "profile"}, func(term *peers.Term) {
			term.WaitFor("paste its address here")
		}},
		"device": {h.definition("firm"), []string{"connect", "firm", "--flow", "device", "--scope", "profile"}, func(term *peers.Term) {
			term.WaitFor("enter the code")
		}},
		"paste": {h.definition("firm"), []string{"connect", "firm", "--flow", "paste", "--scope", "profile"}, func(term *peers.Term) {
			term.WaitFor("paste it here")
			term.Paste("https://app.example.test/callback?co")
			term.WaitFor("characters received")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := withFileStore(t)
			p.recordBrowser()
			p.addProvider(at.doc)
			term := p.atTerminal(80, 24, at.args...)
			at.go_(term)
			term.Send("C-c")
			history := p.ends(term, 130)
			p.storedNothing()
			if strings.Contains(history, "panic") || strings.Contains(strings.ReplaceAll(history, "\n", ""), clientSecret.Reveal()[:20]) {
				t.Error("it says what it should not")
			}
		})
	}
}

// An address longer than what a terminal takes in one line, after input that is
// none.
func TestPasteFlow(t *testing.T) {
	t.Parallel()
	const redirect = "https://app.example.test/callback"
	h := newHouse(t, sandbox.Options{RedirectURIs: []string{redirect}})
	p := withFileStore(t)
	doc := strings.Replace(h.definition("local"), "redirect_uri: http://127.0.0.1:*/callback/local", "redirect_uri: "+redirect, 1)
	p.addProvider(doc)

	term := p.atTerminal(80, 24, "connect", "local", "--no-browser", "--flow", "browser", "--scope", "profile")
	term.WaitFor("paste it here")
	// The address is one word, broken by the terminal alone.
	address := regexp.MustCompile(`http://\S+code_challenge=\S+`).FindString(term.History())
	if address == "" {
		t.Fatal("no address is shown")
	}
	for _, wrong := range []struct{ input, says string }{
		{"hello", "That is not an address."},
		{address, "That is the address that starts the login."},
		{redirect + "?code=abc&state=of-another-login", "That address was refused"},
		{redirect, "That address has no code"},
		{"https://evil.example.com/callback?code=abc", "That is not the address of the last page"},
	} {
		term.Paste(wrong.input)
		term.WaitFor(fmt.Sprintf("(%d characters received)", len(wrong.input)))
		term.Send("Enter")
		term.WaitFor(wrong.says)
		term.WaitFor("Still waiting.")
	}
	back, err := h.Consent(t.Context(), address, sandbox.Choice{})
	must(t, err)
	long := back + "&padding=" + strings.Repeat("0123456789", 500)
	if len(long) <= 4095 {
		t.Fatal("not long enough")
	}
	term.Paste(long)
	term.WaitFor(fmt.Sprintf("(%d characters received)", len(long)))
	term.Send("Enter")
	history := p.ends(term, 0)
	code, err := url.Parse(back)
	must(t, err)
	if strings.Contains(strings.ReplaceAll(history, "\n", ""), code.Query().Get("code")) {
		t.Error("the code is on the screen")
	}
	if !strings.Contains(history, "Connected local") {
		t.Error("the result is not told")
	}
	p.must("token", "local")
	p.holdsNone(h.tap.secrets()...)
}

// The passphrase of a file store is asked for at the terminal, twice when it is
// chosen, and never shown.
func TestPassphraseAtTheTerminal(t *testing.T) {
	t.Parallel()
	const passphrase = "a long walk by the sea"
	h := newHouse(t, sandbox.Options{})
	p := newPerson(t, nil)
	browser := p.recordBrowser()
	p.addProvider(h.definition("local"))

	term := p.atTerminal(80, 24, "--store", "file", "connect", "local", "--flow", "browser", "--scope", "profile")
	term.WaitFor("assphrase")
	term.Paste(passphrase)
	term.Send("Enter")
	term.WaitFor("once more")
	term.Paste(passphrase)
	term.Send("Enter")
	must(t, h.Approve(t.Context(), browser.wait(1)))
	if history := p.ends(term, 0); strings.Contains(history, passphrase) {
		t.Error("the passphrase is on the screen")
	}

	term = p.atTerminal(80, 24, "token", "local")
	term.WaitFor("assphrase")
	term.Paste(passphrase)
	term.Send("Enter")
	if history := p.ends(term, 0); !strings.Contains(strings.ReplaceAll(history, "\n", ""), h.tap.lastAccess()) || strings.Contains(history, passphrase) {
		t.Error("no token, or the passphrase, is on the screen")
	}

	term = p.atTerminal(80, 24, "token", "local")
	term.WaitFor("assphrase")
	term.Paste("another")
	term.Send("Enter")
	p.ends(term, 5)

	if got := p.as("APIAUTH_STORE_PASSPHRASE", passphrase).must("token", "local").token(); got != h.tap.lastAccess() {
		t.Error("another token under the passphrase of the environment")
	}
	if r := p.run("token", "local"); r.code != 5 || r.out != "" {
		t.Errorf("without a terminal: %s", r.redacted())
	}
	p.holdsNone(append(h.tap.secrets(), passphrase)...)
}
