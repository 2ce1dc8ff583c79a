// Package store is the local home of connections: sealed records and a
// write-ahead file per connection, guarded by an operating system lock, with
// the refresh token in the OS keychain or, by explicit choice, in the sealed
// file alone. Everything of one store lies in one folder, so that the scope of
// the lock is the scope of the credential.
package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// The kinds of stores.
const (
	KindKeychain = "keychain"
	KindFile     = "file"
)

const (
	metaFormat   = 1
	metaFile     = "store.json"
	clientsDir   = "clients"
	maxFileBytes = 1 << 20
)

// Keychain is the OS keychain, as a store needs it; *keyring.Keyring is the
// real one. Deadlines and error types are its business.
type Keychain interface {
	Get(ctx context.Context, service, account string) (secret.Text, error)
	Set(ctx context.Context, service, account string, value secret.Text) error
	Delete(ctx context.Context, service, account string) error
	MaxValue() int
}

// Options are what a store works with.
type Options struct {
	// Dir holds all stores of the user, one folder each.
	Dir string
	// Keychain serves keychain stores.
	Keychain Keychain
	// IsNotFound tells a missing keychain item from a failing keychain.
	IsNotFound func(error) bool
	// Key returns the raw key of a file store, in the form that NewKey prints;
	// zero when none is set.
	Key func() (secret.Text, error)
	// Passphrase returns the passphrase of a file store; create is true when it
	// is chosen now. Nil, or a zero result, when there is none.
	Passphrase func(ctx context.Context, create bool) (secret.Text, error)
	// FileSystem names the kind of file system that holds a folder, and whether
	// it is reached over a network. The default asks the system.
	FileSystem func(dir string) (kind string, remote bool)
	// Warn tells a person, in one line, what is odd but no failure.
	Warn func(format string, a ...any)
	Rand io.Reader        // default crypto/rand
	Now  func() time.Time // default time.Now
}

func (o Options) rand() io.Reader {
	if o.Rand != nil {
		return o.Rand
	}
	return rand.Reader
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

// Meta describes a store; it is the content of its store.json.
type Meta struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"` // 16 hex digits
	Kind      string    `json:"kind"`
	CreatedAt time.Time `json:"created_at"`
	KDF       *kdf      `json:"kdf,omitempty"`   // file stores
	Check     []byte    `json:"check,omitempty"` // a sealed constant: tells a wrong key from a damaged record
	// Replaces is the id of the store whose connections are sealed anew in this
	// one; that store may be gone.
	Replaces string `json:"replaces,omitempty"`
}

// Store implements connection.Store. It is safe for concurrent use.
type Store struct {
	opt  Options
	dir  string
	meta Meta

	locks lockTable
	told  sync.Once // that the file system is reached over a network

	mu     sync.Mutex
	master []byte // of a file store, once opened
	// proven holds the keys of a keychain store that have opened a record.
	proven map[connection.Key][]byte
	ahead  map[connection.Key]chan keyRead // keys that are being read
	// seals holds what the records that were opened last say about their logs.
	seals map[connection.Key]auditSeal
}

var _ connection.Store = (*Store)(nil)

// List returns the stores below dir, oldest first. A folder that cannot be read
// is an error: forgetting a store would hide its grants.
func List(dir string) ([]Meta, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the stores", err)
	}
	var metas []Meta
	for _, e := range entries {
		if !e.IsDir() || !isID(e.Name()) {
			continue
		}
		m, err := readMeta(filepath.Join(dir, e.Name()))
		if errors.Is(err, connection.ErrNotStored) {
			continue // a folder whose store.json was never written
		}
		if err != nil {
			return nil, err
		}
		metas = append(metas, m)
	}
	slices.SortFunc(metas, func(a, b Meta) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return metas, nil
}

