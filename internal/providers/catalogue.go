package providers

import (
	"crypto/sha256"
	_ "embed" // the pack
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/providers/pack"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// packed is the files of the folder catalog, by id. internal/cli/gen packs them.
//
//go:embed catalog.pack
var packed string

// builtIns returns the built-in definitions by their ids, packed.
func builtIns() pack.Pack { return pack.Pack(packed) }

// Definition is a provider with where it comes from.
type Definition struct {
	*Provider
	Digest        string // hexadecimal SHA-256 of the file
	Origin        Origin
	Path          string // of the user's file; empty for a built-in entry
	ReplacesEntry bool   // a user's file that stands in for a built-in entry
}

// UnknownError says that there is no provider of that id.
type UnknownError struct {
	ID         string
	Suggestion string // a near id, or empty
}

// Error names the id and, if there is one, what was probably meant.
func (e *UnknownError) Error() string {
	msg := "unknown provider " + strconv.QuoteToASCII(clip(e.ID, 80))
	if e.Suggestion != "" {
		msg += "; did you mean " + e.Suggestion + "?"
	}
	return msg
}

// ShadowError says that a user's file has the id of a built-in entry without
// saying that it replaces it.
type ShadowError struct {
	ID, Path string
}

// Error names the file and the way to replace an entry.
func (e *ShadowError) Error() string {
	return fmt.Sprintf("%s has the id of the built-in provider %s but does not say that it replaces it; use 'apiauth provider add --replace' if it should, or give it another id", e.Path, e.ID)
}

// Catalogue holds the built-in definitions and those of the user.
// Nothing is read before it is asked for.
type Catalogue struct {
	userDir string
}

// Open returns the catalogue with the user's definitions of userDir, which need
// not exist; an empty userDir means that there are none. Open does no I/O.
func Open(userDir string) *Catalogue { return &Catalogue{userDir: userDir} }

// file is one definition file.
type file struct {
	name   string
	origin Origin
	data   []byte    // of the user's
	packed pack.Text // of the built-in one
	// replacing says that there is a built-in entry of the same id.
	replacing bool
}

// text returns what is in the file.
func (f *file) text() ([]byte, error) {
	if f.origin == User {
		return f.data, nil
	}
	return builtIns().Unpack(f.packed)
}

// digest returns the hexadecimal SHA-256 of the file. That of a built-in one is
// known without unpacking it.
func (f *file) digest() string {
	sum := f.packed.Digest
	if f.origin == User {
		sum = sha256.Sum256(f.data)
	}
	return hex.EncodeToString(sum[:])
}

// read returns the file that defines id: the user's, else the built-in one. It
// does not parse. An unknown id is fs.ErrNotExist.
func (c *Catalogue) read(id string) (file, error) {
	if !checkID(id) {
		return file{}, fs.ErrNotExist
	}
	entry, known := builtIns().Find(id)
	if c.userDir != "" {
		path := filepath.Join(c.userDir, id+".yaml")
		own, err := readUserFile(path)
		if err == nil {
			return file{name: path, origin: User, data: own, replacing: known}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return file{}, err
		}
	}
	if !known {
		return file{}, fs.ErrNotExist
	}
	return file{name: "catalog/" + id + ".yaml", origin: BuiltIn, packed: entry}, nil
}

// readUserFile reads a definition of the user: a regular file of sensible size
// that nobody else may write.
func readUserFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fs.ErrNotExist
		}
		return nil, fmt.Errorf("read the provider definition: %w", err)
	}
	switch {
	case !info.Mode().IsRegular(): // asked before opening, which would wait for a pipe's writer
		return nil, fmt.Errorf("%s is not a regular file", path)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s can be written by everybody; take that right away (chmod o-w)", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the provider definition: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the provider definition %s: %w", path, err)
	}
	return data, nil
}

// Get returns the definition of id. It fails with *UnknownError, *ShadowError,
// *strictyaml.Error, or what reading the file gave.
func (c *Catalogue) Get(id string) (*Definition, error) {
	f, err := c.read(id)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, c.unknown(id)
		}
		return nil, err
	}
	text, err := f.text()
	if err != nil {
		return nil, err
	}
	p, err := Parse(f.name, text, f.origin)
	if err != nil {
		return nil, err
	}
	if p.ID != id {
		return nil, &strictyaml.Error{File: f.name, Line: 1, Column: 1, Msg: "the id is " + p.ID + ", but the file is named " + id + ".yaml"}
	}
	if f.replacing && !p.Replaces {
		return nil, &ShadowError{ID: id, Path: f.name}
	}
	d := &Definition{Provider: p, Digest: f.digest(), Origin: f.origin, ReplacesEntry: f.replacing}
	if f.origin == User {
		d.Path = f.name
	}
	return d, nil
}

// Digest returns the hexadecimal SHA-256 of the file that defines id, without
// parsing it. It fails with *UnknownError or what reading the file gave.
func (c *Catalogue) Digest(id string) (string, error) {
	f, err := c.read(id)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", c.unknown(id)
		}
		return "", err
	}
	return f.digest(), nil
}

func (c *Catalogue) unknown(id string) error {
	e := &UnknownError{ID: id}
	if ids, err := c.IDs(); err == nil {
		e.Suggestion = strictyaml.Suggest(id, ids)
	}
	return e
}

// IDs returns the ids of all definitions in order, by their file names alone.
func (c *Catalogue) IDs() ([]string, error) {
	var own []fs.DirEntry
	if c.userDir != "" {
		var err error
		own, err = os.ReadDir(c.userDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list the provider definitions: %w", err)
		}
	}
	entries := builtIns()
	ids := make([]string, 0, entries.Len()+len(own))
	for i := range entries.Len() {
		ids = append(ids, entries.Name(i))
	}
	for _, entry := range own {
		if id, ok := strings.CutSuffix(entry.Name(), ".yaml"); ok && checkID(id) && !entry.IsDir() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// List returns all definitions in order of their ids. Definitions that cannot
// be read are left out, and the error joins what is wrong with them.
func (c *Catalogue) List() ([]*Definition, error) {
	ids, err := c.IDs()
	if err != nil {
		return nil, err
	}
	var (
		list []*Definition
		errs []error
	)
	for _, id := range ids {
		d, err := c.Get(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, d)
	}
	return list, errors.Join(errs...)
}
