package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// kept is one secret that is kept on this machine.
type kept struct {
	leak.Secret
	source *connection.Source
	name   string // the connection's; empty for a client secret
	// header is the connection's, registration the client's: one of them is set.
	header       *connection.Header
	registration *connection.Registration
}

// The kinds of secrets, for people.
const (
	kindAccess  = "access token"
	kindRefresh = "refresh token"
	kindClient  = "client secret"
)

// keptSecrets lists the tokens and client secrets that are stored for the
// project, or for all of them, without asking an issuer for anything. What cannot
// be opened is an error: a search without it would prove nothing.
func (ws *workspace) keptSecrets(ctx context.Context, all bool) ([]kept, error) {
	var list []kept
	if all {
		err := ws.eachStore(func(s *store.Store) error {
			projects, err := s.Projects()
			if err != nil {
				return err
			}
			for _, id := range projects {
				more, err := ws.keptOf(ctx, s, id)
				if err != nil {
					return err
				}
				list = append(list, more...)
			}
			more, err := ws.keptClients(ctx, s, nil)
			list = append(list, more...)
			return err
		})
		return list, err
	}
	s, err := ws.store()
	if errors.Is(err, errNoStore) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if list, err = ws.keptOf(ctx, s, ws.projectID); err != nil {
		return nil, err
	}
	more, err := ws.keptClients(ctx, s, &ws.projectID)
	return append(list, more...), err
}

// keptOf lists the secrets of a project's connections.
func (ws *workspace) keptOf(ctx context.Context, s *store.Store, id string) ([]kept, error) {
	src, err := ws.sourceOf(s, id)
	if err != nil {
		return nil, err
	}
	names, err := s.Names(id)
	if err != nil {
		return nil, err
	}
	var list []kept
	for _, name := range names {
		rec, err := src.Stored(ctx, name)
		if errors.Is(err, connection.ErrNotConnected) {
			continue // disconnected meanwhile
		}
		if err != nil {
			return nil, err
		}
		shown := name
		if id != ws.projectID {
			shown = fmt.Sprintf("%s in %s", name, ws.projectLabel(id))
		}
		add := func(kind string, value secret.Text) {
			if !value.IsZero() {
				list = append(list, kept{leak.Secret{Connection: shown, Kind: kind, Value: value}, src, name, &rec.Header, nil})
			}
		}
		access := kindAccess
		if rec.Flow == connection.FlowKey {
			access = "static key"
		}
		add(access, rec.Body.Access)
		add(kindRefresh, rec.Body.Refresh)
		add(kindRefresh, rec.Body.Spare)
		fromCI, err := ws.variableSecret(&rec.Pins)
		if err != nil {
			return nil, err
		}
		add(kindClient, fromCI)
	}
	return list, nil
}

// projectLabel is what another project is called.
func (ws *workspace) projectLabel(id string) string {
	if b, err := ws.registry.Get(id); err == nil && b.Label != "" {
		return "project " + oauth.Clean(b.Label)
	}
	if id == project.Personal {
		return "the personal project"
	}
	return "project " + id
}

// keptClients lists the client secrets that are for all projects, and those for
// one, or for any when it is nil.
func (ws *workspace) keptClients(ctx context.Context, s *store.Store, of *string) ([]kept, error) {
	registrations, err := s.Registrations()
	if err != nil {
		return nil, err
	}
	var list []kept
	for _, r := range registrations {
		if of != nil && r.Project != "" && r.Project != *of {
			continue
		}
		t, err := s.ClientSecret(ctx, &r)
		if err != nil {
			return nil, fmt.Errorf("read the client of %s: %w", oauth.Clean(r.Provider), err)
		}
		next, err := s.NextSecret(ctx, &r)
		if err != nil {
			return nil, fmt.Errorf("read the client of %s: %w", oauth.Clean(r.Provider), err)
		}
		for _, t := range []secret.Text{t, next} {
			if !t.IsZero() {
				list = append(list, kept{Secret: leak.Secret{Connection: r.Provider, Kind: kindClient, Value: t}, registration: &r})
			}
		}
	}
	return list, nil
}
