package peers

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
)

// Visitor is a person with a browser, as an HTTP client: it follows redirects,
// keeps cookies, and fills the forms of the issuer's pages. It is much faster
// than a browser, and enough where no page of ours needs to be looked at. It is
// not for concurrent use.
type Visitor struct {
	// Account is the name to sign in with; default "alice".
	Account string
	// Deny refuses consent.
	Deny bool
	// UserCode is typed where a device page asks for it.
	UserCode string
	// Stay ends the visit where the way leads to another origin, as it always
	// ends where it leads to another machine: the redirect URI is not called.
	Stay bool

	client *http.Client
}

// Landing is where a visit ended.
type Landing struct {
	// URL is the last page's, with its query. It holds a code after a login.
	URL string
	// Status is the last page's, or 0 when the way led to another machine, or
	// to another origin for one who stays: nothing was sent there.
	Status int
	// Text is the last page, as it was sent.
	Text string
}

const (
	maxPages = 20
	maxPage  = 1 << 20
)

// Visit goes to address, does what the pages there ask for, and returns when a
// page of another origin is reached, or one that has no form. Cookies last from
// visit to visit.
func (v *Visitor) Visit(ctx context.Context, address string) (Landing, error) {
	if v.client == nil {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return Landing{}, err
		}
		v.client = &http.Client{
			Jar:       jar,
			Transport: &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(req *http.Request, via []*http.Request) error {
				if len(via) >= maxPages {
					return errors.New("too many redirects")
				}
				if !onThisMachine(req.URL) || v.Stay && req.URL.Host != via[0].URL.Host {
					return http.ErrUseLastResponse
				}
				return nil
			},
		}
	}
	start, err := url.Parse(address)
	if err != nil {
		return Landing{}, errors.New("visit: the address is not a URL")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Landing{}, errors.New("visit: the address is not a URL")
	}
	for range maxPages {
		here, err := v.load(req)
		if err != nil {
			return Landing{}, err
		}
		if here.Status == 0 {
			return here, nil
		}
		at, err := url.Parse(here.URL)
		if err != nil {
			return Landing{}, errors.New("visit: the way led to something that is not a URL")
		}
		if at.Host != start.Host {
			return here, nil
		}
		if req = v.submit(ctx, at, here.Text); req == nil {
			return here, nil
		}
	}
	return Landing{}, fmt.Errorf("visit %s: more than %d pages", start.Host, maxPages)
}

func (v *Visitor) load(req *http.Request) (Landing, error) {
	res, err := v.client.Do(req)
	if err != nil {
		var failed *url.Error // its text holds the URL, and so the code
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return Landing{}, fmt.Errorf("visit %s: %w", req.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }()
	if to := res.Header.Get("Location"); to != "" {
		return Landing{URL: to}, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPage))
	if err != nil {
		return Landing{}, fmt.Errorf("visit %s: %w", req.URL.Host, err)
	}
	return Landing{URL: res.Request.URL.String(), Status: res.StatusCode, Text: string(body)}, nil
}

// submit fills the first form of a page. It returns nil when there is none.
func (v *Visitor) submit(ctx context.Context, at *url.URL, page string) *http.Request {
	form := regexp.MustCompile(`(?is)<form\b([^>]*)>(.*?)</form>`).FindStringSubmatch(page)
	if form == nil {
		return nil
	}
	action, err := at.Parse(html.UnescapeString(attribute(form[1], "action")))
	if err != nil {
		return nil
	}
	values := url.Values{}
	for _, input := range regexp.MustCompile(`(?is)<input\b([^>]*)>`).FindAllStringSubmatch(form[2], -1) {
		name := attribute(input[1], "name")
		values.Set(name, html.UnescapeString(attribute(input[1], "value")))
		switch {
		case name == "login":
			values.Set(name, v.account())
		case name == "user_code" && values.Get(name) == "":
			values.Set(name, v.UserCode)
		}
	}
	for _, button := range regexp.MustCompile(`(?is)<button\b([^>]*)>`).FindAllStringSubmatch(form[2], -1) {
		switch name := attribute(button[1], "name"); name {
		case "":
		case "deny":
			if v.Deny {
				values.Set(name, "yes")
			}
		case "allow":
			if !v.Deny {
				values.Set(name, "yes")
			}
		default:
			values.Set(name, attribute(button[1], "value"))
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

func (v *Visitor) account() string {
	if v.Account == "" {
		return "alice"
	}
	return v.Account
}

func attribute(tag, name string) string {
	m := regexp.MustCompile(`(?is)\b` + name + `="([^"]*)"`).FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return m[1]
}

func onThisMachine(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
