package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/apiauth/apiauth/internal/sandbox"
)

// 300 connections that say nothing and 1,500 forged requests, while a
// person logs in: the program stays small and quiet, and takes the real callback.
func TestCallbackFlood(t *testing.T) {
	t.Parallel()
	h := newHouse(t, sandbox.Options{})
	p := withFileStore(t)
	p.addProvider(h.definition("peer"))
	r := p.start("connect", "peer", "--flow", "browser", "--no-browser")
	address := r.authorizeURL()
	login, err := url.Parse(address)
	must(t, err)
	callback, err := url.Parse(login.Query().Get("redirect_uri"))
	must(t, err)
	for range 300 {
		idle, err := net.Dial("tcp", callback.Host)
		must(t, err)
		t.Cleanup(func() { _ = idle.Close() })
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(client.CloseIdleConnections)
	forged := []func(int) (*http.Request, error){
		func(i int) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, fmt.Sprintf("%s?code=c&state=wrong%d", callback, i), nil)
		},
		func(i int) (*http.Request, error) {
			return http.NewRequest(http.MethodPost, callback.String(), strings.NewReader(strings.Repeat("x", 32<<10)))
		},
		func(i int) (*http.Request, error) {
			return http.NewRequest(http.MethodGet, fmt.Sprintf("%s?error=e%d&error_description=%s", callback, i, strings.Repeat("%1b[2J", 1000)), nil)
		},
		func(i int) (*http.Request, error) {
			q, err := http.NewRequest(http.MethodGet, callback.String(), nil)
			if err == nil {
				q.Host = fmt.Sprintf("evil%d.example", i)
			}
			return q, err
		},
		func(i int) (*http.Request, error) {
			q, err := http.NewRequest(http.MethodGet, callback.String(), nil)
			if err == nil {
				q.Header.Set("X-Fill", strings.Repeat("x", 64<<10)) // more than a header may have
			}
			return q, err
		},
	}
	var flood sync.WaitGroup
	for worker := range 6 {
		flood.Go(func() {
			for i := range 250 {
				q, err := forged[i%len(forged)](worker*1000 + i)
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := client.Do(q.WithContext(t.Context()))
				if err != nil {
					continue // it may hang up on a request that is too large
				}
				if answer.StatusCode < 400 || answer.StatusCode > 499 {
					t.Errorf("a forged request is answered with %d", answer.StatusCode)
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	flood.Wait()
	peak := peakMemory(t, r.cmd.Process.Pid)
	must(t, h.Approve(t.Context(), address))
	res := r.wait()
	t.Logf("peak memory %d KiB, %d bytes on stderr", peak, len(res.err))
	if peak >= 200<<10 {
		t.Errorf("%d KiB of memory", peak)
	}
	if len(res.err) >= 20_000 {
		t.Errorf("%d bytes on stderr", len(res.err))
	}
	if res.code != 0 || h.tap.lastAccess() == "" {
		t.Error(res.redacted())
	}
	if p.must("token", "peer").token() != h.tap.lastAccess() {
		t.Error("another token than the issuer's")
	}
}

// peakMemory reads what a process has needed at most, in KiB: VmHWM of
// proc_pid_status(5).
func peakMemory(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			must(t, err)
			return n
		}
	}
	t.Fatal("the system tells no peak")
	return 0
}
