package inject

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority makes a certificate in PEM; its name tells it from others.
func authority(t *testing.T, name string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// names lists the certificates of a file. Anything else in it is a failure.
func names(t *testing.T, file string) (list []string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return list
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			t.Fatalf("%s holds a %s: %v", filepath.Base(file), block.Type, err)
		}
		list = append(list, cert.Subject.CommonName)
	}
}

func put(t *testing.T, file string, parts ...[]byte) string {
	t.Helper()
	if err := os.WriteFile(file, slices.Concat(parts...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRouteChainsWhatThePersonSet(t *testing.T) {
	own, dir := t.TempDir(), t.TempDir()
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("no key of anybody")})
	system := put(t, filepath.Join(own, "system.pem"), authority(t, "system one"), []byte("# text\n"), authority(t, "system two"))
	corporate := put(t, filepath.Join(own, "corporate.pem"), key, authority(t, "corporate"))
	folder := filepath.Join(own, "certs")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(folder, "a.pem"), authority(t, "in the folder"))

	r := Route{Proxy: "http://apiauth:key@127.0.0.1:4000", Pinned: []string{"api.example.com", "localhost:8443"}, CA: authority(t, "run"), Home: own, Dir: dir}
	put(t, filepath.Join(own, ".wgetrc"), []byte("timeout = 7"))
	env, err := r.env([]string{
		"PATH=/bin", "HTTPS_PROXY=http://corporate:3128", "no_proxy=.example.com,10.0.0.0/8", "NO_PROXY=*",
		"REQUESTS_CA_BUNDLE=" + corporate, "NODE_EXTRA_CA_CERTS=" + corporate, "SSL_CERT_DIR=" + folder,
		"npm_config_cafile=" + filepath.Join(own, "not there"), "NODE_OPTIONS=--max-old-space-size=100",
	}, false, []string{filepath.Join(own, "missing"), system})
	if err != nil {
		t.Fatal(err)
	}
	vars := newVariables(env, false)
	for _, name := range proxyNames() {
		if got := vars.get(name); got != r.Proxy {
			t.Errorf("%s=%s", name, got)
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy", "npm_config_noproxy"} {
		if got := vars.get(name); got != "127.0.0.1,::1,[::1]" {
			t.Errorf("%s=%s: a pinned host may be reached around the proxy, or loopback not at all", name, got)
		}
	}
	for name, want := range map[string]string{
		"SSL_CERT_FILE":       "system one,system two,in the folder,run",
		"CURL_CA_BUNDLE":      "system one,system two,in the folder,run",
		"GIT_SSL_CAINFO":      "system one,system two,in the folder,run",
		"REQUESTS_CA_BUNDLE":  "corporate,run",
		"NODE_EXTRA_CA_CERTS": "corporate,run",
		"DENO_CERT":           "run",
		"npm_config_cafile":   "run",
	} {
		file := vars.get(name)
		if filepath.Dir(file) != dir {
			t.Errorf("%s=%s lies outside of the run's folder", name, file)
			continue
		}
		if got := strings.Join(names(t, file), ","); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if settings, err := os.ReadFile(vars.get("WGETRC")); err != nil || string(settings) != "timeout = 7\nca_certificate = "+vars.get("SSL_CERT_FILE")+"\n" {
		t.Errorf("the settings of wget are %q: %v", settings, err)
	}
	if got := vars.get("SSL_CERT_DIR"); got != folder {
		t.Errorf("SSL_CERT_DIR=%s", got)
	}
	if got, want := vars.get("NODE_OPTIONS"), "--max-old-space-size=100 --require="+nodeQuote(filepath.Join(dir, "node.cjs")); got != want {
		t.Errorf("NODE_OPTIONS=%s, want %s", got, want)
	}
	if vars.get("NODE_USE_ENV_PROXY") != "1" || vars.get("PATH") != "/bin" {
		t.Error("a variable is missing")
	}
	seen := map[string]bool{}
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		if seen[name] {
			t.Errorf("%s stands there twice", name)
		}
		seen[name] = true
	}
	for _, e := range mustList(t, dir) {
		if info, err := e.Info(); err != nil || filepath.Separator == '/' && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", e.Name(), info.Mode())
		}
	}
}

// Without a file of the system's authorities nothing may take their place.
func TestRouteWithoutSystemBundle(t *testing.T) {
	env, err := Route{Proxy: "http://p:1", CA: authority(t, "run"), Dir: t.TempDir()}.env(nil, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	vars := newVariables(env, false)
	for _, name := range replacing() {
		if got := vars.get(name); got != "" {
			t.Errorf("%s=%s hides the system's authorities", name, got)
		}
	}
	if vars.get("NODE_EXTRA_CA_CERTS") == "" {
		t.Error("NODE_EXTRA_CA_CERTS is not set")
	}
}

func TestRouteFoldsNames(t *testing.T) {
	env, err := Route{Proxy: "http://p:1", CA: authority(t, "run"), Dir: t.TempDir()}.env([]string{"Https_Proxy=http://corporate:1"}, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range env {
		if strings.Contains(kv, "corporate") {
			t.Errorf("%s is left beside ours", kv)
		}
	}
}

func TestRouteWritesNowhereElse(t *testing.T) {
	_, err := Route{Dir: filepath.Join(t.TempDir(), "missing"), CA: authority(t, "run")}.env(nil, false, nil)
	if err == nil {
		t.Error("no folder, and no error")
	}
}

func TestNodeQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/run/node.cjs": "/tmp/run/node.cjs",
		"/tmp/a b/node.cjs": `"/tmp/a b/node.cjs"`,
		`C:\Temp\node.cjs`:  `"C:\\Temp\\node.cjs"`,
		`/tmp/a"b/node.cjs`: `"/tmp/a\"b/node.cjs"`,
	} {
		if got := nodeQuote(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func mustList(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}
