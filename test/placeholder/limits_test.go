//go:build unix

package placeholder

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// bearerFlag makes curl send the placeholder as it should be sent.
const bearerFlag = `-H "Authorization: Bearer $SANDBOX_ACCESS_TOKEN"`

// What the child holds is worth nothing by itself, is refused where
// it does not belong, and is what comes back from an API that echoes the token.
func TestWhatTheProxyDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.vars["API"], w.vars["THIEF"] = w.api.url(""), w.thief.url
	status := `curl -sS -o /dev/null -w '%{http_code}' `
	for _, c := range []struct {
		name, script string
		flags        []string
		want         string
	}{
		{"an echo", `curl -sS ` + bearerFlag + ` $API/echo | grep -cF "Bearer $SANDBOX_ACCESS_TOKEN"`, nil, "1"},
		{"in the body", status + `-d "$SANDBOX_ACCESS_TOKEN" $API/me`, nil, "403"},
		{"in another header", status + `-H "X-Key: $SANDBOX_ACCESS_TOKEN" $API/me`, nil, "403"},
		{"in the query", status + `"$API/me?token=$SANDBOX_ACCESS_TOKEN"`, nil, "403"},
		{"twice", status + bearerFlag + ` -H "Cookie: t=$SANDBOX_ACCESS_TOKEN" $API/me`, nil, "403"},
		{"without one", status + `$API/me`, nil, "401"},
		{"allowed", status + bearerFlag + ` $API/me`, []string{"--allow", "GET /me"}, "200"},
		{"another method", status + `-X DELETE ` + bearerFlag + ` $API/me`, []string{"--allow", "GET /me"}, "403"},
		{"another path", status + bearerFlag + ` $API/other`, []string{"--allow", "GET /me"}, "403"},
		{"another host", status + `$THIEF/x`, nil, "200"},
		{"another host, strictly", status + `--noproxy "" $THIEF/x`, []string{"--egress", "strict"}, "403"},
		{"the API, strictly", status + bearerFlag + ` $API/me`, []string{"--egress", "strict"}, "200"},
		{"without the key of the run", `HTTPS_PROXY= https_proxy= ` + status + `--proxy "http://${HTTPS_PROXY#*@}" ` + bearerFlag + ` $API/me || true`, nil, "000"},
		{"the files of the run", `for f in "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS"; do stat -c %a "$f" "$(dirname "$f")"; grep -c 'PRIVATE KEY' "$f" || true; done | sort -u | tr '\n' ' '`, nil, "0 600 700"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := w.during(t)
			r := w.sh(c.script, append([]string{"--placeholder"}, c.flags...)...)
			if got := strings.TrimSpace(r.out); r.code != 0 || got != c.want {
				t.Errorf("exit code %d, %q, want %q\n%s", r.code, got, c.want, r.err)
			}
		})
	}
}

// Nothing of a run is left when it is over: no file, and nobody listens.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	temp := filepath.Join(w.root, "t")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	w.vars["TMPDIR"] = temp
	r := w.sh(`echo "$HTTPS_PROXY"; ls "$TMPDIR" | wc -l`, "--placeholder")
	lines := strings.Fields(r.out)
	if r.code != 0 || len(lines) != 2 || lines[1] != "1" {
		t.Fatalf("exit code %d, %q\n%s", r.code, r.out, r.err)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
	proxy, err := url.Parse(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proxy.Host); err == nil {
		conn.Close()
		t.Error("somebody still listens")
	}
}

