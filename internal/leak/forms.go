// Package leak finds secrets in what leaves a machine: output, files, bundles.
// It knows the forms that a secret takes on its way through encoders, and looks
// for all of them at once in a stream that comes in pieces of any size.
package leak

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/apiauth/apiauth/internal/secret"
)

// Secret is one value to find.
type Secret struct {
	Connection string // the connection that it belongs to
	Kind       string // what it is, for people: "access token"
	Value      secret.Text
}

const (
	// minLength is the length in bytes from which a value can be told from
	// ordinary text. Shorter ones are not looked for.
	minLength = 6
	// minEncoded is the length in bytes from which encoded forms are looked for.
	minEncoded = 8
)

// form is one way to write a secret.
type form struct{ name, text string }

// forms lists the ways in which s may stand in a text, s itself first. Forms
// that do not differ from an earlier one are left out.
func forms(s string) []form {
	if len(s) < minLength {
		return nil
	}
	list := []form{{"raw", s}}
	if len(s) >= minEncoded {
		list = append(list, encoded(s)...)
	}
	seen := make(map[string]bool, len(list))
	out := list[:0]
	for _, f := range list {
		f.text = visible(f.text)
		if f.text == "" || seen[f.text] {
			continue
		}
		seen[f.text] = true
		out = append(out, f)
	}
	return out
}

func encoded(s string) []form {
	var list []form
	add := func(name string, texts ...string) {
		for _, t := range texts {
			list = append(list, form{name, t})
		}
	}
	query := url.QueryEscape(s)
	add("url", query, lowerEscapes(query), url.PathEscape(s), url.QueryEscape(query), each(s, "%%%02X"), each(s, "%%%02x"))
	for _, v := range jsonStrings(s) {
		add("json", v, quoted(v, `"\`, `\%c`)) // and a JSON string in a JSON string
	}
	add("json", each(s, `\u%04x`), each(s, `\u%04X`))
	add("html", entities(s, "&#34;", ""), entities(s, "&quot;", ""), entities(s, "&#34;", "+"), entities(s, "&quot;", "/`="))
	add("escaped", quoted(s, `'\`, `\%c`), quoted(s, " !\"#$&'()*;<>?[\\]^`{|}~", `\%c`), strings.ReplaceAll(s, "'", `'\''`))
	add("hex", each(s, "%02x"), each(s, "%02X"), each(s, `\x%02x`), each(s, `\x%02X`))
	for _, v := range []string{s, query} {
		for offset := range 3 {
			std, raw := base64At(base64.StdEncoding, v, offset), base64At(base64.URLEncoding, v, offset)
			add("base64", std)
			add("base64url", raw)
			add("base64", url.QueryEscape(std), strings.ReplaceAll(std, "/", `\/`))
		}
	}
	add("utf-16", wide(s, false), wide(s, true))
	return list
}

// base64At is the part of an encoding that v alone decides when it stands offset
// bytes behind a group of three. What surrounds it decides up to five bits more
// at either end, and the padding.
func base64At(enc *base64.Encoding, v string, offset int) string {
	text := enc.WithPadding(base64.NoPadding).EncodeToString(append(make([]byte, offset), v...))
	return text[(8*offset+5)/6 : 8*(offset+len(v))/6]
}

// jsonStrings lists what is between the quotes when s stands in JSON: writers
// agree on " and \, and differ on what else they take for dangerous.
func jsonStrings(s string) []string {
	plain := quoted(s, `"\`, `\%c`)
	page := quoted(plain, "<>&", `\u%04x`) // Go, Rails
	return []string{
		plain, page, quoted(plain, "<>&", `\u%04X`),
		quoted(plain, "/", `\%c`), quoted(page, "/", `\%c`), // PHP
		quoted(plain, "<>&='", `\u%04x`), // Gson
	}
}

// entities writes s as HTML. Writers differ on the quote, and some write what
// is in more as a number, in decimal (Go) or hexadecimal (Mustache).
func entities(s, quote, more string) string {
	format := "&#x%X;"
	if more == "+" {
		format = "&#%d;"
	}
	text := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, quote, "'", "&#39;").Replace(s)
	return quoted(text, more, format)
}

// each writes every byte of s in a format.
func each(s, format string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, format, s[i])
	}
	return b.String()
}

// quoted writes those bytes of s that are in set in a format.
func quoted(s, set, format string) string {
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) >= 0 {
			fmt.Fprintf(&b, format, s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// lowerEscapes writes %2B as %2b.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], strings.ToLower(string(b[i+1:i+3])))
			i += 2
		}
	}
	return string(b)
}

// wide is s in UTF-16, as Windows writes files.
func wide(s string, big bool) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	if big {
		return string(b)
	}
	return strings.TrimSuffix(string(b), "\x00")
}

// visible leaves out of a pattern what is passed over in a text.
func visible(s string) string {
	return strings.NewReplacer("\r", "", "\n", "", "\x1b", "").Replace(s)
}
