package inject

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// preloads holds what makes Node.js use the proxy where it does not by itself.
//
//go:embed preload.cjs
var preloads embed.FS

// Route is how a child is led through the proxy of its run.
type Route struct {
	// Proxy is the proxy's URL with the run's key.
	Proxy string
	// Pinned are the hosts, with their ports, that must not be reached around
	// the proxy.
	Pinned []string
	// CA is the run's authority: PEM certificates.
	CA []byte
	// Home is where wget keeps its settings, which are joined with those that it
	// needs here. Empty: none are.
	Home string
	// Dir is the run's folder, which exists. The files that the variables name
	// are written into it, readable by their owner alone.
	Dir string
}

// proxyNames are the variables that programs look for a proxy in. npm has its
// own, which go before its configuration file.
func proxyNames() []string {
	return []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy", "npm_config_proxy", "npm_config_https_proxy"}
}

// replacing are the variables that name a file of authorities which takes the
// place of the program's own: such a file has to hold the system's too.
func replacing() []string {
	return []string{
		"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "CARGO_HTTP_CAINFO",
		"NIX_SSL_CERT_FILE", "HTTPLIB2_CA_CERTS", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", "BUNDLE_SSL_CA_CERT",
		"HEX_CACERTS_PATH",
	}
}

// replacingIfSet are like those of replacing, and their programs do well without
// them.
func replacingIfSet() []string {
	return []string{"npm_config_cafile", "NPM_CONFIG_CAFILE", "YARN_HTTPS_CA_FILE_PATH"}
}

// adding are the variables that name a file of further authorities.
func adding() []string { return []string{"NODE_EXTRA_CA_CERTS", "DENO_CERT"} }

// Env returns base with the variables that lead a child through the proxy and
// let it trust the run's authority. What the person had set is joined and not
// lost: a file of authorities is copied together with the run's own, NODE_OPTIONS
// is added to. The person's own proxies and exceptions are left to the run's
// proxy, which has to obey them.
func (r Route) Env(base []string) ([]string, error) {
	return r.env(base, runtime.GOOS == "windows", systemBundles(runtime.GOOS))
}

// env is Env with the platform's rule for names, and the files in which to look
// for the system's authorities.
func (r Route) env(base []string, fold bool, bundles []string) ([]string, error) {
	set := newVariables(base, fold)
	for _, name := range proxyNames() {
		set.put(name, r.Proxy)
	}
	around := strings.Join(r.around(), ",")
	for _, name := range []string{"NO_PROXY", "no_proxy", "npm_config_noproxy"} {
		set.put(name, around)
	}
	if err := r.authorities(set, bundles); err != nil {
		return nil, err
	}
	if err := r.wget(set); err != nil {
		return nil, err
	}
	set.put("NODE_USE_ENV_PROXY", "1")
	preload, err := preloads.ReadFile("preload.cjs")
	if err != nil {
		return nil, err
	}
	path, err := r.write("node.cjs", preload)
	if err != nil {
		return nil, err
	}
	set.put("NODE_OPTIONS", strings.TrimSpace(set.get("NODE_OPTIONS")+" --require="+nodeQuote(path)))
	return set.list, nil
}

// around names the hosts that a child reaches by itself: its own machine, except
// where that is what the run pins.
func (r Route) around() []string {
	var hosts []string
	for _, local := range []string{"localhost", "127.0.0.1", "::1", "[::1]"} {
		pinned := false
		for _, host := range r.Pinned {
			name := host
			if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
				name = host[:at]
			}
			pinned = pinned || strings.Trim(name, "[]") == strings.Trim(local, "[]")
		}
		if !pinned {
			hosts = append(hosts, local)
		}
	}
	return hosts
}

// authorities writes the files with the run's authority and names them.
func (r Route) authorities(set *variables, bundles []string) error {
	written := map[string]string{}
	// One file for each source, whatever the number of variables that name it.
	joined := func(key string, source func() []byte) (string, error) {
		if path, ok := written[key]; ok {
			return path, nil
		}
		path, err := r.write(fmt.Sprintf("ca-%d.pem", len(written)), append(source(), r.CA...))
		written[key] = path
		return path, err
	}
	systems := func() []byte {
		var more []string
		for _, dir := range filepath.SplitList(set.get("SSL_CERT_DIR")) {
			more = append(more, filesIn(dir)...)
		}
		return certificates(firstFile(bundles), more)
	}
	for _, name := range replacing() {
		key, source := "system", systems
		if file := set.get(name); file != "" {
			key, source = "file "+file, func() []byte { return certificates(file, nil) }
		} else if firstFile(bundles) == "" {
			continue // a file with the run's authority alone would hide the system's
		}
		path, err := joined(key, source)
		if err != nil {
			return err
		}
		set.put(name, path)
	}
	for _, name := range append(replacingIfSet(), adding()...) {
		file := set.get(name)
		extra := name == "NODE_EXTRA_CA_CERTS" || name == "DENO_CERT"
		if file == "" && !extra {
			continue
		}
		path, err := joined("file "+file, func() []byte { return certificates(file, nil) })
		if err != nil {
			return err
		}
		set.put(name, path)
	}
	return nil
}

// wget tells wget of the authorities in its own way: where it is built with
// GnuTLS it knows no variable for them but the one that names its settings.
func (r Route) wget(set *variables) error {
	bundle := set.get("SSL_CERT_FILE")
	if bundle == "" {
		return nil
	}
	var settings []byte
	if r.Home != "" {
		file := set.get("WGETRC")
		if file == "" {
			file = filepath.Join(r.Home, ".wgetrc")
		}
		if settings = read(file); len(settings) > 0 {
			settings = append(settings, '\n')
		}
	}
	path, err := r.write("wgetrc", append(settings, "ca_certificate = "+bundle+"\n"...))
	if err != nil {
		return err
	}
	set.put("WGETRC", path)
	return nil
}

func (r Route) write(name string, data []byte) (string, error) {
	path := filepath.Join(r.Dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write a file of the run: %w", err)
	}
	return path, nil
}

// nodeQuote writes a path as one word of NODE_OPTIONS.
func nodeQuote(path string) string {
	if !strings.ContainsAny(path, " \"\\") {
		return path
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

// variables is an environment in which names can be set anew.
type variables struct {
	list []string
	fold bool
}

func newVariables(base []string, fold bool) *variables {
	return &variables{list: append([]string(nil), base...), fold: fold}
}

func (v *variables) same(kv, name string) bool {
	have, _, _ := strings.Cut(kv, "=")
	return have == name || v.fold && strings.EqualFold(have, name)
}

func (v *variables) get(name string) string {
	for _, kv := range v.list {
		if v.same(kv, name) {
			_, value, _ := strings.Cut(kv, "=")
			return value
		}
	}
	return ""
}

func (v *variables) put(name, value string) {
	v.list = slices.DeleteFunc(v.list, func(kv string) bool { return v.same(kv, name) })
	v.list = append(v.list, name+"="+value)
}
