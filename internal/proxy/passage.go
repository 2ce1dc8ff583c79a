package proxy

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strings"
	"unicode"

	"github.com/apiauth/apiauth/internal/secret"
)

// tokenError says that there is no token to be had.
type tokenError struct {
	connection string
	err        error
}

func (e *tokenError) Error() string {
	why := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return ' '
		}
		return c
	}, e.err.Error())
	return "there is no token for " + e.connection + ": " + why[:min(len(why), 400)]
}

func (e *tokenError) Unwrap() error { return e.err }

// shortBodyError says that a child broke its request off.
type shortBodyError struct{}

func (*shortBodyError) Error() string { return "the body of the request is shorter than it says" }

// passage is one request to a pinned host.
type passage struct {
	e      *Egress
	s      *site
	target *Target // nil: no token
	place  slot
	out    *http.Request
	whole  []byte // the body, where it can be sent again
	again  bool   // the request can be sent again
	sent   bool   // it has been sent once
}

// prepare sees to the body of the request. A small one is read and searched
// before anything is sent, a larger one while it is sent.
func (x *passage) prepare(r *http.Request) error {
	switch {
	case r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 && len(r.Trailer) == 0: // over HTTP/2 there is always some Body
		x.again = true
	case r.ContentLength > 0 && r.ContentLength <= replayable && len(r.Header["Expect"]) == 0 && len(r.Trailer) == 0:
		x.whole = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, x.whole); err != nil {
			return &shortBodyError{}
		}
		if bad := x.e.finder.whole(x.whole); bad != nil {
			return bad
		}
		x.again = true
		x.out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.whole)), nil }
	default:
		x.out.Body = x.e.finder.body(r.Body, r.Trailer)
	}
	return nil
}

// do sends the request. After the answer 401 it is sent once more, with another
// token where there is one.
func (x *passage) do(ctx context.Context) (*http.Response, error) {
	if x.target == nil {
		return x.send(ctx, secret.Text{})
	}
	name := x.target.Connection
	token, err := x.e.o.Tokens.Token(ctx, name, false)
	if err != nil {
		return nil, &tokenError{name, err}
	}
	resp, err := x.send(ctx, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !x.again {
		return resp, err
	}
	other, ok := x.e.renewals[name].instead(ctx, x.e.o.Tokens, name, token, x.e.o.Now())
	if !ok {
		return resp, nil
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 16<<10) // so that the connection can be used again
	_ = resp.Body.Close()
	return x.send(ctx, other)
}

func (x *passage) send(ctx context.Context, token secret.Text) (*http.Response, error) {
	out := x.out
	if x.sent {
		// Copies: what was sent before may still be on its way.
		address := *x.out.URL
		out = x.out.WithContext(ctx)
		out.URL, out.Header = &address, maps.Clone(x.out.Header)
	}
	x.sent = true
	if x.target != nil {
		x.e.remember(x.target, token)
		x.place.fill(out, token.Reveal())
	}
	if x.whole != nil {
		out.Body = io.NopCloser(bytes.NewReader(x.whole))
	}
	way, err := x.e.choose(out, true)
	if err != nil {
		return nil, err
	}
	resp, err := way.RoundTrip(out)
	if err == nil && x.target != nil && x.e.o.Answered != nil {
		x.e.o.Answered(ctx, x.target.Connection, resp.StatusCode)
	}
	return resp, err
}
