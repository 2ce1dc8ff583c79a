package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The formats that Write knows.
const (
	Sh         = "sh"         // POSIX shells: eval "$(apiauth env --format sh)"
	Fish       = "fish"       // apiauth env --format fish | source
	PowerShell = "powershell" // apiauth env --format powershell | Invoke-Expression
	Cmd        = "cmd"        // a batch file, or the body of for /f
	Dotenv     = "dotenv"     // a .env file
	JSON       = "json"       // one object
)

// Formats lists the formats that Write knows, in the order for help texts.
func Formats() []string {
	return []string{
		Sh, Fish, PowerShell, Cmd, Dotenv, JSON,
		Docker, GitHub, GitLab, Azure, CircleCI, Buildkite, Netlify,
	}
}

// FormatError says that a format is not one of Formats.
type FormatError struct{ Format string }

func (e *FormatError) Error() string {
	return fmt.Sprintf("unknown format %q: it is one of %s", e.Format, strings.Join(Formats(), ", "))
}

// Write writes vars to w in the given format, a few lines (or one JSON member)
// for each. Every format delivers a value byte for byte or refuses it with a
// *ValueError; nothing is written when one of the values is refused. A name
// that no format could carry safely is a *NameError, an unknown format a
// *FormatError. DeliveryOf says where the text belongs.
func Write(w io.Writer, format string, vars []Var) error {
	line := writer(format)
	if line == nil {
		return &FormatError{format}
	}
	object := format == JSON || format == Netlify
	var b bytes.Buffer
	if object {
		b.WriteString("{")
	}
	for i, v := range vars {
		if !validName(v.Name) {
			return checkForm(v.Connection, v.Name, false)
		}
		if err := reservedName(format, v); err != nil {
			return err
		}
		if strings.IndexByte(v.Value.Reveal(), 0) >= 0 {
			return &ValueError{v.Name, v.Connection, format, "contains a NUL byte"}
		}
		if masks(format) {
			if reason := unmaskable(v); reason != "" {
				return &ValueError{v.Name, v.Connection, format, reason}
			}
		}
		if object && i > 0 {
			b.WriteByte(',')
		}
		if reason := line(&b, v); reason != "" {
			return &ValueError{v.Name, v.Connection, format, reason}
		}
		if format == GitLab && b.Len() > gitlabSize {
			return &ValueError{v.Name, v.Connection, format, "makes the report larger than the 5 KiB that GitLab takes"}
		}
	}
	if object {
		if len(vars) > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("}\n")
	}
	_, err := w.Write(b.Bytes())
	return err
}

// writer returns what writes one variable in a format, or nil.
func writer(format string) func(b *bytes.Buffer, v Var) (reason string) {
	plain := func(line func(b *bytes.Buffer, name, value string) string) func(*bytes.Buffer, Var) string {
		return func(b *bytes.Buffer, v Var) string { return line(b, v.Name, v.Value.Reveal()) }
	}
	switch format {
	case Sh, CircleCI:
		return plain(shLine)
	case Fish:
		return plain(fishLine)
	case PowerShell:
		return plain(powershellLine)
	case Cmd:
		return plain(cmdLine)
	case Dotenv:
		return plain(dotenvLine)
	case JSON, Netlify:
		return plain(jsonMember)
	case Docker:
		return dockerLine
	case GitHub:
		return githubLines
	case GitLab:
		return gitlabLine
	case Azure:
		return azureLine
	case Buildkite:
		return buildkiteLines
	}
	return nil
}

// shLine uses single quotes, inside which a POSIX shell takes every byte but
// the quote itself as it is. A carriage return or line feed survives eval and
// a sourced file alike.
func shLine(b *bytes.Buffer, name, value string) string {
	fmt.Fprintf(b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	return ""
}

// fishLine uses fish's single quotes, inside which only \\ and \' are special.
// `| source` keeps line ends; (command substitution) would not, so values with
// line ends are refused.
func fishLine(b *bytes.Buffer, name, value string) string {
	if strings.ContainsAny(value, "\r\n") {
		return "contains a line end"
	}
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	fmt.Fprintf(b, "set -gx %s '%s'\n", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
	return ""
}

// powershellLine writes ASCII only, whatever the value: PowerShell decodes a
// program's output with the console's code page, hands it on line by line, and
// takes four more characters for a single quote (U+2018 to U+201B).
func powershellLine(b *bytes.Buffer, name, value string) string {
	if value == "" {
		return "is empty, which PowerShell takes as an order to remove the variable"
	}
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	fmt.Fprintf(b, "$env:%s = '", name)
	quoted := true
	for _, r := range value {
		plain := r >= 0x20 && r < 0x7f
		if plain && !quoted {
			b.WriteString(" + '")
			quoted = true
		}
		if !plain && quoted {
			b.WriteString("'")
			quoted = false
		}
		switch {
		case r == '\'':
			b.WriteString("''")
		case plain:
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(b, " + [char]0x%04X + [char]0x%04X", 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(b, " + [char]0x%04X", r)
		}
	}
	if quoted {
		b.WriteString("'")
	}
	b.WriteByte('\n')
	return ""
}

// cmdLine refuses what cmd.exe reads differently in a batch file, at the prompt
// and with delayed expansion: there is no one way to write a percent sign.
func cmdLine(b *bytes.Buffer, name, value string) string {
	for _, r := range value {
		switch {
		case r == '\r' || r == '\n':
			return "contains a line end"
		case r < 0x20 || r == 0x7f:
			return "contains a control character"
		case r > 0x7f:
			return "contains a character that is not ASCII"
		case r == '%' || r == '!' || r == '"':
			return fmt.Sprintf("contains %c, which cmd.exe would interpret", r)
		}
	}
	if value == "" {
		return "is empty, which cmd.exe takes as an order to remove the variable"
	}
	// 8191 is the longest command line of cmd.exe.
	if n := len(`set "="`) + len(name) + len(value); n > 8191 {
		return "is longer than a line of cmd.exe can be"
	}
	fmt.Fprintf(b, "set \"%s=%s\"\r\n", name, value)
	return ""
}

// dotenvLine writes the subset that the parsers of .env files (node's dotenv
// with and without expansion, docker compose, python-dotenv, Ruby, a shell that
// sources it) read alike. What they disagree on is refused.
func dotenvLine(b *bytes.Buffer, name, value string) string {
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	bare := value != ""
	for _, r := range value {
		switch {
		case r == '\r' || r == '\n' || r == 0x85 || r == 0x2028 || r == 0x2029:
			return "contains a line end"
		case r < 0x20 || r == 0x7f:
			return "contains a control character"
		case r == '$' || r == '\\' || r == '`':
			return fmt.Sprintf("contains %c, which the readers of .env files treat differently", r)
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@+=,", r):
		default:
			bare = false
		}
	}
	quote := "'"
	switch single, double := strings.Contains(value, "'"), strings.Contains(value, `"`); {
	case bare:
		quote = ""
	case single && double:
		return `contains both kinds of quotes`
	case single:
		// A history expansion of ! is for interactive shells and not for files.
		quote = `"`
	}
	fmt.Fprintf(b, "%s=%s%s%s\n", name, quote, value, quote)
	return ""
}

// jsonMember refuses what JSON cannot carry: bytes that are not UTF-8 would be
// replaced.
func jsonMember(b *bytes.Buffer, name, value string) string {
	if !utf8.ValidString(value) {
		return "is not valid UTF-8"
	}
	fmt.Fprintf(b, "\n  %q: ", name)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return "cannot be encoded"
	}
	b.Truncate(b.Len() - 1) // the line feed that Encode adds
	return ""
}
