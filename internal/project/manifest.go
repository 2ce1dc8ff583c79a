// Package project knows which folder is which project: it finds and reads the
// manifest, apiauth.yaml, and keeps the user's own list of the folders that are
// bound to projects. A manifest comes with a repository and is hostile until
// shown otherwise: it can name connections, and never a command, an end point
// other than an issuer, a file outside its folder, or a secret.
package project

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

// ManifestName is the name of the manifest in its folder.
const ManifestName = "apiauth.yaml"

// Manifest is what an apiauth.yaml says.
type Manifest struct {
	// Project is a label for people. It is not an identity.
	Project string `yaml:"project"`
	// Connections stand in the order of the file.
	Connections []Connection `yaml:"connections"`
	Exec        Exec         `yaml:"exec"`

	// File is the path that the manifest was read from.
	File string `yaml:"-"`
}

// Connection is one entry under connections.
type Connection struct {
	Name string `yaml:",key"`
	// Provider is a catalogue id or an https issuer URL; the default is Name.
	Provider string   `yaml:"provider"`
	Scopes   []string `yaml:"scopes"`
	// Env is the variable that carries the token, or empty.
	Env string `yaml:"env"`
	// ClientID is a public client identifier, or empty.
	ClientID string `yaml:"client_id"`

	// Position is the place of the name in the file.
	Position strictyaml.Position `yaml:",position"`
}

// Issuer says whether the provider is named by its issuer URL.
func (c Connection) Issuer() bool { return strings.Contains(c.Provider, ":") }

// Exec holds the defaults for running commands; they may only narrow what a
// command line allows.
type Exec struct {
	Placeholder bool     `yaml:"placeholder"`
	Allow       []string `yaml:"allow"`  // METHOD /path, a final * matches the rest
	Egress      string   `yaml:"egress"` // open (as empty) or strict
	Scan        []string `yaml:"scan"`   // relative paths inside the folder, with /
}

// Dir returns the folder of the manifest: the project's folder.
func (m *Manifest) Dir() string { return filepath.Dir(m.File) }

// Connection returns the entry with the given name.
func (m *Manifest) Connection(name string) (Connection, bool) {
	i := slices.IndexFunc(m.Connections, func(c Connection) bool { return c.Name == name })
	if i < 0 {
		return Connection{}, false
	}
	return m.Connections[i], true
}

