package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// IssuerOptions says how the authorization server behaves. The zero value is
// strict: PKCE, rotation, reuse ends the whole family of tokens.
type IssuerOptions struct {
	// Auto signs in and allows without showing a page.
	Auto bool
	// Account is who signs in when Auto is set; default "alice".
	Account string
	// NoRotation keeps one refresh token for the life of a grant.
	NoRotation bool
	// AccessTTL is the life of an access token, in whole seconds; default 1 h.
	AccessTTL time.Duration
	// DeviceTTL is the life of a device code, in whole seconds; default 10 min.
	DeviceTTL time.Duration
	// RedirectURIs are registered for the browser clients, besides
	// /callback and /callback/peer. A loopback URI is given without a port.
	RedirectURIs []string
	// WithholdScopes are not allowed by the person, though asked for.
	WithholdScopes []string
	// PublicKey is the JWK of the clients Signed and Robot, which there are only
	// with it.
	PublicKey map[string]string
	// RequirePAR takes no authorization request but a pushed one (RFC 9126).
	RequirePAR bool
	// Resource is a resource indicator (RFC 8707) whose tokens are JWTs.
	Resource string
	// Mutual opens a second address, with TLS, for clients that authenticate with a
	// certificate (RFC 8705); nil: there is none.
	Mutual *MutualTLS
}

// wire is the form that issuer.mjs takes.
func (o IssuerOptions) wire() map[string]any {
	m := map[string]any{
		"auto":           o.Auto,
		"account":        "alice",
		"rotate":         !o.NoRotation,
		"accessTTL":      3600,
		"deviceTTL":      600,
		"redirectURIs":   append([]string{}, o.RedirectURIs...),
		"withholdScopes": append([]string{}, o.WithholdScopes...),
	}
	if o.PublicKey != nil {
		m["publicKey"] = o.PublicKey
	}
	if o.Mutual != nil {
		m["mutual"] = o.Mutual.files
	}
	m["requirePAR"], m["resource"] = o.RequirePAR, o.Resource
	if o.Account != "" {
		m["account"] = o.Account
	}
	if o.AccessTTL > 0 {
		m["accessTTL"] = int(o.AccessTTL.Seconds())
	}
	if o.DeviceTTL > 0 {
		m["deviceTTL"] = int(o.DeviceTTL.Seconds())
	}
	return m
}

// Client is a client registration at the issuer.
type Client struct {
	ID     string
	Secret secret.Text
	Method string // token_endpoint_auth_method
}

// IssuerProc is a running authorization server.
type IssuerProc struct {
	// URL is the issuer identifier; both metadata documents are below it.
	URL string
	// API is the base URL of a resource server that takes the issuer's tokens.
	// Every path answers 200 with what it saw, or 401.
	API string
	// Mutual is the base of the endpoints for clients with a certificate.
	Mutual string
	// Scopes are the scopes that the issuer knows.
	Scopes []string

	// Public has no secret, Confidential authenticates with Basic (its secret
	// holds the characters that must be form-encoded first), Post in the body.
	// All three do the browser and the device flow. Paste has an https redirect
	// only, https://app.example.test/callback. Machine does client credentials.
	// Shared signs with its secret, Signed and Robot with a key; Robot does
	// client credentials. Certified and Registered authenticate with the certificates
	// of IssuerOptions.Mutual; Bound is Certified whose tokens are bound to it.
	Public, Confidential, Post, Paste, Machine, Shared, Signed, Robot, Certified, Registered, Bound Client

	stop func()
}

