//go:build unix

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
)

// patience bounds every wait of these tests; nothing takes that long when all
// is well.
const patience = 60 * time.Second

// person has a home, a session and a terminal's worth of environment, and runs
// apiauth in it.
type person struct {
	t       testing.TB
	bus     *keyringtest.Bus // nil: there is no session bus
	home    string
	dir     string // working directory
	runtime string
	vars    map[string]string
}

// newPerson is somebody on the session bus of b, or on none. The folders have
// names of one length, so that messages break at the same places in each run.
func newPerson(t testing.TB, b *keyringtest.Bus) *person {
	t.Helper()
	root := filepath.Join("/tmp", "ada-"+rand.Text()[:8])
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	p := &person{t: t, bus: b, home: filepath.Join(root, "home"), runtime: filepath.Join(root, "run"), vars: map[string]string{}}
	p.dir = filepath.Join(p.home, "work")
	for _, d := range []string{p.dir, p.runtime} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if b != nil {
		p.runtime = b.Runtime
	}
	return p
}

// withFileStore makes a person who keeps grants in a sealed file, under a raw
// key, and has no keychain.
func withFileStore(t testing.TB) *person {
	t.Helper()
	p := newPerson(t, nil)
	p.vars["APIAUTH_STORE"] = "file"
	p.vars["APIAUTH_STORE_KEY"] = p.storeKey()
	return p
}

func (p *person) storeKey() string {
	p.t.Helper()
	r := p.run("store", "key")
	if r.code != 0 || strings.TrimSpace(r.out) == "" {
		p.t.Fatalf("apiauth store key: %s", r.redacted())
	}
	return strings.TrimSpace(r.out)
}

// as is the same person with variables set otherwise; an empty value unsets.
func (p *person) as(pairs ...string) *person {
	q := *p
	q.vars = map[string]string{}
	for k, v := range p.vars {
		q.vars[k] = v
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(q.vars, pairs[i])
		} else {
			q.vars[pairs[i]] = pairs[i+1]
		}
	}
	return &q
}

// in is the same person in another folder, which is made.
func (p *person) in(dir string) *person {
	p.t.Helper()
	q := *p
	q.dir = filepath.Join(p.home, dir)
	if err := os.MkdirAll(q.dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	return &q
}

// env is the whole environment of what the person runs.
func (p *person) env() []string {
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": p.home, "XDG_RUNTIME_DIR": p.runtime, "LANG": "C.UTF-8"}
	if p.bus != nil && p.bus.Address != "" {
		env["DBUS_SESSION_BUS_ADDRESS"] = p.bus.Address
	}
	for k, v := range p.vars {
		env[k] = v
	}
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// result is how a command ended.
type result struct {
	args []string
	code int // 128+n when signal n ended it
	out  string
	err  string
	took time.Duration
}

// redacted tells how a command ended, without what it printed on stdout.
func (r result) redacted() string {
	return fmt.Sprintf("apiauth %s: exit code %d, %d bytes on stdout, stderr:\n%s", strings.Join(r.args, " "), r.code, len(r.out), r.err)
}

// token is the one line on stdout.
func (r result) token() string { return strings.TrimSpace(r.out) }

func (p *person) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary(), args...)
	cmd.Dir, cmd.Env = p.dir, p.env()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run runs apiauth to its end.
func (p *person) run(args ...string) result {
	p.t.Helper()
	return p.runIn("", args...)
}

// runIn runs apiauth with something on standard input.
func (p *person) runIn(stdin string, args ...string) result {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := p.command(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	return result{args, p.status(ctx, err), stdout.String(), stderr.String(), time.Since(begin)}
}

// must is run for a command that has to succeed.
func (p *person) must(args ...string) result {
	p.t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.t.Fatal(r.redacted())
	}
	return r
}

func (p *person) status(ctx context.Context, err error) int {
	p.t.Helper()
	if ctx.Err() != nil && p.t.Context().Err() == nil {
		p.t.Fatalf("a command did not end within %v", patience)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return exit.ExitCode()
	}
	p.t.Fatalf("run apiauth: %v", err)
	return -1
}

// running is a command on its way.
type running struct {
	p      *person
	args   []string
	cmd    *exec.Cmd
	ctx    context.Context
	cancel context.CancelFunc
	begin  time.Time
	out    bytes.Buffer
	lines  chan string // of stderr
	read   chan struct{}

	mu  sync.Mutex
	err strings.Builder
}

// start begins a command whose stderr is read line by line.
func (p *person) start(args ...string) *running { return p.startIn("", args...) }

func (p *person) startIn(stdin string, args ...string) *running {
	p.t.Helper()
	r := &running{p: p, args: args, lines: make(chan string, 4096), read: make(chan struct{}), begin: time.Now()}
	r.ctx, r.cancel = context.WithTimeout(context.WithoutCancel(p.t.Context()), patience)
	r.cmd = p.command(r.ctx, args...)
	r.cmd.Stdin = strings.NewReader(stdin)
	r.cmd.Stdout = &r.out
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(r.read)
		defer close(r.lines)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			r.mu.Lock()
			r.err.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
			select {
			case r.lines <- lines.Text():
			default:
			}
		}
		_, _ = io.Copy(io.Discard, stderr)
	}()
	p.t.Cleanup(func() {
		r.cancel()
		<-r.read
		_ = r.cmd.Wait()
	})
	return r
}

