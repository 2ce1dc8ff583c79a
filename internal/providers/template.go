package providers

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// builtinClientID may stand in pages for people, such as GitHub's page about
// one application.
const builtinClientID = "client_id"

// isVariableName reports whether s is [a-z][a-z0-9_]* of a sensible length.
func isVariableName(s string) bool {
	if s == "" || len(s) > 32 || !isLower(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isDigit(c) && c != '_' {
			return false
		}
	}
	return true
}

// namesIn returns the variables of a template in order. It fails on braces that
// are no {name}.
func namesIn(template string) ([]string, error) {
	var names []string
	for rest := template; rest != ""; {
		at := strings.IndexAny(rest, "{}")
		if at < 0 {
			break
		}
		end := strings.IndexByte(rest, '}')
		if rest[at] == '}' || end < at || !isVariableName(rest[at+1:end]) {
			return nil, errors.New("braces may only hold the name of a variable, as in {name}")
		}
		names = append(names, rest[at+1:end])
		rest = rest[end+1:]
	}
	return names, nil
}

// expand puts values into a template and leaves names without a value alone.
func expand(template string, values map[string]string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	var out strings.Builder
	for rest := template; rest != ""; {
		at := strings.IndexByte(rest, '{')
		end := strings.IndexByte(rest, '}')
		if at < 0 || end < at {
			out.WriteString(rest)
			break
		}
		out.WriteString(rest[:at])
		if value, ok := values[rest[at+1:end]]; ok {
			out.WriteString(value)
		} else {
			out.WriteString(rest[at : end+1])
		}
		rest = rest[end+1:]
	}
	return out.String()
}

// expandAll expands each member of a list.
func expandAll(templates []string, values map[string]string) []string {
	if templates == nil {
		return nil
	}
	out := make([]string, len(templates))
	for i, t := range templates {
		out[i] = expand(t, values)
	}
	return out
}

// isTemplate reports whether a variable is left.
func isTemplate(s string) bool { return strings.Contains(s, "{") }

