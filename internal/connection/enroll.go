package connection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Login is an obtained grant that is not stored yet.
type Login struct {
	// Draft holds Name, Provider, ProviderDigest, Flow, ScopesAsked and Pins.
	Draft Header
	// Exactly one of the following is set: a request to be sent once under the
	// journal (code exchange, client credentials, an imported refresh token),
	// an answer that has already come (device), or a static key.
	Request *oauth.TokenRequest
	Answer  *oauth.Answer
	Key     secret.Text
	// Client authenticates a second request, where the provider exchanges the
	// token of a login for a long-lived one. Zero: the stored client.
	Client oauth.Client
	// Imported is the refresh token inside Request that stays valid when the
	// answer brings no other one.
	Imported secret.Text
	// Callback holds parameters of the callback to keep.
	Callback map[string]string
	// Confirm asks whether another account than before may take the
	// connection over. It runs without the lock. Nil means no.
	Confirm func(ctx context.Context, was, is Account) bool
}

// Enroll stores a login as a connection: it takes the lock, sends the request
// once if there is one, makes the raw answer durable before it is parsed, asks
// the provider who signed in, and commits above everything that is stored, so
// that the last login wins. Until then an earlier grant of the connection stays
// untouched.
//
// It returns errors that wrap ErrTemporary, ErrClient, ErrRefused or
// ErrAccountDeclined, or the store's.
func (s *Source) Enroll(ctx context.Context, l Login) (*Record, error) {
	key := Key{Project: s.Project, Name: l.Draft.Name}
	next, guard, accepted, err := s.enrollLocked(ctx, key, l)
	if err != nil {
		return nil, err
	}
	defer func() { guard.Unlock() }()

	cur, err := guard.Read(ctx)
	if err == nil && otherAccount(cur.Account, next.Account) {
		// Nothing waits for a person under the lock, and nobody may promote
		// what was not agreed to.
		if err := guard.Drop(); err != nil {
			return nil, err
		}
		guard.Unlock()
		if l.Confirm == nil || !l.Confirm(ctx, cur.Account, next.Account) {
			return nil, definite(ErrAccountDeclined, nil, "%q belongs to %s, but %s signed in", key.Name, cur.Account.describe(), next.Account.describe())
		}
		if guard, err = s.Store.Lock(context.WithoutCancel(ctx), key, s.lockWait()); err != nil {
			guard = unlocked{}
			return nil, fmt.Errorf("store the connection %q: %w", key.Name, err)
		}
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.place(ctx, guard, next); err != nil {
		return nil, fmt.Errorf("store the connection %q: %w", key.Name, err)
	}
	next = s.follow(ctx, guard, next)
	if !accepted.IsZero() {
		s.promoteNext(ctx, &next.Header, accepted)
	}
	return next, nil
}

// unlocked stands in for a guard that could not be taken again.
type unlocked struct{ Guard }

func (unlocked) Unlock() {}

func (a Account) describe() string {
	switch {
	case a.Label != "":
		return a.Label
	case a.Subject != "":
		return a.Subject
	}
	return "an unnamed account"
}

// enrollLocked returns the record to be, with the lock held, and the next client
// secret when the issuer accepted that.
func (s *Source) enrollLocked(ctx context.Context, key Key, l Login) (_ *Record, _ Guard, accepted secret.Text, err error) {
	if l.Answer != nil {
		// The issuer has given already: there is no way back.
		ctx = context.WithoutCancel(ctx)
	} else if l.Request == nil && l.Key.IsZero() {
		return nil, nil, accepted, fmt.Errorf("store the connection %q: the login holds neither a request nor an answer nor a key", key.Name)
	}
	guard, err := s.Store.Lock(ctx, key, s.lockWait())
	if err != nil {
		return nil, nil, accepted, fmt.Errorf("store the connection %q: %w", key.Name, err)
	}
	defer func() {
		if err != nil {
			guard.Unlock()
		}
	}()
	r := &renewal{Source: s, key: key, guard: guard}
	cur, err := guard.Read(ctx)
	switch {
	case errors.Is(err, ErrNotStored):
		cur = nil
	case errors.Is(err, ErrCorrupt):
		s.warn("the stored record of %q is damaged and will be replaced", key.Name)
		cur = nil
	case err != nil:
		return nil, nil, accepted, fmt.Errorf("read the connection %q: %w", key.Name, err)
	}
	// An answer that an earlier process sealed must not be written over by an
	// attempt that may still fail.
	if cur, _, err = r.recover(ctx, cur); err != nil {
		return nil, nil, accepted, fmt.Errorf("complete what was interrupted for %q: %w", key.Name, err)
	}

	if !l.Key.IsZero() {
		next := &Record{Header: l.Draft}
		next.State = StateOK
		next.ReceivedAt = s.Now().Round(0)
		next.ConnectedAt = next.ReceivedAt
		next.Body.Access = l.Key
		next.Body.Kept = l.Callback
		if err := next.Pins.BindAPI(l.Callback); err != nil {
			return nil, nil, accepted, definite(ErrRefused, err, "bind %q to its API", key.Name)
		}
		s.identify(ctx, next, l.Client)
		return next, guard, accepted, nil
	}

	generation, _ := guard.Next(ctx)
	in := Intent{Kind: IntentExchange, Target: generation, PID: s.PID, Time: s.Now(), Draft: &l.Draft, Kept: l.Callback}
	if err := guard.Begin(ctx, in); err != nil {
		return nil, nil, accepted, fmt.Errorf("prepare to store %q, nothing was sent: %w", key.Name, err)
	}
	var ans oauth.Answer
	if l.Answer != nil {
		ans = *l.Answer
		if err := guard.Seal(ctx, encodeAnswer(ans, secret.Text{})); err != nil {
			s.warn("the issuer's answer could not be written ahead: %v", err)
		}
	} else if ans, accepted, err = s.sendLogin(ctx, guard, &l); err != nil {
		_ = guard.Drop()
		kind := ErrTemporary
		switch {
		case errors.Is(err, oauth.ErrCertificate):
			kind = ErrClient
		case errors.Is(err, oauth.ErrRefused):
			kind = ErrRefused
		}
		return nil, nil, accepted, definite(kind, err, "exchange the login for tokens of %q", key.Name)
	}
	next, err := r.granted(context.WithoutCancel(ctx), cur, l.Draft, l.Callback, ans, l.Client)
	if err != nil {
		_ = guard.Drop()
		return nil, nil, accepted, exchangeError(key.Name, err)
	}
	keepImported(next, l.Imported)
	return next, guard, accepted, nil
}

// sendOnce sends the request of a login, and a second time only where it uses
// nothing up and the first failed because our clock is wrong.
func (s *Source) sendOnce(ctx context.Context, guard Guard, l *Login, req oauth.TokenRequest) (oauth.Answer, error) {
	ans, err := sendSealed(ctx, s, guard, req, l.Imported)
	if err != nil {
		return ans, err
	}
	if _, refused := oauth.ParseToken(ans, rules(&l.Draft.Pins)); req.Skewed(ans, refused) {
		s.warnClock(ans)
		return sendSealed(ctx, s, guard, req, l.Imported)
	}
	return ans, nil
}

func exchangeError(name string, err error) error {
	switch code := oauth.ErrorCode(err); {
	case errors.Is(err, ErrTemporary):
		return err
	case code == "invalid_client" || code == "unauthorized_client" || code == "incorrect_client_credentials":
		return definite(ErrClient, err, "connect %q", name)
	case oauth.IsTemporary(err):
		return definite(ErrTemporary, err, "connect %q", name)
	default:
		return definite(ErrRefused, err, "connect %q", name)
	}
}

// granted makes a record of a first token response. It does not store it.
func (s *Source) granted(ctx context.Context, cur *Record, draft Header, callback map[string]string, ans oauth.Answer, c oauth.Client) (*Record, error) {
	tok, err := oauth.ParseToken(ans, rules(&draft.Pins))
	if err != nil {
		return nil, err
	}
	tok, ans = s.upgrade(ctx, &draft, tok, ans, c)
	next := &Record{Header: draft}
	next.State = StateOK
	next.Body.Kept = maps.Clone(callback)
	if told, there := callback[providers.CallbackScopes]; there && !tok.ScopesKnown { // none at all, when it is empty
		tok.Scopes, tok.ScopesKnown = oauth.SplitScopes(told, draft.Pins.Token.ScopeSeparator), true
	}
	delete(next.Body.Kept, providers.CallbackScopes)
	next.HasRefresh = !tok.Refresh.IsZero() && !draft.ByClient()
	if next.HasRefresh {
		next.Body.Refresh = tok.Refresh
	}
	s.apply(next, tok, ans)
	if !tok.ScopesKnown {
		// RFC 6749 section 5.1: without a scope the grant equals the request;
		// providers that never name scopes are marked by an empty request.
		next.ScopesGranted, next.ScopesKnown = draft.ScopesAsked, len(draft.ScopesAsked) > 0
	}
	next.ConnectedAt = next.ReceivedAt
	// Nobody consented to what a client is given, and a person who brought the
	// grant may have said when it ends.
	if d := draft.Pins.Token.GrantLifetime; d > 0 && !draft.ByClient() && draft.GrantDeadline.IsZero() {
		next.GrantDeadline = next.ConnectedAt.Add(time.Duration(d) * time.Second)
	}
	if err := s.chooseSite(ctx, cur, next); err != nil {
		return nil, err
	}
	if err := next.Pins.BindAPI(next.Body.Kept); err != nil {
		return nil, definite(ErrRefused, err, "bind %q to its API", draft.Name)
	}
	s.identify(ctx, next, c)
	if cur != nil && next.Account == (Account{}) {
		next.Account = cur.Account // the provider did not say; nothing speaks for a change
	}
	return next, nil
}

// identify asks the provider who signed in, as the client of the login, which need
// not be stored yet. Not knowing is no failure.
func (s *Source) identify(ctx context.Context, rec *Record, c oauth.Client) {
	switch j := rec.Pins.JWTBearer; {
	case rec.Flow == FlowClientCredentials:
		rec.Account = Account{Label: "(the client itself)"}
		return
	case rec.Flow == FlowJWTBearer && j != nil:
		who := oauth.Clean(cmp.Or(j.Subject, rec.Pins.ClientID))
		rec.Account = Account{Subject: who, Label: who}
		return
	}
	ask := s.Identify
	if rec.Pins.APICertificate && !c.Secret.IsZero() {
		ask = func(ctx context.Context, rec *Record) (Account, error) { return s.identifyAs(ctx, rec, c) }
	}
	account, err := ask(ctx, rec)
	if err != nil {
		s.warn("the provider did not say who signed in: %v", err)
		return
	}
	rec.Account = account
}

// Identify asks the provider whose token rec holds. The zero Account means that
// the provider has no way to ask.
func (s *Source) Identify(ctx context.Context, rec *Record) (Account, error) {
	c, err := s.APIClient(ctx, &rec.Header)
	if err != nil {
		return Account{}, err
	}
	return s.identifyAs(ctx, rec, c)
}

// APIClient returns the client whose certificate requests to the API present; zero
// where they present none, or nothing is at hand to find it with.
func (s *Source) APIClient(ctx context.Context, h *Header) (oauth.Client, error) {
	if !h.Pins.APICertificate || s.ClientSecret == nil && s.Store == nil {
		return oauth.Client{}, nil
	}
	t, err := s.secretFor(ctx, h)
	if err != nil {
		return oauth.Client{}, err
	}
	return Client(&h.Pins, t), nil
}

func (s *Source) identifyAs(ctx context.Context, rec *Record, c oauth.Client) (Account, error) {
	p := &rec.Pins
	if !p.APICertificate {
		c = oauth.Client{}
	}
	if p.Identity.From == "token" {
		return Account{Subject: oauth.Clean(rec.Body.Kept[p.Identity.Subject]), Label: oauth.Clean(rec.Body.Kept[p.Identity.Label])}, nil
	}
	if p.UserinfoEndpoint == "" {
		return Account{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	a, err := s.Issuer.Identity(ctx, oauth.IdentityRequest{
		Endpoint:              p.UserinfoEndpoint,
		Access:                rec.Body.Access,
		In:                    p.APIAuth.In,
		Name:                  p.APIAuth.Name,
		Prefix:                p.APIAuth.Prefix,
		Headers:               p.Identity.Headers,
		Query:                 p.Identity.Query,
		Subject:               p.Identity.Subject,
		Label:                 p.Identity.Label,
		AllowInsecureLoopback: p.AllowInsecureLoopback,
		Client:                c,
	})
	if err != nil {
		return Account{}, err
	}
	return Account{Subject: a.Subject, Label: a.Label}, nil
}

// place numbers a new login above everything that is stored and commits it.
func (s *Source) place(ctx context.Context, guard Guard, rec *Record) error {
	rec.Generation, rec.GrantGeneration = guard.Next(ctx)
	rec.Format = Format
	if rec.HasRefresh {
		s.mark(guard, rec)
	}
	return guard.Commit(ctx, rec)
}
