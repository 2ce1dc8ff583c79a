//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/test/peers"
)

// shapes are the forms in which a secret may lie in a file: as it is, URL and
// JSON escaped, hex, and base64 at each of the three offsets.
func shapes(value string) [][]byte {
	upper := strings.ToUpper(hex.EncodeToString([]byte(value)))
	list := [][]byte{[]byte(value), []byte(url.QueryEscape(value)), []byte(strings.ToLower(upper)), []byte(upper)}
	for offset := range 3 {
		padded := append(make([]byte, offset), value...)
		from, to := (offset*8+5)/6, len(padded)*8/6
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			list = append(list, []byte(enc.EncodeToString(padded)[from:to]))
		}
	}
	return list
}

// find returns the files below dirs that hold a secret in any shape.
func find(t testing.TB, secrets []string, dirs ...string) (hits []string, files int) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files++
			for _, s := range secrets {
				for _, shape := range shapes(s) {
					if bytes.Contains(content, shape) {
						hits = append(hits, path)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return hits, files
}

// holdsNone fails when a secret lies anywhere under the person's folders.
func (p *person) holdsNone(secrets ...string) {
	p.t.Helper()
	dirs := []string{p.home}
	if p.bus != nil {
		dirs = append(dirs, p.bus.Home)
	}
	hits, files := find(p.t, secrets, dirs...)
	if len(hits) > 0 {
		p.t.Errorf("a token or secret lies in %s", strings.Join(hits, ", "))
	}
	if files == 0 || len(secrets) == 0 {
		p.t.Errorf("searched %d files for %d secrets: that proves nothing", files, len(secrets))
	}
}

func TestTheSearchFinds(t *testing.T) {
	t.Parallel()
	const value = "rt-Zp3+/x9_Q7kD"
	for name, content := range map[string]string{
		"raw":         "x" + value + "y",
		"hex":         hex.EncodeToString([]byte("x" + value)),
		"base64":      base64.StdEncoding.EncodeToString([]byte(value)),
		"base64 at 1": base64.StdEncoding.EncodeToString([]byte(`"` + value + `"`)),
		"base64 at 2": base64.URLEncoding.EncodeToString([]byte(`{"` + value + `"}`)),
		"url":         "token=" + url.QueryEscape(value),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if hits, _ := find(t, []string{value}, dir); len(hits) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// keychainItems counts what lies in the login collection of a real keychain.
func keychainItems(t testing.TB, b *keyringtest.Bus) int {
	t.Helper()
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	v, err := conn.Object("org.freedesktop.secrets", "/org/freedesktop/secrets/collection/login").GetProperty("org.freedesktop.Secret.Collection.Items")
	if err != nil {
		t.Fatalf("count the items of the keychain: %v", err)
	}
	items, ok := v.Value().([]dbus.ObjectPath)
	if !ok {
		t.Fatalf("the keychain's items are a %T", v.Value())
	}
	return len(items)
}

// secretTool searches the keychain from outside, with attributes and values.
func (p *person) secretTool(attributes ...string) string {
	p.t.Helper()
	tool := peers.Program(p.t, "apt-get install libsecret-tools", "secret-tool")
	cmd := exec.CommandContext(p.t.Context(), tool, append([]string{"search", "--all"}, attributes...)...)
	cmd.Env = p.env()
	out, err := cmd.CombinedOutput() // nothing found is exit code 1 in some versions
	if err != nil && len(bytes.TrimSpace(out)) > 0 {
		p.t.Fatalf("secret-tool: %v", err)
	}
	return string(out)
}
