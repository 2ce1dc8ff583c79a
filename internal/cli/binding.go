package cli

import (
	"errors"
	"path/filepath"

	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/store"
)

// bind gives an unbound folder a new project, for a person who connects in it.
// undo takes that back when nothing came of the login, and of no other one that
// found the folder bound.
func (ws *workspace) bind() (undo func(), err error) {
	if ws.unbound == nil {
		return func() {}, nil
	}
	id, err := ws.registry.Bind(ws.manifest.Dir(), ws.newLabel())
	if err != nil {
		return nil, err
	}
	reason := ws.unbound
	ws.projectID, ws.unbound = id, nil
	return func() {
		if !ws.holdsGrants(id) {
			if err := ws.registry.Remove(id); err != nil {
				ws.warn("%v", err)
			}
		}
		ws.projectID, ws.unbound, ws.opened = "", reason, nil
	}, nil
}

// newLabel is what a project is called that begins here.
func (ws *workspace) newLabel() string {
	if ws.manifest.Project != "" {
		return ws.manifest.Project
	}
	return filepath.Base(ws.manifest.Dir())
}

// holdsGrants reports whether a project has connections, or cannot be proved to
// have none.
func (ws *workspace) holdsGrants(id string) bool {
	recorded, err := ws.recordedStore(id)
	if err != nil || recorded == "" {
		return err != nil
	}
	s, err := store.Open(ws.storeOptions(), recorded)
	if err != nil {
		return true
	}
	names, err := s.Names(id)
	return err != nil || len(names) > 0
}

// recordStore remembers which store a project was given at its first connect.
// undo takes the choice back when nothing came of the login, and of no other one.
func (ws *workspace) recordStore(s *store.Store) (undo func(), err error) {
	if err := ws.keepBinding(s); err != nil {
		return nil, err
	}
	id := ws.projectID
	recorded, err := ws.recordedStore(id)
	if err != nil || recorded == s.ID() {
		return func() {}, err
	}
	if recorded != "" {
		return nil, failf(exitStore, "run it again", "the connections of %s were moved to another store meanwhile", ws.label())
	}
	var gone *project.UnknownProjectError
	if err = ws.registry.SetStore(id, s.ID()); errors.As(err, &gone) {
		err = ws.keepBinding(s) // taken away just now
	}
	if err != nil {
		return nil, err
	}
	return func() {
		if ws.holdsGrants(id) {
			return
		}
		if err := ws.registry.SetStore(id, recorded); err != nil && !errors.As(err, &gone) {
			ws.warn("%v", err)
		}
		ws.opened = nil
	}, nil
}

// keepBinding puts back the project that this login found or made, when another
// one that was broken off has taken it away.
func (ws *workspace) keepBinding(s *store.Store) error {
	if ws.manifest == nil {
		return nil // the personal project is always there
	}
	_, err := ws.registry.Get(ws.projectID)
	var gone *project.UnknownProjectError
	if !errors.As(err, &gone) {
		return err
	}
	return ws.registry.Restore(ws.manifest.Dir(), ws.newLabel(), ws.projectID, s.ID())
}

// addToManifest writes a new connection into the project's manifest, so that
// those who share the repository know that it is needed.
func (ws *workspace) addToManifest(a *attempt) error {
	if ws.manifest == nil || a.wanted.Name != "" {
		return nil
	}
	c := project.Connection{Name: a.name}
	if a.provider != a.name {
		c.Provider = a.provider
	}
	c.Scopes = a.opts.Scopes
	if err := project.AddConnection(ws.manifest.File, c); err != nil {
		return err
	}
	ws.say("Added %s to %s.", a.name, ws.manifest.File)
	return nil
}
