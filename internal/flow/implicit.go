package flow

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
)

// maxNonces is how many pages may wait to hand over a fragment.
const maxNonces = 16

// Implicit leads a person through the implicit grant (RFC 6749 section 4.2), which
// RFC 9700 section 2.1.2 advises against: the token passes through the browser's
// address bar, and there is no refresh token. It is for providers that offer
// nothing else. The fragment reaches the listener by a POST of its own page, with
// a nonce that is good once, or is pasted with the final address.
//
// Errors are those of Authcode.
func Implicit(ctx context.Context, env Env, a Attempt) (*Result, error) {
	env.say("%s hands its token over in the address bar (the implicit flow). That is outdated: choose another flow where there is one.", a.name())
	return authorize(ctx, env, a, true)
}

// nonces are the secrets of the pages that may hand over a fragment.
type nonces struct {
	mu   sync.Mutex
	list []string
}

// add makes a nonce. Of too many, the oldest is forgotten.
func (n *nonces) add(random io.Reader) (string, error) {
	nonce, err := newState(random)
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.list = append(n.list, nonce); len(n.list) > maxNonces {
		n.list = n.list[1:]
	}
	return nonce, nil
}

// take uses a nonce up.
func (n *nonces) take(nonce string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, known := range n.list {
		if loopback.SameSecret(nonce, known) {
			n.list = append(n.list[:i], n.list[i+1:]...)
			return true
		}
	}
	return false
}

// serveImplicit answers the redirect with the page that hands the fragment over,
// and takes that.
func (g *login) serveImplicit(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.EscapedPath() != g.path:
		loopback.Refuse(w, http.StatusNotFound)
	case r.Method == http.MethodGet:
		g.serveFragmentPage(w, r)
	case r.Method == http.MethodPost:
		g.takeFragment(w, r)
	default:
		w.Header().Set("Allow", http.MethodGet+", "+http.MethodPost)
		loopback.Refuse(w, http.StatusMethodNotAllowed)
	}
}

func (g *login) serveFragmentPage(w http.ResponseWriter, r *http.Request) {
	mode, there := r.Header["Sec-Fetch-Mode"]
	switch {
	case r.Header.Get("Origin") != "", there && (len(mode) != 1 || mode[0] != "navigate"):
		loopback.Refuse(w, http.StatusForbidden)
		return
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		loopback.Refuse(w, http.StatusBadRequest)
		return
	case g.won.Load():
		loopback.Page(w, http.StatusGone, "This login is already over", "apiauth has its answer. You can close this window.")
		return
	}
	nonce, err := g.pages.add(g.random)
	if err != nil {
		loopback.Refuse(w, http.StatusInternalServerError)
		return
	}
	loopback.FragmentPage(w, nonce, g.front)
}

// takeFragment accepts what a page of ours hands over, once for each page. The
// guard has let nothing pass but this origin and requests without one.
func (g *login) takeFragment(w http.ResponseWriter, r *http.Request) {
	site, there := r.Header["Sec-Fetch-Site"]
	if r.Header.Get("Origin") == "" || there && (len(site) != 1 || site[0] != "same-origin") || r.URL.RawQuery != "" {
		loopback.Refuse(w, http.StatusForbidden)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxPaste+1))
	form, formErr := url.ParseQuery(string(body))
	if err != nil || formErr != nil || len(body) > maxPaste || len(form["nonce"]) != 1 || len(form["fragment"]) != 1 {
		loopback.Refuse(w, http.StatusBadRequest)
		return
	}
	if !g.pages.take(form.Get("nonce")) {
		loopback.Refuse(w, http.StatusForbidden)
		return
	}
	got, why := g.expect.readFragment(form.Get("fragment"), g.now())
	if why != "" {
		select {
		case g.refused <- why:
		default:
		}
		loopback.Refuse(w, http.StatusBadRequest)
		return
	}
	if !g.won.CompareAndSwap(false, true) {
		loopback.Refuse(w, http.StatusGone)
		return
	}
	g.responses <- got
	w.WriteHeader(http.StatusNoContent)
}

// readFragment checks an authorization response of the implicit grant (RFC 6749
// section 4.2.2). What it says about the token is handed on as an answer of the
// token endpoint would be, and judged like one.
func (e expectation) readFragment(fragment string, now time.Time) (response, problem) {
	v, p := e.open(strings.TrimPrefix(fragment, "?"))
	if p != "" {
		return response{}, p
	}
	failed := v.Get("error")
	switch {
	case v.Has("access_token") && v.Has("error"), v.Has("code"):
		return response{}, problemBoth
	case v.Has("error"):
		if failed == "" || len(failed) > 200 || !printable(failed) {
			return response{}, problemError
		}
		return response{denied: &DeniedError{Provider: e.provider, Code: oauth.Clean(failed), Description: oauth.Clean(v.Get("error_description"))}}, ""
	case v.Get("access_token") == "" || len(v.Get("access_token")) > maxPaste || !printable(v.Get("access_token")):
		return response{}, problemToken
	}
	v.Del("state")
	return response{answer: &oauth.Answer{
		Status: http.StatusOK, ContentType: "application/x-www-form-urlencoded", ReceivedAt: now, Body: []byte(v.Encode()),
	}}, ""
}

// pasteFragment judges the pasted final address of the implicit grant.
func (g *login) pasteFragment(u *url.URL) (*response, string, error) {
	if _, err := queryOf(u, g.redirect); err != nil {
		if g.isAuthorize(u) {
			return nil, "That is the address that starts the login. Paste the address of the page that comes at its end.", nil
		}
		return nil, "That is not the address of the last page, which begins with " + g.redirect + ".", nil
	}
	fragment := u.EscapedFragment()
	if fragment == "" {
		return nil, "That address has no token: copy all of it, with what follows the # sign.", nil
	}
	got, why := g.expect.readFragment(fragment, g.now())
	if why != "" {
		return nil, "That address was refused: " + string(why) + ".", nil
	}
	return &got, "", nil
}

var errNoImplicit = errors.New("its definition does not offer the implicit flow")
