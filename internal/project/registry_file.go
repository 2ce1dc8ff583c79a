package project

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// projects.json holds one project in a line, between these.
const (
	listHead = `{"format":1,"projects":[` + "\n"
	listTail = "\n]}\n"
)

// errNoChange ends an update that has nothing to write.
var errNoChange = errors.New("no change")

// lockWait is how long an update waits for others, which take milliseconds.
const lockWait = 10 * time.Second

// glance returns the first project whose line in the list holds the given piece
// of JSON and which is the one wanted, without decoding the others: the list
// stands in the way of every command that needs a token. nil means to look
// closely, which has the last word on everything but success.
func glance(data []byte, piece string, wanted func(*Binding) bool) *Binding {
	body, ok := bytes.CutPrefix(data, []byte(listHead))
	if !ok || !bytes.HasSuffix(body, []byte(listTail)) {
		return nil
	}
	for line := range bytes.Lines(body) {
		if !bytes.Contains(line, []byte(piece)) {
			continue
		}
		p := new(Binding)
		if json.Unmarshal(bytes.TrimSuffix(line, []byte(",\n")), p) != nil || !validProjectID(p.ID) {
			return nil
		}
		if wanted(p) {
			return p
		}
	}
	return nil
}

func glanceFolder(data []byte, path string, id Identity) *Binding {
	quoted, err := json.Marshal(path)
	if err != nil {
		return nil
	}
	return glance(data, `{"path":`+string(quoted), func(p *Binding) bool {
		return slices.ContainsFunc(p.Folders, func(f Folder) bool { return f.Path == path && f.same(id) })
	})
}

// encode prints the list as it is kept.
func (l *list) encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(listHead)
	for i, p := range l.Projects {
		if p.Folders == nil {
			p.Folders = []Folder{}
		}
		line, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(",\n")
		}
		b.Write(line)
	}
	b.WriteString(listTail)
	return b.Bytes(), nil
}

// read returns the list.
func (r *Registry) read() (*list, error) {
	data, err := r.load()
	if err != nil {
		return nil, err
	}
	return parseList(r.Path(), data)
}

// load returns the text of the list; for an absent file that of an empty one.
func (r *Registry) load() ([]byte, error) {
	path := r.Path()
	f, err := openNoFollow(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []byte(listHead + listTail), nil
	case isSymlinkError(err):
		return nil, &UnsafeError{path, "it is a symbolic link"}
	case err != nil:
		return nil, fmt.Errorf("read the list of projects: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the list of projects: %w", err)
	}
	switch {
	case !st.Mode().IsRegular():
		return nil, &UnsafeError{path, "it is not a regular file"}
	case !ownerTrusted(st, false):
		return nil, &UnsafeError{path, "it belongs to another user"}
	case writableByOthers(st):
		return nil, &UnsafeError{path, "others may write it; take that away with chmod 600"}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRegistry+1))
	if err != nil {
		return nil, fmt.Errorf("read the list of projects: %w", err)
	}
	return data, nil
}

func parseList(path string, data []byte) (*list, error) {
	corrupt := func(format string, args ...any) error {
		return &CorruptError{path, fmt.Errorf(format, args...)}
	}
	if len(data) > maxRegistry {
		return nil, corrupt("it is larger than %d MiB", maxRegistry>>20)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, corrupt("%w", err)
	}
	switch {
	case head.Format > registryFormat:
		return nil, &NewerFormatError{path, head.Format}
	case head.Format != registryFormat:
		return nil, corrupt("it has no known format number")
	}
	// What this code does not know it would drop when it writes the list again.
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	l := new(list)
	if err := dec.Decode(l); err != nil {
		return nil, corrupt("%w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, corrupt("something follows its end")
	}
	seen := make(map[string]bool, len(l.Projects))
	for _, p := range l.Projects {
		if !validProjectID(p.ID) || seen[p.ID] {
			return nil, corrupt("a project has no id, a malformed one, or one that stands there twice")
		}
		seen[p.ID] = true
		for _, f := range p.Folders {
			if !filepath.IsAbs(f.Path) {
				return nil, corrupt("a folder of project %s has no absolute path", p.ID)
			}
		}
	}
	return l, nil
}

// update reads the list under the lock, lets change work on it, and writes it
// back: temporary file, sync, rename, sync of the folder.
func (r *Registry) update(change func(*list) error) error {
	if err := r.prepare(); err != nil {
		return err
	}
	unlock, err := lockFile(filepath.Join(r.dir, "projects.lock"), lockWait)
	if err != nil {
		return fmt.Errorf("lock the list of projects: %w", err)
	}
	defer unlock()
	l, err := r.read()
	if err != nil {
		return err
	}
	switch err := change(l); {
	case errors.Is(err, errNoChange):
		return nil
	case err != nil:
		return err
	}
	data, err := l.encode()
	if err != nil {
		return fmt.Errorf("write the list of projects: %w", err)
	}
	if len(data) >= maxRegistry {
		return fmt.Errorf("write the list of projects: it would be larger than %d MiB", maxRegistry>>20)
	}
	temp := r.Path() + ".tmp" // one name, so that a crash leaves one file at most
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the list of projects: %w", err)
	}
	if err := replaceFile(r.Path(), temp, data, 0o600); err != nil {
		return fmt.Errorf("write the list of projects: %w", err)
	}
	return nil
}

// prepare makes the state folder, for its owner only.
func (r *Registry) prepare() error {
	if !filepath.IsAbs(r.dir) {
		return &UnsafeError{r.dir, "the state folder needs an absolute path"}
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	st, err := os.Lstat(r.dir)
	switch {
	case err != nil:
		return fmt.Errorf("make the state folder: %w", err)
	case !st.IsDir():
		return &UnsafeError{r.dir, "it is a symbolic link; name the folder itself"}
	case !ownerTrusted(st, false):
		return &UnsafeError{r.dir, "it belongs to another user"}
	}
	if openToOthers(st) {
		if err := os.Chmod(r.dir, 0o700); err != nil { //nolint:gosec // a folder needs its x
			return fmt.Errorf("close the state folder to others: %w", err)
		}
	}
	return nil
}

// replaceFile writes data to path by way of the new file temp, so that at every
// moment the old content or the new one is there, also after a power failure.
func replaceFile(path, temp string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(temp)
		}
	}()
	// Whatever the umask is.
	if err := f.Chmod(mode); err != nil && !errors.Is(err, errors.ErrUnsupported) { //nolint:gosec // 0600, or what a manifest had
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
