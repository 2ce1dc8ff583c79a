package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
)

// shortest is the length in bytes below which a text is not looked for: it would
// be found where it does not stand.
const shortest = 8

// form is one way in which a secret may be written.
type form struct {
	text []byte
	// opaque is set where the form is a piece of a larger code (base64), in
	// which only as many harmless characters can stand in for it.
	opaque bool
}

// formsOf lists how the usual encoders write s: as it is, escaped for a URL or
// for JSON, and inside of base64 at each of the three places where a group of
// three bytes can begin, in both alphabets. Of base64 it is the characters that
// depend on s alone.
func formsOf(s string) []form {
	var list []form
	add := func(text string, opaque bool) {
		if len(text) < shortest {
			return
		}
		for _, f := range list {
			if string(f.text) == text {
				return
			}
		}
		list = append(list, form{[]byte(text), opaque})
	}
	add(s, false)
	if len(list) == 0 {
		return nil
	}
	for _, escaped := range []string{url.QueryEscape(s), url.PathEscape(s), escapeAll(s)} {
		add(escaped, false)
		add(lowerHex(escaped, '%', 2), false)
	}
	for _, escaped := range jsonForms(s) {
		add(escaped, false)
	}
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			code := alphabet.EncodeToString([]byte("\x00\x00"[:before] + s))
			add(code[(before*8+5)/6:(before+len(s))*8/6], true)
		}
	}
	return list
}

// escapeAll escapes every character that is not a letter or a digit.
func escapeAll(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// jsonForms returns s as encoders of JSON write it: with and without escapes for
// HTML, with an escaped slash (PHP), and with a plus as an escape (.NET).
func jsonForms(s string) []string {
	var forms []string
	for _, html := range []bool{false, true} {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(html)
		if enc.Encode(s) != nil {
			return nil
		}
		text := strings.TrimSuffix(b.String(), "\n")
		text = text[1 : len(text)-1]
		forms = append(forms, text, strings.ReplaceAll(text, "/", `\/`))
		text = strings.ReplaceAll(text, "+", `\u002b`)
		forms = append(forms, text, upperHex(text, `\u`, 4))
	}
	return forms
}

// lowerHex writes the n digits after each mark in lower case.
func lowerHex(s string, mark byte, n int) string {
	b := []byte(s)
	for i := 0; i+n < len(b); i++ {
		if b[i] == mark {
			copy(b[i+1:i+1+n], bytes.ToLower(b[i+1:i+1+n]))
		}
	}
	return string(b)
}

// upperHex writes the n digits after each mark in upper case.
func upperHex(s, mark string, n int) string {
	b := []byte(s)
	for i := 0; i+len(mark)+n <= len(b); i++ {
		if bytes.HasPrefix(b[i:], []byte(mark)) {
			digits := b[i+len(mark) : i+len(mark)+n]
			copy(digits, bytes.ToUpper(digits))
		}
	}
	return string(b)
}
