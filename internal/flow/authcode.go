package flow

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// closing is how long the final page may take to reach the browser before the
// listener is closed.
const closing = 500 * time.Millisecond

// Authcode leads a person through the authorization code flow (RFC 6749 section
// 4.1) with state and PKCE S256 (RFC 7636). A redirect to this machine is served
// by a listener; beside it, when Env.ReadPaste is there, the final address can be
// pasted. With FlowPaste, or an https redirect, pasting is the only way. Whatever
// valid response comes first is the result, once; anything else is refused, named
// and waited through.
//
// Errors: *loopback.PortTakenError before anything is shown, *DeniedError,
// ErrTimeout, ErrInterrupted, ErrNoTerminal, the context's error.
func Authcode(ctx context.Context, env Env, a Attempt) (*Result, error) {
	return authorize(ctx, env, a, false)
}

// authorize is Authcode, or with implicit the implicit grant.
func authorize(ctx context.Context, env Env, a Attempt, implicit bool) (*Result, error) {
	fail := func(err error) (*Result, error) { return nil, fmt.Errorf("connect to %s: %w", a.name(), err) }
	switch {
	case a.Pins.AuthorizationEndpoint == "" || a.Pins.TokenEndpoint == "" && !implicit:
		return fail(errors.New("its definition lacks the authorization or the token endpoint"))
	case implicit && (a.Provider == nil || !slices.Contains(a.Provider.Flows, FlowImplicit)):
		return fail(errNoImplicit)
	case a.Client.ID == "":
		return fail(errors.New("no client is known"))
	}
	to, err := parseRedirect(cmp.Or(a.Pins.RedirectURI, "http://127.0.0.1:*/callback/"+url.PathEscape(a.Pins.Provider)), a.Port)
	if err != nil {
		return fail(err)
	}
	listen := to.local && a.Flow != FlowPaste
	if !listen && env.ReadPaste == nil {
		return fail(ErrNoTerminal)
	}

	ctx, cancel := waiting(ctx)
	defer cancel()

	port := to.port
	var l *loopback.Listener
	if to.local && (listen || port == 0) {
		l, err = loopback.Listen(ctx, loopback.Options{Host: to.host, Port: to.port})
		if err != nil {
			return fail(err)
		}
		port = l.Port()
		if !listen {
			// The redirect needs some port that nobody answers on.
			_ = l.Close()
			l = nil
		} else {
			defer func() { _ = l.Close() }()
		}
	}

	login, err := newLogin(env, a, to.at(port), implicit)
	if err != nil {
		return fail(err)
	}
	if err := login.push(ctx, env); err != nil {
		return fail(err)
	}
	if l != nil {
		guard := loopback.Guard{}
		if implicit {
			// The page of the redirect may speak to us, and no other.
			guard.Origins = []string{to.origin(port)}
		}
		l.Serve(guard, login)
	}
	result, err := login.wait(ctx, env, l != nil)
	if l != nil {
		// Let the page of the request that ended the wait get through.
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer stop()
		_ = l.Shutdown(end)
	}
	if err != nil {
		return fail(err)
	}
	return result, nil
}

// login is one attempt while it waits for its response.
type login struct {
	a         Attempt
	url       string // of the authorization request
	redirect  string // where the browser ends
	sent      string // redirect_uri: redirect, or the name that the provider gave it
	path      string // escaped path of redirect
	verifier  secret.Text
	pkce      bool
	implicit  bool
	pages     nonces    // of the implicit grant
	random    io.Reader // nil: crypto/rand
	now       func() time.Time
	front     string // see Env.Front
	expect    expectation
	won       atomic.Bool
	responses chan response // the one from the listener
	refused   chan problem  // what the listener refused; dropped when full
}

