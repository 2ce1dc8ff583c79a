package cli

import (
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/proxy"
	"github.com/apiauth/apiauth/internal/secret"
)

// standIns is a run whose command gets placeholders, and the proxy that turns
// them into tokens.
type standIns struct {
	ws     *workspace
	limits limits
	tokens *liveTokens
	vars   []inject.Var
	// targets are the connections as the proxy may use them.
	targets []proxy.Target
	pinned  []string
	// site answers getSecrets in this run; nil for none.
	site *netlifySite
}

// standIns makes the placeholders of a run. A token is got for each connection
// all the same: what cannot be used is known before the command runs.
func (ws *workspace) standIns(ctx context.Context, named []string, l limits) (*standIns, error) {
	rules, err := proxy.ParseRules(l.allow)
	if err != nil {
		return nil, usagef("allow: %w", err)
	}
	list, err := ws.selected(named)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, sel := range list {
		if !slices.Contains(names, sel.Name) {
			names = append(names, sel.Name)
		}
	}
	s := &standIns{ws: ws, limits: l}
	if s.tokens, err = ws.live(ctx, names); err != nil {
		return nil, err
	}
	placeholders := make(map[string]secret.Text)
	for _, name := range names {
		access := &s.tokens.kept[name].access
		pins := &access.Header.Pins
		if placeholders[name], err = inject.Placeholder(pins.Placeholder, access.Token, ws.app.Rand); err != nil {
			return nil, err
		}
		if err := s.target(name, pins, placeholders[name], rules); err != nil {
			return nil, err
		}
	}
	var entries []inject.Entry
	for _, sel := range list {
		access := &s.tokens.kept[sel.Name].access
		entries = append(entries, inject.Entry{
			Connection:  sel.Name,
			ProviderID:  access.Header.Provider,
			ProviderEnv: access.Header.Pins.Env,
			Override:    sel.Variable,
			Token:       placeholders[sel.Name],
			Kept:        openFields(access.Kept),
		})
	}
	s.vars, err = inject.Build(entries, providers.CheckEnvName)
	return s, err
}

// openFields returns the kept fields that are not named like a secret. No proxy puts
// a secret in the place of a stand-in for one, so a command gets neither.
func openFields(kept map[string]string) map[string]string {
	kept = maps.Clone(kept)
	maps.DeleteFunc(kept, func(field, _ string) bool { return secretField(field) })
	return kept
}

// logged writes the last calls of the run to the audit log.
func (s *standIns) logged(ctx context.Context, _ *execPlan) (after func(), err error) {
	return func() { s.tokens.end(ctx) }, nil
}

// placeholders lists them, for the search afterwards: where one stands a token
// would have stood.
func (s *standIns) placeholders() []leak.Secret {
	var list []leak.Secret
	for _, v := range s.vars {
		if v.Field == "" {
			list = append(list, leak.Secret{Connection: v.Connection, Kind: "placeholder", Value: v.Value})
		}
	}
	return list
}

// secrets lists the tokens at hand.
func (l *liveTokens) secrets() []leak.Secret {
	var list []leak.Secret
	for name, t := range l.kept {
		list = append(list, leak.Secret{Connection: name, Kind: "access token", Value: t.access.Token})
	}
	return list
}

// target files the hosts of a connection: those of its API, and those that git
// reaches with the same token, by Basic authentication.
func (s *standIns) target(name string, pins *providers.Pins, placeholder secret.Text, rules proxy.Rules) error {
	if len(pins.APIHosts)+len(pins.GitHosts) == 0 {
		return failf(exitUsage, "add api.hosts to its definition and connect again, or run the command without --placeholder",
			"%q has no hosts that its token may go to", name)
	}
	if err := boundToCertificate(name, pins); err != nil {
		return err
	}
	target := proxy.Target{
		Connection: name, Hosts: pins.APIHosts, Auth: pins.APIAuth, Placeholder: placeholder,
		Allow: rules, Insecure: pins.AllowInsecureLoopback,
	}
	if len(pins.APIHosts) > 0 {
		s.targets = append(s.targets, target)
	}
	var git []string
	for _, host := range pins.GitHosts {
		if host, err := providers.NormalHost(host); err == nil && !slices.Contains(pins.APIHosts, host) {
			git = append(git, host)
		}
	}
	if len(git) > 0 {
		target.Hosts, target.Auth = git, providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "}
		s.targets = append(s.targets, target)
	}
	s.pinned = append(append(s.pinned, pins.APIHosts...), git...)
	return nil
}

// closeWithin bounds how long the requests under way may take when the command
// has ended.
const closeWithin = 2 * time.Second

// begin starts the proxy, writes the files of the run and leads the command
// there.
func (s *standIns) begin(ctx context.Context, p *execPlan) (after func(), err error) {
	ctx = context.WithoutCancel(ctx)
	app := s.ws.app
	if app.Conceal != nil {
		app.Conceal()
	}
	if s.site != nil {
		defer func() {
			if err != nil {
				s.site.end()
			}
		}()
		p.env = s.site.env(p.env)
	}
	issuer, err := s.ws.issuer()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "apiauth-run-")
	if err != nil {
		return nil, failf(exitStore, "see whether the folder for temporary files can be written", "make the folder of the run: %w", err)
	}
	log := s.log()
	var local map[string]http.Handler
	if s.site != nil {
		local = s.site.handlers(log)
	}
	egress, err := proxy.StartEgress(ctx, proxy.EgressOptions{
		Tokens:   s.tokens,
		Answered: s.tokens.Answered,
		Targets:  s.targets,
		Strict:   s.limits.strict,
		Isolated: s.limits.isolate,
		Upstream: http.ProxyFromEnvironment,
		Roots:    issuer.Roots,
		Local:    local,
		Log:      log,
		Now:      app.Now,
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, failf(exitFailure, "", "start the proxy of the run: %w", err)
	}
	end := func() {
		ctx, cancel := context.WithTimeout(ctx, closeWithin)
		defer cancel()
		_ = egress.Close(ctx)
		_ = os.RemoveAll(dir)
		if s.site != nil {
			s.site.end()
		}
	}
	route := inject.Route{Proxy: egress.URL(), Pinned: s.pinned, CA: egress.CA(), Dir: dir}
	if !s.limits.isolate {
		route.Home = app.Home
	}
	if p.env, err = route.Env(p.env); err != nil {
		end()
		return nil, failf(exitStore, "see whether the disk is full", "%w", err)
	}
	if !s.limits.isolate {
		return end, nil
	}
	leave, err := s.isolate(ctx, p, dir, egress)
	if err != nil {
		end()
		return nil, err
	}
	return func() {
		leave()
		end()
	}, nil
}

// log tells of each request, with --debug.
func (s *standIns) log() func(string) {
	t := s.ws.debug()
	if t == nil {
		return nil
	}
	return func(line string) { t.line("proxy: %s", line) }
}
