package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// sealedBundle is what bundle create --json prints, as far as tests need it.
type sealedBundle struct {
	ID     string `json:"id"`
	Bundle string `json:"bundle"`
	Key    string `json:"key"`
}

// sealMachine connects the sandbox's confidential client on somebody's machine
// and seals it.
func (s *stage) sealMachine(flags ...string) (b sealedBundle, stderr string) {
	s.t.Helper()
	_, secret := s.server.ConfidentialClient()
	s.must(call{stdin: secret.Reveal() + "\n"}, "client", "set", "machine", "--client-id", "sandbox-confidential", "--client-secret-stdin")
	s.must(call{}, "connect", "machine", "--flow", "client-credentials")
	stdout, stderr, code := s.exec(call{}, append([]string{"bundle", "create", "machine", "--json"}, flags...)...)
	if code != 0 {
		s.t.Fatalf("bundle create ended with %d:\n%s", code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), &b); err != nil {
		s.t.Fatal("bundle create printed no JSON object")
	}
	return b, stderr
}

// job is a call on a CI system's machine: nothing is stored there.
func (s *stage) job(with map[string]string) call {
	env := map[string]string{"CI": "true", "APIAUTH_STATE_DIR": s.path("job"), "APIAUTH_FAKE_KEYCHAIN_MODE": "absent"}
	maps.Copy(env, with)
	return call{env: env, stdin: "yes\n"}
}

// TestJobsWithoutIdentityEndAtOnce: what a job lacks is named, within seconds,
// with a status that scripts know; nobody is asked and nothing is left.
func TestJobsWithoutIdentityEndAtOnce(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("folders and modes of unix")
	}
	s := newStage(t)
	b, _ := s.sealMachine()
	other, _ := s.sealMachine()
	s.file("site/apiauth.yaml", "connections:\n  machine: {}\n")
	s.file("fork.json", `{"pull_request": {"head": {"repo": {"full_name": "mallory/shop"}}}}`)
	fork := map[string]string{
		"GITHUB_EVENT_NAME": "pull_request", "GITHUB_REPOSITORY": "acme/shop", "GITHUB_EVENT_PATH": s.path("fork.json"),
		"APIAUTH_BUNDLE": "", "APIAUTH_BUNDLE_KEY": "", "APIAUTH_CLIENT_SECRET_MACHINE": "",
	}
	before := s.server.Stats()
	for _, c := range []struct {
		title string
		code  int
		dir   string
		env   map[string]string
		says  string
	}{
		{"nothing at all", 4, "", nil, "APIAUTH_CLIENT_SECRET_MACHINE"},
		{"nothing at all, in a project", 6, "site", nil, "APIAUTH_BUNDLE and APIAUTH_BUNDLE_KEY"},
		{"a secret that the job does not get", 6, "site", map[string]string{"APIAUTH_BUNDLE": ""}, "APIAUTH_BUNDLE is empty"},
		{"a fork", 6, "site", fork, "a pull request from a fork gets no secrets"},
		{"no key", 5, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle}, "APIAUTH_BUNDLE_KEY is not"},
		{"an empty key", 5, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle, "APIAUTH_BUNDLE_KEY": ""}, "APIAUTH_BUNDLE_KEY is empty"},
		{"another bundle's key", 5, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle, "APIAUTH_BUNDLE_KEY": other.Key}, "it opens another one"},
		{"a damaged bundle", 5, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle[:len(b.Bundle)-9], "APIAUTH_BUNDLE_KEY": b.Key}, "damaged"},
		{"a bundle that has ended", 4, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle, "APIAUTH_BUNDLE_KEY": b.Key, "APIAUTH_FAKE_CLOCK": "2161h"}, "ended on"},
		{"both forms of a variable", 2, "site", map[string]string{"APIAUTH_BUNDLE": b.Bundle, "APIAUTH_BUNDLE_FILE": s.path("fork.json")}, "both set"},
		{"a file that is not there", 2, "site", map[string]string{"APIAUTH_BUNDLE_FILE": s.path("nowhere")}, "APIAUTH_BUNDLE_FILE"},
	} {
		for _, args := range [][]string{{"token", "machine"}, {"exec", "-c", "machine", "--", "true"}, {"env", "-c", "machine"}} {
			in := s.job(c.env)
			if in.dir = "work"; c.dir != "" {
				in.dir = c.dir
			}
			began := time.Now()
			s.fails(c.title, c.code, in, args...)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s: %s took %v", c.title, args[0], took)
			}
			said := strings.Join(strings.Fields(s.out.String()), " ")
			if !strings.Contains(said, c.says) {
				t.Errorf("%s: %s does not say %q:\n%s", c.title, args[0], c.says, s.out.String())
			}
			s.out.Reset()
		}
	}
	if after := s.server.Stats(); after.AuthorizeRequests != before.AuthorizeRequests || after.TokenRequests != before.TokenRequests {
		t.Errorf("%+v before, %+v after", before, after)
	}
	if _, err := os.Stat(s.path("job")); err == nil {
		t.Error("state is left behind")
	}
}

