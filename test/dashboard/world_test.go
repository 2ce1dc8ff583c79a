//go:build unix

package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// patience bounds every wait; nothing takes that long when all is well.
const patience = 60 * time.Second

// person has a home with a project in it, and keeps grants in a sealed file.
type person struct {
	t    testing.TB
	home string
	dir  string
	env  []string
}

func newPerson(t testing.TB) *person {
	t.Helper()
	home := t.TempDir()
	p := &person{t: t, home: home, dir: filepath.Join(home, "shop")}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "APIAUTH_STORE=file"}
	p.env = append(p.env, "APIAUTH_STORE_KEY="+strings.TrimSpace(p.must("", "store", "key")))
	return p
}

func (p *person) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, peers.Binary(), args...)
	cmd.Dir, cmd.Env = p.dir, p.env
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run returns stdout; what it holds is not told by a failing test.
func (p *person) run(stdin string, args ...string) (string, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := p.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("apiauth %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

func (p *person) must(stdin string, args ...string) string {
	p.t.Helper()
	out, err := p.run(stdin, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *person) write(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// server is a dashboard that runs.
type server struct {
	link, base string
	cmd        *exec.Cmd
	ended      chan error
	mu         sync.Mutex
	said       bytes.Buffer
}

// Write takes down what the dashboard prints on stderr.
func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.Write(b)
}

func (s *server) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// dashboard starts it, prints the link and takes it.
func (p *person) dashboard(args ...string) *server {
	p.t.Helper()
	s := &server{ended: make(chan error, 1)}
	s.cmd = p.command(context.WithoutCancel(p.t.Context()), append([]string{"dashboard", "--no-browser"}, args...)...)
	s.cmd.Stderr = s
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { s.ended <- s.cmd.Wait() }()
	p.t.Cleanup(func() { _ = s.stop() })
	if err != nil {
		p.t.Fatalf("the dashboard printed no link: %v\n%s", err, s.text())
	}
	s.link = strings.TrimSpace(line)
	u, err := url.Parse(s.link)
	if err != nil {
		p.t.Fatal(err)
	}
	s.base = "http://" + u.Host + strings.TrimSuffix(u.Path, "enter")
	return s
}

// stop ends it as Ctrl-C does.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(patience):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("the dashboard did not end")
	}
}

// browser is Chromium, which does one step after another.
type browser struct {
	t     testing.TB
	in    io.Writer
	lines *bufio.Reader
}

func newBrowser(t testing.TB) *browser {
	t.Helper()
	script := filepath.Join(filepath.Dir(peers.NodeModules(t)), "dashboard.mjs")
	if _, err := os.Stat(filepath.Join(filepath.Dir(script), "node_modules", "axe-core", "axe.min.js")); err != nil {
		peers.Missing(t, "npm package axe-core", "npm ci --prefix test/peers")
	}
	chromium := peers.Program(t, "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, peers.Program(t, "apt-get install nodejs npm", "node"), script, chromium)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		timer := time.AfterFunc(10*time.Second, cancel)
		_ = cmd.Wait()
		timer.Stop()
		cancel()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("the browser said: %s", stderr.String())
		}
	})
	b := &browser{t: t, in: in, lines: bufio.NewReaderSize(out, 1<<20)}
	b.answer("start", nil)
	return b
}

// try does a step, and decodes what it returns into value.
func (b *browser) try(value any, step ...any) error {
	b.t.Helper()
	line, err := json.Marshal(step)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		b.t.Fatal(err)
	}
	return b.decode(value)
}

func (b *browser) decode(value any) error {
	line, err := b.lines.ReadBytes('\n')
	if err != nil {
		b.t.Fatalf("the browser ended: %v", err)
	}
	var m struct {
		Value json.RawMessage
		Error string
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return err
	}
	if m.Error != "" {
		return fmt.Errorf("the browser: %s", m.Error)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(m.Value, value)
}

func (b *browser) answer(step string, value any) {
	b.t.Helper()
	if err := b.decode(value); err != nil {
		b.t.Fatalf("%s: %v", step, err)
	}
}

// do does a step that has to succeed.
func (b *browser) do(step ...any) {
	b.t.Helper()
	if err := b.try(nil, step...); err != nil {
		var text string
		_ = b.try(&text, "text")
		b.t.Fatalf("%v: %v\nthe page says:\n%s", step, err, text)
	}
}

// get does a step that returns a value.
func get[T any](b *browser, step ...any) T {
	b.t.Helper()
	var v T
	if err := b.try(&v, step...); err != nil {
		b.t.Fatalf("%v: %v", step, err)
	}
	return v
}
