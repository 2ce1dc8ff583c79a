package oauth

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxCleanRunes = 200
	maxURL        = 8 << 10
)

// Clean makes text from a server, a provider file or a callback fit to be
// shown on a terminal, in a log or in JSON: one line of at most 200
// characters, without control characters, terminal escape sequences,
// bidirectional controls and invisible characters, and never beginning with a
// workflow command of a CI system. Clean(Clean(s)) equals Clean(s).
func Clean(s string) string {
	if isClean(s) {
		return s
	}
	// A rune is at most 4 bytes, escape sequences come on top. More than this
	// would be cut off anyway.
	if len(s) > 64<<10 {
		s = s[:64<<10]
	}
	line := cleanLine(s)
	if utf8.RuneCountInString(line) <= maxCleanRunes {
		return line
	}
	runes := []rune(line)
	return string(runes[:maxCleanRunes-1]) + "…"
}

// isClean reports whether a text is short, of visible ASCII and single blanks, and
// no command: most are, and stay as they are.
func isClean(s string) bool {
	if len(s) > maxCleanRunes || strings.HasPrefix(s, "::") || strings.HasPrefix(s, "##") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == ' ' && (i == 0 || i == len(s)-1 || s[i-1] == ' ') {
			return false
		}
	}
	return true
}

// cleanLine is Clean without the limit.
func cleanLine(s string) string {
	var b strings.Builder
	blank := false
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == 0x1b || r >= 0x90 && r <= 0x9f && n == 2:
			s = s[escapeLen(s):]
			continue
		case unicode.IsSpace(r) || unicode.Is(unicode.Z, r):
			blank = true
		case !unicode.IsGraphic(r) || invisible(r):
			// Dropped: controls, formats, private and unassigned characters.
		default:
			if blank && b.Len() > 0 {
				b.WriteByte(' ')
			}
			blank = false
			b.WriteRune(r) // U+FFFD for a byte that is not UTF-8
		}
		s = s[n:]
	}
	line := b.String()
	// Commands of GitHub ("::add-mask::") and Azure ("##vso[", "##[").
	if strings.HasPrefix(line, "::") || strings.HasPrefix(line, "##") {
		line = line[:1] + " " + line[1:]
	}
	return line
}

// invisible reports letters and symbols that leave a cell empty.
func invisible(r rune) bool {
	switch r {
	case 0x034f, 0x115f, 0x1160, 0x17b4, 0x17b5, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return r >= 0xfe00 && r <= 0xfe0f || r >= 0xe0100 && r <= 0xe01ef
}

// escapeLen returns the length of the terminal control sequence (ECMA-48) at
// the start of s, which begins with ESC or with a C1 control. A sequence that
// does not end counts as its introducer only, so that it cannot swallow text.
func escapeLen(s string) int {
	r, n := utf8.DecodeRuneInString(s)
	if r == 0x1b {
		if len(s) == n {
			return n
		}
		if s[n] < 0x40 || s[n] > 0x5f {
			return n
		}
		r = rune(s[n]) + 0x40 // ESC [ is the two-byte form of 0x9b, and so on
		n++
	}
	switch r {
	case 0x9b: // CSI: parameters, intermediates, one final byte
		for i := n; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x3f {
				break
			}
		}
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC: up to BEL or ST
		for i := n; i < len(s); i++ {
			switch {
			case s[i] == 0x07:
				return i + 1
			case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\',
				s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
				return i + 2
			}
		}
	}
	return n
}

// CleanURL checks a URL that goes to a browser or a terminal and
// returns it written anew: http or https with a host, at most 8 KiB, without
// user information, blanks, control characters or non-ASCII host; characters
// that mean something to a shell are percent-encoded. The error does not
// repeat the URL.
func CleanURL(raw string) (string, error) {
	u, err := parseURL(raw)
	if err != nil {
		return "", err
	}
	s := u.String()
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c <= 0x20 || c >= 0x7f || strings.IndexByte("\"'`$()|\\<>{}^;", c) >= 0:
			fmt.Fprintf(&b, "%%%02X", c)
		case c == '%' && !(i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])):
			return "", errors.New("the URL has a broken percent-encoding")
		default:
			b.WriteByte(c)
		}
	}
	if b.Len() > maxURL {
		return "", fmt.Errorf("the URL is longer than %d bytes", maxURL)
	}
	return b.String(), nil
}

// parseURL accepts absolute http and https URLs with a plain host.
func parseURL(raw string) (*url.URL, error) {
	switch {
	case raw == "":
		return nil, errors.New("the URL is empty")
	case len(raw) > maxURL:
		return nil, fmt.Errorf("the URL is longer than %d bytes", maxURL)
	}
	for _, r := range raw {
		if r <= 0x20 || r == 0x7f || r >= 0x80 && (!unicode.IsGraphic(r) || unicode.IsSpace(r) || r == utf8.RuneError) {
			return nil, errors.New("the URL holds a blank or a control character")
		}
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("the URL cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL is neither https nor http")
	case u.Opaque != "" || u.Host == "" || u.Hostname() == "":
		return nil, errors.New("the URL has no host")
	case u.User != nil:
		return nil, errors.New("the URL holds a user name")
	}
	host, port := u.Hostname(), u.Port()
	if strings.HasPrefix(u.Host, "[") != strings.Contains(host, ":") {
		return nil, errors.New("the URL's host is not valid")
	}
	for i := range len(host) {
		c := host[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == ':' || c == '-' && i > 0
		if !ok {
			return nil, errors.New("the URL's host is not valid (international names are written in their xn-- form)")
		}
	}
	if len(port) > 5 || strings.HasSuffix(u.Host, ":") {
		return nil, errors.New("the URL's port is not valid")
	}
	return u, nil
}

// checkEndpoint applies the rules for URLs that requests go to:
// https, or http to 127.0.0.1, [::1] or localhost when that is allowed.
func checkEndpoint(raw string, allowLoopback bool) (*url.URL, error) {
	u, err := parseURL(raw)
	if err != nil {
		return nil, err
	}
	if u.Fragment != "" || strings.Contains(raw, "#") {
		return nil, errors.New("the URL has a fragment")
	}
	if u.Scheme == "http" {
		if !isLoopback(u.Hostname()) {
			return nil, errors.New("the URL is not https")
		}
		if !allowLoopback {
			return nil, errors.New("the URL is not https (http to this machine must be allowed by the provider's definition)")
		}
	}
	return u, nil
}

func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || strings.EqualFold(host, "localhost")
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
