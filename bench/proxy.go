//go:build linux

package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// spell is how long one proxy is under load before it is the other's turn.
const spell = time.Second

// proxied is one way to the upstream server.
type proxied struct {
	name, address, path string
	header              string
	process             *os.Process // nil: no proxy
}

// proxy measures apiauth proxy beside nginx, which adds the same token: plain and
// TLS upstream, small answers and one of 64 MiB, idle connections. The upstream is
// nginx too and answers 401 without the token, which counts as a failure.
func (b *bench) proxy() error {
	nginx := find("nginx")
	if nginx == "" {
		fmt.Println("\nProxy: left out, there is no nginx (apt-get install nginx-light)")
		return nil
	}
	defer b.stopNginx()
	dir := filepath.Join(b.dir, "proxy")
	token := "bench-" + strings.Repeat("0123456789", 6)
	plain, secured, err := b.upstream(dir, nginx, token)
	if err != nil {
		return err
	}
	for _, upstream := range []string{plain, secured} {
		kind := "plain"
		if upstream == secured {
			kind = "TLS"
		}
		ways, err := b.ways(dir, nginx, kind, upstream, token)
		if err != nil {
			return err
		}
		if err := b.small(kind, ways[1:]); err != nil {
			return err
		}
		if kind == "plain" {
			if err := b.large(ways); err != nil {
				return err
			}
		}
		if err := b.idle(kind, ways[2]); err != nil {
			return err
		}
	}
	return nil
}

// serveNginx starts nginx with a configuration in a folder of its own.
func (b *bench) serveNginx(nginx, dir, config string) (*os.Process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var temp strings.Builder
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s;\n", name, filepath.Join(dir, name))
	}
	text := fmt.Sprintf("daemon off; worker_processes 2; pid %[1]s/pid; error_log %[1]s/errors;\nevents { worker_connections 8192; }\nhttp { access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_max_body_size 0;\n%[2]s%[3]s }\n",
		dir, temp.String(), config)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(nginx, "-c", file, "-e", filepath.Join(dir, "errors")) //nolint:gosec,noctx // ended by stopNginx
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.nginx = append(b.nginx, cmd)
	return cmd.Process, nil
}

// stopNginx asks each to end: one that is killed leaves its workers behind.
func (b *bench) stopNginx() {
	for _, cmd := range b.nginx {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	b.nginx = nil
}

// upstream starts the API and returns its two addresses.
func (b *bench) upstream(dir, nginx, token string) (plain, secured string, err error) {
	ca, leaf, err := certificates()
	if err != nil {
		return "", "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil { //nolint:gosec // nginx' workers read it
		return "", "", err
	}
	for name, data := range map[string][]byte{
		"ca.pem":   ca,
		"leaf.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		"leaf.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"www/big":  nil,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil { //nolint:gosec // gone with the run
			return "", "", err
		}
	}
	if err := os.Truncate(filepath.Join(dir, "www", "big"), 64<<20); err != nil {
		return "", "", err
	}
	for _, d := range []string{b.dir, dir} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // for nginx' workers
			return "", "", err
		}
	}
	ports, err := freePorts(2)
	if err != nil {
		return "", "", err
	}
	plain, secured = "127.0.0.1:"+ports[0], "127.0.0.1:"+ports[1]
	_, err = b.serveNginx(nginx, filepath.Join(dir, "upstream"), fmt.Sprintf(`sendfile on; server { listen %s; listen %s ssl;
ssl_certificate %[3]s/leaf.pem; ssl_certificate_key %[3]s/leaf.key; ssl_session_cache shared:a:10m;
if ($http_authorization != "Bearer %[4]s") { return 401; }
location = /big { root %[3]s/www; }
location / { default_type application/json; return 200 "%[5]s"; } }`, plain, secured, dir, token, strings.Repeat("x", 200)))
	if err != nil {
		return "", "", err
	}
	return plain, secured, errors.Join(waitFor(plain), waitFor(secured))
}

