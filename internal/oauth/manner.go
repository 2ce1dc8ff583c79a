package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// AuthBearer in a Manner sends the access token itself as RFC 6750 section 2.1
// has it, and nothing of the client.
const AuthBearer = "bearer"

// FormatQuery is the format of a Manner with the parameters in the query,
// whatever the method.
const FormatQuery = "query"

// Manner describes the request by which a provider ends a grant where that is
// not the one of RFC 7009.
type Manner struct {
	Method string // POST, DELETE or GET
	Format string // FormatForm, FormatJSON or FormatQuery
	// Auth is AuthBearer or a method of client authentication; empty: the
	// client's own.
	Auth string
	// Token is access_token or refresh_token where only that one ends the
	// grant; empty: the refresh token, or the access token where there is none.
	Token  string
	Params map[string]string
}

// revokeSo ends a grant in the provider's own manner.
func (h *HTTP) revokeSo(ctx context.Context, r RevokeRequest) error {
	m := r.Manner
	token, last := r.token()
	if m.Auth != "" {
		if UsesKey(r.Client.Method) {
			r.Client.Secret = secret.Text{} // it is a key, which goes nowhere
		}
		r.Client.Method = m.Auth
	}
	if r.Endpoint == "" || token.IsZero() || r.Client.needsSecret() && r.Client.Secret.IsZero() {
		return ErrNoRevocation
	}
	t := TokenRequest{Endpoint: r.Endpoint, Client: r.Client, Headers: r.Headers, Rename: r.Rename, Format: m.Format}
	if m.Auth == AuthBearer {
		if !isAccessToken(token.Reveal()) {
			return refusef("the token does not fit into a request")
		}
		t.Client = Client{Method: AuthOmitted}
	} else {
		t.Form = Form{{Name: "token", Secret: token}}
	}
	t.Form = t.Form.With(m.Params)
	if m.Format == FormatQuery {
		t.Format = FormatGet
	}
	c, err := t.encode(h.clock(r.Endpoint))
	if err != nil {
		return err
	}
	c.method, c.limit, c.loopback = m.Method, maxBody, r.AllowInsecureLoopback
	if len(t.Form) == 0 {
		c.body = nil
		c.url = strings.TrimSuffix(c.url, "?")
		c.header.Del("Content-Type")
	}
	if m.Auth == AuthBearer {
		c.header.Set("Authorization", "Bearer "+token.Reveal())
	}
	reply, err := h.do(ctx, c)
	if err != nil {
		return err
	}
	a := reply.answer()
	a.sent = []secret.Text{token, r.Client.Secret}
	return ended(a, r, last)
}

// token is the one to send, and whether the grant has no other that may outlive
// it.
func (r RevokeRequest) token() (token secret.Text, last bool) {
	access := r.Manner.Token == "access_token" || r.Manner.Auth == AuthBearer
	if access || r.Manner.Token == "" && r.Refresh.IsZero() {
		return r.Access, r.Refresh.IsZero() && !(access && r.Foreign)
	}
	return r.Refresh, true
}

// needsSecret reports whether the client's method rests on its secret.
func (c Client) needsSecret() bool {
	return c.Method != AuthNone && c.Method != AuthOmitted && c.Method != AuthBearer
}

// ended reads the answer. A token that the provider does not take any more has
// ended, and so has its grant, if there is no refresh token beside it.
func ended(a Answer, r RevokeRequest, last bool) error {
	err := revoked(a)
	gone := ErrorCode(err) == "invalid_token" || r.Manner.Auth == AuthBearer && a.Status == http.StatusUnauthorized
	switch {
	case gone && last:
		return nil
	case gone && r.Foreign:
		return &failure{text: "the provider does not take it as an access token: it has ended, or is of another kind"}
	case gone:
		return &failure{text: "the access token has ended, and the provider ends a grant by one that lives"}
	case errors.Is(err, ErrUnusable):
		return &StatusError{Status: a.Status, RetryAfter: a.retryAfter()}
	}
	return err
}