// ScanPaths returns the absolute paths of exec.scan. A path that leads out of
// the folder through a symbolic link is an error; one that does not exist yet
// is returned as it is.
func (m *Manifest) ScanPaths() ([]string, error) {
	dir, err := Canonical(m.Dir())
	if err != nil {
		return nil, err
	}
	paths := make([]string, 0, len(m.Exec.Scan))
	for _, s := range m.Exec.Scan {
		path, err := inside(dir, filepath.FromSlash(s))
		if err != nil {
			return nil, fmt.Errorf("%s: exec.scan: %w", m.File, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// inside joins dir, which is canonical, and rel, and resolves the links in what
// exists of it.
func inside(dir, rel string) (string, error) {
	if !filepath.IsLocal(rel) {
		return "", fmt.Errorf("%q leads out of the folder", rel)
	}
	path := filepath.Join(dir, rel)
	existing, rest := path, ""
	for existing != dir {
		if _, err := os.Lstat(existing); err == nil {
			break
		}
		existing, rest = filepath.Dir(existing), filepath.Join(filepath.Base(existing), rest)
	}
	real, err := filepath.EvalSymlinks(existing)
	if err != nil {
		return "", fmt.Errorf("resolve %q: %w", rel, err)
	}
	back, err := filepath.Rel(dir, real)
	if err != nil || !filepath.IsLocal(back) {
		return "", fmt.Errorf("%q leads out of the folder through a symbolic link", rel)
	}
	return filepath.Join(real, rest), nil
}

// ParseManifest reads data, the content of file. checkEnv refuses variable names
// that a child's loader, shell, runtime or proxy would obey; nil refuses none.
// Faults are *strictyaml.Error with line and column.
func ParseManifest(file string, data []byte, checkEnv func(name string) error) (*Manifest, error) {
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		return nil, err
	}
	m := &Manifest{File: file}
	if err := doc.Decode(m); err != nil {
		return nil, err
	}
	if err := CheckLabel(m.Project); err != nil {
		return nil, doc.Errorf([]any{"project"}, "project %v", err)
	}
	if len(m.Connections) > maxConnections {
		return nil, doc.Errorf([]any{"connections"}, "more than %d connections", maxConnections)
	}
	envs := make(map[string]string)
	for i := range m.Connections {
		c := &m.Connections[i]
		if c.Provider == "" {
			c.Provider = c.Name
		}
		if key, err := c.check(checkEnv); err != nil {
			return nil, doc.Errorf(append([]any{"connections", c.Name}, key...), "%v", err)
		}
		if first, taken := envs[c.Env]; c.Env != "" && taken {
			return nil, doc.Errorf([]any{"connections", c.Name, "env"}, "env: the connections %q and %q both want the variable %s", first, c.Name, c.Env)
		}
		envs[c.Env] = c.Name
	}
	if path, err := m.Exec.check(); err != nil {
		return nil, doc.Errorf(append([]any{"exec"}, path...), "%v", err)
	}
	return m, nil
}

const (
	maxConnections = 200
	maxScopes      = 200
	maxLabel       = 100 // runes
)

// check returns the first fault and the keys that lead to it.
func (c *Connection) check(checkEnv func(string) error) (key []any, err error) {
	if !validID(c.Name) {
		return nil, fmt.Errorf("the name %q is not of the form [a-z0-9][a-z0-9-]{0,62}", shown(c.Name))
	}
	if err := checkProvider(c.Provider); err != nil {
		return []any{"provider"}, fmt.Errorf("provider %w", err)
	}
	if len(c.Scopes) > maxScopes {
		return []any{"scopes"}, fmt.Errorf("more than %d scopes", maxScopes)
	}
	for i, s := range c.Scopes {
		if !validScope(s) {
			return []any{"scopes", i}, fmt.Errorf("scope %q: a scope is one word of printable ASCII without quotes, backslashes and blanks (RFC 6749 section 3.3)", shown(s))
		}
		if slices.Contains(c.Scopes[:i], s) {
			return []any{"scopes", i}, fmt.Errorf("scope %q stands here twice", shown(s))
		}
	}
	if c.Env != "" {
		if !validEnv(c.Env) {
			return []any{"env"}, fmt.Errorf("env %q: a variable is made of capitals, digits and _, and begins with a capital", shown(c.Env))
		}
		if checkEnv != nil {
			if err := checkEnv(c.Env); err != nil {
				return []any{"env"}, fmt.Errorf("env: %w", err)
			}
		}
	}
	if len(c.ClientID) > 512 || !printable(c.ClientID) {
		return []any{"client_id"}, fmt.Errorf("client_id is not printable ASCII of at most 512 bytes")
	}
	return nil, nil
}

// EgressModes are the values of exec.egress.
func EgressModes() []string { return []string{"open", "strict"} }

func (e *Exec) check() (path []any, err error) {
	if e.Egress != "" && !slices.Contains(EgressModes(), e.Egress) {
		return []any{"egress"}, fmt.Errorf("egress is open or strict, not %q", shown(e.Egress))
	}
	for i, a := range e.Allow {
		if err := CheckAllow(a); err != nil {
			return []any{"allow", i}, fmt.Errorf("allow: %w", err)
		}
	}
	for i, s := range e.Scan {
		if s == "" || strings.Contains(s, `\`) || !filepath.IsLocal(s) || slices.Contains(strings.Split(s, "/"), "..") || driveLetter(s) {
			return []any{"scan", i}, fmt.Errorf("scan %q: a path is relative, uses /, has no .. and stays inside the folder", shown(s))
		}
	}
	return nil, nil
}

// CheckAllow checks one pattern of allowed requests: a method in capitals (or
// *), a blank, and a path that begins with / and may end with *.
func CheckAllow(pattern string) error {
	fault := func(why string) error {
		return fmt.Errorf("%q is not of the form 'GET /path' or 'GET /path/*': %s", shown(pattern), why)
	}
	method, path, ok := strings.Cut(pattern, " ")
	switch {
	case !ok:
		return fault("it needs a method, one blank and a path")
	case method == "" || method != "*" && strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || len(method) > 32:
		return fault("the method is in capitals, or *")
	case !strings.HasPrefix(path, "/"):
		return fault("the path begins with /")
	case len(path) > 1024 || !printable(path) || strings.ContainsAny(path, " ?#\\"):
		return fault(`the path has no blanks, ?, # and \`)
	case strings.Contains(strings.TrimSuffix(path, "*"), "*"):
		return fault("* may stand only at the end of the path")
	case slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == ".." || s == "." }):
		return fault("the path has no . and .. in it")
	}
	return nil
}

// checkProvider accepts a catalogue id or an https URL that can be an issuer
// identifier (RFC 8414 section 2: no query, no fragment). Local issuers over
// http are for the user's own definitions and not for a repository's file.
func checkProvider(s string) error {
	if validID(s) {
		return nil
	}
	if !strings.Contains(s, ":") {
		return fmt.Errorf("%q is neither an id of the form [a-z0-9][a-z0-9-]{0,62} nor an https issuer URL", shown(s))
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || len(s) > 1024 || !printable(s) || strings.ContainsAny(s, ` \"<>`):
		return fmt.Errorf("%q is not a URL", shown(s))
	case u.Scheme == "http":
		return fmt.Errorf("%q: an issuer in a manifest is an https URL", shown(s))
	case u.Scheme != "https" || u.Opaque != "" || !validHost(u):
		return fmt.Errorf("%q is not an https URL with a host", shown(s))
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return fmt.Errorf("%q: an issuer URL has no user, query or fragment", shown(s))
	}
	return nil
}

// validHost accepts names in ASCII (IDNA in its A-label form) and addresses.
func validHost(u *url.URL) bool {
	host := u.Hostname()
	if strings.HasPrefix(u.Host, "[") {
		addr, err := netip.ParseAddr(host)
		return err == nil && addr.Is6() && addr.Zone() == ""
	}
	if host == "" || len(host) > 253 || strings.HasSuffix(u.Host, ":") {
		return false
	}
	return !strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
}

// validID matches [a-z0-9][a-z0-9-]{0,62}: names of connections, provider ids.
func validID(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// ValidName says whether s can name a connection: [a-z0-9][a-z0-9-]{0,62}.
func ValidName(s string) bool { return validID(s) }

func validEnv(s string) bool {
	if s == "" || len(s) > 128 || s[0] < 'A' || s[0] > 'Z' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' })
}

func validScope(s string) bool {
	return s != "" && len(s) <= 512 && printable(s) && !strings.ContainsAny(s, ` "\`)
}

// CheckLabel checks a project's label: at most 100 printable characters, no
// line ends, control or formatting characters. The empty label is fine.
func CheckLabel(s string) error {
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fmt.Errorf("has a character that cannot be printed")
	case utf8.RuneCountInString(s) > maxLabel:
		return fmt.Errorf("is longer than %d characters", maxLabel)
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e })
}

func driveLetter(s string) bool { return len(s) >= 2 && s[1] == ':' }

// shown shortens what a message repeats of the file.
func shown(s string) string {
	if utf8.RuneCountInString(s) <= 60 {
		return s
	}
	return string([]rune(s)[:60]) + "..."
}

// LoadManifest reads and checks the manifest at path, which Find has returned.
// A file that is not the user's or root's, that everybody may write, or that is
// no regular file is an *UntrustedError; faults in its text are
// *strictyaml.Error. See ParseManifest for checkEnv.
func LoadManifest(path string, checkEnv func(name string) error) (*Manifest, error) {
	f, err := openNoFollow(path)
	if err != nil {
		return nil, manifestError(path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, manifestError(path, err)
	}
	if err := trusted(path, st); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	if err != nil {
		return nil, manifestError(path, err)
	}
	return ParseManifest(path, data, checkEnv)
}
