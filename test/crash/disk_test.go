//go:build linux

package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/apiauth/apiauth/test/peers"
)

// disk is a file system of one MiB.
type disk struct {
	t   *testing.T
	dir string
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t: t, dir: t.TempDir()}
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=0700"); err != nil {
		peers.Missing(t, fmt.Sprintf("a small disk (%v)", err), "run the tests as root, where a tmpfs can be mounted")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount the small disk: %v", err)
		}
	})
	return d
}

// fill writes until nothing more fits, and gives free bytes back.
func (d *disk) fill(free int64) error {
	f, err := os.OpenFile(filepath.Join(d.dir, "filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	page := make([]byte, 4096)
	for {
		n, err := f.Write(page)
		if errors.Is(err, unix.ENOSPC) || err == nil && n < len(page) {
			break
		}
		if err != nil {
			return err
		}
	}
	if free == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Truncate(info.Size() - free)
}

func (d *disk) empty() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil {
		d.t.Fatal(err)
	}
}

// with too little room for the answer nothing is sent; with enough
// for it, nothing is lost, whatever else no longer fits.
func TestDiskFullBefore(t *testing.T) {
	t.Parallel()
	for _, free := range []int64{0, 4 << 10, 64 << 10, 256 << 10, 260 << 10, 264 << 10, 272 << 10, 300 << 10} {
		t.Run(fmt.Sprintf("%d KiB left", free>>10), func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, strict())
			d := newDisk(t)
			h := withFileIn(t, is, filepath.Join(d.dir, "state"))
			name, _ := h.expired()
			if err := d.fill(free); err != nil {
				t.Fatal(err)
			}
			r := h.run("token", name)
			sent := is.Stats().RefreshRequests
			switch {
			case r.code == 0 && sent == 1 && is.Active(r.token()):
			case r.code == 5 && sent == 0 && strings.Contains(r.flat(), "room on the disk"):
			default:
				t.Errorf("%d requests: %s", sent, r.redacted())
			}
			if free < 256<<10 && sent != 0 || free >= 300<<10 && sent != 1 {
				t.Errorf("%d requests with %d KiB left", sent, free>>10)
			}
			noTrace(t, r)
			d.empty()
			h.mustLive(name)
			if st := is.Stats(); st.Reuse != 0 {
				t.Errorf("%d reuses", st.Reuse)
			}
		})
	}
}

// the disk fills up while a refresh is in flight: the reserved room takes
// the answer, and becomes the record.
func TestDiskFullInFlight(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(call) bool{
		"to the end": nil,
		"killed before the answer is synced": second(func(c call) bool {
			return c.name() == "fsync" && strings.HasSuffix(c.path, ".wal")
		}),
		"killed at the record":      func(c call) bool { return c.name() == "write" && strings.HasSuffix(c.path, ".tmp") },
		"killed at the new record":  func(c call) bool { return c.name() == "renameat" },
		"killed when room was made": func(c call) bool { return c.name() == "truncate" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			is := newIssuer(t, strict())
			d := newDisk(t)
			h := withFileIn(t, is, filepath.Join(d.dir, "state"))
			conn, _ := h.expired()
			held := is.holdNext(false)
			filled := make(chan error, 1)
			go func() {
				select {
				case <-held.arrived:
					filled <- d.fill(0)
					close(held.release)
				case <-t.Context().Done():
					filled <- t.Context().Err()
				}
			}()
			x := h.trace(tracing{port: is.port(), enter: func(_ int, c call) bool { return kill != nil && kill(c) }}, "token", conn)
			if err := <-filled; err != nil {
				t.Fatal(err)
			}
			switch {
			case kill == nil && (x.code != 0 || !is.Active(x.token())), kill != nil && x.code != 128+9:
				t.Errorf("%s", x.redacted())
			}
			// Still full: what is there is enough for a token.
			if r := h.run("token", conn); r.code != 0 || !is.Active(r.token()) {
				t.Errorf("afterwards, on the full disk: %s", r.redacted())
			}
			if n := is.Stats().RefreshRequests; n != 1 {
				t.Errorf("%d requests", n)
			}
			d.empty()
			h.mustLive(conn)
			if st := is.Stats(); st.Reuse != 0 {
				t.Errorf("%d reuses", st.Reuse)
			}
		})
	}
}
