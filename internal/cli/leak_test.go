package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// forms are the forms in which a secret could lie somewhere: raw, hexadecimal,
// escaped, and base64 at each of the three offsets that a text around it gives.
func forms(secret string) []string {
	all := []string{secret, hex.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
	for offset := range 3 {
		padded := strings.Repeat("x", offset) + secret
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			coded := enc.EncodeToString([]byte(padded))
			// The first and the last characters depend on the neighbours.
			from := []int{0, 2, 3}[offset]
			to := len(coded) - 2
			all = append(all, coded[from:to])
		}
	}
	return all
}

// holdsSecret reports whether one of the secrets stands in text in any form.
func holdsSecret(text []byte, secrets map[string]string) (which string, found bool) {
	for name, secret := range secrets {
		for _, form := range forms(secret) {
			if bytes.Contains(text, []byte(form)) {
				return name, true
			}
		}
	}
	return "", false
}

// TestNothingLeaks runs the commands with --debug and looks for every token and
// secret in what they print and in every file below the home folder (R-48,
//
func TestNothingLeaks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the double of the keychain is for unix")
	}
	s := newStage(t)
	keychain := t.TempDir() // not below home: it stands for the keychain
	s.env["APIAUTH_FAKE_KEYCHAIN"] = filepath.Join(keychain, "items")
	s.env["APIAUTH_STORE_KEY"] = testStoreKey
	_, clientSecret := s.server.ConfidentialClient()
	secrets := map[string]string{
		"the client secret":   clientSecret.Reveal(),
		"a static key":        "c4n4ry-static-key-0123456789",
		"the key of the file": testStoreKey,
	}
	if err := os.Remove(s.path("machine.secret")); err != nil {
		t.Fatal(err)
	}
	shown := func(c call, args ...string) {
		t.Helper()
		stdout, stderr, code := s.exec(c, args...)
		for name, text := range map[string]string{"stdout": stdout, "stderr": stderr} {
			if which, found := holdsSecret([]byte(text), secrets); found {
				t.Errorf("apiauth %s: %s holds %s", strings.Join(args, " "), name, which)
			}
		}
		if code > exitRefused && code != 127 {
			t.Errorf("apiauth %s ended with %d", strings.Join(args, " "), code)
		}
	}
	token := func(name, as string, args ...string) {
		t.Helper()
		stdout, stderr, code := s.exec(call{}, append([]string{"token", name, "--debug"}, args...)...)
		if code != 0 {
			t.Fatalf("token %s ended with %d:\n%s", name, code, stderr)
		}
		secrets[as] = strings.TrimSpace(stdout)
		if which, found := holdsSecret([]byte(stderr), secrets); found {
			t.Errorf("token %s: stderr holds %s", name, which)
		}
	}
	everything := func() {
		t.Helper()
		for _, args := range [][]string{
			{"status"}, {"status", "--json"}, {"list"}, {"list", "--json"}, {"client", "list", "--json"}, {"provider", "show", "machine"},
			{"provider", "list", "--json"}, {"project", "show", "--json"}, {"project", "show", "--all"}, {"store", "list"}, {"paths"},
			{"doctor", "--json"}, {"api", "sandbox", "/me"}, {"exec", "-c", "sandbox", "--", "true"}, {"exec", "-c", "sandbox", "--", "no-such-program"},
			{"token", "nobody"}, {"rename", "sandbox", "machine"}, {"env", "-c", "sandbox", "--format", "nonsense"}, {"__complete", "token", ""},
		} {
			shown(call{}, append(args, "--debug")...)
		}
	}
	files := func(where string) {
		t.Helper()
		err := filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			doc, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if which, found := holdsSecret(doc, secrets); found {
				t.Errorf("%s: the file %s holds %s", where, strings.TrimPrefix(path, s.home), which)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	shown(call{}, "connect", "sandbox", "--debug", "--explain")
	shown(call{stdin: clientSecret.Reveal() + "\n"}, "client", "set", "machine", "--client-id", "sandbox-confidential", "--client-secret-stdin", "--debug")
	shown(call{}, "connect", "machine", "--flow", "client-credentials", "--debug", "--explain")
	shown(call{stdin: "c4n4ry-static-key-0123456789\n"}, "connect", "mapbox", "--import-stdin", "--debug")
	token("sandbox", "the first access token")
	token("sandbox", "the second access token", "--refresh")
	token("machine", "the machine's access token")
	// The double of the keychain gives the refresh token away, to us.
	items := folderKeychain{dir: s.env["APIAUTH_FAKE_KEYCHAIN"]}
	entries, err := os.ReadDir(items.dir)
	if err != nil {
		t.Fatal(err)
	}
	refresh := false
	for _, e := range entries {
		service, account, _ := strings.Cut(e.Name(), "@")
		value, err := items.Get(service, account)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasSuffix(account, ".grant"):
			secrets["a refresh token"+account] = value[strings.LastIndexByte(value, ' ')+1:]
			refresh = true
		case strings.HasSuffix(account, ".key"):
			secrets["a sealing key "+account] = value
		}
	}
	if !refresh {
		t.Fatal("the keychain holds no refresh token")
	}
	everything()
	files("keychain store")
	shown(call{}, "store", "move", "file", "--debug")
	everything()
	files("file store")
	token("sandbox", "the third access token", "--refresh")
	files("file store after a refresh")
	shown(call{}, "disconnect", "--all", "--debug")
	shown(call{}, "reset", "--yes", "--debug")
	files("after reset")
	if left, err := os.ReadDir(items.dir); err != nil || len(left) != 0 {
		t.Errorf("the keychain still holds %d items (%v)", len(left), err)
	}
}

// TestForms makes sure that the search finds what it looks for.
func TestForms(t *testing.T) {
	secrets := map[string]string{"it": "sbx_at_0123456789"}
	for _, text := range []string{
		"a sbx_at_0123456789 b",
		hex.EncodeToString([]byte("sbx_at_0123456789")),
		base64.StdEncoding.EncodeToString([]byte("sbx_at_0123456789")),
		base64.StdEncoding.EncodeToString([]byte("user:sbx_at_0123456789 and more")),
		base64.URLEncoding.EncodeToString([]byte("1 2 sbx_at_0123456789")),
	} {
		if _, found := holdsSecret([]byte(text), secrets); !found {
			t.Errorf("not found in %s", text)
		}
	}
	if _, found := holdsSecret([]byte("sbx_at_01234567 89"), secrets); found {
		t.Error("found where it is not")
	}
}
