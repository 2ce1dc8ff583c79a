//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func (b *bench) start() error {
	rows := []row{
		{label: "Go hello", argv: []string{b.floor("hello")}},
		{label: "apiauth version", argv: []string{b.apiauth, "version"}, goal: "1a", limit: 2.2},
		{label: "apiauth --help", argv: []string{b.apiauth, "--help"}},
		{label: "gh --version", argv: []string{find("gh"), "--version"}},
		{label: "curl --version", argv: []string{find("curl"), "--version"}},
	}
	if _, err := b.measure("Start", rows); err != nil {
		return err
	}
	st, err := os.Stat(b.apiauth)
	if err != nil {
		return err
	}
	size := float64(st.Size()) / (1 << 20)
	fmt.Printf("size %.2f MiB, stripped  %s\n", size, (&row{goal: "1b", limit: 14}).verdict(size))
	return b.initialization()
}

// initialization prints what the packages do before main: for each the median
// of several starts.
func (b *bench) initialization() error {
	took := map[string][]float64{}
	for range 25 {
		cmd := b.command([]string{"GODEBUG=inittrace=1"}, "version")
		trace, err := cmd.StderrPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		text, err := io.ReadAll(trace)
		if err := errors.Join(err, cmd.Wait()); err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) { // init PACKAGE @0.1 ms, 0.02 ms clock, ...
			if f := strings.Fields(line); len(f) > 5 && f[0] == "init" {
				if v, err := strconv.ParseFloat(f[4], 64); err == nil {
					took[f[1]] = append(took[f[1]], v)
				}
			}
		}
	}
	type cost struct {
		name string
		ms   float64
	}
	var costs []cost
	var sum float64
	for name, v := range took {
		c := cost{name, quantile(v, 0.5)}
		costs, sum = append(costs, c), sum+c.ms
	}
	if len(costs) == 0 {
		return errors.New("no trace of the initialization")
	}
	slices.SortFunc(costs, func(a, b cost) int { return int((b.ms - a.ms) * 1e6) })
	fmt.Printf("package initialization %.2f ms  %s; the largest:", sum, (&row{goal: "1c", limit: 1.0}).verdict(sum))
	for _, c := range costs[:min(6, len(costs))] {
		fmt.Printf("  %s %.3f", c.name, c.ms)
	}
	fmt.Printf("  %s\n", (&row{goal: "1c", limit: 0.15}).verdict(costs[0].ms))
	return nil
}

// warm stores what the sections that read want to read.
func (b *bench) warm() (keychain, file []string, err error) {
	keychain, file = b.keychain("keychain"), b.file("file")
	if _, err := os.Stat(filepath.Join(b.dir, "state", "file")); err == nil {
		return keychain, file, nil
	}
	if err := b.connect(keychain, "keychain", "token", "bench-refresh"); err != nil {
		return nil, nil, err
	}
	return keychain, file, b.connect(file, "file", "token", "bench-refresh")
}

func (b *bench) token() error {
	keychain, file, err := b.warm()
	if err != nil {
		return err
	}
	store := exec.Command(b.floor("keychain"), "bench", "token", "bench-access-0123456789abcdef") //nolint:gosec,noctx // a floor
	store.Env = b.env
	if out, err := store.CombinedOutput(); err != nil {
		return fmt.Errorf("store an item: %w: %s", err, out)
	}
	gh := filepath.Join(b.dir, "gh")
	if err := os.MkdirAll(gh, 0o700); err != nil {
		return err
	}
	hosts := "github.com:\n    oauth_token: gho_0123456789abcdef\n    user: bench\n    git_protocol: https\n"
	if err := os.WriteFile(filepath.Join(gh, "hosts.yml"), []byte(hosts), 0o600); err != nil {
		return err
	}
	rows := []row{
		{label: "Go hello", argv: []string{b.floor("hello")}},
		{label: "go-keyring Get (floor)", argv: []string{b.floor("keychain"), "bench", "token"}},
		{label: "apiauth token, keychain", argv: []string{b.apiauth, "token", "bench"}, env: keychain, goal: "2a", limit: 4.0},
		{label: "apiauth token, file", argv: []string{b.apiauth, "token", "bench"}, env: file, goal: "2c", limit: 2.6},
		{label: "secret-tool lookup", argv: []string{find("secret-tool"), "lookup", "service", "bench", "username", "token"}},
		{label: "gh auth token (file)", argv: []string{find("gh"), "auth", "token"}, env: []string{"GH_CONFIG_DIR=" + gh}},
	}
	if pass := b.pass(); pass != nil {
		rows = append(rows, *pass)
	}
	results, err := b.measure("A live token", rows)
	if err != nil {
		return err
	}
	for i := range results {
		if results[i].goal == "2c" {
			v := results[i].rss
			fmt.Printf("RSS of token, file store: %.1f MiB  %s\n", v, (&row{goal: "1b", limit: 10}).verdict(v))
		}
	}
	return nil
}