// Issuer starts the authorization server on a free loopback port. It holds its
// grants in memory and ends with the test.
func Issuer(t testing.TB, opts IssuerOptions) *IssuerProc {
	t.Helper()
	modules := NodeModules(t)
	argument, err := json.Marshal(opts.wire())
	if err != nil {
		t.Fatal(err)
	}
	// The process ends when its standard input does, even if this one is killed.
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, node(t), filepath.Join(filepath.Dir(modules), "issuer.mjs"), string(argument))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = 5 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the issuer: %v", err)
	}
	ended := false
	p := &IssuerProc{stop: func() {
		if ended {
			return
		}
		ended = true
		_ = stdin.Close()
		timer := time.AfterFunc(10*time.Second, cancel)
		_ = cmd.Wait() // killed or not, it is gone; its exit code says nothing
		timer.Stop()
		cancel()
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("the issuer said on stderr:\n%s", stderr.String())
		}
	}}
	t.Cleanup(p.stop)

	timer := time.AfterFunc(2*time.Minute, cancel)
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	timer.Stop()
	if err != nil {
		p.stop()
		t.Fatalf("the issuer did not start: %v\n%s", err, stderr.String())
	}
	var ready struct {
		Issuer, API, Mutual string
		Scopes              []string
		Clients             map[string]struct{ ID, Secret, Method string }
	}
	if err := json.Unmarshal(line, &ready); err != nil {
		t.Fatalf("the issuer's first line is not what was agreed: %v", err)
	}
	p.URL, p.API, p.Mutual, p.Scopes = ready.Issuer, ready.API, ready.Mutual, ready.Scopes
	for name, client := range map[string]*Client{
		"public": &p.Public, "confidential": &p.Confidential, "post": &p.Post, "paste": &p.Paste, "machine": &p.Machine, "shared": &p.Shared,
		"signed": &p.Signed, "robot": &p.Robot, "certified": &p.Certified, "registered": &p.Registered, "bound": &p.Bound,
	} {
		c, ok := ready.Clients[name]
		if !ok && opts.PublicKey == nil && (name == "signed" || name == "robot") {
			continue
		}
		if !ok && opts.Mutual == nil && (name == "certified" || name == "registered" || name == "bound") {
			continue
		}
		if !ok {
			t.Fatalf("the issuer has no client %q", name)
		}
		*client = Client{ID: c.ID, Secret: secret.New(c.Secret), Method: c.Method}
	}
	return p
}

// Stop ends the issuer before its test does, to see what happens without one.
func (p *IssuerProc) Stop() { p.stop() }

// Set changes the issuer's behaviour from now on. RedirectURIs stay as they were.
func (p *IssuerProc) Set(t testing.TB, opts IssuerOptions) {
	t.Helper()
	p.control(t, "/__options", opts.wire(), nil)
}

// Fault is something that goes wrong at the issuer.
type Fault struct {
	// Mode is drop-before-commit, drop-after-commit (the issuer did it, but the
	// answer is lost), truncate, 429, 500, 503, html, invalid_grant, delay or
	// hang; clear removes all that are waiting.
	Mode string `json:"mode"`
	// Path is the end point; default /token.
	Path string `json:"path,omitempty"`
	// Count is for how many requests; default 1.
	Count int `json:"count,omitempty"`
	// RetryAfter is in seconds, for 429 (default 1) and 503 (default no header).
	RetryAfter int `json:"retryAfter,omitempty"`
	// DelayMS is in milliseconds, for delay; default 1,000.
	DelayMS int `json:"ms,omitempty"`
}

// Fail makes the next requests go wrong.
func (p *IssuerProc) Fail(t testing.TB, f Fault) {
	t.Helper()
	p.control(t, "/__fault", f, nil)
}

// Stats counts what the issuer saw and did since its start.
type Stats struct {
	Requests map[string]int // by path; ids in paths are written *
	// Certificates counts the requests that presented one, by path.
	Certificates map[string]int
	Tokens       map[string]int // requests at the token end point, by grant_type
	Granted      map[string]int // token responses, by grant_type
	Refused      map[string]int // by grant_type and error, with a blank between
	Faults       int            // requests that a fault befell
	Revoked      int            // grants that ended
	Reused       int            // times that a used code or refresh token came again
}

// Stats returns the counters.
func (p *IssuerProc) Stats(t testing.TB) Stats {
	t.Helper()
	var s Stats
	p.control(t, "/__stats", nil, &s)
	return s
}

// Active asks the issuer by introspection whether an access or refresh token
// still lives.
func (p *IssuerProc) Active(t testing.TB, token secret.Text) bool {
	t.Helper()
	form := url.Values{"token": {token.Reveal()}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+"/token/introspection", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(p.Confidential.ID), url.QueryEscape(p.Confidential.Secret.Reveal()))
	var answer struct {
		Active *bool
	}
	if err := fetch(req, &answer); err != nil {
		t.Fatalf("ask the issuer whether a token lives: %v", err)
	}
	if answer.Active == nil {
		t.Fatal("ask the issuer whether a token lives: the answer does not say")
	}
	return *answer.Active
}

func (p *IssuerProc) control(t testing.TB, path string, body, answer any) {
	t.Helper()
	method, content := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		var err error
		if content, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	// Not t.Context: the counters are also read while a test is cleaned up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch(req, answer); err != nil {
		t.Fatalf("steer the issuer at %s: %v", path, err)
	}
}

// fetch sends req on a connection of its own and decodes a 200 answer.
func fetch(req *http.Request, answer any) error {
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", res.Status)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}
