package apicall

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// api is a server that takes down what came, and a Caller for it.
type api struct {
	*Caller
	mu      sync.Mutex
	answers []http.HandlerFunc // one for each request, the last for all more
	seen    []string           // method, address and body
	tokens  []string           // Authorization headers
	slept   []time.Duration
	renewed int
}

func newAPI(t *testing.T, answers ...http.HandlerFunc) *api {
	t.Helper()
	a := &api{answers: answers}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		a.mu.Lock()
		n := min(len(a.seen), len(a.answers)-1)
		a.seen = append(a.seen, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
		a.tokens = append(a.tokens, r.Header.Get("Authorization"))
		a.mu.Unlock()
		a.answers[n](w, r)
	}))
	t.Cleanup(server.Close)
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	a.Caller = &Caller{
		Pins: &providers.Pins{
			APIBase: server.URL, APIHosts: []string{strings.TrimPrefix(server.URL, "http://")}, AllowInsecureLoopback: true,
			APIAuth: providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "},
		},
		Client: server.Client(),
		Token: func(_ context.Context, refresh bool) (secret.Text, error) {
			if refresh {
				a.renewed++
			}
			return secret.New(fmt.Sprintf("token-%d", a.renewed)), nil
		},
		Renewable: true,
		UserAgent: "test",
		Now:       func() time.Time { return now },
		Sleep: func(_ context.Context, d time.Duration) error {
			a.slept = append(a.slept, d)
			now = now.Add(d)
			return nil
		},
	}
	return a
}

func (a *api) request(t *testing.T, path string) Request {
	t.Helper()
	u, err := Address(a.Pins, path)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Method: http.MethodGet, URL: u}
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func says(doc string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		_, _ = io.WriteString(w, doc)
	}
}

// After a 401 the request is made once more with another token, its body too.
func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	a := newAPI(t, status(401), status(401), status(200))
	r := a.request(t, "me")
	r.Method = http.MethodPost
	var err error
	if r.Body, err = NewBody(strings.NewReader("body")); err != nil {
		t.Fatal(err)
	}
	resp, err := a.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 401 || !slices.Equal(a.tokens, []string{"Bearer token-0", "Bearer token-1"}) || !slices.Equal(a.seen, []string{"POST /me body", "POST /me body"}) {
		t.Errorf("status %d after %d calls with %d tokens", resp.StatusCode, len(a.seen), len(a.tokens))
	}
}

