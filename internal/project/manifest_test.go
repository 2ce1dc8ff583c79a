package project

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

const example = `project: my-site                 # a label for people
connections:
  spotify:
    scopes: [user-read-private, user-top-read]
    env: SPOTIFY_TOKEN
  github-work:
    provider: github
    scopes: [repo]
    client_id: Iv1.abc
  sso:
    provider: https://sso.example.com/realms/dev
  box:
exec:
  placeholder: true
  allow: [GET /user/*, "* /v1/x"]
  egress: strict
  scan: [dist, build/out]
`

func TestParseManifest(t *testing.T) {
	m, err := ParseManifest("apiauth.yaml", []byte(example), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{
		Project: "my-site",
		Connections: []Connection{
			{Name: "spotify", Provider: "spotify", Scopes: []string{"user-read-private", "user-top-read"}, Env: "SPOTIFY_TOKEN", Position: strictyaml.Position{Line: 3, Column: 3}},
			{Name: "github-work", Provider: "github", Scopes: []string{"repo"}, ClientID: "Iv1.abc", Position: strictyaml.Position{Line: 6, Column: 3}},
			{Name: "sso", Provider: "https://sso.example.com/realms/dev", Position: strictyaml.Position{Line: 10, Column: 3}},
			{Name: "box", Provider: "box", Position: strictyaml.Position{Line: 12, Column: 3}},
		},
		Exec: Exec{Placeholder: true, Allow: []string{"GET /user/*", "* /v1/x"}, Egress: "strict", Scan: []string{"dist", "build/out"}},
		File: "apiauth.yaml",
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v\nwant %+v", m, want)
	}
	if c, ok := m.Connection("sso"); !ok || !c.Issuer() {
		t.Errorf("sso: %+v, %v", c, ok)
	}
	if c, ok := m.Connection("box"); !ok || c.Issuer() {
		t.Errorf("box: %+v, %v", c, ok)
	}
}

func TestParseManifestFaults(t *testing.T) {
	refused := func(name string) error {
		if name == "PATH" {
			return errors.New("the shell obeys PATH")
		}
		return nil
	}
	for _, c := range []struct{ text, place, words string }{
		{"projekt: x\n", "1:1", `unknown key "projekt"; did you mean "project"?`},
		{"project: x\nproject: y\n", "2:1", "duplicate key"},
		{"project: [x]\n", "1:10", "project must be a text"},
		{"project: \"a\\u202eb\"\n", "1:10", "bidirectional"},
		{"project: " + strings.Repeat("x", 101) + "\n", "1:1", "longer than 100"},
		{"connections:\n  Spotify: {}\n", "2:3", `the name "Spotify"`},
		{"connections:\n  -x: {}\n", "2:3", "the name"},
		{"connections:\n  ../x: {}\n", "2:3", "the name"},
		{"connections:\n  a: {}\n  a: {}\n", "3:3", "duplicate key"},
		{"connections:\n  a:\n    scope: [x]\n", "3:5", `did you mean "scopes"?`},
		{"connections:\n  a:\n    scopes: x\n", "3:13", "must be a list"},
		{"connections:\n  a:\n    scopes: [x, \"y z\"]\n", "3:17", "one word"},
		{"connections:\n  a:\n    scopes: [x, x]\n", "3:17", "twice"},
		{"connections:\n  a:\n    env: token\n", "3:5", "capitals"},
		{"connections:\n  a:\n    env: _TOKEN\n", "3:5", "capitals"},
		{"connections:\n  a:\n    env: PATH\n", "3:5", "the shell obeys PATH"},
		{"connections:\n  a: {env: T}\n  b: {env: T}\n", "3:7", "both want the variable T"},
		{"connections:\n  a:\n    provider: Git Hub\n", "3:5", "neither an id"},
		{"connections:\n  a:\n    provider: http://127.0.0.1:8080\n", "3:5", "https URL"},
		{"connections:\n  a:\n    provider: http://sso.example.com\n", "3:5", "https URL"},
		{"connections:\n  a:\n    provider: file:///etc/passwd\n", "3:5", "https URL"},
		{"connections:\n  a:\n    provider: https:sso.example.com\n", "3:5", "https URL"},
		{"connections:\n  a:\n    provider: https://\n", "3:5", "https URL"},
		{"connections:\n  a:\n    provider: https://u:p@sso.example.com\n", "3:5", "no user"},
		{"connections:\n  a:\n    provider: https://sso.example.com/?x=1\n", "3:5", "no user, query"},
		{"connections:\n  a:\n    provider: https://sso.example.com/?\n", "3:5", "no user, query"},
		{"connections:\n  a:\n    provider: \"https://sso.example.com/#\"\n", "3:5", "no user, query"},
		{"connections:\n  a:\n    provider: https://sso.exämple.com\n", "3:5", "URL"},
		{"connections:\n  a:\n    provider: https://sso.example.com:\n", "3:15", "mapping"},
		{"connections:\n  a:\n    provider: \"https://[fe80::1%25eth0]/\"\n", "3:5", "https URL"},
		{"connections:\n  a:\n    client_id: \"a\\u00e9\"\n", "3:5", "printable"},
		{"connections:\n  a:\n    command: rm\n", "3:5", "unknown key"},
		{"connections:\n  a:\n    client_secret: x\n", "3:5", "unknown key"},
		{"connections:\n  a:\n    token_endpoint: https://evil.example\n", "3:5", "unknown key"},
		{"exec:\n  command: [rm]\n", "2:3", "unknown key"},
		{"exec:\n  placeholder: yes\n", "2:16", "true or false"},
		{"exec:\n  egress: closed\n", "2:3", "open or strict"},
		{"exec:\n  allow: [GET]\n", "2:11", "GET /path"},
		{"exec:\n  allow: [\"GET /a\", \"get /b\"]\n", "2:21", "in capitals"},
		{"exec:\n  allow: [\"GET b\"]\n", "2:11", "begins with /"},
		{"exec:\n  allow: [\"GET /a*b\"]\n", "2:11", "only at the end"},
		{"exec:\n  allow: [\"GET /a/../b\"]\n", "2:11", "no . and .."},
		{"exec:\n  allow: [\"GET /a?b\"]\n", "2:11", "no blanks"},
		{"exec:\n  scan: [/etc]\n", "2:10", "relative"},
		{"exec:\n  scan: [../x]\n", "2:10", "relative"},
		{"exec:\n  scan: [a/../../x]\n", "2:10", "relative"},
		{"exec:\n  scan: [a/../b]\n", "2:10", "relative"},
		{"exec:\n  scan: ['a\\b']\n", "2:10", "relative"},
		{"exec:\n  scan: ['C:x']\n", "2:10", "relative"},
		{"exec:\n  scan: ['']\n", "2:10", "relative"},
		{"", "1:1", "empty"},
		{"project: x\n---\nproject: y\n", "3:1", "second document"},
		{"a: &x 1\nb: *x\n", "1:4", "anchors"},
		{"project: !!str x\n", "1:10", "tags"},
	} {
		_, err := ParseManifest("f.yaml", []byte(c.text), refused)
		fault, ok := errors.AsType[*strictyaml.Error](err)
		if !ok {
			t.Errorf("%q: %v, want a *strictyaml.Error", c.text, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), "f.yaml:"+c.place+": ") && c.words != "mapping" && c.words != "second document" || !strings.Contains(fault.Msg, c.words) {
			t.Errorf("%q: %v, want %s and %q", c.text, err, c.place, c.words)
		}
	}
}

func TestScanPaths(t *testing.T) {
	dir, err := Canonical(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	outside := t.TempDir()
	for name, target := range map[string]string{"out": outside, "in": "real", "dots": ".."} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o700); err != nil {
		t.Fatal(err)
	}
	m := &Manifest{File: filepath.Join(dir, ManifestName)}
	m.Exec.Scan = []string{"real", "in/x", "later/on"}
	got, err := m.ScanPaths()
	if want := []string{dir + "/real", dir + "/real/x", dir + "/later/on"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, s := range []string{"out", "out/x", "dots", "dots/x"} {
		m.Exec.Scan = []string{s}
		if got, err := m.ScanPaths(); err == nil || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %q, %v", s, got, err)
		}
	}
}

func TestWriteManifest(t *testing.T) {
	m, err := ParseManifest("x", []byte(example), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Project = `it's "mine": #1, [x] & café`
	m.Connections[0].Scopes = []string{"a:b", "c,d", "[e]", "yes", "12", "{x}", "#y", "*", "&z", "!t"}
	m.Connections[0].ClientID = "1234567890"
	dir := t.TempDir()
	path, err := Write(dir, m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := LoadManifest(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Connections {
		got.Connections[i].Position = m.Connections[i].Position
	}
	m.File = path
	if !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v\nwant %+v", got, m)
	}
	if _, err := Write(dir, m); !isType[*ExistsError](err) {
		t.Errorf("a second time: %v", err)
	}
	for _, empty := range []*Manifest{{}, {Project: "x"}} {
		path, err := Write(t.TempDir(), empty)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadManifest(path, nil); err != nil {
			t.Error(err)
		}
	}
	bad := t.TempDir()
	if _, err := Write(bad, &Manifest{Connections: []Connection{{Name: "UPPER"}}}); err == nil {
		t.Error("a manifest that cannot be read again was written")
	}
	if entries, _ := os.ReadDir(bad); len(entries) > 0 {
		t.Error("something was left behind")
	}
}

func isType[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestAddConnection(t *testing.T) {
	c := Connection{Name: "new", Provider: "github", Scopes: []string{"repo"}, Env: "NEW"}
	const added = "  new:\n    provider: github\n    scopes: [repo]\n    env: NEW\n"
	for _, tc := range []struct{ name, before, after string }{
		{"at the end", "connections:\n  a: {}\n", "connections:\n  a: {}\n" + added},
		{"no line end", "connections:\n  a: {}", "connections:\n  a: {}\n" + added},
		{"before another key, comments stay", "# top\nconnections: # c\n  a:\n    scopes: [x] # why\n    # inner\n\n# about exec\nexec: {}\n",
			"# top\nconnections: # c\n  a:\n    scopes: [x] # why\n    # inner\n" + added + "\n# about exec\nexec: {}\n"},
		{"no connections key", "project: x\n", "project: x\nconnections:\n" + added},
		{"null", "connections:\nproject: x\n", "connections:\n" + added + "project: x\n"},
		{"empty braces", "connections: {} # none yet\nproject: x\n", "connections: # none yet\n" + added + "project: x\n"},
		{"a multi-line list", "connections:\n  a:\n    scopes:\n      - x\n      - y\nproject: x\n", "connections:\n  a:\n    scopes:\n      - x\n      - y\n" + added + "project: x\n"},
		{"wide", "connections:\n    a: {}\n", "connections:\n    a: {}\n" + strings.ReplaceAll(added, "  ", "    ")},
		{"CRLF", "connections:\r\n  a: {}\r\n", "connections:\r\n  a: {}\r\n" + strings.ReplaceAll(added, "\n", "\r\n")},
	} {
		path := filepath.Join(t.TempDir(), ManifestName)
		if err := os.WriteFile(path, []byte(tc.before), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := AddConnection(path, c); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != tc.after {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.name, got, tc.after)
		}
		if err := AddConnection(path, c); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("%s, again: %v", tc.name, err)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
			t.Errorf("%s: something was left behind", tc.name)
		}
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: the mode changed", tc.name)
		}
	}
	for _, text := range []string{"connections: {a: {}}\n", "{connections: {}}\n", "connections: {\n}\n"} {
		path := filepath.Join(t.TempDir(), ManifestName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := AddConnection(path, c)
		if err == nil || !strings.Contains(err.Error(), "provider: github") {
			t.Errorf("%q: %v", text, err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q was changed to %q", text, got)
		}
	}
}

// FuzzManifest: what is accepted can be written and reads back the same; what
// is refused has a place.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("connections:\n  a: {env: T}\n"))
	f.Add([]byte("exec:\n  allow: [GET /a*]\n  scan: [x]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest("f", data, nil)
		if err != nil {
			fault, ok := errors.AsType[*strictyaml.Error](err)
			if !ok || fault.Line < 1 || fault.Column < 1 {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := ParseManifest("f", render(m), nil)
		if err != nil {
			t.Fatalf("what was written is refused: %v\n%s", err, render(m))
		}
		if again.Project != m.Project || len(again.Connections) != len(m.Connections) {
			t.Fatalf("got %+v, want %+v", again, m)
		}
		for i, c := range m.Connections {
			d := again.Connections[i]
			if c.Name != d.Name || c.Provider != d.Provider || c.Env != d.Env || c.ClientID != d.ClientID || !slices.Equal(c.Scopes, d.Scopes) {
				t.Fatalf("got %+v, want %+v", d, c)
			}
		}
		if out, ok := insert(data, Connection{Name: "zz-new"}); ok {
			if after, err := ParseManifest("f", out, nil); err == nil && len(after.Connections) == 0 {
				t.Fatal("the new connection is lost")
			}
		}
		for _, s := range m.Exec.Scan {
			if !filepath.IsLocal(s) {
				t.Fatalf("scan %q leads out", s)
			}
		}
	})
}
