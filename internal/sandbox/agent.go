package sandbox

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
	"strings"
	"time"
)

// Choice is what a person answers on the consent page. The zero value agrees
// as alice, or as the account that the request names.
type Choice struct {
	Account string // alice or bob
	Deny    bool
}

// Approve walks an authorization request as a browser and a person would: it
// opens the page, agrees, and follows the redirect to the loopback address. It
// fits where a function that opens a browser is wanted.
func (s *Server) Approve(ctx context.Context, authorizeURL string) error {
	return s.Answer(ctx, authorizeURL, Choice{})
}

// Answer is Approve with a choice. It fails when the application's page at the
// loopback address answers with an error status.
func (s *Server) Answer(ctx context.Context, authorizeURL string, c Choice) error {
	location, err := s.Consent(ctx, authorizeURL, c)
	if err != nil {
		return err
	}
	u, err := url.Parse(location)
	if err != nil {
		return errors.New("the redirect is not a URL")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "http" || (u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return fmt.Errorf("the redirect leads to %s, which is not on this machine: use Consent and paste the URL", u.Host)
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	resp, err := navigate(ctx, browser, http.MethodGet, location, nil, "")
	if err != nil {
		return fmt.Errorf("open the redirect: %w", hideURL(err))
	}
	if resp.status >= 400 {
		return fmt.Errorf("open the redirect: the application answered HTTP status %d", resp.status)
	}
	return nil
}

// Consent walks an authorization request up to the redirect and returns its
// URL, which holds the code, without opening it.
func (s *Server) Consent(ctx context.Context, authorizeURL string, c Choice) (string, error) {
	if !strings.HasPrefix(authorizeURL, s.origin+"/authorize?") {
		return "", errors.New("the URL is not an authorization request to the sandbox")
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	page, err := navigate(ctx, browser, http.MethodGet, authorizeURL, nil, "")
	if err != nil {
		return "", fmt.Errorf("open the consent page: %w", hideURL(err))
	}
	if page.location == "" {
		if page, err = s.submit(ctx, browser, "/authorize/decision", page, c); err != nil {
			return "", err
		}
	}
	if page.location == "" {
		return "", fmt.Errorf("the sandbox refused the authorization request: %s", page.title())
	}
	return page.location, nil
}

// ApproveDevice types a user code into the device page and agrees.
func (s *Server) ApproveDevice(ctx context.Context, userCode string) error {
	return s.AnswerDevice(ctx, userCode, Choice{})
}

// AnswerDevice is ApproveDevice with a choice.
func (s *Server) AnswerDevice(ctx context.Context, userCode string, c Choice) error {
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	page, err := navigate(ctx, browser, http.MethodGet, s.origin+"/device?user_code="+url.QueryEscape(userCode), nil, "")
	if err != nil {
		return fmt.Errorf("open the device page: %w", hideURL(err))
	}
	page, err = s.submit(ctx, browser, "/device/decision", page, c)
	if err != nil {
		return err
	}
	if page.status != http.StatusOK {
		return fmt.Errorf("the sandbox refused the answer: %s", page.title())
	}
	return nil
}

func (s *Server) submit(ctx context.Context, browser *http.Client, action string, page webPage, c Choice) (webPage, error) {
	form := page.hidden()
	if page.status != http.StatusOK || form.Get("csrf") == "" {
		return webPage{}, fmt.Errorf("the sandbox refused the request: %s", page.title())
	}
	account := c.Account
	if account == "" {
		account = page.checked()
	}
	form.Set("account", account)
	form.Set("decision", "approve")
	if c.Deny {
		form.Set("decision", "deny")
	}
	answer, err := navigate(ctx, browser, http.MethodPost, s.origin+action, form, s.origin)
	if err != nil {
		return webPage{}, fmt.Errorf("answer the consent page: %w", hideURL(err))
	}
	return answer, nil
}

// webPage is what the user agent keeps of an answer.
type webPage struct {
	status   int
	location string
	body     string
}

func newBrowser() *http.Client {
	jar, _ := cookiejar.New(nil) // fails for no argument
	return &http.Client{
		Jar:           jar,
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{}, // no proxy: everything is on this machine
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func navigate(ctx context.Context, browser *http.Client, method, target string, form url.Values, origin string) (webPage, error) {
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return webPage{}, err
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", origin)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	resp, err := browser.Do(req)
	if err != nil {
		return webPage{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return webPage{}, err
	}
	return webPage{status: resp.StatusCode, location: resp.Header.Get("Location"), body: string(b)}, nil
}

// hideURL drops the URL from an error of net/http: it may hold a code.
func hideURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (p webPage) title() string {
	_, rest, _ := strings.Cut(p.body, "<title>")
	title, _, _ := strings.Cut(rest, "</title>")
	return html.UnescapeString(title)
}

// hidden reads the hidden fields of our own pages, whose form is known.
func (p webPage) hidden() url.Values {
	v := url.Values{}
	for rest := p.body; ; {
		var ok bool
		if _, rest, ok = strings.Cut(rest, `<input type="hidden" name="`); !ok {
			return v
		}
		name, after, ok1 := strings.Cut(rest, `" value="`)
		value, after, ok2 := strings.Cut(after, `"`)
		if !ok1 || !ok2 {
			return v
		}
		v.Set(name, html.UnescapeString(value))
		rest = after
	}
}

// checked is the account that the page proposes.
func (p webPage) checked() string {
	_, rest, ok := strings.Cut(p.body, `<input type="radio" name="account" checked value="`)
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(name)
}
