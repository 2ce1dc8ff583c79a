//go:build linux

// Command bench measures apiauth beside its peers and beside the floor: the
// smallest Go programs that do one of its steps. README.md tells how to read the
// tables.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := dispatch(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// dispatch runs the benchmark, or, in its own children, one of its helpers.
func dispatch(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "issuer":
		return issuer(args[1])
	case len(args) == 3 && (args[0] == "fill" || args[0] == "fill-log"):
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		if args[0] == "fill" {
			return fill(args[1], n)
		}
		return fillLog(args[1], n)
	}
	return run(args)
}

// bench is what one run works with.
type bench struct {
	n       int
	dir     string // everything that is built or written
	apiauth string
	*session
	address string // of the issuer
	config  string // of apiauth
	key     string // of the file stores

	issuerProcess *exec.Cmd
	nginx         []*exec.Cmd
}

// section is one table.
type section struct {
	name, what string
	long       bool // only when it is asked for
	run        func(*bench) error
}

func sections() []section {
	return []section{
		{"start", "1a, 1b, 1c: a start, the size, package initialization", false, (*bench).start},
		{"token", "2a, 2c: a live token from keychain and file", false, (*bench).token},
		{"audit", "2f: a live token with the audit log and without", false, (*bench).audit},
		{"log", "2g: the reports of 100,000 lines of the audit log", false, (*bench).log},
		{"exec", "3a, 3b: a child with a token", false, (*bench).exec},
		{"refresh", "4a: an expired token", false, (*bench).refresh},
		{"herd", "4b: 100 processes on one expired connection", false, (*bench).herd},
		{"proxy", "5a, 5b, 5d, 5e: the reverse proxy beside nginx", false, (*bench).proxy},
		{"catalogue", "a start and a live token with all providers built in over 10 of them (1 min)", true, (*bench).catalogue},
		{"many", "2b, 6: one of 1,000 and of 10,000 connections (4 min)", true, (*bench).many},
		{"soak", "2e: 10,000 reads in a row and 10,000 eight at a time (2 min)", true, (*bench).soak},
	}
}

func run(args []string) (err error) {
	f := flag.NewFlagSet("bench/run", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: bench/run [-n ROUNDS] [-apiauth FILE] [SECTION...]\n\nSections; without names all but the long ones:")
		for _, s := range sections() {
			fmt.Fprintf(f.Output(), "  %-9s %s\n", s.name, s.what)
		}
		f.PrintDefaults()
	}
	n := f.Int("n", 100, "rounds that count")
	binary := f.String("apiauth", "", "measure this binary and build none")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	var wanted []section
	for _, s := range sections() {
		if f.NArg() == 0 && !s.long || slices.Contains(f.Args(), s.name) || slices.Contains(f.Args(), "all") {
			wanted = append(wanted, s)
		}
	}
	if len(wanted) == 0 {
		f.Usage()
		return fmt.Errorf("there is no section %q", f.Args())
	}
	dir, err := os.MkdirTemp("", "apiauth-bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{n: max(*n, 1), dir: dir, apiauth: *binary}
	if err := b.build(); err != nil {
		return err
	}
	if b.session, err = startSession(dir); err != nil {
		return fmt.Errorf("start a keychain of our own (needs dbus and gnome-keyring): %w", err)
	}
	defer b.session.close()
	if err := b.startIssuer(); err != nil {
		return err
	}
	defer b.stopIssuer()
	if err := b.configure(); err != nil {
		return err
	}
	fmt.Printf("%s, %s, %d CPUs, load %s\n", machine(), runtime.Version(), runtime.NumCPU(), load())
	for _, s := range wanted {
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	fmt.Printf("\nload at the end %s\n", load())
	return nil
}

// build makes apiauth as a release is made, and the floors alike.
func (b *bench) build() error {
	for _, floor := range []string{"hello", "keychain", "tlspost", "exec", "peak"} {
		if err := compile(b.floor(floor), "./bench/floor/"+floor); err != nil {
			return fmt.Errorf("build the floor %s: %w", floor, err)
		}
	}
	if b.apiauth != "" {
		file, err := filepath.Abs(b.apiauth)
		b.apiauth = file
		return err
	}
	b.apiauth = filepath.Join(b.dir, "apiauth")
	if err := compile(b.apiauth, "./cmd/apiauth"); err != nil {
		return fmt.Errorf("build apiauth: %w", err)
	}
	return nil
}

// compile builds a package. What is left is a copy, written as an archive is
// unpacked: on Linux 6.18 the pages of a file that the linker wrote here and there
// cost a start a fifth more, and a file that was written in one go lies in memory as
// a whole.
func compile(out, pkg string, flags ...string) error {
	linked := out + ".linked"
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", linked}, flags...)
	cmd := exec.Command("go", append(args, pkg)...) //nolint:gosec,noctx // our own packages
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	from, err := os.Open(linked) //nolint:gosec // built above
	if err != nil {
		return err
	}
	to, err := os.OpenFile(out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700) //nolint:gosec // a program
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
		err = errors.Join(err, to.Close())
	}
	return errors.Join(err, from.Close(), os.Remove(linked))
}

func (b *bench) floor(name string) string { return filepath.Join(b.dir, "floor-"+name) }

func (b *bench) startIssuer() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "issuer", b.dir) //nolint:gosec,noctx // ended by stopIssuer
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil { // its end ends the issuer
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.issuerProcess = cmd
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the issuer printed no address: %w", err)
	}
	b.address = strings.TrimSpace(address)
	b.env = append(b.env, "SSL_CERT_FILE="+filepath.Join(b.dir, "bundle.pem"))
	return nil
}

