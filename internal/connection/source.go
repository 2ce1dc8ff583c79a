package connection

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Limits of one command.
const (
	maxTokenRequests = 4                // token requests for one connection
	maxWaitTotal     = 30 * time.Second // waits that an issuer asked for, in total
	resendWithin     = 10 * time.Second // a request whose answer was lost is sent once more within this
	backwardsClock   = 5 * time.Minute  // how far the clock may have gone back before expiries are distrusted
	lingerTimeout    = 10 * time.Second // and how long its answer is awaited after that cancellation
	resendAside      = 5 * time.Minute  // how long a lost answer is asked for again while the stored token is good: no published grace is longer
	revokeTimeout    = 10 * time.Second
	identityTimeout  = 10 * time.Second
)

// issuer is the far side, as a Source needs it; *oauth.HTTP is the real one.
type issuer interface {
	PostToken(ctx context.Context, r oauth.TokenRequest) (oauth.Answer, error)
	Identity(ctx context.Context, r oauth.IdentityRequest) (oauth.Account, error)
	Sites(ctx context.Context, r oauth.SitesRequest) ([]oauth.Site, error)
	Revoke(ctx context.Context, r oauth.RevokeRequest) error
}

// warmer is an issuer that can do part of a token request ahead: load the
// certificates, connect. It sends nothing that costs or tells anything.
type warmer interface {
	Prepare()
	Warm(ctx context.Context, endpoint string)
	Close()
}

// definitions is the catalogue, as a Source needs it; *providers.Catalogue is
// the real one.
type definitions interface {
	Digest(id string) (string, error)
	Get(id string) (*providers.Definition, error)
}

// Source hands out live access tokens for the connections of one project. It is
// the only refresher. A Source is safe for concurrent use.
type Source struct {
	Store   Store
	Project string
	Issuer  issuer
	// Definitions is compared with what each connection was bound to.
	Definitions definitions
	// ClientSecret finds the secret of a connection's client, when its
	// authentication method needs one. The default asks Store.
	ClientSecret func(ctx context.Context, h *Header) (secret.Text, error)
	// NextSecret finds the secret that is to take the place of what ClientSecret
	// finds; zero when there is none. The default asks Store.
	NextSecret func(ctx context.Context, h *Header) (secret.Text, error)
	// Run is a random name of this process, so that a later process can tell
	// that it is a later one.
	Run string
	PID int
	Now func() time.Time
	// Sleep waits for d or until ctx ends. It measures monotonic time.
	Sleep func(ctx context.Context, d time.Duration) error
	// LockWait bounds the wait for another process that refreshes; default 35 s.
	LockWait time.Duration
	// Warn tells a person, in one line, what is odd but no failure.
	Warn func(format string, a ...any)
}

// Option changes what Token does.
type Option struct {
	// MinTTL asks for a token that lives at least this long, if the provider
	// gives such.
	MinTTL time.Duration
	// Refresh asks for a new token although the stored one looks alive: the API
	// refused it.
	Refresh bool
}

// Token returns a live access token for the named connection, refreshing it
// when it is about to end. At most one process refreshes a connection at a
// time, and a token is returned only after it is durable.
//
// It returns errors that wrap ErrNotConnected, ErrNeedsConnect, ErrTemporary,
// ErrClient or ErrRefused, *ChangedError, *LockedError, or the store's.
func (s *Source) Token(ctx context.Context, name string, o Option) (Access, error) {
	key := Key{Project: s.Project, Name: name}
	if a, ok := s.Store.(interface{ Ahead(context.Context, Key) }); ok {
		a.Ahead(ctx, key)
	}
	if guard, seen := s.foresee(ctx, key, o); guard != nil {
		defer guard.Unlock()
		r := &renewal{Source: s, key: key, guard: guard, opt: o}
		return r.run(ctx, seen)
	}
	rec, err := s.Store.Read(ctx, key)
	switch {
	case errors.Is(err, ErrNotStored):
		if !s.Store.Pending(key) {
			return Access{}, definite(ErrNotConnected, nil, "%q is not connected", name)
		}
		rec = nil // a login that was interrupted after the issuer's answer was sealed
	case err != nil:
		return Access{}, fmt.Errorf("read the connection %q: %w", name, err)
	}
	if rec != nil {
		if err := s.checkPins(name, &rec.Header); err != nil {
			return Access{}, err
		}
		if s.good(rec, o) {
			if s.Store.Pending(key) {
				if rec, err = s.recoverAside(ctx, key, rec); err != nil {
					return Access{}, err
				}
			}
			return s.access(rec, false), nil
		}
		// A login that was interrupted after its answer was sealed may have
		// what this record lacks: the lock has to be taken to see.
		if !s.Store.Pending(key) {
			if access, err, done := s.settled(name, rec, o); done {
				return access, err
			}
		}
	}
	return s.renew(ctx, key, rec, o)
}

