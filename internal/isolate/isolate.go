// Package isolate runs a command where it reaches nothing but its project and
// the proxy of its run: on Linux through bubblewrap, on macOS through
// sandbox-exec. It writes the command lines and the profile for them, and has
// the two halves that bridge the proxy into a network of its own. It knows
// nothing of tokens.
package isolate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Options say what an isolated command may see. All paths are absolute.
type Options struct {
	// Command is what runs inside, found in the PATH of its environment.
	Command []string
	// Dir is its working directory, in Project or below.
	Dir string
	// Project is the one folder that it may change.
	Project string
	// ReadOnly are files in Project that it may not change.
	ReadOnly []string
	// Home is the person's home directory: an empty one takes its place, with
	// the programs that Path finds in it.
	Home string
	Path string
	// Hidden are folders and files outside of Home that must not be seen, such
	// as the state of this program. Those that do not exist are passed over.
	Hidden []string
	// Sockets are those of other programs (ListSockets), which must not be
	// reached: also those in Project. What is no socket is passed over.
	Sockets []string
	// Run is the folder of the run, which is seen and not changed.
	Run string
	// Socket and Control are sockets in Run: the proxy's, and the one of a
	// Controller.
	Socket, Control string
	// Port is where the proxy is found inside, on 127.0.0.1.
	Port int
	// Self is this program.
	Self string
	// OwnTerminal says that the command's terminal, if it has one, is not the
	// person's. Without, it gets a session without a terminal: on the person's
	// own it could type commands for the shell that waits behind (TIOCSTI).
	OwnTerminal bool
}

// ErrUnsafe is wrapped by the errors about folders that cannot be given to an
// isolated command.
var ErrUnsafe = errors.New("that would give away what isolation keeps")

// canonical resolves the links in every path, as mounts are made on what is
// there and not on links to it.
func (o Options) canonical() (Options, error) {
	for _, p := range []*string{&o.Dir, &o.Project, &o.Run, &o.Self, &o.Socket, &o.Control} {
		real, err := filepath.EvalSymlinks(*p)
		if err != nil {
			return o, fmt.Errorf("isolate: %w", err)
		}
		*p = real
	}
	if o.Home != "" {
		if real, err := filepath.EvalSymlinks(o.Home); err == nil && real != "/" {
			o.Home = real
		} else {
			o.Home = ""
		}
	}
	var hidden []string
	for _, path := range o.Hidden {
		if real, err := filepath.EvalSymlinks(path); err == nil && real != "/" {
			hidden = append(hidden, real)
		}
	}
	o.Hidden = hidden
	return o, o.check()
}

// check refuses a project that holds what is to be hidden.
func (o Options) check() error {
	if o.Home != "" && within(o.Home, o.Project) {
		return fmt.Errorf("the project's folder %s is your home directory or above it: %w", o.Project, ErrUnsafe)
	}
	for _, root := range systemFolders() {
		if within(root, o.Project) {
			return fmt.Errorf("the project's folder %s holds the system's %s: %w", o.Project, root, ErrUnsafe)
		}
	}
	for _, path := range o.Hidden {
		if within(o.Project, path) {
			return fmt.Errorf("the project's folder %s lies in %s: %w", o.Project, path, ErrUnsafe)
		}
	}
	if !within(o.Dir, o.Project) {
		return fmt.Errorf("the working directory %s is not in the project's folder %s: %w", o.Dir, o.Project, ErrUnsafe)
	}
	return nil
}

// systemFolders are never a project, nor below one.
func systemFolders() []string {
	return []string{"/bin", "/etc", "/proc", "/run", "/tmp", "/usr", "/var"}
}

// within reports whether path is dir or lies in it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && (rel == "." || filepath.IsLocal(rel))
}

// toolchains are folders below a home directory in which programs keep what
// they need to run, and no secrets.
func toolchains() []string {
	return []string{
		".nvm", ".volta", ".fnm", ".local/share/fnm", ".nodenv", ".bun/bin", ".deno/bin", ".local/share/pnpm", // JavaScript
		".pyenv", ".local/share/uv", ".local/share/pipx", ".local/pipx", ".local/lib", "miniconda3", "anaconda3", // Python
		".rustup", ".cargo/bin", ".rbenv", ".rvm", ".goenv", "sdk", "go/bin", ".sdkman", ".jenv", // Rust, Ruby, Go, Java
		".asdf", ".local/share/mise", ".local/bin", "bin", // any
	}
}

// programs returns the folders below the home directory that a command needs to
// find and run its programs.
func (o Options) programs() []string {
	var found []string
	add := func(path string) {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || real == o.Home || !within(real, o.Home) || within(o.Home, real) || within(real, o.Project) || within(o.Project, real) {
			return
		}
		for _, have := range found {
			if within(real, have) {
				return
			}
		}
		for _, hidden := range o.Hidden {
			if within(hidden, real) || within(real, hidden) {
				return
			}
		}
		if st, err := os.Stat(real); err == nil && st.IsDir() {
			found = append(found, real)
		}
	}
	if o.Home == "" {
		return nil
	}
	for _, name := range toolchains() {
		add(filepath.Join(o.Home, filepath.FromSlash(name)))
	}
	for _, dir := range filepath.SplitList(o.Path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		// A program's libraries stand beside its bin. Folders that hold more
		// than one program's things, such as ~/.local, are not among them.
		if top := filepath.Dir(dir); filepath.Base(dir) == "bin" && depth(top, o.Home) >= 2 && !strings.HasSuffix(top, "/.local") {
			add(top)
		}
		add(dir)
	}
	return found
}

// depth counts the steps from dir down to path; 0 when it does not lie there.
func depth(path, dir string) int {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return 0
	}
	return strings.Count(rel, string(filepath.Separator)) + 1
}
