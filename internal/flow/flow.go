// Package flow obtains grants: it leads a person through a provider's consent,
// by browser, by device code or by a pasted address, or takes a credential that
// somebody already has. It stores nothing and does not send the request that
// turns a code into tokens: the caller does, once, under its journal.
package flow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// The ways to obtain a grant, as they are written after --flow, in provider
// definitions and in Result.Via.
const (
	FlowAuto              = "auto"
	FlowBrowser           = "browser"
	FlowDevice            = "device"
	FlowPaste             = "paste"
	FlowClientCredentials = "client-credentials"
	FlowJWTBearer         = "jwt-bearer"
	FlowImplicit          = "implicit"
	FlowKey               = "key"
	FlowImport            = "import" // Result.Via only
)

// DefaultTimeout is how long a flow waits for a person when its context has no
// deadline.
const DefaultTimeout = 5 * time.Minute

// Errors that a flow ends with.
var (
	// ErrTimeout: nobody finished the login in time.
	ErrTimeout = errors.New("nobody finished the login in time")
	// ErrInterrupted: the person pressed Ctrl-C at the terminal that a flow
	// was reading.
	ErrInterrupted = errors.New("interrupted at the terminal")
	// ErrNoTerminal: the final address has to be pasted, and there is no
	// terminal (any more) to paste it at.
	ErrNoTerminal = errors.New("the final address has to be pasted at a terminal, and there is none")
)

// DeniedError says that the person or the provider refused the grant. Code is
// the error code of RFC 6749 section 4.1.2.1 or RFC 8628 section 3.5; Code and
// Description are cleaned for display.
type DeniedError struct {
	Provider    string
	Code        string
	Description string
}

