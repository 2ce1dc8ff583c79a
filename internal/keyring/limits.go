package keyring

import "fmt"

const (
	maxName    = 200
	maxRead    = 16 << 20 // bytes of an item; no item of ours comes near
	maxGeneric = 1 << 20  // bytes; a sane bound where the keychain has none
	maxWindows = 2560     // CRED_MAX_CREDENTIAL_BLOB_SIZE, in bytes

	// The library hands the value to `security -i` as one line, base64 coded
	// and with a prefix. The tool reads at most 4,095 bytes of a line, the
	// newline included; the rest would run as a command of its own, and at
	// 4,096 bytes, which the library lets through, a failed write is reported
	// as done (https://github.com/zalando/go-keyring/issues/153). The library
	// also starts the tool before it looks at the length.
	maxSecurityLine     = 4095
	securityLineWithout = len("add-generic-password -U -s  -a  -w \n") + len("go-keyring-base64:")
)

// MaxValue returns the largest value in bytes that Set takes under any name:
// 2,560 on Windows, 2,730 on macOS (short names leave room for up to 3,000),
// 1 MiB elsewhere.
func (k *Keyring) MaxValue() int { return largest(k.goos, 2*maxName) }

// largest returns the largest value in bytes for one item.
func (k *Keyring) largest(service, account string) int {
	return largest(k.goos, len(service)+len(account))
}

func largest(goos string, names int) int {
	switch goos {
	case "windows":
		return maxWindows
	case "darwin":
		return (maxSecurityLine - securityLineWithout - names) / 4 * 3 // base64
	}
	return maxGeneric
}

// checkNames accepts names of the characters A-Z a-z 0-9 . _ - only, 1 to 200
// of them: one keychain joins names with a colon, one puts them on a command
// line, and one shows them to people.
func checkNames(service, account string) error {
	if !validName(service) {
		return fmt.Errorf("the service must be 1 to %d of the characters A-Z a-z 0-9 . _ -", maxName)
	}
	if !validName(account) {
		return fmt.Errorf("the account must be 1 to %d of the characters A-Z a-z 0-9 . _ -", maxName)
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}
