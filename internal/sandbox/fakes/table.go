package fakes

import (
	"context"
	"encoding/json"
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
)

// Exchange is one request that a Table expects, and what it answers.
type Exchange struct {
	// Request is the method and the path: "POST /token".
	Request string
	// Sends holds what the request must carry, in the query of a GET, else in a
	// form or a JSON object: exact values, or "*" for any that is not empty.
	// Everything that it sends must be named, but for those in Ignores.
	Sends   map[string]string
	Ignores []string
	// Type is the content type that the request must have; default that of a
	// form for a POST, and NoBody for other methods.
	Type string
	// Header holds headers that the request must have, exactly or "*"; "" means
	// that the request must not have it.
	Header map[string]string
	// Check looks at what was sent; nil: no more than the above. Its error must
	// repeat nothing of it.
	Check func(sent map[string]string) error

	// Callback is the query of the redirect that answers an authorization
	// request; its state is added.
	Callback string
	// Status, Answers, AnswerHeader and Body are the answer: default 200, JSON.
	// %URL% in Body is the table's.
	Status       int
	Answers      string
	AnswerHeader map[string]string
	Body         string
	// Repeats says that the same request is answered so again, as often as it
	// comes. Nothing follows such a step.
	Repeats bool
	// Drop closes the connection instead of an answer.
	Drop bool
}

// NoBody is the Type of a request without a body: what it sends stands in its
// query.
const NoBody = "no body"

// Table is a provider that plays a table of requests and answers. A request that
// is not the next of its table is answered with 418 and remembered; so is one
// that comes after the end.
type Table struct {
	URL string

	mu    sync.Mutex
	steps []Exchange
	came  bool // the first of steps, which repeats, came already
	wrong []string
}

// Play starts a Table. It ends with the test, which fails when the requests were
// not those of the table.
func Play(t testing.TB, steps ...Exchange) *Table {
	t.Helper()
	table := &Table{steps: steps}
	server := httptest.NewServer(table)
	t.Cleanup(func() {
		server.Close()
		for _, fault := range table.Faults() {
			t.Error(fault)
		}
	})
	table.URL = server.URL
	return table
}

// Expect adds steps at the end.
func (t *Table) Expect(steps ...Exchange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.came {
		t.steps, t.came = t.steps[1:], false
	}
	t.steps = append(t.steps, steps...)
}

// Host is the host and port of the table.
func (t *Table) Host() string { return strings.TrimPrefix(t.URL, "http://") }

// Faults says what was wrong with the requests so far, and what is still to come.
// It repeats no value that was sent.
func (t *Table) Faults() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	faults := slices.Clone(t.wrong)
	for i, step := range t.steps {
		if i > 0 || !t.came {
			faults = append(faults, step.Request+" did not come")
		}
	}
	return faults
}

// ServeHTTP plays the next step.
func (t *Table) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	request := r.Method + " " + r.URL.Path
	if len(t.steps) == 0 || t.steps[0].Request != request {
		t.wrong = append(t.wrong, request+" came out of turn")
		w.WriteHeader(http.StatusTeapot)
		return
	}
	step := t.steps[0]
	if t.came = step.Repeats; !t.came {
		t.steps = t.steps[1:]
	}
	sent, err := step.read(r)
	if err == nil {
		err = step.check(r, sent)
	}
	if err != nil {
		t.wrong = append(t.wrong, request+": "+err.Error())
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if step.Callback != "" {
		to := sent["redirect_uri"]
		if to == "" {
			to = sent[step.redirectName()]
		}
		http.Redirect(w, r, to+"?"+step.Callback+"&state="+url.QueryEscape(sent["state"]), http.StatusFound)
		return
	}
	if step.Drop {
		panic(http.ErrAbortHandler)
	}
	kind := step.Answers
	if kind == "" {
		kind = "application/json"
	}
	w.Header().Set("Content-Type", kind)
	for name, value := range step.AnswerHeader {
		w.Header().Set(name, value)
	}
	if step.Status != 0 {
		w.WriteHeader(step.Status)
	}
	_, _ = io.WriteString(w, strings.ReplaceAll(step.Body, "%URL%", t.URL))
}

