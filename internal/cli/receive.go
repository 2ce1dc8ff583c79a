package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/proxy"
	"github.com/apiauth/apiauth/internal/secret"
)

// flowReceive marks a grant that a web page obtained and posted here.
const flowReceive = "receive"

// maxPost is more than a token response of any provider needs, in bytes.
const maxPost = 64 << 10

type receiveOptions struct {
	Name     string
	Provider string
	ClientID string
	Origins  []string
	Listen   string
	Once     bool
	Yes      bool
}

func newReceiveCmd(g *globals) *cobra.Command {
	var opts receiveOptions
	cmd := &cobra.Command{
		Use:     "receive NAME --origin URL",
		Short:   "Take over a token that a web page obtained and posts here",
		GroupID: groupGrant,
		Long: `Listen on this machine for the token response that a web page obtained by itself,
and keep it under NAME: the post-back of performUserAuthorization in Spotify's
@spotify/web-api-ts-sdk. The address to post to is printed; it is secret, and only
pages of the origins that --origin names are answered.

The token is tried at the provider before it is kept. The first account needs a
yes, here or by --yes; from then on NAME belongs to it, and another is refused. The
page goes on using the grant: where the provider replaces refresh tokens, apiauth
leaves the refresh token to the page, and serves the token until it ends or a newer
one is posted.`,
		Example:           `  apiauth receive spotify --origin http://127.0.0.1:5173 --listen 4041`,
		Args:              args(between(1, 1)),
		ValidArgsFunction: oneArg(completeConnectable(g)),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Name = a[0]
			return runReceive(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Provider, "provider", "", "catalogue `ID` (default NAME)")
	f.StringVar(&opts.ClientID, "client-id", "", "the client `ID` of the web page, unless it is stored")
	f.StringArrayVar(&opts.Origins, "origin", nil, "take posts from pages of the origin `URL`; repeat for more")
	f.StringVar(&opts.Listen, "listen", "", "listen on `[HOST:]PORT` of this machine (default: a free port of 127.0.0.1)")
	f.BoolVar(&opts.Once, "once", false, "end after the first token")
	f.BoolVarP(&opts.Yes, "yes", "y", false, "agree to the first account without being asked")
	_ = cmd.RegisterFlagCompletionFunc("provider", completeProviders(g))
	return cmd
}

func runReceive(ctx context.Context, g *globals, opts receiveOptions) error {
	if !project.ValidName(opts.Name) {
		return usagef("%q is no connection name", oauth.Clean(opts.Name))
	}
	if len(opts.Origins) == 0 {
		return usagef("name the origin of the page with --origin, such as --origin http://127.0.0.1:5173")
	}
	for _, origin := range opts.Origins {
		if err := proxy.CheckOrigin(origin); err != nil {
			return usagef("--origin %q: %w", oauth.Clean(origin), err)
		}
	}
	host, port, err := parseListen(opts.Listen)
	if err != nil {
		return err
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	if !opts.Yes && !ws.person() {
		return failf(exitUsage, "run it at a terminal, or agree to the first account with --yes", "nobody can be asked whose grant may be kept")
	}
	r := &receiver{ctx: ctx, ws: ws, opts: opts, done: make(chan struct{})}
	// What is unknown or not registered is known before a page posts anything.
	if err := r.prove(ctx); err != nil {
		return err
	}
	var key [32]byte
	if _, err := io.ReadFull(ws.app.Rand, key[:]); err != nil {
		return fmt.Errorf("make the address: %w", err)
	}
	r.path = fmt.Sprintf("/%x", key)
	l, err := loopback.Listen(ctx, loopback.Options{Host: host, Port: port, Log: func(line string) { ws.warn("%s", line) }})
	if taken, ok := errors.AsType[*loopback.PortTakenError](err); ok {
		return failf(exitUsage, "end the program that uses it, or give another port with --listen", "%w", taken)
	}
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	l.Serve(loopback.Guard{Origins: opts.Origins, OwnHeaders: true}, r)
	address := "http://" + l.Addr() + r.path
	if ws.cfg.JSON {
		err = printJSON(ws.app.Stdout, map[string]string{"url": address})
	} else {
		_, err = fmt.Fprintln(ws.app.Stdout, address)
	}
	if err != nil {
		return failf(exitFailure, "", "write the address: %w", err)
	}
	ws.say("Post the token of %s there, from a page of %s. Ctrl-C ends it.", opts.Name, cleanList(opts.Origins))
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// receiver takes posts, one after the other.
type receiver struct {
	ctx  context.Context //nolint:containedctx // of the command: a page that goes away ends no login
	ws   *workspace
	opts receiveOptions
	path string
	done chan struct{}

	mu   sync.Mutex
	last secret.Text // the token that was kept
	once sync.Once
}

// ServeHTTP answers the preflight and the post of one address. The answer says
// nothing about a token.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	loopback.SetHeaders(w.Header())
	origin := req.Header.Get("Origin")
	if !loopback.SameSecret(req.URL.Path, r.path) {
		loopback.Refuse(w, http.StatusNotFound)
		return
	}
	if !slices.Contains(r.opts.Origins, origin) {
		loopback.Refuse(w, http.StatusForbidden)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Vary", "Origin")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	switch req.Method {
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "POST")
		h.Set("Access-Control-Allow-Headers", "content-type")
		h.Set("Access-Control-Max-Age", "600")
		if req.Header.Get("Access-Control-Request-Private-Network") == "true" {
			h.Set("Access-Control-Allow-Private-Network", "true")
		}
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPost:
		w.WriteHeader(r.take(req))
	default:
		h.Set("Allow", "POST, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// take keeps the token of a post and returns the status of the answer.
func (r *receiver) take(req *http.Request) int {
	if kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return http.StatusUnsupportedMediaType
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxPost+1))
	if err != nil || len(body) > maxPost {
		return http.StatusRequestEntityTooLarge
	}
	var posted struct {
		AccessToken string `json:"access_token"`
		Expires     int64  `json:"expires"` // milliseconds since 1970; -1 of the SDK's empty token
	}
	if json.Unmarshal(body, &posted) != nil || posted.AccessToken == "" || posted.AccessToken == "emptyAccessToken" || posted.Expires == -1 {
		r.ws.warn("a post without a token was refused")
		return http.StatusBadRequest
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	token := secret.New(posted.AccessToken)
	if token.Equal(r.last) {
		return http.StatusNoContent // a page posts anew each time that it is loaded
	}
	rec, err := r.keep(body, posted.Expires)
	if err != nil {
		code, hint := explain(err)
		printError(r.ws.app.Stderr, err, hint)
		switch code {
		case exitTemporary, exitStore:
			return http.StatusServiceUnavailable
		}
		return http.StatusForbidden
	}
	r.last = rec.Body.Access
	if r.opts.Once {
		r.once.Do(func() { close(r.done) })
	}
	return http.StatusNoContent
}

// connectOptions are those of a login whose answer comes by post.
func (r *receiver) connectOptions() connectOptions {
	return connectOptions{
		Provider: r.opts.Provider, ClientID: r.opts.ClientID, NoBrowser: true,
		Flow: flowReceive, Timeout: flow.DefaultTimeout,
	}
}

// prove finds provider and client.
func (r *receiver) prove(ctx context.Context) error {
	a := &attempt{ws: r.ws, opts: r.connectOptions(), name: r.opts.Name}
	if r.ws.manifest != nil {
		a.wanted, _ = r.ws.manifest.Connection(a.name)
	}
	if err := a.findProvider(ctx); err != nil {
		return err
	}
	if a.def.UserinfoEndpoint == "" {
		return failf(exitUsage, "'apiauth connect "+a.name+"' obtains a grant by itself", "%s does not tell whose token it is, so none is taken over", oauth.Clean(a.def.Name))
	}
	known, err := r.ws.knownStore()
	if err != nil {
		return err
	}
	if err := a.readBefore(known); err != nil {
		return err
	}
	return a.findClient(ctx, known)
}

// keep stores a posted token response as a login.
func (r *receiver) keep(body []byte, expires int64) (*connection.Record, error) {
	opts := r.connectOptions()
	opts.obtained = func(ctx context.Context, a *attempt) (*flow.Result, error) {
		if err := r.checkAccount(ctx, a, body); err != nil {
			return nil, err
		}
		doc, err := r.shared(a, body, expires)
		if err != nil {
			return nil, err
		}
		now := r.ws.app.Now()
		return &flow.Result{Via: flowReceive, Answer: &oauth.Answer{Status: http.StatusOK, ContentType: "application/json", ReceivedAt: now, Body: doc}}, nil
	}
	return connectOne(r.ctx, r.ws, opts, r.opts.Name)
}

// shared is the response as far as it is ours: the page renews the grant too, so
// a refresh token that the provider may replace stays with the page.
func (r *receiver) shared(a *attempt, body []byte, expires int64) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, failf(exitUsage, "", "the post is not a token response")
	}
	delete(fields, "expires")
	if a.pins.Token.Rotates != "never" {
		delete(fields, "refresh_token")
	}
	if expires > 0 {
		left := time.UnixMilli(expires).Sub(r.ws.app.Now())
		if left <= 0 {
			return nil, failf(exitNeedsConnect, "load the page again", "the posted token has expired")
		}
		fields["expires_in"] = json.RawMessage(fmt.Sprint(int64(left / time.Second)))
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(fields); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// checkAccount asks the provider whose token it is. The first account needs a
// yes; then the connection belongs to it.
func (r *receiver) checkAccount(ctx context.Context, a *attempt, body []byte) error {
	answer := oauth.Answer{Status: http.StatusOK, ContentType: "application/json", Body: body, ReceivedAt: r.ws.app.Now()}
	token, err := oauth.ParseToken(answer, oauth.Rules{Type: a.pins.Token.Type, ScopeSeparator: a.pins.Token.ScopeSeparator})
	if err != nil {
		return failf(exitUsage, "", "the post is not a token response: %w", err)
	}
	s, err := r.ws.storeOrNew(ctx)
	if err != nil {
		return err
	}
	src, err := r.ws.source(s)
	if err != nil {
		return err
	}
	rec := &connection.Record{Header: connection.Header{Name: a.name, Pins: a.pins}, Body: connection.Body{Access: token.Access}}
	account, err := src.Identify(ctx, rec)
	switch {
	case err != nil:
		return failf(exitFailure, "load the page again", "the provider does not accept the posted token: %w", err)
	case account == (connection.Account{}):
		return failf(exitFailure, "", "the provider did not say whose token was posted")
	case a.before != nil && a.before.Account.Subject != "" && a.before.Account.Subject != account.Subject:
		return failf(exitRefused, "use another name for the other account", "%q belongs to %s, and a token of %s was posted", a.name, describeAccount(a.before.Account), describeAccount(account))
	case a.before != nil || r.opts.Yes:
		return nil
	}
	ok, err := r.ws.ask(ctx, fmt.Sprintf("Keep the grant of %s as %q?", describeAccount(account), a.name), false)
	if err == nil && !ok {
		err = failf(exitRefused, "", "the grant of %s was not kept", describeAccount(account))
	}
	return err
}
