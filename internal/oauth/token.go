package oauth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Grant types.
const (
	GrantCode              = "authorization_code"
	GrantRefresh           = "refresh_token"
	GrantClientCredentials = "client_credentials"
	GrantDevice            = "urn:ietf:params:oauth:grant-type:device_code"
	GrantTokenExchange     = "urn:ietf:params:oauth:grant-type:token-exchange" //nolint:gosec // a name
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

// RenewalForm is the form of a refresh at a provider that has another grant type
// for it, or another parameter for the credential.
func RenewalForm(grantType, param string, credential secret.Text) Form {
	return Form{{Name: "grant_type", Value: grantType}, {Name: param, Secret: credential}}
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

// WithResources returns f with the resources that the token is meant for (RFC
// 8707 section 2).
func (f Form) WithResources(resources []string) Form {
	f = slices.Clip(f)
	for _, resource := range resources {
		f = append(f, Param{Name: "resource", Value: resource})
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
	c, err := r.encode(h.clock(r.Endpoint))
	if err != nil {
		return Answer{}, err
	}
	c.limit, c.loopback = limit, r.AllowInsecureLoopback
	reply, err := h.do(ctx, c)
	if err != nil {
		return Answer{}, err
	}
	a := reply.answer()
	h.setClock(r.Endpoint, a)
	c.secrets = append(c.secrets, r.Client.Secret)
	a.sent = c.secrets
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

// encode adds the client authentication (RFC 6749 section 2.3.1) and writes the
// request. Assertions are signed as of now.
func (r TokenRequest) encode(now time.Time) (call, error) {
	header := http.Header{"Accept": {"application/json"}}
	form, err := r.authenticated(header, now)
	if err != nil {
		return call{}, err
	}
	if err := addHeaders(header, r.Headers); err != nil {
		return call{}, err
	}
	if form, err = r.inItsWords(form); err != nil {
		return call{}, err
	}
	c := call{method: http.MethodPost, url: r.Endpoint, header: header}
	if UsesCertificate(r.Client.Method) {
		if r.Format == FormatGet {
			return call{}, certificatef("a request in the query of an address does not go with a client's certificate")
		}
		if c.presents, err = r.Client.certificate(r.Endpoint, now); err != nil {
			return call{}, err
		}
	}
	for _, p := range form {
		c.secrets = append(c.secrets, p.Secret)
	}
	switch r.Format {
	case "", FormatForm:
		header.Set("Content-Type", "application/x-www-form-urlencoded")
		c.body = []byte(form.query())
	case FormatJSON:
		header.Set("Content-Type", "application/json")
		c.body, err = form.object()
	case FormatGet:
		if strings.Contains(r.Endpoint, "?") {
			return call{}, refusef("send a request: the endpoint has a query of its own")
		}
		c.method, c.url = http.MethodGet, r.Endpoint+"?"+form.query()
	default:
		return call{}, refusef("send a request: the format %q is not known", Clean(r.Format))
	}
	return c, err
}

// clock is our clock, or that of the issuer at endpoint where it was seen to
// differ by more than a minute.
func (h *HTTP) clock(endpoint string) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.o.Now().Add(h.skew[hostIn(endpoint)])
}

// setClock remembers how an issuer's clock differs from ours.
func (h *HTTP) setClock(endpoint string, a Answer) {
	if a.Date.IsZero() {
		return
	}
	off := a.Date.Sub(a.ReceivedAt)
	if off.Abs() <= skewTold {
		off = 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.skew == nil {
		h.skew = map[string]time.Duration{}
	}
	h.skew[hostIn(endpoint)] = off
}

func hostIn(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// authenticated returns the form with what the client's one method adds to it,
// and sets what goes into the header.
func (r TokenRequest) authenticated(header http.Header, now time.Time) (Form, error) {
	form := slices.Clone(r.Form)
	if r.Assertion != nil {
		signed, err := r.Assertion.sign(now)
		if err != nil {
			return nil, err
		}
		form = append(form, Param{Name: "assertion", Secret: signed})
	}
	c := r.Client
	if c.ID == "" && c.Method != AuthSecretAsUsername && c.Method != AuthOmitted {
		return nil, refusef("authenticate the client: it has no id")
	}
	if c.Secret.IsZero() && UsesCertificate(c.Method) {
		return nil, certificatef("authenticate the client: %s needs its certificate and key, and none is there", c.Method)
	}
	if c.Secret.IsZero() && c.Method != AuthNone && c.Method != AuthOmitted {
		return nil, refusef("authenticate the client: %s needs a secret", Clean(c.Method))
	}
	switch c.Method {
	case AuthOmitted:
	case AuthNone, AuthTLS, AuthSelfSignedTLS: // RFC 8705 section 2: the certificate proves that the id is ours
		form = append(form, Param{Name: "client_id", Value: c.ID})
	case AuthPost:
		form = append(form, Param{Name: "client_id", Value: c.ID}, Param{Name: "client_secret", Secret: c.Secret})
	case AuthBasic:
		header.Set("Authorization", basic(url.QueryEscape(c.ID), url.QueryEscape(c.Secret.Reveal())))
	case AuthSecretJWT, AuthPrivateKeyJWT:
		signed, err := c.clientAssertion(r.Endpoint, now)
		if err != nil {
			return nil, err
		}
		form = append(form, Param{Name: "client_id", Value: c.ID}, Param{Name: "client_assertion_type", Value: assertionTypeJWT},
			Param{Name: "client_assertion", Secret: signed})
	case AuthSecretAsUsername:
		header.Set("Authorization", basic(c.Secret.Reveal(), ""))
	default:
		return nil, refusef("authenticate the client: the method %q is not known", Clean(c.Method))
	}
	return form, nil
}

// inItsWords leaves out and renames what the provider wants so. Parameters must
// not be included more than once (RFC 6749 section 3.2); RFC 8707 lets resource
// repeat, and RFC 8693 audience.
func (r TokenRequest) inItsWords(form Form) (Form, error) {
	seen := map[string]bool{}
	var out Form
	for _, p := range form {
		if slices.Contains(r.Omit, p.Name) {
			continue
		}
		repeats := p.Name == "resource" || p.Name == "audience"
		p.Name = cmp.Or(r.Rename[p.Name], p.Name)
		if p.Name == "" || seen[p.Name] && !repeats {
			return nil, refusef("the parameter %q of a token request is empty or occurs twice", Clean(p.Name))
		}
		seen[p.Name] = true
		out = append(out, p)
	}
	return out, nil
}

func (p Param) value() string {
	if !p.Secret.IsZero() {
		return p.Secret.Reveal()
	}
	return p.Value
}

// query writes the form as application/x-www-form-urlencoded, in its order.
func (f Form) query() string {
	var b strings.Builder
	for _, p := range f {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.Name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value()))
	}
	return b.String()
}

// object writes the form as a JSON object of strings.
func (f Form) object() ([]byte, error) {
	members := map[string]any{}
	for _, p := range f {
		switch before := members[p.Name].(type) {
		case nil:
			members[p.Name] = p.value()
		case string:
			members[p.Name] = []string{before, p.value()}
		case []string:
			members[p.Name] = append(before, p.value())
		}
	}
	body, err := json.Marshal(members)
	if err != nil {
		return nil, refusef("write a token request as JSON")
	}
	return body, nil
}

// basic is the value of an Authorization header (RFC 7617).
func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}
