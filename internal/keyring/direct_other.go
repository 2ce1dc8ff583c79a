//go:build (dragonfly && cgo) || (freebsd && cgo) || netbsd || openbsd

package keyring

// direct is for Linux; here the library does it all.
type direct struct{}

func (*direct) get(_, _, _ string) (string, bool) { return "", false }
