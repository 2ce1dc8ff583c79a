//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// fill puts n copies of the connection "bench" of the personal project into its
// store, under the names bench-0 and so on: in a second what n logins would take
// minutes for.
func fill(state string, n int) error {
	dir := filepath.Join(state, "stores")
	metas, err := store.List(dir)
	if err != nil || len(metas) != 1 {
		return fmt.Errorf("one store expected below %s: %d, %w", dir, len(metas), err)
	}
	s, err := store.Open(store.Options{
		Dir:        dir,
		Keychain:   keyring.New(keyring.Options{Budget: -1}),
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
		Key:        func() (secret.Text, error) { return secret.New(os.Getenv("APIAUTH_STORE_KEY")), nil },
	}, metas[0].ID)
	if err != nil {
		return err
	}
	ctx := context.Background()
	const project = "personal"
	rec, err := s.Read(ctx, connection.Key{Project: project, Name: "bench"})
	if err != nil {
		return err
	}
	for i := range n {
		if err := put(ctx, s, connection.Key{Project: project, Name: fmt.Sprintf("bench-%d", i)}, *rec); err != nil {
			return err
		}
	}
	return nil
}

func put(ctx context.Context, s *store.Store, key connection.Key, rec connection.Record) error {
	guard, err := s.Lock(ctx, key, time.Second)
	if err != nil {
		return err
	}
	defer guard.Unlock()
	rec.Name, rec.Generation = key.Name, 1
	if err := guard.Commit(ctx, &rec); err != nil {
		return err
	}
	return guard.SetGrant(ctx, connection.Grant{Generation: rec.GrantGeneration, Refresh: secret.New("bench-refresh")})
}
