package config

import "strings"

// Dirs are the user's folders for apiauth, as absolute paths. They need not
// exist.
type Dirs struct {
	Config    string // config.yaml
	Providers string // the user's provider definitions
	State     string // projects, stores, bundles
}

// Paths returns the folders for a system (goos as in runtime.GOOS) and a home
// folder: the XDG ones (variables with relative values are ignored, as that
// specification wants), on macOS and Windows the system's own places.
// APIAUTH_CONFIG_DIR and APIAUTH_STATE_DIR go before all that; a relative value
// of theirs is an *Error, because it would mean another place in each folder.
func Paths(env Env, goos, home string) (Dirs, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	var d Dirs
	for _, p := range []struct {
		variable string
		into     *string
		xdg      string // variable
		inHome   []string
		darwin   []string
		windows  string // variable
		profile  []string
	}{
		{"APIAUTH_CONFIG_DIR", &d.Config, "XDG_CONFIG_HOME", []string{".config"}, nil, "APPDATA", []string{"AppData", "Roaming"}},
		{"APIAUTH_STATE_DIR", &d.State, "XDG_STATE_HOME", []string{".local", "state"}, []string{"state"}, "LOCALAPPDATA", []string{"AppData", "Local"}},
	} {
		if dir := get(env, p.variable); dir != "" {
			if !absolute(goos, dir) {
				return Dirs{}, &Error{p.variable, "needs an absolute path"}
			}
			*p.into = clean(goos, dir)
			continue
		}
		base := ""
		switch goos {
		case "darwin":
		case "windows":
			base = get(env, p.windows)
		default:
			base = get(env, p.xdg)
		}
		if absolute(goos, base) {
			*p.into = join(goos, base, "apiauth")
			continue
		}
		if !absolute(goos, home) {
			return Dirs{}, &Error{"HOME", "is not set to an absolute path, so there is no place for apiauth's files; set it, or APIAUTH_CONFIG_DIR and APIAUTH_STATE_DIR"}
		}
		switch goos {
		case "darwin":
			*p.into = join(goos, home, append([]string{"Library", "Application Support", "apiauth"}, p.darwin...)...)
		case "windows":
			*p.into = join(goos, home, append(p.profile, "apiauth")...)
		default:
			*p.into = join(goos, home, append(p.inHome, "apiauth")...)
		}
	}
	d.Providers = join(goos, d.Config, "providers")
	return d, nil
}

func absolute(goos, path string) bool {
	if goos != "windows" {
		return strings.HasPrefix(path, "/")
	}
	if strings.HasPrefix(path, `\\`) {
		return len(path) > 2
	}
	return len(path) >= 3 && path[1] == ':' && (path[2] == '\\' || path[2] == '/')
}

func separator(goos string) string {
	if goos == "windows" {
		return `\`
	}
	return "/"
}

// clean drops separators at the end, but not the root's own.
func clean(goos, path string) string {
	cut := strings.TrimRight(path, separator(goos))
	if !absolute(goos, cut) {
		return path
	}
	return cut
}

func join(goos, base string, parts ...string) string {
	sep := separator(goos)
	return strings.TrimRight(base, sep) + sep + strings.Join(parts, sep)
}
