package oauth

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/apiauth/apiauth/internal/secret"
)

// NewVerifier returns a PKCE code verifier of 43 characters (RFC 7636 section
// 4.1) from 32 bytes of random, which defaults to crypto/rand.
func NewVerifier(random io.Reader) (secret.Text, error) {
	if random == nil {
		random = rand.Reader
	}
	var b [32]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return secret.Text{}, fmt.Errorf("make a code verifier: %w", err)
	}
	return secret.New(base64.RawURLEncoding.EncodeToString(b[:])), nil
}

// AuthorizeRequest is an authorization request of the code flow (RFC 6749
// section 4.1.1, RFC 7636 section 4.3).
type AuthorizeRequest struct {
	Endpoint    string
	ClientID    string
	RedirectURI string // left out when empty
	Scopes      []string
	// ScopeSeparator defaults to one space. OmitScope sends no scope at all.
	ScopeSeparator string
	OmitScope      bool
	// SecondParam carries the scopes that begin with SecondPrefix, without it.
	SecondParam, SecondPrefix string
	// Rename gives client_id, redirect_uri or scope another name.
	Rename map[string]string
	// Resources are the resources that the token is meant for (RFC 8707).
	Resources []string
	State     string
	// PKCE demands a challenge made from Verifier, always by S256.
	// HexChallenge writes it in hexadecimal where a provider takes it only so;
	// RFC 7636 section 4.2 says base64url.
	PKCE         bool
	HexChallenge bool
	Verifier     secret.Text
	// Params are the provider's own parameters. Those that this request sets
	// itself are refused.
	Params map[string]string
	// LoginHint suggests an account, in the parameter LoginHintParam, which
	// defaults to login_hint.
	LoginHint      string
	LoginHintParam string
	// Implicit asks for a token in place of a code (RFC 6749 section 4.2.1).
	Implicit bool
	// AllowInsecureLoopback permits http to a loopback address.
	AllowInsecureLoopback bool
}

// AuthorizeURL returns the URL to open in a browser. The query that the
// endpoint has by itself is kept.
func AuthorizeURL(r AuthorizeRequest) (string, error) {
	u, err := checkEndpoint(r.Endpoint, r.AllowInsecureLoopback)
	if err != nil {
		return "", refusef("the authorization endpoint: %s", err)
	}
	own, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", refusef("the authorization endpoint has a broken query")
	}
	for name := range own {
		if reservedParam(name) {
			return "", refusef("the authorization endpoint sets the parameter %s by itself", Clean(name))
		}
	}
	switch {
	case r.ClientID == "":
		return "", errors.New("the authorization request has no client id")
	case r.State == "":
		return "", errors.New("the authorization request has no state")
	case r.PKCE && r.Verifier.Len() < 43:
		return "", errors.New("the authorization request has no code verifier")
	}
	c := oauth2.Config{
		ClientID:    r.ClientID,
		RedirectURL: r.RedirectURI,
		Endpoint:    oauth2.Endpoint{AuthURL: r.Endpoint},
	}
	var opts []oauth2.AuthCodeOption
	if !r.OmitScope {
		separator := cmp.Or(r.ScopeSeparator, " ")
		first, second := r.splitScopes()
		if len(first) > 0 {
			c.Scopes = []string{strings.Join(first, separator)}
		}
		if len(second) > 0 {
			opts = append(opts, oauth2.SetAuthURLParam(r.SecondParam, strings.Join(second, separator)))
		}
	}
	for name, value := range r.Params {
		if name == "" || reservedParam(name) || own.Has(name) ||
			name == "response_mode" && value != "query" {
			return "", refusef("the parameter %q cannot be set for an authorization request", Clean(name))
		}
		opts = append(opts, oauth2.SetAuthURLParam(name, value))
	}
	if r.LoginHint != "" {
		name := cmp.Or(r.LoginHintParam, "login_hint")
		if reservedParam(name) || own.Has(name) {
			return "", refusef("the parameter %q cannot carry the login hint", Clean(name))
		}
		opts = append(opts, oauth2.SetAuthURLParam(name, r.LoginHint))
	}
	if r.Implicit {
		opts = append(opts, oauth2.SetAuthURLParam("response_type", "token"))
	}
	if r.PKCE {
		opts = append(opts, oauth2.S256ChallengeOption(r.Verifier.Reveal()))
	}
	if r.PKCE && r.HexChallenge {
		sum := sha256.Sum256([]byte(r.Verifier.Reveal()))
		opts = append(opts, oauth2.SetAuthURLParam("code_challenge", hex.EncodeToString(sum[:])))
	}
	s, err := r.inItsWords(c.AuthCodeURL(r.State, opts...))
	if err == nil {
		s, err = CleanURL(s)
	}
	if err != nil {
		return "", refusef("the authorization request: %s", err)
	}
	return s, nil
}

// splitScopes tells the scopes of the second parameter from the others.
func (r AuthorizeRequest) splitScopes() (first, second []string) {
	for _, scope := range r.Scopes {
		if name, ok := strings.CutPrefix(scope, r.SecondPrefix); ok && r.SecondParam != "" && name != "" {
			second = append(second, name)
			continue
		}
		first = append(first, scope)
	}
	return first, second
}

// inItsWords renames parameters as the provider wants, and adds the resources.
func (r AuthorizeRequest) inItsWords(address string) (string, error) {
	if len(r.Rename) == 0 && len(r.Resources) == 0 {
		return address, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", errors.New("its address cannot be parsed")
	}
	q := u.Query()
	for name, to := range r.Rename {
		if !q.Has(name) {
			continue
		}
		if q.Has(to) {
			return "", fmt.Errorf("the parameter %q would occur twice", Clean(to))
		}
		q[to] = q[name]
		q.Del(name)
	}
	for _, resource := range r.Resources {
		q.Add("resource", resource)
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// reservedParam reports the parameters that decide what is asked for, by whom
// and where the answer goes.
func reservedParam(name string) bool {
	switch name {
	case "response_type", "client_id", "client_secret", "redirect_uri", "scope", "state",
		"code_challenge", "code_challenge_method", "code_verifier", "request", "request_uri":
		return true
	}
	return false
}