// Neither token nor placeholder stands on a command line of ours.
func TestNoTokenOnACommandLine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		t.Skip("no /proc here")
	}
	w := newWorld(t, nil)
	flags := []string{"--placeholder"}
	if _, err := exec.LookPath("bwrap"); err == nil {
		flags = []string{"--isolate"}
	}
	lines := make(chan string, 1)
	w.api.handle("/lines", func(http.ResponseWriter, *http.Request) { lines <- commandLines() })
	r := w.sh(`echo "$SANDBOX_ACCESS_TOKEN"; curl -sS -K - <<X
url = "`+w.api.url("/lines")+`"
header = "Authorization: Bearer $SANDBOX_ACCESS_TOKEN"
X`, flags...)
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s", r.code, r.err)
	}
	all := <-lines
	if !strings.Contains(all, "curl") {
		t.Fatal("curl's own command line was not seen")
	}
	for _, secret := range []string{strings.TrimSpace(r.out), w.token()} {
		if holds(all, secret) {
			t.Error("it stands on a command line")
		}
	}
}

func commandLines() string {
	var b strings.Builder
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		line, _ := os.ReadFile(f) // it may have ended
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String()
}

// A token that the API no longer takes is replaced without the child's noticing.
func TestRefreshIsInvisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var first atomic.Value
	w.api.handle("/expire", func(rw http.ResponseWriter, r *http.Request) {
		first.Store(bearer(r))
		w.api.refuse(bearer(r))
		fmt.Fprint(rw, "refused ")
	})
	r := w.sh(`curl -sS `+bearerFlag+` `+w.api.url("/expire")+`; curl -sS `+bearerFlag+` `+w.api.url("/me")+` | cut -d, -f1`, "--placeholder")
	if r.code != 0 || strings.TrimSpace(r.out) != `refused {"name":"alice"` {
		t.Fatalf("exit code %d, %q\n%s", r.code, r.out, r.err)
	}
	if now := w.token(); now == first.Load() {
		t.Error("the token is the same, so that nothing was shown")
	}
}

// A grant that was taken back is refused within a second, though its token would
// still live.
func TestDisconnectEndsTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.api.handle("/disconnect", func(rw http.ResponseWriter, r *http.Request) {
		res := w.run("disconnect", "sandbox", "--local")
		fmt.Fprint(rw, res.code, w.api.live(bearer(r)), " ")
	})
	r := w.sh(`curl -sS `+bearerFlag+` `+w.api.url("/disconnect")+`
began=$(date +%s%N); code=200
while [ $code = 200 ] && [ $(($(date +%s%N) - began)) -lt 5000000000 ]; do
	code=$(curl -sS -o /dev/null -w '%{http_code}' `+bearerFlag+` `+w.api.url("/me")+`)
done
[ $code = 200 ] && echo "still served"; [ $(($(date +%s%N) - began)) -lt 1500000000 ] && echo "refused in time"`, "--placeholder")
	if strings.TrimSpace(r.out) != "0 true refused in time" {
		t.Errorf("exit code %d, %q\n%s", r.code, r.out, r.err)
	}
}

// Uploads of 64 MiB arrive whole, and what is streamed arrives as it is sent.
func TestStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	heard := make(chan bool)
	w.api.handle("/events", func(rw http.ResponseWriter, r *http.Request) {
		if !w.api.live(bearer(r)) {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		rw.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(rw, "data: one\n\n")
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-heard: // the first has arrived before the second is sent
			fmt.Fprint(rw, "data: two\n\n")
		case <-r.Context().Done():
		}
	})
	w.api.handle("/heard", func(http.ResponseWriter, *http.Request) { close(heard) })
	r := w.sh(`curl -sSN --max-time 30 `+bearerFlag+` `+w.api.url("/events")+` | while read -r line; do
	[ "$line" = "data: one" ] && curl -sS `+w.api.url("/heard")+`; [ -n "$line" ] && echo "$line"; done; true`, "--placeholder")
	if r.code != 0 || r.out != "data: one\ndata: two\n" {
		t.Errorf("exit code %d, %q\n%s", r.code, r.out, r.err)
	}
	const size = 64 << 20
	sum := sha256.New()
	_, _ = io.CopyN(sum, zero{}, size)
	for _, version := range []string{"--http1.1", "--http2"} {
		r := w.sh(fmt.Sprintf(`head -c %d /dev/zero | curl -sS %s -T - %s %s`, size, version, bearerFlag, w.api.url("/upload")), "--placeholder")
		if want := fmt.Sprintf("%d %s", size, hex.EncodeToString(sum.Sum(nil))); r.code != 0 || r.out != want {
			t.Errorf("%s: exit code %d, %q, want %q\n%s", version, r.code, r.out, want, r.err)
		}
	}
}

