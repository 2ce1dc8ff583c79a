package sandbox

import (
	"bytes"
	"html"
)

// A page writes itself. Text that comes from anywhere gets onto it by text
// alone, which escapes it for content and for quoted attributes; raw takes what
// is written here. Package html/template would do it more comfortably, but it
// looks methods up by name, and then the linker keeps the methods of everything
// in the binary: a fifth of its size.
type page interface{ write(m *markup) }

type markup struct{ b bytes.Buffer }

// literal is HTML that stands in this file.
type literal string

func (m *markup) raw(l literal) { m.b.WriteString(string(l)) }

func (m *markup) text(s string) { m.b.WriteString(html.EscapeString(s)) }

// put writes literals and texts in turn, beginning with a literal.
func (m *markup) put(first literal, rest ...any) {
	m.raw(first)
	for _, part := range rest {
		switch part := part.(type) {
		case literal:
			m.raw(part)
		case string:
			m.text(part)
		}
	}
}

// whole writes a page with its head and foot.
func whole(p page) []byte {
	m := new(markup)
	p.write(m)
	m.raw(`</main>
</body>
</html>
`)
	return m.b.Bytes()
}

func (m *markup) head(title string) {
	m.put(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>`, title, literal(` - Sandbox</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><p>Sandbox issuer on this machine. Nothing here is real.</p></header>
<main>
`))
}

// message tells one thing.
type message struct{ Title, Text string }

func (p message) write(m *markup) {
	m.head(p.Title)
	m.put("<h1>", p.Title, literal("</h1>\n<p>"), p.Text, literal("</p>\n"))
}

// indexPage says what there is.
type indexPage struct{ Issuer, API, Client string }

func (p indexPage) write(m *markup) {
	m.head("Sandbox")
	m.put(`<h1>Sandbox</h1>
<p>An OAuth issuer and a small API, for trying things out. Its state is in memory and gone when it ends.</p>
<dl>
<dt>Issuer</dt><dd><code>`, p.Issuer, literal(`</code></dd>
<dt>API</dt><dd><code>`), p.API, literal(`</code> with <code>/me</code>, <code>/echo</code>, <code>/items</code>, <code>/status/418</code></dd>
<dt>Public client</dt><dd><code>`), p.Client, literal(`</code></dd>
<dt>Metadata</dt><dd><a href="/.well-known/oauth-authorization-server">/.well-known/oauth-authorization-server</a></dd>
<dt>Device code</dt><dd><a href="/device">/device</a></dd>
</dl>
`))
}

// devicePage takes a device's code.
type devicePage struct{ Unknown bool }

func (p devicePage) write(m *markup) {
	m.head("Connect a device")
	m.raw("<h1>Connect a device</h1>\n")
	if p.Unknown {
		m.raw(`<p role="alert" class="alert">No device waits with this code. Check it and type it again.</p>` + "\n")
	}
	m.raw(`<form method="get" action="/device">
<label for="user_code">Code that the device shows</label>
<input type="text" id="user_code" name="user_code" required autofocus autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="12" placeholder="XXXX-XXXX">
<div class="buttons"><button type="submit" class="primary">Next</button></div>
</form>
`)
}

// consentPage is what a person is asked.
type consentPage struct {
	Action, ID, CSRF string
	Client, Origin   string
	Device           bool
	UserCode         string
	Scopes           []scopeInfo
	Accounts         []*account
	Chosen           string
}

func (p consentPage) write(m *markup) {
	m.head("Allow access")
	m.put("<h1>Allow ", p.Client, literal(" to use your account?</h1>\n"))
	if p.Device {
		m.put("<p>A device asks for access. Go on only if it shows this code:</p>\n<p class=\"code\">", p.UserCode, literal("</p>\n"))
	} else {
		m.put("<p>You will be sent back to <strong>", p.Origin, literal("</strong>.</p>\n"))
	}
	m.put(`<form method="post" action="`, p.Action, literal(`">
<input type="hidden" name="id" value="`), p.ID, literal(`">
<input type="hidden" name="csrf" value="`), p.CSRF, literal(`">
<fieldset>
<legend>Account</legend>
`))
	for _, a := range p.Accounts {
		m.raw(`<label class="choice"><input type="radio" name="account"`)
		if a.Login == p.Chosen {
			m.raw(" checked")
		}
		m.put(` value="`, a.Login, literal(`">
<span><strong>`), a.Name, literal("</strong><br><small>"), a.Email, literal("</small></span></label>\n"))
	}
	m.raw("</fieldset>\n<h2>It will be able to</h2>\n<ul>\n")
	for _, s := range p.Scopes {
		m.put("<li><strong>", s.Title, literal("</strong> <code>"), s.Name, literal("</code><br>"), s.Description, literal("</li>\n"))
	}
	m.raw(`</ul>
<div class="buttons">
<button type="submit" name="decision" value="approve" class="primary">Approve</button>
<button type="submit" name="decision" value="deny">Deny</button>
</div>
</form>
`)
}
