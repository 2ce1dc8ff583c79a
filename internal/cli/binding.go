package cli

import (
	"path/filepath"

	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/store"
)

// bind gives an unbound folder a new project, for a person who connects in it.
// undo takes that back when nothing came of the login.
func (ws *workspace) bind() (undo func(), err error) {
	if ws.unbound == nil {
		return func() {}, nil
	}
	label := ws.manifest.Project
	if label == "" {
		label = filepath.Base(ws.manifest.Dir())
	}
	id, err := ws.registry.Bind(ws.manifest.Dir(), label)
	if err != nil {
		return nil, err
	}
	reason := ws.unbound
	ws.projectID, ws.unbound = id, nil
	return func() {
		if err := ws.registry.Remove(id); err != nil {
			ws.warn("%v", err)
		}
		ws.projectID, ws.unbound, ws.opened = "", reason, nil
	}, nil
}

// recordStore remembers which store a project was given at its first connect.
func (ws *workspace) recordStore(s *store.Store) error {
	recorded, err := ws.recordedStore(ws.projectID)
	if err != nil || recorded == s.ID() {
		return err
	}
	return ws.registry.SetStore(ws.projectID, s.ID())
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
