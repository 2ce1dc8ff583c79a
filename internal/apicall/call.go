package apicall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// maxWait bounds what is waited for one command because answers asked for it.
const maxWait = 30 * time.Second

// maxRepeats bounds how often one request is sent again for that.
const maxRepeats = 5

// maxHeld is how much of a body that cannot be read twice is kept, so that the
// request can be sent again: 1 MiB.
const maxHeld = 1 << 20

// UnreachableError says that no answer came.
type UnreachableError struct {
	Host string
	Err  error
}

func (e *UnreachableError) Error() string { return fmt.Sprintf("call %s: %v", e.Host, e.Err) }
func (e *UnreachableError) Unwrap() error { return e.Err }

// Caller sends requests with a connection's token to the connection's hosts.
type Caller struct {
	Pins *providers.Pins
	// Client must follow no redirect: a token must not travel along.
	Client *http.Client
	// Token returns a live token, another one with refresh set. It is asked
	// for a refreshed one at most once.
	Token func(ctx context.Context, refresh bool) (secret.Text, error)
	// Renewable says that another token can be had after a refusal.
	Renewable bool
	UserAgent string
	Now       func() time.Time
	// Sleep waits for d or until ctx ends.
	Sleep func(ctx context.Context, d time.Duration) error
	// Answered, when set, is told the status of each answer.
	Answered func(status int)
	// Waiting, when set, is told before each wait.
	Waiting func(d time.Duration, why string)

	token     secret.Text
	refreshed bool
	waited    time.Duration
}

// Request is one request without its token.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   *Body // nil for none
}

// Body is a request's body, which may have to be sent more than once.
type Body struct {
	held []byte
	rest io.Reader // what follows held; nil when that is all
	sent bool
}

// NewBody reads the beginning of r. A body of up to 1 MiB can be sent again; a
// longer one streams and can be sent once.
func NewBody(r io.Reader) (*Body, error) {
	held, err := io.ReadAll(io.LimitReader(r, maxHeld+1))
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	if len(held) > maxHeld {
		return &Body{held: held, rest: r}, nil
	}
	return &Body{held: held}, nil
}

func (b *Body) repeatable() bool { return b == nil || b.rest == nil }

// open returns the body for one request.
func (b *Body) open() (io.Reader, error) {
	switch {
	case b == nil:
		return nil, nil
	case b.rest == nil:
		return bytes.NewReader(b.held), nil
	case b.sent:
		return nil, errors.New("the body is too long to be sent twice")
	}
	b.sent = true
	return io.MultiReader(bytes.NewReader(b.held), b.rest), nil
}

// Do sends a request. After a 401 it is sent once more with a refreshed token,
// after a 429 or 503 as Retry-After says, as long as all waits together stay
// below 30 s. The last answer is returned, whatever its status: the caller
// closes its body. The error is what Token gave, or an *UnreachableError.
func (c *Caller) Do(ctx context.Context, r Request) (*http.Response, error) {
	if c.token.IsZero() {
		token, err := c.Token(ctx, false)
		if err != nil {
			return nil, err
		}
		c.token = token
	}
	for repeats := 0; ; repeats++ {
		resp, err := c.send(ctx, r)
		if err != nil {
			return nil, err
		}
		if !r.Body.repeatable() || repeats >= maxRepeats {
			return resp, nil
		}
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			if c.refreshed || !c.Renewable {
				return resp, nil
			}
			discard(resp)
			c.refreshed = true
			if c.token, err = c.Token(ctx, true); err != nil {
				return nil, err
			}
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			wait, asked := retryAfter(resp.Header, c.Now())
			if !asked || c.waited+wait > maxWait {
				return resp, nil
			}
			discard(resp)
			c.waited += wait
			if c.Waiting != nil {
				c.Waiting(wait, fmt.Sprintf("%s answered HTTP status %d", r.URL.Host, resp.StatusCode))
			}
			if err := c.Sleep(ctx, wait); err != nil {
				return nil, err
			}
		default:
			return resp, nil
		}
	}
}

func (c *Caller) send(ctx context.Context, r Request) (*http.Response, error) {
	body, err := r.Body.open()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL.String(), body)
	if err != nil {
		return nil, badf("%q is no request method", oauth.Clean(r.Method))
	}
	for name, value := range c.Pins.APIHeaders {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", c.UserAgent)
	for name, values := range r.Header {
		req.Header[name] = values
	}
	for _, values := range req.Header {
		for _, value := range values {
			if strings.Contains(value, c.token.Reveal()) {
				return nil, badf("--header: a header holds the connection's token, which apiauth puts where it belongs")
			}
		}
	}
	addToken(req, c.Pins.APIAuth, c.token)
	resp, err := c.Client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its URL may hold a key
		}
		return nil, &UnreachableError{r.URL.Host, err}
	}
	if c.Answered != nil {
		c.Answered(resp.StatusCode)
	}
	return resp, nil
}

// discard drops an answer that another one follows, and keeps its connection
// where little is left to read.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
}

// retryAfter reads how long an answer asks to wait: seconds or a date (RFC 9110
// section 10.2.3).
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}
