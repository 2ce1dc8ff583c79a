//go:build unix

package placeholder

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/keyring/keyringtest"
	"github.com/apiauth/apiauth/test/peers"
)

// goal is what the malicious packages are after: see testdata/npm/evil/steal.js.
type goal struct {
	Thief    string            `json:"thief"`
	API      string            `json:"api"`
	Home     string            `json:"home"`
	State    string            `json:"state"`
	Outside  string            `json:"outside"`
	Apiauth  []string          `json:"apiauth"`
	Env      map[string]string `json:"env"`
	Bus      string            `json:"bus"`
	Item     string            `json:"item"`
	Process  string            `json:"process"`
	TCP      int               `json:"tcp"`
	Unix     string            `json:"unix"`
	Abstract string            `json:"abstract"`
}

// temptation opens what an attacker might reach outside, and says where it is.
func (w *world) temptation() {
	w.t.Helper()
	listen := func(network, address string) net.Listener {
		l, err := (&net.ListenConfig{}).Listen(w.t.Context(), network, address)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
		return l
	}
	mark := rand.Text()
	ctx, cancel := context.WithCancel(w.t.Context())
	sleeper := exec.CommandContext(ctx, "sh", "-c", "read line; : "+mark)
	hold, err := sleeper.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = hold.Close()
		cancel()
		_ = sleeper.Wait()
	})
	g := goal{
		Thief: w.thief.url, API: w.api.url("/echo"), Home: w.home, State: w.state(), Outside: w.home,
		Apiauth: []string{peers.Binary(), "/run/apiauth"}, Env: map[string]string{"HOME": w.home}, Process: mark,
		TCP: listen("tcp4", "127.0.0.1:0").Addr().(*net.TCPAddr).Port, Unix: filepath.Join(w.root, "socket"), Abstract: mark,
	}
	listen("unix", g.Unix)
	if runtime.GOOS == "linux" {
		listen("unix", "@"+mark)
	}
	if w.bus != nil {
		stores, err := filepath.Glob(filepath.Join(w.state(), "stores", "*", "store.json"))
		if err != nil || len(stores) != 1 {
			w.t.Fatalf("%d stores: %v", len(stores), err)
		}
		g.Bus, g.Item = w.bus.Address, "apiauth."+filepath.Base(filepath.Dir(stores[0]))
		g.Env["DBUS_SESSION_BUS_ADDRESS"], g.Env["XDG_RUNTIME_DIR"] = w.bus.Address, w.bus.Runtime
	}
	doc, err := json.Marshal(g)
	if err != nil {
		w.t.Fatal(err)
	}
	w.file("goal.json", string(doc))
}

// project copies a folder of testdata into the project.
func (w *world) copy(from, to string) {
	w.t.Helper()
	if err := os.CopyFS(filepath.Join(w.dir, to), os.DirFS(filepath.Join("testdata", filepath.FromSlash(from)))); err != nil {
		w.t.Fatal(err)
	}
}

