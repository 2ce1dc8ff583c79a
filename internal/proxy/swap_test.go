package proxy

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Each place that a provider may name, and the ways in which clients write it.
func TestPlaces(t *testing.T) {
	query := providers.APIAuthPin{In: "query", Name: "access_token"}
	user := providers.APIAuthPin{In: "basic"}
	key := providers.APIAuthPin{In: "header", Name: "X-Api-Key"}
	for _, tt := range []struct {
		name   string
		auth   providers.APIAuthPin
		path   string
		header string
		want   string // at the API
	}{
		{"bearer", bearer(), "/", "Authorization: Bearer " + testPlaceholder, "Authorization: Bearer " + testToken},
		{"bearer in lower case", bearer(), "/", "Authorization: bearer " + testPlaceholder, "Authorization: bearer " + testToken},
		{"token, as GitHub has it too", bearer(), "/", "Authorization: token " + testPlaceholder, "Authorization: token " + testToken},
		{"bare", bearer(), "/", "Authorization: " + testPlaceholder, "Authorization: " + testToken},
		{"password of Basic, as git sends it", bearer(), "/", "Authorization: Basic " + basic("x-access-token", testPlaceholder), "Authorization: Basic " + basic("x-access-token", testToken)},
		{"user of Basic", bearer(), "/", "Authorization: basic " + basic(testPlaceholder, "x-oauth-basic"), "Authorization: basic " + basic(testToken, "x-oauth-basic")},
		{"basic", user, "/", "Authorization: Basic " + basic(testPlaceholder, ""), "Authorization: Basic " + basic(testToken, "")},
		{"header of its own", key, "/", "x-api-key: " + testPlaceholder, "X-Api-Key: " + testToken},
		{"query", query, "/t?a=%20b&access_token=" + testPlaceholder + "&c", "Accept: */*", "GET /t?a=%20b&access_token=ya29.Kq%2F7%2BZr~9-w_PL0x%3DeYb%26Vt&c " + apiHost},
		{"no placeholder", bearer(), "/open", "Authorization: Bearer something-else", "Authorization: Bearer something-else"},
	} {
		r := newEgressRig(t)
		r.options.Targets[0].Auth = tt.auth
		r.serve(apiHost, echoing())
		r.start()
		got := r.send(r.client(false), "GET", "https://"+apiHost+tt.path, nil, tt.header)
		if got.StatusCode != 200 || !strings.Contains(r.arrived(apiHost), tt.want) {
			t.Errorf("%s: %d, and at the API is not what should be there", tt.name, got.StatusCode)
		}
		if newMatcher([]string{testToken}).contains([]byte(got.body)) != nil {
			t.Errorf("%s: the token came back", tt.name)
		}
	}
	// A place that is not the provider's is none.
	for _, tt := range []struct {
		auth         providers.APIAuthPin
		path, header string
	}{
		{user, "/", "Authorization: Bearer " + testPlaceholder},
		{key, "/", "Authorization: Bearer " + testPlaceholder},
		{key, "/", "X-Api-Key: Bearer " + testPlaceholder},
		{query, "/?token=" + testPlaceholder, "Accept: */*"},
		{query, "/?access_token=" + testPlaceholder + "&access_token=" + testPlaceholder, "Accept: */*"},
		{query, "/?access_token=" + testPlaceholder, "Authorization: Bearer " + testPlaceholder},
	} {
		r := newEgressRig(t)
		r.options.Targets[0].Auth = tt.auth
		r.serve(apiHost, echoing())
		r.start()
		if got := r.send(r.client(false), "GET", "https://"+apiHost+tt.path, nil, tt.header); got.StatusCode != 403 {
			t.Errorf("%s, %s with %s: %d", tt.auth, tt.path, tt.header, got.StatusCode)
		}
		r.onlyAt()
	}
}

