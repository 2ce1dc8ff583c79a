package flow_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

const implicitToken = "canary-token-9c1d"

// legacy is an attempt at a provider whose entry opts in.
func legacy() flow.Attempt {
	a := attempt()
	a.Provider = &providers.Provider{ID: "acme", Name: "Acme", Flows: []string{"implicit"}}
	a.Pins.TokenEndpoint = ""
	return a
}

// fragment is the final address of the implicit grant, changed by pairs.
func (r *running) fragment(pairs ...string) string {
	v := url.Values{"access_token": {implicitToken}, "token_type": {"bearer"}, "expires_in": {"3600"}, "state": {r.query.Get("state")}, "iss": {issuer}}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "-" {
			v.Del(pairs[i])
		}
	}
	return v.Encode()
}

// nonceOf opens the page of the redirect and returns its nonce.
func (r *running) nonceOf() string {
	r.t.Helper()
	status, page, header := r.browse(r.redirect.String(), func(q *http.Request) { q.Header.Set("Sec-Fetch-Mode", "navigate") })
	m := regexp.MustCompile(`<meta name="nonce" content="([\w-]{43})">`).FindStringSubmatch(page)
	if status != http.StatusOK || m == nil {
		r.t.Fatalf("the page of the redirect has status %d and no nonce", status)
	}
	if policy := header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "connect-src 'self'") {
		r.t.Errorf("the policy of the page is %q", policy)
	}
	return m[1]
}

// hand posts a fragment as the page does; change may spoil the request.
func (r *running) hand(nonce, fragment string, change func(*http.Request)) int {
	r.t.Helper()
	body := url.Values{"nonce": {nonce}, "fragment": {fragment}}.Encode()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.redirect.String(), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", r.redirect.Scheme+"://"+r.redirect.Host)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if change != nil {
		change(req)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func (r *running) wantToken(via string) {
	r.t.Helper()
	<-r.done
	if r.err != nil {
		r.t.Fatalf("the flow failed: %v", r.err)
	}
	token, err := oauth.ParseToken(*r.result.Answer, oauth.Rules{})
	if err != nil || token.Access.Reveal() != implicitToken || !token.ExpiresKnown || r.result.Via != via || r.result.Request != nil {
		r.t.Errorf("%v, via %s", err, r.result.Via)
	}
	if strings.Contains(r.output(), implicitToken) {
		r.t.Error("the token was printed")
	}
	if !strings.Contains(r.output(), "outdated") {
		r.t.Error("nobody was warned")
	}
}

func TestImplicit(t *testing.T) {
	r := beginWith(t, legacy(), false, flow.Implicit)
	if r.query.Get("response_type") != "token" || r.query.Has("code_challenge") || len(r.query.Get("state")) != 43 {
		t.Errorf("the authorization request is %v", r.query)
	}
	if status := r.hand(r.nonceOf(), r.fragment(), nil); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	r.wantToken(flow.FlowImplicit)
}

// TestImplicitHostile: R-15. The fragment comes from the page of this login, by a
// POST of the same origin, with a nonce that is good once. Nothing else changes
// anything.
func TestImplicitHostile(t *testing.T) {
	r := beginWith(t, legacy(), true, flow.Implicit)
	for name, change := range map[string]func(*http.Request){
		"another origin":     func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") },
		"the null origin":    func(q *http.Request) { q.Header.Set("Origin", "null") },
		"no origin":          func(q *http.Request) { q.Header.Del("Origin") },
		"another port":       func(q *http.Request) { q.Header.Set("Origin", "http://127.0.0.1:1") },
		"across sites":       func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "cross-site") },
		"the same site":      func(q *http.Request) { q.Header.Set("Sec-Fetch-Site", "same-site") },
		"another path":       func(q *http.Request) { q.URL.Path = "/other" },
		"another host":       func(q *http.Request) { q.Host = "evil.example" },
		"a query":            func(q *http.Request) { q.URL.RawQuery = "x=1" },
		"the token in a GET": func(q *http.Request) { q.Method, q.URL.RawQuery = http.MethodGet, r.fragment() },
		"another method":     func(q *http.Request) { q.Method = http.MethodPut },
	} {
		if status := r.hand(r.nonceOf(), r.fragment(), change); status < 400 || !r.waiting() {
			t.Errorf("%s: status %d", name, status)
		}
	}
	for name, nonce := range map[string]string{"no nonce": "", "a guess": strings.Repeat("A", 43)} {
		if status := r.hand(nonce, r.fragment(), nil); status != http.StatusForbidden || !r.waiting() {
			t.Errorf("%s: status %d", name, status)
		}
	}
	for name, pairs := range map[string][]string{
		"another state": {"state", "x"}, "no state": {"state", "-"}, "another issuer": {"iss", "https://evil.example"}, "no token": {"access_token", "-"},
		"a token that is none": {"access_token", "a\x1b[31m"}, "an error beside": {"error", "access_denied"}, "a code": {"code", "c"},
	} {
		if status := r.hand(r.nonceOf(), r.fragment(pairs...), nil); status != http.StatusBadRequest || !r.waiting() {
			t.Errorf("%s: status %d", name, status)
		}
	}
	if status := r.hand(r.nonceOf(), r.fragment()+"&access_token=other", nil); status != http.StatusBadRequest || !r.waiting() {
		t.Errorf("two tokens: status %d", status)
	}
	// A nonce is good once, also when what came with it was not.
	nonce := r.nonceOf()
	if r.hand(nonce, r.fragment("state", "x"), nil) != http.StatusBadRequest || r.hand(nonce, r.fragment(), nil) != http.StatusForbidden || !r.waiting() {
		t.Error("a nonce was good twice")
	}
	// Of many pages the oldest are forgotten.
	old := r.nonceOf()
	for range 16 {
		nonce = r.nonceOf()
	}
	if r.hand(old, r.fragment(), nil) != http.StatusForbidden || !r.waiting() {
		t.Error("pages without end may hand something over")
	}
	late := r.nonceOf()
	if status := r.hand(nonce, r.fragment(), nil); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	if status := r.hand(late, r.fragment(), nil); status != 0 && status < 400 {
		t.Errorf("a replay has status %d", status)
	}
	r.wantToken(flow.FlowImplicit)
}

