// Package dashboard is a page on this machine that shows connections and lets a
// person manage them. It is written for one person in one browser: a link that
// works once brings a cookie, whose path is as secret as its value, because
// browsers send cookies to every port of a host. No answer holds a credential,
// and what is shown comes through Work.
package dashboard

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/loopback"
)

// LinkLife is how long the link can be used.
const LinkLife = 60 * time.Second

// ErrUnused says that nobody used the link while it lived.
var ErrUnused = errors.New("the link was not opened within 60 seconds")

const cookieName = "apiauth-dashboard"

// Server answers the requests of the page.
type Server struct {
	work   Work
	now    func() time.Time
	path   string // "/" and the secret of the address, without a slash at its end
	cookie string // the value of the cookie
	csrf   string // of every form
	active chan struct{}

	mu      sync.Mutex
	code    string // of the link; empty once it was used
	codeEnd time.Time
	origin  string
	notice  notice
}

// notice is told on the next page.
type notice struct {
	lines  []string
	failed bool
}

// New makes the secrets of one run. random is a source of randomness, now the
// clock.
func New(work Work, random io.Reader, now func() time.Time) (*Server, error) {
	s := &Server{work: work, now: now, active: make(chan struct{}, 1)}
	for _, to := range []*string{&s.path, &s.cookie, &s.csrf, &s.code} {
		var key [16]byte
		if _, err := io.ReadFull(random, key[:]); err != nil {
			return nil, fmt.Errorf("make the address of the dashboard: %w", err)
		}
		*to = hex.EncodeToString(key[:])
	}
	s.path = "/" + s.path
	return s, nil
}

// Serve answers on l from now on, and returns the link: it works once, and for
// LinkLife.
func (s *Server) Serve(l *loopback.Listener) string {
	s.mu.Lock()
	s.origin = "http://" + l.Addr()
	s.codeEnd = s.now().Add(LinkLife)
	link := s.origin + s.path + "/enter?code=" + s.code
	s.mu.Unlock()
	l.Serve(loopback.Guard{Origins: []string{s.origin}, Capable: s.capable}, s)
	return link
}

// Wait returns nil when nobody has loaded a page or changed anything for the
// given time, ErrUnused when nobody came at all, or why ctx ended.
func (s *Server) Wait(ctx context.Context, idle time.Duration) error {
	timer := time.NewTimer(LinkLife)
	defer timer.Stop()
	entered := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.active:
			entered = true
			timer.Reset(idle)
		case <-timer.C:
			if !entered {
				return ErrUnused
			}
			return nil
		}
	}
}

func (s *Server) touch() {
	select {
	case s.active <- struct{}{}:
	default:
	}
}

// capable reports whether a request knows the secret path, and has the cookie or
// asks for it.
func (s *Server) capable(r *http.Request) bool {
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !loopback.SameSecret("/"+first, s.path) {
		return false
	}
	if rest == "enter" && r.Method == http.MethodGet {
		return true
	}
	return s.known(r)
}

func (s *Server) known(r *http.Request) bool {
	for _, c := range r.CookiesNamed(cookieName) {
		if loopback.SameSecret(c.Value, s.cookie) {
			return true
		}
	}
	return false
}

// ServeHTTP answers what capable let through.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "+
		"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	// With no-referrer a browser would send "Origin: null" with our own forms.
	h.Set("Referrer-Policy", "same-origin")
	route := strings.TrimPrefix(r.URL.Path, s.path)
	switch r.Method {
	case http.MethodGet:
		s.get(w, r, route)
	case http.MethodPost:
		s.post(w, r, route)
	default:
		h.Set("Allow", "GET, POST")
		loopback.Refuse(w, http.StatusMethodNotAllowed)
	}
}

// enter takes the code of the link for the cookie. The page goes on by itself: a
// redirect would still count as coming from the place that the link was on, and
// a strict cookie would not be sent.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	ok := loopback.SameSecret(r.URL.Query().Get("code"), s.code) && s.now().Before(s.codeEnd)
	if ok {
		s.code = ""
	}
	s.mu.Unlock()
	if !ok {
		loopback.Refuse(w, http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // loopback has no TLS, so the cookie cannot be Secure
		Name: cookieName, Value: s.cookie, Path: s.path + "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
	s.touch()
	m := new(markup)
	m.raw(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url=./">
<title>apiauth dashboard</title>
<link rel="stylesheet" href="style.css">
<link rel="icon" href="icon.svg">
</head>
<body>
<main>
<h1>apiauth dashboard</h1>
<p><a href="./">Open the dashboard</a></p>
</main>
</body>
</html>
`)
	send(w, "text/html; charset=utf-8", m.b.Bytes())
}

// takeNotice returns what is to be told, once.
func (s *Server) takeNotice() notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.notice
	s.notice = notice{}
	return n
}

func (s *Server) tell(lines []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notice = notice{lines: lines, failed: err != nil}
	if err != nil {
		s.notice.lines = append(s.notice.lines, strings.Split(err.Error(), "\n")...)
	}
}

func send(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body) // a browser that went away
}
