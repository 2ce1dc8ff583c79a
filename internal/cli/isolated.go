package cli

import (
	"context"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/isolate"
)

// isolatedName is the command that exec --isolate runs inside of its sandbox. It
// is for nobody else.
const isolatedName = "isolated"

type isolatedOptions struct {
	Port            int
	Socket, Control string
	Command         []string
}

func newIsolatedCmd(g *globals) *cobra.Command {
	var opts isolatedOptions
	cmd := &cobra.Command{
		Use:         isolatedName + " -- CMD [ARG...]",
		Short:       "Run a command inside of the sandbox of exec --isolate",
		Hidden:      true,
		Annotations: lateSignals(),
		Args:        args(between(1, -1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Command = a
			return runIsolated(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.IntVar(&opts.Port, "port", 0, "where the proxy is to be found on 127.0.0.1")
	f.StringVar(&opts.Socket, "socket", "", "the proxy's `SOCKET`")
	f.StringVar(&opts.Control, "control", "", "the `SOCKET` that signals come from")
	return cmd
}

// runIsolated is the inner half of exec --isolate: it bridges the proxy into the
// sandbox's network and runs the command, which gets the signals that the outer
// half passes on.
func runIsolated(ctx context.Context, g *globals, opts isolatedOptions) error {
	if opts.Port == 0 || opts.Socket == "" || opts.Control == "" {
		return failf(exitUsage, "run 'apiauth exec --isolate -- CMD'", "this command is a part of exec --isolate, and works nowhere else")
	}
	// The outer half started this with signals ignored that the command is to
	// obey. From here on they are caught, so the command starts with the defaults.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP)

	ctx, end := context.WithCancel(ctx)
	defer end()
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(opts.Port)))
	if err != nil {
		return failf(exitFailure, "", "make the way to the proxy: %w", err)
	}
	bridge := make(chan error, 1)
	go func() { bridge <- isolate.Bridge(ctx, listener, opts.Socket) }()
	self, err := os.FindProcess(g.app.PID)
	if err != nil {
		return err
	}
	started := make(chan struct{})
	wait, err := isolate.Signals(ctx, opts.Control, func(sig syscall.Signal) {
		<-started
		_ = self.Signal(sig) // which passes it on, as every signal
	})
	if err != nil {
		return failf(exitFailure, "", "%w", err)
	}
	code, err := inject.Run(ctx, inject.Child{
		Argv: opts.Command, Env: g.app.Environ(), Stdin: g.app.Stdin, Stdout: g.app.Stdout, Stderr: g.app.Stderr,
		Started: func() { close(started) },
	})
	if err != nil {
		return err // which ends the process, and with it the line
	}
	end()
	wait()
	return ended(code, <-bridge)
}
