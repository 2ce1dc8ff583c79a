//go:build unix

package placeholder

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/test/peers"
)

// A command never runs without the isolation that was asked for: neither where
// bubblewrap is missing nor where the system refuses it.
func TestNeverWithoutIsolation(t *testing.T) {
	t.Parallel()
	bubblewrap(t)
	w := newWorld(t, nil)
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		outer []string
		want  string
	}{
		{"missing", []string{bwrap, "--dev-bind", "/", "/", "--ro-bind", "/dev/null", bwrap}, "bubblewrap (bwrap) is not installed"},
		{"refused", []string{bwrap, "--dev-bind", "/", "/", "--unshare-user", "--disable-userns"}, "could not make the sandbox; nothing was run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			argv := append(c.outer, peers.Binary(), "exec", "--isolate", "--", "touch", "ran")
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Dir, cmd.Env, cmd.WaitDelay = w.dir, w.env(), 5*time.Second
			out, _ := cmd.CombinedOutput()
			text := strings.Join(strings.Fields(string(out)), " ")
			if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(text, c.want) {
				t.Errorf("exit code %d\n%s", cmd.ProcessState.ExitCode(), out)
			}
			if _, err := os.Stat(filepath.Join(w.dir, "ran")); err == nil {
				t.Error("the command was run")
			}
		})
	}
	w.vars["APIAUTH_CONFIG_DIR"], w.vars["APIAUTH_STATE_DIR"] = filepath.Join(w.home, ".config", "apiauth"), w.state()
	w.home = w.dir
	if r := w.run("exec", "--isolate", "--", "true"); r.code != 6 || !strings.Contains(r.err, "is your home directory") {
		t.Errorf("a project that is the home directory: exit code %d\n%s", r.code, r.err)
	}
}

// A killed apiauth takes the isolated command with it.
func TestIsolatedCommandEndsWithUs(t *testing.T) {
	t.Parallel()
	bubblewrap(t)
	w := newWorld(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, peers.Binary(), "exec", "--isolate", "--", "sh", "-c", "echo ready; while :; do sleep 1; done")
	cmd.Dir, cmd.Env = w.dir, w.env()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	// The pipe ends when nobody holds it any more.
	if _, err := out.Read(make([]byte, 16)); err == nil {
		t.Error("the command wrote again")
	}
	if ctx.Err() != nil {
		t.Error("the command lives on")
	}
	_ = cmd.Wait()
}

// A static key is stood in for like a token, in the place that its provider
// names.
func TestStaticKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const key = "key-0123456789abcdefghijklmnop"
	w.write(filepath.Join(w.home, ".config", "apiauth", "providers", "mapper.yaml"), `id: mapper
name: Mapper
description: An API with a static key in the query.
flows: [key]
api:
  base_url: https://`+w.api.hosts[0]+`
  hosts: ["`+w.api.hosts[0]+`"]
  auth: {in: query, name: access_token}
env: MAPPER_KEY
placeholder: "key-{26}"
`)
	w.manifest("connections:\n  mapper: {}\n")
	cmd := exec.CommandContext(t.Context(), peers.Binary(), "connect", "mapper", "--flow", "key", "--import-stdin")
	cmd.Dir, cmd.Env, cmd.Stdin = w.dir, w.env(), strings.NewReader(key+"\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := make(chan string, 1)
	w.api.handle("/tiles", keyQuery(got))
	r := w.sh(`case $MAPPER_KEY in key-??????????????????????????) ;; *) echo wrong shape;; esac
echo $MAPPER_KEY; curl -sS "`+w.api.url("/tiles?z=1&access_token=$MAPPER_KEY")+`"`, "--placeholder")
	if r.code != 0 || len(got) != 1 || <-got != "z=1&access_token="+key {
		t.Errorf("exit code %d: the key did not get through, or not only it\n%s", r.code, r.err)
	}
	if holds(r.out, key) || strings.Contains(r.out, "wrong shape") {
		t.Errorf("the command had the key, or something of another shape")
	}
}