// TestBundleLeaksNothing looks for what is sealed in everything that a bundle's
// commands print or write, except where it is asked for.
func TestBundleLeaksNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the double of the keychain is for unix")
	}
	s := newStage(t)
	s.env["APIAUTH_FAKE_KEYCHAIN"] = filepath.Join(t.TempDir(), "items") // not below home: it stands for the keychain
	_, clientSecret := s.server.ConfidentialClient()
	if err := os.Remove(s.path("machine.secret")); err != nil {
		t.Fatal(err)
	}
	b, stderr := s.sealMachine("--debug")
	secrets := map[string]string{"the client secret": clientSecret.Reveal(), "the key": b.Key, "the bundle": b.Bundle}
	check := func(what string, text []byte) {
		t.Helper()
		if which, found := holdsSecret(text, secrets); found {
			t.Errorf("%s holds %s", what, which)
		}
	}
	check("stderr of bundle create", []byte(stderr))
	in := s.job(map[string]string{"APIAUTH_BUNDLE": b.Bundle, "APIAUTH_BUNDLE_KEY": b.Key})
	token := strings.TrimSpace(s.must(in, "token", "machine"))
	secrets["the token"] = token
	for _, args := range [][]string{
		{"bundle", "list"}, {"bundle", "list", "--json"}, {"bundle", "show"}, {"bundle", "show", "--json"}, {"status"}, {"status", "--json"},
		{"list"}, {"api", "machine", "/items"}, {"exec", "--", "env"}, {"token", "nobody"}, {"bundle", "create", "machine", "--json"}, {"doctor", "--json"},
		{"bundle", "revoke", b.ID}, {"paths"},
	} {
		stdout, stderr, _ := s.exec(in, append(args, "--debug")...)
		if args[0] == "exec" {
			stdout, stderr, _ = s.exec(in, append([]string{"--debug"}, args...)...)
			for line := range strings.Lines(stdout) {
				if name, _, _ := strings.Cut(line, "="); name != "MACHINE_ACCESS_TOKEN" {
					check("the child's "+name, []byte(line))
				}
			}
			stdout = ""
		}
		check("stdout of "+strings.Join(args, " "), []byte(stdout))
		check("stderr of "+strings.Join(args, " "), []byte(stderr))
	}
	err := filepath.WalkDir(s.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		doc, err := os.ReadFile(path)
		check("the file "+strings.TrimPrefix(path, s.home), doc)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBundleAtATerminal: a person sees both parts, ready to be stored, and a file
// gets one of them only.
func TestBundleAtATerminal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the double of the keychain is for unix")
	}
	s := newStage(t)
	s.sealMachine()
	run := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		app := &App{
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, StdoutTTY: true,
			Env:     func(name string) (string, bool) { v, ok := s.env[name]; return v, ok },
			Environ: func() []string { return nil }, Dir: s.path("work"), Home: s.home, GOOS: runtime.GOOS,
			Now: time.Now, Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }, Rand: rand.Reader,
			Keychain: folderKeychain{dir: s.env["APIAUTH_FAKE_KEYCHAIN"]}, Version: Version{Number: "1.2.3"},
		}
		if code := Main(t.Context(), app, args); code != 0 {
			t.Fatalf("apiauth %q ended with %d:\n%s", args, code, errs.String())
		}
		return out.String()
	}
	both := regexp.MustCompile(`^APIAUTH_BUNDLE=(apiauth-bundle\.1\.\S+)\nAPIAUTH_BUNDLE_KEY=(\S{43})\n$`).FindStringSubmatch(run("bundle", "create", "machine"))
	if both == nil {
		t.Fatal("the two variables are not printed")
	}
	s.must(s.job(map[string]string{"APIAUTH_BUNDLE": both[1], "APIAUTH_BUNDLE_KEY": both[2]}), "token", "machine")
	key := strings.TrimSpace(run("bundle", "create", "machine", "--output", "sealed"))
	sealed, err := os.ReadFile(s.path("work/sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sealed), key) || len(key) != 43 {
		t.Error("the key is not alone on standard output")
	}
	s.must(s.job(map[string]string{"APIAUTH_BUNDLE_FILE": s.path("work/sealed"), "APIAUTH_BUNDLE_KEY": key}), "token", "machine")
}
