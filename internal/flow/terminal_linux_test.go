package flow_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/apiauth/apiauth/internal/flow"
)

// terminal opens a pseudo terminal and returns its two ends.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this machine has no pseudo terminals: %v", err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return master, slave
}

func mode(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// started is closed when the reader has switched the terminal, which it says by
// asking for bracketed paste.
type started struct {
	c   chan struct{}
	out bytes.Buffer
}

func (s *started) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "\x1b[?2004h") {
		close(s.c)
	}
	return s.out.Write(p)
}

// A line longer than the 4,095 bytes that a terminal edits itself arrives whole,
// nothing of it is echoed, and the terminal is as before.
func TestReadLineRawOnATerminal(t *testing.T) {
	master, slave := terminal(t)
	before := mode(t, slave)
	want := "https://issuer.example/?code=canary-" + strings.Repeat("x", 20000)
	on := &started{c: make(chan struct{})}
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := flow.ReadLineRaw(t.Context(), slave, on)
		got <- answer{line, err}
	}()
	<-on.c
	during := mode(t, slave)
	if during.Lflag&(unix.ECHO|unix.ICANON) != 0 || during.Oflag&unix.OPOST == 0 {
		t.Error("the terminal echoes, edits lines, or does not handle line ends")
	}
	if _, err := io.WriteString(master, want+"\rrm -rf canary\r"); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.err != nil || a.line != want {
		t.Errorf("%d of %d bytes, %v", len(a.line), len(want), a.err)
	}
	if mode(t, slave) != before {
		t.Error("the terminal is not as before")
	}
	if n, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ); err != nil || n != 0 {
		t.Errorf("%d bytes of the paste are left for the shell: %v", n, err)
	}
	if strings.Contains(on.out.String(), "canary") || !strings.HasSuffix(on.out.String(), "\x1b[?2004l") {
		t.Error("the line was shown, or bracketed paste stayed on")
	}
}

func TestTerminalIsRestored(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(master *os.File, cancel func())
		want error
	}{
		"Ctrl-C":  {func(m *os.File, _ func()) { _, _ = m.Write([]byte{3}) }, flow.ErrInterrupted},
		"Ctrl-D":  {func(m *os.File, _ func()) { _, _ = m.Write([]byte{4}) }, io.EOF},
		"context": {func(_ *os.File, cancel func()) { cancel() }, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := terminal(t)
			before := mode(t, slave)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			on := &started{c: make(chan struct{})}
			got := make(chan error, 1)
			go func() {
				_, err := flow.ReadLineRaw(ctx, slave, on)
				got <- err
			}()
			<-on.c
			end.do(master, cancel)
			if err := <-got; !errors.Is(err, end.want) {
				t.Errorf("%v, want %v", err, end.want)
			}
			if mode(t, slave) != before {
				t.Error("the terminal is not as before")
			}
		})
	}
}