// authority returns the part of a URL template between :// and the path.
func authority(template string) string {
	_, rest, ok := strings.Cut(template, "://")
	if !ok {
		return ""
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// variable finds a declared variable.
func (p *Provider) variable(name string) *Variable {
	for i := range p.Variables {
		if p.Variables[i].Name == name {
			return &p.Variables[i]
		}
	}
	return nil
}

// kept reports whether the value becomes known only after connect.
func (v *Variable) kept() bool {
	return v.From == FromCallback || v.From == FromToken || v.From == FromSite
}

// sample returns a value that shows what a template becomes.
func (v *Variable) sample() string {
	switch {
	case v.Default != "":
		return v.Default
	case len(v.Values) > 0:
		return v.Values[0]
	case v.Host:
		return "host.example"
	}
	return "x"
}

// normalise checks a value that a person gave for the variable and returns it
// in the form that goes into URLs. Values of a host may be pasted as a URL.
func (v *Variable) normalise(value string) (string, error) {
	refuse := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("%s: %s", v.Name, fmt.Sprintf(format, args...))
	}
	if v.Host {
		value = strings.TrimSuffix(strings.TrimPrefix(value, "https://"), "/")
		host, err := NormalHost(value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", v.Name, err)
		}
		value = host
	} else {
		if value == "" || len(value) > 253 {
			return refuse("the value is empty or too long")
		}
		for i := range len(value) {
			if c := value[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '.' && c != '-' && c != '_' {
				return refuse("%s has a character other than letters, digits, dot, hyphen and underscore", strconv.QuoteToASCII(clip(value, 60)))
			}
		}
		if value[0] == '.' || value[0] == '-' || strings.Contains(value, "..") {
			return refuse("%s must not begin with a dot or hyphen or hold two dots in a row", strconv.QuoteToASCII(clip(value, 60)))
		}
	}
	if len(v.Values) > 0 && !slices.Contains(v.Values, value) {
		return refuse("%s is not one of %s", strconv.QuoteToASCII(clip(value, 60)), strings.Join(v.Values, ", "))
	}
	if v.Pattern != "" {
		pattern, err := compilePattern(v.Pattern)
		if err != nil {
			return refuse("%v", err)
		}
		if !pattern.MatchString(value) {
			return refuse("%s does not match %s", strconv.QuoteToASCII(clip(value, 60)), v.Pattern)
		}
	}
	return value, nil
}

func compilePattern(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > 500 {
		return nil, errors.New("the pattern is longer than 500 characters")
	}
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return nil, errors.New("the pattern is not a valid RE2 expression")
	}
	return re, nil
}

// checkURLText refuses characters that no URL of a definition needs and that
// terminals, browsers or parsers may read in different ways.
func checkURLText(raw string) error {
	if len(raw) > 2048 {
		return errors.New("the URL is longer than 2048 characters")
	}
	for i := range len(raw) {
		switch c := raw[i]; {
		case c <= 0x20 || c >= 0x7f:
			return errors.New("the URL holds a space, a control character or a character beyond ASCII")
		case strings.IndexByte("\"'`<>\\^|", c) >= 0:
			return fmt.Errorf("the URL holds the character %q", c)
		}
	}
	return nil
}

// checkURL checks a URL that holds no variables: https, or http to this machine
// where insecureLoopback allows it; a host; no user information and no fragment.
func checkURL(raw string, insecureLoopback bool) error {
	if err := checkURLText(raw); err != nil {
		return err
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return errors.New("this is not a URL such as https://example.com/path")
	}
	if u.User != nil {
		return errors.New("a URL must not hold a user name or password")
	}
	if u.Fragment != "" || strings.Contains(raw, "#") {
		return errors.New("a URL must not have a fragment (#)")
	}
	host, err := URLHost(raw)
	if err != nil {
		if u.Scheme != "https" && u.Scheme != "http" {
			return fmt.Errorf("the URL must begin with https://, not %s", strconv.QuoteToASCII(clip(u.Scheme, 20)))
		}
		return err
	}
	switch u.Scheme {
	case "https":
		return nil
	case "http":
		if !isLoopback(withoutPort(host)) {
			return errors.New("the URL must begin with https://")
		}
		if !insecureLoopback {
			return errors.New("the URL must begin with https:// (http to this machine needs allow_insecure_loopback: true in a file of your own)")
		}
		return nil
	}
	return fmt.Errorf("the URL must begin with https://, not %s", strconv.QuoteToASCII(clip(u.Scheme, 20)))
}

// checkTemplate checks a URL that may hold variables. keptAllowed says that
// variables from the callback or the token response may stand in it.
func (p *Provider) checkTemplate(template string, keptAllowed bool) error {
	names, err := namesIn(template)
	if err != nil {
		return err
	}
	for _, name := range names {
		v := p.variable(name)
		if v == nil {
			return fmt.Errorf("the variable {%s} is not declared under variables", name)
		}
		if v.kept() && !keptAllowed {
			return fmt.Errorf("the variable {%s} comes from the %s and is not known when this URL is used", name, v.From)
		}
	}
	samples := make(map[string]string, len(names))
	for _, name := range names {
		samples[name] = p.variable(name).sample()
	}
	if len(names) > 0 && strings.HasPrefix(template, "{") {
		// The variable is an origin; what follows must not change its host.
		first := names[0]
		if !p.variable(first).kept() {
			return fmt.Errorf("a URL that begins with {%s} needs a variable from the callback or the token; write https://{%s}", first, first)
		}
		rest := template[len(first)+2:]
		if rest != "" && rest[0] != '/' {
			return fmt.Errorf("{%s} is an origin and must be followed by a slash", first)
		}
		samples[first] = "https://host.example"
		return checkURL(expand(template, samples), false)
	}
	host := authority(template)
	if at := strings.LastIndexByte(host, '}'); at >= 0 {
		tail := host[at+1:]
		name, _, _ := strings.Cut(tail, ":")
		switch v := p.variable(lastName(host)); {
		case name == "" && len(v.Values) > 0 && !v.Host:
			if err := p.checkListedHosts(host); err != nil {
				return err
			}
		case strings.HasPrefix(name, "."):
			if registrable(name) == "" {
				return fmt.Errorf("{%s} would choose the registrable domain: at least a name like .example.com must follow it", v.Name)
			}
		case name != "" || host != "{"+v.Name+"}"+tail:
			return fmt.Errorf("a host is either {%s} alone or ends with a fixed name such as .example.com", v.Name)
		case v.kept() || v.Host:
		case v.Default == "" || registrable(v.Default) == "":
			return fmt.Errorf("{%s} makes a whole host: it needs a default whose domain it stays in, a list of values, or host: true", v.Name)
		}
	}
	return checkURL(expand(template, samples), p.AllowInsecureLoopback)
}

// maxListedHosts bounds the hosts that the values of variables make of one
// template.
const maxListedHosts = 256

// checkListedHosts checks a host whose last variable has a list of values, in
// which one may lie in another domain than the next: the file lists all domains
// that there are. No variable that a person fills in freely may change one of
// them.
func (p *Provider) checkListedHosts(host string) error {
	name, _, _ := strings.Cut(host, ":")
	names, err := namesIn(name)
	if err != nil {
		return err
	}
	made := []map[string]string{{}}
	for i, n := range names {
		v := p.variable(n)
		if len(v.Values) == 0 || slices.Index(names, n) != i {
			continue
		}
		var more []map[string]string
		for _, values := range made {
			for _, value := range v.Values {
				next := maps.Clone(values)
				next[n] = value
				more = append(more, next)
			}
		}
		if made = more; len(made) > maxListedHosts {
			return fmt.Errorf("the values make more than %d hosts of it", maxListedHosts)
		}
	}
	for _, values := range made {
		freely := func(text string) string {
			all := maps.Clone(values)
			for _, n := range names {
				if all[n] == "" {
					all[n] = text
				}
			}
			return expand(name, all)
		}
		one, other := freely("x"), freely("y")
		if normal, err := NormalHost(one); err != nil || normal != one {
			return fmt.Errorf("the values make the host %s of it, which is none in lower case", strconv.QuoteToASCII(clip(one, 80)))
		}
		if domain := registrable(one); domain == "" || domain != registrable(other) {
			return fmt.Errorf("the values make the host %s of it, whose domain is not fixed by them", strconv.QuoteToASCII(clip(one, 80)))
		}
	}
	return nil
}

// lastName returns the last variable of a template that has one.
func lastName(template string) string {
	names, err := namesIn(template)
	if err != nil || len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

// checkStaysInDomain makes sure that the values of the variables left the
// registrable domain of a host as it is with the defaults.
func (p *Provider) checkStaysInDomain(hostTemplate string, values map[string]string) error {
	if !strings.HasSuffix(strings.SplitN(hostTemplate, ":", 2)[0], "}") {
		return nil // a fixed name ends the host
	}
	v := p.variable(lastName(hostTemplate))
	if v == nil || v.Host || v.kept() || len(v.Values) > 0 { // a list holds what there is, and resolve held to it
		return nil
	}
	value, ok := values[v.Name]
	if !ok || registrable(value) == registrable(v.Default) && registrable(value) != "" {
		return nil
	}
	return fmt.Errorf("%s: %s lies outside the domain %s", v.Name, strconv.QuoteToASCII(clip(value, 80)), registrable(v.Default))
}
