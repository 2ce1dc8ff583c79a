package dashboard

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
)

// providersView lists the catalogue, or what a word finds in it.
type providersView struct {
	word string
	list []Provider
}

func (s *Server) providersView(ctx context.Context, word string) (view, error) {
	list, err := s.work.Providers(ctx, strings.TrimSpace(word))
	if err != nil {
		return nil, err
	}
	return providersView{word, list}, nil
}

func (providersView) title() string { return "Providers" }
func (providersView) tab() string   { return "Providers" }
func (v providersView) write(m *markup) {
	m.put(`<form class="bar" role="search" method="get" action="providers">
<label for="q">Search by name, scope or API</label>
<input type="search" id="q" name="q" value="`, v.word, literal(`">
<button type="submit">Search</button>
</form>
`))
	if len(v.list) == 0 {
		m.put("<p class=\"empty\">No provider matches &ldquo;", v.word, literal("&rdquo;.</p>\n"))
		return
	}
	m.raw(`<ul class="providers">` + "\n")
	for _, p := range v.list {
		m.put(`<li><h2><a href="provider?id=`, url.QueryEscape(p.ID), literal(`">`), p.Name, literal("</a></h2>\n<p>"), p.Description, literal("</p>\n<p class=\"quiet\">"))
		m.text(cmp.Or(strings.Join(p.Flows, ", "), "discovered at connect"))
		p.marks(m)
		m.raw("</p></li>\n")
	}
	m.raw("</ul>\n")
}

func (p Provider) marks(m *markup) {
	m.when(p.Own, ` <span class="mark">yours</span>`)
	m.when(p.ClientID != "", ` <span class="mark">client stored</span>`)
	m.when(!p.Verified && !p.Own, ` <span class="mark warn">not verified</span>`)
	if p.Status != "" {
		m.put(` <span class="mark bad">`, p.Status, literal("</span>"))
	}
}

// providerView is one provider: connect to it, and register a client there.
type providerView struct {
	p    Provider
	name string
	c    *Connection // that is connected again; nil for a new one
}

func (s *Server) providerView(ctx context.Context, id, name string) (view, error) {
	var c *Connection
	var err error
	if name != "" {
		if c, err = s.connection(ctx, name); err != nil {
			return nil, err
		}
	}
	p, err := s.work.Provider(ctx, id)
	if p == nil {
		return nil, err
	}
	return providerView{p: *p, name: cmp.Or(name, p.ID), c: c}, nil
}

func (v providerView) title() string {
	if v.c != nil {
		return "Connect " + v.name
	}
	return v.p.Name
}
func (providerView) tab() string { return "Providers" }

func (v providerView) write(m *markup) {
	p := &v.p
	m.put("<p>", p.Description)
	p.marks(m)
	m.raw("</p>\n")
	if p.StatusNote != "" {
		m.put("<p class=\"notice\">", p.StatusNote, literal("</p>\n"))
	}
	m.raw(`<section aria-labelledby="h-connect"><h2 id="h-connect">Connect</h2>` + "\n")
	if p.ClientID == "" && !p.NoClient {
		m.raw("<p class=\"notice\">No client is stored for this provider. Register one first, below, unless the environment names it.</p>\n")
	}
	m.form("connect")
	m.hidden("provider", p.ID)
	if v.c != nil {
		m.hidden("name", v.name)
	} else {
		m.put(`<p><label for="name">Name of the connection</label>
<input type="text" id="name" name="name" required pattern="[a-z0-9][a-z0-9\-]*" maxlength="63" autocomplete="off" spellcheck="false" value="`, v.name, literal("\"></p>\n"))
	}
	v.key(m)
	if !p.NoClient {
		v.choice(m)
	}
	flows := slices.DeleteFunc(slices.Clone(p.Flows), func(f string) bool { return f != "browser" && f != "device" && f != "client-credentials" })
	if len(flows) > 1 {
		m.raw(`<p><label for="flow">Way to log in</label>
<select id="flow" name="flow">
<option value="auto">the best for this provider</option>
`)
		for _, f := range flows {
			m.put(`<option value="`, f, literal(`">`), f, literal("</option>\n"))
		}
		m.raw("</select></p>\n")
	}
	m.raw(`<p class="actions"><button type="submit" class="primary">Connect</button></p>
</form>
</section>
`)
	v.register(m)
}

// key takes a key or a token that a person has.
func (v providerView) key(m *markup) {
	p := &v.p
	if !slices.Contains(p.Flows, "key") {
		return
	}
	m.raw(`<p><label for="key">`)
	if p.NoClient {
		m.raw("Key")
	} else {
		m.raw("A key or a token of your own, in place of a login")
	}
	m.raw("</label>\n" + `<input type="password" id="key" name="key" autocomplete="off" spellcheck="false"`)
	m.when(p.NoClient, " required")
	m.raw("></p>\n")
	if p.NoClient && p.RegisterPage != "" {
		m.raw("<p>Make one at ")
		m.outside("", p.RegisterPage, p.RegisterPage)
		m.raw("</p>\n")
	}
	m.raw(`<p><label for="expires">The day on which it ends, if it does</label>
<input type="date" id="expires" name="expires"></p>
`)
}

