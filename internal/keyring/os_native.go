//go:build !((dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd)

package keyring

import gokeyring "github.com/zalando/go-keyring"

// osKeychain is the keychain of macOS or Windows, or none. On macOS the
// library runs /usr/bin/security by that path, on Windows it loads advapi32
// from the system's directory: nothing is looked up in PATH.
type osKeychain struct{}

func newOSKeychain(func(string) string) osKeychain { return osKeychain{} }

func (osKeychain) Get(service, account string) (string, error) {
	return gokeyring.Get(service, account)
}

func (osKeychain) Set(service, account, value string) error {
	return gokeyring.Set(service, account, value)
}

func (osKeychain) Delete(service, account string) error {
	return gokeyring.Delete(service, account)
}

// busErrorName returns nothing where there is no D-Bus.
func busErrorName(error) string { return "" }
