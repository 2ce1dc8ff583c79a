package cli

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/cgi" //nolint:gosec // the far side of a test, on loopback
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/apiauth/apiauth/test/peers"
)

// TestPeerScripts runs what a person types into the real git and curl.
func TestPeerScripts(t *testing.T) {
	peers.Program(t, "apt-get install git", "git")
	peers.Program(t, "apt-get install curl", "curl")
	scripts(t, "testdata/peers")
}

// cmdGitForge starts git servers on loopback, for repositories below forge/,
// which ask for a password on everything, and defines them as the provider
// "forge", whose issuer is the script's sandbox:
//
//	gitforge
//
//	FORGE        host and port of the forge, over TLS
//	FORGE_PLAIN  the same over http
//	FORGE_OTHER  somebody else's forge over TLS, which knows no password
//	FORGE_CA     the certificate of both
//
// The provider's git_hosts are FORGE, FORGE_PLAIN and forge.example.com. What was
// asked for stands in forge.log, plain.log and other.log, a line each:
// "path user", with - for none.
func cmdGitForge(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: gitforge")
	}
	root := ts.MkAbs("forge")
	ts.Check(os.MkdirAll(root, 0o700))
	for _, name := range []string{"private.git", "company/team.git"} {
		ts.Check(ts.Exec("git", "init", "-q", "--bare", filepath.Join(root, filepath.FromSlash(name))))
	}
	git := strings.TrimSpace(gitExecPath(ts))
	backend := &cgi.Handler{
		Path: filepath.Join(git, "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=me", "HOME=" + ts.Getenv("HOME")},
	}
	api := ts.Getenv("SANDBOX_API")
	serve := func(log string, knows bool) *httptest.Server {
		var mu sync.Mutex
		file := ts.MkAbs(log)
		ts.Check(os.WriteFile(file, nil, 0o600))
		return httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, ok := r.BasicAuth()
			if !ok {
				user = "-"
			}
			mu.Lock()
			f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
			if err == nil {
				fmt.Fprintln(f, r.URL.Path, user)
				_ = f.Close()
			}
			mu.Unlock()
			if !knows || user != "x-token-auth" || !goodToken(r, api, password) {
				w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			backend.ServeHTTP(w, r)
		}))
	}
	host := func(s *httptest.Server) string {
		ts.Defer(s.Close)
		u, err := url.Parse(s.URL)
		ts.Check(err)
		return u.Host
	}
	forge, plain, other := serve("forge.log", true), serve("plain.log", true), serve("other.log", false)
	forge.StartTLS()
	plain.Start()
	other.StartTLS()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: forge.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), ca, 0o600))
	ts.Setenv("FORGE", host(forge))
	ts.Setenv("FORGE_PLAIN", host(plain))
	ts.Setenv("FORGE_OTHER", host(other))
	ts.Setenv("FORGE_CA", ts.MkAbs("ca.pem"))
	definition := string(server(ts).ProviderYAML("forge")) +
		fmt.Sprintf("git_hosts: [\"%s\", \"%s\", forge.example.com]\ngit_username: x-token-auth\n", ts.Getenv("FORGE"), ts.Getenv("FORGE_PLAIN"))
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("APIAUTH_CONFIG_DIR"), "providers", "forge.yaml"), []byte(definition), 0o600))
}

func gitExecPath(ts *testscript.TestScript) string {
	ts.Check(ts.Exec("git", "--exec-path"))
	return ts.ReadFile("stdout")
}

// goodToken asks the sandbox's API whether a token is alive.
func goodToken(r *http.Request, api, token string) bool {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, api+"/me", nil)
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