// ways are the upstream itself, nginx before it and apiauth before it.
func (b *bench) ways(dir, nginx, kind, upstream, token string) ([]proxied, error) {
	scheme := "http"
	if kind == "TLS" {
		scheme = "https"
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	front := "127.0.0.1:" + ports[0]
	process, err := b.serveNginx(nginx, filepath.Join(dir, "front-"+kind), fmt.Sprintf(`upstream u { server %s; keepalive 128; keepalive_requests 100000000; }
server { listen %s; location / { proxy_pass %s://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Authorization "Bearer %s";
proxy_ssl_session_reuse on; proxy_ssl_verify on; proxy_ssl_trusted_certificate %s/ca.pem; proxy_ssl_name localhost;
proxy_buffering off; proxy_request_buffering off; proxy_max_temp_file_size 0; } }`, upstream, front, scheme, token, dir))
	if err != nil {
		return nil, err
	}
	name := "proxy-" + strings.ToLower(kind)
	definition := fmt.Sprintf("id: %s\nname: Bench\nflows: [key]\nscopes: {omit: true}\ntoken: {expires_in: never}\nallow_insecure_loopback: true\napi: {base_url: \"%s://%[3]s\", hosts: [%[3]q]}\nenv: BENCH_TOKEN\nregister: {page: \"https://example.com/\", redirect_uri: none}\n",
		name, scheme, upstream)
	if err := os.WriteFile(filepath.Join(b.config, "providers", name+".yaml"), []byte(definition), 0o600); err != nil {
		return nil, err
	}
	env := append(b.file(name), "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"))
	if err := b.connect(env, "file", name, token); err != nil {
		return nil, err
	}
	cmd := b.command(env, "proxy", "bench", "--listen", ports[1], "--quiet")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.session.start(cmd); err != nil {
		return nil, err
	}
	key := ""
	for lines := bufio.NewScanner(out); key == "" && lines.Scan(); {
		key, _ = strings.CutPrefix(lines.Text(), "APIAUTH_PROXY_KEY=")
		if key == lines.Text() {
			key = ""
		}
	}
	if key == "" {
		return nil, errors.New("apiauth proxy printed no key")
	}
	return []proxied{
		{name: "direct", address: upstream, path: "/", header: "Authorization: Bearer " + token},
		{name: "nginx", address: front, path: "/", process: process},
		{name: "apiauth", address: "127.0.0.1:" + ports[1], path: "/bench/", header: "X-Apiauth-Key: " + key, process: cmd.Process},
	}, waitFor(front)
}

// spent is what a way took under load.
type spent struct {
	requests, failed int
	bytes            int64
	took             []time.Duration // of each request
	cpu              time.Duration   // of the proxy
}

// small compares requests with an answer of 200 bytes.
func (b *bench) small(kind string, ways []proxied) error {
	fmt.Printf("\nProxy, %s upstream, answers of 200 bytes\n", kind)
	for _, clients := range []int{1, 16, 64} {
		var sums [2]spent
		var ratios []float64
		for range min(max(b.n/10, 3), 10) {
			var round [2]spent
			for i, way := range ways {
				var err error
				if round[i], err = way.load(clients, way.path, spell); err != nil {
					return err
				}
				sums[i].requests += round[i].requests
				sums[i].failed += round[i].failed
				sums[i].cpu += round[i].cpu
				sums[i].took = append(sums[i].took, round[i].took...)
			}
			if round[0].requests > 0 && round[1].requests > 0 {
				ratios = append(ratios, round[1].each()/round[0].each())
			}
		}
		for i, way := range ways {
			s := sums[i]
			fmt.Printf("  %2d at once  %-8s %6.1f us of CPU each  p50 %5d us  p99 %6d us", clients, way.name, s.each(), quantile(s.took, 0.5).Microseconds(), quantile(s.took, 0.99).Microseconds())
			if s.failed > 0 {
				fmt.Printf("  !! %d failed", s.failed)
			}
			fmt.Println()
		}
		if len(ratios) > 0 {
			cpu := &row{goal: "5a", limit: 2.7}
			if clients == 1 {
				cpu.goal = ""
				p50 := float64(quantile(sums[1].took, 0.5)) / float64(quantile(sums[0].took, 0.5))
				fmt.Printf("              p50 over nginx's  %.2f  %s\n", p50, (&row{goal: "5b", limit: 3.5}).verdict(p50))
			}
			fmt.Printf("              CPU over nginx's  %.2f (least of the rounds %.2f)  %s\n", quantile(ratios, 0.5), slices.Min(ratios), cpu.verdict(quantile(ratios, 0.5)))
		}
	}
	return nil
}

