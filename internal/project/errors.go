package project

import "fmt"

// Reason says why a folder is not bound.
type Reason string

// The reasons in an UnboundError.
const (
	NeverBound Reason = "never bound"
	Recreated  Reason = "re-created" // another folder stands at a bound path
	Moved      Reason = "moved"      // a bound folder stands at another path
)

// UnboundError says that a folder belongs to no project of this user, so that
// what its manifest asks for is refused.
type UnboundError struct {
	Dir    string
	Reason Reason
	// ID is the project whose folder this was, and OldPath where it stood; both
	// are empty for NeverBound. They are for showing and not for using.
	ID      string
	OldPath string
}

func (e *UnboundError) Error() string {
	switch e.Reason {
	case Recreated:
		return fmt.Sprintf("the folder %s is not the one that was bound to a project: it was made anew at the same place", e.Dir)
	case Moved:
		return fmt.Sprintf("the folder %s was bound to a project as %s and has moved", e.Dir, e.OldPath)
	}
	return fmt.Sprintf("the folder %s is not bound to a project of yours", e.Dir)
}

// UnknownProjectError says that there is no project with an id.
type UnknownProjectError struct{ ID string }

func (e *UnknownProjectError) Error() string {
	return fmt.Sprintf("there is no project %q", shown(e.ID))
}

// CorruptError says that projects.json cannot be understood. It is left as it
// is: nothing is written until it is repaired or moved away.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the list of projects %s is damaged and was left as it is: %v", e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// NewerFormatError says that a later version wrote projects.json.
type NewerFormatError struct {
	Path   string
	Format int
}

func (e *NewerFormatError) Error() string {
	return fmt.Sprintf("the list of projects %s was written by a newer apiauth (format %d, this one knows %d)", e.Path, e.Format, registryFormat)
}

// UnsafeError says that a file or folder of ours is not as it must be: it
// belongs to somebody else, or is a link.
type UnsafeError struct {
	Path   string
	Reason string
}

func (e *UnsafeError) Error() string { return fmt.Sprintf("refusing to use %s: %s", e.Path, e.Reason) }
