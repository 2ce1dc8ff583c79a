package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/netlify"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// The styles of an environment that @netlify/functions reads. No environment
// suits both: what one kind of call needs, the other takes for a mistake.
const (
	netlifyFunction = "function" // getSecrets(event)
	netlifyBuild    = "build"    // getSecrets() and getSecretsForBuild()
)

func netlifyStyles() []string { return []string{netlifyFunction, netlifyBuild} }

// siteTokenTTL is how long a site token lives at most; the end of the run ends
// it before.
const siteTokenTTL = 12 * time.Hour

// netlifySite answers getSecrets for some connections of a project, in one run.
type netlifySite struct {
	ws    *workspace
	style string
	names []string
	site  netlify.Site
	token secret.Text
	// standIn, when set, gives the value to hand out in place of a token.
	standIn func(name string) (secret.Text, bool)

	mu sync.Mutex // one answer at a time
}

// siteTokens are the site tokens of this machine.
func (ws *workspace) siteTokens() *netlify.Tokens {
	return &netlify.Tokens{Dir: filepath.Join(ws.dirs.State, "site-tokens"), Now: ws.app.Now, Rand: ws.app.Rand}
}

// netlifySite makes a site and its token. Without names it has the manifest's
// connections.
func (ws *workspace) netlifySite(style string, named []string, ttl time.Duration) (*netlifySite, error) {
	if !slices.Contains(netlifyStyles(), style) {
		return nil, usagef("--netlify takes %s, not %q", strings.Join(netlifyStyles(), " or "), oauth.Clean(style))
	}
	id, err := ws.bound()
	if err != nil {
		return nil, err
	}
	list, err := ws.selected(named)
	if err != nil {
		return nil, err
	}
	n := &netlifySite{ws: ws, style: style}
	for _, sel := range list {
		if !slices.Contains(n.names, sel.Name) {
			n.names = append(n.names, sel.Name)
		}
	}
	// A name that nobody knows is a mistake; one that is not connected is a
	// service that is not logged in.
	if _, _, err := ws.entries(n.names); err != nil {
		if code, _ := explain(err); code != exitNeedsConnect {
			return nil, err
		}
	}
	site := netlify.Site{ID: id, Project: id, Connections: n.names, Expires: ws.app.Now().Add(ttl), PID: ws.app.PID}
	if own := ws.app.env("SITE_ID"); own != "" && !strings.ContainsFunc(own, func(r rune) bool { return r <= ' ' || r > '~' }) {
		site.ID = own // a program may know its site by that name
	}
	if n.token, n.site, err = ws.siteTokens().Mint(site); err != nil {
		return nil, failf(exitStore, "see whether "+ws.dirs.State+" can be written", "%w", pathReason(err))
	}
	return n, nil
}

// end makes the site's token worthless.
func (n *netlifySite) end() { _, _ = n.ws.siteTokens().Revoke(n.site.TokenID) }

// handlers are the hosts that the package asks, for the proxy of the run.
func (n *netlifySite) handlers(log func(string)) map[string]http.Handler {
	end := &netlify.Endpoint{Check: n.check, Secrets: n.secrets, Log: log}
	hosts := map[string]http.Handler{}
	for _, host := range netlify.Hosts() {
		hosts[host] = end
	}
	return hosts
}

// check takes this run's token and no other, and only while its file is there.
func (n *netlifySite) check(token secret.Text) (netlify.Site, error) {
	site, err := n.ws.siteTokens().Check(token)
	if err == nil && site.TokenID != n.site.TokenID {
		err = netlify.ErrToken
	}
	return site, err
}

// secrets are the connections as they are now: a disconnected one is not logged
// in at once.
func (n *netlifySite) secrets(ctx context.Context, _ netlify.Site) ([]json.RawMessage, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all, _, err := n.ws.entries(nil)
	if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	for _, name := range n.names {
		e := statusEntry{Name: name}
		if i := slices.IndexFunc(all, func(e statusEntry) bool { return e.Name == name }); i >= 0 {
			e = all[i]
		}
		s, err := n.ws.secret(ctx, all, &e)
		if err != nil {
			n.ws.warn("getSecrets: %v", err)
			return nil, err
		}
		if n.standIn != nil && !s.Token.IsZero() {
			if value, ok := n.standIn(name); ok {
				s.Token = value
			}
		}
		doc, err := s.Wire()
		if err != nil {
			return nil, err
		}
		list = append(list, doc)
	}
	return list, nil
}

// env adds what the package reads, and takes away what would lead it elsewhere.
func (n *netlifySite) env(base []string) []string {
	var env []string
	for _, kv := range base {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "NETLIFY", "NETLIFY_DEV", "NETLIFY_LOCAL", "_NETLIFY_GRAPH_TOKEN", "NETLIFY_GRAPH_TOKEN", "ONEGRAPH_AUTHLIFY_TOKEN", "SITE_ID":
		default:
			env = append(env, kv)
		}
	}
	mode := "NETLIFY_DEV=true"
	if n.style == netlifyBuild {
		mode = "NETLIFY=true"
	}
	return append(env, mode, "NETLIFY_GRAPH_TOKEN="+n.token.Reveal(), "ONEGRAPH_AUTHLIFY_TOKEN="+n.token.Reveal(), "SITE_ID="+n.site.ID)
}

// netlifyRun is a run of exec whose command asks getSecrets. It goes through
// the proxy of the run, with or without placeholders.
func (ws *workspace) netlifyRun(ctx context.Context, style string, named []string, l limits) (*standIns, error) {
	n, err := ws.netlifySite(style, named, siteTokenTTL)
	if err != nil {
		return nil, err
	}
	run, err := ws.siteStandIns(ctx, n, l)
	if err != nil {
		n.end()
		return nil, err
	}
	run.site = n
	return run, nil
}

// siteStandIns gets the tokens that the site's connections have now, so that
// they are known to --mask and --scan, and with placeholders what stands in for
// them.
func (ws *workspace) siteStandIns(ctx context.Context, n *netlifySite, l limits) (*standIns, error) {
	all, _, err := ws.entries(nil)
	if err != nil {
		return nil, err
	}
	var usable []string
	for _, e := range all {
		if e.Header == nil || !slices.Contains(n.names, e.Name) {
			continue
		}
		_, err := ws.token(ctx, e.Name, connection.Option{})
		switch {
		case errors.Is(err, connection.ErrNeedsConnect):
			ws.warn("%v", err)
		case err != nil:
			return nil, err
		default:
			usable = append(usable, e.Name)
		}
	}
	run := &standIns{ws: ws, limits: l}
	if !l.placeholder || len(usable) == 0 {
		run.tokens, err = ws.live(ctx, usable)
		return run, err
	}
	if run, err = ws.standIns(ctx, usable, l); err != nil {
		return nil, err
	}
	values := map[string]secret.Text{}
	for _, v := range run.vars {
		if v.Field == "" {
			values[v.Connection] = v.Value
		}
	}
	n.standIn = func(name string) (secret.Text, bool) {
		value, ok := values[name]
		return value, ok
	}
	return run, nil
}
