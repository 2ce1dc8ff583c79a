//go:build linux

package crash

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/internal/secret"
)

// patience bounds every wait; nothing takes that long when all is well.
const patience = 90 * time.Second

// issuer is the embedded issuer with a token endpoint of its own in front of
// it. What reaches the front as a whole is carried out, whether or not the one
// who sent it still lives: so a commit never depends on a race. The front can
// hold a request before or after the commit, and can answer in the issuer's
// place.
type issuer struct {
	*sandbox.Server
	t        testing.TB
	addr     string
	upstream *http.Client

	mu       sync.Mutex
	server   *http.Server
	opened   int
	closed   int
	requests map[string]int // refresh requests by refresh token
	hold     *hold
	faults   map[string]fault // by refresh token
	lose     map[string]int   // answers to lose after the commit, by refresh token
	spoil    map[string]func(answer map[string]any)
}

// hold stops the next refresh.
type hold struct {
	before  bool          // before the issuer learns of it; else after its commit
	arrived chan struct{} // closed when the request is there
	release chan struct{} // close it to go on
	drop    bool          // set before release: close the connection instead
	sent    chan struct{} // closed when the answer was written or the connection dropped
}

// fault answers a refresh in the issuer's place. n counts from 1.
type fault func(w http.ResponseWriter, r *http.Request, n int)

// strict kills the family of a token that is used twice; grace accepts the
// previous token as long as its successor was not used.
func strict() sandbox.Options { return sandbox.Options{RotateRefresh: true, AutoApprove: true} }
func grace() sandbox.Options {
	return sandbox.Options{RotateRefresh: true, AutoApprove: true, Grace: time.Hour}
}

func newIssuer(t testing.TB, o sandbox.Options) *issuer {
	t.Helper()
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	is := &issuer{
		Server: s, t: t,
		upstream: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
		requests: map[string]int{}, faults: map[string]fault{}, lose: map[string]int{},
		spoil: map[string]func(map[string]any){},
	}
	is.up("127.0.0.1:0")
	t.Cleanup(is.down)
	return is
}

// up listens on addr.
func (is *issuer) up(addr string) {
	is.t.Helper()
	ln, err := net.Listen("tcp4", addr) //nolint:noctx // returns at once
	if err != nil {
		is.t.Fatal(err)
	}
	srv := &http.Server{
		Handler:           http.HandlerFunc(is.serve),
		ReadHeaderTimeout: patience,
		ConnState: func(_ net.Conn, s http.ConnState) {
			is.mu.Lock()
			defer is.mu.Unlock()
			switch s {
			case http.StateNew:
				is.opened++
			case http.StateClosed, http.StateHijacked:
				is.closed++
			}
		},
	}
	is.mu.Lock()
	is.addr, is.server = ln.Addr().String(), srv
	is.mu.Unlock()
	go func() { _ = srv.Serve(ln) }()
}

// down stops listening; the address stays its own for up.
func (is *issuer) down() {
	is.mu.Lock()
	srv := is.server
	is.mu.Unlock()
	_ = srv.Close()
}

func (is *issuer) endpoint() string { return "http://" + is.addr + "/token" }

func (is *issuer) port() int {
	a, err := net.ResolveTCPAddr("tcp4", is.addr)
	if err != nil {
		is.t.Fatal(err)
	}
	return a.Port
}

// definition is a provider definition with the token endpoint at the front.
func (is *issuer) definition(id string) string {
	return strings.Replace(string(is.ProviderYAML(id)), "token_endpoint: "+is.Issuer()+"/token", "token_endpoint: "+is.endpoint(), 1)
}

func (is *issuer) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		return // settle asks
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler) // cut off while it was sent
	}
	form, _ := url.ParseQuery(string(body))
	token := form.Get("refresh_token")
	var (
		h *hold
		f fault
		n int

		lost  bool
		spoil func(map[string]any)
	)
	if token != "" {
		is.mu.Lock()
		is.requests[token]++
		n, f, spoil = is.requests[token], is.faults[token], is.spoil[token]
		h, is.hold = is.hold, nil
		if lost = is.lose[token] > 0; lost {
			is.lose[token]--
		}
		is.mu.Unlock()
	}
	if f != nil {
		f(w, r, n)
		return
	}
	if h != nil {
		defer close(h.sent)
	}
	if h != nil && h.before {
		is.wait(h)
	}
	status, header, answer := is.carryOut(r.Header, body)
	if h != nil && !h.before {
		is.wait(h)
	}
	if lost {
		panic(http.ErrAbortHandler)
	}
	if spoil != nil && status == http.StatusOK {
		var doc map[string]any
		if err := json.Unmarshal(answer, &doc); err != nil {
			panic(http.ErrAbortHandler)
		}
		spoil(doc)
		answer, _ = json.Marshal(doc) // of what came out of JSON
		header.Del("Content-Length")
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer)
	_ = http.NewResponseController(w).Flush()
}