// Find returns the id of the user's store of a kind, or
// connection.ErrNotStored. While a store is replaced there are two of a kind:
// then it is the one that the raw key at hand opens, else the newer one.
func Find(o Options, kind string) (string, error) {
	metas, err := List(o.Dir)
	if err != nil {
		return "", err
	}
	metas = slices.DeleteFunc(metas, func(m Meta) bool { return m.Kind != kind })
	if len(metas) == 0 {
		return "", connection.ErrNotStored
	}
	if len(metas) > 1 && kind == KindFile {
		for _, m := range metas {
			s := &Store{opt: o, dir: filepath.Join(o.Dir, m.ID), meta: m}
			if m.KDF != nil && m.KDF.Name == kdfRaw && s.openMaster(context.Background()) == nil {
				return m.ID, nil
			}
		}
	}
	replaced := map[string]bool{}
	for _, m := range metas {
		replaced[m.Replaces] = true
	}
	for _, m := range metas {
		if !replaced[m.ID] {
			return m.ID, nil
		}
	}
	return metas[0].ID, nil
}

// Open opens the store of that id. It reads store.json only; keys are read when
// a record is opened. It returns connection.ErrNotStored when there is no such
// store.
func Open(o Options, id string) (*Store, error) {
	if !isID(id) {
		return nil, fmt.Errorf("%q is no store id", id)
	}
	dir := filepath.Join(o.Dir, id)
	m, err := readMeta(dir)
	if err != nil {
		return nil, err
	}
	if m.ID != id {
		return nil, fmt.Errorf("open the store %s: %w: store.json names %q", id, connection.ErrCorrupt, m.ID)
	}
	return &Store{opt: o, dir: dir, meta: m}, nil
}

// Create returns the user's store of a kind and makes it when there is none.
func Create(ctx context.Context, o Options, kind string) (*Store, error) {
	if kind != KindKeychain && kind != KindFile {
		return nil, fmt.Errorf("%q is no kind of store: use %s or %s", kind, KindKeychain, KindFile)
	}
	if err := makeDir(o.Dir); err != nil {
		return nil, writeError("make the folder of the stores", err)
	}
	release, err := lockStores(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("create a store: %w", err)
	}
	defer release()
	id, err := Find(o, kind)
	switch {
	case err == nil:
		return Open(o, id)
	case !errors.Is(err, connection.ErrNotStored):
		return nil, err
	}
	return create(ctx, o, kind, "")
}

// create makes a store. The caller holds the lock of the stores.
func create(ctx context.Context, o Options, kind, replaces string) (*Store, error) {
	removeUnfinished(o.Dir)
	var raw [8]byte
	if _, err := io.ReadFull(o.rand(), raw[:]); err != nil {
		return nil, fmt.Errorf("create a store: %w", err)
	}
	s := &Store{opt: o, meta: Meta{Format: metaFormat, ID: hex.EncodeToString(raw[:]), Kind: kind, CreatedAt: o.now().UTC().Round(time.Second), Replaces: replaces}}
	s.dir = filepath.Join(o.Dir, s.meta.ID)
	if kind == KindFile {
		if err := s.newMaster(ctx); err != nil {
			return nil, err
		}
	}
	if err := makeDir(s.dir); err != nil {
		return nil, writeError("make the folder of the store", err)
	}
	doc, err := json.MarshalIndent(s.meta, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := s.writeFile(s.dir, metaFile, append(doc, '\n')); err != nil {
		return nil, writeError("write "+metaFile, err)
	}
	return s, nil
}

// removeUnfinished removes the empty folders of stores whose making or removal
// was cut off: their store.json was never written, or went first.
func removeUnfinished(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if !e.IsDir() || !isID(e.Name()) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(path, metaFile)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		found, _ := filepath.Glob(filepath.Join(path, "."+metaFile+".*"+temporarySuffix)) // fails for a pattern alone
		for _, f := range found {
			_ = os.Remove(f)
		}
		_ = os.Remove(path) // not when anything is in it
	}
}

