//go:build unix

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

// tap stands before an issuer's token endpoint: it hands everything through
// unchanged, counts, and remembers every token that was given out, so that the
// tests know what must not lie around.
type tap struct {
	url string

	mu       sync.Mutex
	requests map[string]int // by grant_type
	answers  map[int]int    // by status
	access   []string
	refresh  []string
	shorten  bool
}

func newTap(t testing.TB, endpoint string) *tap {
	t.Helper()
	p := &tap{requests: map[string]int{}, answers: map[int]int{}}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		form, _ := url.ParseQuery(string(body))
		p.mu.Lock()
		p.requests[form.Get("grant_type")]++
		p.mu.Unlock()
		req, err := http.NewRequestWithContext(r.Context(), r.Method, endpoint, bytes.NewReader(body))
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Header = r.Header.Clone()
		resp, err := client.Do(req)
		if err != nil {
			panic(http.ErrAbortHandler) // the issuer is gone, or dropped the connection
		}
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		var doc struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		_ = json.Unmarshal(answer, &doc)
		p.mu.Lock()
		if p.shorten && doc.Access != "" {
			p.shorten = false
			answer = withLife(answer, 1)
			resp.Header.Del("Content-Length")
		}
		p.answers[resp.StatusCode]++
		if doc.Access != "" {
			p.access = append(p.access, doc.Access)
		}
		if doc.Refresh != "" && !slices.Contains(p.refresh, doc.Refresh) {
			p.refresh = append(p.refresh, doc.Refresh)
		}
		p.mu.Unlock()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL + "/token"
	return p
}

// shortenNext makes the next token live for a second, as far as is told.
func (p *tap) shortenNext() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shorten = true
}

func withLife(answer []byte, seconds int) []byte {
	var doc map[string]any
	if json.Unmarshal(answer, &doc) != nil {
		return answer
	}
	doc["expires_in"] = seconds
	changed, err := json.Marshal(doc)
	if err != nil {
		return answer
	}
	return changed
}

// secrets are all tokens so far.
func (p *tap) secrets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.access, p.refresh)
}

func (p *tap) lastAccess() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.access) == 0 {
		return ""
	}
	return p.access[len(p.access)-1]
}

func (p *tap) lastRefresh() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refresh) == 0 {
		return ""
	}
	return p.refresh[len(p.refresh)-1]
}

// count is how many requests of a grant type came.
func (p *tap) count(grantType string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[grantType]
}

// definition is a provider definition for the certified issuer, with the
// token endpoint behind a tap. more is added at its end.
func definition(id string, is *peers.IssuerProc, tokenEndpoint string, c peers.Client, more string) string {
	method := c.Method
	flows := "[browser, device]"
	if c.ID == is.Machine.ID || c.ID == is.Robot.ID {
		flows = "[client-credentials]"
	}
	u, _ := url.Parse(is.URL)
	return fmt.Sprintf(`id: %[1]s
name: Peer
issuer: %[2]s
authorization_endpoint: %[2]s/auth
token_endpoint: %[3]s
device_authorization_endpoint: %[2]s/device/auth
revocation_endpoint: %[2]s/token/revocation
introspection_endpoint: %[2]s/token/introspection
userinfo_endpoint: %[2]s/me
authorization_response_iss_parameter_supported: true
token_endpoint_auth_method: %[4]s
flows: %[5]s
redirect_uri: http://127.0.0.1:*/callback/peer
scopes:
  required: [openid]
  default: [profile, offline_access]
  catalog:
    - {name: openid, title: Sign in, category: Account}
    - {name: profile, title: Your name, category: Account}
    - {name: email, title: E-mail address, category: Account}
    - {name: offline_access, title: Stay connected, category: Account}
    - {name: "api:read", title: Read, category: API}
    - {name: "api:write", title: Write, category: API, broad: true}
token: {rotates: always}
identity: {subject: sub, label: "name,sub"}
api:
  base_url: %[6]s
  hosts: ["%[7]s"]
env: PEER_ACCESS_TOKEN
revocation: {style: rfc7009}
allow_insecure_loopback: true
%[8]s`, id, is.URL, tokenEndpoint, method, flows, strings.TrimSuffix(is.API, "/"), u.Host, more)
}

// addProvider adds a definition as a person does.
func (p *person) addProvider(doc string) {
	p.t.Helper()
	file := p.write("definition.yaml", doc)
	p.must("provider", "add", file, "--yes")
}

// house is the embedded issuer with a tap before its token endpoint.
type house struct {
	*sandbox.Server
	tap *tap
}

func newHouse(t testing.TB, o sandbox.Options) *house {
	t.Helper()
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &house{s, newTap(t, s.Issuer()+"/token")}
}

// definition is the issuer's own, with the token endpoint behind the tap.
func (h *house) definition(id string) string {
	return strings.Replace(string(h.ProviderYAML(id)), "token_endpoint: "+h.Issuer()+"/token", "token_endpoint: "+h.tap.url, 1)
}

// connect logs in as a person does who has no browser here: the address is
// taken from stderr and walked by hand.
func (h *house) connect(p *person, args ...string) result {
	p.t.Helper()
	r := p.start(append([]string{"connect", "--flow", "browser", "--no-browser"}, args...)...)
	if err := h.Approve(p.t.Context(), r.authorizeURL()); err != nil {
		p.t.Fatal(err)
	}
	return r.wait()
}

// mustConnect is connect that has to succeed.
func (h *house) mustConnect(p *person, args ...string) {
	p.t.Helper()
	if r := h.connect(p, args...); r.code != 0 {
		p.t.Fatal(r.redacted())
	}
}

// visitConnect is the same against the certified issuer.
func visitConnect(p *person, v *peers.Visitor, args ...string) result {
	p.t.Helper()
	r := p.start(append([]string{"connect", "--flow", "browser", "--no-browser"}, args...)...)
	if _, err := v.Visit(p.t.Context(), r.authorizeURL()); err != nil {
		p.t.Fatal(err)
	}
	return r.wait()
}
