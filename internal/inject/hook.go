package inject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// hookTime is how long a hook may run.
const hookTime = 10 * time.Second

// Hook is a command that the user wants to be run at something that happens.
type Hook struct {
	// Argv begins with the absolute path of a program. No shell sees it.
	Argv []string
	// Env are variables, NAME=value; see HookEnv.
	Env []string
	// Output gets what the hook prints.
	Output io.Writer
}

// Run runs the hook to its end, for at most ten seconds.
func (h Hook) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hookTime)
	defer cancel()
	cmd, err := h.command(ctx)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = h.Output, h.Output
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("%s did not end within %s", h.Argv[0], hookTime)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", h.Argv[0], err)
	}
	return nil
}

// Start starts the hook in a session of its own and leaves it alone. It has
// neither input nor output.
func (h Hook) Start() error {
	cmd, err := h.command(context.Background())
	if err != nil {
		return err
	}
	cmd.SysProcAttr = apart()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", h.Argv[0], err)
	}
	return cmd.Process.Release()
}

func (h Hook) command(ctx context.Context) (*exec.Cmd, error) {
	if len(h.Argv) == 0 || !filepath.IsAbs(h.Argv[0]) {
		return nil, errors.New("a hook begins with the absolute path of a program")
	}
	cmd := exec.CommandContext(ctx, h.Argv[0], h.Argv[1:]...)
	cmd.Env = h.Env
	cmd.Dir = filepath.Dir(h.Argv[0]) // not the project, whose files are not the user's word
	return cmd, nil
}

// HookEnv returns the environment of a hook: of base (as os.Environ gives it) what
// a program needs to find its way, and no variable that could hold a token.
func HookEnv(base []string) []string {
	keep := []string{
		"PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS",
		"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME",
	}
	if runtime.GOOS == "windows" {
		keep = append(keep, "SYSTEMROOT", "WINDIR", "USERPROFILE", "USERNAME", "APPDATA", "LOCALAPPDATA", "PATHEXT", "TEMP", "TMP")
	}
	var env []string
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		if slices.Contains(keep, name) || strings.HasPrefix(name, "LC_") {
			env = append(env, kv)
		}
	}
	return env
}
