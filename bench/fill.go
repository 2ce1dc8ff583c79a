//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/apiauth/apiauth/internal/audit"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/internal/store"
)

// fill puts n copies of the connection "bench" of the personal project into its
// store, under the names bench-0 and so on: in a second what n logins would take
// minutes for.
func fill(state string, n int) error {
	s, err := onlyStore(state)
	if err != nil {
		return err
	}
	ctx := context.Background()
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

const project = "personal"

// onlyStore opens the one store of a state folder.
func onlyStore(state string) (*store.Store, error) {
	dir := filepath.Join(state, "stores")
	metas, err := store.List(dir)
	if err != nil || len(metas) != 1 {
		return nil, fmt.Errorf("one store expected below %s: %d, %w", dir, len(metas), err)
	}
	return store.Open(store.Options{
		Dir:        dir,
		Keychain:   keyring.New(keyring.Options{Budget: -1}),
		IsNotFound: func(err error) bool { return errors.Is(err, keyring.ErrNotFound) },
		Key:        func() (secret.Text, error) { return secret.New(os.Getenv("APIAUTH_STORE_KEY")), nil },
	}, metas[0].ID)
}

// fillLog writes n lines into the audit log of each connection of the personal
// project, as hand-outs of the last days by a few programs.
func fillLog(state string, n int) error {
	s, err := onlyStore(state)
	if err != nil {
		return err
	}
	names, err := s.Names(project)
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, name := range names {
		key := connection.Key{Project: project, Name: name}
		for written := 0; written < n; {
			log, err := s.AuditLog(ctx, key)
			if err != nil {
				return err
			}
			lines := make([]audit.Entry, min(1000, n-written))
			for i := range lines {
				written++
				lines[i] = audit.Entry{
					Time: time.Now().Add(time.Duration(written-n) * time.Second), Event: audit.EventToken, Purpose: "token",
					Caller: fmt.Sprintf("/usr/bin/program-%d", written%7), Folder: "/home/ada/src/rocket",
					Print: fmt.Sprintf("%016x", written/300),
				}
			}
			if _, err := log.Append(audit.Rules{}, lines...); err != nil {
				return err
			}
			if err := s.Anchor(ctx, key); err != nil {
				return err
			}
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
