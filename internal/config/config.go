// Package config turns flags, environment variables and the user's config.yaml
// into plain values. It is the only importer of viper, which is made for one
// Load, read into a Config and dropped.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/viper"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

// FileName is the name of the configuration file in the user's own folder. It
// is never looked for anywhere else.
const FileName = "config.yaml"

// maxAge bounds remind_secret_age: ten years.
const maxAge = 3653 * 24 * time.Hour

// The kinds of store that a setting can name.
const (
	StoreKeychain = "keychain"
	StoreFile     = "file"
)

// Env looks a variable up, as os.LookupEnv does.
type Env func(name string) (value string, ok bool)

// Config holds the settings. The zero value is the default of each.
type Config struct {
	// Store is StoreKeychain, StoreFile, or empty: nobody has said. StoreFrom
	// tells who has ("--store", "APIAUTH_STORE" or the file), for messages.
	Store     string
	StoreFrom string

	Personal bool // the personal project even inside a project
	NoInput  bool // never ask
	Quiet    bool
	Debug    bool
	JSON     bool

	// CAFile is the absolute path of a file of PEM certificates that are
	// trusted for apiauth's own traffic besides the system's, or empty.
	CAFile string

	// NoAudit says that nothing is written to the audit log.
	NoAudit bool
	// RemindSecretAge is how old a client secret gets before the user is
	// reminded of it, such as "180d" or "12h", or "off"; see SecretAge.
	RemindSecretAge string
	// Hooks are commands that the user wants run; they come from config.yaml
	// alone.
	Hooks Hooks

	// What follows comes from the environment alone.
	CI      bool   // CI is set to anything but 0 and false
	NoColor bool   // NO_COLOR is set to anything (no-color.org)
	Browser string // BROWSER, as it is written
}

// Hooks are commands by what they are run at. Each is a program, by its absolute
// path, and its arguments; no shell sees them.
type Hooks struct {
	Alert         []string `yaml:"alert"`
	Connect       []string `yaml:"connect"`
	RefreshFailed []string `yaml:"refresh_failed"`
	Disconnect    []string `yaml:"disconnect"`
}

// LoadOptions says where Load looks. A nil Env is an empty environment, an empty
// Dir is no file.
type LoadOptions struct {
	Env Env
	// Dir is the user's configuration folder (Dirs.Config).
	Dir string
	// Flags holds the flags that were given on the command line, by the keys of
	// config.yaml: a string for store, a bool for the others.
	Flags map[string]any
}

// Error is a setting with a value that it cannot have.
type Error struct {
	Setting string // as the user wrote it: --store, APIAUTH_QUIET
	Msg     string
}

func (e *Error) Error() string { return e.Setting + " " + e.Msg }

// A key is one setting that is a flag, a variable and a line of config.yaml.
type key struct {
	name string // in config.yaml
	flag string // empty: no flag
	text bool   // else: true or false
}

func keys() []key {
	return []key{
		{name: "store", flag: "--store", text: true},
		{name: "personal", flag: "--personal"},
		{name: "no_input", flag: "--no-input"},
		{name: "quiet", flag: "--quiet"},
		{name: "debug", flag: "--debug"},
		{name: "json", flag: "--json"},
		{name: "ca_file", text: true},
		{name: "audit", text: true},
		{name: "remind_secret_age", text: true},
	}
}

func (k key) variable() string { return "APIAUTH_" + strings.ToUpper(k.name) }

// file is config.yaml; a pointer tells what is written from what is not.
type file struct {
	Store    *string `yaml:"store"`
	Personal *bool   `yaml:"personal"`
	NoInput  *bool   `yaml:"no_input"`
	Quiet    *bool   `yaml:"quiet"`
	Debug    *bool   `yaml:"debug"`
	JSON     *bool   `yaml:"json"`
	CAFile   *string `yaml:"ca_file"`
	Audit    *string `yaml:"audit"`
	Remind   *string `yaml:"remind_secret_age"`
	Hooks    Hooks   `yaml:"hooks"`
}

