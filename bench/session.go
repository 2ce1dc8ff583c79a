//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// session is a private D-Bus session with an unlocked gnome-keyring, so that
// nothing of the caller's keychain is touched.
type session struct {
	env     []string
	daemons []*exec.Cmd
}

// startSession makes a home and a runtime folder below dir, and starts both
// daemons.
func startSession(dir string) (*session, error) {
	home, run := filepath.Join(dir, "home"), filepath.Join(dir, "run")
	for _, d := range []string{home, run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	socket := filepath.Join(run, "bench-bus")
	config := filepath.Join(run, "bus.conf")
	// Without service folders: a client that is too early must not start a
	// second, locked keychain.
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=` + socket + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &session{env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + run, "LANG=C.UTF-8"}}
	bus := exec.Command("dbus-daemon", "--config-file="+config, "--print-address=1", "--nofork", "--nopidfile") //nolint:gosec,noctx // ended by close
	bus.Env = s.env
	out, err := bus.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.start(bus); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.close()
		return nil, fmt.Errorf("the bus printed no address: %w", err)
	}
	s.env = append(s.env, "DBUS_SESSION_BUS_ADDRESS="+strings.TrimSpace(address))
	keychain := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets") //nolint:noctx // ended by close
	keychain.Env = s.env
	keychain.Stdin = strings.NewReader("bench")
	if err := s.start(keychain); err != nil {
		s.close()
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if s.hasKeychain() {
			return s, nil
		}
		if time.Now().After(end) {
			s.close()
			return nil, errors.New("the keychain did not come up")
		}
	}
}

func (s *session) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	s.daemons = append(s.daemons, cmd)
	return nil
}

// hasKeychain asks the bus and not the service.
func (s *session) hasKeychain() bool {
	//nolint:noctx // a moment
	cmd := exec.Command("dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.DBus",
		"/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets")
	cmd.Env = s.env
	out, err := cmd.Output()
	return err == nil && bytes.Contains(out, []byte("true"))
}

// alive reports whether the keychain is the process that was started.
func (s *session) alive() bool {
	return s.hasKeychain() && s.daemons[len(s.daemons)-1].ProcessState == nil
}

func (s *session) close() {
	for i := len(s.daemons) - 1; i >= 0; i-- {
		_ = s.daemons[i].Process.Kill()
		_ = s.daemons[i].Wait()
	}
	s.daemons = nil
}
