package oauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// ErrNoRevocation: the provider ends a grant by hand only, or the request lacks
// what its way needs.
var ErrNoRevocation = errors.New("the provider has no way to revoke this grant by request")

// RevokeRequest ends a grant at the provider.
type RevokeRequest struct {
	// Style is rfc7009, request, github, stripe-connect or contentful.
	Style string
	// Endpoint is the revocation endpoint; for github and contentful the base
	// of the API. The named styles default to the provider's own, except with
	// AllowInsecureLoopback: a local stand-in must say where it is.
	Endpoint string
	Client   Client
	Access   secret.Text
	Refresh  secret.Text
	Subject  string // stripe-connect: the account id
	Headers  map[string]string
	Rename   map[string]string // as in TokenRequest; rfc7009 and request
	// Manner describes the request of the style request.
	Manner Manner
	// Foreign says that Access is a token of any kind, of which nothing more is
	// known: one that is not taken as an access token need not have ended.
	Foreign bool
	// AllowInsecureLoopback permits http to a loopback address.
	AllowInsecureLoopback bool
}

// Revoke ends the grant. A nil error means that the provider says so, or that
// it does not know the grant any more. Errors are those of PostToken, *Error,
// *StatusError or ErrNoRevocation.
func (h *HTTP) Revoke(ctx context.Context, r RevokeRequest) error {
	if r.Access.IsZero() && r.Refresh.IsZero() && r.Style != "stripe-connect" {
		return ErrNoRevocation
	}
	if r.Endpoint == "" && r.AllowInsecureLoopback {
		return ErrNoRevocation
	}
	if r.Style != "rfc7009" && r.Style != "request" && UsesKey(r.Client.Method) {
		return ErrNoRevocation // the other ways send the client's secret, and this one is a private key
	}
	switch r.Style {
	case "rfc7009":
		return h.revokeStandard(ctx, r)
	case "request":
		return h.revokeSo(ctx, r)
	case "github":
		return h.revokeGitHub(ctx, r)
	case "stripe-connect":
		return h.revokeStripe(ctx, r)
	case "contentful":
		return h.revokeContentful(ctx, r)
	}
	return ErrNoRevocation
}

// revokeStandard follows RFC 7009. Revoking a refresh token ends the access
// tokens of the grant too (section 2.1: SHOULD), so that one request does.
func (h *HTTP) revokeStandard(ctx context.Context, r RevokeRequest) error {
	if r.Endpoint == "" {
		return ErrNoRevocation // no default: every issuer has its own
	}
	token, hint := r.Refresh, "refresh_token"
	if token.IsZero() {
		token, hint = r.Access, "access_token"
	}
	a, err := h.postForm(ctx, TokenRequest{
		Endpoint: r.Endpoint, Client: r.Client, Headers: r.Headers, Rename: r.Rename, AllowInsecureLoopback: r.AllowInsecureLoopback,
		Form: Form{{Name: "token", Secret: token}, {Name: "token_type_hint", Value: hint}},
	}, maxBody)
	if err != nil {
		return err
	}
	err = revoked(a)
	// RFC 7009 section 2.2 answers 200 for a token that is gone; Salesforce
	// and Google have an error for it.
	if ErrorCode(err) == "invalid_token" {
		return nil
	}
	return err
}

// revokeStripe deauthorizes a connected account; the platform's secret key is
// the user name.
func (h *HTTP) revokeStripe(ctx context.Context, r RevokeRequest) error {
	if r.Client.ID == "" || r.Client.Secret.IsZero() || r.Subject == "" {
		return ErrNoRevocation
	}
	form := url.Values{"client_id": {r.Client.ID}, "stripe_user_id": {r.Subject}}
	reply, err := h.do(ctx, call{
		method: http.MethodPost, url: cmp.Or(r.Endpoint, "https://connect.stripe.com/oauth/deauthorize"),
		header: http.Header{
			"Content-Type":  {"application/x-www-form-urlencoded"},
			"Accept":        {"application/json"},
			"Authorization": {basic(r.Client.Secret.Reveal(), "")},
		},
		body: []byte(form.Encode()), limit: maxBody, loopback: r.AllowInsecureLoopback,
	})
	if err != nil {
		return err
	}
	a := reply.answer()
	a.sent = []secret.Text{r.Client.Secret}
	return revoked(a)
}

// revokeGitHub removes the whole grant with the client's secret. Without the
// secret, or when the access token has died before its refresh token, the
// tokens themselves are handed in.
func (h *HTTP) revokeGitHub(ctx context.Context, r RevokeRequest) error {
	base := strings.TrimSuffix(cmp.Or(r.Endpoint, "https://api.github.com"), "/")
	header := func() http.Header {
		return http.Header{"Accept": {"application/vnd.github+json"}, "Content-Type": {"application/json"}}
	}
	if !r.Client.Secret.IsZero() && r.Client.ID != "" && !r.Access.IsZero() {
		body, err := json.Marshal(map[string]string{"access_token": r.Access.Reveal()})
		if err != nil {
			return refusef("write the revocation request: the token is not text")
		}
		hd := header()
		hd.Set("Authorization", basic(r.Client.ID, r.Client.Secret.Reveal()))
		reply, err := h.do(ctx, call{
			method: http.MethodDelete, url: base + "/applications/" + url.PathEscape(r.Client.ID) + "/grant",
			header: hd, body: body, limit: maxBody, loopback: r.AllowInsecureLoopback,
		})
		switch {
		case err != nil:
			return err
		case reply.status == http.StatusNotFound || reply.status == http.StatusUnprocessableEntity:
			if r.Refresh.IsZero() {
				return nil
			}
			r.Access = secret.Text{}
		case reply.status == http.StatusNoContent:
			return nil
		default:
			return &StatusError{Status: reply.status, RetryAfter: reply.answer().retryAfter()}
		}
	}
	var tokens []string
	for _, t := range []secret.Text{r.Access, r.Refresh} {
		if !t.IsZero() {
			tokens = append(tokens, t.Reveal())
		}
	}
	body, err := json.Marshal(map[string][]string{"credentials": tokens})
	if err != nil {
		return refusef("write the revocation request: the token is not text")
	}
	reply, err := h.do(ctx, call{
		method: http.MethodPost, url: base + "/credentials/revoke", header: header(), body: body,
		limit: maxBody, loopback: r.AllowInsecureLoopback,
	})
	if err != nil {
		return err
	}
	if reply.status < 200 || reply.status > 299 {
		return &StatusError{Status: reply.status, RetryAfter: reply.answer().retryAfter()}
	}
	return nil
}