// redirectName is the parameter that carries the redirect where it is renamed.
func (e Exchange) redirectName() string {
	for name := range e.Sends {
		if strings.Contains(name, "redirect") {
			return name
		}
	}
	return ""
}

// read returns what a request carries.
func (e Exchange) read(r *http.Request) (map[string]string, error) {
	values := r.URL.Query()
	want := e.Type
	if want == "" && r.Method == http.MethodPost {
		want = "application/x-www-form-urlencoded"
	}
	if want == "" || want == NoBody {
		if n, _ := io.Copy(io.Discard, io.LimitReader(r.Body, 1)); n > 0 {
			return nil, errors.New("there is a body")
		}
	} else {
		if len(values) > 0 {
			return nil, errors.New("beside the body there is a query")
		}
		if got := r.Header.Get("Content-Type"); got != want {
			return nil, fmt.Errorf("the content type is %q, not %q", got, want)
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		if err != nil {
			return nil, errors.New("the body broke off")
		}
		if strings.HasSuffix(want, "json") && len(body) > 0 {
			return object(body)
		}
		if values, err = url.ParseQuery(string(body)); err != nil {
			return nil, errors.New("the body is not a form")
		}
	}
	sent := map[string]string{}
	for name, all := range values {
		if len(all) > 1 && name != "resource" {
			return nil, fmt.Errorf("%s comes %d times", name, len(all))
		}
		sent[name] = strings.Join(all, " ")
	}
	return sent, nil
}

// object reads a JSON object of strings and lists of them, which are joined with
// blanks.
func object(body []byte) (map[string]string, error) {
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		return nil, errors.New("the body is not a JSON object")
	}
	sent := map[string]string{}
	for name, member := range members {
		list, ok := member.([]any)
		if !ok {
			list = []any{member}
		}
		var texts []string
		for _, each := range list {
			text, ok := each.(string)
			if !ok {
				return nil, fmt.Errorf("%s is not a string or a list of them", name)
			}
			texts = append(texts, text)
		}
		sent[name] = strings.Join(texts, " ")
	}
	return sent, nil
}

// check compares a request with the step.
func (e Exchange) check(r *http.Request, sent map[string]string) error {
	for name, want := range e.Sends {
		if got, ok := sent[name]; !ok || got == "" || want != "*" && got != want {
			return fmt.Errorf("%s is missing or not what the table has", name)
		}
	}
	for name := range sent {
		if _, ok := e.Sends[name]; !ok && !slices.Contains(e.Ignores, name) {
			return fmt.Errorf("%s is not in the table", name)
		}
	}
	for name, want := range e.Header {
		got := r.Header.Get(name)
		if want == "" && got != "" || want != "" && got == "" || want != "*" && got != want {
			return fmt.Errorf("the header %s is missing or not what the table has", name)
		}
	}
	if e.Check != nil {
		return e.Check(sent)
	}
	return nil
}

// Approve opens an authorization URL and follows the redirect to this machine, as
// a browser does. It fits where a function that opens a browser is wanted.
func (t *Table) Approve(ctx context.Context, authorizeURL string) error {
	location, err := t.Consent(ctx, authorizeURL)
	if err != nil {
		return err
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

// Consent opens an authorization URL and returns where it redirects to, which
// holds the code, without opening that.
func (t *Table) Consent(ctx context.Context, authorizeURL string) (string, error) {
	status, location, body, err := visit(ctx, http.MethodGet, authorizeURL, nil)
	if err != nil {
		return "", fmt.Errorf("open the authorization page: %w", err)
	}
	if location == "" {
		return "", fmt.Errorf("the provider shows a page with HTTP status %d: %s", status, heading(body))
	}
	return location, nil
}
