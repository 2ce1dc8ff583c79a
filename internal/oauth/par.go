package oauth

import (
	"context"
	"net/url"
	"slices"
	"time"
)

// Pushed is the answer to a pushed authorization request (RFC 9126 section 2.2).
type Pushed struct {
	// URL is the authorization request to open in a browser: the client's id and
	// a reference to what was pushed.
	URL       string
	ExpiresIn time.Duration // of the reference; 0 when the issuer does not say
}

// Push sends the parameters of an authorization request, which AuthorizeURL made
// for the endpoint, to the pushed authorization request endpoint of r (RFC 9126),
// with the client's authentication. r has no form. Where our clock is wrong and
// the client signs, it is sent once more by the issuer's. Errors are those of
// PostToken and ParseToken.
func (h *HTTP) Push(ctx context.Context, r TokenRequest, endpoint, authorizeURL string) (Pushed, error) {
	target, err := checkEndpoint(endpoint, r.AllowInsecureLoopback)
	if err != nil {
		return Pushed{}, refusef("the authorization endpoint: %s", err)
	}
	u, err := url.Parse(authorizeURL)
	if err != nil {
		return Pushed{}, refusef("the authorization request cannot be parsed")
	}
	own := target.Query()
	query := u.Query()
	clientID := "client_id"
	if renamed := r.Rename["client_id"]; renamed != "" {
		clientID = renamed
	}
	r.Form = nil
	for _, name := range sortedNames(query) {
		if own.Has(name) || name == clientID {
			continue
		}
		for _, value := range query[name] {
			r.Form = append(r.Form, Param{Name: name, Value: value})
		}
	}
	if r.Client.Method == AuthBasic || r.Client.Method == AuthSecretAsUsername {
		r.Form = append(r.Form, Param{Name: "client_id", Value: r.Client.ID}) // the request is one of a client, wherever that authenticates
	}
	a, err := h.postForm(ctx, r, maxBody)
	if err != nil {
		return Pushed{}, err
	}
	pushed, err := parsePushed(a)
	if r.Skewed(a, err) {
		if a, err = h.postForm(ctx, r, maxBody); err != nil {
			return Pushed{}, err
		}
		pushed, err = parsePushed(a)
	}
	if err != nil {
		return Pushed{}, err
	}
	own.Set(clientID, r.Client.ID)
	own.Set("request_uri", pushed.URL)
	target.RawQuery = own.Encode()
	if pushed.URL, err = CleanURL(target.String()); err != nil {
		return Pushed{}, unusablef("the request_uri of the answer is refused: %s", err)
	}
	return pushed, nil
}

// parsePushed returns the request_uri in the place of the URL.
func parsePushed(a Answer) (Pushed, error) {
	_, o, err := openAnswer(a, Rules{})
	if err != nil {
		return Pushed{}, err
	}
	uri, ok := o.text("request_uri")
	if !ok || o.repeated["request_uri"] || !isAccessToken(uri) || len(uri) > 2048 {
		return Pushed{}, unusablef("the answer to the pushed authorization request has no usable request_uri")
	}
	p := Pushed{URL: uri}
	p.ExpiresIn, _ = o.seconds("expires_in", year)
	return p, nil
}

func sortedNames(v url.Values) []string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
