package flow

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
)

// Bounds of the polling interval.
const (
	minInterval = time.Second
	maxInterval = time.Minute
	slowDown    = 5 * time.Second
)

// ErrCodeExpired says that a device code ran out before the person confirmed it.
var ErrCodeExpired = errors.New("the code expired before it was confirmed")

// Device leads a person through the device authorization grant (RFC 8628): it
// shows a code and an address, opens the address where a browser may be opened,
// and polls, one request at a time, until the person has decided. Network
// trouble and 5xx are waited through with growing pauses, to the end of the
// code's life or of ctx.
//
// Errors: *DeniedError, ErrCodeExpired, ErrTimeout, the context's error, and the
// errors of oauth for a request that cannot succeed.
func Device(ctx context.Context, env Env, a Attempt) (*Result, error) {
	fail := func(err error) (*Result, error) { return nil, fmt.Errorf("connect to %s: %w", a.name(), err) }
	switch {
	case a.Pins.DeviceAuthorizationEndpoint == "" || a.Pins.TokenEndpoint == "":
		return fail(errors.New("its definition lacks the device authorization or the token endpoint"))
	case a.Client.ID == "":
		return fail(errors.New("no client is known"))
	case env.HTTP == nil:
		return fail(errors.New("there is no HTTP client"))
	}
	var form oauth.Form
	if scope := a.scope(); scope != "" {
		form = append(form, oauth.Param{Name: "scope", Value: scope})
	}
	req := a.tokenRequest(form.WithResources(a.Pins.Resources))
	req.Endpoint, req.Format = a.Pins.DeviceAuthorizationEndpoint, oauth.FormatForm
	env.explain("device authorization request (RFC 8628 section 3.1)",
		"device_authorization_endpoint: "+req.Endpoint,
		"client_id: "+oauth.Clean(a.Client.ID),
		"scope: "+oauth.Clean(a.scope()))
	asked := env.now()
	d, err := env.HTTP.DeviceAuthorize(ctx, req)
	if err != nil {
		return fail(explained(a, err))
	}
	env.explain("device authorization response (RFC 8628 section 3.2)",
		"device_code: [redacted]",
		"user_code: "+d.UserCode,
		"verification_uri: "+d.VerificationURI,
		fmt.Sprintf("expires_in: %d s, interval: %d s", int(d.ExpiresIn.Seconds()), int(d.Interval.Seconds())))

	env.say("To connect to %s, open this address:", a.name())
	env.print(d.VerificationURI)
	env.say("and enter the code %s (good for %s).", d.UserCode, d.ExpiresIn.Round(time.Second))
	if env.QR != nil {
		if lines := env.QR(cmp.Or(d.VerificationURIComplete, d.VerificationURI)); lines != nil {
			env.say("Or point a telephone at this, and check that it shows the same code:")
			for _, line := range lines {
				env.print(line)
			}
		}
	}
	opened := make(chan error, 1)
	if env.OpenBrowser != nil {
		target := d.VerificationURI
		if d.VerificationURIComplete != "" {
			target = d.VerificationURIComplete
			env.say("In the browser that opens, check that it shows the same code.")
		}
		openCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() { opened <- env.OpenBrowser(openCtx, target) }()
	}
	result, err := poll(ctx, env, a, d, asked.Add(d.ExpiresIn), opened)
	if err != nil {
		return fail(err)
	}
	return result, nil
}

