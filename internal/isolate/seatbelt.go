package isolate

import (
	"fmt"
	"strings"
)

// SandboxExec is where macOS has the program that applies a profile.
const SandboxExec = "/usr/bin/sandbox-exec"

// Seatbelt returns a profile for sandbox-exec with which a command reaches the
// proxy on loopback and no other address, reads nothing below the home directory
// but its project and programs, writes only its project and the temporary
// folders in temporary, and asks neither the keychain nor the clipboard. The
// last rule that matches counts.
//
// The language is not documented by Apple; the profiles that macOS ships in
// /System/Library/Sandbox/Profiles are its reference.
func Seatbelt(temporary []string, o Options) (string, error) {
	for _, p := range []*string{&o.Socket, &o.Control} {
		*p = o.Run // a process here shares the network, so there is no bridge
	}
	o, err := o.canonical()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	rule := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	rule("(version 1)")
	rule("(allow default)")
	rule("(deny network*)")
	rule(`(allow network-outbound (remote ip "localhost:%d"))`, o.Port)
	// A server of the command's own, such as that of a test, cannot be told from
	// another on loopback, so it may listen, and nobody inside reaches it.
	rule(`(allow network-bind network-inbound (local ip "localhost:*"))`)
	for _, name := range []string{"com.apple.SecurityServer", "com.apple.securityd", "com.apple.securityd.xpc", "com.apple.secd", "com.apple.pasteboard.1", "com.apple.coreservices.appleevents"} {
		rule("(deny mach-lookup (global-name %s))", literal(name))
	}
	rule("(deny appleevent-send)")
	rule("(deny process-info* (target others))")
	rule("(deny signal (target others))")
	rule("(deny file-write*)")
	rule(`(allow file-write* (subpath "/dev"))`)
	if o.Home != "" {
		for _, dir := range []string{o.Home, "/Library/Keychains"} {
			rule("(deny file-read* file-write* (subpath %s))", literal(dir))
		}
	}
	for _, dir := range temporary {
		rule("(allow file-read* file-write* (subpath %s))", literal(dir))
	}
	for _, dir := range o.programs() {
		rule("(allow file-read* (subpath %s))", literal(dir))
	}
	rule("(allow file-read* file-write* (subpath %s))", literal(o.Project))
	// The names on the way to the project are needed to reach it.
	if o.Home != "" && within(o.Project, o.Home) {
		rule("(allow file-read-metadata (path-ancestors %s))", literal(o.Project))
	}
	for _, file := range o.ReadOnly {
		rule("(deny file-write* (literal %s))", literal(file))
	}
	rule("(allow file-read* (subpath %s))", literal(o.Run))
	rule("(deny file-write* (subpath %s))", literal(o.Run))
	for _, path := range o.Hidden {
		rule("(deny file-read* file-write* (subpath %s))", literal(path))
	}
	return b.String(), nil
}

// literal writes a string of the profile's language.
func literal(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
