package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/proxy"
)

// The variables of a proxy's address and key.
const (
	proxyURLVariable = "APIAUTH_PROXY_URL"
	proxyKeyVariable = "APIAUTH_PROXY_KEY"
)

// drainTime is how long requests under way may take once the proxy is to end.
const drainTime = 10 * time.Second

type proxyOptions struct {
	Names     []string
	Command   []string
	Listen    string
	Origins   []string
	Allow     []string
	Limits    []string
	Quotas    []string
	KeyInPath bool
	Private   bool
	Timeout   time.Duration
}

func newProxyCmd(g *globals) *cobra.Command {
	var opts proxyOptions
	cmd := &cobra.Command{
		Use:     "proxy [NAME...] [-- CMD [ARG...]]",
		Short:   "Let a front end or script call APIs without seeing a token",
		GroupID: groupUse,
		Long: `Listen on this machine, and pass requests for /NAME/PATH on to the API base of the
connection NAME with its token added: http://127.0.0.1:4040/spotify/me calls
https://api.spotify.com/v1/me. /NAME/~HOST/PATH calls another of its pinned hosts.
Without NAME the connections of the project's apiauth.yaml are served.

Every request needs the key of this run, as 'Authorization: Bearer KEY' (an SDK
takes it as its token) or 'X-Apiauth-Key: KEY'. Address and key are printed, or
handed to CMD as APIAUTH_PROXY_URL and APIAUTH_PROXY_KEY; the proxy then ends with
it. Otherwise it stays until a signal, lets requests under way finish for 10 s, and
ends with 128 and the signal's number.

A rule of --allow is a method and a path below NAME, such as 'GET /me' or
'* /items/*'; a * at its end stands for any rest. With rules for a connection
nothing else may be called. --allow, --limit and --quota take NAME: in front.

Web pages are answered only if their origin is named with --origin.`,
		Example: `  apiauth proxy spotify --listen 4040 --origin http://localhost:5173
  apiauth proxy -- npm run dev
  apiauth proxy github --allow 'GET /user/*' --limit 10/s --quota 1000/d`,
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Names = a
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				opts.Names, opts.Command = a[:at], a[at:]
				if len(opts.Command) == 0 {
					return usagef("name the command to run after --, for example 'apiauth proxy -- npm run dev'")
				}
			}
			return runProxy(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Listen, "listen", "", "listen on `[HOST:]PORT` of this machine (default: a free port of 127.0.0.1)")
	f.StringArrayVar(&opts.Origins, "origin", nil, "let web pages of the origin `URL` use it; repeat for more")
	f.StringArrayVar(&opts.Allow, "allow", nil, "allow requests by `'METHOD /path'`; repeat for more")
	f.StringArrayVar(&opts.Limits, "limit", nil, "`RATE` of requests for each connection, such as 10/s or 600/m")
	f.StringArrayVar(&opts.Quotas, "quota", nil, "number of requests for each connection in this run, such as 1000/d (`N/UNIT`)")
	f.BoolVar(&opts.KeyInPath, "key-in-path", false, "take the key as /k/KEY/NAME/PATH as well")
	f.BoolVar(&opts.Private, "private", false, "let the names of pinned hosts lead to private addresses")
	f.DurationVar(&opts.Timeout, "timeout", time.Minute, "how long an API may take to begin its answer")
	return cmd
}

