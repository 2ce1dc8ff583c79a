//go:build linux

package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// open uses a session's keychain in this process.
func open(t *testing.T, b *keyringtest.Bus, o keyring.Options) *keyring.Keyring {
	t.Helper()
	b.Use(t)
	if o.Env == nil {
		o.Env = b.Lookup
	}
	return keyring.New(o)
}

func TestGnomeKeyringStates(t *testing.T) {
	want := map[keyringtest.State]error{
		keyringtest.Locked: keyring.ErrLocked, keyringtest.NoPassword: keyring.ErrLocked,
		keyringtest.NoService: keyring.ErrAbsent, keyringtest.NoBus: keyring.ErrAbsent,
	}
	for _, state := range keyringtest.States() {
		t.Run(string(state), func(t *testing.T) {
			b := keyringtest.StartGnomeKeyring(t, state)
			k := open(t, b, keyring.Options{Budget: -1})
			if state == keyringtest.Unlocked {
				keyringtest.Conformance(t, k)
				return
			}
			start := time.Now()
			_, err := k.Get(t.Context(), service, account)
			for _, err := range []error{err, k.Set(t.Context(), service, account, secret.New(canary)), k.Delete(t.Context(), service, account)} {
				if !errors.Is(err, want[state]) {
					t.Errorf("got %v, want %v", err, want[state])
				}
				if err != nil && strings.Contains(err.Error(), canary) {
					t.Error("the error holds the value")
				}
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("three refusals took %v", d)
			}
		})
	}
}

func TestGnomeKeyringLockedHalfway(t *testing.T) {
	b := keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked)
	k := open(t, b, keyring.Options{Budget: -1})
	ctx := t.Context()
	if err := k.Set(ctx, service, account, secret.New(canary)); err != nil {
		t.Fatal(err)
	}
	b.Lock(t)
	if _, err := k.Get(ctx, service, account); !errors.Is(err, keyring.ErrLocked) {
		t.Errorf("locked: got %v, want ErrLocked", err)
	}
	b.Unlock(t)
	if got, err := k.Get(ctx, service, account); err != nil || !got.Equal(secret.New(canary)) {
		t.Errorf("unlocked again: the item is not read back: %v", err)
	}
}