// Error says who refused and why, in one line.
func (e *DeniedError) Error() string {
	var b strings.Builder
	if e.ByPerson() {
		fmt.Fprintf(&b, "access to %s was not granted (%s)", e.Provider, e.Code)
	} else {
		fmt.Fprintf(&b, "%s refused the login (%s)", e.Provider, e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	return b.String()
}

// ByPerson reports whether a person said no, in the words of RFC 6749 or those of
// providers that have their own: Microsoft's device flow, Salesforce, LinkedIn.
func (e *DeniedError) ByPerson() bool {
	switch e.Code {
	case "access_denied", "access-denied", "authorization_declined", "user_cancelled_authorize", "user_cancelled_login":
		return true
	}
	return false
}

// Attempt says what is to be obtained. Everything in it is decided before the
// flow starts; nothing is looked up on the way.
type Attempt struct {
	Pins     providers.Pins
	Provider *providers.Provider
	Client   oauth.Client
	// Scopes are all scopes to ask for, required ones included.
	Scopes []string
	// AccountHint suggests an account; it goes out as login_hint, or as the
	// parameter that the provider's definition names.
	AccountHint string
	// Port replaces the port of a loopback redirect; 0 keeps the provider's.
	Port int
	// Flow is FlowBrowser (the default; paste is offered beside it) or
	// FlowPaste for Authcode. The other functions ignore it.
	Flow string
}

// name is what the provider is called in front of people.
func (a Attempt) name() string {
	if a.Provider != nil && a.Provider.Name != "" {
		return oauth.Clean(a.Provider.Name)
	}
	return oauth.Clean(a.Pins.Provider)
}

func (a Attempt) separator() string {
	switch {
	case a.Pins.Token.RequestScopeSeparator != "":
		return a.Pins.Token.RequestScopeSeparator
	case a.Provider != nil && a.Provider.Scopes.Separator != "":
		return a.Provider.Scopes.Separator
	}
	return " "
}

// scope returns the value of the scope parameter, empty when there is none.
func (a Attempt) scope() string {
	if a.omitScope() {
		return ""
	}
	return strings.Join(a.Scopes, a.separator())
}

func (a Attempt) omitScope() bool { return a.Provider != nil && a.Provider.Scopes.Omit }

func (a Attempt) tokenRequest(form oauth.Form) oauth.TokenRequest {
	return oauth.TokenRequest{
		Endpoint:              a.Pins.TokenEndpoint,
		Client:                a.Client,
		Form:                  form,
		Headers:               a.Pins.Token.Headers,
		Format:                a.Pins.Token.Request,
		Rename:                a.Pins.Token.Rename,
		Omit:                  a.Pins.Token.OmitParams,
		AllowInsecureLoopback: a.Pins.AllowInsecureLoopback,
	}
}

// Env is the world as a flow may touch it. A flow calls Out and Explain from one
// goroutine only.
type Env struct {
	HTTP *oauth.HTTP
	// OpenBrowser shows a URL to the person; nil when no browser is to be
	// opened. A flow does not wait for it, and its failure ends nothing.
	OpenBrowser func(ctx context.Context, url string) error
	// Out prints one line for the person; the newline is its own.
	Out func(format string, a ...any)
	// QR draws an address for the camera of a telephone, a line for each string;
	// nil where it cannot be drawn. The field may be nil.
	QR func(text string) []string
	// ReadPaste returns one line that the person pasted, up to 64 KiB, without
	// its newline; nil when nothing can be pasted. It returns when ctx ends.
	// ErrTooLong and an empty line are asked again; io.EOF ends pasting.
	ReadPaste func(ctx context.Context) (string, error)
	// Front is what the person looks at, in a word: "terminal" (the default) or
	// "dashboard", where a line that is pasted goes into a field.
	Front string
	// Now defaults to time.Now.
	Now func() time.Time
	// Rand defaults to crypto/rand.
	Rand io.Reader
	// Sleep waits for d or until ctx ends and then returns its error. The
	// default is a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// Explain, when it is not nil, is told each step in RFC terms, without
	// any credential.
	Explain func(step string, lines ...string)
}

// width is the longest line that is printed, in characters. Only an address may
// be longer.
const width = 78

// say prints a sentence, broken into lines at its blanks.
func (e Env) say(format string, a ...any) {
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(fmt.Sprintf(format, a...)) {
		if strings.HasPrefix(word, "::") || strings.HasPrefix(word, "##") {
			word = oauth.Clean(word) // a CI system would obey a line that begins so
		}
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
		case used+1+n > width:
			e.print(b.String())
			b.Reset()
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	e.print(b.String())
}

// print prints one line as it is.
func (e Env) print(line string) {
	if e.Out != nil {
		e.Out("%s", line)
	}
}

func (e Env) explain(step string, lines ...string) {
	if e.Explain != nil {
		e.Explain(step, lines...)
	}
}

func (e Env) front() string { return cmp.Or(e.Front, "terminal") }

// pasteHere says how a line gets from the browser to ReadPaste.
func (e Env) pasteHere() string {
	if e.Front == "" {
		return "here and press Enter (it is not shown)"
	}
	return "into the field on the " + e.Front
}

func (e Env) now() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}

func (e Env) sleep(ctx context.Context, d time.Duration) error {
	if e.Sleep != nil {
		return e.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Result is what a flow brings home. Exactly one of Request, Answer and Key is
// set.
type Result struct {
	// Request is the code exchange (RFC 6749 section 4.1.3) or the client
	// credentials request (section 4.4.2). The caller sends it exactly once.
	Request *oauth.TokenRequest
	// Answer is the token answer of a device flow, successful and not parsed.
	Answer *oauth.Answer
	// Key is a static key, or a refresh token that the person brought along.
	Key secret.Text
	// Callback holds the parameters of the authorization response that
	// variables of the provider ask for, cleaned of nothing: check them
	// against the variable's pattern.
	Callback map[string]string
	// Redirect is where the browser ended, with the port of this login; empty
	// where there was no browser.
	Redirect string
	// Via is the flow that brought the grant: FlowBrowser, FlowPaste, …
	Via string
}

// waiting bounds ctx by DefaultTimeout when it has no deadline.
func waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, DefaultTimeout)
}

// ended is the error of a flow whose context ended while it waited.
func ended(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: start it again, with --timeout when more time is needed", ErrTimeout)
	}
	return context.Cause(ctx)
}

// ClientCredentials makes the request of RFC 6749 section 4.4.2, which needs no
// person. The client must be able to authenticate.
func ClientCredentials(a Attempt) (*Result, error) {
	switch {
	case a.Pins.TokenEndpoint == "":
		return nil, fmt.Errorf("obtain client credentials for %s: its definition has no token endpoint", a.name())
	case a.Client.Method == oauth.AuthNone || a.Client.Secret.IsZero():
		return nil, fmt.Errorf("obtain client credentials for %s: the client has no secret", a.name())
	}
	req := a.tokenRequest(oauth.ClientCredentialsForm(a.scope(), a.Pins.Token.Params).WithResources(a.Pins.Resources))
	return &Result{Request: &req, Via: FlowClientCredentials}, nil
}

// Key takes a static key that the person typed or piped in.
func Key(value secret.Text) (*Result, error) { return brought(value, "key", FlowKey) }

// Import takes an existing refresh token or personal access token.
func Import(value secret.Text) (*Result, error) { return brought(value, "token", FlowImport) }

func brought(value secret.Text, what, via string) (*Result, error) {
	s := strings.TrimSpace(value.Reveal())
	if s == "" {
		return nil, fmt.Errorf("the %s is empty", what)
	}
	if len(s) > maxPaste {
		return nil, fmt.Errorf("the %s is longer than %d KiB", what, maxPaste>>10)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= 0x20 || r > 0x7e }) {
		return nil, fmt.Errorf("the %s holds a blank, a control character or a character that is not ASCII", what)
	}
	return &Result{Key: secret.New(s), Via: via}, nil
}

