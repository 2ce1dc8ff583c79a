package dashboard

import (
	"bytes"
	"html"
	"net/url"
)

// markup is HTML that is being written. Text that comes from anywhere gets onto
// it escaped, for content and for quoted attributes alike; what is not escaped is
// a literal, which stands in these files. html/template is not used for the
// reason that internal/sandbox/pages.go gives.
type markup struct {
	b    bytes.Buffer
	csrf string
}

// literal is HTML that stands in these files.
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

// when writes a literal if a condition holds.
func (m *markup) when(holds bool, l literal) {
	if holds {
		m.raw(l)
	}
}

// outside writes a link to another site, which opens by itself and learns nothing
// of this page. What is no address of the web is written as text.
func (m *markup) outside(class literal, address, label string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		m.text(address)
		return
	}
	m.put(`<a class="`, class, literal(`" target="_blank" rel="noopener noreferrer" href="`), address, literal(`">`), label,
		literal(`<span class="unseen"> (opens in a new tab)</span></a>`))
}

// form begins a form that changes something.
func (m *markup) form(action literal) {
	m.put(`<form method="post" action="`, action, literal(`">
<input type="hidden" name="csrf" value="`), m.csrf, literal(`">
`))
}

func (m *markup) hidden(name literal, value string) {
	m.put(`<input type="hidden" name="`, name, literal(`" value="`), value, literal(`">
`))
}
