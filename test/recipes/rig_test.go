package recipes

import (
	"bytes"
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// rig is a checkout on a CI system's machine, a bundle that was made elsewhere,
// and the issuer behind it.
type rig struct {
	*testing.T
	issuer      *sandbox.Server
	home, site  string
	bin         string
	bundle, key string
	secrets     map[string]string // what the CI system keeps
	log         bytes.Buffer      // what it shows, before it masks anything
	masks       []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the recipes are for a POSIX shell")
	}
	r := &rig{T: t, home: t.TempDir()}
	r.site, r.bin = filepath.Join(r.home, "site"), filepath.Join(r.home, "bin")
	for _, dir := range []string{r.site, r.bin, filepath.Join(r.home, "config", "providers")} {
		r.must(os.MkdirAll(dir, 0o700))
	}
	var err error
	r.issuer, err = sandbox.Start(t.Context(), sandbox.Options{})
	r.must(err)
	t.Cleanup(func() { _ = r.issuer.Close() })
	r.must(os.Symlink(peers.Binary(), filepath.Join(r.bin, "apiauth")))
	// The build that every recipe runs: it keeps the token that it was given for
	// the test, and is careless enough to print it.
	r.program("npm", `test "$*" = "run build" && echo "built with ${SPOTIFY_ACCESS_TOKEN-}" && printf '%s\n' "${SPOTIFY_ACCESS_TOKEN-}" >> "$SEEN"`)
	r.write(filepath.Join(r.site, "apiauth.yaml"), "project: site\nconnections:\n  spotify: {}\n")

	// Somebody's machine, with a store of its own.
	definition := filepath.Join(r.home, "spotify.yaml")
	r.write(definition, string(r.issuer.ConfidentialYAML("spotify")))
	id, clientSecret := r.issuer.ConfidentialClient()
	store := secret.New(strings.Repeat("A", 43))
	env := r.env(map[string]string{"APIAUTH_STATE_DIR": filepath.Join(r.home, "mine"), "APIAUTH_STORE": "file", "APIAUTH_STORE_KEY": store.Reveal(), "CI": ""})
	mine := func(stdin string, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), peers.Binary(), args...)
		cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = r.home, env, strings.NewReader(stdin), &out, &errs
		if err := cmd.Run(); err != nil {
			t.Fatalf("apiauth %q: %v\n%s", args, err, errs.String())
		}
		return out.String()
	}
	mine("", "provider", "add", definition, "--replace", "--yes")
	mine(clientSecret.Reveal(), "client", "set", "spotify", "--client-id", id, "--client-secret-stdin")
	mine("", "connect", "spotify", "--flow", "client-credentials")
	r.key = strings.TrimSpace(mine("", "bundle", "create", "spotify", "--output", "bundle.txt"))
	r.bundle = strings.TrimSpace(r.read(filepath.Join(r.home, "bundle.txt")))
	r.secrets = map[string]string{
		"APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key,
		"SPOTIFY_CLIENT_ID": id, "SPOTIFY_CLIENT_SECRET": clientSecret.Reveal(),
	}
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) write(path, text string) {
	r.Helper()
	r.must(os.WriteFile(path, []byte(text), 0o600))
}

func (r *rig) read(path string) string {
	r.Helper()
	doc, err := os.ReadFile(path)
	r.must(err)
	return string(doc)
}

// program puts a shell script into PATH.
func (r *rig) program(name, script string) {
	r.Helper()
	r.must(os.WriteFile(filepath.Join(r.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700)) //nolint:gosec // a program
}

// env is the environment of a job, with what a system adds to it.
func (r *rig) env(with map[string]string) []string {
	all := map[string]string{
		"PATH": r.bin + ":" + os.Getenv("PATH"), "HOME": r.home, "TMPDIR": r.home, "CI": "true", "SEEN": filepath.Join(r.home, "seen"),
		"APIAUTH_CONFIG_DIR": filepath.Join(r.home, "config"), "APIAUTH_STATE_DIR": filepath.Join(r.home, "state"), "GORACE": "atexit_sleep_ms=0",
	}
	maps.Copy(all, with)
	var env []string
	for name, value := range all {
		env = append(env, name+"="+value)
	}
	return env
}

// step runs a command of a recipe and returns its standard output. Both streams
// go into the log.
func (r *rig) step(script string, with map[string]string, shell ...string) string {
	r.Helper()
	if len(shell) == 0 {
		shell = []string{"sh", "-e", "-c"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, shell[0], append(slices.Clone(shell[1:]), script)...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.site, r.env(with), &out, &errs
	err := cmd.Run()
	r.log.Write(out.Bytes())
	r.log.Write(errs.Bytes())
	if err != nil {
		r.Fatalf("%s: %v\n%s", script, err, r.masked(errs.String()))
	}
	return out.String()
}

func (r *rig) masked(text string) string {
	for _, m := range r.masks {
		text = strings.ReplaceAll(text, m, "***")
	}
	return text
}

// built checks that the build was given a token that is alive, that neither log
// nor files keep what they must not, and where the system was told to mask, that
// the careless build's token is not in the log.
func (r *rig) built(masks bool) {
	r.Helper()
	seen := strings.Fields(r.read(filepath.Join(r.home, "seen")))
	if len(seen) != 1 {
		r.Fatalf("%d builds had a token", len(seen))
	}
	if !r.issuer.Active(secret.New(seen[0])) {
		r.Error("the build had a token that is not alive")
	}
	if masks && strings.Contains(r.masked(r.log.String()), seen[0]) {
		r.Error("the log shows the token")
	}
	for name, value := range r.secrets {
		if name != "SPOTIFY_CLIENT_ID" && strings.Contains(r.log.String(), value) {
			r.Errorf("the log shows %s", name)
		}
	}
	if _, err := os.Stat(filepath.Join(r.home, "state")); err == nil {
		r.Error("the job left state behind")
	}
}

// filled puts the system's secrets into the values of a mapping.
func (r *rig) filled(values map[string]string, reference string) map[string]string {
	r.Helper()
	out := map[string]string{}
	pattern := regexp.MustCompile(reference)
	for name, value := range values {
		out[name] = pattern.ReplaceAllStringFunc(value, func(s string) string {
			which := pattern.FindStringSubmatch(s)[1]
			filled, ok := r.secrets[which]
			if !ok {
				r.Errorf("nothing is kept as %s", which)
			}
			return filled
		})
	}
	return out
}

func (r *rig) yaml(recipe string, into any) {
	r.Helper()
	text := recipes(r.T)[recipe]
	if text == "" {
		r.Fatalf("docs/ci.md has no recipe %q", recipe)
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	r.must(d.Decode(into))
}
