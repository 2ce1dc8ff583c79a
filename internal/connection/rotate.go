package connection

import (
	"context"
	"errors"
	"fmt"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/secret"
)

// nextFor finds the next secret of a connection's client, which is tried before
// the present one; zero when there is none. One that cannot be read is told of
// and left alone: the present one may still do.
func (s *Source) nextFor(ctx context.Context, h *Header) secret.Text {
	switch method := h.Pins.AuthMethod; {
	case method == oauth.AuthNone, method == oauth.AuthOmitted, method == "", oauth.UsesKey(method):
		return secret.Text{} // no secret is used
	}
	if renewal := h.Pins.Token.Renewal; h.Pins.JWTBearer != nil || renewal != nil && renewal.OmitClient {
		return secret.Text{} // nor here: an answer would prove nothing
	}
	find := s.NextSecret
	if find == nil {
		find = func(ctx context.Context, h *Header) (secret.Text, error) {
			return StoredNext(ctx, s.Store, s.Project, h)
		}
	}
	t, err := find(ctx, h)
	if err != nil {
		s.warn("the next client secret of %s was left alone: %v", h.Provider, err)
		return secret.Text{}
	}
	return t
}

// StoredNext reads the next client secret of a connection, under the rules of
// StoredSecret; zero when there is none.
func StoredNext(ctx context.Context, c Clients, project string, h *Header) (secret.Text, error) {
	r, err := c.Registration(h.Provider, project)
	if errors.Is(err, ErrNotStored) {
		return secret.Text{}, nil
	}
	if err != nil {
		return secret.Text{}, fmt.Errorf("read the client of %s: %w", h.Provider, err)
	}
	if r.NextSetAt.IsZero() || r.ClientID != h.Pins.ClientID || r.TokenEndpoint != h.Pins.TokenEndpoint || r.AuthMethod != h.Pins.AuthMethod {
		return secret.Text{}, nil
	}
	return c.NextSecret(ctx, r)
}

// promoteNext makes the next secret of a client the present one: the issuer has
// accepted it, and what it gave is durable. A failure costs nothing: the next
// secret is tried first again.
func (s *Source) promoteNext(ctx context.Context, h *Header, used secret.Text) {
	r, err := s.Store.Registration(h.Provider, s.Project)
	if err == nil {
		err = s.Store.PromoteNext(ctx, r, used)
	}
	if err != nil {
		s.warn("%s accepted the next client secret, but it could not be put in the place of the present one: %v", h.Provider, err)
	}
}

// clientRefused reports an answer by which the issuer did not accept the client
// itself. It authenticates the client before it looks at a grant (RFC 6749
// sections 3.2.1 and 5.2), so nothing has been used up.
func clientRefused(ans oauth.Answer, err error) bool {
	switch oauth.ErrorCode(err) {
	case "invalid_client", "incorrect_client_credentials":
		return true
	case "":
		return ans.Status == 401
	}
	return false
}

// sendLogin sends the request of a login once. Where it uses nothing up, it
// carries the next client secret, and when that is refused it is sent once more
// with the present one. A code is sent at most once, and so with the present one
// alone. sendLogin returns the secret that was accepted and is to be promoted;
// zero for none.
func (s *Source) sendLogin(ctx context.Context, guard Guard, l *Login) (oauth.Answer, secret.Text, error) {
	next := s.nextOfLogin(ctx, l)
	req := *l.Request
	reusable := l.Draft.ByClient() || l.Draft.Flow == FlowImport
	if reusable && !next.IsZero() {
		req.Client.Secret = next
	}
	ans, err := s.sendOnce(ctx, guard, l, req)
	if err != nil || next.IsZero() {
		return ans, secret.Text{}, err
	}
	_, refused := oauth.ParseToken(ans, rules(&l.Draft.Pins))
	switch {
	case refused == nil && reusable:
		if !l.Client.Secret.IsZero() {
			l.Client.Secret = next
		}
		return ans, next, nil
	case clientRefused(ans, refused) && reusable:
		s.warnNextRefused(&l.Draft)
		ans, err = s.sendOnce(ctx, guard, l, *l.Request)
	case clientRefused(ans, refused):
		s.warn("a code is sent once, with the present client secret; 'apiauth client set %s --promote' puts the next one in its place", l.Draft.Provider)
	}
	return ans, secret.Text{}, err
}

// nextOfLogin finds the next client secret for a login. A secret that a person
// gave for this login alone has none.
func (s *Source) nextOfLogin(ctx context.Context, l *Login) secret.Text {
	given := l.Request.Client.Secret
	if given.IsZero() || l.Request.Client.Method != l.Draft.Pins.AuthMethod {
		return secret.Text{}
	}
	next := s.nextFor(ctx, &l.Draft)
	if next.IsZero() {
		return secret.Text{}
	}
	if present, err := s.secretFor(ctx, &l.Draft); err != nil || !present.Equal(given) {
		return secret.Text{}
	}
	return next
}

// warnNextRefused tells that the issuer does not know the next secret yet.
func (s *Source) warnNextRefused(h *Header) {
	s.warn("%s refused the next client secret; the present one was used", h.Provider)
}
