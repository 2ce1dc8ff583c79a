package sandbox

import (
	"crypto/sha256"
	"io"
	"log"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

// client is a client registration.
type client struct {
	id, name, method string
	secrets          []secret.Text // any of them is good
}

// account is a person that the sandbox knows.
type account struct{ Login, Sub, Name, Email string }

func accounts() []*account {
	return []*account{
		{Login: "alice", Sub: "user-alice", Name: "Alice Example", Email: "alice@sandbox.example"},
		{Login: "bob", Sub: "user-bob", Name: "Bob Example", Email: "bob@sandbox.example"},
	}
}

func accountNamed(login string) *account {
	for _, a := range accounts() {
		if a.Login == login || a.Email == login || a.Sub == login {
			return a
		}
	}
	return nil
}

// scopeInfo is a scope with the words that the consent page shows.
type scopeInfo struct{ Name, Title, Description string }

func scopes() []scopeInfo {
	return []scopeInfo{
		{"profile", "Name and account", "See who you are: your name and your account id."},
		{"email", "E-mail address", "See your e-mail address."},
		{"items.read", "Read items", "Read your list of items."},
		{"items.write", "Change items", "Add items to your list."},
		{"openid", "Sign in", "Prove that you signed in here (OpenID Connect)."},
		{"offline_access", "Stay connected", "Keep access while you are away."},
	}
}

// parseScopes splits and checks a scope parameter (RFC 6749 section 3.3). An
// empty one means profile. It reports false for a scope that does not exist.
func parseScopes(param string) ([]string, bool) {
	if param == "" {
		return []string{"profile"}, true
	}
	var out []string
	for _, name := range strings.Split(param, " ") {
		if !slices.ContainsFunc(scopes(), func(s scopeInfo) bool { return s.Name == name }) {
			return nil, false
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, true
}

// tokenHash stands for a code or token in the tables: a lookup by hash takes
// the same time for every wrong guess.
type tokenHash [sha256.Size]byte

func hashOf(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// family is one grant and everything that was issued on it.
type family struct {
	client  *client
	account *account // nil for client credentials
	scopes  []string
	revoked bool
}

type accessToken struct {
	fam             *family
	scopes          []string
	issued, expires time.Time
	revoked         bool
}

type refreshToken struct {
	fam     *family
	parent  *refreshToken
	expires time.Time // zero: never
	// used is when the token was first exchanged under rotation; zero before.
	used time.Time
	// childUsed says that a successor was used: the client has it, so another
	// use of this one is no lost answer.
	childUsed bool
}

// pending is an authorization request that waits for a person.
type pending struct {
	client    *client
	redirect  string
	state     string
	challenge string
	nonce     string
	scopes    []string
	session   string // of the browser that opened the page
	csrf      string
	created   time.Time
}

type code struct {
	fam       *family
	redirect  string
	challenge string
	nonce     string
	created   time.Time
	used      bool
}

type device struct {
	client   *client
	userCode string
	scopes   []string
	created  time.Time
	lastPoll time.Time
	interval time.Duration
	account  *account // set by approval
	denied   bool
	used     bool
	session  string
	csrf     string
}

// Stats counts what the sandbox has seen since it started.
type Stats struct {
	AuthorizeRequests int `json:"authorize_requests"`
	DeviceRequests    int `json:"device_requests"`
	TokenRequests     int `json:"token_requests"` // every POST to the token endpoint
	TokenErrors       int `json:"token_errors"`   // of these: OAuth errors answered
	CodeExchanges     int `json:"code_exchanges"` // successful ones
	ClientCredentials int `json:"client_credentials"`
	DevicePolls       int `json:"device_polls"`
	SlowDowns         int `json:"slow_downs"`
	RefreshRequests   int `json:"refresh_requests"` // every refresh asked for
	Refreshes         int `json:"refreshes"`        // committed, whether or not the answer arrived
	Reuse             int `json:"reuse"`            // families revoked by a reused refresh token or code
	GraceReuse        int `json:"grace_reuse"`
	Revocations       int `json:"revocations"` // tokens that revocation ended
	Introspections    int `json:"introspections"`
	Userinfo          int `json:"userinfo"`
	APICalls          int `json:"api_calls"`
	APIUnauthorized   int `json:"api_unauthorized"`
	Faults            int `json:"faults"` // times that a fault switch acted
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// count changes the counters under the lock.
func (s *Server) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}

// Active reports whether the token, access or refresh, would be accepted now.
// It counts nothing and uses up nothing.
func (s *Server) Active(token secret.Text) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := hashOf(token.Reveal())
	if a := s.access[h]; a != nil {
		return s.accessLive(a)
	}
	if r := s.refresh[h]; r != nil {
		return s.refreshLive(r)
	}
	return false
}

// RevokeAll ends every grant, as a person does on a provider's settings page.
func (s *Server) RevokeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.access {
		a.fam.revoked = true
	}
	for _, r := range s.refresh {
		r.fam.revoked = true
	}
}

// ExpireAccess ends the life of every access token issued so far; grants stay.
func (s *Server) ExpireAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, a := range s.access {
		if a.expires.After(now) {
			a.expires = now
		}
	}
}

func (s *Server) accessLive(a *accessToken) bool {
	return !a.revoked && !a.fam.revoked && s.now().Before(a.expires)
}

func (s *Server) refreshLive(r *refreshToken) bool {
	return !r.fam.revoked && r.used.IsZero() && (r.expires.IsZero() || s.now().Before(r.expires))
}

// issueAccess makes an access token. The caller holds mu.
func (s *Server) issueAccess(fam *family, scopes []string) (secret.Text, error) {
	t, err := s.random("sbx_at_", 32)
	if err != nil {
		return t, err
	}
	now := s.now()
	if len(s.access) > 4096 {
		for h, a := range s.access {
			if now.Sub(a.expires) > time.Hour {
				delete(s.access, h)
			}
		}
	}
	s.access[hashOf(t.Reveal())] = &accessToken{fam: fam, scopes: scopes, issued: now, expires: now.Add(s.opts.TokenTTL)}
	return t, nil
}

// issueRefresh makes a refresh token that follows parent (nil for the first).
// The caller holds mu.
func (s *Server) issueRefresh(fam *family, parent *refreshToken) (secret.Text, error) {
	t, err := s.random("sbx_rt_", 32)
	if err != nil {
		return t, err
	}
	r := &refreshToken{fam: fam, parent: parent}
	if s.opts.RefreshTTL > 0 {
		r.expires = s.now().Add(s.opts.RefreshTTL)
	}
	s.refresh[hashOf(t.Reveal())] = r
	return t, nil
}

// issueCode makes an authorization code on a new family. The caller holds mu.
func (s *Server) issueCode(p *pending, a *account) (secret.Text, error) {
	t, err := s.random("sbx_code_", 32)
	if err != nil {
		return t, err
	}
	s.codes[hashOf(t.Reveal())] = &code{
		fam:      &family{client: p.client, account: a, scopes: p.scopes},
		redirect: p.redirect, challenge: p.challenge, nonce: p.nonce, created: s.now(),
	}
	return t, nil
}

// sweep forgets authorization and device requests that nobody answered. The
// caller holds mu.
func (s *Server) sweep() {
	now := s.now()
	for id, p := range s.pending {
		if now.Sub(p.created) > pendingLife {
			delete(s.pending, id)
		}
	}
	for h, d := range s.devices {
		if now.Sub(d.created) > 2*deviceLife {
			delete(s.devices, h)
		}
	}
	for h, c := range s.codes {
		if now.Sub(c.created) > 24*time.Hour {
			delete(s.codes, h)
		}
	}
}

// quiet swallows what net/http writes about dropped connections.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
