package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

const (
	service = "apiauth.0123456789abcdef"
	account = "p1.spotify.grant"
	canary  = "canary-3f9a-keyring"
)

func TestConformanceMemory(t *testing.T) {
	keyringtest.Conformance(t, keyring.New(keyring.Options{Backend: keyringtest.NewMemory(), Budget: -1}))
}

func TestNamesThatAreNeverSent(t *testing.T) {
	good := []string{"a", "A-Z.a_z-0.9", strings.Repeat("n", 200), "..", "-x"}
	bad := []string{
		"", " ", "a b", `a\b`, "it's", `a"b`, "a:b", "a/b", "line\nbreak", "tab\t", "nul\x00", "\x1b[31mred", "émoji", "😀",
		strings.Repeat("n", 201), strings.Repeat("n", 10<<10), "\xff",
	}
	m := keyringtest.NewMemory()
	k := keyring.New(keyring.Options{Backend: m, Budget: -1})
	ctx := t.Context()
	for _, name := range good {
		if err := k.Set(ctx, name, name, secret.New(canary)); err != nil {
			t.Errorf("%.40q is refused: %v", name, err)
		}
		if got, err := k.Get(ctx, name, name); err != nil || !got.Equal(secret.New(canary)) {
			t.Errorf("%.40q is not read back: %v", name, err)
		}
		if err := k.Delete(ctx, name, name); err != nil {
			t.Errorf("%.40q is not deleted: %v", name, err)
		}
	}
	if n := len(m.Contents()); n != 0 {
		t.Fatalf("%d items are left", n)
	}
	before := m.Calls(keyringtest.Any)
	for _, name := range bad {
		for _, pair := range [][2]string{{name, "ok"}, {"ok", name}} {
			_, err := k.Get(ctx, pair[0], pair[1])
			for _, err := range []error{err, k.Set(ctx, pair[0], pair[1], secret.New(canary)), k.Delete(ctx, pair[0], pair[1])} {
				if !errors.Is(err, keyring.ErrName) {
					t.Errorf("%.40q: got %v, want ErrName", name, err)
					continue
				}
				if text := err.Error(); strings.ContainsAny(text, "\x00\x1b\n\t") || len(text) > 600 {
					t.Errorf("the error for %.40q is not fit for a terminal: %.700q", name, text)
				}
			}
		}
	}
	if m.Calls(keyringtest.Any) != before {
		t.Error("a refused name reached the backend")
	}
}

func TestLimits(t *testing.T) {
	longest := strings.Repeat("n", 200)
	for _, c := range []struct {
		goos             string
		max              int // MaxValue
		service, account string
		fits             int // what fits under these names
	}{
		{"linux", 1 << 20, service, account, 1 << 20},
		{"freebsd", 1 << 20, longest, longest, 1 << 20},
		{"windows", 2560, longest, longest, 2560},
		{"darwin", 2730, longest, longest, 2730},
		{"darwin", 2730, service, account, 3000},
	} {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, GOOS: c.goos, Budget: -1})
		if k.MaxValue() != c.max {
			t.Errorf("%s: MaxValue is %d, want %d", c.goos, k.MaxValue(), c.max)
		}
		if err := k.Set(t.Context(), c.service, c.account, secret.New(strings.Repeat("v", c.fits))); err != nil {
			t.Errorf("%s: %d bytes do not fit: %v", c.goos, c.fits, err)
		}
		sent := m.Calls(keyringtest.Set)
		err := k.Set(t.Context(), c.service, c.account, secret.New(strings.Repeat("v", c.fits+1)))
		if !errors.Is(err, keyring.ErrTooLarge) {
			t.Errorf("%s: %d bytes: got %v, want ErrTooLarge", c.goos, c.fits+1, err)
		}
		if m.Calls(keyringtest.Set) != sent {
			t.Errorf("%s: a value that does not fit was sent", c.goos)
		}
	}
}

