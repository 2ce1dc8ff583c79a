package proxy

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Rules say which requests may be made. The zero value allows every one.
type Rules struct{ list []rule }

type rule struct {
	method string // in capitals; empty for every method
	path   string // canonical
	rest   bool   // whatever begins with path matches
}

// ParseRules reads patterns such as "GET /v1/me", "POST /v1/*" and "* /v1/me": a
// method in capitals or * for each, one blank, and a path. A * at the end of the
// path stands for any rest, further slashes included; nowhere else may one
// stand. Escapes such as %20 are decoded before paths are compared, and upper
// and lower case differ. No patterns give the zero Rules.
func ParseRules(patterns []string) (Rules, error) {
	var rules Rules
	for _, p := range patterns {
		r, why := parseRule(p)
		if why != "" {
			return Rules{}, fmt.Errorf("%s is not of the form 'GET /path' or 'GET /path/*': %s", strconv.QuoteToASCII(p[:min(len(p), 120)]), why)
		}
		rules.list = append(rules.list, r)
	}
	return rules, nil
}

func parseRule(pattern string) (r rule, why string) {
	method, path, ok := strings.Cut(pattern, " ")
	switch {
	case !ok:
		return rule{}, "it needs a method, one blank and a path"
	case method == "" || method != "*" && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return rule{}, "the method is in capitals, or *"
	case !strings.HasPrefix(path, "/"):
		return rule{}, "the path begins with /"
	case strings.ContainsAny(path, " ?#"):
		return rule{}, "the path has no blanks, ? and #"
	}
	if method != "*" {
		r.method = method
	}
	path, r.rest = strings.CutSuffix(path, "*")
	if strings.Contains(path, "*") {
		return rule{}, "* may stand only at the end of the path"
	}
	if r.path, ok = canonicalPath(path); !ok {
		return rule{}, "servers could read the path in different ways"
	}
	return r, ""
}

// Any reports whether r allows every request.
func (r Rules) Any() bool { return len(r.list) == 0 }

// Allow reports whether a request may be made. The path is as it stands in the
// request, escapes and all, without the query. One that servers could read in
// different ways is never allowed by a rule: see canonicalPath.
func (r Rules) Allow(method, escapedPath string) bool {
	if r.Any() {
		return true
	}
	path, ok := canonicalPath(escapedPath)
	if !ok {
		return false
	}
	for _, one := range r.list {
		if one.method != "" && one.method != method {
			continue
		}
		if path == one.path || one.rest && strings.HasPrefix(path, one.path) {
			return true
		}
	}
	return false
}

// evades says why a request is refused that names its method or path once more.
// What follows is the place.
const evades = "an API may take another method or path than the rules see from "

// evaded returns the place of a request in which it names another method or path
// than its first line, for an API that reads that (X-HTTP-Method-Override of
// Google and Symfony, X-HTTP-Method of OData, X-Method-Override of IBM, _method
// of Rails and Symfony, X-Original-URL and X-Rewrite-URL of IIS and Zend).
// Without rules nothing is evaded.
func (r Rules) evaded(req *http.Request) string {
	if r.Any() {
		return ""
	}
	for _, name := range []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url"} {
		for have := range req.Header {
			// Servers that take headers from variables make _ of -.
			if strings.EqualFold(strings.ReplaceAll(have, "_", "-"), name) {
				return "the header " + name
			}
		}
	}
	for part := range strings.FieldsFuncSeq(req.URL.RawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		if name, _, _ := strings.Cut(part, "="); sameName(name, "_method") {
			return "the parameter _method"
		}
	}
	return ""
}

// canonicalPath decodes the escapes of a path. It reports false for a path that
// two servers could read in different ways, so that what is compared here would
// not be what is called there: parts that are . or .., also escaped, twice
// escaped or with a parameter (..;x); empty parts (//); an escaped slash or
// percent sign; a backslash, a control character or what is not UTF-8, in any
// form; an escape that is none.
func canonicalPath(escaped string) (string, bool) {
	if !strings.HasPrefix(escaped, "/") {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		if c == '%' {
			if i+2 >= len(escaped) {
				return "", false
			}
			n, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			if c = byte(n); c == '/' || c == '%' {
				return "", false
			}
			i += 2
		}
		b.WriteByte(c)
	}
	path := b.String()
	if !utf8.ValidString(path) || strings.Contains(path, `\`) || strings.ContainsFunc(path, unicode.IsControl) || strings.Contains(path, "//") {
		return "", false
	}
	for part := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(part, ";"); name == "." || name == ".." {
			return "", false
		}
	}
	return path, true
}
