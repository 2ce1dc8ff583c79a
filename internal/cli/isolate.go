package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/isolate"
	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/proxy"
)

const (
	noIsolation = "install bubblewrap (apt-get install bubblewrap), or leave --isolate away if the command may have what your other programs have"
	notIsolated = "bubblewrap's own message says why; some systems forbid user namespaces to programs that are not listed"
)

// checkIsolation refuses --isolate where it cannot be had, before any token is
// touched. A command never runs without it instead.
func (ws *workspace) checkIsolation(l limits) error {
	if !l.isolate {
		return nil
	}
	switch ws.app.GOOS {
	case "linux":
		if _, err := isolate.FindBubblewrap(ws.app.env("PATH"), ws.dir); err != nil {
			return failf(exitUsage, noIsolation, "--isolate: %w", err)
		}
		return nil
	case "darwin":
		return nil
	}
	return failf(exitUsage, "use --placeholder without it", "--isolate is for Linux and macOS, not for %s", ws.app.GOOS)
}

// isolate puts the command of a plan into a sandbox whose only way out is the
// proxy.
func (s *standIns) isolate(ctx context.Context, p *execPlan, dir string, egress *proxy.Egress) (leave func(), err error) {
	o, err := s.isolation(dir, egress.Addr(), p)
	if err != nil {
		return nil, err
	}
	if err := isolate.KeepDescriptors(); err != nil {
		return nil, failf(exitUsage, "run it with files, pipes or a terminal", "--isolate: %w", err)
	}
	if s.ws.app.GOOS == "darwin" {
		return s.seatbelt(o, p)
	}
	var config net.ListenConfig
	way, err := config.Listen(ctx, "unix", o.Socket)
	if err != nil {
		return nil, failf(exitStore, "set TMPDIR to a folder with a short path", "make the proxy's socket: %w", err)
	}
	control, err := isolate.Control(ctx, o.Control)
	if err != nil {
		way.Close()
		return nil, failf(exitStore, "set TMPDIR to a folder with a short path", "make the control socket: %w", err)
	}
	leave = func() {
		control.Close()
		way.Close()
	}
	bwrap, err := isolate.FindBubblewrap(s.ws.app.env("PATH"), o.Project)
	if err == nil {
		p.argv, err = isolate.Bubblewrap(bwrap, []string{isolatedName}, o)
	}
	if err != nil {
		leave()
		return nil, isolationError(err)
	}
	p.env = isolate.Env(p.env)
	egress.ServeListener(way)
	run := p.child
	switch {
	case run == nil && o.OwnTerminal:
		nothing := leak.NewSet(nil)
		run = func(ctx context.Context, c inject.Child) (int, error) { return inject.Masked(ctx, c, nothing) }
	case run == nil:
		run = inject.Run
	}
	p.child = func(ctx context.Context, c inject.Child) (int, error) {
		c.Pass = control.Signal
		code, err := run(ctx, c)
		if err == nil && !control.Entered() {
			return 0, failf(exitUsage, notIsolated, "--isolate: bubblewrap could not make the sandbox; nothing was run")
		}
		return code, err
	}
	return leave, nil
}

// isolation says what the command of this run may see.
func (s *standIns) isolation(dir, proxyAddress string, p *execPlan) (isolate.Options, error) {
	ws := s.ws
	_, port, err := net.SplitHostPort(proxyAddress)
	if err != nil {
		return isolate.Options{}, err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return isolate.Options{}, err
	}
	o := isolate.Options{
		Command: p.argv,
		Dir:     ws.app.Dir,
		Project: ws.dir,
		Home:    ws.app.Home,
		Path:    ws.app.env("PATH"),
		Hidden:  []string{ws.dirs.Config, ws.dirs.State},
		Sockets: isolate.ListSockets("/proc/net/unix"),
		Run:     dir,
		Socket:  filepath.Join(dir, "proxy"),
		Control: filepath.Join(dir, "control"),
		Port:    number,
		Self:    ws.app.Executable,
		// A command whose output goes to a terminal is run on one of its own.
		OwnTerminal: ws.app.StdoutTTY,
	}
	if ws.manifest != nil {
		o.Project, o.ReadOnly = ws.manifest.Dir(), []string{ws.manifest.File}
	}
	if o.Dir == "" {
		o.Dir = o.Project
	}
	for _, kv := range ws.app.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "APIAUTH_") && strings.HasSuffix(name, "_FILE") && name != "APIAUTH_CA_FILE",
			name == "XDG_RUNTIME_DIR", name == "XDG_CONFIG_HOME", name == "XDG_STATE_HOME", name == "XDG_DATA_HOME", name == "XDG_CACHE_HOME", name == "GNUPGHOME":
			if filepath.IsAbs(value) {
				o.Hidden = append(o.Hidden, value)
			}
		}
	}
	return o, nil
}

func isolationError(err error) error {
	switch {
	case errors.Is(err, isolate.ErrUnsafe):
		return failf(exitRefused, "run it in a folder of the project's own", "--isolate: %w", err)
	case errors.Is(err, isolate.ErrNoBubblewrap):
		return failf(exitUsage, noIsolation, "--isolate: %w", err)
	}
	return failf(exitFailure, "", "--isolate: %w", err)
}

// seatbelt is isolate for macOS.
func (s *standIns) seatbelt(o isolate.Options, p *execPlan) (leave func(), err error) {
	temporary := filepath.Join(o.Run, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return nil, failf(exitStore, "", "make the temporary folder of the run: %w", err)
	}
	profile, err := isolate.Seatbelt([]string{temporary}, o)
	if err != nil {
		return nil, isolationError(err)
	}
	file := filepath.Join(o.Run, "profile.sb")
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		return nil, failf(exitStore, "", "write the profile of the run: %w", err)
	}
	p.argv = append([]string{isolate.SandboxExec, "-f", file}, p.argv...)
	p.env = append(isolate.Env(p.env), fmt.Sprintf("TMPDIR=%s", temporary))
	return func() {}, nil
}
