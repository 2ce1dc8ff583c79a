package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Made is a bundle that was made here: its header, and what became of it. The
// bundle itself is kept nowhere.
type Made struct {
	Header
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// ErrUnknown says that no bundle of an id was made here.
var ErrUnknown = errors.New("no such bundle was made here")

const madeSuffix = ".json"

// Remember writes down a bundle in dir, a file for each, which makes the folder
// and replaces a file in one step.
func Remember(dir string, m Made) error {
	if !validID(m.ID) {
		return fmt.Errorf("%q is no id of a bundle", m.ID)
	}
	doc, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+m.ID+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(doc, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, m.ID+madeSuffix))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// List returns the bundles that were made here, oldest first. A file that cannot
// be read is an error: it may be the one that has to be revoked.
func List(dir string) ([]Made, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Made
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), madeSuffix)
		if !ok || !validID(id) {
			continue
		}
		m, err := Find(dir, id)
		if err != nil {
			return nil, err
		}
		list = append(list, *m)
	}
	slices.SortFunc(list, func(a, b Made) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, nil
}

// Find returns the bundle of an id, or ErrUnknown.
func Find(dir, id string) (*Made, error) {
	if !validID(id) {
		return nil, ErrUnknown
	}
	file := filepath.Join(dir, id+madeSuffix)
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUnknown
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", file)
	}
	if err != nil {
		return nil, err
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var m Made
	if err := json.Unmarshal(doc, &m); err != nil || m.ID != id {
		return nil, fmt.Errorf("%s is damaged", file)
	}
	return &m, nil
}

func validID(id string) bool {
	return len(id) == 16 && strings.Trim(id, "0123456789abcdef") == ""
}