func TestRefusedTokenThatCannotBeReplaced(t *testing.T) {
	a := newAPI(t, status(401))
	a.Renewable = false
	resp, err := a.Do(t.Context(), a.request(t, "me"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(a.seen) != 1 || a.renewed != 0 {
		t.Errorf("%d calls, %d renewals", len(a.seen), a.renewed)
	}
}

// A body that is too long to be kept is sent once, unbroken.
func TestLongBodyIsSentOnce(t *testing.T) {
	a := newAPI(t, status(401), status(200))
	long := strings.Repeat("x", maxHeld+10)
	r := a.request(t, "upload")
	r.Method = http.MethodPut
	var err error
	if r.Body, err = NewBody(strings.NewReader(long)); err != nil {
		t.Fatal(err)
	}
	resp, err := a.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if len(a.seen) != 1 || a.seen[0] != "PUT /upload "+long {
		t.Errorf("%d calls", len(a.seen))
	}
}

// Waits are those that the answers ask for, 30 s in all at most.
func TestRetryAfter(t *testing.T) {
	date := time.Date(2026, 11, 25, 12, 0, 10, 0, time.UTC).Format(http.TimeFormat)
	for _, c := range []struct {
		title   string
		answers []http.HandlerFunc
		slept   []time.Duration
		calls   int
		status  int
	}{
		{"seconds", []http.HandlerFunc{status(429, "Retry-After", "2"), status(200)}, []time.Duration{2 * time.Second}, 2, 200},
		{"a date", []http.HandlerFunc{status(503, "Retry-After", date), status(200)}, []time.Duration{10 * time.Second}, 2, 200},
		{"not asked for", []http.HandlerFunc{status(429), status(200)}, nil, 1, 429},
		{"too long", []http.HandlerFunc{status(429, "Retry-After", "31"), status(200)}, nil, 1, 429},
		{"huge", []http.HandlerFunc{status(429, "Retry-After", "999999999999"), status(200)}, nil, 1, 429},
		{"nonsense", []http.HandlerFunc{status(503, "Retry-After", "-1"), status(200)}, nil, 1, 503},
		{"together", []http.HandlerFunc{status(429, "Retry-After", "20"), status(503, "Retry-After", "11")}, []time.Duration{20 * time.Second}, 2, 503},
		{"for ever", []http.HandlerFunc{status(429, "Retry-After", "0")}, make([]time.Duration, maxRepeats), maxRepeats + 1, 429},
		{"another status", []http.HandlerFunc{status(500, "Retry-After", "1"), status(200)}, nil, 1, 500},
	} {
		t.Run(c.title, func(t *testing.T) {
			a := newAPI(t, c.answers...)
			resp, err := a.Do(t.Context(), a.request(t, "me"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.status || len(a.seen) != c.calls || !slices.Equal(a.slept, c.slept) {
				t.Errorf("status %d after %d calls and waits of %v", resp.StatusCode, len(a.seen), a.slept)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	a := newAPI(t, status(200))
	a.Client = &http.Client{Transport: refusing{}}
	_, err := a.Do(t.Context(), a.request(t, "me?key=canary"))
	if _, ok := errors.AsType[*UnreachableError](err); !ok || strings.Contains(err.Error(), "canary") {
		t.Errorf("the error is %v", err)
	}
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no route")
}

// The token goes where the provider wants it, and no header can take its place
// or carry it beside.
func TestParseHeaders(t *testing.T) {
	bearer := providers.APIAuthPin{In: "header", Name: "X-Api-Key"}
	for h, want := range map[string]string{
		"Accept: text/plain":        "text/plain",
		"x-thing:  a b ":            "a b",
		"X-Empty:":                  "",
		"Host: evil.example":        "refused",
		"host : evil.example":       "refused",
		"Authorization: Bearer x":   "refused",
		"authorization: token x":    "refused",
		"Proxy-Authorization: x":    "refused",
		"x-api-key: x":              "refused",
		"Content-Length: 5":         "refused",
		"Transfer-Encoding: x":      "refused",
		"Connection: close":         "refused",
		"no colon":                  "refused",
		": no name":                 "refused",
		"X-A: a\r\nX-B: b":          "refused",
		"X-A\r\nX-B: b":             "refused",
		"X A: b":                    "refused",
		"X-A: \x7f":                 "refused",
		"X-A: a\u0085b":             "refused",
		"Caf\u00e9: x":              "refused",
		"X-A: caf\u00e9":            "caf\u00e9",
		"Upgrade: websocket":        "refused",
		"If-None-Match: \"a:b\"":    `"a:b"`,
		"Content-Type: text/x; a=b": "text/x; a=b",
	} {
		got, err := ParseHeaders([]string{h}, bearer)
		if want == "refused" {
			if _, ok := errors.AsType[*RequestError](err); !ok {
				t.Errorf("%q: %v", h, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", h, err)
			continue
		}
		for _, values := range got {
			if !slices.Equal(values, []string{want}) {
				t.Errorf("%q is %q", h, values)
			}
		}
	}
	if _, err := ParseHeaders([]string{"X-Api-Key: x"}, providers.APIAuthPin{In: "query", Name: "X-Api-Key"}); err != nil {
		t.Errorf("a header of the name of a query parameter: %v", err)
	}
}

func TestTokenInAHeaderIsRefused(t *testing.T) {
	a := newAPI(t, status(200))
	r := a.request(t, "me")
	r.Header = http.Header{"X-Copy": {"it is token-0"}}
	_, err := a.Do(t.Context(), r)
	if _, ok := errors.AsType[*RequestError](err); !ok || len(a.seen) != 0 || strings.Contains(err.Error(), "token-0") {
		t.Errorf("%d calls", len(a.seen))
	}
}

func TestFields(t *testing.T) {
	parse := func(text, typed []string) (fields []Field, err error) {
		for _, s := range text {
			f, err := ParseField(s)
			if err != nil {
				return nil, err
			}
			fields = append(fields, f)
		}
		for _, s := range typed {
			f, err := ParseTyped(s, func(name string) ([]byte, error) { return []byte("content of " + name), nil })
			if err != nil {
				return nil, err
			}
			fields = append(fields, f)
		}
		return fields, nil
	}
	for _, c := range []struct {
		text, typed []string
		want        string // JSON; empty: refused
		query       string
	}{
		{[]string{"a=1", "b=true", "c==", "d=<&>"}, nil, `{"a":"1","b":"true","c":"=","d":"<&>"}`, "a=1&b=true&c=%3D&d=%3C%26%3E"},
		{nil, []string{"a=1", "b=true", "c=false", "d=null", "e=-1.50e3", "f=@x", "g=text", "h=", "i=01", "j=1 2"},
			`{"a":1,"b":true,"c":false,"d":null,"e":-1.50e3,"f":"content of x","g":"text","h":"","i":"01","j":"1 2"}`,
			"a=1&b=true&c=false&d=&e=-1.50e3&f=content+of+x&g=text&h=&i=01&j=1+2"},
		{[]string{"o[k][l]=1", "o[m]=2", "list[]=a", "list[]=b", "deep[][x]=1"}, nil,
			`{"deep":[{"x":"1"}],"list":["a","b"],"o":{"k":{"l":"1"},"m":"2"}}`, "deep%5B%5D%5Bx%5D=1&list%5B%5D=a&list%5B%5D=b&o%5Bk%5D%5Bl%5D=1&o%5Bm%5D=2"},
		{nil, []string{"n=12345678901234567890"}, `{"n":12345678901234567890}`, "n=12345678901234567890"},
		{[]string{"a=1", "a=2"}, nil, "", "a=1&a=2"},
		{nil, []string{"a=null", "a=1"}, "", "a=&a=1"},
		{[]string{"a=1", "a[b]=2"}, nil, "", ""},
		{[]string{"a[]=1", "a[b]=2"}, nil, "", ""},
		{[]string{"a[b=1"}, nil, "", ""},
		{[]string{"a[b]c=1"}, nil, "", ""},
		{[]string{"[b]=1"}, nil, "", ""},
		{[]string{"a" + strings.Repeat("[b]", 40) + "=1"}, nil, "", ""},
		{[]string{"nothing"}, nil, "", ""},
		{[]string{"=x"}, nil, "", ""},
	} {
		fields, err := parse(c.text, c.typed)
		if err == nil && c.query != "" {
			if got := Values(fields).Encode(); got != c.query {
				t.Errorf("%v is the query %s, want %s", fields, got, c.query)
			}
		}
		var doc []byte
		if err == nil {
			doc, err = JSONBody(fields)
		}
		if c.want == "" {
			if _, ok := errors.AsType[*RequestError](err); !ok {
				t.Errorf("%v %v became %s, %v", c.text, c.typed, doc, err)
			}
			continue
		}
		if err != nil || string(doc) != c.want {
			t.Errorf("%v %v is %s, %v; want %s", c.text, c.typed, doc, err, c.want)
		}
	}
}

func TestSelection(t *testing.T) {
	doc := []byte(`{"items":[{"n":"a","id":12345678901234567890,"x":1.10},{"n":"<b>","ok":true},{"n":null}],"a.b":[1,[2]]}`)
	for expression, want := range map[string]string{
		"$.items[*].n":                "\"a\"|\"<b>\"|null",
		"$.items[0].id":               "12345678901234567890",
		"$.items[0].x":                "1.10",
		"$['a.b'][1]":                 "[2]",
		"$.items[?@.ok == true].n":    "\"<b>\"",
		"$.items[?@.id > 5].n":        "\"a\"",
		"$.nothing":                   "",
		"$.items[1]":                  "{\"n\":\"<b>\",\"ok\":true}",
		"$..n":                        "\"a\"|\"<b>\"|null",
		"$.items[?search(@.n,'a')].n": "\"a\"",
	} {
		s, err := ParseSelection(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		got, err := s.Apply(doc)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
		}
		var texts []string
		for _, v := range got {
			texts = append(texts, string(v))
		}
		if strings.Join(texts, "|") != want {
			t.Errorf("%s selects %s, want %s", expression, texts, want)
		}
	}
	for _, bad := range []string{"", "items", "$.", "$[", ".a", "$.items[?]", "$\x00"} {
		if _, err := ParseSelection(bad); err == nil {
			t.Errorf("%q is an expression", bad)
		} else if _, ok := errors.AsType[*RequestError](err); !ok {
			t.Errorf("%q: %v", bad, err)
		}
	}
	s, err := ParseSelection("$")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply([]byte("<html>")); err == nil {
		t.Error("selected from HTML")
	}
}

func FuzzParseSelection(f *testing.F) {
	f.Add("$.items[?@.id > 5].n")
	f.Add("$..['a','b'][::-1]")
	doc := []byte(`{"items":[{"n":"a","id":1},{"n":[1,2,3]}],"x":{"y":null}}`)
	f.Fuzz(func(t *testing.T, expression string) {
		if s, err := ParseSelection(expression); err == nil {
			if _, err := s.Apply(doc); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzJSONBody(f *testing.F) {
	f.Add("a[b][]=1\na[b][]=2\nc=x")
	f.Fuzz(func(t *testing.T, lines string) {
		var fields []Field
		for line := range strings.SplitSeq(lines, "\n") {
			field, err := ParseTyped(line, func(string) ([]byte, error) { return nil, nil })
			if err != nil {
				return
			}
			fields = append(fields, field)
		}
		doc, err := JSONBody(fields)
		if err == nil && (len(doc) == 0 || doc[0] != '{' || bytes.IndexByte(doc, '\n') >= 0) {
			t.Fatalf("the body is %q", doc)
		}
	})
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
