package keyring_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	gokeyring "github.com/zalando/go-keyring"

	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/internal/secret"
)

// TestMain lets this binary stand in for a tool that ends with a status.
func TestMain(m *testing.M) {
	if status, err := strconv.Atoi(os.Getenv("KEYRING_TEST_EXIT")); err == nil {
		os.Exit(status)
	}
	os.Exit(m.Run())
}

// exitError is the real error of a process that ended with a status, which is
// all that the library passes on of the security tool.
func exitError(t *testing.T, status int) error {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this very binary
	cmd.Env = append(os.Environ(), fmt.Sprintf("KEYRING_TEST_EXIT=%d", status))
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != status {
		t.Fatalf("cannot make a process that ends with %d: %v", status, err)
	}
	return err
}

// kinds runs the three operations over a keychain that answers with err.
func kinds(t *testing.T, goos string, err error) (get, set, remove error) {
	t.Helper()
	m := keyringtest.NewMemory()
	m.Script(keyringtest.Fault{Skip: true, Err: err})
	k := keyring.New(keyring.Options{Backend: m, GOOS: goos, Budget: -1})
	_, get = k.Get(t.Context(), service, account)
	return get, k.Set(t.Context(), service, account, secret.New(canary)), k.Delete(t.Context(), service, account)
}

type classification struct {
	name     string
	err      error
	get, set error // the kinds; a Delete is like a Set, but ErrNotFound is nil
}

func checkClassifications(t *testing.T, goos string, cases []classification) {
	t.Helper()
	for _, c := range cases {
		t.Run(goos+" "+c.name, func(t *testing.T) {
			get, set, remove := kinds(t, goos, c.err)
			wantDelete := c.set
			if c.set == keyring.ErrNotFound {
				wantDelete = nil
			}
			for _, r := range []struct {
				op        string
				got, want error
			}{{"get", get, c.get}, {"set", set, c.set}, {"delete", remove, wantDelete}} {
				if r.want == nil {
					if r.got != nil {
						t.Errorf("%s: got %v, want no error", r.op, r.got)
					}
					continue
				}
				typed, ok := errors.AsType[*keyring.Error](r.got)
				if !ok || typed.Kind != r.want || !errors.Is(r.got, r.want) {
					t.Errorf("%s: got %v, want %v", r.op, r.got, r.want)
				}
			}
		})
	}
}

func TestClassifyEverywhere(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows", "freebsd"} {
		checkClassifications(t, goos, []classification{
			{name: "not found", err: gokeyring.ErrNotFound, get: keyring.ErrNotFound, set: keyring.ErrNotFound},
			{name: "too big", err: gokeyring.ErrSetDataTooBig, get: keyring.ErrTooLarge, set: keyring.ErrTooLarge},
			{name: "unsupported", err: gokeyring.ErrUnsupportedPlatform, get: keyring.ErrAbsent, set: keyring.ErrAbsent},
			{name: "unheard of", err: errors.New("something else"), get: keyring.ErrFailed, set: keyring.ErrFailed},
			{name: "wrapped", err: fmt.Errorf("wrapped: %w", keyring.ErrLocked), get: keyring.ErrLocked, set: keyring.ErrLocked},
			{name: "timeout", err: keyring.ErrTimeout, get: keyring.ErrTimeout, set: keyring.ErrUnknown},
		})
	}
}

func TestClassifyDarwin(t *testing.T) {
	var cases []classification
	for status, kind := range map[int]error{
		1: keyring.ErrFailed, 2: keyring.ErrFailed, 29: keyring.ErrLocked, 36: keyring.ErrLocked, 37: keyring.ErrAbsent,
		44: keyring.ErrNotFound, 45: keyring.ErrFailed, 50: keyring.ErrAbsent, 51: keyring.ErrDenied, 52: keyring.ErrDenied,
		53: keyring.ErrAbsent, 100: keyring.ErrDenied, 128: keyring.ErrDenied, 195: keyring.ErrDenied,
	} {
		cases = append(cases, classification{name: fmt.Sprint("status ", status), err: exitError(t, status), get: kind, set: kind})
	}
	cases = append(cases, classification{
		name: "no security tool", err: &fs.PathError{Op: "fork/exec", Path: "/usr/bin/security", Err: syscall.ENOENT},
		get: keyring.ErrAbsent, set: keyring.ErrAbsent,
	})
	checkClassifications(t, "darwin", cases)
}