type zero struct{}

func (zero) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// The person's own proxy stands behind ours: it sees where the child goes, and
// no token.
func TestOwnProxyIsChained(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if len(w.api.hosts) < 2 {
		t.Skip("this machine has no address beside loopback, for which no proxy is asked")
	}
	var mu sync.Mutex
	var asked []string
	own := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host+" "+fmt.Sprint(r.Header))
		mu.Unlock()
		far, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		defer far.Close()
		rw.WriteHeader(http.StatusOK)
		near, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		go func() { _, _ = io.Copy(far, buffered) }()
		_, _ = io.Copy(near, far)
	}))
	t.Cleanup(own.Close)
	w.vars["HTTPS_PROXY"] = own.URL
	r := w.sh(`curl -sS `+bearerFlag+` https://`+w.api.hosts[1]+`/me | cut -d, -f1`, "--placeholder")
	if r.code != 0 || strings.TrimSpace(r.out) != `{"name":"alice"` {
		t.Errorf("exit code %d, %q\n%s", r.code, r.out, r.err)
	}
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(asked, "\n")
	if !strings.Contains(all, "CONNECT "+w.api.hosts[1]) {
		t.Errorf("the person's proxy was asked for %q", all)
	}
	if holds(all, w.token()) {
		t.Error("the person's proxy saw the token")
	}
}

// Statuses and signals are the command's, inside of a sandbox too.
func TestStatusAndSignals(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--placeholder", "--isolate"} {
		t.Run(flag, func(t *testing.T) {
			t.Parallel()
			if flag == "--isolate" {
				bubblewrap(t)
			}
			w := newWorld(t, nil)
			for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
				if r := w.sh(script, flag); r.code != want || r.err != "" {
					t.Errorf("%s: exit code %d, want %d\n%s", script, r.code, want, r.err)
				}
			}
			if r := w.run("exec", flag, "--", "no-such-command"); r.code != 127 || !strings.Contains(r.err, "not found") {
				t.Errorf("a command that is not there: exit code %d\n%s", r.code, r.err)
			}
			w.signal(flag)
		})
	}
}

// signal sends each signal to apiauth and counts it in the command.
func (w *world) signal(flag string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	// A signal just before read blocks is seen by bash only when read ends: it does.
	script := `for s in INT HUP QUIT USR1 USR2; do trap "echo $s" $s; done; trap "echo TERM; exit 5" TERM
echo ready; while :; do read -t 0.2 -r line; done`
	cmd := exec.CommandContext(ctx, peers.Binary(), "exec", flag, "--", "bash", "-c", script)
	cmd.Dir, cmd.Env = w.dir, w.env()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	next := func() string {
		lines.Scan()
		return lines.Text()
	}
	if got := next(); got != "ready" {
		w.t.Errorf("%s: the command said %q", flag, got)
	}
	for _, sig := range []struct {
		name string
		sig  syscall.Signal
	}{{"INT", syscall.SIGINT}, {"HUP", syscall.SIGHUP}, {"QUIT", syscall.SIGQUIT}, {"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2}, {"TERM", syscall.SIGTERM}} {
		_ = cmd.Process.Signal(sig.sig)
		if got := next(); got != sig.name {
			w.t.Errorf("%s: after %s the command said %q", flag, sig.name, got)
		}
	}
	if more := next(); more != "" {
		w.t.Errorf("%s: a signal came twice: %q", flag, more)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		w.t.Errorf("%s: exit code %d, want 5", flag, code)
	}
}

// keyQuery hands the query of a request over, and echoes it.
func keyQuery(got chan<- string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		select {
		case got <- r.URL.RawQuery:
		default:
		}
		fmt.Fprint(rw, r.URL.RawQuery)
	}
}
