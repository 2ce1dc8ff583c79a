//go:build unix

package keyringtest

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience bounds every wait for a peer; nothing waits that long when all is
// well.
const patience = 20 * time.Second

// Bus is a private session for one test: a home, a runtime directory, and a
// D-Bus daemon, unless there is meant to be none.
type Bus struct {
	Address string // empty: no bus
	Home    string
	Runtime string // XDG_RUNTIME_DIR, without a socket called bus
}

// StartBus starts a D-Bus daemon that starts no service by itself, and ends
// it with the test. Without a dbus-daemon in PATH the test is skipped, or
// fails when APIAUTH_TEST_PEERS is "required".
func StartBus(t testing.TB) *Bus {
	t.Helper()
	program := peer(t, "dbus-daemon", "dbus")
	b := newSession(t)
	config := filepath.Join(b.Runtime, "bus.conf")
	socket := filepath.Join(b.Runtime, "private-bus")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=` + socket + `</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config-file="+config, "--print-address=1", "--nofork", "--nopidfile") //nolint:gosec // a peer of the tests
	cmd.Env = b.Env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon printed no address: %v", err)
	}
	b.Address = strings.TrimSpace(line)
	return b
}

// newSession makes the folders. They are not in t.TempDir, whose names can be
// too long for a socket.
func newSession(t testing.TB) *Bus {
	t.Helper()
	dir, err := os.MkdirTemp("", "apiauth-bus")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &Bus{Home: filepath.Join(dir, "home"), Runtime: filepath.Join(dir, "run")}
	for _, d := range []string{b.Home, b.Runtime} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// Env is the whole environment for a child process in this session. It has no
// display and none of the caller's variables but PATH.
func (b *Bus) Env() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.Home, "XDG_RUNTIME_DIR=" + b.Runtime}
	if b.Address != "" {
		env = append(env, "DBUS_SESSION_BUS_ADDRESS="+b.Address)
	}
	return env
}

// Lookup is Env for keyring.Options.
func (b *Bus) Lookup(name string) string {
	for _, pair := range b.Env() {
		if k, v, _ := strings.Cut(pair, "="); k == name {
			return v
		}
	}
	return ""
}

// Use makes this session the one of the test's own process until the test
// ends, and drops the connection that the D-Bus library shares. Tests that use
// it do not run in parallel.
func (b *Bus) Use(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", b.Runtime)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", b.Address)
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	if b.Address == "" {
		return
	}
	drop := func() {
		if conn, err := dbus.SessionBus(); err == nil {
			_ = conn.Close()
		}
	}
	drop()
	t.Cleanup(drop)
}

// connect opens a connection of its own, which ends with the test.
func (b *Bus) connect(t testing.TB) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		t.Fatalf("connect to the private bus: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// waitForName returns when somebody owns a name on the bus.
func (b *Bus) waitForName(t testing.TB, name string) {
	t.Helper()
	conn := b.connect(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)); err != nil {
		t.Fatal(err)
	}
	for {
		var owned bool
		if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil {
			t.Fatalf("ask for the owner of %s: %v", name, err)
		}
		if owned {
			return
		}
		select {
		case <-signals:
		case <-ctx.Done():
			t.Fatalf("nobody took the name %s on the private bus", name)
		}
	}
}

// peer finds a program that some tests need.
func peer(t testing.TB, program, packageName string) string {
	t.Helper()
	found, err := exec.LookPath(program)
	if err == nil {
		return found
	}
	text := fmt.Sprintf("%s is not installed (Debian package %s)", program, packageName)
	if os.Getenv("APIAUTH_TEST_PEERS") == "required" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// start runs a process and ends it with the test.
func start(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// socketPath is the path in the address of a private bus.
func (b *Bus) socketPath() string {
	for pair := range strings.SplitSeq(strings.TrimPrefix(b.Address, "unix:"), ",") {
		if v, ok := strings.CutPrefix(pair, "path="); ok {
			if p, err := url.PathUnescape(v); err == nil {
				return p
			}
		}
	}
	return ""
}

// Publish puts the bus where a session without DBUS_SESSION_BUS_ADDRESS finds
// it: as the socket called bus in the runtime directory.
func (b *Bus) Publish(t testing.TB) {
	t.Helper()
	if err := os.Symlink(b.socketPath(), filepath.Join(b.Runtime, "bus")); err != nil {
		t.Fatal(err)
	}
}
