package keyring

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"
)

// busVariable is where the session bus is announced.
const busVariable = "DBUS_SESSION_BUS_ADDRESS"

// sessionBus returns the address of the session bus: the environment's, or
// the socket called bus in XDG_RUNTIME_DIR. Without either there is no
// keychain. It exists because the D-Bus library would look elsewhere and in
// the end run a dbus-launch that it finds in PATH, which starts a bus and a
// keychain that nobody can unlock.
func sessionBus(env func(string) string, stat func(string) (fs.FileInfo, error)) (string, error) {
	if address := env(busVariable); address != "" {
		return address, checkBusAddress(address)
	}
	dir := env("XDG_RUNTIME_DIR")
	if path.IsAbs(dir) {
		socket := path.Join(dir, "bus")
		if info, err := stat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
			return "unix:path=" + escapeBusValue(socket), nil
		}
	}
	return "", &reason{kind: ErrAbsent, text: "no D-Bus session: " + busVariable + " is not set and XDG_RUNTIME_DIR has no bus"}
}

// checkBusAddress accepts a list of unix sockets with absolute paths or
// abstract names. Everything else is refused: autolaunch: starts programs, a
// relative path is the working directory's choice, and tcp: carries secrets in
// clear to another machine.
func checkBusAddress(list string) error {
	refuse := func(why string) error {
		return &reason{kind: ErrAbsent, text: fmt.Sprintf("the session bus in %s is not used: %s", busVariable, why)}
	}
	if len(list) > 4096 {
		return refuse("the address is too long")
	}
	for address := range strings.SplitSeq(list, ";") {
		transport, keys, _ := strings.Cut(address, ":")
		if transport != "unix" {
			return refuse(fmt.Sprintf("only unix: addresses are, not %q", printable(transport, 40)+":"))
		}
		seen := 0
		for pair := range strings.SplitSeq(keys, ",") {
			key, value, _ := strings.Cut(pair, "=")
			value, err := url.PathUnescape(value)
			if err != nil || strings.ContainsRune(value, 0) {
				return refuse("the address is not well formed")
			}
			switch key {
			case "path":
				if !path.IsAbs(value) {
					return refuse("its path is relative")
				}
				seen++
			case "abstract":
				if value == "" {
					return refuse("the address is not well formed")
				}
				seen++
			case "guid":
			default:
				return refuse(fmt.Sprintf("the key %q is not known", printable(key, 40)))
			}
		}
		if seen != 1 {
			return refuse("it must name one socket")
		}
	}
	return nil
}

// escapeBusValue writes a value as D-Bus addresses have it.
func escapeBusValue(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(`-_/\.`, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// statFile follows links: a runtime directory may hold one.
func statFile(name string) (fs.FileInfo, error) { return os.Stat(name) }
