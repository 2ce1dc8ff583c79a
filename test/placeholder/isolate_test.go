//go:build unix

package placeholder

import (
	"context"
	"io"
	"net"
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

// What the caller has open is no way out: a folder or a socket that was handed down
// does not reach the command, nor the processes of the sandbox that it sees, and
// neither does a socket of a server, also one in the project. Pipes still do.
func TestNoWayOutThroughWhatIsOpen(t *testing.T) {
	t.Parallel()
	bubblewrap(t)
	python := peers.Program(t, "apt-get install python3", "python3")
	w := newWorld(t, nil)
	server, err := net.Listen("unix", filepath.Join(w.dir, "server.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	folder, err := os.Open(w.home)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	socket, err := server.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	const look = `
import os, socket, stat
for process in ["self", "1"]:
    for fd in os.listdir(f"/proc/{process}/fd"):
        try:
            mode = os.stat(f"/proc/{process}/fd/{fd}").st_mode
        except OSError:
            continue
        if int(fd) > 2 and stat.S_ISSOCK(mode) or stat.S_ISDIR(mode) and "/proc/" not in os.readlink(f"/proc/{process}/fd/{fd}"):
            print("open in", process, fd, oct(mode))
try:
    socket.socket(socket.AF_UNIX).connect("server.sock")
    print("the server was reached")
except OSError:
    pass
os.write(5, b"through the pipe")
`
	run := func(stdin *os.File) (code int, text string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, peers.Binary(), "exec", "--isolate", "--", python, "-c", look)
		cmd.Dir, cmd.Env, cmd.WaitDelay = w.dir, w.env(), 5*time.Second
		cmd.Stdin, cmd.ExtraFiles = stdin, []*os.File{folder, socket, out}
		said, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(said)
	}
	if code, text := run(nil); code != 0 || strings.TrimSpace(text) != "" {
		t.Errorf("exit code %d\n%s", code, text)
	}
	if code, text := run(folder); code != 2 || !strings.Contains(text, "standard stream is a folder") {
		t.Errorf("with a folder as standard input: exit code %d\n%s", code, text)
	}
	_ = out.Close()
	if piped, err := io.ReadAll(in); err != nil || string(piped) != "through the pipe" {
		t.Errorf("through the pipe came %q, %v", piped, err)
	}
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
