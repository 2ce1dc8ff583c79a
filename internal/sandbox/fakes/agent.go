package fakes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Approve opens an authorization URL as a browser would and follows the
// redirect to the loopback address. It fits where a function that opens a
// browser is wanted.
func (f *Fake) Approve(ctx context.Context, authorizeURL string) error {
	location, err := f.Consent(ctx, authorizeURL)
	if err != nil {
		return err
	}
	u, err := url.Parse(location)
	if err != nil {
		return errors.New("the redirect is not a URL")
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme != "http" || (u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return fmt.Errorf("the redirect leads to %s, which is not on this machine: use Consent and paste the URL", u.Host)
	}
	status, _, _, err := visit(ctx, http.MethodGet, location, nil)
	if err != nil {
		return fmt.Errorf("open the redirect: %w", err)
	}
	if status >= 400 {
		return fmt.Errorf("open the redirect: the application answered HTTP status %d", status)
	}
	return nil
}

// Consent opens an authorization URL and returns the redirect's URL, which
// holds the code, without opening it. When the provider shows a page instead,
// its heading is the error.
func (f *Fake) Consent(ctx context.Context, authorizeURL string) (string, error) {
	if !strings.HasPrefix(authorizeURL, f.URL+"/") {
		return "", fmt.Errorf("the URL does not belong to the fake of %s", f.ID)
	}
	status, location, body, err := visit(ctx, http.MethodGet, authorizeURL, nil)
	if err != nil {
		return "", fmt.Errorf("open the authorization page: %w", err)
	}
	if location == "" {
		return "", fmt.Errorf("the provider shows a page with HTTP status %d: %s", status, heading(body))
	}
	return location, nil
}

// ApproveDevice types a user code into the provider's device page.
func (f *Fake) ApproveDevice(ctx context.Context, userCode string) error {
	status, _, body, err := visit(ctx, http.MethodPost, f.URL+"/device-page", url.Values{"user_code": {userCode}})
	if err != nil {
		return fmt.Errorf("open the device page: %w", err)
	}
	if status != http.StatusOK {
		return fmt.Errorf("the device page answered HTTP status %d: %s", status, heading(body))
	}
	return nil
}

// devicePage lets the person answer a device; real pages of the providers lead
// to it.
func (f *Fake) devicePage(realPath string) {
	show := func(c *call) {
		c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(c.w, `<!doctype html><title>Device</title><form method="post" action="/device-page"><label>Code <input name="user_code"></label><button>Continue</button></form>`)
	}
	f.on("GET "+realPath, show)
	f.on("POST device-page", func(c *call) {
		plain := strings.NewReplacer("-", "", " ", "")
		for _, d := range f.devices {
			if strings.EqualFold(plain.Replace(d.userCode), plain.Replace(c.form.Get("user_code"))) && d.grant == nil && !d.denied && f.now().Sub(d.made) < 15*time.Minute {
				if f.deny {
					d.denied = true
				} else {
					d.grant = &grant{client: d.client, person: f.person, scopes: d.scopes, consent: f.now(), offline: true}
				}
				c.page(http.StatusOK, "Your device is answered")
				return
			}
		}
		c.page(http.StatusNotFound, "No such code")
	})
}

func visit(ctx context.Context, method, target string, form url.Values) (status int, location, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", "", errors.New("not a URL")
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	browser := &http.Client{
		Timeout:       30 * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := browser.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL, which may hold a code
		}
		return 0, "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, resp.Header.Get("Location"), string(b), err
}

func heading(body string) string {
	_, rest, _ := strings.Cut(body, "<h1>")
	h, _, _ := strings.Cut(rest, "</h1>")
	return h
}
