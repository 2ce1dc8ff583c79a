package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
)

// settle is how long a browser helper is watched: one that fails within it makes
// room for the next candidate, one that still runs has done its work.
const settle = 2 * time.Second

// ErrNoBrowser says that no program was found that could open a browser.
var ErrNoBrowser = errors.New("no browser was found")

// Opener opens a URL in the person's browser: with the commands of $BROWSER, or
// else with the system's opener. No shell is involved, and no program is run
// that a project's folder or the working directory could have supplied.
type Opener struct {
	// Env looks up BROWSER and PATH; nil finds neither.
	Env func(string) string
	// ProjectDir is the folder whose programs are never run; "" for none.
	ProjectDir string
	// Environ is the environment of a helper; our own secrets are left out of
	// it. Nil inherits everything.
	Environ []string
	// Stderr receives what a helper prints, on either of its outputs. Nil
	// drops it. Anything but an *os.File keeps a goroutine for as long as the
	// helper runs.
	Stderr io.Writer
	// Start runs argv and returns its error if it fails at once. Nil starts a
	// process and watches it for 2 s; it is not waited for and not ended.
	Start func(ctx context.Context, argv []string) error
	// Fallback opens a URL where the system has no program for that
	// (Windows). It is called when there is no candidate.
	Fallback func(url string) error
	// GOOS defaults to runtime.GOOS.
	GOOS string
}

// Open checks the URL (http or https, nothing that a shell or a terminal would
// take for a command) and hands it to the first candidate that starts and does
// not fail at once. ErrNoBrowser means that there is none.
func (o Opener) Open(ctx context.Context, url string) error {
	clean, err := oauth.CleanURL(url)
	if err != nil {
		return fmt.Errorf("open a browser: %w", err)
	}
	return o.open(ctx, clean)
}

// OpenFile opens a file by its absolute path, so that its content, unlike an
// address, stands on no command line. Errors are those of Open.
func (o Opener) OpenFile(ctx context.Context, path string) error {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive of Windows (RFC 8089 appendix E.2)
	}
	var b strings.Builder
	b.WriteString("file://")
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("/.-_:", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return o.open(ctx, b.String())
}

// open hands a clean URL to the first candidate that takes it.
func (o Opener) open(ctx context.Context, clean string) error {
	candidates := o.Commands(clean)
	if len(candidates) == 0 {
		if o.Fallback == nil {
			return ErrNoBrowser
		}
		if err := o.Fallback(clean); err != nil {
			return fmt.Errorf("open a browser: %w", err)
		}
		return nil
	}
	start := o.Start
	if start == nil {
		start = o.start
	}
	var failures []error
	for _, argv := range candidates {
		err := start(ctx, argv)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", filepath.Base(argv[0]), err))
	}
	return fmt.Errorf("open a browser: %w", errors.Join(failures...))
}

// Commands returns the command lines that would be tried for a clean URL, in
// order, each with an absolute program. $BROWSER is a list like PATH; each
// command is split at blanks, and %s stands for the URL, which is appended where
// there is none. A $BROWSER that yields nothing is not replaced by the system's
// opener: it is what the person asked for.
func (o Opener) Commands(url string) [][]string {
	var commands [][]string
	if list := o.env("BROWSER"); strings.TrimSpace(list) != "" {
		for _, entry := range o.splitList(list) {
			fields := strings.Fields(entry)
			if len(fields) == 0 {
				continue
			}
			program, ok := o.find(fields[0])
			if !ok {
				continue
			}
			argv, placed := []string{program}, false
			for _, f := range fields[1:] {
				if strings.Contains(f, "%s") {
					f, placed = strings.ReplaceAll(f, "%s", url), true
				}
				argv = append(argv, f)
			}
			if !placed {
				argv = append(argv, url)
			}
			commands = append(commands, argv)
		}
		return commands
	}
	for _, name := range systemOpeners(o.goos()) {
		if program, ok := o.find(name); ok {
			commands = append(commands, []string{program, url})
		}
	}
	return commands
}