func TestImplicitPasted(t *testing.T) {
	a := legacy()
	a.Pins.RedirectURI = "https://app.example/callback"
	r := beginWith(t, a, true, flow.Implicit)
	for wrong, says := range map[string]string{
		r.redirect.String() + "?" + r.fragment():                 "no token",
		r.redirect.String() + "#" + r.fragment("state", "other"): "another login",
		"https://evil.example/callback#" + r.fragment():          "not the address of the last page",
		implicitToken:             "not the address",
		r.authURL.String():        "starts the login",
		r.redirect.String() + "#": "no token",
	} {
		before := len(r.output())
		r.paste <- wrong
		r.paste <- ""
		if out := r.output()[before:]; !strings.Contains(out, says) || strings.Contains(out, implicitToken) {
			t.Errorf("it says %q, want %q", out, says)
		}
	}
	r.paste <- r.redirect.String() + "#" + r.fragment()
	r.wantToken(flow.FlowImplicit)
}

func TestImplicitNeedsTheOptIn(t *testing.T) {
	a := attempt()
	a.Provider.Flows = []string{"browser"}
	if _, err := flow.Implicit(t.Context(), flow.Env{OpenBrowser: func(context.Context, string) error { return nil }}, a); err == nil || !strings.Contains(err.Error(), "implicit") {
		t.Errorf("got %v", err)
	}
}

func TestImplicitDenied(t *testing.T) {
	r := beginWith(t, legacy(), false, flow.Implicit)
	if status := r.hand(r.nonceOf(), r.fragment("access_token", "-", "error", "access_denied"), nil); status != http.StatusNoContent {
		t.Errorf("status %d", status)
	}
	<-r.done
	if r.err == nil || !strings.Contains(r.err.Error(), "not granted") {
		t.Errorf("got %v", r.err)
	}
}
