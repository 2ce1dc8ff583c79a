package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
)

// issuerOf is what a connection asks of an issuer.
type issuerOf interface {
	PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error)
	Identity(ctx context.Context, r oauth.IdentityRequest) (oauth.Account, error)
	Sites(ctx context.Context, r oauth.SitesRequest) ([]oauth.Site, error)
	Revoke(ctx context.Context, r oauth.RevokeRequest) error
}

// explainedIssuer tells each request and answer in RFC terms. What is a
// credential, or may be one, is masked.
type explainedIssuer struct {
	issuerOf
	tell func(step string, lines ...string)
}

func (i explainedIssuer) PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error) {
	i.tell("token request ("+sectionOf(r)+")", describeRequest(r)...)
	a, err := i.issuerOf.PostToken(ctx, r)
	if err != nil {
		i.tell("no token response", oauth.Clean(err.Error()))
		return a, err
	}
	i.tell("token response (RFC 6749 section 5)", describeAnswer(a)...)
	return a, nil
}

func (i explainedIssuer) Identity(ctx context.Context, r oauth.IdentityRequest) (oauth.Account, error) {
	lines := []string{"endpoint: " + r.Endpoint, "access token: [redacted]"}
	if r.Query != "" {
		lines = append(lines, "query: "+oauth.Clean(r.Query))
	}
	i.tell("userinfo request (RFC 6750 section 2)", lines...)
	return i.issuerOf.Identity(ctx, r)
}

func (i explainedIssuer) Sites(ctx context.Context, r oauth.SitesRequest) ([]oauth.Site, error) {
	i.tell("request for the sites that the token reaches", "endpoint: "+r.Endpoint, "access token: [redacted]")
	return i.issuerOf.Sites(ctx, r)
}

// sectionOf names where a request is specified.
func sectionOf(r oauth.TokenRequest) string {
	for _, p := range r.Form {
		if p.Name != "grant_type" {
			continue
		}
		switch p.Value {
		case oauth.GrantCode:
			return "RFC 6749 section 4.1.3"
		case oauth.GrantClientCredentials:
			return "RFC 6749 section 4.4.2"
		case oauth.GrantRefresh:
			return "RFC 6749 section 6"
		case oauth.GrantDevice:
			return "RFC 8628 section 3.4"
		case oauth.GrantJWTBearer:
			return "RFC 7523 section 2.1"
		case oauth.GrantTokenExchange:
			return "RFC 8693 section 2.1"
		}
	}
	return "the provider's own"
}

// describeRequest lists what is sent.
func describeRequest(r oauth.TokenRequest) []string {
	format := r.Format
	if format == "" {
		format = oauth.FormatForm
	}
	lines := []string{"endpoint: " + r.Endpoint, "format: " + format, "client authentication: " + oauth.Clean(r.Client.Method)}
	if r.Client.ID != "" && r.Client.Method != oauth.AuthOmitted && r.Client.Method != oauth.AuthSecretAsUsername {
		lines = append(lines, "client_id: "+oauth.Clean(r.Client.ID))
	}
	if oauth.UsesCertificate(r.Client.Method) {
		lines = append(lines, "client certificate: presented in the TLS handshake (RFC 8705 section 2)")
	}
	for _, p := range r.Form {
		if slices.Contains(r.Omit, p.Name) {
			continue
		}
		name := p.Name
		if renamed := r.Rename[name]; renamed != "" {
			name += " (as " + renamed + ")"
		}
		value := oauth.Clean(p.Value)
		if !p.Secret.IsZero() {
			value = "[redacted]"
		}
		lines = append(lines, name+": "+value)
	}
	if a := r.Assertion; a != nil {
		lines = append(lines, "assertion: [redacted], signed by the client's key",
			"  iss: "+oauth.Clean(a.Issuer), "  sub: "+oauth.Clean(a.Subject), "  aud: "+oauth.Clean(a.Audience), fmt.Sprintf("  exp: %d s after iat", int(a.Lifetime.Seconds())))
	}
	return lines
}

// describeAnswer lists the fields of an answer. Only those that are known to be
// harmless are shown.
func describeAnswer(a oauth.Answer) []string {
	lines := []string{fmt.Sprintf("HTTP status: %d", a.Status)}
	fields := map[string]any{}
	if kind, _, _ := mime.ParseMediaType(a.ContentType); kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(a.Body))
		if err != nil {
			return lines
		}
		for name := range form {
			fields[name] = form.Get(name)
		}
	} else if json.Unmarshal(a.Body, &fields) != nil {
		return append(lines, "body: neither JSON nor a form")
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := "[redacted]"
		switch strings.ToLower(name) {
		case "token_type", "expires_in", "expires_at", "scope", "error", "issued_token_type", "refresh_token_expires_in":
			value = oauth.Clean(fmt.Sprint(fields[name]))
		}
		lines = append(lines, oauth.Clean(name)+": "+value)
	}
	return lines
}