func newLogin(env Env, a Attempt, redirect string, implicit bool) (*login, error) {
	// S256 always, unless the entry says that the provider cannot.
	g := &login{
		a:         a,
		redirect:  redirect,
		sent:      cmp.Or(a.Pins.RedirectName, redirect),
		pkce:      a.Pins.PKCE != providers.PKCENone && !implicit,
		implicit:  implicit,
		random:    env.Rand,
		now:       env.now,
		front:     env.front(),
		responses: make(chan response, 1),
		refused:   make(chan problem, 4),
	}
	u, err := url.Parse(redirect)
	if err != nil {
		return nil, errors.New("the redirect URI cannot be parsed")
	}
	g.path = pathOf(u)
	if g.verifier, err = oauth.NewVerifier(env.Rand); err != nil {
		return nil, err
	}
	state, err := newState(env.Rand)
	if err != nil {
		return nil, err
	}
	g.expect = expectation{
		provider:    a.name(),
		state:       state,
		issuer:      a.Pins.Issuer,
		issRequired: a.Pins.IssParameterSupported,
		hosts:       hostsOf(a.Pins.AuthorizationEndpoint, a.Pins.TokenEndpoint),
	}
	var params, rename map[string]string
	var hintParam string
	var second providers.SecondScopes
	if a.Provider != nil {
		rename, second = a.Provider.AuthorizeRename, a.Provider.Scopes.Second
		hintParam = a.Provider.LoginHintParam
		params = make(map[string]string, len(a.Provider.Authorize))
		for name, value := range a.Provider.Authorize {
			for v, is := range a.Pins.Variables {
				value = strings.ReplaceAll(value, "{"+v+"}", is)
			}
			params[name] = value
		}
		g.expect.extra = make(map[string]string)
		maps.Copy(g.expect.extra, a.Provider.CallbackKeep)
		for _, v := range a.Provider.Variables {
			if v.From == providers.FromCallback && g.expect.extra[v.Name] == "" {
				g.expect.extra[v.Name] = v.Name
			}
		}
		if from := a.Provider.Scopes.Callback; from != "" {
			g.expect.extra[providers.CallbackScopes] = from
		}
		g.expect.codeParam = a.Provider.CodeParam
		g.expect.sends = a.Provider.Token.ExchangeSends
	}
	g.url, err = oauth.AuthorizeURL(oauth.AuthorizeRequest{
		Endpoint:              a.Pins.AuthorizationEndpoint,
		ClientID:              a.Client.ID,
		RedirectURI:           g.sent,
		Scopes:                a.Scopes,
		ScopeSeparator:        a.separator(),
		OmitScope:             a.omitScope(),
		SecondParam:           second.Param,
		SecondPrefix:          second.Prefix,
		Rename:                rename,
		Resources:             a.Pins.Resources,
		Implicit:              implicit,
		State:                 state,
		PKCE:                  g.pkce,
		HexChallenge:          a.Pins.PKCE == providers.PKCEHex,
		Verifier:              g.verifier,
		Params:                params,
		LoginHint:             a.AccountHint,
		LoginHintParam:        hintParam,
		AllowInsecureLoopback: a.Pins.AllowInsecureLoopback,
	})
	return g, err
}

// push hands the authorization request to the issuer before the browser opens,
// where the issuer takes it so (RFC 9126), and makes the address that is opened a
// reference to it. An issuer that only offers this and does not answer gets the
// request through the browser.
func (g *login) push(ctx context.Context, env Env) error {
	p := &g.a.Pins
	if p.PushedEndpoint == "" {
		if p.RequirePushed {
			return errors.New("the issuer wants pushed authorization requests, and its definition has no endpoint for them")
		}
		return nil
	}
	if env.HTTP == nil {
		return errors.New("there is no HTTP client")
	}
	env.explain("pushed authorization request (RFC 9126 section 2.1)",
		"pushed_authorization_request_endpoint: "+p.PushedEndpoint,
		"client authentication: "+oauth.Clean(g.a.Client.Method),
		"parameters: those of the authorization request below")
	req := g.a.tokenRequest(nil)
	req.Endpoint, req.Format, req.Omit, req.Rename = p.PushedEndpoint, oauth.FormatForm, nil, nil
	if g.a.Provider != nil {
		req.Rename = g.a.Provider.AuthorizeRename
	}
	pushed, err := env.HTTP.Push(ctx, req, p.AuthorizationEndpoint, g.url)
	if err != nil {
		if p.RequirePushed || oauth.ErrorCode(err) != "" || ctx.Err() != nil {
			return err
		}
		env.say("The issuer did not take the request ahead (%s). It goes through the browser.", oauth.Clean(err.Error()))
		return nil
	}
	env.explain("pushed authorization response (RFC 9126 section 2.2)", "request_uri: [redacted]", fmt.Sprintf("expires_in: %d s", int(pushed.ExpiresIn.Seconds())))
	g.url = pushed.URL
	return nil
}

