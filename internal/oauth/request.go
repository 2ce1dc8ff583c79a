// Package oauth speaks the OAuth 2.0 protocol: authorization URLs, token
// requests, device authorization, revocation, discovery, identity. It is
// stateless, never retries by itself and never follows a redirect. Everything
// an issuer answers is treated as hostile.
package oauth

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Client authentication methods (RFC 7591 section 2, OpenID Connect Core section
// 9).
const (
	AuthNone  = "none"
	AuthBasic = "client_secret_basic"
	AuthPost  = "client_secret_post"
	// AuthOmitted sends nothing of the client: the request speaks for itself.
	AuthOmitted = "omitted"
	// AuthSecretJWT and AuthPrivateKeyJWT prove who the client is with an
	// assertion, signed with its secret or its key (RFC 7523 section 2.2).
	AuthSecretJWT     = "client_secret_jwt"
	AuthPrivateKeyJWT = "private_key_jwt"
	// AuthTLS and AuthSelfSignedTLS prove who the client is with a certificate in
	// the TLS handshake (RFC 8705 section 2): one of an authority that the issuer
	// trusts, or one that is registered with the issuer itself.
	AuthTLS           = "tls_client_auth"
	AuthSelfSignedTLS = "self_signed_tls_client_auth"
	// AuthSecretAsUsername is HTTP Basic with the secret as the user name and
	// no password; the id is not sent (Stripe Apps).
	AuthSecretAsUsername = "secret_as_username"
)

// UsesCertificate reports whether a client authentication method is one of mutual
// TLS (RFC 8705 section 2).
func UsesCertificate(method string) bool { return method == AuthTLS || method == AuthSelfSignedTLS }

// UsesKey reports whether the secret of a client with this method is a private key
// (Key.Encode) and not a text that both sides know.
func UsesKey(method string) bool { return method == AuthPrivateKeyJWT || UsesCertificate(method) }

// The formats of a token request.
const (
	FormatForm = "form"
	FormatJSON = "json" // one object; a parameter that repeats is a list
	FormatGet  = "get"  // the parameters stand in the query
)

// Client is a client registration as a token request needs it.
type Client struct {
	ID     string
	Secret secret.Text
	Method string // one of the Auth constants; there is no probing
	// Audience of an assertion; default the endpoint. Alg is the algorithm of
	// private_key_jwt, whose key is the Secret (Key.Encode); default by the key.
	// With mutual TLS the Secret is such a key with its certificates.
	Audience, Alg string
}

// Param is one parameter of a form. Exactly one of Value and Secret is used.
type Param struct {
	Name   string
	Value  string
	Secret secret.Text
}

// Form is an ordered list of request parameters that may hold credentials.
type Form []Param

// TokenRequest is one request to a token endpoint (RFC 6749 sections 4.1.3,
// 4.4.2, 6; RFC 8628 section 3.4). Client authentication is added when it is
// sent.
type TokenRequest struct {
	Endpoint string
	Client   Client
	Form     Form
	// Assertion is signed and added when the request is sent; nil: none.
	Assertion *Assertion
	Headers   map[string]string
	// Format is how the request is sent: FormatForm (default), FormatJSON or
	// FormatGet.
	Format string
	// Rename gives parameters other names, those of the client included; Omit
	// names parameters that are not sent.
	Rename map[string]string
	Omit   []string
	// AllowInsecureLoopback permits http to a loopback address.
	AllowInsecureLoopback bool
}

// Answer is what came back from a token endpoint, not yet parsed. Body holds
// credentials: an Answer does not print.
type Answer struct {
	Status      int
	ContentType string
	RetryAfter  string    // the raw header
	Date        time.Time // the issuer's clock; zero when absent or unreadable
	ReceivedAt  time.Time // our clock, when the last byte had arrived
	Body        []byte

	// sent are the credentials of the request, which an issuer may repeat in
	// an error_description. They are not part of what a journal keeps.
	sent []secret.Text
}

// Format writes a summary without the body for every verb.
func (a Answer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// String returns a summary without the body.
func (a Answer) String() string {
	return fmt.Sprintf("answer with HTTP status %d and %d bytes of %q", a.Status, len(a.Body), Clean(a.ContentType))
}

// LogValue keeps the body out of structured logs.
func (a Answer) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Rules say how to read a token response (RFC 6749 section 5.1 and the
// provider's deviations from it).
type Rules struct {
	// Type is the token_type expected: "" or "bearer" (any case), "absent"
	// (may be missing), or another name that the provider sends.
	Type string
	// ScopeSeparator of the response; "" splits at blanks, or at commas when
	// there are no blanks.
	ScopeSeparator string
	// Keep names fields of the response to keep, such as instance_url. KeepAs
	// keeps the field at a path under another name.
	Keep   []string
	KeepAs map[string]string
	// Inside is the path of the object that holds the response's fields. When
	// the response has no such object, it is read as usual.
	Inside string
	// Fields holds the provider's names of standard fields, as paths below
	// Inside. expires_at is a point in time.
	Fields map[string]string
	// ErrorCodes translates error codes into those of RFC 6749 section 5.2.
	ErrorCodes map[string]string
	// SecondScopes is the path of the scopes of a second scope parameter, which
	// count with SecondPrefix.
	SecondScopes, SecondPrefix string
	// SelfRenewing says that the access token serves as the refresh token.
	SelfRenewing bool
}

// Token is a validated token response.
type Token struct {
	Access  secret.Text
	Refresh secret.Text // zero when the response had none
	Type    string
	// ExpiresIn is clamped to [0, 1 year]. ExpiresKnown is false when the
	// response had no usable expires_in.
	ExpiresIn    time.Duration
	ExpiresKnown bool
	// RefreshExpiresIn is refresh_token_expires_in or refresh_expires_in;
	// zero when absent.
	RefreshExpiresIn time.Duration
	Scopes           []string
	ScopesKnown      bool
	IDToken          secret.Text
	Kept             map[string]string
}
