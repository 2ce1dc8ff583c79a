package dashboard

import (
	"context"
	"net/url"
	"slices"
	"strings"
)

// view is the content of one page.
type view interface {
	title() string
	tab() string // of the navigation
	write(m *markup)
}

// page writes a whole page.
func (s *Server) page(v view, n notice) []byte {
	m := &markup{csrf: s.csrf}
	m.put(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>`, v.title(), literal(` - apiauth</title>
<link rel="stylesheet" href="style.css">
<link rel="icon" href="icon.svg">
<script src="page.js" defer></script>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<p class="brand">apiauth</p>
<nav aria-label="Pages">
<ul>
`))
	for _, t := range []struct {
		id   string
		link literal
	}{
		{"Connections", `href="./">Connections`}, {"Providers", `href="providers">Providers`},
		{"Clients", `href="clients">Clients`}, {"Log", `href="log">Log`}, {"Leaks", `href="leak">Leaks`},
	} {
		m.raw("<li><a ")
		m.when(t.id == v.tab(), `aria-current="page" `)
		m.put(t.link, literal("</a></li>\n"))
	}
	m.put(`</ul>
</nav>
</header>
<main id="content" tabindex="-1">
<h1>`, v.title(), literal("</h1>\n"))
	if len(n.lines) > 0 {
		m.raw(`<div class="notice`)
		m.when(n.failed, ` bad`)
		m.raw(`" role="`)
		if n.failed {
			m.raw("alert")
		} else {
			m.raw("status")
		}
		m.raw("\">\n")
		for _, line := range n.lines {
			m.put("<p>", line, literal("</p>\n"))
		}
		m.raw("</div>\n")
	}
	v.write(m)
	m.raw(`</main>
<p id="spoken" class="unseen" role="status"></p>
</body>
</html>
`)
	return m.b.Bytes()
}

// problemView tells why a page cannot be shown.
type problemView struct{ err error }

func (problemView) title() string { return "That did not work" }
func (problemView) tab() string   { return "" }
func (v problemView) write(m *markup) {
	m.raw(`<div class="notice bad" role="alert">` + "\n")
	for line := range strings.SplitSeq(v.err.Error(), "\n") {
		m.put("<p>", line, literal("</p>\n"))
	}
	m.raw("</div>\n")
}

// connectionsView lists the connections of a project, with the logins under way.
type connectionsView struct {
	projects    []Project
	project     Project
	connections []Connection
	logins      []Login
}

