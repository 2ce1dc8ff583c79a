// Package apicall uses a grant for single requests to an API: the address that may
// receive the token, the body, repetitions that the answer asks for, the pages
// of a list, and a selection from JSON. It obtains nothing: tokens come through
// a function.
package apicall

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// RequestError says that what was asked for is no request: a wrong path, field
// or header.
type RequestError struct {
	Msg  string
	Hint string
}

func (e *RequestError) Error() string { return e.Msg }

func badf(format string, a ...any) error { return &RequestError{Msg: fmt.Sprintf(format, a...)} }

// RefusedError says that the token may not go where the request leads.
type RefusedError struct {
	Msg   string
	Hosts []string // the pinned hosts, when the host is what was refused
}

func (e *RefusedError) Error() string { return e.Msg }

// Address resolves a path against the pinned API base, or takes a whole URL. It
// returns a *RefusedError for every host that is not pinned exactly and for
// http outside of loopback, and a *RequestError for what is no address.
func Address(pins *providers.Pins, path string) (*url.URL, error) {
	if strings.HasPrefix(path, "//") {
		return nil, badf("%q is no path: write the scheme as well", oauth.Clean(path))
	}
	address := path
	if before, _, _ := strings.Cut(path, "?"); !strings.Contains(before, "://") {
		if pins.APIBase == "" {
			return nil, &RequestError{Msg: "the provider's definition names no API base", Hint: "give the whole URL"}
		}
		// Joined as text, so that what is encoded stays encoded: in
		// projects/group%2Fname the slash belongs to the name.
		address = strings.TrimSuffix(pins.APIBase, "/") + "/" + strings.TrimPrefix(path, "/")
	}
	target, err := url.Parse(address)
	if err != nil || target.User != nil || strings.Contains(path, "\\") {
		return nil, badf("%q is no path and no URL", oauth.Clean(path))
	}
	return target, allowed(pins, target, path)
}

// allowed checks an address that is complete; given is how it was written.
func allowed(pins *providers.Pins, target *url.URL, given string) error {
	target.Fragment, target.RawFragment = "", ""
	for _, part := range strings.Split(target.Path, "/") {
		if part == "." || part == ".." {
			return badf("%q: the path has . or .. in it", oauth.Clean(given))
		}
	}
	host, err := providers.URLHost(target.String())
	if err != nil {
		return badf("%q: %v", oauth.Clean(given), err)
	}
	if target.Scheme != "https" && !(target.Scheme == "http" && pins.AllowInsecureLoopback && isLoopback(target.Hostname())) {
		return &RefusedError{Msg: "tokens are sent over https only, not to " + oauth.Clean(target.Scheme+"://"+target.Host)}
	}
	if !pins.AllowsHost(host) {
		return &RefusedError{Msg: oauth.Clean(host) + " is not a pinned host of this connection", Hosts: pins.APIHosts}
	}
	return nil
}

// addToken puts the token into the one place that the provider names.
func addToken(req *http.Request, auth providers.APIAuthPin, token secret.Text) {
	switch auth.In {
	case "query":
		q := req.URL.Query()
		q.Set(auth.Name, token.Reveal())
		req.URL.RawQuery = q.Encode()
	case "basic":
		req.SetBasicAuth(token.Reveal(), "")
	default:
		req.Header.Set(auth.Name, auth.Prefix+token.Reveal())
	}
}

// ParseHeaders reads headers written as "Name: value". Where the token goes is
// not for a person to set, nor the host and what frames the message.
func ParseHeaders(list []string, auth providers.APIAuthPin) (http.Header, error) {
	headers := make(http.Header)
	for _, h := range list {
		name, value, found := strings.Cut(h, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" {
			return nil, badf("--header takes 'Name: value', not %q", oauth.Clean(h))
		}
		if strings.ContainsFunc(name, notInName) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, badf("--header: %q cannot stand in a header", oauth.Clean(name))
		}
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Host":
			return nil, badf("--header cannot set Host: the token goes to the pinned host only")
		case "Authorization", "Proxy-Authorization":
			return nil, &RequestError{Msg: "--header cannot set " + canonical + ": the token of the connection goes there", Hint: "leave the header out; call other accounts by their own connection"}
		case "Content-Length", "Transfer-Encoding", "Connection", "Te", "Trailer", "Upgrade", "Keep-Alive":
			return nil, badf("--header cannot set %s: it belongs to the transport", canonical)
		}
		if auth.In == "header" && strings.EqualFold(name, auth.Name) {
			return nil, badf("--header cannot set %s: the token of the connection goes there", canonical)
		}
		headers.Add(canonical, value)
	}
	return headers, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// notInName reports what cannot stand in the name of a header (RFC 9110 section
// 5.6.2).
func notInName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
