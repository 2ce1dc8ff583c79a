package flow

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/loopback"
)

// redirect is a redirect URI as it is registered.
type redirect struct {
	scheme string
	host   string // with the brackets of an IPv6 literal
	port   int    // 0 for any
	path   string // escaped path and query, as registered
	// local says that the URI leads to a listener of ours; otherwise the
	// final address can only be pasted.
	local bool
}

// parseRedirect reads a redirect URI whose port may be *. An http URI must lead
// to 127.0.0.1, [::1] or localhost and say a port; port replaces it when it is
// not 0.
func parseRedirect(raw string, port int) (redirect, error) {
	fail := func(why string) (redirect, error) {
		return redirect{}, fmt.Errorf("the redirect URI of the provider's definition %s", why)
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || scheme != "http" && scheme != "https" {
		return fail("is neither http nor https")
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	bare, anyPort := strings.CutSuffix(authority, ":*")
	u, err := url.Parse(scheme + "://" + bare + path)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil:
		return fail("cannot be parsed")
	case strings.Contains(path, "#"):
		return fail("has a fragment")
	}
	r := redirect{scheme: scheme, path: path}
	if scheme == "https" {
		if anyPort {
			return fail("is https with any port, which nobody can register")
		}
		r.host = u.Host
		return r, nil
	}

	r.local = true
	switch u.Hostname() {
	case "127.0.0.1":
		r.host = loopback.IPv4
	case "::1":
		r.host = loopback.IPv6
	case "localhost":
		r.host = loopback.Localhost
	default:
		return fail("is http and does not lead to this machine")
	}
	switch {
	case anyPort:
	case u.Port() == "":
		return fail("has no port: it is written :* for any, or a number")
	default:
		r.port, err = strconv.Atoi(u.Port())
		if err != nil || r.port < 1 || r.port > 65535 {
			return fail("has a port that is not one")
		}
	}
	if port != 0 {
		r.port = port
	}
	return r, nil
}

// at returns the redirect URI as it is sent, with the port that is held.
func (r redirect) at(port int) string {
	if !r.local {
		return r.scheme + "://" + r.host + r.path
	}
	return r.scheme + "://" + r.host + ":" + strconv.Itoa(port) + r.path
}

// origin is the web origin of the redirect URI as it is sent. A browser leaves
// out port 80.
func (r redirect) origin(port int) string {
	if port == 80 {
		return r.scheme + "://" + r.host
	}
	return r.scheme + "://" + r.host + ":" + strconv.Itoa(port)
}

// hostOf is the host of a redirect URI as it is sent, without its port.
func hostOf(sent string) string {
	u, err := url.Parse(sent)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// leadsHere reports whether a redirect URI leads to this machine, where nobody may
// listen.
func leadsHere(sent string) bool {
	switch hostOf(sent) {
	case "localhost", "127.0.0.1", "::1":
		return true
	}
	return false
}

// errNotFinal says that an address is not one of the redirect URI.
var errNotFinal = errors.New("not the final address")

// queryOf returns the query of a pasted final address, after comparing all that
// comes before it with the redirect URI that was sent.
func queryOf(final *url.URL, sent string) (string, error) {
	want, err := url.Parse(sent)
	if err != nil {
		return "", err
	}
	if final.Scheme != want.Scheme || !strings.EqualFold(withPort(final), withPort(want)) || final.User != nil ||
		pathOf(final) != pathOf(want) {
		return "", errNotFinal
	}
	return final.RawQuery, nil
}

func withPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	if u.Scheme == "https" {
		return u.Host + ":443"
	}
	return u.Host + ":80"
}

// pathOf returns the path as a browser sends it.
func pathOf(u *url.URL) string {
	if p := u.EscapedPath(); p != "" {
		return p
	}
	return "/"
}