// npmProject is a project with the malicious package among its dependencies.
func (w *world) npmProject() {
	w.t.Helper()
	peers.Program(w.t, "apt-get install nodejs npm", "npm")
	w.temptation()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zip)
	for _, name := range []string{"package.json", "steal.js"} {
		data, err := os.ReadFile(filepath.Join("testdata", "npm", "evil", name))
		if err != nil {
			w.t.Fatal(err)
		}
		if err := archive.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			w.t.Fatal(err)
		}
		if _, err := archive.Write(data); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.file("evil-1.0.0.tgz", packed.String())
	build, err := os.ReadFile(filepath.Join("testdata", "npm", "build.js"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.file("build.js", string(build))
	w.file("package.json", `{"name":"site","version":"1.0.0","private":true,"scripts":{"build":"node build.js"},"dependencies":{"evil":"file:evil-1.0.0.tgz"}}`)
	w.vars["API"] = w.api.url("/me")
}

const npmBuild = "npm install --no-audit --no-fund --no-update-notifier --foreground-scripts && npm run build"

// stolen is what the package says about itself.
type stolen struct {
	Loot   json.RawMessage `json:"loot"`
	Worked map[string]bool `json:"worked"`
}

func (w *world) stolen() stolen {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "stolen.json"))
	if err != nil {
		w.t.Fatalf("the package did not run: %v", err)
	}
	var s stolen
	if err := json.Unmarshal(data, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// worthless fails when anything in loot opens the API from outside of the run.
func (w *world) worthless(loot string) {
	w.t.Helper()
	if real := w.token(); holds(loot, real) {
		w.t.Error("the loot holds the real token")
	}
	found := regexp.MustCompile(`sbx_[a-z]{2}_[A-Za-z0-9_-]{20,}`).FindAllString(loot, -1)
	if len(found) == 0 {
		w.t.Error("the loot holds no placeholder: the package did not see the environment")
	}
	seen := map[string]bool{}
	for _, candidate := range found {
		if seen[candidate] {
			continue
		}
		seen[candidate] = true
		if w.api.live(candidate) {
			w.t.Errorf("a token of the loot works: %s...", candidate[:10])
		}
	}
}

func (w *world) built(r result) {
	w.t.Helper()
	if r.code != 0 {
		w.t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if got, err := os.ReadFile(filepath.Join(w.dir, "dist", "user.json")); err != nil || !strings.Contains(string(got), "alice") {
		w.t.Errorf("the build did not reach the API: %v", err)
	}
}

// A package that reads the environment, /proc and the home
// directory, and asks the API itself, gets nothing that works elsewhere; the
// build's own call succeeds.
func TestMaliciousNpmPackage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.npmProject()
	w.built(w.sh(npmBuild, "--placeholder"))
	s := w.stolen()
	if !s.Worked["send through the proxy"] || !s.Worked["send around the proxy"] {
		t.Errorf("the package did not get its loot out, so this test shows nothing: %v", s.Worked)
	}
	w.worthless(string(s.Loot))
	w.worthless(w.thief.loot())
	if holds(w.thief.loot(), w.vars["APIAUTH_STORE_KEY"]) {
		t.Error("the loot holds the key of the store")
	}
}

func TestMaliciousPythonPackage(t *testing.T) {
	t.Parallel()
	python := peers.Program(t, "apt-get install python3", "python3")
	w := newWorld(t, nil)
	w.temptation()
	w.copy("python", ".")
	w.vars["API"], w.vars["TOP"] = w.api.url("/me"), w.dir
	r := w.sh(python+" evil/setup.py build && "+python+" build.py", "--placeholder")
	if r.code != 0 || r.out != "built\nalice\n" {
		t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if n := strings.Count(w.thief.loot(), "POST /"); n != 2 {
		t.Errorf("%d of 2 parcels arrived, so this test shows nothing", n)
	}
	w.worthless(w.thief.loot())
	if holds(w.thief.loot(), w.vars["APIAUTH_STORE_KEY"]) {
		t.Error("the loot holds the key of the store")
	}
}

// Under --isolate the same package also finds no program of ours that works, no
// keychain, no state, no other process, and no way out but the API's.
func TestMaliciousNpmPackageIsolated(t *testing.T) {
	t.Parallel()
	bubblewrap(t)
	w := newWorld(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	w.npmProject()
	w.built(w.sh(npmBuild, "--isolate"))
	s := w.stolen()
	if len(s.Worked) < 12 {
		t.Errorf("only %d attacks were tried", len(s.Worked))
	}
	for name, worked := range s.Worked {
		if worked && name != "write outside of the project" {
			t.Errorf("%s: worked", name)
		}
	}
	// It may write into the empty home directory of the run, and that is gone.
	if _, err := os.Stat(filepath.Join(w.home, "planted")); err == nil {
		t.Error("write outside of the project: worked")
	}
	w.worthless(string(s.Loot))
	if loot := w.thief.loot(); loot != "" {
		t.Errorf("the thief heard something: %d bytes", len(loot))
	}
	manifest, err := os.ReadFile(filepath.Join(w.dir, "apiauth.yaml"))
	if err != nil || strings.Contains(string(manifest), "changed") {
		t.Errorf("the manifest was changed: %v", err)
	}
}

// Without --isolate all of that works, as docs/placeholders.md says: it is a
// guard against what is dumped, not against a program that attacks apiauth.
func TestWhatStaysPossibleWithoutIsolation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, keyringtest.StartGnomeKeyring(t, keyringtest.Unlocked))
	w.npmProject()
	w.built(w.sh(npmBuild, "--placeholder"))
	for _, name := range []string{"apiauth 0", "ask the keychain", "read the state", "see a process outside", "dial tcp", "dial a unix socket",
		"dial an abstract socket", "send through the proxy", "send around the proxy", "change the manifest", "write outside of the project"} {
		if worked := w.stolen().Worked; !worked[name] {
			t.Errorf("%s: did not work, so that it fails under --isolate shows nothing", name)
		}
	}
}

// bubblewrap leaves a test out where there is none, or where this system does
// not let it make a sandbox.
func bubblewrap(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("bubblewrap is for Linux")
	}
	bwrap := peers.Program(t, "apt-get install bubblewrap", "bwrap")
	if out, err := exec.CommandContext(t.Context(), bwrap, "--unshare-all", "--ro-bind", "/", "/", "true").CombinedOutput(); err != nil {
		peers.Missing(t, "user namespaces", "allow them for bubblewrap: "+strings.TrimSpace(string(out)))
	}
}
