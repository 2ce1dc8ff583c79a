package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
	"github.com/apiauth/apiauth/test/peers"
)

// on a real network file system, sshfs over a pair of sockets, everything
// works; a refresh and a login say that the locks may end at this machine, and
// what reads only says nothing.
func TestStateOnANetworkFileSystem(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{RotateRefresh: true})
	p := withFileStore(t)
	state := mountSSHFS(t)
	p.vars["APIAUTH_STATE_DIR"] = filepath.Join(state, "state")
	p.addProvider(h.definition("peer"))
	const note = "note: the store lies on a network file system (fuse.sshfs)"
	r := h.connect(p, "peer")
	if r.code != 0 || strings.Count(flat(r.err), note) != 1 {
		t.Fatal(r.redacted())
	}
	for _, args := range [][]string{{"token", "peer"}, {"status"}, {"list"}} {
		if r := p.must(args...); r.err != "" {
			t.Errorf("a read says something: %s", r.redacted())
		}
	}
	for range 3 {
		r := p.must("token", "peer", "--refresh")
		if strings.Count(flat(r.err), note) != 1 || r.token() != h.tap.lastAccess() {
			t.Error(r.redacted())
		}
	}
	if n := h.Stats().Reuse; n != 0 {
		t.Errorf("%d reuses", n)
	}
	if out := flat(p.run("doctor").out); !strings.Contains(out, "note lock file store") || !strings.Contains(out, "(fuse.sshfs)") {
		t.Errorf("doctor does not name the file system: %s", out)
	}
	p.must("disconnect", "peer")
}

func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// mountSSHFS mounts a folder of this machine as sshfs would mount that of
// another, and returns where.
func mountSSHFS(t testing.TB) string {
	t.Helper()
	const how = "apt-get install sshfs openssh-sftp-server"
	client := peers.Program(t, how, "sshfs")
	const server = "/usr/lib/openssh/sftp-server"
	if _, err := os.Stat(server); err != nil {
		peers.Missing(t, "sftp-server", how)
	}
	root := t.TempDir()
	there, here := filepath.Join(root, "there"), filepath.Join(root, "here")
	for _, dir := range []string{there, here} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	for i, cmd := range []*exec.Cmd{exec.Command(server), exec.Command(client, "-f", "-o", "passive", ":"+there, here)} {
		end := os.NewFile(uintptr(pair[i]), "sftp")
		cmd.Stdin, cmd.Stdout = end, end
		err := cmd.Start()
		_ = end.Close()
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(waited)
			if i == 1 {
				close(ended)
			}
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-waited
		})
	}
	t.Cleanup(func() { _ = syscall.Unmount(here, syscall.MNT_DETACH) })
	eventually(t, "sshfs has mounted", func() bool {
		select {
		case <-ended:
			peers.Missing(t, "a mount by sshfs", "run as root, or with a usable /dev/fuse and fusermount3")
		default:
		}
		var is, was syscall.Stat_t
		return syscall.Stat(here, &is) == nil && syscall.Stat(there, &was) == nil && is.Dev != was.Dev
	})
	return here
}