// foresee looks at the clear header, and when the token has to be renewed and
// nobody else is about to, it takes the lock at once and begins to load what the
// request will need, while the keychain is read. It returns the lock and the
// record as it was seen, without its body, or nil in all other cases. The header
// is not to be trusted: it decides about the order of steps only, and whoever
// holds the lock reads the record anew and in full.
func (s *Source) foresee(ctx context.Context, key Key, o Option) (Guard, *Record) {
	w, ok := s.Issuer.(warmer)
	if !ok {
		return nil, nil
	}
	h, err := s.Store.Header(key)
	if err != nil || h.State != StateOK || !h.CanRenew() || s.lasting(h, o) {
		return nil, nil
	}
	guard, err := s.Store.Lock(ctx, key, 0)
	if err != nil {
		return nil, nil
	}
	w.Prepare()
	return guard, &Record{Header: *h}
}

// settled answers for records that no token request can help; done is false for
// all others.
func (s *Source) settled(name string, rec *Record, o Option) (_ Access, err error, done bool) { //nolint:revive,staticcheck // done qualifies both
	switch {
	case !rec.CanRenew():
		access, err := s.withoutRenewal(name, rec, o)
		return access, err, true
	case o.Refresh && afterEnd(&rec.Header) && rec.State == StateOK && rec.ExpiryKnown && s.live(rec):
		return Access{}, definite(ErrTemporary, nil, "refresh %q: %s renews a token only after it has ended, which is at %s; until then there is no other",
			name, rec.Provider, rec.ExpiresAt().UTC().Format(time.RFC3339)), true
	case rec.State != StateNeedsConnect:
		return Access{}, nil, false
	case s.live(rec) && !o.Refresh:
		return s.access(rec, false), nil, true
	}
	return Access{}, needsConnect(name, rec), true
}

// withoutRenewal answers for connections that hold nothing to renew with:
// static keys, tokens without expiry, and expiring tokens without a refresh
// token.
func (s *Source) withoutRenewal(name string, rec *Record, o Option) (Access, error) {
	switch {
	case o.Refresh:
		return Access{}, definite(ErrNeedsConnect, nil, "%q has no refresh token, and its access token was refused", name)
	case !rec.ExpiryKnown || s.Now().Before(rec.ExpiresAt()): // a clock that went back is no reason to give up the only token
		return s.access(rec, false), nil
	default:
		return Access{}, definite(ErrNeedsConnect, nil, "the access token of %q has expired, and there is no refresh token", name)
	}
}

func needsConnect(name string, rec *Record) error {
	reason := rec.StateReason
	if reason == "" {
		reason = "the issuer no longer accepts the grant"
	}
	return definite(ErrNeedsConnect, nil, "get a token for %q: %s", name, reason)
}

// margin is how long before its end a token is renewed.
func margin(ttl time.Duration) time.Duration {
	return min(max(time.Minute, ttl/10), 5*time.Minute)
}

// good reports whether the stored token may be handed out as it is.
func (s *Source) good(rec *Record, o Option) bool {
	return !rec.Body.Access.IsZero() && s.lasting(&rec.Header, o)
}

// lasting reports whether the token that a header is about lives long enough.
func (s *Source) lasting(h *Header, o Option) bool {
	if o.Refresh {
		return false
	}
	if !h.ExpiryKnown {
		return true
	}
	if afterEnd(h) {
		return s.remaining(h) > 0
	}
	return s.remaining(h) > wanted(time.Duration(h.TTL)*time.Second, max(o.MinTTL, early(h)))
}

// early is how long before its end a token is renewed that only renews itself
// while it is alive; at most half of its life, so that a short one is not renewed
// by every command.
func early(h *Header) time.Duration {
	if h.Pins.Token.Renewal == nil {
		return 0
	}
	before := time.Duration(h.Pins.Token.Renewal.Before) * time.Second
	return min(before, time.Duration(h.TTL)*time.Second/2)
}

// afterEnd reports whether the provider renews a token only once it has ended:
// until then the stored one is the best that there is, however little it lives.
func afterEnd(h *Header) bool {
	renewal := h.Pins.Token.Renewal
	return renewal != nil && renewal.AfterEnd && !h.ByClient()
}

// wanted is how much life a token must have left to be handed out. What a
// provider does not give cannot be had by asking again: of tokens that are too
// short for what is asked, the first half of the life counts as good, so that a
// hundred commands do not make a hundred requests.
func wanted(ttl, minTTL time.Duration) time.Duration {
	early := min(margin(ttl), ttl/2)
	if minTTL > ttl-ttl/10 {
		return early
	}
	return max(early, minTTL)
}

// FreshUntil returns the moment from which on Source.Token would renew the token
// without being asked for more, or the zero time when no expiry is known.
func (a Access) FreshUntil() time.Time {
	if a.ExpiresAt.IsZero() || afterEnd(&a.Header) {
		return a.ExpiresAt
	}
	return a.ExpiresAt.Add(-wanted(time.Duration(a.Header.TTL)*time.Second, 0))
}

// live reports whether the token has not ended yet.
func (s *Source) live(rec *Record) bool {
	if rec.Body.Access.IsZero() {
		return false
	}
	return !rec.ExpiryKnown || s.remaining(&rec.Header) > 0
}