// poll asks the token endpoint until there is a decision (RFC 8628 section 3.4
// and 3.5).
func poll(ctx context.Context, env Env, a Attempt, d oauth.DeviceAuthorization, end time.Time, opened <-chan error) (*Result, error) {
	form := oauth.DeviceForm(d.DeviceCode).With(a.Pins.Token.Params).With(a.Pins.Token.ExchangeParams)
	interval := min(max(d.Interval, minInterval), maxInterval)
	var backoff time.Duration // on top of interval, while the issuer is out of reach
	told := false
	for {
		pause := min(interval+backoff, maxInterval)
		if left := end.Sub(env.now()); left <= pause {
			// There is no poll after the end; wait for it, so that the
			// person is not told too early.
			if err := env.sleep(ctx, max(left, 0)); err != nil {
				return nil, ended(ctx)
			}
			return nil, fmt.Errorf("%w: start it again for a new one", ErrCodeExpired)
		}
		if err := env.sleep(ctx, pause); err != nil {
			return nil, ended(ctx)
		}
		select {
		case err := <-opened:
			if err != nil {
				env.say("The browser could not be opened (%s). Open the address by hand.", oauth.Clean(err.Error()))
			}
		default:
		}

		answer, err := env.HTTP.PostToken(ctx, a.tokenRequest(form))
		if ctx.Err() != nil && err != nil {
			return nil, ended(ctx)
		}
		if err == nil {
			p := &a.Pins.Token
			_, err = oauth.ParseToken(answer, oauth.Rules{Type: p.Type, Inside: p.Inside, Fields: p.Fields, ErrorCodes: p.ErrorCodes})
			if err == nil || errors.Is(err, oauth.ErrUnusable) && mayHoldTokens(answer) {
				// The caller journals the answer before it judges it.
				env.explain("device access token response (RFC 8628 section 3.5)", "access_token: [redacted]")
				return &Result{Answer: &answer, Via: FlowDevice}, nil
			}
		}
		refused, isOAuth := errors.AsType[*oauth.Error](err)
		switch {
		case isOAuth && refused.Code == "authorization_pending":
			backoff, told = 0, false
		case isOAuth && refused.Code == "slow_down":
			backoff, told = 0, false
			interval = min(max(interval+slowDown, refused.Interval), maxInterval)
		case oauth.IsTemporary(err):
			backoff = min(max(2*backoff, interval), maxInterval)
			if wait := retryAfter(err); wait > backoff {
				backoff = min(wait, maxInterval)
			}
			if !told {
				told = true
				env.say("No usable answer (%s). Trying again until the code expires.", oauth.Clean(err.Error()))
			}
		default:
			return nil, explained(a, err)
		}
	}
}

// mayHoldTokens reports whether an answer that cannot be used may hold tokens all
// the same. The page of a captive portal does not.
func mayHoldTokens(a oauth.Answer) bool {
	t := strings.ToLower(a.ContentType)
	return a.Status/100 == 2 && (strings.Contains(t, "json") || strings.Contains(t, "x-www-form-urlencoded") ||
		bytes.HasPrefix(bytes.TrimSpace(a.Body), []byte("{")))
}

func retryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*oauth.StatusError](err); ok {
		return e.RetryAfter
	}
	if e, ok := errors.AsType[*oauth.Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// explained turns the errors of RFC 8628 section 3.5, and those that GitHub,
// Microsoft and Google answer in their place, into ones that say what they mean
// for a person.
func explained(a Attempt, err error) error {
	refused, ok := errors.AsType[*oauth.Error](err)
	if !ok {
		return err
	}
	if denied := (&DeniedError{a.name(), refused.Code, refused.Description}); denied.ByPerson() {
		return denied
	}
	switch refused.Code {
	case "expired_token", "token_expired", "code_expired":
		return fmt.Errorf("%w: start it again for a new one", ErrCodeExpired)
	case "bad_verification_code", "incorrect_device_code", "invalid_grant": // Microsoft's, GitHub's, RFC 6749's
		return fmt.Errorf("the provider does not know the code that it gave out, or it was used already; start it again for a new one: %w", err)
	case "device_flow_disabled":
		return fmt.Errorf("the device flow is switched off for this client: switch it on in the client's settings at the provider, or use --flow browser: %w", err)
	case "unauthorized_client", "unsupported_grant_type":
		return fmt.Errorf("this client may not use the device flow: allow it in the client's settings at the provider, or use --flow browser%s: %w", a.deviceNote(), err)
	case "invalid_client", "incorrect_client_credentials":
		return fmt.Errorf("the provider does not take this client for the device flow: its id may be wrong, or it may be of another kind than this flow needs%s: %w", a.deviceNote(), err)
	case "invalid_scope":
		return fmt.Errorf("the provider does not grant these scopes in the device flow: ask for fewer, or use --flow browser%s: %w", a.deviceNote(), err)
	}
	return err
}

// deviceNote returns in brackets what the definition says about the device flow.
func (a Attempt) deviceNote() string {
	if a.Provider == nil || a.Provider.DeviceNote == "" {
		return ""
	}
	return " (" + strings.TrimSuffix(oauth.Clean(a.Provider.DeviceNote), ".") + ")"
}