func (s *Server) connectionsView(ctx context.Context, id string) (view, error) {
	projects, err := s.work.Projects(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(projects, func(p Project) bool { return p.ID == id || id == "" && p.Current })
	if at < 0 {
		return nil, nil
	}
	v := connectionsView{projects: projects, project: projects[at]}
	if v.connections, err = s.work.Connections(ctx, v.project.ID); err != nil {
		return nil, err
	}
	if v.project.Current {
		v.logins = s.work.Logins()
	}
	return v, nil
}

func (connectionsView) title() string { return "Connections" }
func (connectionsView) tab() string   { return "Connections" }

func (v connectionsView) write(m *markup) {
	if len(v.projects) > 1 {
		m.raw(`<form class="bar" method="get" action="./">
<label for="project">Project</label>
<select id="project" name="project">
`)
		for _, p := range v.projects {
			m.put(`<option value="`, p.ID, literal(`"`))
			m.when(p.ID == v.project.ID, " selected")
			m.put(">", p.Label)
			m.when(p.Current, " (this folder)")
			m.raw("</option>\n")
		}
		m.raw(`</select>
<button type="submit">Show</button>
</form>
`)
	}
	m.put(`<p class="quiet">`, v.project.Label)
	if len(v.project.Folders) > 0 {
		m.put(" in ", strings.Join(v.project.Folders, ", "))
	}
	if v.project.Current {
		m.raw(`.</p>
<p><a class="button" href="providers">Connect to a provider</a></p>
`)
	} else {
		m.raw(". It can be looked at only: start the dashboard in its folder to change it.</p>\n")
	}
	m.put(`<noscript><p class="quiet">Reload the page to see what has changed.</p></noscript>
<div id="live" data-address="live?project=`, url.QueryEscape(v.project.ID), literal(`">
`))
	v.list(m)
	m.raw("</div>\n")
}

// list is the part that the script replaces.
func (v connectionsView) list(m *markup) {
	if len(v.logins) > 0 {
		m.raw(`<section aria-labelledby="logins"><h2 id="logins">Logins</h2>` + "\n")
		for _, l := range v.logins {
			l.write(m)
		}
		m.raw("</section>\n")
	}
	m.raw(`<section aria-labelledby="stored"><h2 id="stored" class="unseen">Stored connections</h2>` + "\n")
	if len(v.connections) == 0 {
		m.raw("<p class=\"empty\">Nothing is connected here yet.</p>\n")
	}
	m.raw(`<div class="cards">` + "\n")
	for _, c := range v.connections {
		c.write(m, v.project.Current)
	}
	m.raw("</div>\n</section>\n")
}

func (l Login) write(m *markup) {
	m.put(`<article class="login `, l.State, literal(`" aria-label="Login to `), l.Name, literal("\">\n<h3>"), l.Name, literal("</h3>\n"))
	switch l.State {
	case LoginWaiting:
		if l.URL == "" {
			m.put("<p data-spoken>The login to ", l.Name, literal(" is being prepared.</p>\n"))
			break
		}
		m.put("<p data-spoken>The login to ", l.Name, literal(" waits for you.</p>\n<p>"))
		m.outside("button", l.URL, "Log in at "+l.Provider)
		m.raw("</p>\n")
		l.paste(m)
	case LoginDone:
		m.put("<p data-spoken>", l.Name, literal(" is connected.</p>\n"))
	case LoginFailed:
		m.put(`<p data-spoken class="wrong">`, l.Problem, literal("</p>\n"))
		if l.Hint != "" {
			m.put("<p>", l.Hint, literal("</p>\n"))
		}
	}
	if len(l.Lines) > 0 {
		m.put(`<details id="said-`, l.Name, literal(`"`))
		m.raw("><summary>What was said</summary>\n<ul>\n")
		for _, line := range l.Lines {
			m.put("<li>", line, literal("</li>\n"))
		}
		m.raw("</ul></details>\n")
	}
	m.form("giveup")
	m.hidden("name", l.Name)
	m.put(`<button type="submit" id="giveup-`, l.Name, literal(`">`))
	if l.State == LoginWaiting {
		m.raw("Give up")
	} else {
		m.raw("Dismiss")
	}
	m.put(`<span class="unseen"> `, l.Name, literal("</span></button>\n</form>\n</article>\n"))
}

// paste takes the address of the last page, where the browser cannot bring it. It
// holds a code, and so it is typed like a password.
func (l Login) paste(m *markup) {
	if !l.Paste {
		return
	}
	m.form("paste")
	m.hidden("name", l.Name)
	m.put(`<p><label for="address-`, l.Name, literal(`">If the browser ends on a page that does not load, paste its whole address<span class="unseen"> for `), l.Name,
		literal("</span></label>\n<input type=\"password\" id=\"address-"), l.Name, literal(`" name="address" required autocomplete="off" spellcheck="false">
<button type="submit" id="paste-`), l.Name, literal("\">Take the address</button></p>\n</form>\n"))
}

func (c Connection) write(m *markup, current bool) {
	m.put(`<article class="card" aria-label="`, c.Name, literal("\">\n<h3>"), c.Name, literal(` <span class="state `), c.State, literal(`">`))
	switch c.State {
	case StateOK:
		m.raw("connected")
	case StateNeedsConnect:
		m.raw("needs a login")
	case StateUnreadable:
		m.raw("unreadable")
	default:
		m.raw("not connected")
	}
	m.raw("</span></h3>\n")
	if c.Reason != "" {
		m.put(`<p class="wrong">`, c.Reason, literal("</p>\n"))
	}
	m.raw("<dl>\n")
	if c.Provider != "" {
		m.put("<dt>Provider</dt><dd>", c.ProviderName, literal("</dd>\n"))
	}
	if c.Account != "" {
		m.put("<dt>Account</dt><dd>", c.Account, literal("</dd>\n"))
	}
	for _, f := range c.Facts {
		m.put("<dt>", f.Label, literal("</dt><dd>"), f.Value, literal("</dd>\n"))
	}
	m.raw("</dl>\n")
	c.scopes(m)
	if current || c.Page != "" {
		m.raw(`<p class="actions">`)
		if current && c.State != StateUnreadable {
			m.put(`<a class="button" id="connect-`, c.Name, literal(`" href="provider?id=`), url.QueryEscape(c.Provider),
				literal("&amp;connection="), url.QueryEscape(c.Name), literal(`">`))
			switch {
			case c.State == StateNotConnected:
				m.raw("Connect")
			case c.Key:
				m.raw("Replace the key")
			default:
				m.raw("Reconnect or change scopes")
			}
			m.put(`<span class="unseen"> of `, c.Name, literal("</span></a> "))
		}
		if current && c.State != StateNotConnected {
			m.put(`<a class="button" id="disconnect-`, c.Name, literal(`" href="disconnect?connection=`), url.QueryEscape(c.Name),
				literal(`">Disconnect<span class="unseen"> `), c.Name, literal("</span></a> "))
		}
		if c.Page != "" {
			m.outside("", c.Page, "Your apps at "+c.ProviderName)
		}
		m.raw("</p>\n")
	}
	m.raw("</article>\n")
}

// scopes compares what was asked for, granted and needed.
func (c Connection) scopes(m *markup) {
	if len(c.Scopes) == 0 {
		return
	}
	m.put(`<table><caption class="unseen">Scopes of `, c.Name, literal(`</caption>
<thead><tr><th scope="col">Scope</th><th scope="col">Asked</th><th scope="col">Granted</th><th scope="col">Needed</th></tr></thead>
<tbody>
`))
	cell := func(holds bool) {
		if holds {
			m.raw("<td>yes</td>")
		} else {
			m.raw(`<td class="no">no</td>`)
		}
	}
	for _, s := range c.Scopes {
		m.put(`<tr><th scope="row"><code>`, s.Name, literal("</code>"))
		m.when(s.Missing, ` <span class="mark bad">missing</span>`)
		m.when(s.Refused && !s.Missing, ` <span class="mark warn">not granted</span>`)
		m.when(s.Superfluous, ` <span class="mark">not needed</span>`)
		m.when(s.Broad, ` <span class="mark warn">broad</span>`)
		m.raw("</th>")
		cell(s.Asked)
		if c.ScopesKnown || c.State == StateNotConnected {
			cell(s.Granted)
		} else {
			m.raw(`<td class="no">not told</td>`)
		}
		cell(s.Needed)
		m.raw("</tr>\n")
	}
	m.raw("</tbody></table>\n")
}

// disconnectView asks before a grant is revoked.
type disconnectView struct{ c Connection }

func (s *Server) disconnectView(ctx context.Context, name string) (view, error) {
	c, err := s.connection(ctx, name)
	if c == nil {
		return nil, err
	}
	return disconnectView{*c}, nil
}

// connection finds one of the project that the dashboard was started in.
func (s *Server) connection(ctx context.Context, name string) (*Connection, error) {
	v, err := s.connectionsView(ctx, "")
	if v == nil || err != nil {
		return nil, err
	}
	for _, c := range v.(connectionsView).connections { //nolint:errcheck,forcetypeassert // it is what connectionsView returns
		if c.Name == name {
			return &c, nil
		}
	}
	return nil, nil
}

func (v disconnectView) title() string { return "Disconnect " + v.c.Name }
func (disconnectView) tab() string     { return "Connections" }
func (v disconnectView) write(m *markup) {
	m.put("<p>The grant of ", v.c.Name, literal(" is forgotten here and revoked at "), v.c.ProviderName,
		literal(", where that can be done. Programs that use it get no token any more.</p>\n"))
	m.form("disconnect")
	m.hidden("name", v.c.Name)
	m.raw(`<p class="actions"><button type="submit" class="danger">Disconnect</button> <a class="button" href="./">Keep it</a></p>
</form>
`)
}

// clientsView lists client registrations.
type clientsView struct{ list []Client }

func (s *Server) clientsView(ctx context.Context) (view, error) {
	list, err := s.work.Clients(ctx)
	if err != nil {
		return nil, err
	}
	return clientsView{list}, nil
}

func (clientsView) title() string { return "Clients" }
func (clientsView) tab() string   { return "Clients" }
func (v clientsView) write(m *markup) {
	m.raw("<p>A client is your application as a provider knows it. Its secret is kept like a grant and never shown.</p>\n")
	if len(v.list) == 0 {
		m.raw("<p class=\"empty\">No client is stored. The page of a provider has the form.</p>\n")
		return
	}
	m.raw(`<div class="wide" tabindex="0" role="region" aria-label="Stored clients"><table>
<thead><tr><th scope="col">Provider</th><th scope="col">Client id</th><th scope="col">Secret</th><th scope="col">For</th><th scope="col">Redirect URI</th><th scope="col">Store</th><th scope="col">Set</th></tr></thead>
<tbody>
`)
	for _, c := range v.list {
		m.put(`<tr><th scope="row"><a href="provider?id=`, url.QueryEscape(c.Provider), literal(`">`), c.Provider, literal("</a></th><td><code>"), c.ID, literal("</code></td><td>"))
		if c.HasSecret {
			m.raw("stored")
		} else {
			m.raw("none")
		}
		m.put("</td><td>", c.For, literal("</td><td>"), c.RedirectURI, literal("</td><td>"), c.Store, literal("</td><td>"), c.Set, literal("</td></tr>\n"))
	}
	m.raw("</tbody></table></div>\n")
}

// leakView takes a token that leaked.
type leakView struct{}

func (leakView) title() string { return "Leaked token" }
func (leakView) tab() string   { return "Leaks" }
func (leakView) write(m *markup) {
	m.raw(`<p>Paste a token, or a client secret, that got out. What it belongs to in any of your projects is found, revoked at its provider and forgotten here, as far as that can be done; what is left to do by hand is told.</p>
`)
	m.form("revoke")
	m.raw(`<p><label for="token">Token</label>
<input type="password" id="token" name="token" required autocomplete="off" spellcheck="false"></p>
<p class="actions"><button type="submit" class="danger">Find and revoke</button></p>
</form>
`)
}
