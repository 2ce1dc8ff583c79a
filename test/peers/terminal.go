package peers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a terminal waits for what a test expects to see.
const patience = 20 * time.Second

// Term is a terminal with one program in it: a tmux server of its own, watched
// in control mode, so that nothing needs to sleep.
type Term struct {
	t       testing.TB
	tmux    string
	dir     string
	changed chan struct{} // holds one value when something was written
}

// Terminal runs argv in a new terminal of the given size. env is the program's
// whole environment, but for TERM and tmux's own variables. The terminal ends
// with the test.
func Terminal(t testing.TB, cols, rows int, env []string, argv ...string) *Term {
	t.Helper()
	needsUnix(t)
	term := &Term{t: t, tmux: Program(t, "apt-get install tmux", "tmux"), dir: shortTempDir(t), changed: make(chan struct{}, 1)}
	settings := fmt.Sprintf(`set -g default-size %dx%d
set -g status off
set -s escape-time 0
set -g default-terminal screen-256color
set -g history-limit 5000
`, cols, rows)
	if err := os.WriteFile(term.path("conf"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	// The server inherits this environment and hands it to the program.
	// The shell around the program keeps its exit code, and the screen as it was
	// left: tmux draws on that of a dead program, and loses some exit codes.
	const keep = `trap : INT QUIT; "$@"; echo $? >"$0.new"; mv "$0.new" "$0"; exec tail -f /dev/null`
	run := []string{
		"new-session", "-d", "-s", "test", "-x", strconv.Itoa(cols), "-y", strconv.Itoa(rows),
		"sh", "-c", keep, term.path("exit"),
	}
	cmd := term.command(t.Context(), append(run, argv...)...)
	cmd.Env = append(append([]string{}, env...), "TMUX_TMPDIR="+term.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("start the terminal: %v: %s", err, out)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = term.command(ctx, "kill-server").Run() // it may have ended by itself
	})
	term.watch()
	return term
}

func (term *Term) path(name string) string { return filepath.Join(term.dir, name) }

func (term *Term) command(ctx context.Context, args ...string) *exec.Cmd {
	// -u: the screen is UTF-8 whatever the locale says.
	cmd := exec.CommandContext(ctx, term.tmux, append([]string{"-u", "-S", term.path("socket"), "-f", term.path("conf")}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + term.dir, "TMUX_TMPDIR=" + term.dir, "LANG=C.UTF-8"}
	return cmd
}

// watch attaches a client in control mode, which tells when the program writes.
func (term *Term) watch() {
	term.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := term.command(ctx, "-C", "attach-session", "-t", "test")
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		term.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		term.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		term.t.Fatalf("watch the terminal: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewReader(stdout)
		for {
			_, err := lines.ReadSlice('\n') // a longer line comes in pieces
			select {
			case term.changed <- struct{}{}:
			default:
			}
			if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // documented to be returned as it is
				_, _ = io.Copy(io.Discard, stdout)
				return
			}
		}
	}()
	term.t.Cleanup(func() {
		_ = stdin.Close()
		cancel()
		<-done
		_ = cmd.Wait()
	})
}

// Send presses keys by tmux's names: Enter, Down, Space, C-c, Escape, y.
func (term *Term) Send(keys ...string) {
	term.t.Helper()
	term.run(append([]string{"send-keys", "-t", "test"}, keys...)...)
}

// Type types text as it is.
func (term *Term) Type(text string) {
	term.t.Helper()
	term.run("send-keys", "-t", "test", "-l", "--", text)
}

// Paste puts text in at once, as the clipboard does, in brackets when the
// program asked for them.
func (term *Term) Paste(text string) {
	term.t.Helper()
	term.run("set-buffer", "-b", "paste", "--", text)
	term.run("paste-buffer", "-p", "-r", "-d", "-b", "paste", "-t", "test")
}

// Resize changes the size of the terminal.
func (term *Term) Resize(cols, rows int) {
	term.t.Helper()
	term.run("resize-window", "-t", "test", "-x", strconv.Itoa(cols), "-y", strconv.Itoa(rows))
}

// Screen returns what a person sees, without blanks at the ends of lines.
func (term *Term) Screen() string {
	term.t.Helper()
	return term.run("capture-pane", "-p", "-t", "test")
}

// History returns everything that was written, also what scrolled out of sight,
// with wrapped lines joined.
func (term *Term) History() string {
	term.t.Helper()
	return term.run("capture-pane", "-p", "-J", "-S", "-", "-t", "test")
}

// WaitFor waits until text is on the screen. The test fails, and shows the
// screen, when it does not come.
func (term *Term) WaitFor(text string) {
	term.t.Helper()
	term.wait("for "+strconv.Quote(text), func(screen string) bool { return strings.Contains(screen, text) })
}

// WaitGone waits until text is no longer on the screen.
func (term *Term) WaitGone(text string) {
	term.t.Helper()
	term.wait("until "+strconv.Quote(text)+" is gone", func(screen string) bool { return !strings.Contains(screen, text) })
}

// WaitExit waits for the program's end and returns its exit code, or 128+n when
// signal n ended it. The screen can still be read.
func (term *Term) WaitExit() int {
	term.t.Helper()
	var code string
	term.wait("for the program to end", func(string) bool {
		content, err := os.ReadFile(term.path("exit"))
		code = strings.TrimSpace(string(content))
		return err == nil
	})
	n, err := strconv.Atoi(code)
	if err != nil {
		term.t.Fatalf("the terminal tells no exit code: %q", code)
	}
	return n
}

func (term *Term) wait(what string, seen func(screen string) bool) {
	term.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	// Most of what is written is told at once; the last words of a program and
	// its end are not, so they are looked for now and then.
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		screen := term.Screen()
		if seen(screen) {
			return
		}
		select {
		case <-term.changed:
		case <-look.C:
		case <-limit.C:
			term.t.Fatalf("waited %v %s; the screen:\n%s", patience, what, screen)
		}
	}
}

func (term *Term) run(args ...string) string {
	term.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(term.t.Context()), patience)
	defer cancel()
	cmd := term.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		term.t.Fatalf("terminal: %s: %v: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(out)
}
