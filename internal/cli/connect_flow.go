package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// obtain runs the flow.
func (a *attempt) obtain(ctx context.Context) (*connection.Login, error) {
	ws := a.ws
	login := &connection.Login{
		Draft: connection.Header{
			Name:           a.name,
			Provider:       a.pins.Provider,
			ProviderDigest: a.def.Digest,
			Flow:           a.flow,
			ScopesAsked:    a.scopes,
			Pins:           a.pins,
			GrantDeadline:  a.opts.ends,
		},
		Client: a.oauthClient(),
		Confirm: func(ctx context.Context, was, is connection.Account) bool {
			ws.show("%q belonged to %s; now %s signed in.", a.name, describeAccount(was), describeAccount(is))
			if a.opts.Yes {
				return true
			}
			ok, err := ws.ask(ctx, "Replace the connection's account?", false)
			a.unanswered = err
			return err == nil && ok
		},
	}
	result, err := a.runFlow(ctx)
	if err != nil {
		return nil, a.flowError(err)
	}
	login.Callback = result.Callback
	if result.Redirect != "" && slices.Contains(a.pins.Token.RefreshSends, providers.SendsRedirect) {
		login.Draft.Pins.RedirectURI = result.Redirect // refreshes repeat it, with the port of --port
	}
	switch {
	case a.flow == flow.FlowImport:
		return login, a.imported(ctx, login, result.Key)
	case !result.Key.IsZero():
		login.Key = result.Key
	case result.Answer != nil:
		login.Answer = result.Answer
	default:
		login.Request = result.Request
	}
	if result.Via != "" {
		login.Draft.Flow = result.Via
	}
	return login, nil
}

// oauthClient is the client with the authentication method of the flow.
func (a *attempt) oauthClient() oauth.Client {
	return connection.Client(&a.pins, a.client.Secret)
}

func (a *attempt) runFlow(ctx context.Context) (*flow.Result, error) {
	ws := a.ws
	if a.opts.obtained != nil {
		return a.opts.obtained(ctx, a)
	}
	ctx, cancel := context.WithTimeout(ctx, a.opts.Timeout)
	defer cancel()
	client, err := ws.issuer()
	if err != nil {
		return nil, err
	}
	fa := flow.Attempt{
		Pins:        a.pins,
		Provider:    a.def.Provider,
		Client:      a.oauthClient(),
		Scopes:      a.scopes,
		AccountHint: a.opts.Account,
		Port:        a.opts.Port,
		Flow:        a.flow,
	}
	env := flow.Env{
		HTTP:  client,
		Out:   func(format string, v ...any) { fmt.Fprintf(ws.app.Stderr, format+"\n", v...) },
		Now:   ws.app.Now,
		Rand:  ws.app.Rand,
		Sleep: ws.app.Sleep,
	}
	if ws.mayOpenBrowser(a.opts.NoBrowser) {
		env.OpenBrowser = ws.openBrowser
	}
	switch {
	case ws.app.ReadPaste != nil:
		env.ReadPaste, env.Front = ws.app.ReadPaste, "dashboard"
	case ws.person() && ws.app.Terminal != nil:
		env.ReadPaste = func(ctx context.Context) (string, error) {
			return flow.ReadLineRaw(ctx, ws.app.Terminal, ws.app.Stderr)
		}
	}
	if ws.app.StderrTTY && ws.app.Terminal != nil && ws.app.env("TERM") != "dumb" {
		env.QR = ws.app.terminal().QR
	}
	if a.opts.Explain {
		env.Explain = a.tell
	}
	switch a.flow {
	case flow.FlowDevice:
		return flow.Device(ctx, env, fa)
	case flow.FlowImplicit:
		return flow.Implicit(ctx, env, fa)
	case flow.FlowClientCredentials:
		return flow.ClientCredentials(fa)
	case flow.FlowJWTBearer:
		request := connection.JWTBearerRequest(&a.pins, a.client.Secret, a.scopes)
		return &flow.Result{Request: &request, Via: flow.FlowJWTBearer}, nil
	case flow.FlowKey, flow.FlowImport:
		value, err := a.readCredential(ctx)
		if err != nil {
			return nil, err
		}
		if a.flow == flow.FlowKey {
			return flow.Key(value)
		}
		return flow.Import(value)
	default:
		return flow.Authcode(ctx, env, fa)
	}
}

// tell tells a step of --explain.
func (a *attempt) tell(step string, lines ...string) {
	fmt.Fprintf(a.ws.app.Stderr, "* %s\n", step)
	for _, l := range lines {
		fmt.Fprintf(a.ws.app.Stderr, "    %s\n", l)
	}
}