// Load reads the settings: a flag goes before a variable, a variable before the
// file. A variable that is set to nothing counts as not set. Faults are an
// *Error, or a *strictyaml.Error with the place in the file.
func Load(o LoadOptions) (Config, error) {
	env := o.Env
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	cfg := Config{
		CI:      isCI(env),
		NoColor: get(env, "NO_COLOR") != "",
		Browser: get(env, "BROWSER"),
	}
	fromFile, path, err := readFile(o.Dir, &cfg.Hooks)
	if err != nil {
		return Config{}, err
	}
	fromEnv, err := readEnv(env)
	if err != nil {
		return Config{}, err
	}
	if err := checkFlags(o.Flags); err != nil {
		return Config{}, err
	}
	if len(fromFile)+len(fromEnv)+len(o.Flags) == 0 {
		return cfg, nil // most calls: spare them viper
	}

	v := viper.New()
	for _, layer := range []map[string]any{fromFile, fromEnv} {
		if err := v.MergeConfigMap(layer); err != nil {
			return Config{}, fmt.Errorf("read the settings: %w", err)
		}
	}
	for name, value := range o.Flags {
		v.Set(name, value)
	}
	cfg.Store = v.GetString("store")
	cfg.Personal = v.GetBool("personal")
	cfg.NoInput = v.GetBool("no_input")
	cfg.Quiet = v.GetBool("quiet")
	cfg.Debug = v.GetBool("debug")
	cfg.JSON = v.GetBool("json")
	cfg.CAFile = v.GetString("ca_file")
	cfg.NoAudit = v.GetString("audit") == "off"
	cfg.RemindSecretAge = v.GetString("remind_secret_age")
	if cfg.Store != "" {
		cfg.StoreFrom = path
		if _, ok := fromEnv["store"]; ok {
			cfg.StoreFrom = "APIAUTH_STORE"
		}
		if _, ok := o.Flags["store"]; ok {
			cfg.StoreFrom = "--store"
		}
	}
	return cfg, nil
}

func get(env Env, name string) string {
	value, _ := env(name)
	return value
}

func isCI(env Env) bool {
	switch strings.ToLower(get(env, "CI")) {
	case "", "0", "false":
		return false
	}
	return true
}

// checkText checks the value of a setting that is a text.
func checkText(name, value string) error {
	switch {
	case name == "store" && value != StoreKeychain && value != StoreFile:
		return fmt.Errorf("is keychain or file, not %q", shown(value))
	case name == "ca_file" && !filepath.IsAbs(value):
		return fmt.Errorf("needs an absolute path, not %q", shown(value))
	case name == "audit" && value != "on" && value != "off":
		return fmt.Errorf("is on or off, not %q", shown(value))
	case name == "remind_secret_age" && value != "off":
		if _, ok := ParseAge(value, maxAge); !ok {
			return fmt.Errorf("is a time such as 180d, or off, not %q", shown(value))
		}
	}
	return nil
}

// SecretAge is RemindSecretAge as a time: 180 days by default, 0 for never.
func (c *Config) SecretAge() time.Duration {
	const usual = 180 * 24 * time.Hour
	switch c.RemindSecretAge {
	case "":
		return usual
	case "off":
		return 0
	}
	age, _ := ParseAge(c.RemindSecretAge, maxAge) // Load has checked it
	return age
}

// ParseAge reads a time of at most most, in days (90d) or as Go writes it (12h).
func ParseAge(text string, most time.Duration) (age time.Duration, ok bool) {
	var err error
	if days, cut := strings.CutSuffix(text, "d"); cut {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		age = time.Duration(n) * 24 * time.Hour //nolint:gosec // of 16 bits
	} else {
		age, err = time.ParseDuration(text)
	}
	return age, err == nil && age > 0 && age <= most
}