// newState returns 256 random bits.
func newState(random io.Reader) (string, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make a state: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

func hostsOf(endpoints ...string) []string {
	var hosts []string
	for _, e := range endpoints {
		if u, err := url.Parse(e); err == nil && u.Host != "" {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

// ServeHTTP answers the redirect. Whatever is not the response that this login
// waits for gets a 4xx and changes nothing.
func (g *login) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.implicit {
		g.serveImplicit(w, r)
		return
	}
	switch {
	case r.URL.EscapedPath() != g.path:
		loopback.Refuse(w, http.StatusNotFound)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		loopback.Refuse(w, http.StatusMethodNotAllowed)
		return
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		loopback.Refuse(w, http.StatusBadRequest)
		return
	}
	if mode, there := r.Header["Sec-Fetch-Mode"]; there && (len(mode) != 1 || mode[0] != "navigate") {
		// A page fetches this address in the background.
		loopback.Refuse(w, http.StatusForbidden)
		return
	}
	got, why := g.expect.read(r.URL.RawQuery)
	if why != "" {
		select {
		case g.refused <- why:
		default:
		}
		loopback.Page(w, http.StatusBadRequest, "This address was refused",
			"It does not belong to the login that apiauth is waiting for, and nothing has changed.",
			"Finish the login in its own tab, or open the address that the "+g.front+" shows.")
		return
	}
	if !g.won.CompareAndSwap(false, true) {
		loopback.Page(w, http.StatusGone, "This login is already over",
			"apiauth has its answer. You can close this window.")
		return
	}
	g.responses <- got
	if got.denied != nil {
		loopback.Page(w, http.StatusOK, "Access was not granted",
			"Nothing was stored. The "+g.front+" says why. You can close this window.")
	} else {
		loopback.Page(w, http.StatusOK, "You can close this window",
			"apiauth has the answer of "+g.expect.provider+". The "+g.front+" shows the result.")
	}
}

// line is what one call of ReadPaste returned.
type line struct {
	text string
	err  error
}

// wait shows the URL and waits for the first valid response.
func (g *login) wait(ctx context.Context, env Env, listening bool) (*Result, error) {
	g.announce(env, listening)

	opened := make(chan error, 1)
	if env.OpenBrowser != nil {
		go func() { opened <- env.OpenBrowser(ctx, g.url) }()
	}
	readCtx, stopReading := context.WithCancel(ctx)
	pasted := make(chan line, 1)
	reading := false
	read := func() {
		reading = true
		go func() {
			text, err := env.ReadPaste(readCtx)
			pasted <- line{text, err}
		}()
	}
	// The terminal must be as it was before anybody else uses it.
	defer func() {
		stopReading()
		if reading {
			<-pasted
		}
	}()
	if env.ReadPaste != nil {
		read()
	}

	told := make(map[problem]bool)
	for {
		select {
		case got := <-g.responses:
			return g.finish(env, got, FlowBrowser)
		case why := <-g.refused:
			if !told[why] {
				told[why] = true
				env.say("An answer in the browser was refused: %s. Still waiting.", why)
			}
		case err := <-opened:
			if err != nil && ctx.Err() == nil {
				env.say("The browser could not be opened (%s). Open the address by hand.", oauth.Clean(err.Error()))
			}
		case in := <-pasted:
			reading = false
			got, why, err := g.paste(in)
			switch {
			case errors.Is(err, io.EOF) && listening:
				env.say("Nothing more can be pasted here. Still waiting for the browser.")
				continue
			case errors.Is(err, io.EOF):
				return nil, ErrNoTerminal
			case err != nil:
				if ctx.Err() != nil {
					return nil, ended(ctx)
				}
				return nil, err
			case why != "":
				env.say("%s Still waiting.", why)
				read()
				continue
			case got == nil:
				read()
				continue
			}
			if !g.won.CompareAndSwap(false, true) {
				continue // the listener was first; its response is under way
			}
			return g.finish(env, *got, FlowPaste)
		case <-ctx.Done():
			if !g.won.CompareAndSwap(false, true) {
				return g.finish(env, <-g.responses, FlowBrowser) // just in time
			}
			return nil, ended(ctx)
		}
	}
}

// announce says where to go. The address stands on a line of its own.
func (g *login) announce(env Env, listening bool) {
	if env.OpenBrowser != nil {
		env.say("Opening a browser to connect to %s. If none appears, open this address:", g.expect.provider)
	} else {
		env.say("Open this address in a browser to connect to %s:", g.expect.provider)
	}
	env.print(g.url)
	switch {
	case env.ReadPaste == nil:
	case listening:
		env.say("If the browser ends on a page that does not load, paste its address %s.", env.pasteHere())
	case leadsHere(g.redirect):
		env.say("At the end the browser says that it cannot open a page of %s, and that is right: copy the whole address of that page, paste it %s.", hostOf(g.redirect), env.pasteHere())
	default:
		env.say("At the end, copy the whole address of the last page, paste it %s.", env.pasteHere())
	}
	challenge := "none (the provider does not support PKCE)"
	section, kind := "4.1.1", "code"
	switch {
	case g.pkce && g.a.Pins.PKCE == providers.PKCEHex:
		challenge = "S256, with the challenge in hexadecimal"
	case g.pkce:
		challenge = "S256"
	case g.implicit:
		challenge, section, kind = "none (the implicit grant has no code)", "4.2.1", "token"
	}
	env.explain("authorization request (RFC 6749 section "+section+")",
		"response_type: "+kind,
		"authorization_endpoint: "+g.a.Pins.AuthorizationEndpoint,
		"client_id: "+oauth.Clean(g.a.Client.ID),
		"redirect_uri: "+g.sent,
		"scope: "+oauth.Clean(g.a.scope()),
		"state: 256 random bits",
		"code_challenge_method: "+challenge)
}

// finish turns a response into a result.
func (g *login) finish(env Env, got response, via string) (*Result, error) {
	if got.denied != nil {
		env.explain("authorization response (RFC 6749 section 4.1.2.1)", "error: "+got.denied.Code)
		return nil, got.denied
	}
	if got.answer != nil {
		env.explain("access token response (RFC 6749 section 4.2.2)", "access_token: [redacted]", "state: as sent")
		return &Result{Answer: got.answer, Via: FlowImplicit}, nil
	}
	env.explain("authorization response (RFC 6749 section 4.1.2)", "code: [redacted]", "state: as sent")
	verifier := g.verifier
	if !g.pkce {
		verifier = secret.Text{}
	}
	req := g.a.tokenRequest(oauth.CodeExchange(got.code, g.sent, verifier, g.a.Pins.Token.Params).
		With(g.a.Pins.Token.ExchangeParams).With(g.repeated(got)).WithResources(g.a.Pins.Resources))
	return &Result{Request: &req, Callback: got.extra, Redirect: g.redirect, Via: via}, nil
}

// repeated is what the code exchange carries of the login as well.
func (g *login) repeated(got response) map[string]string {
	params := maps.Clone(got.sends)
	if params == nil {
		params = map[string]string{}
	}
	for _, name := range g.expect.sends {
		switch name {
		case providers.SendsState:
			params[name] = g.expect.state
		case providers.SendsScope:
			if scope := g.a.scope(); scope != "" {
				params[name] = scope
			}
		}
	}
	return params
}
