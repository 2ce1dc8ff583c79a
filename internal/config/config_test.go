package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

func environ(pairs ...string) Env {
	m := make(map[string]string)
	for _, kv := range pairs {
		name, value, _ := strings.Cut(kv, "=")
		m[name] = value
	}
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func dirWith(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPrecedence(t *testing.T) {
	dir := dirWith(t, "store: keychain\nquiet: true\nno_input: true\nca_file: /etc/ca.pem\n")
	from := filepath.Join(dir, FileName)
	for _, c := range []struct {
		name string
		o    LoadOptions
		want Config
	}{
		{"nothing", LoadOptions{}, Config{}},
		{"no file", LoadOptions{Dir: t.TempDir()}, Config{}},
		{"file", LoadOptions{Dir: dir}, Config{Store: "keychain", StoreFrom: from, Quiet: true, NoInput: true, CAFile: "/etc/ca.pem"}},
		{"variable over file", LoadOptions{Dir: dir, Env: environ("APIAUTH_STORE=file", "APIAUTH_QUIET=0", "APIAUTH_CA_FILE=/x", "APIAUTH_JSON=yes")},
			Config{Store: "file", StoreFrom: "APIAUTH_STORE", NoInput: true, CAFile: "/x", JSON: true}},
		{"flag over both", LoadOptions{Dir: dir, Env: environ("APIAUTH_STORE=file", "APIAUTH_DEBUG=1"), Flags: map[string]any{"store": "keychain", "quiet": false, "debug": false, "personal": true}},
			Config{Store: "keychain", StoreFrom: "--store", NoInput: true, Personal: true, CAFile: "/etc/ca.pem"}},
		{"flag alone", LoadOptions{Flags: map[string]any{"store": "file"}}, Config{Store: "file", StoreFrom: "--store"}},
		{"empty variables are not set", LoadOptions{Dir: dir, Env: environ("APIAUTH_STORE=", "APIAUTH_QUIET=")}, Config{Store: "keychain", StoreFrom: from, Quiet: true, NoInput: true, CAFile: "/etc/ca.pem"}},
		{"variables of others", LoadOptions{Env: environ("CI=true", "NO_COLOR=1", "BROWSER=x %s", "STORE=file", "PERSONAL=1")}, Config{CI: true, NoColor: true, Browser: "x %s"}},
		{"CI off", LoadOptions{Env: environ("CI=False", "NO_COLOR=")}, Config{}},
	} {
		got, err := Load(c.o)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", c.name, got, err, c.want)
		}
	}
}

func TestWordsForBooleans(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "true": true, "TRUE": true, "yes": true, "on": true, "0": false, "false": false, "no": false, "OFF": false} {
		if got, err := Load(LoadOptions{Env: environ("APIAUTH_DEBUG=" + text)}); err != nil || got.Debug != want {
			t.Errorf("%s: %v, %v", text, got.Debug, err)
		}
	}
}

func TestSecretAge(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 180 * 24 * time.Hour, "off": 0, "90d": 90 * 24 * time.Hour, "36h": 36 * time.Hour} {
		got, err := Load(LoadOptions{Dir: dirWith(t, "remind_secret_age: 7d\n"), Env: environ("APIAUTH_REMIND_SECRET_AGE=" + cmp.Or(text, "180d"))})
		if err != nil || got.SecretAge() != want {
			t.Errorf("%q: %v, %v", text, got.SecretAge(), err)
		}
	}
	if got := (&Config{}).SecretAge(); got != 180*24*time.Hour {
		t.Errorf("by default %v", got)
	}
	if got, err := Load(LoadOptions{Dir: dirWith(t, "remind_secret_age: 7d\n")}); err != nil || got.SecretAge() != 7*24*time.Hour {
		t.Errorf("from the file %v, %v", got.SecretAge(), err)
	}
}