// Two connections of one host each get their own token, and each other's tokens
// do not come back either.
func TestTwoConnectionsOfOneHost(t *testing.T) {
	r := newEgressRig(t)
	other := "ph_" + strings.Repeat("Xy7", 10)
	r.options.Targets = append(r.options.Targets, Target{Connection: "other", Hosts: []string{apiHost}, Auth: bearer(), Placeholder: secret.New(other)})
	stored := ""
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, "before: ", stored)
		stored = req.Header.Get("Authorization")
	}))
	r.start()
	c := r.client(true)
	r.send(c, "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
	got := r.send(c, "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+other)
	if got.body != "before: Bearer "+testPlaceholder {
		t.Error("the other connection's token came back")
	}
	if !strings.Contains(stored, r.tokens.current["other"]) {
		t.Error("the other connection's token did not arrive")
	}
	// Without a token of one's own one does not read it either.
	if got := r.send(c, "GET", "https://"+apiHost+"/", nil); got.body != "before: Bearer "+other {
		t.Error("a request without a token reads one")
	}
}

func TestRulesHoldForEveryRequest(t *testing.T) {
	r := newEgressRig(t)
	var err error
	if r.options.Targets[0].Allow, err = ParseRules([]string{"GET /v1/*", "POST /v1/things"}); err != nil {
		t.Fatal(err)
	}
	r.serve(apiHost, echoing())
	r.start()
	c := r.client(false)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/me?x=/../y", 200}, {"POST", "/v1/things", 200},
		{"DELETE", "/v1/me", 403}, {"POST", "/v1/other", 403}, {"GET", "/v2/", 403}, {"GET", "/", 403}, {"GET", "", 403},
		{"GET", "/v1/../admin", 403}, {"GET", "/v1/%2e%2e/admin", 403}, {"GET", "/v1/..%2fadmin", 403}, {"GET", "/v1//x", 403}, {"GET", "/v1/%5c..", 403},
	} {
		for _, header := range []string{"Authorization: Bearer " + testPlaceholder, "Accept: */*"} {
			got := r.send(c, tt.method, "https://"+apiHost+tt.path, nil, header)
			if got.StatusCode != tt.status || tt.status == 403 && !strings.Contains(got.body, "may call") {
				t.Errorf("%s %s with %.10s: %d %s", tt.method, tt.path, header, got.StatusCode, got.body)
			}
		}
	}
}

// A method or path that is named once more, for the API to take instead, does not
// pass the rules of the connection, nor those of a request without a token.
func TestRulesAreNotEvadedByAChild(t *testing.T) {
	r := newEgressRig(t)
	var err error
	if r.options.Targets[0].Allow, err = ParseRules([]string{"POST /v1/things"}); err != nil {
		t.Fatal(err)
	}
	r.serve(apiHost, echoing())
	r.start()
	for _, h2 := range []bool{false, true} {
		for _, header := range []string{"Authorization: Bearer " + testPlaceholder, "Accept: */*"} {
			got := r.send(r.client(h2), "POST", "https://"+apiHost+"/v1/things", nil, header, "X-HTTP-Method-Override: DELETE")
			if got.StatusCode != 403 || !strings.Contains(got.body, "X-Http-Method-Override") {
				t.Errorf("with %.10s: %d %s", header, got.StatusCode, got.body)
			}
		}
	}
}

// What one host of a connection was told comes back from another one without the
// token as well, also to a request that has none.
func TestEchoesOfAnotherHostAreScrubbed(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	r.serve(secondHost, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the last caller had "+testToken)
	}))
	r.start()
	c := r.client(false)
	r.send(c, "GET", "https://"+apiHost+"/", nil, "Authorization: Bearer "+testPlaceholder)
	if got := r.send(c, "GET", "https://"+secondHost+"/", nil); got.body != "the last caller had "+testPlaceholder {
		t.Errorf("the second host's answer has %d bytes, the token among them: %v", len(got.body), strings.Contains(got.body, testToken))
	}
}

