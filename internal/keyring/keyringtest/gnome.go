//go:build unix

package keyringtest

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// State is what a session's keychain is like.
type State string

// The states in which people's machines are found.
const (
	Unlocked   State = "unlocked"
	Locked     State = "locked"      // set up, then locked; no display to ask on
	NoPassword State = "no password" // never set up: it runs, without a collection
	NoService  State = "no service"  // a bus on which nobody is a keychain
	NoBus      State = "no bus"
)

// States lists them all.
func States() []State { return []State{Unlocked, Locked, NoPassword, NoService, NoBus} }

const (
	secretsName     = "org.freedesktop.secrets"
	secretsPath     = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection = secretsPath + "/collection/login"
	keychainPass    = "test"
)

// StartGnomeKeyring starts the real gnome-keyring in a session of its own and
// ends it with the test. A missing program skips the test, or fails it when
// APIAUTH_TEST_PEERS is "required".
func StartGnomeKeyring(t testing.TB, state State) *Bus {
	t.Helper()
	if state == NoBus {
		return newSession(t)
	}
	if state == NoService {
		return StartBus(t)
	}
	program := peer(t, "gnome-keyring-daemon", "gnome-keyring")
	b := StartBus(t)
	args := []string{"--foreground", "--components=secrets"}
	if state != NoPassword {
		args = append(args, "--unlock")
	}
	cmd := exec.Command(program, args...) //nolint:gosec // a peer of the tests
	cmd.Env = b.Env()
	cmd.Stdin = strings.NewReader(keychainPass)
	start(t, cmd)
	b.waitForName(t, secretsName)
	if state == Locked {
		b.Lock(t)
	}
	return b
}

// Lock locks the login collection.
func (b *Bus) Lock(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	if err := b.connect(t).Object(secretsName, secretsPath).CallWithContext(ctx, "org.freedesktop.Secret.Service.Lock", 0,
		[]dbus.ObjectPath{loginCollection}).Store(&locked, &prompt); err != nil || len(locked) != 1 {
		t.Fatalf("lock the keychain: %v", err)
	}
}

// Unlock unlocks gnome-keyring's login collection without a prompt.
func (b *Bus) Unlock(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := b.connect(t)
	var output dbus.Variant
	var session dbus.ObjectPath
	if err := conn.Object(secretsName, secretsPath).CallWithContext(ctx, "org.freedesktop.Secret.Service.OpenSession", 0,
		"plain", dbus.MakeVariant("")).Store(&output, &session); err != nil {
		t.Fatalf("unlock the keychain: %v", err)
	}
	master := wireSecret{Session: session, Parameters: []byte{}, Value: []byte(keychainPass), ContentType: "text/plain"}
	if err := conn.Object(secretsName, secretsPath).CallWithContext(ctx,
		"org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.UnlockWithMasterPassword", 0,
		loginCollection, master).Err; err != nil {
		t.Fatalf("unlock the keychain: %v", err)
	}
}

// wireSecret is a secret as the Secret Service sends it.
type wireSecret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}
