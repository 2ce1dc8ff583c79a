// Command apiauth connects developers to the APIs that ask for OAuth: it keeps
// the grants and hands out fresh access tokens.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pkg/browser"
	"golang.org/x/term"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/cli"
	"github.com/apiauth/apiauth/internal/inject"
)

// Set by the linker.
var (
	version = "0.0.0-dev"
	commit  = ""
	date    = ""
)

func main() {
	deepen()
	os.Exit(run())
}

// deepen lets the stack grow once, while nothing is on it. Left to itself it grows
// five times on the way down, and each time the runtime looks up every function
// that is on it: 0.6 MiB of tables that are then never needed again
// (docs/performance.md).
//
//go:noinline
func deepen() byte {
	var room [24 << 10]byte
	return room[len(os.Args)%len(room)]
}

func run() int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	caught := &signals{cancel: cancel}
	dir, err := os.Getwd()
	if err != nil {
		dir = "" // a folder that was deleted; commands that need one say so
	}
	home, _ := os.UserHomeDir() // without one, the folders must come from variables
	executable, _ := os.Executable()
	return cli.Main(ctx, &cli.App{
		Stdin:         os.Stdin,
		Stdout:        os.Stdout,
		Stderr:        os.Stderr,
		StdinTTY:      term.IsTerminal(int(os.Stdin.Fd())),
		StdoutTTY:     term.IsTerminal(int(os.Stdout.Fd())),
		StderrTTY:     term.IsTerminal(int(os.Stderr.Fd())),
		Terminal:      os.Stdin,
		Env:           os.LookupEnv,
		Environ:       os.Environ,
		Dir:           dir,
		Home:          home,
		GOOS:          runtime.GOOS,
		PID:           os.Getpid(),
		Executable:    executable,
		Caller:        audit.Caller,
		Now:           time.Now,
		Sleep:         sleep,
		Rand:          rand.Reader,
		SystemBrowser: systemBrowser,
		Exec:          inject.Exec,
		Conceal:       inject.Conceal,
		Catch:         caught.start,
		Interrupted:   func() int { return int(caught.first.Load()) },
		Version:       cli.Version{Number: version, Commit: commit, Date: date},
	}, os.Args[1:])
}

// signals ends a context at the first signal that asks this process to end, and
// remembers which one it was. What must not be cut off does not follow the
// context.
type signals struct {
	cancel context.CancelFunc
	once   sync.Once
	first  atomic.Int32
}

// start begins to catch. It costs a tenth of a whole start, so commands that
// only read do without. Nothing ends it but the process.
func (s *signals) start() {
	s.once.Do(func() {
		got := make(chan os.Signal, 4)
		for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
			if !signal.Ignored(sig) { // nohup and background jobs of a script want it so
				signal.Notify(got, sig)
			}
		}
		go func() {
			for sig := range got {
				if n, ok := sig.(syscall.Signal); ok {
					s.first.CompareAndSwap(0, int32(n))
				}
				s.cancel()
			}
		}()
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// systemBrowser is the system's own way to open a URL.
func systemBrowser(url string) error {
	browser.Stdout = os.Stderr
	return browser.OpenURL(url)
}