// After 401 there is one refresh in a minute, and one more try where the body is
// at hand.
func TestRefreshAfter401(t *testing.T) {
	r := newEgressRig(t)
	now := time.Now() // certificates are made by it, and judged by the true time
	r.options.Now = func() time.Time { return now }
	accepted := ""
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if req.Header.Get("Authorization") != "Bearer "+accepted {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "%d bytes for %s", len(body), req.Header.Get("Authorization"))
	}))
	told := map[string]int{}
	r.options.Answered = func(_ context.Context, connection string, status int) { told[fmt.Sprint(connection, " ", status)]++ }
	r.start()
	c := r.client(false)
	post := func(size int) answer {
		return r.send(c, "POST", "https://"+apiHost+"/", strings.NewReader(strings.Repeat("a", size)), "Authorization: Bearer "+testPlaceholder)
	}
	accepted = nthToken(1)
	if got := post(64 << 10); got.StatusCode != 200 || got.body != "65536 bytes for Bearer "+testPlaceholder {
		t.Errorf("after the first 401: %d", got.StatusCode)
	}
	accepted = nthToken(2)
	if got := post(10); got.StatusCode != 401 || r.tokens.refreshes != 1 {
		t.Errorf("a second 401 within a minute: %d, %d refreshes", got.StatusCode, r.tokens.refreshes)
	}
	now = now.Add(time.Minute)
	if got := post(64<<10 + 1); got.StatusCode != 401 || r.tokens.refreshes != 1 {
		t.Errorf("with a body that is gone: %d, %d refreshes", got.StatusCode, r.tokens.refreshes)
	}
	if got := post(10); got.StatusCode != 200 || r.tokens.refreshes != 2 {
		t.Errorf("a minute later: %d, %d refreshes", got.StatusCode, r.tokens.refreshes)
	}
	// The token of a neighbour's refresh is used without another one.
	accepted = nthToken(99)
	r.tokens.mu.Lock()
	r.tokens.current["acme"] = accepted
	r.tokens.mu.Unlock()
	if got := post(10); got.StatusCode != 200 || r.tokens.refreshes != 2 {
		t.Errorf("after a neighbour's refresh: %d, %d refreshes", got.StatusCode, r.tokens.refreshes)
	}
	// A request that gets no token causes none.
	if got := r.send(c, "GET", "https://"+apiHost+"/", nil); got.StatusCode != 401 || r.tokens.refreshes != 2 {
		t.Errorf("without a placeholder: %d, %d refreshes", got.StatusCode, r.tokens.refreshes)
	}
	if len(told) != 2 || told["acme 401"] != 4 || told["acme 200"] != 3 {
		t.Errorf("told of the answers: %v", told)
	}
	r.tokens.mu.Lock()
	r.tokens.err = fmt.Errorf("the issuer no longer\naccepts this grant")
	r.tokens.mu.Unlock()
	if got := post(10); got.StatusCode != 502 || got.body != "apiauth: there is no token for acme: the issuer no longer accepts this grant\n" {
		t.Errorf("without a token: %d %q", got.StatusCode, got.body)
	}
}