// revokeContentful finds the token in the account's list, which shows the last
// four characters of each, and revokes it. With several that match it is the
// one used last: the list call just now used ours.
func (h *HTTP) revokeContentful(ctx context.Context, r RevokeRequest) error {
	if r.Access.IsZero() {
		return ErrNoRevocation
	}
	base := strings.TrimSuffix(cmp.Or(r.Endpoint, "https://api.contentful.com"), "/")
	header := http.Header{
		"Authorization": {"Bearer " + r.Access.Reveal()},
		"Content-Type":  {"application/vnd.contentful.management.v1+json"},
	}
	reply, err := h.do(ctx, call{
		method: http.MethodGet, url: base + "/users/me/access_tokens?limit=1000", header: header,
		limit: maxBody, loopback: r.AllowInsecureLoopback,
	})
	switch {
	case err != nil:
		return err
	case reply.status == http.StatusUnauthorized:
		return nil // the token is dead already
	case reply.status != http.StatusOK:
		return &StatusError{Status: reply.status, RetryAfter: reply.answer().retryAfter()}
	}
	id, err := contentfulTokenID(reply.body, r.Access)
	if err != nil {
		return err
	}
	reply, err = h.do(ctx, call{
		method: http.MethodPut, url: base + "/users/me/access_tokens/" + url.PathEscape(id) + "/revoked", header: header,
		body: []byte{}, limit: maxBody, loopback: r.AllowInsecureLoopback,
	})
	if err != nil {
		return err
	}
	if reply.status < 200 || reply.status > 299 {
		return &StatusError{Status: reply.status, RetryAfter: reply.answer().retryAfter()}
	}
	return nil
}

func contentfulTokenID(body []byte, access secret.Text) (string, error) {
	if err := checkDepth(body); err != nil {
		return "", unusablef("the list of access tokens is not usable: %s", err)
	}
	var list struct {
		Items []struct {
			Sys struct {
				ID            string `json:"id"`
				RedactedValue string `json:"redactedValue"`
				CreatedAt     string `json:"createdAt"`
				LastUsedAt    string `json:"lastUsedAt"`
			} `json:"sys"`
			LastUsedAt string `json:"lastUsedAt"`
			RevokedAt  string `json:"revokedAt"`
		} `json:"items"`
	}
	if json.Unmarshal(body, &list) != nil {
		return "", unusablef("the list of access tokens is not usable")
	}
	token := access.Reveal()
	last4 := token[max(0, len(token)-4):]
	id, newest := "", ""
	for _, item := range list.Items {
		if item.RevokedAt != "" || item.Sys.ID == "" || !strings.HasSuffix(item.Sys.RedactedValue, last4) {
			continue
		}
		// RFC 3339 times in UTC order as text.
		used := cmp.Or(item.Sys.LastUsedAt, item.LastUsedAt, item.Sys.CreatedAt)
		if id == "" || used > newest {
			id, newest = item.Sys.ID, used
		}
	}
	if id == "" {
		return "", unusablef("the list of access tokens does not show this one")
	}
	for i := range len(id) {
		if c := id[i]; !isHex(c) && !(c >= 'g' && c <= 'z' || c >= 'G' && c <= 'Z' || c == '-' || c == '_') {
			return "", unusablef("the list of access tokens has an id that is refused")
		}
	}
	return id, nil
}

// revoked reads the answer of a revocation endpoint, whose body on success is
// of no interest (RFC 7009 section 2.2).
func revoked(a Answer) error {
	if a.Status < 200 || a.Status > 299 {
		return refusal(a, Rules{})
	}
	if o, err := readBody(a); err == nil {
		if e := oauthError(a, o, Rules{}); e != nil {
			return e
		}
	}
	return nil
}

// Introspect asks whether token is alive (RFC 7662). hint is access_token,
// refresh_token or empty. r carries endpoint and client; its form may hold the
// provider's own parameters.
func (h *HTTP) Introspect(ctx context.Context, r TokenRequest, token secret.Text, hint string) (active bool, err error) {
	r.Form = append(Form{{Name: "token", Secret: token}}, r.Form...)
	if hint != "" {
		r.Form = append(r.Form, Param{Name: "token_type_hint", Value: hint})
	}
	a, err := h.postForm(ctx, r, maxBody)
	if err != nil {
		return false, err
	}
	_, o, err := openAnswer(a, Rules{})
	if err != nil {
		return false, err
	}
	switch raw := string(o.members["active"]); {
	case o.repeated["active"]:
	case raw == "true":
		return true, nil
	case raw == "false":
		return false, nil
	}
	return false, unusablef("the introspection response does not say whether the token is active")
}