// waitLine returns the next line of stderr that holds text.
func (r *running) waitLine(text string) string {
	r.p.t.Helper()
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				res := r.wait()
				r.p.t.Fatalf("ended before it said %q: %s", text, res.redacted())
			}
			if strings.Contains(line, text) {
				return line
			}
		case <-r.ctx.Done():
			r.p.t.Fatalf("apiauth %s did not say %q within %v", strings.Join(r.args, " "), text, patience)
		}
	}
}

// authorizeURL waits for the address that stands on a line of its own.
func (r *running) authorizeURL() string {
	r.p.t.Helper()
	return strings.TrimSpace(r.waitLine("client_id="))
}

func (r *running) signal(sig syscall.Signal) {
	r.p.t.Helper()
	if err := r.cmd.Process.Signal(sig); err != nil {
		r.p.t.Fatal(err)
	}
}

// wait returns how the command ended.
func (r *running) wait() result {
	r.p.t.Helper()
	<-r.read
	err := r.cmd.Wait()
	code := r.p.status(r.ctx, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	return result{r.args, code, r.out.String(), r.err.String(), time.Since(r.begin)}
}

// write puts a file below the working directory and returns its path.
func (p *person) write(name, content string) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// script puts a program into the person's bin folder and returns its path.
func (p *person) script(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.home, "bin", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// recordBrowser sets a $BROWSER that writes down what it is asked to open.
func (p *person) recordBrowser() *recorder {
	p.t.Helper()
	r := &recorder{t: p.t, log: filepath.Join(p.home, "opened")}
	p.vars["BROWSER"] = p.script("browser", `printf '%s\n' "$1" >>'`+r.log+`'`)
	return r
}

// recorder is a browser that nobody sits in front of.
type recorder struct {
	t   testing.TB
	log string
}

// opened lists what the browser was asked to open.
func (r *recorder) opened() []string {
	r.t.Helper()
	content, err := os.ReadFile(r.log)
	if err != nil {
		return nil
	}
	return strings.Fields(string(content))
}

// wait returns the n-th address once it was opened.
func (r *recorder) wait(n int) string {
	r.t.Helper()
	var list []string
	eventually(r.t, fmt.Sprintf("the browser is opened %d times", n), func() bool {
		list = r.opened()
		return len(list) >= n
	})
	return list[n-1]
}

// eventually looks until something is so, for what cannot tell by itself.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// stores lists the ids of the person's stores.
func (p *person) stores() []string {
	p.t.Helper()
	found, err := filepath.Glob(filepath.Join(p.home, ".local/state/apiauth/stores/*/store.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	var ids []string
	for _, f := range found {
		ids = append(ids, filepath.Base(filepath.Dir(f)))
	}
	return ids
}

// grants lists the files that belong to connections.
func (p *person) grants() []string {
	p.t.Helper()
	var found []string
	for _, suffix := range []string{"rec", "wal"} {
		list, err := filepath.Glob(filepath.Join(p.home, ".local/state/apiauth/stores/*/*/*."+suffix))
		if err != nil {
			p.t.Fatal(err)
		}
		for _, file := range list {
			if filepath.Base(filepath.Dir(file)) != "clients" {
				found = append(found, file)
			}
		}
	}
	return found
}

// waitExpired waits until a connection's token has expired by the clock.
func (p *person) waitExpired(name string) {
	p.t.Helper()
	type row struct {
		ExpiresAt time.Time `json:"expires_at"`
	}
	list := fromJSON[[]row](p.t, p.must("status", name, "--json"))
	if len(list) != 1 || list[0].ExpiresAt.IsZero() {
		p.t.Fatalf("status tells no expiry of %s", name)
	}
	left := time.NewTimer(time.Until(list[0].ExpiresAt))
	defer left.Stop()
	<-left.C
}

// fromJSON decodes what a command printed with --json.
func fromJSON[T any](t testing.TB, r result) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.out), &v); err != nil {
		t.Fatalf("the JSON of apiauth %s: %v", strings.Join(r.args, " "), err)
	}
	return v
}
