package project

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Personal is the id of the project that holds outside of all others. It needs
// no folder.
const Personal = "personal"

// registryFormat is the format of projects.json that this code writes.
const registryFormat = 1

// maxRegistry caps projects.json in bytes: some ten thousand projects.
const maxRegistry = 8 << 20

// Binding is one project.
type Binding struct {
	ID    string `json:"id"`
	Label string `json:"label"`
	// Folders are the places bound to the project; none after Unlink.
	Folders []Folder `json:"paths"`
	// Store names where the project's connections are kept; empty before the
	// first connect.
	Store string `json:"store,omitempty"`
}

// Folder is one bound folder: its canonical path, and what tells it from
// another folder that is made at that path later.
type Folder struct {
	Path string `json:"path"`
	Identity
}

// Identity tells one folder from another. An inode number alone does not: file
// systems hand out the number of a deleted folder again, at once. So the time
// of birth, in nanoseconds since 1970 and 0 where the system does not tell,
// belongs to it. The device number alone may differ after a restart.
type Identity struct {
	Device uint64 `json:"device,string"`
	Inode  uint64 `json:"inode,string"`
	Born   int64  `json:"born,string,omitempty"`
}

// same says whether two identities are of one folder.
func (i Identity) same(j Identity) bool {
	if i.Inode != j.Inode || i.Born != 0 && j.Born != 0 && i.Born != j.Born {
		return false
	}
	return i.Device == j.Device || i.Born != 0 && i.Born == j.Born
}

// Registry is the user's list of projects, projects.json in the state folder.
// Each method reads it anew, and those that change it do so under a lock, so
// that any number of processes can use it at once.
type Registry struct{ dir string }

// Open returns the registry in stateDir. It does no I/O.
func Open(stateDir string) *Registry { return &Registry{dir: stateDir} }

// Path returns where the list lies.
func (r *Registry) Path() string { return filepath.Join(r.dir, "projects.json") }

// list is the content of projects.json.
type list struct {
	Format   int       `json:"format"`
	Projects []Binding `json:"projects"`
}

// Resolve returns the project that a folder (the manifest's) is bound to. When
// there is none the error is an *UnboundError.
func (r *Registry) Resolve(dir string) (*Binding, error) {
	path, id, err := identify(dir)
	if err != nil {
		return nil, err
	}
	data, err := r.load()
	if err != nil {
		return nil, err
	}
	if p := glanceFolder(data, path, id); p != nil {
		return p, nil
	}
	l, err := parseList(r.Path(), data)
	if err != nil {
		return nil, err
	}
	return l.resolve(path, id)
}

func (l *list) resolve(path string, id Identity) (*Binding, error) {
	unbound := &UnboundError{Dir: path, Reason: NeverBound}
	for i := range l.Projects {
		p := &l.Projects[i]
		for _, f := range p.Folders {
			switch {
			case f.Path == path && f.same(id):
				return p, nil
			case f.Path == path:
				unbound = &UnboundError{path, Recreated, p.ID, f.Path}
			case f.same(id):
				// The same folder by another spelling of its path (letter case,
				// a bind mount) is where it was; otherwise it has moved.
				if stillAt(f.Path, id) {
					return p, nil
				}
				if unbound.Reason == NeverBound {
					unbound = &UnboundError{path, Moved, p.ID, f.Path}
				}
			}
		}
	}
	return nil, unbound
}

// Bind makes a new project with the given label (see CheckLabel) and binds the
// folder to it. If the folder is bound already, because another process was
// faster, that project's id is returned.
func (r *Registry) Bind(dir, label string) (id string, err error) {
	if err := CheckLabel(label); err != nil {
		return "", fmt.Errorf("the project's label %w", err)
	}
	path, identity, err := identify(dir)
	if err != nil {
		return "", err
	}
	err = r.update(func(l *list) error {
		if p, err := l.resolve(path, identity); err == nil {
			id = p.ID
			return errNoChange
		}
		id = l.newID()
		l.release(path, identity)
		l.Projects = append(l.Projects, Binding{ID: id, Label: label, Folders: []Folder{{path, identity}}})
		return nil
	})
	return id, err
}

// Restore puts back a project that was removed while somebody connected in it,
// with its id, its store and dir as its folder. It changes nothing when the
// project is there.
func (r *Registry) Restore(dir, label, id, store string) error {
	if !validProjectID(id) || id == Personal {
		return &UnknownProjectError{id}
	}
	if err := CheckLabel(label); err != nil {
		return fmt.Errorf("the project's label %w", err)
	}
	path, identity, err := identify(dir)
	if err != nil {
		return err
	}
	return r.update(func(l *list) error {
		if l.find(id) != nil {
			return errNoChange
		}
		l.release(path, identity)
		l.Projects = append(l.Projects, Binding{ID: id, Label: label, Folders: []Folder{{path, identity}}, Store: store})
		return nil
	})
}

