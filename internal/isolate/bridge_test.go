package isolate

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// socketDir is short enough for the path of a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("isolation is for unix")
	}
	dir, err := os.MkdirTemp("", "iso")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Everything gets across in both directions, also after one side has said all
// it has to say.
func TestBridge(t *testing.T) {
	socket := filepath.Join(socketDir(t), "proxy")
	far := listen(t, "unix", socket)
	go func() { // answers with what it got, backwards in order of time: at the end
		for {
			conn, err := far.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				all, _ := io.ReadAll(conn)
				_, _ = conn.Write(all)
			}()
		}
	}()
	near := listen(t, "tcp4", "127.0.0.1:0")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Bridge(ctx, near, socket) }()
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			sent := make([]byte, 1<<20)
			_, _ = rand.Read(sent)
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp4", near.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			go func() {
				_, _ = conn.Write(sent)
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d of %d bytes came back: %v", len(got), len(sent), err)
			}
		})
	}
	clients.Wait()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A proxy that is gone closes the client's connection, and the bridge goes on.
func TestBridgeWithoutFarSide(t *testing.T) {
	near := listen(t, "tcp4", "127.0.0.1:0")
	go func() { _ = Bridge(t.Context(), near, filepath.Join(socketDir(t), "nobody")) }()
	for range 2 {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp4", near.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if n, _ := conn.Read(make([]byte, 1)); n != 0 {
			t.Error("somebody answered")
		}
		conn.Close()
	}
}

// Signals arrive in order and once, those from before the command was there too,
// and the second caller is not heard.
func TestControl(t *testing.T) {
	path := filepath.Join(socketDir(t), "control")
	c, err := Control(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Entered() {
		t.Error("nobody has called yet")
	}
	c.Signal(syscall.SIGINT)
	got := make(chan syscall.Signal, 8)
	wait, err := Signals(t.Context(), path, func(sig syscall.Signal) { got <- sig })
	if err != nil {
		t.Fatal(err)
	}
	if sig := <-got; sig != syscall.SIGINT {
		t.Errorf("got %v first", sig)
	}
	if !c.Entered() {
		t.Error("the caller was not noticed")
	}
	c.Signal(syscall.SIGTERM)
	if sig := <-got; sig != syscall.SIGTERM {
		t.Errorf("got %v", sig)
	}
	if _, err := Signals(t.Context(), path, func(syscall.Signal) {}); err == nil {
		t.Error("a second caller was heard")
	}
	wait()
	if len(got) != 0 {
		t.Error("a signal came twice")
	}
}
