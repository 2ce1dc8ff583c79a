package oauth

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// IdentityRequest asks an API whose token it is.
type IdentityRequest struct {
	Endpoint string
	Access   secret.Text
	// In, Name and Prefix say where the token goes: "header" (default, with
	// Name "Authorization" and Prefix "Bearer " when empty), "query" with a
	// Name, or "basic" (as the user name).
	In, Name, Prefix string
	Headers          map[string]string
	// Query is a GraphQL query, sent by POST as {"query": …}. Without one the
	// request is a GET.
	Query string
	// Subject and Label are paths in the answer, such as "id" or "sys.id".
	// Each may be a comma list of alternatives, of which the first that has a
	// value counts. Without a label the subject serves.
	Subject, Label        string
	AllowInsecureLoopback bool
	// Client is the client whose certificate is presented, where the token is bound
	// to it (RFC 8705 section 3); zero: none is.
	Client Client
}

// Account is who granted access. Both texts are cleaned for display.
type Account struct {
	Subject string // stable identifier at the provider
	Label   string // name for people
}

// Identity fetches the account. An answer other than 2xx is a *StatusError: 401
// means that the API refuses the token.
func (h *HTTP) Identity(ctx context.Context, r IdentityRequest) (Account, error) {
	endpoint, header, err := r.place()
	if err != nil {
		return Account{}, err
	}
	c := call{method: http.MethodGet, url: endpoint, header: header, loopback: r.AllowInsecureLoopback}
	if r.Query != "" {
		c.method = http.MethodPost
		header.Set("Content-Type", "application/json")
		if c.body, err = json.Marshal(map[string]string{"query": r.Query}); err != nil {
			return Account{}, refusef("write the question about the account as JSON")
		}
	}
	body, err := h.bodyOf(ctx, r, c)
	if err != nil {
		return Account{}, err
	}
	return AccountIn(body, r.Subject, r.Label)
}

// bodyOf returns the body of a 2xx answer of an API.
func (h *HTTP) bodyOf(ctx context.Context, r IdentityRequest, c call) ([]byte, error) {
	c.limit = maxBody
	if UsesCertificate(r.Client.Method) {
		var err error
		if c.presents, err = r.Client.certificate(c.url, h.clock(c.url)); err != nil {
			return nil, err
		}
		c.presents.optional = true
	}
	reply, err := h.do(ctx, c)
	if err != nil {
		return nil, err
	}
	if reply.status < 200 || reply.status > 299 {
		return nil, &StatusError{Status: reply.status, RetryAfter: reply.answer().retryAfter()}
	}
	return reply.body, nil
}

// AccountIn reads an account from a JSON object, see IdentityRequest for the
// paths.
func AccountIn(body []byte, subject, label string) (Account, error) {
	o, err := parseObject(body)
	if err != nil {
		return Account{}, unusablef("the answer about the account is not usable: %s", err)
	}
	a := Account{Subject: o.first(subject), Label: o.first(label)}
	if a.Subject == "" {
		return Account{}, unusablef("the answer about the account has no %s", Clean(subject))
	}
	if a.Label == "" {
		a.Label = a.Subject
	}
	return a, nil
}

func (o object) first(paths string) string {
	for path := range strings.SplitSeq(paths, ",") {
		if s, ok := o.path(strings.TrimSpace(path)); ok {
			if s = Clean(s); s != "" {
				return s
			}
		}
	}
	return ""
}

// place puts the token where the API wants it.
func (r IdentityRequest) place() (endpoint string, header http.Header, err error) {
	header = http.Header{"Accept": {"application/json"}}
	for name, value := range r.Headers {
		if http.CanonicalHeaderKey(name) == "Content-Type" && headerValue(value) {
			header.Set(name, value) // Contentful wants its own, on GET as well
			continue
		}
		if err := addHeaders(header, map[string]string{name: value}); err != nil {
			return "", nil, err
		}
	}
	if !isAccessToken(r.Access.Reveal()) {
		return "", nil, refusef("the token does not fit into a request")
	}
	name, prefix := r.Name, r.Prefix
	switch r.In {
	case "", "header":
		if name == "" {
			name = "Authorization"
		}
		if prefix == "" && http.CanonicalHeaderKey(name) == "Authorization" {
			prefix = "Bearer "
		}
		if !headerName(name) || !headerValue(prefix) {
			return "", nil, refusef("the header %q for the token is not valid", Clean(name))
		}
		header.Set(name, prefix+r.Access.Reveal())
	case "basic":
		header.Set("Authorization", basic(r.Access.Reveal(), ""))
	case "query":
		u, err := checkEndpoint(r.Endpoint, r.AllowInsecureLoopback)
		if err != nil {
			return "", nil, refusef("send a request: %s", err)
		}
		if name == "" {
			return "", nil, refusef("the query parameter for the token has no name")
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += url.QueryEscape(name) + "=" + url.QueryEscape(r.Access.Reveal())
		return u.String(), header, nil
	default:
		return "", nil, refusef("the place %q for the token is not known", Clean(r.In))
	}
	return r.Endpoint, header, nil
}
