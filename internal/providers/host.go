package providers

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// NormalHost brings a host with an optional port into the one form in which
// hosts are compared: lower case, no trailing dot, no port 443, IPv6 in
// brackets and in its shortest form. A host that a person or two parsers could
// read in different ways is refused: user information, characters beyond ASCII
// (an internationalised name must come as xn--), spaces, escapes, an empty or
// odd port, and numbers that only look like an address.
func NormalHost(hostport string) (string, error) {
	refuse := func(why string) (string, error) {
		return "", fmt.Errorf("%s is not a host: %s", strconv.QuoteToASCII(clip(hostport, 80)), why)
	}
	if hostport == "" {
		return refuse("it is empty")
	}
	if len(hostport) > 260 {
		return refuse("it is too long")
	}
	host, port := hostport, ""
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return refuse("the bracket is not closed")
		}
		rest := host[end+1:]
		host = host[1:end]
		if rest != "" {
			if rest[0] != ':' {
				return refuse("there is text after the bracket")
			}
			if port = rest[1:]; port == "" {
				return refuse("the port is empty")
			}
		}
		address, err := netip.ParseAddr(host)
		if err != nil || !address.Is6() || address.Zone() != "" || address.Is4In6() {
			return refuse("the brackets hold no plain IPv6 address")
		}
		host = "[" + address.String() + "]"
	} else {
		if name, number, ok := strings.Cut(host, ":"); ok {
			if number == "" {
				return refuse("the port is empty")
			}
			host, port = name, number
		}
		host = strings.ToLower(strings.TrimSuffix(host, "."))
		if why := checkName(host); why != "" {
			return refuse(why)
		}
	}
	if port == "" {
		return host, nil
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || strconv.FormatUint(number, 10) != port {
		return refuse("the port is not a number from 1 to 65535")
	}
	if number == 443 {
		return host, nil
	}
	return host + ":" + port, nil
}

// checkName says what is wrong with a DNS name or IPv4 address in lower case.
func checkName(name string) string {
	if name == "" {
		return "it is empty"
	}
	if len(name) > 253 {
		return "it is too long"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "a part between dots is empty or too long"
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "a part between dots begins or ends with a hyphen"
		}
		for i := range len(label) {
			if c := label[i]; !isLower(c) && !isDigit(c) && c != '-' {
				return "only a-z, 0-9, hyphen and dot are allowed"
			}
		}
	}
	last := labels[len(labels)-1]
	if isDigit(last[0]) {
		if address, err := netip.ParseAddr(name); err != nil || !address.Is4() {
			return "the last part is a number, but it is no IPv4 address"
		}
	}
	return ""
}

// URLHost returns the normal form of the host that rawURL leads to. The default
// port of http is written out, because that of https is the one left away.
func URLHost(rawURL string) (string, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%s is not an https URL", strconv.QuoteToASCII(clip(rawURL, 120)))
	}
	host := u.Host
	if u.Scheme == "http" && u.Port() == "" {
		host += ":80"
	}
	return NormalHost(host)
}

// hostMatches reports whether host, in normal form, is the declared host or
// lies under it where declared begins with a dot.
func hostMatches(host, declared string) bool {
	if strings.HasPrefix(declared, ".") {
		return len(host) > len(declared) && strings.HasSuffix(host, declared)
	}
	return host == declared
}

// isLoopback reports whether host, without a port, is this machine. Only the
// spellings that browsers and issuers agree on count.
func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "[::1]" || host == "localhost"
}

// withoutPort cuts the port off a host in normal form.
func withoutPort(host string) string {
	if strings.HasSuffix(host, "]") {
		return host
	}
	if at := strings.LastIndexByte(host, ':'); at >= 0 {
		return host[:at]
	}
	return host
}

// registrable returns the part of a name that its owner registered: the last
// two labels, or three where the last two are a country's second level (co.uk)
// or belong to a hosting service that hands out names to everybody (github.io).
// It returns "" when the name is no longer than such a suffix. It knows the
// common cases only; a definition is data that a person approves, and this keeps
// a slip from opening it to everybody's hosts.
func registrable(name string) string {
	name = withoutPort(strings.TrimPrefix(name, "."))
	if strings.HasPrefix(name, "[") {
		return name
	}
	if address, err := netip.ParseAddr(name); err == nil {
		return address.String()
	}
	labels := strings.Split(name, ".")
	n := 2
	if len(labels) >= 2 && sharedSuffix(labels[len(labels)-2], labels[len(labels)-1]) {
		n = 3
	}
	if len(labels) < n {
		return ""
	}
	return strings.Join(labels[len(labels)-n:], ".")
}

func sharedSuffix(second, top string) bool {
	if len(top) == 2 {
		switch second {
		case "ac", "co", "com", "edu", "gen", "go", "gob", "gov", "ind", "info", "ltd", "me", "mil", "ne", "net", "nhs", "nom", "or", "org", "plc", "sch", "web":
			return true
		}
	}
	switch second + "." + top {
	case "github.io", "gitlab.io", "herokuapp.com", "vercel.app", "netlify.app", "web.app", "firebaseapp.com", "appspot.com", "run.app",
		"pages.dev", "workers.dev", "fly.dev", "deno.dev", "onrender.com", "azurewebsites.net", "cloudapp.net", "windows.net", "cloudfront.net",
		"amazonaws.com", "googleusercontent.com", "ngrok.io", "ngrok.app", "ngrok.dev", "blogspot.com":
		return true
	}
	return false
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// clip shortens a text for a message, at a character.
func clip(s string, bytes int) string {
	if len(s) <= bytes {
		return s
	}
	for bytes > 0 && s[bytes]&0xc0 == 0x80 {
		bytes--
	}
	return s[:bytes] + "..."
}
