//go:build unix

package placeholder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// The clients that people use, as they are, get through to the API with a
// placeholder, each by the variables that it knows.
func TestClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.copy("clients", ".")
	w.repository()
	w.registry()
	w.api.handle("/ws", w.socket)
	w.vars["THIEF"] = w.thief.url
	for _, c := range []struct {
		name, needs, how, script string
		remote                   bool // passes over proxies for loopback
		want                     string
	}{
		{"curl", "curl", "curl", `curl -sS -w ' %{http_version}' -H "Authorization: Bearer $SANDBOX_ACCESS_TOKEN" $API/me`, false, `{"name":"alice","proto":"HTTP/2.0"} 2`},
		{"curl over HTTP/1.1 with Basic", "curl", "curl", `curl -sS --http1.1 -w ' %{http_version}' -u "user:$SANDBOX_ACCESS_TOKEN" $API/me | cut -d, -f1`, false, `{"name":"alice"`},
		{"wget", "wget", "wget", `wget -qO- --header "Authorization: Bearer $SANDBOX_ACCESS_TOKEN" $API/me | cut -d, -f1`, false, `{"name":"alice"`},
		{"git", "git", "git", `git clone -q https://x-access-token:$SANDBOX_ACCESS_TOKEN@${API#https://}/repo.git cloned && cat cloned/README`, false, "cloned by git"},
		{"gh", "gh", "gh", `GH_CONFIG_DIR=$PWD/gh GH_HOST=${API#https://} GH_ENTERPRISE_TOKEN=$SANDBOX_ACCESS_TOKEN gh api user --jq .name`, true, "alice"},
		{"Node fetch", "node", "nodejs", "node fetch.js", false, "alice"},
		{"Node https with an agent", "node", "nodejs", "node agent.js", false, "alice"},
		{"Node http", "node", "nodejs", `NO_PROXY= no_proxy= node plain.js`, false, "200 200"},
		{"Node WebSocket", "node", "nodejs", "node socket.js", false, "got ping"},
		{"npm from a private registry", "npm", "npm", `npm install --no-audit --no-fund --no-update-notifier --prefix npm >npm.log 2>&1 || cat npm.log; cat npm/node_modules/kind/kind.txt`, false, "installed by npm"},
		{"Python urllib", "python3", "python3", "API=$API/me python3 build.py", false, "alice"},
		{"Python requests", "/usr/bin/python3", "python3-requests", "/usr/bin/python3 requests_.py", false, "alice"},
		{"Python httpx", "/usr/bin/python3", "python3-httpx", "/usr/bin/python3 httpx_.py", false, "alice"},
		{"Go", "go", "golang", "./client", true, "alice"},
		{"Ruby", "ruby", "ruby", "ruby net_http.rb", true, "alice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			peers.Program(t, "apt-get install "+c.how, c.needs)
			if module, ok := strings.CutPrefix(c.how, "python3-"); ok && exec.CommandContext(t.Context(), c.needs, "-c", "import "+module).Run() != nil {
				peers.Missing(t, "Python's "+module, "apt-get install "+c.how)
			}
			w := w.during(t)
			if w.vars["API"] = w.api.url(""); c.remote {
				w.vars["API"] = w.api.remote(t)
			}
			if c.name == "Go" {
				build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(w.dir, "client"), "client.go")
				build.Dir = filepath.Join("testdata", "clients")
				if out, err := build.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			r := w.sh(c.script, "--placeholder")
			if got := strings.TrimSpace(r.out); r.code != 0 || got != c.want {
				t.Errorf("exit code %d, %q, want %q\n%s", r.code, got, c.want, r.err)
			}
		})
	}
}

// repository serves a git repository to whoever has a live token.
func (w *world) repository() {
	w.t.Helper()
	peers.Program(w.t, "apt-get install git", "git")
	bare := filepath.Join(w.root, "repo.git")
	script := `set -e
git init -q -b main tree && cd tree && echo 'cloned by git' >README && git add README
git -c user.name=a -c user.email=a@example.com commit -q -m first
git clone -q --bare . "$1" && git -C "$1" update-server-info`
	cmd := exec.CommandContext(w.t.Context(), "sh", "-c", script, "sh", bare)
	cmd.Dir, cmd.Env = w.root, append(w.env(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	files := http.StripPrefix("/repo.git", http.FileServer(http.Dir(bare)))
	w.api.handle("/repo.git/", w.api.guarded(files.ServeHTTP))
}

// registry serves an npm package to whoever has a live token.
func (w *world) registry() {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	for _, file := range [][2]string{{"package.json", `{"name":"kind","version":"1.0.0"}`}, {"kind.txt", "installed by npm\n"}} {
		_ = archive.WriteHeader(&tar.Header{Name: "package/" + file[0], Mode: 0o644, Size: int64(len(file[1]))})
		_, _ = archive.Write([]byte(file[1]))
	}
	if err := archive.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.api.handle("/npm/", w.api.guarded(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".tgz") {
			_, _ = rw.Write(packed.Bytes())
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"name":"kind","dist-tags":{"latest":"1.0.0"},"versions":{"1.0.0":{"name":"kind","version":"1.0.0","dist":{"tarball":%q}}}}`,
			"https://"+r.Host+"/npm/kind/-/kind-1.0.0.tgz")
	}))
	host := w.api.hosts[0]
	w.file("npm/.npmrc", "registry=https://"+host+"/npm/\n//"+host+"/npm/:_authToken=${SANDBOX_ACCESS_TOKEN}\n")
	w.file("npm/package.json", `{"name":"site","version":"1.0.0","private":true,"dependencies":{"kind":"1.0.0"}}`)
}

// socket upgrades a request with a live token and says back what it hears.
func (w *world) socket(rw http.ResponseWriter, r *http.Request) {
	if !w.api.live(bearer(r)) {
		http.Error(rw, "no live token", http.StatusUnauthorized)
		return
	}
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		http.Error(rw, "no upgrade over this protocol", http.StatusHTTPVersionNotSupported)
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	word := make([]byte, 4)
	if _, err := io.ReadFull(buffered, word); err == nil {
		fmt.Fprintf(conn, "got %s", word)
	}
}

// guarded lets a request through that bears a live token.
func (a *api) guarded(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !a.live(bearer(r)) {
			w.Header().Set("WWW-Authenticate", `Basic realm="api"`)
			http.Error(w, "no live token", http.StatusUnauthorized)
			return
		}
		h(w, r)
	}
}

// remote is the API under an address that is not loopback's.
func (a *api) remote(t testing.TB) string {
	t.Helper()
	if len(a.hosts) < 2 {
		t.Skip("this machine has no address beside loopback, which this client reaches without a proxy")
	}
	return "https://" + a.hosts[1]
}

// outward returns an IPv4 address of this machine that is not loopback's.
func outward() net.IP {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP
		}
	}
	return nil
}

// during is the same world in a part of a test.
func (w *world) during(t testing.TB) *world {
	q := *w
	q.t, q.vars = t, map[string]string{}
	for k, v := range w.vars {
		q.vars[k] = v
	}
	return &q
}