// readCredential takes a key or a token from standard input or a hidden prompt.
func (a *attempt) readCredential(ctx context.Context) (secret.Text, error) {
	if a.opts.ImportStdin {
		return flow.ReadSecret(a.ws.app.Stdin)
	}
	if !a.ws.person() {
		return secret.Text{}, failf(exitUsage, "pipe it in with --import-stdin", "the key of %s must be typed at a terminal", oauth.Clean(a.def.Name))
	}
	if page := a.def.Register.Page; page != "" {
		a.ws.say("Make a key at %s", page)
	}
	return askHidden(ctx, a.ws.app, "Key for "+a.def.Name, "not shown while you type")
}

// keyEnd reads when a key ends: a day, at whose end it does, a moment (RFC 3339),
// or a time from now, such as 90d; at most a hundred years from now. The zero time
// stands for an empty value.
func keyEnd(value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	const most = 100 * 365 * 24 * time.Hour
	end, err := time.Parse(time.RFC3339, value)
	if day, notDay := time.Parse(time.DateOnly, value); notDay == nil {
		end, err = time.Date(day.Year(), day.Month(), day.Day(), 23, 59, 59, 0, now.Location()), nil
	} else if age, ok := config.ParseAge(value, most); ok {
		end, err = now.Add(age), nil
	}
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%q is no date: write it as 2027-01-31, as a moment (2027-01-31T12:00:00Z), or as a time from now, 90d", oauth.Clean(value))
	case !end.After(now):
		return time.Time{}, fmt.Errorf("%s is over already", oauth.Clean(value))
	case end.After(now.Add(most)):
		return time.Time{}, fmt.Errorf("%s is more than a hundred years away", oauth.Clean(value))
	}
	return end.UTC().Truncate(time.Second), nil
}

// imported decides what an imported credential is: a token that the API accepts
// as it is, or a refresh token.
func (a *attempt) imported(ctx context.Context, login *connection.Login, value secret.Text) error {
	src := &connection.Source{Issuer: a.ws.http, Now: a.ws.app.Now}
	if a.pins.UserinfoEndpoint != "" {
		probe := &connection.Record{Header: login.Draft, Body: connection.Body{Access: value}}
		if _, err := src.Identify(ctx, probe); err == nil {
			login.Draft.Flow = connection.FlowKey
			login.Key = value
			return nil
		}
	}
	if a.pins.TokenEndpoint == "" {
		return failf(exitUsage, "", "%s has no token endpoint, and its API did not accept the token", oauth.Clean(a.def.Name))
	}
	if a.client.ID == "" {
		a.ws.warn("the API of %s does not accept it as an access token, so it is taken for a refresh token", oauth.Clean(a.def.Name))
		return a.noClient()
	}
	login.Draft.Flow = connection.FlowImport
	login.Imported = value
	request := connection.RefreshRequest(&a.pins, a.oauthClient(), value)
	login.Request = &request
	return nil
}

// flowError adds what a person can do where a login came to nothing: a provider
// that does not know the redirect URI says so in the browser, and to nobody else.
func (a *attempt) flowError(err error) error {
	denied, refused := errors.AsType[*flow.DeniedError](err)
	mismatch := refused && (denied.Code == "redirect_uri_mismatch" || denied.Code == "invalid_redirect_uri")
	redirect := a.redirectToRegister()
	switch {
	case redirect == "" || a.flow != flow.FlowBrowser && a.flow != flow.FlowPaste && a.flow != flow.FlowImplicit:
		return err
	case mismatch:
		return failf(exitUsage, fmt.Sprintf("register exactly %s at %s", redirect, a.registerPage()), "%w", err)
	case errors.Is(err, flow.ErrTimeout):
		return withHint(err, fmt.Sprintf("if the browser complained about the redirect URI, register exactly %s at %s; --timeout gives more time", redirect, a.registerPage()))
	}
	return err
}

// enrollError adds what a person can do where the issuer's code tells it.
func (a *attempt) enrollError(err error) error {
	code := oauth.ErrorCode(err)
	client := errors.Is(err, connection.ErrClient) || errors.Is(err, oauth.ErrCertificate) || code == "invalid_client"
	switch {
	case a.unanswered != nil && errors.Is(err, connection.ErrAccountDeclined):
		return fmt.Errorf("%w: %w", err, a.unanswered)
	case client && oauth.UsesCertificate(a.pins.AuthMethod):
		return failf(exitUsage, fmt.Sprintf("compare the client's id and certificate with its registration at %s, then give the right ones with --client-id, --client-certificate and --client-key", a.registerPage()), "%w", err)
	case client:
		return failf(exitUsage, fmt.Sprintf("check the client's id and secret at %s, then run 'apiauth client set %s'", a.registerPage(), a.provider), "%w", err)
	case code == "redirect_uri_mismatch":
		return failf(exitUsage, fmt.Sprintf("register exactly %s at %s", a.redirectToRegister(), a.registerPage()), "%w", err)
	case code == "invalid_scope":
		return failf(exitUsage, fmt.Sprintf("'apiauth provider show %s' lists its scopes", a.provider), "%w", err)
	}
	return err
}

func (a *attempt) redirectToRegister() string { return a.def.RegisterURI(a.client.RedirectURI) }