// TestSecurityLine builds the line that the library writes to the security
// tool of macOS: at the limit it has 4,095 bytes at most.
func TestSecurityLine(t *testing.T) {
	for _, names := range [][2]string{{service, account}, {strings.Repeat("s", 200), strings.Repeat("a", 200)}, {"s", "a"}} {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, GOOS: "darwin", Budget: -1})
		n := k.MaxValue()
		for k.Set(t.Context(), names[0], names[1], secret.New(strings.Repeat("v", n+1))) == nil {
			n++
		}
		line := len(fmt.Sprintf("add-generic-password -U -s %s -a %s -w %s\n", names[0], names[1],
			"go-keyring-base64:"+strings.Repeat("b", (n+2)/3*4)))
		if line > 4095 || line < 4092 {
			t.Errorf("names of %d and %d bytes: a value of %d bytes makes a line of %d", len(names[0]), len(names[1]), n, line)
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, c := range []struct {
		name    string
		options keyring.Options
		first   time.Duration // how long the first call waits
		second  time.Duration // and the second, after the first ended late
	}{
		{"not interactive", keyring.Options{}, 4 * time.Second, 0},
		{"interactive", keyring.Options{Interactive: true}, 30 * time.Second, 30 * time.Second},
		{"budget above the deadline", keyring.Options{Deadline: time.Second, Budget: 1500 * time.Millisecond}, time.Second, 500 * time.Millisecond},
		{"no budget", keyring.Options{Deadline: time.Second, Budget: -1}, time.Second, time.Second},
		{"no budget when interactive", keyring.Options{Interactive: true, Deadline: time.Second, Budget: time.Second}, time.Second, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := keyringtest.NewMemory()
				c.options.Backend = m
				k := keyring.New(c.options)
				for _, want := range []time.Duration{c.first, c.second} {
					release := m.Hang(keyringtest.Get)
					start := time.Now()
					_, err := k.Get(t.Context(), service, account)
					if got := time.Since(start); got != want {
						t.Errorf("waited %v, want %v", got, want)
					}
					if !errors.Is(err, keyring.ErrTimeout) || errors.Is(err, keyring.ErrUnknown) {
						t.Errorf("got %v, want ErrTimeout", err)
					}
					release()
					m.Heal()
					synctest.Wait()
				}
			})
		})
	}
}

func TestHangRefusesQuicklyAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, Budget: -1})
		m.Put(service, account, canary)
		release := m.Hang(keyringtest.Any)
		if err := k.Set(t.Context(), service, account, secret.New("new")); !errors.Is(err, keyring.ErrUnknown) || !errors.Is(err, keyring.ErrTimeout) {
			t.Fatalf("got %v, want ErrUnknown", err)
		}
		start := time.Now()
		_, err := k.Get(t.Context(), service, account)
		if !errors.Is(err, keyring.ErrTimeout) {
			t.Errorf("get: got %v, want ErrTimeout", err)
		}
		// This write never starts, so its outcome is known.
		if err := k.Set(t.Context(), service, account, secret.New("newer")); !errors.Is(err, keyring.ErrTimeout) || errors.Is(err, keyring.ErrUnknown) {
			t.Errorf("set: got %v, want ErrTimeout and not ErrUnknown", err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("calls behind a stuck one waited %v", waited)
		}
		if n := m.Calls(keyringtest.Any); n != 1 {
			t.Errorf("%d calls reached the backend, want 1", n)
		}
		m.Heal()
		release()
		synctest.Wait() // the late answer comes in and is dropped
		got, err := k.Get(t.Context(), service, account)
		if err != nil || !got.Equal(secret.New("new")) {
			t.Errorf("after the stuck call ended: %v; want the value of the write that was unknown", err)
		}
	})
}

func TestAnswerAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, Budget: -1})
		release := m.AnswerLate(keyringtest.Set)
		if err := k.Set(t.Context(), service, account, secret.New(canary)); !errors.Is(err, keyring.ErrUnknown) {
			t.Fatalf("got %v, want ErrUnknown", err)
		}
		if m.Contents()[service+"/"+account] != canary {
			t.Fatal("the fault did not write")
		}
		release()
		release()
	})
}

func TestCancelReturnsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, Interactive: true})
		release := m.Hang(keyringtest.Any)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 2)
		start := time.Now()
		go func() { results <- k.Set(ctx, service, account, secret.New(canary)) }()
		<-m.Entered()
		go func() { // waits for its turn
			_, err := k.Get(ctx, service, account)
			results <- err
		}()
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a cancellation", err)
			}
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v after the cancellation", waited)
		}
		if n := m.Calls(keyringtest.Any); n != 1 {
			t.Errorf("%d calls reached the backend, want 1", n)
		}
		if err := k.Delete(ctx, service, account); !errors.Is(err, context.Canceled) || errors.Is(err, keyring.ErrUnknown) {
			t.Errorf("got %v, want a cancellation of a write that was not started", err)
		}
		release()
	})
}

func TestCancelledWriteIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m})
		release := m.Hang(keyringtest.Set)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := k.Set(ctx, service, account, secret.New(canary))
		if !errors.Is(err, keyring.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrUnknown and the context's error", err)
		}
		release()
	})
}

