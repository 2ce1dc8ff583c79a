package prompt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudo opens a pseudo terminal and returns its two ends.
func pseudo(t *testing.T) (master, slave *os.File) {
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

// onTerminal is begin, with keys from a pseudo terminal.
func onTerminal(t *testing.T, put func(ctx context.Context, term Terminal) error) (r *rig, slave *os.File) {
	t.Helper()
	master, slave := pseudo(t)
	ctx, cancel := context.WithCancel(t.Context())
	r = &rig{t: t, screen: newScreenModel(60, 12), keys: master, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = put(ctx, Terminal{In: slave, Out: r.screen, Size: r.screen.size})
	}()
	t.Cleanup(func() { cancel(); <-r.ended })
	return r, slave
}

func TestTerminalIsRestored(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		do   func(r *rig)
		want error
	}{
		"answer":  {func(r *rig) { r.press("\r") }, nil},
		"Ctrl-C":  {func(r *rig) { r.press("\x03") }, ErrInterrupted},
		"Ctrl-D":  {func(r *rig) { r.press("\x04") }, ErrEnded},
		"context": {func(r *rig) { r.cancel() }, context.Canceled},
		"panic":   {func(r *rig) { r.press("P") }, boom},
	} {
		t.Run(name, func(t *testing.T) {
			ready := make(chan struct{})
			var before unix.Termios
			r, slave := onTerminal(t, func(ctx context.Context, term Terminal) (err error) {
				<-ready
				defer func() {
					if recover() != nil {
						err = boom
					}
				}()
				return term.ask(ctx, &explosive{confirm{question: "Go on?"}})
			})
			before = mode(t, slave)
			close(ready)
			r.until("Go on?")
			during := mode(t, slave)
			if during.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 || during.Oflag&unix.OPOST == 0 {
				t.Error("the terminal echoes, edits lines, sends signals, or does not handle line ends")
			}
			c.do(r)
			if err := r.answered(); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if mode(t, slave) != before {
				t.Error("the terminal is not as before")
			}
			r.tidy()
		})
	}
}

// explosive panics at the key P.
type explosive struct{ confirm }

func (e *explosive) press(k key) (bool, error) {
	if k.r == 'P' {
		panic("P was pressed")
	}
	return e.confirm.press(k)
}

// Nobody answers a question that they have not seen, and what is typed behind an
// answer is not for the shell.
func TestTypedAheadIsDropped(t *testing.T) {
	typed := make(chan struct{})
	r, slave := onTerminal(t, func(ctx context.Context, term Terminal) error {
		<-typed
		yes, err := term.Confirm(ctx, "Trust them?", false)
		if yes {
			t.Error("yes, typed before the question was there")
		}
		return err
	})
	r.press("yyy\ry\n")
	comes(t, slave)
	close(typed)
	r.until("Trust them?")
	r.press("\rrm -rf canary\r")
	if err := r.answered(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.IoctlGetInt(int(slave.Fd()), unix.TIOCINQ); err != nil || n != 0 {
		t.Errorf("%d bytes are left for the shell: %v", n, err)
	}
}

// A list follows the size of the terminal at once, with nothing left of what was
// there before, and the title stays in sight.
func TestResize(t *testing.T) {
	r, _ := onTerminal(t, func(ctx context.Context, term Terminal) error {
		_, _ = io.WriteString(term.Out, "before\r\n")
		return pick("Which?")(ctx, term)
	})
	r.until("1 of 30")
	for _, size := range [][2]int{{20, 5}, {80, 24}, {30, 8}, {60, 12}} {
		r.screen.resize(size[0], size[1])
		if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		limit := time.After(10 * time.Second)
		for fits := false; !fits; {
			// What was above the upper edge for a while is history.
			shown := r.screen.String()
			shown = shown[max(strings.LastIndex(shown, "Which?"), 0):]
			fits = strings.Count(shown, "> [x]") == 1
			for _, row := range strings.Split(shown, "\n") {
				fits = fits && cells(row) < size[0]
			}
			switch size[0] {
			case 80:
				fits = fits && strings.Count(shown, "[ ]") == maxRows-1
			case 20:
				fits = fits && strings.Count(shown, "[ ]") == 2
			}
			if fits {
				break
			}
			select {
			case <-r.screen.changed:
			case <-limit:
				t.Fatalf("at %d by %d:\n%s", size[0], size[1], r.screen.String())
			}
		}
	}
	r.press("\r")
	if err := r.answered(); err != nil {
		t.Error(err)
	}
	if shown := r.screen.String(); !strings.HasSuffix(shown, "Which? user-read-email\n\n") {
		t.Errorf("left:\n%s", shown)
	}
	r.tidy()
}

// A line longer than the 4,095 bytes that a terminal edits itself arrives whole.
func TestLongHiddenLine(t *testing.T) {
	want := strings.Repeat("canary", 5000)
	r, _ := onTerminal(t, func(ctx context.Context, term Terminal) error {
		got, err := term.Hidden(ctx, "Secret", "")
		if got.Reveal() != want {
			t.Errorf("%d bytes, want %d", got.Len(), len(want))
		}
		return err
	})
	r.until("Secret")
	r.press(want + "\r")
	if err := r.answered(); err != nil {
		t.Error(err)
	}
}

func TestSizeOfTheSystem(t *testing.T) {
	_, slave := pseudo(t)
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 7, Col: 33}); err != nil {
		t.Fatal(err)
	}
	if w, h := (Terminal{In: slave, Out: io.Discard}).size(); w != 33 || h != 7 {
		t.Errorf("%d by %d", w, h)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{}); err != nil {
		t.Fatal(err)
	}
	if w, h := (Terminal{In: slave, Out: slave}).size(); w != 80 || h != 24 {
		t.Errorf("%d by %d for an unknown size", w, h)
	}
}

// What was typed before ReadHidden was called counts: its caller has asked.
func TestReadHiddenTakesWhatWasTypedBefore(t *testing.T) {
	master, slave := pseudo(t)
	if _, err := io.WriteString(master, "hello\n"); err != nil {
		t.Fatal(err)
	}
	comes(t, slave)
	if got, err := ReadHidden(t.Context(), slave, io.Discard); got != "hello" || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// comes waits until there is something to read.
func comes(t *testing.T, f *os.File) {
	t.Helper()
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, -1)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}