// lockStores keeps others from making and removing stores.
func lockStores(ctx context.Context, o Options) (release func(), err error) {
	var locks lockTable
	lock, err := locks.take(ctx, filepath.Join(o.Dir, ".lock"), 10*time.Second)
	if err != nil {
		return nil, err
	}
	return lock.release, nil
}

func readMeta(dir string) (Meta, error) {
	doc, err := readFile(dir, metaFile)
	if err != nil {
		return Meta{}, err
	}
	var m Meta
	if err := json.Unmarshal(doc, &m); err != nil {
		return Meta{}, fmt.Errorf("%w: %s: %w", connection.ErrCorrupt, filepath.Join(dir, metaFile), err)
	}
	if m.Format > metaFormat {
		return Meta{}, fmt.Errorf("%w: %s has format %d, this version knows %d", connection.ErrNewer, filepath.Join(dir, metaFile), m.Format, metaFormat)
	}
	if m.Kind != KindKeychain && m.Kind != KindFile {
		return Meta{}, fmt.Errorf("%w: %s names the kind %q", connection.ErrCorrupt, filepath.Join(dir, metaFile), m.Kind)
	}
	return m, nil
}

func isID(s string) bool {
	if len(s) != 16 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

// validName accepts what may become a file name and part of a keychain item.
func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// ID returns the store's id.
func (s *Store) ID() string { return s.meta.ID }

// Kind returns "keychain" or "file".
func (s *Store) Kind() string { return s.meta.Kind }

// Dir returns the folder that holds the store.
func (s *Store) Dir() string { return s.dir }

// service is the keychain service of all items of this store.
func (s *Store) service() string { return "apiauth." + s.meta.ID }

func (s *Store) projectDir(key connection.Key) (string, error) {
	if !validName(key.Project) || !validName(key.Name) || key.Project == clientsDir {
		return "", fmt.Errorf("%q is no valid name of a record", key.String())
	}
	return filepath.Join(s.dir, key.Project), nil
}

// Names lists the connections of a project.
func (s *Store) Names(project string) ([]string, error) {
	if !validName(project) {
		return nil, fmt.Errorf("%q is no valid project id", project)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, project))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the connections", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), recordSuffix); ok && validName(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // the suffix sorts before a hyphen: "a-b.rec" came before "a.rec"
	return names, nil
}

// Projects lists the project ids that have a folder in this store.
func (s *Store) Projects() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, readError("list the projects", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != clientsDir && validName(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Header reads the clear header of a record.
func (s *Store) Header(key connection.Key) (*connection.Header, error) {
	h, _, err := s.load(key)
	return h, err
}

// Read opens a record without a lock.
func (s *Store) Read(ctx context.Context, key connection.Key) (*connection.Record, error) {
	rec, box, err := s.read(ctx, key)
	if errors.Is(err, connection.ErrCorrupt) || errors.Is(err, connection.ErrStoreKey) {
		// Without a lock the key and the record may be of two connections: one
		// that was just removed, and its successor. A changed file tells.
		if _, now, lerr := s.load(key); errors.Is(lerr, connection.ErrNotStored) || lerr == nil && !bytes.Equal(now.box, box) {
			rec, _, err = s.read(ctx, key)
		}
	}
	return rec, err
}

// read opens a record, and returns also its sealed part.
func (s *Store) read(ctx context.Context, key connection.Key) (*connection.Record, []byte, error) {
	h, sealed, err := s.load(key)
	if err != nil {
		return nil, nil, err
	}
	k, err := s.sealingKey(ctx, key)
	if err != nil {
		return nil, sealed.box, err
	}
	rec, err := s.unseal(key, h, sealed, k)
	if err == nil {
		s.prove(key, k)
	}
	return rec, sealed.box, err
}

// Pending reports whether a write-ahead file exists.
func (s *Store) Pending(key connection.Key) bool {
	dir, err := s.projectDir(key)
	if err != nil {
		return false
	}
	_, err = os.Lstat(filepath.Join(dir, key.Name+journalSuffix))
	return err == nil
}
