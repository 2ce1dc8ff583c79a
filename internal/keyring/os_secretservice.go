//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring

import (
	"errors"
	"os"

	"github.com/godbus/dbus/v5"
	gokeyring "github.com/zalando/go-keyring"
)

// osKeychain is the Secret Service on the session bus.
type osKeychain struct {
	env    func(string) string
	direct *direct
}

func newOSKeychain(env func(string) string) osKeychain {
	return osKeychain{env: env, direct: new(direct)}
}

func (o osKeychain) Get(service, account string) (value string, err error) {
	if address, err := sessionBus(o.env, statFile); err == nil {
		if value, ok := o.direct.get(address, service, account); ok {
			return value, nil
		}
	}
	err = o.watch(func() error {
		value, err = gokeyring.Get(service, account)
		return err
	})
	return value, err
}

func (o osKeychain) Set(service, account, value string) error {
	return o.watch(func() error { return gokeyring.Set(service, account, value) })
}

func (o osKeychain) Delete(service, account string) error {
	return o.watch(func() error { return gokeyring.Delete(service, account) })
}

// watch runs do on the session bus that was checked, and turns the dismissal
// of a prompt into ErrDenied. The library overlooks it: it reports a locked
// collection, or, when the prompt was for the write itself, success.
func (o osKeychain) watch(do func() error) error {
	address, err := sessionBus(o.env, statFile)
	if err != nil {
		return err
	}
	// The library takes the address from the process's environment and looks
	// for another one, or launches one, where it is empty.
	if os.Getenv(busVariable) != address {
		if err := os.Setenv(busVariable, address); err != nil {
			return err
		}
	}
	conn, err := dbus.SessionBus() // the connection that the library will use
	if err != nil {
		return err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	err = do()
	conn.RemoveSignal(signals)
	if !dismissed(signals) || errors.Is(err, gokeyring.ErrNotFound) {
		return err
	}
	if o.env("DISPLAY") == "" && o.env("WAYLAND_DISPLAY") == "" {
		// Nobody has seen a prompt: the keychain could not show one.
		return &reason{kind: ErrLocked, text: "it could not ask for its password, as there is no display", err: err}
	}
	return &reason{kind: ErrDenied, text: "its prompt was dismissed", err: err}
}

// dismissed says whether a prompt ended without consent. The library's own
// channel is served after this one, so all is there.
func dismissed(signals <-chan *dbus.Signal) bool {
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return false
			}
			if s.Name != "org.freedesktop.Secret.Prompt.Completed" || len(s.Body) == 0 {
				continue
			}
			if d, ok := s.Body[0].(bool); ok && d {
				return true
			}
		default:
			return false
		}
	}
}

// busErrorName returns the name of a D-Bus error, or nothing.
func busErrorName(err error) string {
	var e dbus.Error
	if errors.As(err, &e) {
		return e.Name
	}
	var p *dbus.Error
	if errors.As(err, &p) {
		return p.Name
	}
	return ""
}
