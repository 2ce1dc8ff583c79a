package flow

import (
	"errors"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// maxPaste is the largest credential or address that is taken, in bytes.
const maxPaste = 64 << 10

// ErrTooLong is what ReadPaste returns for a line of more than 64 KiB. The line
// is gone and the next one can be read.
var ErrTooLong = errors.New("the line is longer than 64 KiB")

// paste judges one pasted line. It returns a response, or a sentence that names
// what was wrong, or nothing at all for an empty line, or the error that ends
// pasting. What was pasted is never repeated.
func (g *login) paste(in line) (*response, string, error) {
	switch {
	case errors.Is(in.err, ErrTooLong), len(in.text) > maxPaste:
		return nil, "That was more than 64 KiB.", nil
	case in.err != nil:
		return nil, "", in.err
	}
	text := strings.TrimSpace(in.text)
	for _, pair := range []string{`""`, `''`, `<>`} {
		if len(text) >= 2 && text[0] == pair[0] && text[len(text)-1] == pair[1] {
			text = text[1 : len(text)-1]
		}
	}
	if text == "" {
		return nil, "", nil
	}
	if !printable(text) || strings.Contains(text, " ") {
		return nil, "That is not an address: it holds a blank or a control character.", nil
	}
	// Browsers hide the scheme, and some do not copy it either.
	if scheme, rest, _ := strings.Cut(g.redirect, "://"); !strings.Contains(text, "://") && strings.HasPrefix(text, hostAndPath(rest)) {
		text = scheme + "://" + text
	}
	if !strings.Contains(text, "://") && !g.implicit {
		return g.bareCode(text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, "That address cannot be read.", nil
	}
	if g.implicit {
		return g.pasteFragment(u)
	}
	query, err := queryOf(u, g.redirect)
	switch {
	case err != nil && g.isAuthorize(u):
		return nil, "That is the address that starts the login. Paste the address of the page that comes at its end.", nil
	case err != nil:
		return nil, "That is not the address of the last page, which begins with " + g.redirect + ".", nil
	case query == "" && strings.Contains(u.Fragment, "access_token="):
		return nil, "That address carries a token behind a #, and not a code.", nil
	case query == "":
		return nil, "That address has no code: copy all of it, with what follows the question mark.", nil
	}
	got, why := g.expect.read(query)
	if why != "" {
		return nil, "That address was refused: " + string(why) + ".", nil
	}
	return &got, "", nil
}

// bareCode takes a code without its address, from a provider that displays one.
// Such a code carries neither state nor issuer; PKCE binds it to this login.
func (g *login) bareCode(text string) (*response, string, error) {
	if g.a.Provider == nil || !g.a.Provider.PasteCode {
		return nil, "That is not an address. Copy the whole address of the last page, from http to its end.", nil
	}
	if g.expect.issRequired {
		return nil, "That is a code alone, and this provider's answers must name their issuer: paste the whole address.", nil
	}
	if len(text) > maxCode || strings.ContainsAny(text, "?&=/") && strings.Contains(text, "=") && strings.Contains(text, "&") {
		return nil, "That is neither a code nor a whole address.", nil
	}
	return &response{code: secret.New(text)}, "", nil
}

// hostAndPath cuts what stands behind the host of a redirect URI without its
// scheme, so that a prefix of it is compared and nothing else.
func hostAndPath(rest string) string {
	host, _, _ := strings.Cut(rest, "/")
	return host + "/"
}

// isAuthorize reports whether u is the address that was shown.
func (g *login) isAuthorize(u *url.URL) bool {
	start, err := url.Parse(g.url)
	return err == nil && strings.EqualFold(u.Host, start.Host) && u.Path == start.Path
}