func TestLoadFaults(t *testing.T) {
	for _, c := range []struct {
		file, env string
		flags     map[string]any
		want      string // %s is the file
	}{
		{file: "stor: file\n", want: `%s:1:1: unknown key "stor"; did you mean "store"?`},
		{file: "quiet: true\nquiet: false\n", want: `%s:2:1: duplicate key "quiet"`},
		{file: "quiet: 1\n", want: "%s:1:8: quiet must be true or false"},
		{file: "# c\nstore: vault\n", want: `%s:2:1: store is keychain or file, not "vault"`},
		{file: "ca_file: ca.pem\n", want: `%s:1:1: ca_file needs an absolute path, not "ca.pem"`},
		{file: "audit: maybe\n", want: `%s:1:1: audit is on or off, not "maybe"`},
		{file: "remind_secret_age: soon\n", want: `%s:1:1: remind_secret_age is a time such as 180d, or off, not "soon"`},
		{env: "APIAUTH_REMIND_SECRET_AGE=0d", want: `APIAUTH_REMIND_SECRET_AGE is a time such as 180d, or off, not "0d"`},
		{env: "APIAUTH_REMIND_SECRET_AGE=3654d", want: `APIAUTH_REMIND_SECRET_AGE is a time such as 180d, or off, not "3654d"`},
		{file: "hooks:\n  alert: [notify-send, x]\n", want: `%s:2:3: hooks: alert begins with the absolute path of a program, not with "notify-send"`},
		{file: "hooks:\n  alarm: [/bin/true]\n", want: `%s:2:3: unknown key "alarm"`},
		{file: "store_key: abc\n", want: `%s:1:1: unknown key "store_key"`},
		{file: "store: [a\n", want: "%s:"},
		{env: "APIAUTH_STORE=vault", want: `APIAUTH_STORE is keychain or file, not "vault"`},
		{env: "APIAUTH_QUIET=maybe", want: `APIAUTH_QUIET is true or false (or 1 or 0), not "maybe"`},
		{env: "APIAUTH_CA_FILE=./ca.pem", want: `APIAUTH_CA_FILE needs an absolute path, not "./ca.pem"`},
		{flags: map[string]any{"store": "x"}, want: `--store is keychain or file, not "x"`},
		{flags: map[string]any{"quiet": "x"}, want: "read the settings: --quiet"},
		{flags: map[string]any{"nope": true}, want: `read the settings: no flag sets "nope"`},
	} {
		dir := dirWith(t, c.file)
		_, err := Load(LoadOptions{Dir: dir, Env: environ(c.env), Flags: c.flags})
		want := c.want
		if strings.Contains(want, "%s") {
			want = fmt.Sprintf(want, filepath.Join(dir, FileName))
			if _, ok := errors.AsType[*strictyaml.Error](err); !ok {
				t.Errorf("%q: %v is no *strictyaml.Error", c.file, err)
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestFileOfCommentsIsFine(t *testing.T) {
	for _, text := range []string{"", "\n", "# store: file\n\n  # x\n"} {
		if got, err := Load(LoadOptions{Dir: dirWith(t, text)}); err != nil || !reflect.DeepEqual(got, Config{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestFileMustBeTrusted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes and owners")
	}
	dir := dirWith(t, "quiet: true\n")
	path := filepath.Join(dir, FileName)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(LoadOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "everybody") {
		t.Errorf("world-writable: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := os.Symlink(path, filepath.Join(linked, FileName)); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(LoadOptions{Dir: linked}); err != nil || !got.Quiet {
		t.Errorf("a link: %+v, %v", got, err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(LoadOptions{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("another owner: %v", err)
		}
	}
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, FileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(LoadOptions{Dir: folder}); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a folder: %v", err)
	}
	big := dirWith(t, strings.Repeat("#\n", strictyaml.MaxBytes))
	if _, err := Load(LoadOptions{Dir: big}); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("too large: %v", err)
	}
}

// The working directory is never looked at.
func TestWorkingDirectoryIsIgnored(t *testing.T) {
	t.Chdir(dirWith(t, "quiet: true\n"))
	if got, err := Load(LoadOptions{Dir: t.TempDir()}); err != nil || got.Quiet {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Load(LoadOptions{}); err != nil || got.Quiet {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		name, goos, home string
		env              Env
		config, state    string // config empty: an error
	}{
		{"plain", "linux", "/home/u", nil, "/home/u/.config/apiauth", "/home/u/.local/state/apiauth"},
		{"xdg", "linux", "/home/u", environ("XDG_CONFIG_HOME=/c", "XDG_STATE_HOME=/s/"), "/c/apiauth", "/s/apiauth"},
		{"relative xdg is ignored", "freebsd", "/home/u", environ("XDG_CONFIG_HOME=c", "XDG_STATE_HOME=./s"), "/home/u/.config/apiauth", "/home/u/.local/state/apiauth"},
		{"own variables", "linux", "", environ("APIAUTH_CONFIG_DIR=/c/", "APIAUTH_STATE_DIR=/s", "XDG_STATE_HOME=/x"), "/c", "/s"},
		{"one of them", "linux", "/home/u", environ("APIAUTH_STATE_DIR=/s"), "/home/u/.config/apiauth", "/s"},
		{"root", "linux", "/", nil, "/.config/apiauth", "/.local/state/apiauth"},
		{"relative own variable", "linux", "/home/u", environ("APIAUTH_CONFIG_DIR=c"), "", ""},
		{"no home", "linux", "", nil, "", ""},
		{"relative home", "linux", "u", nil, "", ""},
		{"macOS", "darwin", "/Users/u", environ("XDG_STATE_HOME=/s"), "/Users/u/Library/Application Support/apiauth", "/Users/u/Library/Application Support/apiauth/state"},
		{"Windows", "windows", `C:\Users\u`, environ(`APPDATA=C:\Users\u\AppData\Roaming`, `LOCALAPPDATA=D:\Local`, "XDG_STATE_HOME=/s"), `C:\Users\u\AppData\Roaming\apiauth`, `D:\Local\apiauth`},
		{"Windows, bare", "windows", `C:\Users\u`, nil, `C:\Users\u\AppData\Roaming\apiauth`, `C:\Users\u\AppData\Local\apiauth`},
		{"Windows, a share", "windows", `C:\Users\u`, environ(`APIAUTH_CONFIG_DIR=\\srv\c`, `APIAUTH_STATE_DIR=C:\`), `\\srv\c`, `C:\`},
		{"Windows, relative", "windows", `C:\Users\u`, environ(`APIAUTH_STATE_DIR=\s`), "", ""},
	} {
		d, err := Paths(c.env, c.goos, c.home)
		if (err != nil) != (c.config == "") || d.Config != c.config || d.State != c.state {
			t.Errorf("%s: %+v, %v", c.name, d, err)
		}
		if err == nil && d.Providers != strings.TrimRight(c.config, `\/`)+separator(c.goos)+"providers" {
			t.Errorf("%s: providers %q", c.name, d.Providers)
		}
	}
}

func TestEnvironment(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range Environment() {
		if seen[s.Name] || s.Use == "" || !strings.HasSuffix(s.Use, ".") {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
	}
	for _, k := range keys() {
		if !seen[k.variable()] {
			t.Errorf("%s is not listed", k.variable())
		}
	}
	for name := range reflect.TypeFor[file]().Fields() {
		key := name.Tag.Get("yaml")
		if key != "hooks" && !seen["APIAUTH_"+strings.ToUpper(key)] { // commands stand in the file alone
			t.Errorf("%s is not listed", key)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		env  Env
		want string
		ok   bool
		err  string
	}{
		{environ(), "", false, ""},
		{environ("K=canary"), "canary", true, ""},
		{environ("K=", "K_FILE="), "", false, ""},
		{environ("K_FILE=" + write("a", "canary\n")), "canary", true, ""},
		{environ("K_FILE=" + write("b", "canary\r\n")), "canary", true, ""},
		{environ("K_FILE=" + write("c", " canary \n\n")), " canary \n", true, ""},
		{environ("K=canary", "K_FILE=/x"), "", false, "K and K_FILE are both set"},
		{environ("K_FILE=" + write("d", "\n")), "", false, "K_FILE names an empty file"},
		{environ("K_FILE=" + write("e", strings.Repeat("canary", maxSecret/5))), "", false, "K_FILE names a file that is larger"},
		{environ("K_FILE=" + dir + "/absent"), "", false, "read K_FILE: "},
		{environ("K_FILE=" + dir), "", false, "read K_FILE: "},
	} {
		got, ok, err := Secret(c.env, "K")
		if got.Reveal() != c.want || ok != c.ok || (err == nil) != (c.err == "") {
			t.Errorf("ok %v, %v; want ok %v, %q", ok, err, c.ok, c.err)
		}
		if err != nil && (!strings.HasPrefix(err.Error(), c.err) || strings.Contains(err.Error(), "canary")) {
			t.Errorf("%v, want %q", err, c.err)
		}
	}
}

func TestClientFor(t *testing.T) {
	env := environ("APIAUTH_CLIENT_ID_MY_SSO=id", "APIAUTH_CLIENT_SECRET_MY_SSO=canary", "APIAUTH_CLIENT_ISSUER_MY_SSO=https://sso.example", "APIAUTH_CLIENT_ID_PUBLIC=p")
	c, ok, err := ClientFor(env, "my-sso")
	if err != nil || !ok || c.ID != "id" || c.Secret.Reveal() != "canary" || c.Issuer != "https://sso.example" {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	if c, ok, err := ClientFor(env, "public"); err != nil || !ok || c.ID != "p" || !c.Secret.IsZero() {
		t.Errorf("%+v, %v, %v", c, ok, err)
	}
	if _, ok, err := ClientFor(env, "other"); err != nil || ok {
		t.Errorf("%v, %v", ok, err)
	}
	if _, _, err := ClientFor(env, "https://x"); err == nil {
		t.Error("a URL has no variables")
	}
}