func readEnv(env Env) (map[string]any, error) {
	var values map[string]any
	for _, k := range keys() {
		name := k.variable()
		text := get(env, name)
		if text == "" {
			continue
		}
		if values == nil {
			values = make(map[string]any)
		}
		if k.text {
			if err := checkText(k.name, text); err != nil {
				return nil, &Error{name, err.Error()}
			}
			values[k.name] = text
			continue
		}
		switch strings.ToLower(text) {
		case "1", "true", "yes", "on":
			values[k.name] = true
		case "0", "false", "no", "off":
			values[k.name] = false
		default:
			return nil, &Error{name, fmt.Sprintf("is true or false (or 1 or 0), not %q", shown(text))}
		}
	}
	return values, nil
}

func checkFlags(flags map[string]any) error {
	for name, value := range flags {
		i := slices.IndexFunc(keys(), func(k key) bool { return k.name == name && k.flag != "" })
		if i < 0 {
			return fmt.Errorf("read the settings: no flag sets %q", name)
		}
		k := keys()[i]
		text, isText := value.(string)
		_, isBool := value.(bool)
		switch {
		case k.text && !isText || !k.text && !isBool:
			return fmt.Errorf("read the settings: %s has a value of type %T", k.flag, value)
		case k.text:
			if err := checkText(k.name, text); err != nil {
				return &Error{k.flag, err.Error()}
			}
		}
	}
	return nil
}

// readFile reads config.yaml in dir; a file that is not there, or holds nothing
// but comments, is no setting at all.
func readFile(dir string, hooks *Hooks) (values map[string]any, path string, err error) {
	if dir == "" {
		return nil, "", nil
	}
	path = filepath.Join(dir, FileName)
	data, err := readTrusted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, path, nil
	}
	if err != nil {
		return nil, path, err
	}
	if onlyComments(data) {
		return nil, path, nil
	}
	doc, err := strictyaml.Parse(path, data)
	if err != nil {
		return nil, path, err
	}
	var f file
	if err := doc.Decode(&f); err != nil {
		return nil, path, err
	}
	values = make(map[string]any)
	for _, t := range []struct {
		name string
		text *string
	}{{"store", f.Store}, {"ca_file", f.CAFile}, {"audit", f.Audit}, {"remind_secret_age", f.Remind}} {
		if t.text == nil {
			continue
		}
		if err := checkText(t.name, *t.text); err != nil {
			return nil, path, doc.Errorf([]any{t.name}, "%s %v", t.name, err)
		}
		values[t.name] = *t.text
	}
	for name, flag := range map[string]*bool{"personal": f.Personal, "no_input": f.NoInput, "quiet": f.Quiet, "debug": f.Debug, "json": f.JSON} {
		if flag != nil {
			values[name] = *flag
		}
	}
	for name, argv := range map[string][]string{
		"alert": f.Hooks.Alert, "connect": f.Hooks.Connect, "refresh_failed": f.Hooks.RefreshFailed, "disconnect": f.Hooks.Disconnect,
	} {
		if len(argv) > 0 && !filepath.IsAbs(argv[0]) {
			return nil, path, doc.Errorf([]any{"hooks", name}, "hooks: %s begins with the absolute path of a program, not with %q", name, shown(argv[0]))
		}
	}
	*hooks = f.Hooks
	return values, path, nil
}

func onlyComments(data []byte) bool {
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// readTrusted reads a file that only the user and root can have written. Links
// are followed: people keep their configuration elsewhere and link to it.
func readTrusted(path string) ([]byte, error) {
	fault := func(why string) error { return fmt.Errorf("refusing %s: %s", path, why) }
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the configuration: %w", err)
	case !st.Mode().IsRegular():
		return nil, fault("it is not a regular file")
	case !ownerTrusted(st):
		return nil, fault("it belongs to another user")
	case worldWritable(st):
		return nil, fault("everybody may write it; take that away with chmod o-w")
	case st.Size() > strictyaml.MaxBytes:
		return nil, &strictyaml.Error{File: path, Line: 1, Column: 1, Msg: fmt.Sprintf("the file is larger than %d KiB", strictyaml.MaxBytes>>10)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return data, nil
}

func shown(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}
