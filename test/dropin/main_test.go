//go:build unix

// Package dropin runs programs that were written for systems which are gone: they
// use the published npm packages, unpatched, and the built program stands in for
// what those asked.
package dropin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/test/peers"
)

// TestMain lets the test binary be the browser that connect opens.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "browser" {
		if err := browse(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(peers.Main(m))
}

// browse opens a page and follows it back to apiauth, as a browser of a person
// would that agrees to everything.
func browse(page string) error {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, page, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode >= 400 {
		err = errors.Join(err, fmt.Errorf("the page answers %d", resp.StatusCode))
	}
	return errors.Join(err, resp.Body.Close())
}

// person is somebody with an account of their own, a project in it, and Node.js.
type person struct {
	t       *testing.T
	home    string
	project string
	env     []string
}

func newPerson(t *testing.T) *person {
	t.Helper()
	peers.Program(t, "apt-get install nodejs", "node")
	modules := peers.NodeModules(t)
	home := t.TempDir()
	p := &person{t: t, home: home, project: filepath.Join(home, "my-site")}
	bin := filepath.Join(home, "bin")
	for _, dir := range []string{bin, p.project} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"browser": self, "apiauth": peers.Binary()} {
		if err := os.Symlink(target, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.env = []string{
		"HOME=" + home, "PATH=" + bin + ":" + os.Getenv("PATH"), "TMPDIR=" + home, "BROWSER=browser",
		"APIAUTH_STORE=file", "NODE_PATH=" + modules, "NODE_NO_WARNINGS=1",
	}
	p.env = append(p.env, "APIAUTH_STORE_KEY="+strings.TrimSpace(p.must("apiauth", "store", "key")))
	return p
}

type result struct {
	stdout, stderr string
	err            error
}

// run runs a command in the project's folder.
func (p *person) run(argv ...string) result {
	p.t.Helper()
	return p.runWith(nil, argv...)
}

func (p *person) runWith(env []string, argv ...string) result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := p.command(ctx, env, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	return result{stdout.String(), stderr.String(), err}
}

func (p *person) command(ctx context.Context, env []string, argv ...string) *exec.Cmd {
	p.t.Helper()
	if argv[0] == "apiauth" {
		argv = append([]string{peers.Binary()}, argv[1:]...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = p.project, append(append([]string{}, p.env...), env...)
	return cmd
}

// must is run for commands that have to succeed.
func (p *person) must(argv ...string) string {
	p.t.Helper()
	r := p.run(argv...)
	if r.err != nil {
		p.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), r.err, r.stderr)
	}
	return r.stdout
}

// connect puts a stand-in in the place of its catalogue entry and connects to it.
func (p *person) connect(f *fakes.Fake) {
	p.t.Helper()
	p.standIn(f)
	args := []string{"apiauth", "connect", f.ID, "--client-id", f.ClientID}
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := p.command(ctx, nil, append(args, "--client-secret-stdin")...)
	cmd.Stdin = strings.NewReader(f.ClientSecret.Reveal())
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("connect %s: %v\n%s", f.ID, err, out)
	}
}

func (p *person) standIn(f *fakes.Fake) {
	p.t.Helper()
	entry, err := os.ReadFile(filepath.Join(peers.Root(p.t), "internal", "providers", "catalog", f.ID+".yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	definition, err := f.Rewrite(entry)
	if err != nil {
		p.t.Fatal(err)
	}
	file := filepath.Join(p.home, f.ID+".yaml")
	if err := os.WriteFile(file, definition, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.must("apiauth", "provider", "add", file, "--replace", "--yes")
}