func runProxy(ctx context.Context, g *globals, opts proxyOptions) (err error) {
	if opts.Timeout <= 0 {
		return usagef("--timeout takes a positive duration")
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	names, err := ws.proxied(opts.Names)
	if err != nil {
		return err
	}
	serve, err := opts.reverse(names)
	if err != nil {
		return err
	}
	tokens, err := ws.live(ctx, names)
	if err != nil {
		return err
	}
	defer tokens.end(ctx)
	issuer, err := ws.issuer()
	if err != nil {
		return err
	}
	for i := range serve.Routes {
		r := &serve.Routes[i]
		pins := &tokens.kept[r.Connection].pins
		if err := boundToCertificate(r.Connection, pins); err != nil {
			return err
		}
		r.Base, r.Hosts, r.Auth = pins.APIBase, pins.APIHosts, pins.APIAuth
		r.Headers, r.InsecureLoopback = pins.APIHeaders, pins.AllowInsecureLoopback
	}
	serve.Tokens, serve.Answered = tokens, tokens.Answered
	serve.Roots = issuer.Roots
	serve.UserAgent = "apiauth/" + g.app.Version.Number
	serve.Now, serve.Rand = g.app.Now, g.app.Rand
	if !g.cfg.Quiet {
		log := &requestLog{app: g.app}
		serve.Log = log.write
		serve.Note = func(line string) { ws.warn("%s", line) }
	}
	p, err := proxy.StartReverse(ctx, serve)
	if taken, ok := errors.AsType[*loopback.PortTakenError](err); ok {
		return failf(exitUsage, "end the program that uses it, or give another port with --listen", "%w", taken)
	}
	if err != nil {
		return failf(exitUsage, "'apiauth status' shows the hosts that a connection is bound to", "%w", err)
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		_ = p.Shutdown(drain)
	}()
	if len(opts.Command) > 0 {
		ws.proxyLines(p, serve.Routes)
		return ws.underProxy(ctx, opts.Command, p)
	}
	if err := ws.printProxy(p, serve.Routes); err != nil {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// proxied returns the connections to serve: those named, else the manifest's.
func (ws *workspace) proxied(named []string) ([]string, error) {
	if _, err := ws.bound(); err != nil {
		return nil, err
	}
	if len(named) == 0 {
		if ws.manifest == nil {
			return nil, usagef("name the connections: outside of a project nothing is handed out by itself")
		}
		if len(ws.manifest.Connections) == 0 {
			return nil, failf(exitUsage, "add one with 'apiauth connect NAME', or name one", "%s names no connections", ws.manifest.File)
		}
		var names []string
		for _, c := range ws.manifest.Connections {
			names = append(names, c.Name)
		}
		return names, nil
	}
	var names []string
	for _, n := range named {
		if !project.ValidName(n) {
			return nil, usagef("%q is no connection name", oauth.Clean(n))
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// reverse reads the flags.
func (opts proxyOptions) reverse(names []string) (proxy.ReverseOptions, error) {
	serve := proxy.ReverseOptions{Origins: opts.Origins, KeyInPath: opts.KeyInPath, Private: opts.Private, Timeout: opts.Timeout}
	var err error
	if serve.Host, serve.Port, err = parseListen(opts.Listen); err != nil {
		return serve, err
	}
	for _, origin := range opts.Origins {
		if err := proxy.CheckOrigin(origin); err != nil {
			return serve, usagef("--origin %q: %w", oauth.Clean(origin), err)
		}
	}
	allow, err := forConnections("allow", opts.Allow, names)
	if err != nil {
		return serve, err
	}
	limits, err := rates("limit", opts.Limits, names)
	if err != nil {
		return serve, err
	}
	quotas, err := rates("quota", opts.Quotas, names)
	if err != nil {
		return serve, err
	}
	for _, name := range names {
		if opts.KeyInPath && name == "k" {
			return serve, usagef("a connection of the name %q cannot be served with --key-in-path", name)
		}
		rules, err := proxy.ParseRules(allow[name])
		if err != nil {
			return serve, usagef("--allow: %w", err)
		}
		serve.Routes = append(serve.Routes, proxy.Route{Connection: name, Allow: rules, Limit: limits[name], Quota: quotas[name]})
	}
	return serve, nil
}

// parseListen reads [HOST:]PORT.
func parseListen(s string) (host string, port int, err error) {
	if s == "" {
		return "", 0, nil
	}
	number := s
	if at := strings.LastIndexByte(s, ':'); at >= 0 {
		host, number = s[:at], s[at+1:]
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, usagef("--listen takes a port from 1 to 65535, or HOST:PORT, not %q", oauth.Clean(s))
	}
	switch host {
	case "", loopback.IPv4, loopback.IPv6, loopback.Localhost:
		return host, int(n), nil
	}
	return "", 0, usagef("--listen %q: only 127.0.0.1, [::1] and localhost are loopback; the proxy never listens elsewhere", oauth.Clean(s))
}

// forConnections sorts the values of a flag that take NAME: in front. Those
// without go to every connection.
func forConnections(flag string, values, names []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, v := range values {
		name, rest, named := strings.Cut(v, ":")
		if !named || !project.ValidName(name) {
			for _, n := range names {
				out[n] = append(out[n], v)
			}
			continue
		}
		if !slices.Contains(names, name) {
			return nil, usagef("--%s %q: this run does not serve %s", flag, oauth.Clean(v), name)
		}
		out[name] = append(out[name], rest)
	}
	return out, nil
}

// rates reads the values of --limit or --quota: the last one for a connection
// counts.
func rates(flag string, values, names []string) (map[string]proxy.Rate, error) {
	sorted, err := forConnections(flag, values, names)
	if err != nil {
		return nil, err
	}
	out := map[string]proxy.Rate{}
	for name, list := range sorted {
		for _, v := range list {
			rate, err := proxy.ParseRate(v)
			if err != nil {
				return nil, usagef("--%s: %w", flag, err)
			}
			out[name] = rate
		}
	}
	return out, nil
}

// proxyJSON is what --json prints.
type proxyJSON struct {
	URL         string           `json:"url"`
	Key         string           `json:"key"`
	Connections []proxyRouteJSON `json:"connections"`
}

type proxyRouteJSON struct {
	Name     string   `json:"name"`
	URL      string   `json:"url"`
	APIBase  string   `json:"api_base"`
	APIHosts []string `json:"api_hosts"`
}

// printProxy prints address and key for programs, and for people how to use them.
func (ws *workspace) printProxy(p *proxy.Reverse, routes []proxy.Route) error {
	if ws.cfg.JSON {
		doc := proxyJSON{URL: p.URL(), Key: p.Key().Reveal()}
		for _, r := range routes {
			doc.Connections = append(doc.Connections, proxyRouteJSON{r.Connection, p.URL() + "/" + r.Connection, r.Base, orEmpty(r.Hosts)})
		}
		return printJSON(ws.app.Stdout, doc)
	}
	ws.proxyLines(p, routes)
	if _, err := fmt.Fprintf(ws.app.Stdout, "%s=%s\n%s=%s\n", proxyURLVariable, p.URL(), proxyKeyVariable, p.Key().Reveal()); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	ws.say("Try:   curl -H \"X-Apiauth-Key: $%s\" $%s/%s/...", proxyKeyVariable, proxyURLVariable, routes[0].Connection)
	ws.say("Ctrl-C ends it.")
	return nil
}

func (ws *workspace) proxyLines(p *proxy.Reverse, routes []proxy.Route) {
	for _, r := range routes {
		to := r.Base
		if to == "" {
			to = strings.Join(r.Hosts, ", ")
		}
		ws.say("%s/%s -> %s", p.URL(), r.Connection, oauth.Clean(to))
	}
}

// underProxy runs a command that knows address and key, and ends with its
// status.
func (ws *workspace) underProxy(ctx context.Context, argv []string, p *proxy.Reverse) error {
	app := ws.app
	environ := inject.ChildEnv(app.Environ(), []inject.Var{{Name: proxyKeyVariable, Value: p.Key()}})
	environ = append(environ, proxyURLVariable+"="+p.URL())
	return ended(inject.Run(ctx, inject.Child{Argv: argv, Env: environ, Stdin: app.Stdin, Stdout: app.Stdout, Stderr: app.Stderr}))
}

// requestLog writes a line for each request.
type requestLog struct {
	app *App
	mu  sync.Mutex
}

func (l *requestLog) write(e proxy.Entry) {
	name := e.Connection
	if name == "" {
		name = "-"
	}
	status := "-"
	if e.Status != 0 {
		status = strconv.Itoa(e.Status)
	}
	line := fmt.Sprintf("%s %s %s %s %s %d ms %d B", e.Time.Format("15:04:05"), name, oauth.Clean(e.Method), oauth.Clean(e.Path), status, e.Took.Milliseconds(), e.Bytes)
	if e.Why != "" {
		line += ": " + oauth.Clean(e.Why)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.app.Stderr, line)
}
