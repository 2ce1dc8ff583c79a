package peers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// BrowserOptions says what the person in front of the browser does.
type BrowserOptions struct {
	// Account is the name to sign in with; default "alice".
	Account string
	// Deny refuses consent.
	Deny bool
	// Stay reads the page that was opened and touches nothing.
	Stay bool
	// UserCode is typed where a device page asks for it.
	UserCode string
	// Screenshot keeps a picture of the last page also when all went well.
	Screenshot bool
}

// BrowserPeer is a real browser that a program under test can open: Chromium
// without a window, with a new profile each time.
type BrowserPeer struct {
	// Script is a program that takes an address, for $BROWSER.
	Script string
	// Dir holds the same program as xdg-open, to stand first in PATH.
	Dir string

	visits chan Visit
	mu     sync.Mutex
	starts int
}

// Visit is what came of one start of the browser.
type Visit struct {
	URL   string // of the last page; it may hold a code
	Title string
	Text  string // of the last page, as a person reads it
	Err   error  // why the visit did not get there
}

// Browser prepares a browser that signs in at the issuer of this package, or at
// any page with the same field names, consents, and waits for the page that the
// login ends on. It may be started many times. All of it ends with the test.
func Browser(t testing.TB, opts BrowserOptions) *BrowserPeer {
	t.Helper()
	needsUnix(t)
	modules := NodeModules(t)
	nodePath := node(t)
	chromium := Program(t, "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	b := &BrowserPeer{Dir: shortTempDir(t), visits: make(chan Visit, 64)}
	b.Script = filepath.Join(b.Dir, "browser")

	socket := filepath.Join(b.Dir, "socket")
	settings := map[string]any{
		"chromium": chromium, "socket": socket, "artifacts": Artifacts(t), "deny": opts.Deny, "stay": opts.Stay,
		"userCode": opts.UserCode, "screenshot": opts.Screenshot,
		"name": regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"),
	}
	if opts.Account != "" {
		settings["account"] = opts.Account
	}
	content, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	settingsFile := filepath.Join(b.Dir, "settings.json")
	script := "#!/bin/sh\nAPIAUTH_TEST_BROWSER=" + quote(settingsFile) + " TMPDIR=" + quote(b.Dir) +
		" exec " + quote(nodePath) + " " + quote(filepath.Join(filepath.Dir(modules), "browser.mjs")) + ` "$1"` + "\n"
	if err := errors.Join(
		os.WriteFile(settingsFile, content, 0o600),
		os.WriteFile(b.Script, []byte(script), 0o700),
		os.Symlink("browser", filepath.Join(b.Dir, "xdg-open")),
	); err != nil {
		t.Fatal(err)
	}
	b.listen(t, socket)
	return b
}

// listen takes down what each started browser tells, until the test ends; then
// it hangs up, whereupon a browser closes, and waits for each to be gone.
func (b *BrowserPeer) listen(t testing.TB, socket string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[*net.UnixConn]bool{}
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test ended
			}
			c, ok := conn.(*net.UnixConn)
			if !ok {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				b.follow(c)
				mu.Lock()
				delete(open, c)
				mu.Unlock()
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for c := range open {
			_ = c.CloseWrite()
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		}
		mu.Unlock()
		running.Wait()
	})
}

// follow reads one browser's words until it is gone. One that does not go in
// time is killed.
func (b *BrowserPeer) follow(c *net.UnixConn) {
	var pid int
	told := false
	lines := bufio.NewScanner(c)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var m struct {
			Event, URL, Title, Text, Error, Screenshot string
			PID                                        int
		}
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue
		}
		switch m.Event {
		case "start":
			pid = m.PID
			b.mu.Lock()
			b.starts++
			b.mu.Unlock()
		case "done":
			told = true
			b.visits <- Visit{URL: m.URL, Title: m.Title, Text: m.Text}
		case "failed":
			told = true
			if m.Screenshot != "" {
				m.Error += ", see " + m.Screenshot
			}
			b.visits <- Visit{Err: errors.New("the browser: " + m.Error)}
		}
	}
	if err := lines.Err(); err != nil && pid > 0 {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Kill()
		}
	}
	if !told {
		b.visits <- Visit{Err: errors.New("the browser ended before it got anywhere")}
	}
}

// Starts counts how often the browser was opened.
func (b *BrowserPeer) Starts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.starts
}

// Wait returns the next visit that has ended, or an error when ctx ends first.
func (b *BrowserPeer) Wait(ctx context.Context) (Visit, error) {
	select {
	case v := <-b.visits:
		return v, v.Err
	case <-ctx.Done():
		return Visit{}, fmt.Errorf("wait for the browser, which was started %d times: %w", b.Starts(), ctx.Err())
	}
}
