package inject

import (
	"runtime"
	"slices"
	"strings"
)

// ChildEnv returns the environment for a child: base (the inherited one, as
// os.Environ gives it) with vars set, and without the variables that carry
// secrets of our own: APIAUTH_STORE_PASSPHRASE*, APIAUTH_STORE_KEY*,
// APIAUTH_BUNDLE*, APIAUTH_CLIENT_SECRET_* and APIAUTH_PROXY_KEY* (R-80). A
// variable that is set replaces every inherited one of its name. The values
// are in the clear from here on.
func ChildEnv(base []string, vars []Var) []string {
	return childEnv(base, vars, runtime.GOOS == "windows")
}

// childEnv is ChildEnv with the platform's rule for names: fold says that they
// do not differ by case.
func childEnv(base []string, vars []Var, fold bool) []string {
	set := make(map[string]bool, len(vars))
	for _, v := range vars {
		set[v.Name] = true
	}
	env := make([]string, 0, len(base)+len(vars))
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if fold {
			name = strings.ToUpper(name)
		}
		if set[name] || ownSecret(name) {
			continue
		}
		env = append(env, kv)
	}
	for _, v := range vars {
		env = append(env, v.Name+"="+v.Value.Reveal())
	}
	return env
}

func ownSecret(name string) bool {
	if !strings.HasPrefix(name, "APIAUTH_") {
		return false
	}
	return slices.ContainsFunc([]string{
		"APIAUTH_STORE_PASSPHRASE", "APIAUTH_STORE_KEY", "APIAUTH_BUNDLE",
		"APIAUTH_CLIENT_SECRET_", "APIAUTH_PROXY_KEY",
	}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}