// TestStatusOfOSStatus derives the statuses above from the numbers in Apple's
// SecBase.h: a process ends with the low byte.
func TestStatusOfOSStatus(t *testing.T) {
	for number, status := range map[int32]uint8{
		-25308: 36, -25315: 29, -25293: 51, -128: 128, -25292: 52, -25244: 100, -61: 195, -25307: 37, -25294: 50, -25291: 53, -25300: 44,
	} {
		if uint8(number) != status { //nolint:gosec // the low byte is meant
			t.Errorf("%d ends a process with %d, not %d", number, uint8(number), status) //nolint:gosec // likewise
		}
	}
}

func TestClassifyWindows(t *testing.T) {
	var cases []classification
	for number, kind := range map[syscall.Errno]error{
		5: keyring.ErrDenied, 87: keyring.ErrFailed, 1058: keyring.ErrAbsent, 1062: keyring.ErrAbsent, 1168: keyring.ErrNotFound,
		1223: keyring.ErrDenied, 1312: keyring.ErrAbsent, 1314: keyring.ErrDenied, 1722: keyring.ErrAbsent, 1783: keyring.ErrTooLarge,
		2202: keyring.ErrFailed,
	} {
		cases = append(cases, classification{name: fmt.Sprint("error ", uint(number)), err: number, get: kind, set: kind})
	}
	checkClassifications(t, "windows", cases)
}

func TestClassifySecretServiceTexts(t *testing.T) {
	checkClassifications(t, "linux", []classification{
		{name: "locked", err: errors.New("failed to unlock correct collection '/org/freedesktop/secrets/collection/login'"), get: keyring.ErrLocked, set: keyring.ErrLocked},
		{name: "never set up", err: errors.New("failed to unlock correct collection '/org/freedesktop/secrets/aliases/default'"), get: keyring.ErrLocked, set: keyring.ErrLocked},
		{name: "the same text inside another", err: errors.New("x: failed to unlock correct collection"), get: keyring.ErrFailed, set: keyring.ErrFailed},
		{name: "dbus-launch", err: &exec.Error{Name: "dbus-launch", Err: exec.ErrNotFound}, get: keyring.ErrAbsent, set: keyring.ErrAbsent},
		{name: "no address", err: errors.New("dbus: couldn't determine address of session bus"), get: keyring.ErrAbsent, set: keyring.ErrAbsent},
		{name: "bad address", err: errors.New("dbus: invalid bus address (invalid or unsupported transport)"), get: keyring.ErrAbsent, set: keyring.ErrAbsent},
		{name: "dead socket", err: &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}, get: keyring.ErrAbsent, set: keyring.ErrAbsent},
		{name: "foreign socket", err: &net.OpError{Op: "dial", Net: "unix", Err: syscall.EACCES}, get: keyring.ErrDenied, set: keyring.ErrDenied},
		{name: "foreign bus", err: errors.New("dbus: authentication failed"), get: keyring.ErrDenied, set: keyring.ErrDenied},
		{name: "bus ends", err: io.EOF, get: keyring.ErrTimeout, set: keyring.ErrUnknown},
		{name: "bus is closed", err: errors.New("dbus: connection closed by user"), get: keyring.ErrTimeout, set: keyring.ErrUnknown},
		{name: "broken pipe", err: &net.OpError{Op: "write", Net: "unix", Err: syscall.EPIPE}, get: keyring.ErrTimeout, set: keyring.ErrUnknown},
	})
}