// An echo of the token comes back as the placeholder, whatever its form, and
// compressed too.
func TestEchoesAreScrubbed(t *testing.T) {
	r := newEgressRig(t)
	forms := writings(testToken)
	r.serve(apiHost, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if got := req.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("the API was asked for %q", got)
		}
		form := req.URL.Query().Get("form")
		text := strings.Repeat("padding ", 1000) + forms[form] + strings.Repeat(" and after", 10000)
		w.Header().Set("X-Echo", "<"+forms[form]+">")
		w.Header().Set("Trailer", "X-End")
		switch req.URL.Path {
		case "/br":
			w.Header().Set("Content-Encoding", "br")
		case "/slow":
			for i := range len(text) {
				_, _ = io.WriteString(w, text[i:i+1])
				if i > 7990 && i < 8100 {
					w.(http.Flusher).Flush()
				}
			}
			w.Header().Set("X-End", forms[form])
			return
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			text = gzipped(text)
		case "/length":
			w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		}
		_, _ = io.WriteString(w, text)
		w.Header().Set("X-End", forms[form])
	}))
	r.start()
	m := newMatcher([]string{testToken})
	for _, h2 := range []bool{false, true} {
		c := r.client(h2)
		for form := range forms {
			for _, path := range []string{"/", "/slow", "/gzip", "/length"} {
				if path != "/" && form != "raw" && form != "json" && form != "base64 a" {
					continue
				}
				got := r.send(c, "GET", "https://"+apiHost+path+"?form="+strings.ReplaceAll(form, " ", "+"), nil, "Authorization: Bearer "+testPlaceholder)
				if got.StatusCode != 200 || !strings.HasPrefix(got.body, "padding ") || !strings.HasSuffix(got.body, " and after") {
					t.Fatalf("%s %s: %d, %d bytes", path, form, got.StatusCode, len(got.body))
				}
				var all strings.Builder
				_ = got.Header.Write(&all)
				_ = got.Trailer.Write(&all)
				if m.contains([]byte(all.String()+got.body)) != nil {
					t.Errorf("%s %s, http2 %v: the token came back", path, form, h2)
				}
				if path == "/slow" && got.Trailer.Get("X-End") == "" {
					t.Error("the trailer is gone")
				}
			}
		}
		if got := r.send(c, "GET", "https://"+apiHost+"/br?form=raw", nil, "Authorization: Bearer "+testPlaceholder); got.StatusCode != 502 || !strings.Contains(got.body, `("br")`) {
			t.Errorf("an answer that cannot be read: %d %s", got.StatusCode, got.body)
		}
	}
}

func gzipped(text string) string {
	w := httptest.NewRecorder()
	zip := newGzip(w)
	_, _ = io.WriteString(zip, text)
	_ = zip.Close()
	return w.Body.String()
}

// FuzzFindSlot: what is found can be filled, once, and nothing else of the
// request changes.
func FuzzFindSlot(f *testing.F) {
	f.Add("Bearer "+testPlaceholder, "a=b&key="+testPlaceholder)
	f.Add("Basic "+basic("me", testPlaceholder), "key=%70h29.AAAABBBBCCCCDDDDEEEEFFFF&key=")
	f.Add("Basic "+basic(testPlaceholder, testPlaceholder), "%zz&;&&key")
	find := newFinder([]string{testPlaceholder})
	places := []providers.APIAuthPin{bearer(), {In: "basic"}, {In: "query", Name: "key"}, {In: "header", Name: "Authorization"}}
	f.Fuzz(func(t *testing.T, header, query string) {
		for _, auth := range places {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["Authorization"], r.URL.RawQuery = []string{header}, query
			place, ok := findSlot(r, auth, testPlaceholder)
			if !ok {
				if r.Header.Get("Authorization") != header || r.URL.RawQuery != query {
					t.Fatal("looking changed the request")
				}
				continue
			}
			place.fill(r, "")
			clean := find.head(r, nil) == nil
			place.fill(r, testToken)
			if clean && newMatcher([]string{testPlaceholder}).contains([]byte(decoded(r))) != nil {
				t.Fatal("a placeholder stayed in a request that seemed clean")
			}
			if strings.Count(decoded(r), testToken) != 1 {
				t.Fatal("the token does not stand in the request exactly once")
			}
			if auth.In == "query" && r.Header.Get("Authorization") != header || auth.In != "query" && r.URL.RawQuery != query {
				t.Fatal("another part of the request changed")
			}
		}
	})
}

// decoded is all that a server may read in a request's header and query.
func decoded(r *http.Request) string {
	text := r.Header.Get("Authorization")
	if _, code, ok := strings.Cut(text, " "); ok {
		if plain, err := base64.StdEncoding.DecodeString(code); err == nil && len(plain) > 0 {
			text = string(plain)
		}
	}
	return text + "\n" + unescape(r.URL.RawQuery)
}