func systemOpeners(goos string) []string {
	switch goos {
	case "darwin":
		return []string{"/usr/bin/open"}
	case "windows":
		return nil // ShellExecute, by Fallback
	}
	return []string{"xdg-open", "wslview", "x-www-browser", "www-browser"}
}

// splitList splits $BROWSER at the system's list separator.
func (o Opener) splitList(list string) []string {
	if o.goos() == "windows" {
		return strings.Split(list, ";")
	}
	return strings.Split(list, ":")
}

// find returns the absolute path of a program: name itself when it is absolute,
// else the first hit in PATH. Entries of PATH that are relative or lie inside
// the project are passed over, and so is a hit that is a link into it.
func (o Opener) find(name string) (string, bool) {
	if filepath.IsAbs(name) {
		return name, isProgram(name)
	}
	if strings.ContainsAny(name, `/\`) {
		return "", false
	}
	names := []string{name}
	if o.goos() == "windows" && filepath.Ext(name) == "" {
		names = []string{name + ".exe"}
	}
	for _, dir := range filepath.SplitList(o.env("PATH")) {
		if !filepath.IsAbs(dir) || o.inProject(dir) {
			continue
		}
		for _, n := range names {
			if path := filepath.Join(dir, n); isProgram(path) && !o.inProject(path) {
				return path, true
			}
		}
	}
	return "", false
}

// inProject reports whether path lies in the project's folder, as it is written
// or with its links resolved.
func (o Opener) inProject(path string) bool {
	if o.ProjectDir == "" {
		return false
	}
	project := o.ProjectDir
	if resolved, err := filepath.EvalSymlinks(project); err == nil {
		project = resolved
	}
	if within(path, o.ProjectDir) || within(path, project) {
		return true
	}
	resolved, err := filepath.EvalSymlinks(path)
	return err == nil && within(resolved, project)
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && (rel == "." || rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)))
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && (runtime.GOOS == "windows" || info.Mode().Perm()&0o111 != 0)
}

func (o Opener) env(name string) string {
	if o.Env == nil {
		return ""
	}
	return o.Env(name)
}

func (o Opener) goos() string {
	if o.GOOS == "" {
		return runtime.GOOS
	}
	return o.GOOS
}

// start runs a helper in the background, out of reach of the terminal's Ctrl-C.
func (o Opener) start(ctx context.Context, argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // checked by Commands; it outlives ctx on purpose
	cmd.Stdout, cmd.Stderr = o.Stderr, o.Stderr
	cmd.Env = o.helperEnv()
	detach(cmd)
	if err := cmd.Start(); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return errors.New("it cannot be run")
		}
		return errors.New("it did not start")
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case err := <-ended:
		return err
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}

// helperEnv is the environment of a helper: without our own secrets, which no
// browser needs, and with a PATH that holds the safe entries alone, because
// helpers are scripts that look for more programs (xdg-open for dbus-send).
func (o Opener) helperEnv() []string {
	env := o.Environ
	if env == nil {
		env = os.Environ() //nolint:forbidigo // what os/exec does for a command without an environment
	}
	var kept []string
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		switch {
		case ownSecret(name):
			continue
		case name == "PATH" || o.goos() == "windows" && strings.EqualFold(name, "PATH"):
			kv = name + "=" + o.safePath(value)
		}
		kept = append(kept, kv)
	}
	return kept
}

// safePath is a PATH without its entries that are relative or lie inside the
// project.
func (o Opener) safePath(list string) string {
	dirs := slices.DeleteFunc(filepath.SplitList(list), func(dir string) bool { return !filepath.IsAbs(dir) || o.inProject(dir) })
	return strings.Join(dirs, string(filepath.ListSeparator))
}

func ownSecret(name string) bool {
	for _, p := range []string{"APIAUTH_STORE_PASSPHRASE", "APIAUTH_STORE_KEY", "APIAUTH_BUNDLE", "APIAUTH_CLIENT_SECRET_"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