// remaining trusts the wall clock only as far as it agrees with the record: a
// clock that stands before the moment when the token arrived says nothing
// about its age, so the token then counts as ended.
func (s *Source) remaining(h *Header) time.Duration {
	now := s.Now()
	if now.Before(h.ReceivedAt.Add(-backwardsClock)) {
		return 0
	}
	return h.ExpiresAt().Sub(now)
}

func (s *Source) access(rec *Record, refreshed bool) Access {
	return Access{
		Name:      rec.Name,
		Token:     rec.Body.Access,
		ExpiresAt: rec.ExpiresAt(),
		Header:    rec.Header,
		Kept:      rec.Body.Kept,
		Refreshed: refreshed,
	}
}

// checkPins refuses to go on when the provider's definition differs from what
// the person approved at connect. The digest comparison costs no parsing.
func (s *Source) checkPins(name string, h *Header) error {
	if s.Definitions == nil || h.ProviderDigest == "" {
		return nil // an issuer URL: there is no definition but the pins
	}
	digest, err := s.Definitions.Digest(h.Provider)
	if err != nil {
		var unknown *providers.UnknownError
		if errors.As(err, &unknown) {
			return nil // a removed definition leads nowhere new
		}
		return fmt.Errorf("check the definition of %s: %w", h.Provider, err)
	}
	if digest == h.ProviderDigest {
		return nil
	}
	def, err := s.Definitions.Get(h.Provider)
	if err != nil {
		return fmt.Errorf("check the definition of %s: %w", h.Provider, err)
	}
	if def.NeedsDiscovery() {
		if def.Issuer == h.Pins.Issuer {
			return nil
		}
		return &ChangedError{Name: name, Provider: h.Provider, Changes: []providers.Change{{Field: "issuer", Was: h.Pins.Issuer, Is: def.Issuer}}}
	}
	now, err := def.Pin(providers.PinOptions{
		Flow:        h.Flow,
		Variables:   h.Pins.Variables,
		ClientID:    h.Pins.ClientID,
		HasSecret:   h.Pins.AuthMethod != oauth.AuthNone,
		RedirectURI: h.Pins.RedirectURI,
	})
	if err != nil {
		return &ChangedError{Name: name, Provider: h.Provider, Changes: []providers.Change{{Field: "definition", Was: "as approved", Is: err.Error()}}}
	}
	if changes := h.Pins.Changes(now); len(changes) > 0 {
		return &ChangedError{Name: name, Provider: h.Provider, Changes: changes}
	}
	return nil
}

func (s *Source) secretFor(ctx context.Context, h *Header) (secret.Text, error) {
	switch h.Pins.AuthMethod {
	case oauth.AuthNone, oauth.AuthOmitted, "":
		if h.Flow != FlowJWTBearer {
			return secret.Text{}, nil
		}
	}
	if s.ClientSecret != nil {
		return s.ClientSecret(ctx, h)
	}
	return StoredSecret(ctx, s.Store, s.Project, h)
}

// StoredSecret reads the client secret of a connection from the registrations
// of its store. A registration of another client id, endpoint or method is
// never combined with the connection.
func StoredSecret(ctx context.Context, c Clients, project string, h *Header) (secret.Text, error) {
	r, err := c.Registration(ClientName(h.Provider, h.Flow), project)
	if errors.Is(err, ErrNotStored) {
		return secret.Text{}, definite(ErrClient, nil, "no client secret is stored for %s", h.Provider)
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the client of %s: %w", h.Provider, err)
	}
	if r.ClientID != h.Pins.ClientID {
		return secret.Text{}, definite(ErrClient, nil, "the client stored for %s is %s, but the connection was made with %s", h.Provider, oauth.Clean(r.ClientID), oauth.Clean(h.Pins.ClientID))
	}
	if r.TokenEndpoint != h.Pins.TokenEndpoint {
		return secret.Text{}, definite(ErrClient, nil, "the client secret stored for %s belongs to %s, not to %s", h.Provider, r.TokenEndpoint, h.Pins.TokenEndpoint)
	}
	if r.AuthMethod != oauth.AuthNone && r.AuthMethod != h.Pins.AuthMethod { // none: registered for a flow that needs no secret
		return secret.Text{}, definite(ErrClient, nil, "the client secret stored for %s is for %s, not for %s", h.Provider, r.AuthMethod, h.Pins.AuthMethod)
	}
	t, err := c.ClientSecret(ctx, r)
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the client secret of %s: %w", h.Provider, err)
	}
	return t, nil
}

func (s *Source) warn(format string, a ...any) {
	if s.Warn != nil {
		s.Warn(format, a...)
	}
}

func (s *Source) lockWait() time.Duration {
	if s.LockWait > 0 {
		return s.LockWait
	}
	return 35 * time.Second
}

func tokenHash(t secret.Text) string {
	if t.IsZero() {
		return ""
	}
	sum := sha256.Sum256([]byte(t.Reveal()))
	return hex.EncodeToString(sum[:])
}