// pass is pass(1) with a key of its own, when it is here.
func (b *bench) pass() *row {
	if find("pass") == "" || find("gpg") == "" {
		return nil
	}
	env := []string{"PASSWORD_STORE_DIR=" + filepath.Join(b.dir, "pass"), "GNUPGHOME=" + filepath.Join(b.dir, "gnupg")}
	if err := os.MkdirAll(filepath.Join(b.dir, "gnupg"), 0o700); err != nil {
		return nil
	}
	for _, c := range []struct {
		in   string
		argv []string
	}{
		{"", []string{"gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "bench@example.com", "default", "default", "never"}},
		{"", []string{"pass", "init", "bench@example.com"}},
		{"bench-access\n", []string{"pass", "insert", "-e", "bench"}},
	} {
		cmd := exec.Command(c.argv[0], c.argv[1:]...) //nolint:gosec,noctx // a peer
		cmd.Env = append(slices.Clip(b.env), env...)
		cmd.Stdin = strings.NewReader(c.in)
		if cmd.Run() != nil {
			return nil
		}
	}
	return &row{label: "pass show", argv: []string{find("pass"), "show", "bench"}, env: env}
}

// audit compares a token that is written down with one that is not. Both rows
// set the variable, since reading any setting costs something, too.
func (b *bench) audit() error {
	keychain, file, err := b.warm()
	if err != nil {
		return err
	}
	for _, store := range []struct {
		label string
		env   []string
	}{{"keychain", keychain}, {"file", file}} {
		rows := []row{
			{label: "token, " + store.label + ", audit off", argv: []string{b.apiauth, "token", "bench"}, env: append(slices.Clip(store.env), "APIAUTH_AUDIT=off")},
			{label: "token, " + store.label + ", audit on", argv: []string{b.apiauth, "token", "bench"}, env: append(slices.Clip(store.env), "APIAUTH_AUDIT=on"), goal: "2f", limit: 1.05},
		}
		if _, err := b.measure("The audit log, "+store.label, rows); err != nil {
			return err
		}
	}
	return nil
}

// log measures the reports of 100,000 lines: two connections, since one log holds
// some 80,000 of these.
func (b *bench) log() error {
	const lines = 100_000
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := b.file("log")
	for _, name := range []string{"first", "second"} {
		if err := b.connectAs(name, env, "file", "token", "bench-refresh"); err != nil {
			return err
		}
	}
	state := strings.TrimPrefix(env[1], "APIAUTH_STATE_DIR=")
	fill := exec.Command(self, "fill-log", state, strconv.Itoa(lines/2)) //nolint:gosec,noctx // ourselves
	fill.Env = append(slices.Clip(b.env), env...)
	fill.Stderr = os.Stderr
	if err := fill.Run(); err != nil {
		return fmt.Errorf("fill the logs: %w", err)
	}
	rows := []row{
		{label: "Go hello", argv: []string{b.floor("hello")}},
		{label: "audit", argv: []string{b.apiauth, "audit", "--unused", "366d"}, env: env},
		{label: "audit --verify", argv: []string{b.apiauth, "audit", "--verify"}, env: env},
		{label: "audit log", argv: []string{b.apiauth, "audit", "log"}, env: env},
		{label: "audit log --json", argv: []string{b.apiauth, "audit", "log", "--json"}, env: env},
	}
	results, err := b.measure(fmt.Sprintf("Reports of %d lines", lines), rows)
	if err != nil {
		return err
	}
	var slowest time.Duration
	for i := range results {
		slowest = max(slowest, results[i].quantile(0.5))
	}
	fmt.Printf("the slowest: %s ms  %s\n", ms(slowest), (&row{goal: "2g, in s", limit: 1}).verdict(slowest.Seconds()))
	return nil
}

func (b *bench) exec() error {
	keychain, file, err := b.warm()
	if err != nil {
		return err
	}
	const child = "/bin/true"
	rows := []row{
		{label: "true", argv: []string{child}},
		{label: "env A=1 true", argv: []string{"/usr/bin/env", "A=1", child}},
		{label: "sh -c 'exec true'", argv: []string{"/bin/sh", "-c", "exec " + child}},
		{label: "Go syscall.Exec (floor)", argv: []string{b.floor("exec"), child}},
		{label: "go-keyring Get (for scale)", argv: []string{b.floor("keychain"), "bench", "token"}},
		{label: "apiauth exec, keychain", argv: []string{b.apiauth, "exec", "-c", "bench", "--", child}, env: keychain, goal: "3a", limit: 9},
		{label: "apiauth exec, file", argv: []string{b.apiauth, "exec", "-c", "bench", "--", child}, env: file},
	}
	// The item for scale may be there from the section before.
	store := exec.Command(b.floor("keychain"), "bench", "token", "bench-access-0123456789abcdef") //nolint:gosec,noctx // a floor
	store.Env = b.env
	if out, err := store.CombinedOutput(); err != nil {
		return fmt.Errorf("store an item: %w: %s", err, out)
	}
	if _, err := b.measure("A child with a token", rows); err != nil {
		return err
	}
	// 3b: the child is the process that was started.
	cmd := b.command(keychain, "exec", "-c", "bench", "--", "/bin/sh", "-c", "echo $$")
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	verdict := "3b: no parent stays  met"
	if strings.TrimSpace(string(out)) != strconv.Itoa(cmd.Process.Pid) {
		verdict = "3b: no parent stays  MISSED"
	}
	fmt.Println(verdict)
	return nil
}

func (b *bench) refresh() error {
	keychain, rotating, file := b.keychain("refresh"), b.keychain("rotate"), b.file("refresh-file")
	err := errors.Join(
		b.connect(keychain, "keychain", "token", "bench-refresh"),
		b.connect(rotating, "keychain", "rotate", "bench-refresh"),
		b.connect(file, "file", "token", "bench-refresh"),
	)
	if err != nil {
		return err
	}
	ca := filepath.Join(b.dir, "ca.pem")
	refresh := []string{b.apiauth, "token", "bench", "--refresh"}
	_, err = b.measure("An expired token", []row{
		{label: "TLS + POST, one root (floor)", argv: []string{b.floor("tlspost"), ca, b.address}},
		{label: "TLS + POST, bundle file", argv: []string{b.floor("tlspost"), filepath.Join(b.dir, "bundle.pem"), b.address}},
		{label: "curl", argv: []string{find("curl"), "-sf", "--cacert", ca, "-d", "grant_type=refresh_token&refresh_token=r", "https://" + b.address + "/token"}},
		{label: "apiauth, keychain", argv: refresh, env: keychain, goal: "4a", limit: 3.2},
		{label: "apiauth, file", argv: refresh, env: file},
		{label: "apiauth, keychain, rotating", argv: refresh, env: rotating},
	})
	return err
}

// herd starts 100 processes at once on an expired connection, and as many on a
// live one.
func (b *bench) herd() error {
	const processes = 100
	env := b.keychain("herd")
	var cold, live, ratios []float64
	most := int64(0)
	for range max(3, min(b.n/10, 15)) {
		if err := b.connect(env, "keychain", "short", "new"); err != nil {
			return err
		}
		time.Sleep(1100 * time.Millisecond) // its first token lives a second
		before, err := b.requests()
		if err != nil {
			return err
		}
		a, err := b.crowd(processes, processes, env)
		if err != nil {
			return err
		}
		after, err := b.requests()
		if err != nil {
			return err
		}
		most = max(most, after-before)
		c, err := b.crowd(processes, processes, env)
		if err != nil {
			return err
		}
		cold, live, ratios = append(cold, a.Seconds()*1e3), append(live, c.Seconds()*1e3), append(ratios, a.Seconds()/c.Seconds())
	}
	fmt.Printf("\n%d processes on one connection  (%d rounds)\n", processes, len(cold))
	fmt.Printf("expired: median %.0f ms, p10 %.0f ms, token requests %d (4b: exactly 1)\n", quantile(cold, 0.5), quantile(cold, 0.1), most)
	r := quantile(cold, 0.1) / quantile(live, 0.1)
	fmt.Printf("live:    median %.0f ms, p10 %.0f ms\nratio %.2f, r_p10 %.2f  %s\n", quantile(live, 0.5), quantile(live, 0.1),
		quantile(ratios, 0.5), r, (&row{goal: "4b", limit: 1.5}).verdict(r))
	return nil
}

// crowd runs token n times, so many at a time, and returns the time until the
// last has ended. All must print the same token.
func (b *bench) crowd(n, atOnce int, env []string) (time.Duration, error) {
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		mu     sync.Mutex
		tokens = map[string]int{}
		failed []error
	)
	start := time.Now()
	for range atOnce {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				cmd := b.command(env, "token", "bench")
				var notes bytes.Buffer // a note on such heavy use is no part of the token
				cmd.Stderr = &notes
				out, err := cmd.Output()
				mu.Lock()
				if err != nil {
					failed = append(failed, fmt.Errorf("%w: %s", err, notes.Bytes()))
				} else {
					tokens[string(out)]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if len(failed) > 0 {
		return took, fmt.Errorf("%d of %d failed, the first: %w", len(failed), n, failed[0])
	}
	if len(tokens) != 1 {
		return took, fmt.Errorf("%d different tokens", len(tokens))
	}
	return took, nil
}

// requests asks the issuer how many token requests there were.
func (b *bench) requests() (int64, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // our own issuer, asked for a number
	}}
	resp, err := client.Get("https://" + b.address + "/count") //nolint:noctx // has a timeout
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(text), 10, 64)
}

