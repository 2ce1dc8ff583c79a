package cli

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/dashboard"
	"github.com/apiauth/apiauth/internal/loopback"
)

type dashboardOptions struct {
	NoBrowser bool
	Port      int
	Idle      time.Duration
}

func newDashboardCmd(g *globals) *cobra.Command {
	var opts dashboardOptions
	cmd := &cobra.Command{
		Use:     "dashboard",
		Short:   "Manage connections on a page in the browser",
		GroupID: groupGrant,
		Long: `Serve a page on this machine, and open it in the browser: the connections of this
project and what they may do, the providers of the catalogue, scopes to choose,
logins, client registrations, the log of uses, and a box for a token that leaked.
It changes the project that it was started in; the others can be looked at.

The link works once, and for 60 seconds. With --no-browser, in CI and with
--no-input it is printed, and nothing is opened. The page shows no token and no
secret. It ends with Ctrl-C, or when nobody has used it for the time of --idle.`,
		Example: `  apiauth dashboard
  apiauth dashboard --no-browser --port 4040 --idle 2h`,
		Args:              args(noArguments),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDashboard(cmd.Context(), g, opts) },
	}
	f := cmd.Flags()
	f.BoolVar(&opts.NoBrowser, "no-browser", false, "print the link, open no browser")
	f.IntVar(&opts.Port, "port", 0, "listen on this `PORT` of 127.0.0.1 (default: a free one)")
	f.DurationVar(&opts.Idle, "idle", 30*time.Minute, "end after this `duration` without use")
	return cmd
}

func runDashboard(ctx context.Context, g *globals, opts dashboardOptions) error {
	if opts.Idle <= 0 {
		return usagef("--idle takes a positive duration")
	}
	if opts.Port < 0 || opts.Port > 65535 {
		return usagef("--port takes a number from 1 to 65535, not %d", opts.Port)
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	// What is wrong with the project is known before a page says it.
	if _, _, err := ws.entries(nil); err != nil && ws.unbound == nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	work := &dashboardWork{ctx: ctx, g: g, ws: ws}
	defer work.logins.Wait()
	defer cancel(nil)
	server, err := dashboard.New(work, g.app.Rand, g.app.Now)
	if err != nil {
		return err
	}
	l, err := loopback.Listen(ctx, loopback.Options{
		Port: opts.Port,
		// A provider is asked to revoke before the answer comes.
		WriteTimeout: 2 * time.Minute,
		Log:          func(line string) { ws.warn("%s", line) },
	})
	if taken, ok := errors.AsType[*loopback.PortTakenError](err); ok {
		return failf(exitUsage, "end the program that uses it, or give another port with --port", "%w", taken)
	}
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	link := server.Serve(l)
	remove, err := ws.showLink(ctx, link, opts.NoBrowser)
	if err != nil {
		return err
	}
	defer remove()
	err = server.Wait(ctx, opts.Idle)
	if errors.Is(err, dashboard.ErrUnused) {
		return failf(exitFailure, "run 'apiauth dashboard' again for another", "%w", err)
	}
	if err == nil {
		ws.say("Nobody has used the dashboard for %s; it has ended.", humanDuration(opts.Idle))
	}
	return err
}

// showLink opens the link, or prints it as data where no browser is to be
// opened. The browser is given a file that leads there, since other users of the
// machine can read command lines. remove takes the file away.
func (ws *workspace) showLink(ctx context.Context, link string, noBrowser bool) (remove func(), err error) {
	remove = func() {}
	if ws.cfg.JSON {
		return remove, printJSON(ws.app.Stdout, map[string]string{"url": link})
	}
	if !ws.mayOpenBrowser(noBrowser) {
		if _, err := fmt.Fprintln(ws.app.Stdout, link); err != nil {
			return remove, failf(exitFailure, "", "write the link: %w", err)
		}
		ws.say("Open the link within 60 seconds; it works once. Ctrl-C ends the dashboard.")
		return remove, nil
	}
	ws.show("The dashboard opens in your browser; or open this link, which works once:")
	ws.show("  %s", link)
	if err := os.MkdirAll(ws.dirs.State, 0o700); err != nil {
		return remove, pathReason(err)
	}
	dir, err := os.MkdirTemp(ws.dirs.State, "dashboard-")
	if err != nil {
		return remove, pathReason(err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	file := filepath.Join(dir, "open.html")
	page := `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="referrer" content="no-referrer">` +
		`<title>apiauth dashboard</title><meta http-equiv="refresh" content="0; url=` + html.EscapeString(link) + `">` +
		`<p><a href="` + html.EscapeString(link) + `">Open the dashboard</a></p></html>` + "\n"
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		remove()
		return func() {}, pathReason(err)
	}
	if err := ws.opener().OpenFile(ctx, file); err != nil {
		ws.warn("the browser could not be opened (%v); open the link by hand", err)
	}
	ws.say("Ctrl-C ends it.")
	return remove, nil
}
