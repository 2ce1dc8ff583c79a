package isolate

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoBubblewrap says that bwrap is not installed where it is looked for.
var ErrNoBubblewrap = errors.New("bubblewrap (bwrap) is not installed")

// FindBubblewrap returns the path of bwrap: where systems install it, else in
// the absolute entries of path that do not lie in the project.
func FindBubblewrap(path, project string) (string, error) {
	dirs := []string{"/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin", "/run/current-system/sw/bin"}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) && !within(dir, project) {
			dirs = append(dirs, dir)
		}
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, "bwrap")
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", ErrNoBubblewrap
}

// inside is where this program stands in the sandbox.
const inside = "/run/apiauth"

// Bubblewrap returns the command line that runs o.Command in namespaces of its
// own (mounts, processes, network, IPC, users), with bwrap as the path of
// bubblewrap and relay as the words after this program's name that make it the
// inner half: relay's own flags and the command follow.
//
// The system is seen read-only. /tmp, /run and the home directory are empty ones
// of the run's own, the project is the person's. The network is a loopback
// device that nothing outside listens on, so that the socket in the run's folder
// is the only way out. Everything ends with this process.
func Bubblewrap(bwrap string, relay []string, o Options) ([]string, error) {
	o, err := o.canonical()
	if err != nil {
		return nil, err
	}
	// A shell lets bwrap pass over the signals that are meant for the command: it
	// would end by them and take the sandbox with it. The inner half has
	// handlers for them, so the command itself starts with the defaults.
	argv := []string{"/bin/sh", "-c", `trap "" INT TERM HUP QUIT USR1 USR2; exec "$@"`, "sh", bwrap,
		"--die-with-parent", "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
		"--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"}
	if !o.OwnTerminal {
		argv = append(argv, "--new-session")
	}
	mount := func(words ...string) { argv = append(argv, words...) }
	empty := []string{}
	for _, dir := range []string{"/tmp", "/var/tmp", "/run", "/var/run", o.Home} {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil || slices.ContainsFunc(empty, func(have string) bool { return within(real, have) }) {
			continue
		}
		empty = append(empty, real)
		mount("--tmpfs", real)
	}
	if o.Home != "" && !slices.Contains(empty, o.Home) {
		mount("--dir", o.Home) // in the empty /tmp or /run
	}
	for _, dir := range o.programs() {
		mount("--ro-bind", dir, dir)
	}
	mount("--bind", o.Project, o.Project)
	for _, file := range o.ReadOnly {
		if real, err := filepath.EvalSymlinks(file); err == nil && within(real, o.Project) {
			mount("--ro-bind", real, real)
		}
	}
	for _, path := range o.Sockets {
		real, err := filepath.EvalSymlinks(path)
		st, serr := os.Lstat(real)
		gone := slices.ContainsFunc(empty, func(dir string) bool { return within(real, dir) }) && !within(real, o.Project)
		if err == nil && serr == nil && st.Mode().Type() == os.ModeSocket && !gone && real != o.Socket && real != o.Control {
			mount("--ro-bind", "/dev/null", real)
		}
	}
	for _, path := range o.Hidden {
		st, err := os.Stat(path)
		switch {
		case err != nil:
		case st.IsDir():
			mount("--tmpfs", path)
		default:
			mount("--ro-bind", "/dev/null", path)
		}
	}
	mount("--ro-bind", o.Run, o.Run, "--ro-bind", o.Self, inside, "--chdir", o.Dir, "--", inside)
	argv = append(argv, relay...)
	argv = append(argv, "--port", strconv.Itoa(o.Port), "--socket", o.Socket, "--control", o.Control, "--")
	return append(argv, o.Command...), nil
}

// ListSockets returns the paths of the unix sockets that the table in a file of
// the form of /proc/net/unix (proc_pid_net(5)) names: a socket can be connected to
// through a read-only mount.
func ListSockets(table string) []string {
	text, err := os.ReadFile(table)
	if err != nil {
		return nil // not Linux, or hidden from us
	}
	var paths []string
	for line := range strings.Lines(string(text)) {
		// Numbers, and a path unless the socket has none.
		if _, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " /"); ok && !slices.Contains(paths, "/"+path) {
			paths = append(paths, "/"+path)
		}
	}
	return paths
}

// Env returns the environment of an isolated command: without the variables
// that lead to the person's keychain, agents, desktop and settings of this
// program. hidden are the folders that a variable may not name.
func Env(base []string) []string {
	var env []string
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "APIAUTH_") || slices.Contains(outside(), name) {
			continue
		}
		env = append(env, kv)
	}
	return append(env, "TMPDIR=/tmp")
}

// outside are variables that name what lies outside of the isolation.
func outside() []string {
	return []string{
		"DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "DBUS_STARTER_ADDRESS", "XDG_RUNTIME_DIR",
		"SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "GPG_AGENT_INFO", "GNOME_KEYRING_CONTROL", "GNOME_KEYRING_PID",
		"DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET", "XAUTHORITY", "SESSION_MANAGER", "TMUX", "STY", "DOCKER_HOST", "CONTAINER_HOST", "KRB5CCNAME",
		"TMPDIR", "TMP", "TEMP",
		"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME",
	}
}