// ReadSecret reads one credential from r, such as a pipe: one line of at most 64
// KiB, with or without its newline. A second line that is not empty is an error,
// because it would be lost.
func ReadSecret(r io.Reader) (secret.Text, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPaste+3))
	if err != nil {
		return secret.Text{}, fmt.Errorf("read a credential: %w", err)
	}
	line, rest, _ := strings.Cut(string(data), "\n")
	line = strings.TrimSuffix(line, "\r")
	switch {
	case len(line) > maxPaste:
		return secret.Text{}, fmt.Errorf("read a credential: it is longer than %d KiB", maxPaste>>10)
	case strings.TrimSpace(rest) != "":
		return secret.Text{}, errors.New("read a credential: there is more than one line")
	case line == "":
		return secret.Text{}, errors.New("read a credential: nothing came")
	}
	return secret.New(line), nil
}

// Means says what is at hand for a login.
type Means struct {
	Browser  bool // a browser may be opened here
	Terminal bool // a person can type and paste here
	Person   bool // a person reads what is printed and can act elsewhere
	Secret   bool // the client has a secret, or a key where it has one of those instead
	Key      bool // there is a key for the jwt-bearer flow
	// RedirectURI is the registered redirect, when it is not the provider's.
	RedirectURI string
}

// ChoiceError says that a flow cannot be used, and why.
type ChoiceError struct {
	Provider string
	Flow     string // as asked for
	Reasons  []string
}

// Error lists the reasons.
func (e *ChoiceError) Error() string {
	if e.Flow == FlowAuto {
		return fmt.Sprintf("no way to connect to %s from here: %s", e.Provider, strings.Join(e.Reasons, "; "))
	}
	return fmt.Sprintf("connect to %s by %s: %s", e.Provider, e.Flow, strings.Join(e.Reasons, "; "))
}