func (b *bench) stopIssuer() {
	_ = b.issuerProcess.Process.Kill()
	_ = b.issuerProcess.Wait()
}

// configure writes apiauth's configuration: one provider for each kind of token
// endpoint.
func (b *bench) configure() error {
	b.config = filepath.Join(b.dir, "config")
	folder := filepath.Join(b.config, "providers")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, endpoint := range []string{"token", "rotate", "short"} {
		def := fmt.Sprintf(`id: %[1]s
name: Bench
authorization_endpoint: https://%[2]s/authorize
token_endpoint: https://%[2]s/%[1]s
token_endpoint_auth_method: none
client_id: bench
pkce: S256
redirect_uri: http://127.0.0.1:*/callback/bench
scopes: {default: [a]}
token: {expires_in: 3600}
api: {base_url: "https://%[2]s/", hosts: ["%[2]s"]}
env: BENCH_TOKEN
revocation: {style: page, page: "https://%[2]s/"}
`, endpoint, b.address)
		if err := os.WriteFile(filepath.Join(folder, endpoint+".yaml"), []byte(def), 0o600); err != nil {
			return err
		}
	}
	out, err := b.command(nil, "store", "key").Output()
	if err != nil {
		return fmt.Errorf("make a store key: %w", err)
	}
	b.key = strings.TrimSpace(string(out))
	return nil
}

// command is apiauth in the session.
func (b *bench) command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(b.apiauth, args...) //nolint:gosec,noctx // what is measured
	cmd.Env = append(append(slices.Clip(b.env), "APIAUTH_CONFIG_DIR="+b.config), env...)
	return cmd
}

// keychain and file are the environments of the two kinds of stores, with a
// state folder of that name each.
func (b *bench) keychain(name string) []string {
	return []string{"APIAUTH_CONFIG_DIR=" + b.config, "APIAUTH_STATE_DIR=" + filepath.Join(b.dir, "state", name)}
}

func (b *bench) file(name string) []string {
	return append(b.keychain(name), "APIAUTH_STORE_KEY="+b.key)
}

// connect stores a grant of a provider under the name bench.
func (b *bench) connect(env []string, kind, provider, refresh string) error {
	return b.connectAs("bench", env, kind, provider, refresh)
}

func (b *bench) connectAs(name string, env []string, kind, provider, refresh string) error {
	cmd := b.command(env, "connect", name, "--provider", provider, "--import-stdin", "--store", kind, "--yes", "--no-input")
	cmd.Stdin = strings.NewReader(refresh + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("connect: %w: %s", err, out)
	}
	return nil
}

// measure runs rows and prints their table.
func (b *bench) measure(title string, rows []row) ([]result, error) {
	rows = slices.DeleteFunc(rows, func(r row) bool { return r.argv[0] == "" }) // peers that are not here
	results, err := interleave(rows, b.env, b.n)
	if err != nil {
		return nil, err
	}
	for i := range results {
		results[i].rss = b.peak(&results[i].row)
	}
	table(os.Stdout, title, results)
	return results, nil
}

// peak is the median of what five runs need of memory, in MiB.
func (b *bench) peak(r *row) float64 {
	var kib []float64
	for range 5 {
		cmd := exec.Command(b.floor("peak"), r.argv...) //nolint:gosec,noctx // what is measured
		cmd.Env = append(slices.Clip(b.env), r.env...)
		if out, err := cmd.Output(); err == nil {
			if v, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err == nil {
				kib = append(kib, v)
			}
		}
	}
	return quantile(kib, 0.5) / 1024
}

func machine() string {
	doc, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(doc)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func load() string {
	doc, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(doc), " ")
	return one
}

func since(start time.Time) string { return time.Since(start).Round(time.Millisecond).String() }