// Link binds the folder to the existing project id and takes it from any other.
// The error is an *UnknownProjectError when there is no such project.
func (r *Registry) Link(dir, id string) error {
	path, identity, err := identify(dir)
	if err != nil {
		return err
	}
	return r.update(func(l *list) error {
		if l.find(id) == nil || id == Personal {
			return &UnknownProjectError{id}
		}
		l.release(path, identity)
		p := l.find(id)
		p.Folders = append(p.Folders, Folder{path, identity})
		return nil
	})
}

// Unlink takes the folder from its project, which stays and can be linked
// again. It works on the path alone, so that a folder that was made anew or is
// gone can be unlinked too. The error is an *UnboundError when nothing is
// bound there.
func (r *Registry) Unlink(dir string) error {
	path, err := Canonical(dir)
	if err != nil {
		if path, err = filepath.Abs(dir); err != nil {
			return fmt.Errorf("find the folder: %w", err)
		}
	}
	return r.update(func(l *list) error {
		if !l.releaseIf(func(f Folder) bool { return f.Path == path }) {
			return &UnboundError{Dir: path, Reason: NeverBound}
		}
		return nil
	})
}

// List returns the projects in the order in which they were made, without the
// personal one.
func (r *Registry) List() ([]Binding, error) {
	l, err := r.read()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(l.Projects, func(p Binding) bool { return p.ID == Personal }), nil
}

// Get returns the project id. The personal project always exists. The error is
// an *UnknownProjectError when there is no such project.
func (r *Registry) Get(id string) (*Binding, error) {
	data, err := r.load()
	if err != nil {
		return nil, err
	}
	if p := glance(data, `{"id":"`+id+`"`, func(p *Binding) bool { return p.ID == id }); p != nil {
		return p, nil
	}
	l, err := parseList(r.Path(), data)
	if err != nil {
		return nil, err
	}
	if p := l.find(id); p != nil {
		return p, nil
	}
	if id == Personal {
		return &Binding{ID: Personal, Label: "personal"}, nil
	}
	return nil, &UnknownProjectError{id}
}

// SetStore records where the connections of the project id are kept. The error
// is an *UnknownProjectError when there is no such project.
func (r *Registry) SetStore(id, store string) error {
	return r.update(func(l *list) error {
		p := l.find(id)
		if p == nil && id == Personal {
			l.Projects = append(l.Projects, Binding{ID: Personal, Label: "personal"})
			p = l.find(id)
		}
		if p == nil {
			return &UnknownProjectError{id}
		}
		if p.Store == store {
			return errNoChange
		}
		p.Store = store
		return nil
	})
}

// Remove forgets the project id: its folders are unbound. The error is an
// *UnknownProjectError when there is no such project.
func (r *Registry) Remove(id string) error {
	return r.update(func(l *list) error {
		before := len(l.Projects)
		l.Projects = slices.DeleteFunc(l.Projects, func(p Binding) bool { return p.ID == id })
		if len(l.Projects) == before {
			return &UnknownProjectError{id}
		}
		return nil
	})
}

// stillAt says whether a folder stands at path itself, and not at the end of a
// link that was left there.
func stillAt(path string, id Identity) bool {
	if real, err := filepath.EvalSymlinks(path); err != nil || real != path {
		return false
	}
	now, err := identityOf(path)
	return err == nil && now == id
}

func (l *list) find(id string) *Binding {
	i := slices.IndexFunc(l.Projects, func(p Binding) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return &l.Projects[i]
}

// newID returns 16 hex digits from the system's random source.
func (l *list) newID() string {
	for {
		if id := randomHex(); l.find(id) == nil {
			return id
		}
	}
}

func randomHex() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// release takes a folder, by its path and by its identity, from every project.
func (l *list) release(path string, id Identity) {
	l.releaseIf(func(f Folder) bool { return f.Path == path || f.same(id) })
}

func (l *list) releaseIf(match func(Folder) bool) (any bool) {
	for i := range l.Projects {
		p := &l.Projects[i]
		before := len(p.Folders)
		p.Folders = slices.DeleteFunc(p.Folders, match)
		any = any || len(p.Folders) != before
	}
	return any
}

// identify returns the canonical path and the identity of a folder.
func identify(dir string) (string, Identity, error) {
	path, err := Canonical(dir)
	if err != nil {
		return "", Identity{}, err
	}
	if !utf8.ValidString(path) {
		return "", Identity{}, fmt.Errorf("identify the folder %q: its path is not valid UTF-8", path)
	}
	id, err := identityOf(path)
	if err != nil {
		return "", Identity{}, fmt.Errorf("identify the folder %s: %w", path, err)
	}
	return path, id, nil
}

func validProjectID(s string) bool {
	if s == Personal {
		return true
	}
	return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == ""
}