// each is the CPU time for a request in microseconds.
func (s *spent) each() float64 {
	return float64(s.cpu) / float64(time.Microsecond) / float64(max(s.requests, 1))
}

// large compares the throughput of an answer of 64 MiB.
func (b *bench) large(ways []proxied) error {
	fmt.Println("\nProxy, answers of 64 MiB, 4 at once")
	rates := map[string][]float64{}
	for range min(max(b.n/10, 3), 10) {
		for _, way := range ways {
			s, err := way.load(4, way.path+"big", 2*spell)
			if err != nil {
				return err
			}
			rates[way.name] = append(rates[way.name], float64(s.bytes)/(1<<20)/(2*spell).Seconds())
		}
	}
	direct := quantile(rates["direct"], 0.5)
	for _, way := range ways {
		rate := quantile(rates[way.name], 0.5)
		fmt.Printf("  %-8s %6.0f MiB/s  %.2f of direct\n", way.name, rate, rate/direct)
	}
	return nil
}

// idle prints the memory of the proxy before and with 1,000 idle connections.
func (b *bench) idle(kind string, way proxied) error {
	before := resident(way.process.Pid)
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range 1000 {
		c, err := net.Dial("tcp", way.address) //nolint:noctx // on this machine
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if _, err := way.ask(c, bufio.NewReader(c), way.path); err != nil {
			return err
		}
	}
	fmt.Printf("\nProxy, memory, %s upstream: %.1f MiB after the load, %.1f MiB more with 1,000 idle connections\n", kind, before, resident(way.process.Pid)-before)
	return nil
}

// load asks for path from a number of connections for a while.
func (way proxied) load(clients int, path string, d time.Duration) (spent, error) {
	var (
		mu   sync.Mutex
		sum  spent
		fail error
		wait sync.WaitGroup
	)
	began := way.ticks()
	end := time.Now().Add(d)
	for range clients {
		wait.Go(func() {
			own, err := way.client(path, end)
			mu.Lock()
			defer mu.Unlock()
			sum.requests += own.requests
			sum.failed += own.failed
			sum.bytes += own.bytes
			sum.took = append(sum.took, own.took...)
			fail = errors.Join(fail, err)
		})
	}
	wait.Wait()
	sum.cpu = way.ticks() - began
	return sum, fail
}

func (way proxied) client(path string, end time.Time) (spent, error) {
	var s spent
	c, err := net.Dial("tcp", way.address) //nolint:noctx // on this machine
	if err != nil {
		return s, err
	}
	defer c.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	for now := time.Now(); now.Before(end); {
		n, err := way.ask(c, in, path)
		if err != nil {
			return s, err
		}
		after := time.Now()
		if n < 0 {
			s.failed++
		} else {
			s.requests++
			s.bytes += n
			s.took = append(s.took, after.Sub(now))
		}
		now = after
	}
	return s, nil
}

// ask sends one request and returns the bytes of its answer, or -1 when that is
// not 200.
func (way proxied) ask(c net.Conn, in *bufio.Reader, path string) (int64, error) {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + way.address + "\r\n"
	if way.header != "" {
		request += way.header + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		n = -1
	}
	return n, err
}

// ticks is the CPU time of the proxy and its children so far.
func (way proxied) ticks() time.Duration {
	if way.process == nil {
		return 0
	}
	pids := []string{strconv.Itoa(way.process.Pid)}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", way.process.Pid))
	for _, file := range children {
		if list, err := os.ReadFile(file); err == nil {
			pids = append(pids, strings.Fields(string(list))...)
		}
	}
	var sum time.Duration
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 12 { // utime and stime, in hundredths of a second
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			sum += time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return sum
}

// resident is the memory of a process in MiB.
func resident(pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// freePorts returns ports that were free a moment ago.
func freePorts(n int) (ports []string, err error) {
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // on this machine
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		ports = append(ports, strings.TrimPrefix(l.Addr().String(), "127.0.0.1:"))
	}
	return ports, nil
}

// waitFor waits until somebody listens.
func waitFor(address string) error {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address) //nolint:noctx // on this machine
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return err
		}
	}
}
