package providers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CheckEnvName reports why a variable of that name may not carry a token: it
// must match [A-Z][A-Z0-9_]*, and it must not steer a loader, a shell, a
// language runtime, a proxy, a certificate store, git, a CI system or apiauth.
// A repository may choose the name and an issuer the value, so such a variable
// would let both run code.
func CheckEnvName(name string) error {
	shown := strconv.QuoteToASCII(clip(name, 60))
	if name == "" || len(name) > 128 || !isUpper(name[0]) {
		return fmt.Errorf("%s is not a variable name: it must match [A-Z][A-Z0-9_]*", shown)
	}
	for i := range len(name) {
		if c := name[i]; !isUpper(c) && !isDigit(c) && c != '_' {
			return fmt.Errorf("%s is not a variable name: it must match [A-Z][A-Z0-9_]*", shown)
		}
	}
	if why := refusedEnv(name); why != "" {
		return fmt.Errorf("the variable %s may not carry a token: it steers %s", shown, why)
	}
	return nil
}

func refusedEnv(name string) string {
	begins := func(prefixes ...string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
	ends := func(suffixes ...string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
	}
	switch {
	case begins("APIAUTH_"):
		return "apiauth"
	case name == "NODE_AUTH_TOKEN": // npm's own variable for a registry token
		return ""
	case begins("LD_", "DYLD_", "GLIBC_", "MALLOC_"):
		return "the loader"
	case begins("PYTHON", "PERL", "RUBY", "NODE_", "NPM_CONFIG_", "DOTNET_", "CORECLR_", "COR_", "COMPLUS_", "LUA_"):
		return "a language runtime"
	case begins("BASH_", "ZSH_", "KSH_"):
		return "the shell"
	case begins("GIT_", "SSH_", "GPG_"):
		return "git or ssh"
	case begins("SSL_", "CURL_", "OPENSSL_"), ends("_CA_BUNDLE", "_CA_CERTS", "_CA_FILE", "_CAINFO", "_SSL_VERIFY"):
		return "certificate checks"
	case ends("_PROXY"):
		return "proxies"
	case begins("DBUS_", "XDG_", "LC_"):
		return "the desktop session"
	}
	switch name {
	case "PATH", "HOME", "SHELL", "IFS", "ENV", "USER", "LOGNAME", "PWD", "OLDPWD", "CDPATH", "PS1", "PS2", "PS3", "PS4",
		"PROMPT_COMMAND", "BASHOPTS", "SHELLOPTS", "GLOBIGNORE", "ZDOTDIR", "FPATH", "TERM", "TERMINFO", "TERMCAP", "TERMINFO_DIRS",
		"EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESS", "LESSOPEN", "LESSCLOSE", "BROWSER", "MAIL", "SUDO_ASKPASS", "TMPDIR", "TEMP", "TMP",
		"PATHEXT", "COMSPEC", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "USERPROFILE", "HOMEDRIVE",
		"HOMEPATH", "PSMODULEPATH", "PROMPT":
		return "the shell"
	case "LIBPATH", "SHLIB_PATH", "LIBRARY_PATH", "CPATH", "GCONV_PATH", "LOCPATH", "NLSPATH", "HOSTALIASES", "RES_OPTIONS", "LOCALDOMAIN",
		"RESOLV_HOST_CONF", "GETCONF_DIR", "NIS_PATH":
		return "the loader"
	case "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_OPTS", "CLASSPATH", "MAVEN_OPTS", "GRADLE_OPTS", "PHPRC",
		"PHP_INI_SCAN_DIR", "GOFLAGS", "GOPROXY", "GOROOT", "GOPATH", "GOENV", "GOTOOLCHAIN", "GODEBUG", "RUSTC_WRAPPER", "RUSTC", "RUSTFLAGS", "CARGO_HOME",
		"GEM_HOME", "GEM_PATH", "BUNDLE_GEMFILE", "ERL_FLAGS", "ERL_AFLAGS", "ERL_LIBS", "R_PROFILE", "R_ENVIRON", "R_HOME", "DENO_DIR", "BUN_INSTALL",
		"ELECTRON_RUN_AS_NODE", "MAKEFLAGS", "MAKEFILES", "MFLAGS", "CC", "CXX", "CFLAGS", "LDFLAGS", "PKG_CONFIG_PATH":
		return "a language runtime"
	case "CI", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE", "RUNNER_TEMP", "NO_COLOR":
		return "the CI system"
	case "DOCKER_HOST", "DOCKER_CONFIG", "KUBECONFIG":
		return "containers"
	case "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "LANG", "LANGUAGE", "TZ":
		return "the desktop session"
	}
	return ""
}