func TestGnomeKeyringLargeAndParallel(t *testing.T) {
	b := keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked)
	k := open(t, b, keyring.Options{Interactive: true})
	large := secret.New(strings.Repeat("x", k.MaxValue()))
	if err := k.Set(t.Context(), service, "large", large); err != nil {
		t.Errorf("%d bytes: %v", large.Len(), err)
	}
	if got, err := k.Get(t.Context(), service, "large"); err != nil || !got.Equal(large) {
		t.Errorf("%d bytes are not read back: %v", large.Len(), err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			name := fmt.Sprintf("a%d", i)
			if err := k.Set(t.Context(), service, name, secret.New(name)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range 20 {
		name := fmt.Sprintf("a%d", i)
		if got, err := k.Get(t.Context(), service, name); err != nil || !got.Equal(secret.New(name)) {
			t.Errorf("%s is lost: %v", name, err)
		}
	}
}

// TestBusInRuntimeDirectory has no DBUS_SESSION_BUS_ADDRESS, as under cron or
// su, and a bus where the runtime directory has it.
func TestBusInRuntimeDirectory(t *testing.T) {
	b := keyringtest.StartBus(t)
	keyringtest.StartFake(t, b, keyringtest.OK)
	b.Publish(t)
	k := open(t, b, keyring.Options{Budget: -1, Env: func(name string) string {
		if name == "DBUS_SESSION_BUS_ADDRESS" {
			return ""
		}
		return b.Lookup(name)
	}})
	keyringtest.Conformance(t, k)
}

func TestFakeServiceConformance(t *testing.T) {
	b := keyringtest.StartBus(t)
	f := keyringtest.StartFake(t, b, keyringtest.OK)
	keyringtest.Conformance(t, open(t, b, keyring.Options{Budget: -1}))
	if n := len(f.Contents()); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

func TestFakeServiceFaults(t *testing.T) {
	display := map[string]string{"DISPLAY": ":77"}
	for _, c := range []struct {
		behaviour        keyringtest.Behaviour
		env              map[string]string
		get, set, delete error // over an item that exists
		kept             bool  // the item is as it was
	}{
		{keyringtest.HangAlways, nil, keyring.ErrTimeout, keyring.ErrUnknown, keyring.ErrUnknown, true},
		{keyringtest.HangWrites, nil, nil, keyring.ErrUnknown, keyring.ErrUnknown, true},
		{keyringtest.LateWrites, nil, nil, keyring.ErrUnknown, keyring.ErrUnknown, false},
		{keyringtest.LockedPromptDismissed, display, keyring.ErrDenied, keyring.ErrDenied, keyring.ErrDenied, true},
		{keyringtest.LockedPromptDismissed, nil, keyring.ErrLocked, keyring.ErrLocked, keyring.ErrLocked, true},
		{keyringtest.LockedPromptOpen, display, keyring.ErrTimeout, keyring.ErrUnknown, keyring.ErrUnknown, true},
		{keyringtest.WritePromptDismissed, display, nil, keyring.ErrDenied, keyring.ErrDenied, true},
		{keyringtest.LoseWrites, nil, nil, nil, nil, true},
		{keyringtest.RefuseOverwrite, nil, nil, keyring.ErrFailed, nil, false},
		{keyringtest.Slow, nil, nil, nil, nil, false},
		{keyringtest.WrongTypes, nil, keyring.ErrFailed, keyring.ErrUnknown, keyring.ErrUnknown, true},
		{keyringtest.LeaveInWrite, nil, nil, keyring.ErrUnknown, keyring.ErrAbsent, false},
		{keyringtest.EchoSecret, nil, nil, keyring.ErrFailed, nil, false},
	} {
		t.Run(fmt.Sprintf("%s %s", c.behaviour, c.env["DISPLAY"]), func(t *testing.T) {
			b := keyringtest.StartBus(t)
			f := keyringtest.StartFake(t, b, keyringtest.OK)
			env := func(name string) string {
				if v, ok := c.env[name]; ok {
					return v
				}
				return b.Lookup(name)
			}
			k := open(t, b, keyring.Options{Budget: -1, Env: env})
			if err := k.Set(t.Context(), service, account, secret.New("old")); err != nil {
				t.Fatal(err)
			}
			f.Behave(c.behaviour)
			check := func(op string, err, want error) {
				t.Helper()
				if want == nil && err != nil || !errors.Is(err, want) {
					t.Errorf("%s: got %v, want %v", op, err, want)
				}
				if want == keyring.ErrTimeout && errors.Is(err, keyring.ErrUnknown) {
					t.Errorf("%s: a read that timed out is an unknown write: %v", op, err)
				}
				if err != nil && strings.Contains(err.Error(), canary) {
					t.Errorf("%s: the error holds the value", op)
				}
			}
			// A new Keyring per call: an abandoned call would block the next.
			deadline := 250 * time.Millisecond
			if c.get != keyring.ErrTimeout && c.set != keyring.ErrUnknown ||
				c.behaviour == keyringtest.LeaveInWrite || c.behaviour == keyringtest.WrongTypes {
				deadline = 20 * time.Second // an answer is expected
			}
			one := func() *keyring.Keyring {
				return keyring.New(keyring.Options{Budget: -1, Deadline: deadline, Env: env})
			}
			_, err := one().Get(t.Context(), service, account)
			check("get", err, c.get)
			check("set", one().Set(t.Context(), service, account, secret.New(canary)), c.set)
			check("delete", one().Delete(t.Context(), service, account), c.delete)
			if kept := f.Contents()[service+"/"+account] == "old"; kept != c.kept && c.behaviour != keyringtest.LeaveInWrite {
				t.Errorf("the item is as it was: %v, want %v", kept, c.kept)
			}
		})
	}
}

// TestServiceGoneDuringPrompt: the library follows a nil pointer when the bus
// ends while it waits for a prompt; the process must live on.
func TestServiceGoneDuringPrompt(t *testing.T) {
	b := keyringtest.StartBus(t)
	f := keyringtest.StartFake(t, b, keyringtest.LockedPromptOpen)
	k := open(t, b, keyring.Options{Interactive: true})
	failed := make(chan error, 1)
	go func() {
		_, err := k.Get(t.Context(), service, account)
		failed <- err
	}()
	<-f.Prompted()
	conn, err := dbus.SessionBus()
	if err != nil {
		t.Fatal(err)
	}
	var id string // a round trip, so that the answer to the prompt is probably in
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Store(&id); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := <-failed; !errors.Is(err, keyring.ErrFailed) && !errors.Is(err, keyring.ErrTimeout) {
		t.Errorf("got %v, want ErrFailed or, when the bus was faster, ErrTimeout", err)
	}
}

// TestHangingServiceEndsInBudget is R-41: whatever a command tries, a Secret
// Service that never answers costs it the budget and no more.
func TestHangingServiceEndsInBudget(t *testing.T) {
	b := keyringtest.StartBus(t)
	keyringtest.StartFake(t, b, keyringtest.HangAlways)
	k := open(t, b, keyring.Options{Budget: 500 * time.Millisecond})
	start := time.Now()
	for range 20 {
		if _, err := k.Get(t.Context(), service, account); !errors.Is(err, keyring.ErrTimeout) {
			t.Fatalf("got %v, want ErrTimeout", err)
		}
	}
	if d := time.Since(start); d < 400*time.Millisecond || d > 3*time.Second {
		t.Errorf("20 calls took %v with a budget of 500 ms", d)
	}
}

// TestBusThatNeverAnswers is a socket that accepts and says nothing.
func TestBusThatNeverAnswers(t *testing.T) {
	dir, err := os.MkdirTemp("", "apiauth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
		close(accepted)
	}()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+socket)
	ctx, cancel := context.WithCancel(t.Context())
	k := keyring.New(keyring.Options{Interactive: true})
	failed := make(chan error, 1)
	go func() { failed <- k.Set(ctx, service, account, secret.New(canary)) }()
	c := <-accepted
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) || !errors.Is(err, keyring.ErrUnknown) {
		t.Errorf("got %v, want a cancelled, unknown write", err)
	}
	_ = c.Close() // ends the library's wait
	_ = l.Close()
	k = keyring.New(keyring.Options{Interactive: true, Env: func(string) string { return "" }})
	if err := k.Set(t.Context(), service, account, secret.New(canary)); !errors.Is(err, keyring.ErrAbsent) {
		t.Errorf("got %v, want ErrAbsent", err)
	}
}

// TestNoAutolaunch is R-113: no address, or one that starts programs, leads
// elsewhere or depends on the working directory, ends at once with ErrAbsent,
// and a dbus-launch in PATH or in the working directory never runs.
func TestNoAutolaunch(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "launched")
	script := "#!/bin/sh\n: > '" + mark + "'\n"
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(script), 0o700); err != nil { //nolint:gosec // must be executable
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bus"), nil, 0o600); err != nil { // a file, not a socket
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":.:"+os.Getenv("PATH"))
	t.Chdir(dir)
	for _, c := range []struct{ name, address, runtime string }{
		{"nothing", "", ""},
		{"no socket", "", dir},
		{"relative runtime directory", "", "."},
		{"runtime directory is missing", "", dir + "/none"},
		{"autolaunch", "autolaunch:", ""},
		{"autolaunch with a scope", "autolaunch:scope=*user", ""},
		{"autolaunch second", "unix:path=/nonexistent/bus;autolaunch:", ""},
		{"unixexec", "unixexec:path=./dbus-launch", ""},
		{"tcp", "tcp:host=127.0.0.1,port=1", ""},
		{"nonce-tcp", "nonce-tcp:host=127.0.0.1,port=1,noncefile=/etc/hostname", ""},
		{"relative", "unix:path=bus", ""},
		{"relative with a dot", "unix:path=./bus", ""},
		{"relative, escaped", "unix:path=%2e%2fbus", ""},
		{"two paths", "unix:path=/a,path=bus", ""},
		{"path and abstract", "unix:path=/a,abstract=b", ""},
		{"no path", "unix:", ""},
		{"only a guid", "unix:guid=0123", ""},
		{"empty path", "unix:path=", ""},
		{"unknown key", "unix:path=/a,tmpdir=/tmp", ""},
		{"bad escape", "unix:path=/%zz", ""},
		{"nul", "unix:path=/a%00b", ""},
		{"no transport", "garbage", ""},
		{"trailing", "unix:path=/nonexistent/bus;", ""},
		{"long", "unix:path=/" + strings.Repeat("a", 5000), ""},
		{"control characters", "\x1b[31m:path=/a", ""},
		{"dead socket", "unix:path=" + dir + "/gone", ""},
		{"not a socket", "unix:path=" + dir + "/bus", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", c.address)
			t.Setenv("XDG_RUNTIME_DIR", c.runtime)
			start := time.Now()
			_, err := keyring.New(keyring.Options{}).Get(t.Context(), service, account)
			if !errors.Is(err, keyring.ErrAbsent) {
				t.Errorf("got %v, want ErrAbsent", err)
			}
			if err != nil && strings.Contains(err.Error(), "\x1b") {
				t.Error("the error holds a control character")
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("dbus-launch was run")
	}
}