// Choose returns the flow to use. FlowAuto (or "") takes the first flow of the
// provider's list that is possible with m; a device code comes before a browser
// where no browser can be opened (unless it wants a client that is set up for it,
// and there is a terminal to paste at), and client credentials are taken only when the
// provider names them first, since such a grant belongs to nobody. A flow that
// was asked for by name is refused only when it cannot work. Errors are
// *ChoiceError.
func Choose(flow string, p *providers.Provider, m Means) (string, error) {
	a := Attempt{Provider: p}
	if p.Name == "" {
		a.Pins.Provider = p.ID
	}
	fail := func(reasons ...string) (string, error) {
		return "", &ChoiceError{Provider: a.name(), Flow: flow, Reasons: reasons}
	}
	offers := func(f string) bool { return slices.Contains(p.Flows, f) }

	switch flow {
	case FlowAuto, "":
		flow = FlowAuto
	case FlowBrowser, FlowPaste, FlowDevice, FlowClientCredentials, FlowJWTBearer, FlowImplicit, FlowKey:
		offered := flow
		if flow == FlowPaste {
			offered = FlowBrowser
		}
		if !offers(offered) {
			return fail("the provider does not offer it; it offers " + strings.Join(p.Flows, ", "))
		}
		if why := impossible(flow, p, m); why != "" {
			return fail(why)
		}
		return flow, nil
	default:
		return fail("there is no such flow; there are auto, browser, device, paste, client-credentials, jwt-bearer, implicit and key")
	}

	if len(p.Flows) == 0 {
		return fail("its definition names no flow")
	}
	// Where the device flow wants a client that is set up for it, and the final
	// address can be pasted, the client at hand is used the way it was made for.
	paste := m.Terminal && p.DeviceNote != "" && offers(FlowBrowser) && impossible(FlowBrowser, p, m) == ""
	if !m.Browser && offers(FlowDevice) && m.Person && !paste && impossible(FlowDevice, p, m) == "" {
		return FlowDevice, nil
	}
	var reasons []string
	for i, f := range p.Flows {
		why := impossible(f, p, m)
		switch {
		case why != "":
		case f == FlowImplicit && i > 0:
			why = "is outdated, so it is only used with --flow implicit"
		case (f == FlowBrowser || f == FlowDevice || f == FlowImplicit) && !m.Person && !m.Browser && !m.Terminal:
			why = "needs a person, and nobody is asked here (CI or --no-input)"
		case (f == FlowClientCredentials || f == FlowJWTBearer) && i > 0:
			why = "gives a grant that belongs to no person, so it is only used with --flow " + f
		default:
			return f, nil
		}
		reasons = append(reasons, f+" "+why)
	}
	return fail(reasons...)
}

// impossible returns why a flow cannot work, or "".
func impossible(flow string, p *providers.Provider, m Means) string {
	method := p.TokenEndpointAuthMethod
	if flow == FlowDevice && p.DeviceAuthMethod != "" {
		method = p.DeviceAuthMethod
	}
	optional := p.SecretOptional && flow != FlowClientCredentials
	needsSecret := method != oauth.AuthNone && !optional || flow == FlowClientCredentials
	switch flow {
	case FlowKey:
		if !m.Terminal {
			return "needs the key, by a prompt or with --import-stdin"
		}
		return ""
	case FlowJWTBearer:
		if !m.Key {
			return "needs the client's key (--key-file or --key-stdin)"
		}
		return ""
	case FlowImplicit:
	case FlowBrowser, FlowDevice, FlowPaste, FlowClientCredentials:
		if needsSecret && !m.Secret && method == oauth.AuthPrivateKeyJWT {
			return "needs the client's key (--key-file or --key-stdin)"
		}
		if needsSecret && !m.Secret && oauth.UsesCertificate(method) {
			return "needs the client's certificate and key (--client-certificate and --client-key)"
		}
		if needsSecret && !m.Secret {
			return "needs a client secret (apiauth client set)"
		}
	default:
		return "is not a flow of this version"
	}
	redirect := p.RedirectURI
	if m.RedirectURI != "" {
		redirect = m.RedirectURI
	}
	pasteOnly := strings.HasPrefix(redirect, "https:") && (flow == FlowBrowser || flow == FlowImplicit) || flow == FlowPaste
	if pasteOnly && !m.Terminal {
		return "needs a terminal to paste the final address at"
	}
	return ""
}
