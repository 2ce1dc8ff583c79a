package bundle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// Store is a connection.Store in the memory of one process. What is refreshed
// stays there: nothing outlives the command, and a later job finds nothing of
// this one. It is safe for concurrent use.
type Store struct {
	id, kind string

	mu      sync.Mutex
	records map[connection.Key]*connection.Record
	locks   map[connection.Key]chan struct{} // holds one value while nobody has the lock
}

var _ connection.Store = (*Store)(nil)

// NewStore makes an empty store. Kind says to people where its content came
// from.
func NewStore(id, kind string) *Store {
	return &Store{id: id, kind: kind, records: map[connection.Key]*connection.Record{}, locks: map[connection.Key]chan struct{}{}}
}

// Put places a record as it is, whatever was there.
func (s *Store) Put(key connection.Key, rec *connection.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[key] = rec
}

// ID is the id that NewStore was given.
func (s *Store) ID() string { return s.id }

// Kind is the kind that NewStore was given.
func (s *Store) Kind() string { return s.kind }

// Header returns a copy of the record's header.
func (s *Store) Header(key connection.Key) (*connection.Header, error) {
	rec, err := s.Read(context.Background(), key)
	if err != nil {
		return nil, err
	}
	return &rec.Header, nil
}

// Names lists the connections of a project.
func (s *Store) Names(project string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for key := range s.records {
		if key.Project == project {
			names = append(names, key.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Read returns a copy of a record.
func (s *Store) Read(_ context.Context, key connection.Key) (*connection.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, ok := s.records[key]
	if !ok {
		return nil, connection.ErrNotStored
	}
	clone := *rec
	clone.Body.Kept = maps.Clone(rec.Body.Kept)
	return &clone, nil
}

// Pending is false: memory holds no unfinished answer of another process.
func (*Store) Pending(connection.Key) bool { return false }

// Prepare has nothing to prove.
func (*Store) Prepare(context.Context, connection.Key) (undo func(), err error) {
	return func() {}, nil
}

// Lock takes the connection's lock within this process.
func (s *Store) Lock(ctx context.Context, key connection.Key, wait time.Duration) (connection.Guard, error) {
	s.mu.Lock()
	lock, ok := s.locks[key]
	if !ok {
		lock = make(chan struct{}, 1)
		lock <- struct{}{}
		s.locks[key] = lock
	}
	s.mu.Unlock()
	select {
	case <-lock:
		return &guard{store: s, key: key, lock: lock}, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-lock:
		return &guard{store: s, key: key, lock: lock}, nil
	case <-timer.C:
		return nil, &connection.LockedError{Key: key, Waited: wait}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errReadOnly says that a registration or a name cannot be changed here.
var errReadOnly = errors.New("what comes from a bundle or from variables cannot be changed")

// Registrations is empty: secrets are kept beside the connections.
func (*Store) Registrations() ([]connection.Registration, error) { return nil, nil }

// Registration finds nothing.
func (*Store) Registration(string, string) (*connection.Registration, error) {
	return nil, connection.ErrNotStored
}

// ClientSecret finds nothing.
func (*Store) ClientSecret(context.Context, *connection.Registration) (secret.Text, error) {
	return secret.Text{}, connection.ErrNotStored
}

// NextSecret finds nothing.
func (*Store) NextSecret(context.Context, *connection.Registration) (secret.Text, error) {
	return secret.Text{}, nil
}

// PromoteNext has nothing to promote.
func (*Store) PromoteNext(context.Context, *connection.Registration, secret.Text) error { return nil }

// SetClient fails: the store cannot be changed.
func (*Store) SetClient(context.Context, connection.Registration, secret.Text) error {
	return errReadOnly
}

// RemoveClient fails: the store cannot be changed.
func (*Store) RemoveClient(context.Context, string, string) error { return errReadOnly }

// guard is a locked connection in memory. There is no crash to survive: what
// would be written ahead is dropped.
type guard struct {
	store *Store
	key   connection.Key
	lock  chan struct{}
	once  sync.Once
}

func (g *guard) Read(ctx context.Context) (*connection.Record, error) {
	return g.store.Read(ctx, g.key)
}

func (*guard) Journal(context.Context) (*connection.Journal, error) { return nil, nil }
func (*guard) Begin(context.Context, connection.Intent) error       { return nil }
func (*guard) Seal(context.Context, []byte) error                   { return nil }
func (*guard) Drop() error                                          { return nil }

func (g *guard) Commit(_ context.Context, rec *connection.Record) error {
	g.store.mu.Lock()
	defer g.store.mu.Unlock()
	if was, ok := g.store.records[g.key]; ok && rec.Generation <= was.Generation {
		return fmt.Errorf("%w: generation %d is not above %d", connection.ErrConflict, rec.Generation, was.Generation)
	}
	clone := *rec
	g.store.records[g.key] = &clone
	return nil
}

func (g *guard) Next(ctx context.Context) (generation, grant uint64) {
	rec, err := g.Read(ctx)
	if err != nil {
		return 1, 1
	}
	return rec.Generation + 1, rec.GrantGeneration + 1
}

func (*guard) Grant(context.Context) (connection.Grant, error) {
	return connection.Grant{}, connection.ErrNotStored
}
func (*guard) SetGrant(context.Context, connection.Grant) error { return errReadOnly }
func (*guard) FitsGrant(connection.Grant) bool                  { return false }
func (*guard) Delete(context.Context) error                     { return errReadOnly }
func (*guard) MoveTo(context.Context, connection.Guard, *connection.Record) error {
	return errReadOnly
}

func (g *guard) Unlock() { g.once.Do(func() { g.lock <- struct{}{} }) }