// many compares a store of one connection with a full one.
func (b *bench) many() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	full := func(env []string, kind string, n int) error {
		if err := b.connect(env, kind, "token", "bench-refresh"); err != nil {
			return err
		}
		start := time.Now()
		state := strings.TrimPrefix(env[1], "APIAUTH_STATE_DIR=")
		cmd := exec.Command(self, "fill", state, strconv.Itoa(n-1)) //nolint:gosec,noctx // ourselves
		cmd.Env = append(slices.Clip(b.env), env...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("fill a %s store: %w", kind, err)
		}
		fmt.Printf("filled a %s store with %d connections in %s\n", kind, n, since(start))
		return nil
	}
	one, all := b.file("one"), b.file("ten-thousand")
	if err := errors.Join(b.connect(one, "file", "token", "bench-refresh"), full(all, "file", 10_000)); err != nil {
		return err
	}
	read, refresh := []string{b.apiauth, "token", "bench"}, []string{b.apiauth, "token", "bench", "--refresh"}
	for _, c := range []struct {
		what string
		argv []string
	}{{"read", read}, {"refresh and store", refresh}} {
		_, err := b.measure("File store: "+c.what, []row{
			{label: "one of 1", argv: c.argv, env: one},
			{label: "one of 10,000", argv: c.argv, env: all, goal: "6", limit: 1.3},
		})
		if err != nil {
			return err
		}
	}
	// Both keychains have to be there at once, and a keychain is one per
	// session: the small one is measured before the large one is filled.
	small, large := b.keychain("small"), b.keychain("thousand")
	if err := b.connect(small, "keychain", "token", "bench-refresh"); err != nil {
		return err
	}
	before, err := b.measure("Keychain: before it is filled", []row{
		{label: "Go hello", argv: []string{b.floor("hello")}},
		{label: "apiauth token, one of 1", argv: read, env: small},
		{label: "apiauth refresh", argv: refresh, env: small},
	})
	if err != nil {
		return err
	}
	if err := full(large, "keychain", 1_000); err != nil {
		return err
	}
	after, err := b.measure("Keychain: with 1,000 connections", []row{
		{label: "Go hello", argv: []string{b.floor("hello")}},
		{label: "apiauth token, one of 1,000", argv: read, env: large},
		{label: "apiauth refresh", argv: refresh, env: large},
	})
	if err != nil {
		return err
	}
	r := after[1].p10(&after[0]) / before[1].p10(&before[0])
	fmt.Printf("read, one of 1,000 over one of 1, both over hello: %.2f  %s\n", r, (&row{goal: "2b", limit: 1.3}).verdict(r))
	return nil
}

// soak reads often, and looks whether the keychain survives it.
func (b *bench) soak() error {
	keychain, _, err := b.warm()
	if err != nil {
		return err
	}
	const reads = 10_000
	for _, atOnce := range []int{1, 8} {
		took, err := b.crowd(reads, atOnce, keychain)
		if err != nil {
			return fmt.Errorf("%d at a time: %w", atOnce, err)
		}
		if !b.alive() {
			return errors.New("the keychain's daemon has ended")
		}
		fmt.Printf("\n%d reads, %d at a time: %s, 0 failures, the keychain's daemon is alive  2e: met\n", reads, atOnce, took.Round(time.Millisecond))
	}
	return nil
}