func TestOneCallAtATime(t *testing.T) {
	m := keyringtest.NewMemory()
	k := keyring.New(keyring.Options{Backend: m, Interactive: true})
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			name := fmt.Sprintf("a%d", i)
			if err := k.Set(t.Context(), service, name, secret.New(name)); err != nil {
				t.Error(err)
			}
			if got, err := k.Get(t.Context(), service, name); err != nil || !got.Equal(secret.New(name)) {
				t.Errorf("not read back: %v", err)
			}
		})
	}
	all.Wait()
	if m.MaxParallel() != 1 {
		t.Errorf("%d calls were in the backend at once", m.MaxParallel())
	}
	if n := len(m.Contents()); n != 64 {
		t.Errorf("%d items, want 64", n)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(*keyringtest.Memory)
		want  error // of Set over an existing item
	}{
		{"locked", (*keyringtest.Memory).Lock, keyring.ErrLocked},
		{"absent", (*keyringtest.Memory).Absent, keyring.ErrAbsent},
		{"denied", func(m *keyringtest.Memory) { m.Deny(keyringtest.Set) }, keyring.ErrDenied},
		{"refuses overwrites", (*keyringtest.Memory).RefuseOverwrites, keyring.ErrFailed},
		{"too large", func(m *keyringtest.Memory) { m.MaxSize(4) }, keyring.ErrTooLarge},
		{"timeout of its own", func(m *keyringtest.Memory) {
			m.Script(keyringtest.Fault{Op: keyringtest.Set, Err: keyring.ErrTimeout})
		}, keyring.ErrUnknown},
		{"panic", func(m *keyringtest.Memory) { m.Script(keyringtest.Fault{Panic: true}) }, keyring.ErrUnknown},
		{"lost", (*keyringtest.Memory).LoseWrites, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := keyringtest.NewMemory()
			k := keyring.New(keyring.Options{Backend: m, Budget: -1})
			m.Put(service, account, "old")
			c.fault(m)
			err := k.Set(t.Context(), service, account, secret.New(canary))
			if c.want == nil && err != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			var typed *keyring.Error
			if err != nil && (!errors.As(err, &typed) || typed.Op != "set" || typed.Service != service || typed.Account != account || typed.Kind != c.want) {
				t.Errorf("the error has no type or other fields: %v", err)
			}
			if c.name == "lost" && m.Contents()[service+"/"+account] != "old" {
				t.Error("the write was not lost")
			}
			m.Heal()
			if err := k.Set(t.Context(), service, account, secret.New(canary)); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestFaultTimes(t *testing.T) {
	m := keyringtest.NewMemory()
	k := keyring.New(keyring.Options{Backend: m, Budget: -1})
	m.Script(keyringtest.Fault{Op: keyringtest.Get, Times: 2, Err: keyring.ErrDenied,
		Match: func(_, account string) bool { return account == "x" }})
	for i, c := range []struct {
		account string
		want    error
	}{{"y", keyring.ErrNotFound}, {"x", keyring.ErrDenied}, {"x", keyring.ErrDenied}, {"x", keyring.ErrNotFound}} {
		if _, err := k.Get(t.Context(), service, c.account); !errors.Is(err, c.want) {
			t.Errorf("call %d: got %v, want %v", i, err, c.want)
		}
	}
	if m.Calls(keyringtest.Get) != 4 || m.Calls(keyringtest.Set) != 0 || m.Calls(keyringtest.Any) != 4 {
		t.Error("the calls are not counted right")
	}
}

// TestErrorNeverHoldsTheValue has a keychain that repeats the value in its
// message, or answers with what could steer a terminal.
func TestErrorNeverHoldsTheValue(t *testing.T) {
	for _, text := range []string{
		"cannot store " + canary, "cannot store Y2FuYXJ5LTNmOWEta2V5cmluZw==",
		"\x1b]0;" + canary + "\a", "a\nb\u202ec\x9b" + strings.Repeat("long ", 200),
	} {
		m := keyringtest.NewMemory()
		k := keyring.New(keyring.Options{Backend: m, Budget: -1})
		m.Script(keyringtest.Fault{Err: errors.New(text)})
		err := k.Set(t.Context(), service, account, secret.New(canary))
		if err == nil {
			t.Fatal("no error")
		}
		for e := range chain(err) {
			for _, form := range []string{canary, "Y2FuYXJ5"} {
				if strings.Contains(fmt.Sprintf("%v %+v %#v %q", e, e, e, e), form) {
					t.Errorf("an error of type %T holds the value", e)
				}
			}
		}
		if s := err.Error(); strings.ContainsAny(s, "\x1b\a\n\u202e\u009b") || len(s) > 700 {
			t.Errorf("the text is not fit for a terminal: %q", s)
		}
	}
}

// chain walks the tree of an error.
func chain(err error) func(func(error) bool) {
	var walk func(error, func(error) bool) bool
	walk = func(err error, yield func(error) bool) bool {
		if err == nil || !yield(err) {
			return err == nil
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			return walk(e.Unwrap(), yield)
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				if !walk(inner, yield) {
					return false
				}
			}
		}
		return true
	}
	return func(yield func(error) bool) { walk(err, yield) }
}

func TestHostileAnswer(t *testing.T) {
	m := keyringtest.NewMemory()
	k := keyring.New(keyring.Options{Backend: m, Budget: -1})
	m.Put(service, account, strings.Repeat("x", 16<<20+1))
	if _, err := k.Get(t.Context(), service, account); !errors.Is(err, keyring.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestDescribe(t *testing.T) {
	for goos, want := range map[string]string{
		"darwin": "macOS keychain", "windows": "Windows Credential Manager",
		"linux": "Secret Service (GNOME keyring, KWallet, KeePassXC)",
	} {
		if got := keyring.New(keyring.Options{GOOS: goos}).Describe(); got != want {
			t.Errorf("%s: %q", goos, got)
		}
	}
}