// choice lets a person pick scopes: those of the catalogue by category, and
// others by name.
func (v providerView) choice(m *markup) {
	p := &v.p
	if p.NoScopes {
		m.raw("<p>This provider takes no scopes: what a token may do is set where the client is registered.</p>\n")
		return
	}
	needed, asked := map[string]bool{}, map[string]bool{}
	again := false
	if v.c != nil {
		for _, s := range v.c.Scopes {
			needed[s.Name], asked[s.Name] = s.Needed, s.Asked
			again = again || s.Asked
		}
	}
	var categories []string
	listed := map[string]bool{}
	for _, s := range p.Scopes {
		listed[s.Name] = true
		if !slices.Contains(categories, s.Category) {
			categories = append(categories, s.Category)
		}
	}
	for _, category := range categories {
		m.put("<fieldset>\n<legend>Scopes: ", cmp.Or(category, "all"), literal("</legend>\n"))
		for _, s := range p.Scopes {
			if s.Category != category {
				continue
			}
			m.put(`<label class="choice"><input type="checkbox" name="scope" value="`, s.Name, literal(`"`))
			ticked := s.Required || needed[s.Name] || asked[s.Name] || !again && s.Default
			m.when(ticked, " checked")
			m.when(s.Required, " disabled")
			m.put(">\n<span><strong>", cmp.Or(s.Title, s.Name), literal("</strong> <code>"), s.Name, literal("</code>"))
			m.when(s.Required, ` <span class="mark">always asked for</span>`)
			m.when(needed[s.Name], ` <span class="mark">needed here</span>`)
			m.when(s.Broad, ` <span class="mark warn">broad</span>`)
			if s.Description != "" {
				m.put("<br>\n<small>", s.Description, literal("</small>"))
			}
			m.raw("</span></label>\n")
		}
		m.raw("</fieldset>\n")
	}
	var more []string
	if v.c != nil {
		for _, s := range v.c.Scopes {
			if !listed[s.Name] && (s.Needed || s.Asked) {
				more = append(more, s.Name)
			}
		}
	}
	m.put(`<p><label for="more">Other scopes, with blanks between</label>
<input type="text" id="more" name="more" autocomplete="off" autocapitalize="none" spellcheck="false" value="`, strings.Join(more, " "), literal("\"></p>\n"))
}

// register tells how a client is registered, and takes it.
func (v providerView) register(m *markup) {
	p := &v.p
	if p.NoClient {
		return
	}
	m.raw(`<section aria-labelledby="h-client"><h2 id="h-client">Client registration</h2>` + "\n<dl>\n")
	if p.ClientID != "" {
		m.put("<dt>Stored client</dt><dd><code>", p.ClientID, literal("</code></dd>\n"))
	}
	if p.RegisterPage != "" {
		m.raw("<dt>Register at</dt><dd>")
		m.outside("", p.RegisterPage, p.RegisterPage)
		m.raw("</dd>\n")
	}
	if p.RedirectURI != "" {
		m.put("<dt>Redirect URI, exactly</dt><dd><code>", p.RedirectURI, literal("</code></dd>\n"))
	}
	m.raw("</dl>\n")
	if len(p.Steps) > 0 {
		m.raw("<ol>\n")
		for _, step := range p.Steps {
			m.put("<li>", step, literal("</li>\n"))
		}
		m.raw("</ol>\n")
	}
	m.form("client")
	m.hidden("provider", p.ID)
	m.raw(`<p><label for="id">Client id</label>
<input type="text" id="id" name="id" required autocomplete="off" autocapitalize="none" spellcheck="false"></p>
<p><label for="secret">Client secret, unless it has none</label>
<input type="password" id="secret" name="secret" autocomplete="off" spellcheck="false"></p>
`)
	for _, x := range p.Variables {
		m.put(`<p><label for="var-`, x.Name, literal(`">`), cmp.Or(x.Title, x.Name), literal("</label>\n"))
		if len(x.Values) > 0 {
			m.put(`<select id="var-`, x.Name, literal(`" name="var.`), x.Name, literal(`">`))
			for _, value := range x.Values {
				m.put(`<option value="`, value, literal(`"`))
				m.when(value == x.Default, " selected")
				m.put(">", value, literal("</option>"))
			}
			m.raw("</select></p>\n")
			continue
		}
		m.put(`<input type="text" id="var-`, x.Name, literal(`" name="var.`), x.Name, literal(`" autocomplete="off" autocapitalize="none" spellcheck="false" value="`), x.Default, literal("\"></p>\n"))
	}
	m.raw(`<p><label class="choice"><input type="checkbox" name="project" value="yes"> <span>for this project only</span></label></p>
<p class="actions"><button type="submit">Store the client</button></p>
</form>
</section>
`)
}