func (is *issuer) wait(h *hold) {
	close(h.arrived)
	select {
	case <-h.release:
	case <-is.t.Context().Done():
		panic(http.ErrAbortHandler)
	}
	if h.drop {
		panic(http.ErrAbortHandler)
	}
}

func (is *issuer) carryOut(header http.Header, body []byte) (int, http.Header, []byte) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(is.t.Context()), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, is.Issuer()+"/token", bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	req.Header = header.Clone()
	resp, err := is.upstream.Do(req)
	if err != nil {
		panic(http.ErrAbortHandler) // the test is over
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return resp.StatusCode, resp.Header, answer
}

// holdNext makes the next refresh stop at the front.
func (is *issuer) holdNext(before bool) *hold {
	h := &hold{before: before, arrived: make(chan struct{}), release: make(chan struct{}), sent: make(chan struct{})}
	is.mu.Lock()
	defer is.mu.Unlock()
	is.hold = h
	return h
}

// setFault answers the refreshes with one token; nil ends it.
func (is *issuer) setFault(token string, f fault) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if f == nil {
		delete(is.faults, token)
		return
	}
	is.faults[token] = f
}

// loseAnswers drops the next n answers to a refresh token, after the commit.
func (is *issuer) loseAnswers(token string, n int) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.lose[token] = n
}

// spoilAnswers changes what a refresh that was carried out is answered with.
func (is *issuer) spoilAnswers(token string, f func(answer map[string]any)) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.spoil[token] = f
}

// asked is how often a refresh token was sent.
func (is *issuer) asked(token string) int {
	is.mu.Lock()
	defer is.mu.Unlock()
	return is.requests[token]
}

// settle returns when everything that was sent to the front has been dealt
// with. Connections are accepted in their order: when the one made here was
// answered, all earlier ones are known, and then they have to end.
func (is *issuer) settle() {
	is.t.Helper()
	ctx, cancel := context.WithTimeout(is.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, is.endpoint(), nil)
	if err != nil {
		is.t.Fatal(err)
	}
	resp, err := is.upstream.Do(req)
	if err != nil {
		is.t.Fatal(err)
	}
	_ = resp.Body.Close()
	eventually(is.t, "the issuer has no open connection", func() bool {
		is.mu.Lock()
		defer is.mu.Unlock()
		return is.opened == is.closed
	})
}

// grant walks a login without a client of ours, and returns its tokens.
func (is *issuer) grant() (access, refresh secret.Text) {
	is.t.Helper()
	ctx, cancel := context.WithTimeout(is.t.Context(), patience)
	defer cancel()
	const redirect = "http://127.0.0.1:1/callback/sandbox"
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {is.ClientID()}, "redirect_uri": {redirect},
		"state": {rand.Text()}, "scope": {"profile items.read"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	location, err := is.Consent(ctx, is.Issuer()+"/authorize?"+q.Encode(), sandbox.Choice{})
	if err != nil {
		is.t.Fatal(err)
	}
	u, err := url.Parse(location)
	if err != nil {
		is.t.Fatal("the issuer redirects to something that is no URL")
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {u.Query().Get("code")}, "redirect_uri": {redirect},
		"client_id": {is.ClientID()}, "code_verifier": {verifier},
	}
	status, _, answer := is.carryOut(http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, []byte(form.Encode()))
	var doc struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal(answer, &doc); err != nil || status != http.StatusOK || doc.Refresh == "" {
		is.t.Fatalf("the issuer gave no grant: status %d", status)
	}
	return secret.New(doc.Access), secret.New(doc.Refresh)
}

// eventually looks until something is so, for what cannot tell by itself.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}
