//go:build linux

package keyring_test

import (
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/apiauth/apiauth/internal/keyring"
)

func TestClassifyBusErrors(t *testing.T) {
	const base = "org.freedesktop.DBus.Error."
	var cases []classification
	for name, kinds := range map[string][2]error{
		base + "ServiceUnknown":                     {keyring.ErrAbsent, keyring.ErrAbsent},
		base + "NameHasNoOwner":                     {keyring.ErrAbsent, keyring.ErrAbsent},
		base + "Spawn.ChildExited":                  {keyring.ErrAbsent, keyring.ErrAbsent},
		base + "Spawn.ExecFailed":                   {keyring.ErrAbsent, keyring.ErrAbsent},
		base + "NoReply":                            {keyring.ErrTimeout, keyring.ErrUnknown},
		base + "Timeout":                            {keyring.ErrTimeout, keyring.ErrUnknown},
		base + "TimedOut":                           {keyring.ErrTimeout, keyring.ErrUnknown},
		base + "Disconnected":                       {keyring.ErrTimeout, keyring.ErrUnknown},
		base + "AccessDenied":                       {keyring.ErrDenied, keyring.ErrDenied},
		base + "UnknownMethod":                      {keyring.ErrFailed, keyring.ErrFailed},
		base + "LimitsExceeded":                     {keyring.ErrFailed, keyring.ErrFailed},
		"org.freedesktop.Secret.Error.IsLocked":     {keyring.ErrLocked, keyring.ErrLocked},
		"org.freedesktop.Secret.Error.NoSuchObject": {keyring.ErrFailed, keyring.ErrFailed},
	} {
		// The text is the other side's; it must not decide.
		for _, body := range [][]any{nil, {"failed to unlock correct collection"}} {
			cases = append(cases,
				classification{name: name, err: dbus.Error{Name: name, Body: body}, get: kinds[0], set: kinds[1]},
				classification{name: "pointer " + name, err: dbus.NewError(name, body), get: kinds[0], set: kinds[1]})
		}
	}
	checkClassifications(t, "linux", cases)
}
