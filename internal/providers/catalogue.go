package providers

import (
	"crypto/sha256"
	"embed"
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

	"github.com/apiauth/apiauth/internal/strictyaml"
)

//go:embed catalog/*.yaml
var builtin embed.FS

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

// file is the content of one definition file.
type file struct {
	name   string
	data   []byte
	origin Origin
	// replacing says that there is a built-in entry of the same id.
	replacing bool
}

// read returns the file that defines id: the user's, else the built-in one. It
// does not parse. An unknown id is fs.ErrNotExist.
func (c *Catalogue) read(id string) (file, error) {
	if !checkID(id) {
		return file{}, fs.ErrNotExist
	}
	data, builtinErr := builtin.ReadFile("catalog/" + id + ".yaml")
	if c.userDir != "" {
		path := filepath.Join(c.userDir, id+".yaml")
		own, err := readUserFile(path)
		if err == nil {
			return file{path, own, User, builtinErr == nil}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return file{}, err
		}
	}
	if builtinErr != nil {
		return file{}, fs.ErrNotExist
	}
	return file{"catalog/" + id + ".yaml", data, BuiltIn, false}, nil
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
	p, err := Parse(f.name, f.data, f.origin)
	if err != nil {
		return nil, err
	}
	if p.ID != id {
		return nil, &strictyaml.Error{File: f.name, Line: 1, Column: 1, Msg: "the id is " + p.ID + ", but the file is named " + id + ".yaml"}
	}
	if f.replacing && !p.Replaces {
		return nil, &ShadowError{ID: id, Path: f.name}
	}
	d := &Definition{Provider: p, Digest: digest(f.data), Origin: f.origin, ReplacesEntry: f.replacing}
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
	return digest(f.data), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
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
	entries, err := builtin.ReadDir("catalog")
	if err != nil {
		return nil, err
	}
	if c.userDir != "" {
		own, err := os.ReadDir(c.userDir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list the provider definitions: %w", err)
		}
		entries = append(entries, own...)
	}
	ids := make([]string, 0, len(entries))
	for _, entry := range entries {
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
