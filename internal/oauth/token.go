package oauth

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// Grant types.
const (
	GrantCode              = "authorization_code"
	GrantRefresh           = "refresh_token"
	GrantClientCredentials = "client_credentials"
	GrantDevice            = "urn:ietf:params:oauth:grant-type:device_code"
)

// CodeExchange is the form that turns an authorization code into tokens
// (RFC 6749 section 4.1.3, RFC 7636 section 4.5). redirectURI must be the one
// of the authorization request; verifier is zero without PKCE. extra are the
// provider's own parameters; one that collides makes PostToken refuse.
func CodeExchange(code secret.Text, redirectURI string, verifier secret.Text, extra map[string]string) Form {
	f := Form{{Name: "grant_type", Value: GrantCode}, {Name: "code", Secret: code}}
	if redirectURI != "" {
		f = append(f, Param{Name: "redirect_uri", Value: redirectURI})
	}
	if !verifier.IsZero() {
		f = append(f, Param{Name: "code_verifier", Secret: verifier})
	}
	return f.With(extra)
}

// RefreshForm is the form of a refresh (RFC 6749 section 6). Without scopes the
// new token has those of the grant.
func RefreshForm(refresh secret.Text, scopes ...string) Form {
	f := Form{{Name: "grant_type", Value: GrantRefresh}, {Name: "refresh_token", Secret: refresh}}
	if len(scopes) > 0 {
		f = append(f, Param{Name: "scope", Value: strings.Join(scopes, " ")})
	}
	return f
}

// ClientCredentialsForm is the form of a client credentials request (RFC 6749
// section 4.4.2). scope may be empty.
func ClientCredentialsForm(scope string, extra map[string]string) Form {
	f := Form{{Name: "grant_type", Value: GrantClientCredentials}}
	if scope != "" {
		f = append(f, Param{Name: "scope", Value: scope})
	}
	return f.With(extra)
}

// DeviceForm is the form of one poll of a device flow (RFC 8628 section 3.4).
func DeviceForm(deviceCode secret.Text) Form {
	return Form{{Name: "grant_type", Value: GrantDevice}, {Name: "device_code", Secret: deviceCode}}
}

// With returns f with the provider's own parameters added, in order of their
// names.
func (f Form) With(extra map[string]string) Form {
	f = slices.Clip(f)
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		f = append(f, Param{Name: name, Value: extra[name]})
	}
	return f
}

// PostToken sends r, once, with the client's one authentication method,
// and returns the answer unparsed, so that it can be made durable before it is
// looked at. Errors wrap ErrNotSent, ErrNoAnswer, or ErrUnusable (a redirect, a
// compressed answer, more than 192 KiB) and name the host only.
func (h *HTTP) PostToken(ctx context.Context, r TokenRequest) (Answer, error) {
	return h.postForm(ctx, r, maxTokenBody)
}

func (h *HTTP) postForm(ctx context.Context, r TokenRequest, limit int64) (Answer, error) {
	form, header, err := r.encode()
	if err != nil {
		return Answer{}, err
	}
	reply, err := h.do(ctx, call{
		method: http.MethodPost, url: r.Endpoint, header: header, body: form,
		limit: limit, loopback: r.AllowInsecureLoopback,
	})
	if err != nil {
		return Answer{}, err
	}
	a := reply.answer()
	a.sent = append(a.sent, r.Client.Secret)
	for _, p := range r.Form {
		a.sent = append(a.sent, p.Secret)
	}
	return a, nil
}

func (r reply) answer() Answer {
	a := Answer{
		Status:      r.status,
		ContentType: r.header.Get("Content-Type"),
		RetryAfter:  r.header.Get("Retry-After"),
		ReceivedAt:  r.at,
		Body:        r.body,
	}
	if t, err := http.ParseTime(r.header.Get("Date")); err == nil {
		a.Date = t
	}
	return a
}

// encode writes the form and adds the client authentication (RFC 6749 section
// 2.3.1).
func (r TokenRequest) encode() (body []byte, header http.Header, err error) {
	header = http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"},
		"Accept":       {"application/json"},
	}
	form := slices.Clone(r.Form)
	switch c := r.Client; c.Method {
	case AuthNone:
		if c.ID == "" {
			return nil, nil, refusef("authenticate the client: it has no id")
		}
		form = append(form, Param{Name: "client_id", Value: c.ID})
	case AuthPost:
		if c.ID == "" || c.Secret.IsZero() {
			return nil, nil, refusef("authenticate the client: %s needs an id and a secret", c.Method)
		}
		form = append(form, Param{Name: "client_id", Value: c.ID}, Param{Name: "client_secret", Secret: c.Secret})
	case AuthBasic:
		if c.ID == "" || c.Secret.IsZero() {
			return nil, nil, refusef("authenticate the client: %s needs an id and a secret", c.Method)
		}
		header.Set("Authorization", basic(url.QueryEscape(c.ID), url.QueryEscape(c.Secret.Reveal())))
	case AuthSecretAsUsername:
		if c.Secret.IsZero() {
			return nil, nil, refusef("authenticate the client: %s needs a secret", c.Method)
		}
		header.Set("Authorization", basic(c.Secret.Reveal(), ""))
	default:
		return nil, nil, refusef("authenticate the client: the method %q is not known", Clean(c.Method))
	}
	if err := addHeaders(header, r.Headers); err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	var b strings.Builder
	for _, p := range form {
		// RFC 6749 section 3.2: parameters must not be included more than
		// once. RFC 8707 lets resource repeat.
		if p.Name == "" || seen[p.Name] && p.Name != "resource" && p.Name != "audience" {
			return nil, nil, refusef("the parameter %q of a token request is empty or occurs twice", Clean(p.Name))
		}
		seen[p.Name] = true
		value := p.Value
		if !p.Secret.IsZero() {
			value = p.Secret.Reveal()
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.Name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(value))
	}
	return []byte(b.String()), header, nil
}

// basic is the value of an Authorization header (RFC 7617).
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
