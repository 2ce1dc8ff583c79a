package dashboard

import (
	"context"
	"crypto/rand"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// the link lives for a minute, and then the dashboard ends.
func TestLinkEnds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s, err := New(nil, rand.Reader, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	s.codeEnd = now.Add(LinkLife)
	enter := func(code string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.path+"/enter?code="+code, nil))
		return w.Code
	}
	code := s.code
	if got := enter(""); got != http.StatusUnauthorized {
		t.Errorf("without a code: %d", got)
	}
	now = now.Add(LinkLife)
	if got := enter(code); got != http.StatusUnauthorized {
		t.Errorf("after a minute: %d", got)
	}
	now = now.Add(-time.Second)
	if got := enter(code); got != http.StatusOK {
		t.Errorf("within a minute: %d", got)
	}
	if got := enter(code); got != http.StatusUnauthorized {
		t.Errorf("a second time: %d", got)
	}
	if got := enter(""); got != http.StatusUnauthorized {
		t.Errorf("without a code, when it was used: %d", got)
	}
	synctest.Test(t, func(t *testing.T) {
		s := &Server{active: make(chan struct{}, 1)}
		begun := time.Now()
		if err := s.Wait(t.Context(), time.Hour); !errors.Is(err, ErrUnused) || time.Since(begun) != LinkLife {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// the address alone opens nothing, and the cookie alone changes nothing.
func TestAddressAndCookieAreNotEnough(t *testing.T) {
	t.Parallel()
	s, err := New(nil, rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	request := func(method, path, body string, cookies ...string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://127.0.0.1:1")
		for _, value := range cookies {
			r.AddCookie(&http.Cookie{Name: cookieName, Value: value})
		}
		return r
	}
	for _, tt := range []struct {
		path    string
		cookies []string
		want    bool
	}{
		{s.path + "/", nil, false},
		{s.path + "/", []string{strings.Repeat("0", len(s.cookie))}, false},
		{s.path + "/", []string{""}, false},
		{"/" + strings.Repeat("0", len(s.path)-1) + "/", []string{s.cookie}, false},
		{s.path + "/enter", nil, true},
		{s.path + "/", []string{"another", s.cookie}, true},
	} {
		if got := s.capable(request(http.MethodGet, tt.path, "", tt.cookies...)); got != tt.want {
			t.Errorf("%d cookies at the path of %d characters: %v", len(tt.cookies), len(tt.path), got)
		}
	}
	for _, body := range []string{"name=x", "name=x&csrf=", "name=x&csrf=" + strings.Repeat("0", len(s.csrf))} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, request(http.MethodPost, s.path+"/giveup", body, s.cookie))
		if w.Code != http.StatusForbidden {
			t.Errorf("a form with %d bytes and no token of ours: %d", len(body), w.Code)
		}
	}
}

// what a person does keeps the dashboard alive, and nothing else does.
func TestIdle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Server{active: make(chan struct{}, 1)}
		begun := time.Now()
		done := make(chan error, 1)
		go func() { done <- s.Wait(t.Context(), 10*time.Minute) }()
		for range 3 {
			s.touch()
			<-time.After(9 * time.Minute)
		}
		if err := <-done; err != nil || time.Since(begun) != 28*time.Minute {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the terminal")
	cancel(why)
	s := &Server{active: make(chan struct{}, 1)}
	if err := s.Wait(ctx, time.Hour); !errors.Is(err, why) {
		t.Errorf("the end of the context: %v", err)
	}
}

// FuzzMarkup puts any text into content, attributes and addresses: it stays there.
func FuzzMarkup(f *testing.F) {
	f.Add("plain")
	f.Add(`"><script>alert(1)</script>`)
	f.Add(`javascript:alert(1)//http://`)
	f.Add(`https://a.example/?x="y'&<z>`)
	f.Fuzz(func(t *testing.T, s string) {
		m := new(markup)
		m.put(`<p title="`, s, literal(`">`), s, literal(`</p>`))
		got := m.b.String()
		inner := strings.TrimSuffix(strings.TrimPrefix(got, `<p title="`), `</p>`)
		title, content, ok := strings.Cut(inner, `">`)
		if !ok || strings.ContainsAny(title, `<>"'`) || strings.ContainsAny(content, `<>"'`) ||
			html.UnescapeString(title) != s || html.UnescapeString(content) != s {
			t.Errorf("%q became %q", s, got)
		}
		link := new(markup)
		link.outside("", s, "label")
		if a := link.b.String(); strings.Contains(a, "<a ") && !strings.Contains(strings.ToLower(a), `href="http`) {
			t.Errorf("%q became a link: %q", s, a)
		}
	})
}

// Forms are read as a person meant them.
func TestOrder(t *testing.T) {
	t.Parallel()
	o := order(map[string][]string{"name": {" x "}, "provider": {"p"}, "scope": {"a", "b"}, "more": {"b  c\td"}})
	if o.Name != "x" || strings.Join(o.Scopes, " ") != "a b c d" {
		t.Errorf("%+v", o)
	}
	f := clientForm(map[string][]string{"provider": {"p"}, "id": {"i"}, "secret": {" "}, "var.tenant": {"t"}, "var.empty": {""}})
	if !f.Secret.IsZero() || len(f.Variables) != 1 || f.Variables["tenant"] != "t" || f.Project {
		t.Errorf("%d variables, project %v", len(f.Variables), f.Project)
	}
}
