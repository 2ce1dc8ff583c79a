// Package readme runs the commands of README.md as a person would, with the
// built program, against stand-ins for the providers that hold each provider's
// documented rules. A command of the README that is not run here, and one that is
// run here and no longer stands there, are failures.
package readme

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// TestMain lets the test binary be what the README's commands find in PATH
// beside apiauth: a browser with a person before it, a password store, GitHub's
// own program.
func TestMain(m *testing.M) {
	switch name, _, _ := strings.Cut(filepath.Base(os.Args[0]), "."); name {
	case "browser":
		play(browse(os.Args[1]))
	case "pass":
		_, err := fmt.Println(os.Getenv("README_SECRET"))
		play(err)
	case "gh":
		play(callAPI())
	}
	os.Exit(testMain(m))
}

// testMain builds the program once for all tests.
func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "apiauth-readme")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "apiauth")
	build := exec.Command("go", "build", "-o", program, "./cmd/apiauth")
	build.Dir, build.Stderr = filepath.Join("..", ".."), os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the program:", err)
		return 1
	}
	if err := os.Setenv("README_PROGRAM", program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func play(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// browse opens a page as a browser would and agrees to what it asks. Where the
// page wants a code, it is the one that the terminal shows.
func browse(page string) error {
	client := &http.Client{
		Timeout:       20 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for range 3 {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, page, nil)
		if err != nil {
			return err
		}
		req.Header.Set("Sec-Fetch-Mode", "navigate")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		switch next := resp.Header.Get("Location"); {
		case resp.StatusCode >= 400:
			return fmt.Errorf("the page answers %d: %s", resp.StatusCode, body)
		case next != "":
			page = next
			continue
		case bytes.Contains(body, []byte(`name="user_code"`)):
			return typeCode(client, page)
		}
		return nil
	}
	return errors.New("the pages redirect without an end")
}

func typeCode(client *http.Client, page string) error {
	screen, err := os.ReadFile(os.Getenv("README_SCREEN"))
	if err != nil {
		return err
	}
	code := regexp.MustCompile(`enter the code (\S+)`).FindSubmatch(screen)
	if code == nil {
		return errors.New("the terminal shows no code")
	}
	at, err := url.Parse(page)
	if err != nil {
		return err
	}
	resp, err := client.PostForm(at.Scheme+"://"+at.Host+"/device-page", url.Values{"user_code": {string(code[1])}})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the device page answers %d", resp.StatusCode)
	}
	return errors.Join(err, resp.Body.Close())
}

// callAPI is 'gh api user': a program that knows nothing but GH_TOKEN.
func callAPI() error {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, os.Getenv("README_API"), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("GH_TOKEN"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the API answers %d", resp.StatusCode)
	}
	_, copied := io.Copy(os.Stdout, io.LimitReader(resp.Body, 1<<16))
	return errors.Join(err, copied, resp.Body.Close())
}

// step is one command of the README and what must come of it.
type step struct {
	line   string
	stdout string // a regular expression
	stderr string // likewise
}

// blocks returns the README's fenced blocks that stand below a comment of the
// kind, by the comment's name.
func blocks(t *testing.T, kind string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	fence := regexp.MustCompile("(?m)^<!-- " + kind + ": ([a-z-]+) -->\n```[a-z]+\n((?s:.*?))^```$")
	for _, m := range fence.FindAllStringSubmatch(readme(t), -1) {
		if found[m[1]] != nil {
			t.Fatalf("README.md has two blocks %q", m[1])
		}
		found[m[1]] = strings.Split(strings.TrimSuffix(m[2], "\n"), "\n")
	}
	return found
}

func readmeFile() string { return filepath.Join("..", "..", "README.md") }

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(readmeFile())
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// machine is a fresh account with apiauth and the helpers in its PATH.
type machine struct {
	home, bin, project string
	env                []string
	words              *strings.Replacer // what the README leaves to the reader
}

// newMachine makes the account. The store is the file
// store: the README's steps do not depend on it, and it is there everywhere.
func newMachine(t *testing.T, words ...string) *machine {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("the README's commands are for a POSIX shell, and there is none")
	}
	home := t.TempDir()
	m := &machine{home: home, bin: filepath.Join(home, "bin"), project: filepath.Join(home, "my-site"), words: strings.NewReplacer(words...)}
	for _, dir := range []string{m.bin, m.project} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.Getenv("README_PROGRAM"), filepath.Join(m.bin, "apiauth")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"browser", "pass", "gh"} {
		if err := os.Symlink(self, filepath.Join(m.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	m.env = []string{
		"HOME=" + home, "PATH=" + m.bin + ":" + filepath.Dir(shell) + ":/usr/bin:/bin", "TMPDIR=" + home,
		"BROWSER=browser", "APIAUTH_STORE=file", "README_SCREEN=" + filepath.Join(home, "screen"),
	}
	key := m.shell(t, "apiauth store key")
	m.env = append(m.env, "APIAUTH_STORE_KEY="+strings.TrimSpace(key.stdout))
	return m
}

type output struct {
	stdout, stderr string
	err            error
}

// shell runs one line in the project's folder. Its stderr is what the terminal
// shows, which the person at the browser can read while it runs.
func (m *machine) shell(t *testing.T, line string) output {
	t.Helper()
	screen, err := os.Create(filepath.Join(m.home, "screen"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var stdout bytes.Buffer
	// Each line begins where the one before ended, with its exported variables.
	cmd := exec.CommandContext(ctx, "sh", "-c", `test ! -f "$HOME/.exported" || . "$HOME/.exported"
`+line+`
code=$?
export -p > "$HOME/.exported"
exit $code`)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = m.project, m.env, &stdout, screen
	err = cmd.Run()
	if err := screen.Close(); err != nil {
		t.Fatal(err)
	}
	stderr, readErr := os.ReadFile(screen.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return output{stdout.String(), string(stderr), err}
}

// follow runs the block's commands, which must be exactly those of steps.
func (m *machine) follow(t *testing.T, name string, steps []step) {
	t.Helper()
	lines := blocks(t, "steps")[name]
	if len(lines) != len(steps) {
		t.Fatalf("README.md has %d commands in the block %q; %d are known here: %q", len(lines), name, len(steps), lines)
	}
	for i, s := range steps {
		if lines[i] != s.line {
			t.Fatalf("README.md says\n  %s\nand the command that is known here is\n  %s", lines[i], s.line)
		}
		got := m.shell(t, m.words.Replace(s.line))
		if got.err != nil {
			t.Fatalf("%s: %v\n%s", s.line, got.err, got.stderr)
		}
		if s.stdout != "" && !regexp.MustCompile(s.stdout).MatchString(got.stdout) {
			t.Errorf("%s: the output (%d bytes) does not match %s", s.line, len(got.stdout), s.stdout)
		}
		if s.stderr != "" && !regexp.MustCompile(s.stderr).MatchString(got.stderr) {
			t.Errorf("%s: the messages do not match %s:\n%s", s.line, s.stderr, got.stderr)
		}
	}
}

// standIn puts the stand-in's definition in the place of the catalogue's entry:
// the entry itself, with other addresses.
func (m *machine) standIn(t *testing.T, f *fakes.Fake) {
	t.Helper()
	entry, err := os.ReadFile(filepath.Join("..", "..", "internal", "providers", "catalog", f.ID+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	definition, err := f.Rewrite(entry)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(m.home, f.ID+".yaml")
	if err := os.WriteFile(file, definition, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := m.shell(t, "apiauth provider add "+file+" --replace --yes"); got.err != nil {
		t.Fatalf("put the stand-in in place: %v\n%s", got.err, got.stderr)
	}
	m.env = append(m.env, "README_SECRET="+f.ClientSecret.Reveal())
}

// leavesNothing fails when a file of the account holds one of the values.
func (m *machine) leavesNothing(t *testing.T, values ...secret.Text) {
	t.Helper()
	for _, dir := range []string{".config", ".local", "Library", "my-site"} {
		err := filepath.WalkDir(filepath.Join(m.home, dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			for _, v := range values {
				if bytes.Contains(data, []byte(v.Reveal())) {
					t.Errorf("%s holds a secret in clear", path)
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

func TestSpotify(t *testing.T) {
	t.Parallel()
	f := fakes.Spotify(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.follow(t, "spotify", []step{
		{line: "apiauth client set spotify --client-id CLIENT_ID", stderr: `http://127\.0\.0\.1/callback/spotify`},
		{line: "apiauth connect spotify --scope user-read-private --scope user-top-read", stderr: `Connected spotify .*Alice Example`},
		{line: "apiauth api spotify me", stdout: `"display_name"`},
		{line: "apiauth disconnect spotify", stderr: `https://www\.spotify\.com/account/apps/`},
	})
	if s := f.Stats(); s.Authorize != 1 || s.Exchanges != 1 || s.TokenRequests != 1 || s.Refused != 0 {
		t.Errorf("the provider saw %+v", s)
	}
}

func TestGitHub(t *testing.T) {
	t.Parallel()
	f := fakes.GitHub(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.env = append(m.env, "README_API="+f.URL+"/api.github.com/user")
	m.follow(t, "github", []step{
		{line: "pass show github-client | apiauth client set github --client-id CLIENT_ID --client-secret-stdin", stderr: `http://127\.0\.0\.1/callback/github`},
		{line: "apiauth connect github --scope read:user", stderr: `Connected github .*alice`},
		{line: "apiauth exec -c github=GH_TOKEN -- gh api user", stdout: `"login":"alice"`},
		{line: "apiauth disconnect github", stderr: `revoked`},
	})
	if s := f.Stats(); s.Authorize != 1 || s.Exchanges != 1 || s.Refused != 0 || s.Revocations != 1 {
		t.Errorf("the provider saw %+v", s)
	}
	m.leavesNothing(t, f.ClientSecret)
}

func TestGitHubDevice(t *testing.T) {
	t.Parallel()
	f := fakes.GitHub(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.follow(t, "github-device", []step{
		{line: "apiauth connect github --flow device --client-id CLIENT_ID", stderr: `(?s)enter the code .*Connected github .*alice`},
		{line: "apiauth token github", stdout: `^gho_\w{36}\n$`},
		{line: "apiauth disconnect github"},
	})
	if s := f.Stats(); s.Exchanges != 1 || s.Authorize != 0 {
		t.Errorf("the provider saw %+v", s)
	}
}

func TestGoogle(t *testing.T) {
	t.Parallel()
	f := fakes.Google(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.follow(t, "google", []step{
		{line: "pass show google-client | apiauth client set google --client-id CLIENT_ID --client-secret-stdin"},
		{line: "apiauth connect google --scope email --scope https://www.googleapis.com/auth/drive.file", stderr: `Connected google .*alice@example\.com`},
		{line: "apiauth token google --format header", stdout: `^Authorization: Bearer ya29\.\S+\n$`},
		{line: "apiauth token google --refresh", stdout: `^ya29\.\S+\n$`},
		{line: "apiauth disconnect google", stderr: `revoked`},
	})
	if s := f.Stats(); s.Exchanges != 1 || s.Refreshes != 1 || s.Refused != 0 || s.Revocations != 1 {
		t.Errorf("the provider saw %+v", s)
	}
	m.leavesNothing(t, f.ClientSecret)
}

func TestCompanyIssuer(t *testing.T) {
	t.Parallel()
	f := fakes.Keycloak(t)
	if err := f.Register("http://127.0.0.1/callback/company"); err != nil {
		t.Fatal(err)
	}
	// The real one is https; on loopback http must be asked for.
	m := newMachine(t, "CLIENT_ID", f.ClientID, "https://sso.example.com/realms/main", fakes.KeycloakIssuer(f)+" --insecure-loopback")
	m.env = append(m.env, "README_SECRET="+f.ClientSecret.Reveal())
	m.follow(t, "company", []step{
		{line: "apiauth provider add https://sso.example.com/realms/main --id company --yes"},
		{line: "pass show company-client | apiauth client set company --client-id CLIENT_ID --client-secret-stdin", stderr: `http://127\.0\.0\.1/callback/company`},
		{line: "apiauth connect company", stderr: `Connected company .*alice`},
		{line: "apiauth token company --refresh", stdout: `^eyJ\S+\n$`},
		{line: "apiauth disconnect company", stderr: `revoked`},
	})
	if s := f.Stats(); s.Exchanges != 1 || s.Refreshes != 1 || s.Rotations != 1 || s.Reuse != 0 || s.Refused != 0 || s.Revocations == 0 {
		t.Errorf("the provider saw %+v", s)
	}
	m.leavesNothing(t, f.ClientSecret)
}

func TestProject(t *testing.T) {
	t.Parallel()
	f := fakes.Spotify(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.follow(t, "project", []step{
		{line: "apiauth project init spotify --label my-site"},
		{line: "apiauth client set spotify --client-id CLIENT_ID"},
		{line: "apiauth connect", stderr: `Connected spotify`},
		{line: `apiauth exec -- sh -c 'test -n "$SPOTIFY_ACCESS_TOKEN"'`},
		{line: "apiauth status", stdout: `(?s)spotify.*state +ok`},
	})
	// A copy of the file elsewhere is refused with 6.
	got := m.shell(t, `mkdir "$HOME/copy" && cp apiauth.yaml "$HOME/copy" && apiauth -C "$HOME/copy" token spotify`)
	if exit, ok := errors.AsType[*exec.ExitError](got.err); !ok || exit.ExitCode() != 6 || got.stdout != "" {
		t.Errorf("the copied manifest: %v, not exit status 6\n%s", got.err, got.stderr)
	}
	if !strings.Contains(strings.Join(strings.Fields(got.stderr), " "), "apiauth project link") {
		t.Errorf("the refusal does not say how to go on:\n%s", got.stderr)
	}
}

func TestFileStore(t *testing.T) {
	t.Parallel()
	f := fakes.Spotify(t)
	m := newMachine(t, "CLIENT_ID", f.ClientID)
	m.standIn(t, f)
	m.env = slices.DeleteFunc(m.env, func(v string) bool { return strings.HasPrefix(v, "APIAUTH_STORE") })
	if err := os.Remove(filepath.Join(m.home, ".exported")); err != nil {
		t.Fatal(err)
	}
	m.follow(t, "file-store", []step{
		{line: "apiauth store key > ~/.apiauth-key && chmod 600 ~/.apiauth-key"},
		{line: "export APIAUTH_STORE_KEY_FILE=~/.apiauth-key"},
		{line: "apiauth connect spotify --store file --client-id CLIENT_ID", stderr: `Connected spotify`},
		{line: "apiauth status spotify", stdout: `store +encrypted file`},
	})
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.env = slices.DeleteFunc(m.env, func(v string) bool { return strings.HasPrefix(v, "BROWSER=") })
	m.follow(t, "sandbox", []step{
		{line: "apiauth sandbox -- sh -c 'apiauth status && apiauth api sandbox me'", stdout: `(?s)account +Alice Example.*"name":"Alice Example"`},
	})
}

func TestDemoPrintsWhatTheReadmeShows(t *testing.T) {
	t.Parallel()
	shown := blocks(t, "output")["demo"]
	if len(shown) < 2 || shown[0] != "$ go run ./cmd/apiauth sandbox --demo" {
		t.Fatalf("README.md shows %q", shown)
	}
	m := newMachine(t)
	m.env = slices.DeleteFunc(m.env, func(v string) bool { return strings.HasPrefix(v, "APIAUTH_STORE") || strings.HasPrefix(v, "BROWSER=") })
	if err := os.Remove(filepath.Join(m.home, ".exported")); err != nil {
		t.Fatal(err)
	}
	got := m.shell(t, "apiauth sandbox --demo")
	if got.err != nil {
		t.Fatalf("%v\n%s", got.err, got.stderr)
	}
	port := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	want := port.ReplaceAllString(strings.Join(shown[1:], "\n")+"\n", "PORT")
	if is := port.ReplaceAllString(got.stdout, "PORT"); is != want {
		t.Errorf("the demo prints\n%s\nand README.md shows\n%s", is, want)
	}
	for _, dir := range []string{".config", ".local", "Library"} {
		if _, err := os.Stat(filepath.Join(m.home, dir)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the demo leaves something in %s: %v", dir, err)
		}
	}
}

// TestPlaceholderPrintsWhatTheReadmeShows runs the second command, whose values
// differ from run to run.
func TestPlaceholderPrintsWhatTheReadmeShows(t *testing.T) {
	t.Parallel()
	peers.Program(t, "apt-get install curl", "curl")
	shown := blocks(t, "output")["placeholder"]
	command, ok := strings.CutPrefix(shown[0], "$ go run ./cmd/apiauth ")
	if len(shown) != 4 || !ok {
		t.Fatalf("README.md shows %q", shown)
	}
	m := newMachine(t)
	m.env = slices.DeleteFunc(m.env, func(v string) bool { return strings.HasPrefix(v, "BROWSER=") })
	got := m.shell(t, "apiauth "+command+"\n"+shown[1])
	if got.err != nil {
		t.Fatalf("%v\n%s", got.err, got.stderr)
	}
	random := regexp.MustCompile(`sbx_at_\w{43}\b|sha256:[\w-]{12}`)
	want := random.ReplaceAllString(strings.Join(shown[2:], "\n"), "RANDOM")
	if is := random.ReplaceAllString(strings.TrimSuffix(got.stdout, "\n"), "RANDOM"); is != want {
		t.Errorf("the command prints\n%s\nand README.md shows\n%s", is, want)
	}
	placeholder, answer, _ := strings.Cut(got.stdout, "\n")
	sum := sha256.Sum256([]byte(placeholder))
	if strings.Contains(answer, base64.RawURLEncoding.EncodeToString(sum[:])[:12]) {
		t.Error("the API got what the command had")
	}
}

// TestEveryBlockIsRun fails for a block of commands that no test knows.
func TestEveryBlockIsRun(t *testing.T) {
	known := []string{"company", "file-store", "github", "github-device", "google", "project", "sandbox", "spotify"}
	var found []string
	for name := range blocks(t, "steps") {
		found = append(found, name)
	}
	slices.Sort(found)
	if !slices.Equal(found, known) {
		t.Errorf("README.md has the blocks %q; run here are %q", found, known)
	}
	if n := strings.Count(readme(t), "<!-- steps:"); n != len(known) {
		t.Errorf("README.md has %d comments that announce commands, and %d blocks follow", n, len(known))
	}
}

// TestProviderTable holds the README's table against the entries of the
// catalogue that people ask for first; UPDATE=1 writes it.
func TestProviderTable(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	shown := []string{
		"box", "contentful", "github", "github-app", "gitlab", "google", "mapbox", "microsoft", "notion", "salesforce", "slack", "spotify", "stripe",
	}
	const head = "<!-- table: flows -->\n| id | provider | flows, best first | client secret | refresh token |\n|---|---|---|---|---|\n"
	var rows strings.Builder
	for _, d := range list {
		if !slices.Contains(shown, d.ID) {
			continue // docs/providers.md counts them
		}
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s | %s |\n", d.ID, d.Name, flows(d), needs(d), refresh(d))
	}
	text := readme(t)
	before, rest, ok := strings.Cut(text, head)
	if !ok {
		t.Fatal("README.md has no table of flows")
	}
	end := strings.Index(rest, "\n\n")
	if strings.HasPrefix(rest, "\n") {
		end = -1
	}
	table := rest[:end+1]
	if table == rows.String() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("the table of flows is stale; UPDATE=1 go test ./test/readme writes it:\n%s", rows.String())
	}
	if err := os.WriteFile(readmeFile(), []byte(before+head+rows.String()+rest[end+1:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

func flows(d *providers.Definition) string {
	list := slices.Clone(d.Flows)
	if i := slices.Index(list, providers.FlowBrowser); i >= 0 && strings.HasPrefix(d.RedirectURI, "https:") {
		list[i] = "paste"
	}
	return strings.Join(list, ", ")
}

func needs(d *providers.Definition) string {
	switch {
	case d.TokenEndpoint == "":
		return "no client"
	case d.TokenEndpointAuthMethod == providers.AuthNone:
		return "none"
	case d.SecretOptional && slices.Contains(d.Flows, providers.FlowClientCredentials):
		return "optional; needed for client-credentials"
	case d.SecretOptional:
		return "optional"
	case d.DeviceAuthMethod == providers.AuthNone:
		return "needed, but not for device"
	}
	return "needed"
}

func refresh(d *providers.Definition) string {
	switch {
	case d.TokenEndpoint == "":
		return "none"
	case d.Token.Rotates == "always":
		return "new at each refresh"
	case d.Token.Rotates == "never":
		return "stays"
	}
	return "may change"
}
