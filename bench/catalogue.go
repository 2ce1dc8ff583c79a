//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apiauth/apiauth/internal/providers/pack"
)

// catalogue compares apiauth with a build of it that knows ten providers: the size
// of the catalogue must cost a start and a token nothing. It runs 2,000 rounds at
// least.
func (b *bench) catalogue() error {
	overlay, all, err := b.tenProviders()
	if err != nil {
		return err
	}
	small := filepath.Join(b.dir, "apiauth-10")
	if err := compile(small, "./cmd/apiauth", "-overlay="+overlay); err != nil {
		return fmt.Errorf("build apiauth with ten providers: %w", err)
	}
	var work []string
	for _, flags := range [][]string{{"-overlay=" + overlay}, nil} {
		lookup := b.floor("lookup")
		if err := compile(lookup, "./bench/floor/lookup", flags...); err != nil {
			return fmt.Errorf("build the lookup: %w", err)
		}
		out, err := exec.Command(lookup, "openai").Output() //nolint:gosec,noctx // our own program
		if err != nil {
			return fmt.Errorf("look up an entry: %w", err)
		}
		work = append(work, strings.TrimSpace(string(out)))
	}
	fmt.Printf("\nThe catalogue: 10 and %d providers\nlook-up: %s; %s  %s\n", all, work[0], work[1], equal(work[0], work[1]))

	few, err := b.initialAllocations(small)
	if err != nil {
		return err
	}
	many, err := b.initialAllocations(b.apiauth)
	if err != nil {
		return err
	}
	fmt.Printf("package initialization: %s; %s  %s\n", few, many, equal(few, many))

	env := b.file("catalogue")
	cmd := b.command(env, "connect", "bench", "--provider", "openai", "--import-stdin", "--store", "file", "--yes", "--no-input")
	cmd.Stdin = strings.NewReader("sk-bench-0123456789abcdef\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("store a key: %w: %s", err, out)
	}
	rounds := *b
	rounds.n = max(b.n, 2000)
	for _, args := range [][]string{{"token", "bench"}, {"version"}} {
		_, err := rounds.measure(args[0]+", 10 providers and all", []row{
			{label: "10 providers", argv: append([]string{small}, args...), env: env},
			{label: fmt.Sprintf("%d providers", all), argv: append([]string{b.apiauth}, args...), env: env, goal: "catalogue", limit: 1.03},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tenProviders writes an overlay for the Go command in which the catalogue has ten
// entries only. It returns its path and how many entries there are.
func (b *bench) tenProviders() (overlay string, all int, err error) {
	const room = "internal/providers"
	entries, err := pack.Folder(filepath.Join(room, "catalog"), ".yaml")
	if err != nil {
		return "", 0, err
	}
	all = len(entries)
	keep := []string{"box", "contentful", "github", "gitlab", "google", "mapbox", "openai", "salesforce", "spotify", "stripe"}
	maps.DeleteFunc(entries, func(id string, _ []byte) bool { return !slices.Contains(keep, id) })
	packed, err := filepath.Abs(filepath.Join(room, "catalog.pack"))
	if err != nil {
		return "", 0, err
	}
	before, err := os.ReadFile(packed) //nolint:gosec // a file of the repository
	if err != nil {
		return "", 0, err
	}
	ten, err := pack.Make(pack.Pack(before), entries) // the entries in the same form
	if err != nil {
		return "", 0, err
	}
	path := filepath.Join(b.dir, "ten.pack")
	if err := os.WriteFile(path, []byte(ten), 0o600); err != nil {
		return "", 0, err
	}
	doc, err := json.Marshal(map[string]any{"Replace": map[string]string{packed: path}})
	if err != nil {
		return "", 0, err
	}
	overlay = filepath.Join(b.dir, "overlay.json")
	return overlay, all, os.WriteFile(overlay, doc, 0o600)
}

// initialAllocations says what packages allocate before main, by the start of 25
// that allocates least: the seeds of maps differ.
func (b *bench) initialAllocations(program string) (string, error) {
	least, packages := math.MaxInt, 0
	for range 25 {
		n, allocations, err := b.initialWork(program)
		if err != nil {
			return "", err
		}
		least, packages = min(least, allocations), n
	}
	return fmt.Sprintf("%d packages, %d allocations", packages, least), nil
}

// initialWork counts the packages that do something before main, and what they
// allocate.
func (b *bench) initialWork(program string) (packages, allocations int, err error) {
	cmd := exec.Command(program, "version") //nolint:gosec,noctx // what is measured
	cmd.Env = append(slices.Clip(b.env), "GODEBUG=inittrace=1", "APIAUTH_CONFIG_DIR="+b.config)
	var trace strings.Builder
	cmd.Stderr = &trace
	if err := cmd.Run(); err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(trace.String()) { // init PACKAGE @0.1 ms, 0.02 ms clock, 768 bytes, 3 allocs
		var name string
		var at, took float64
		var size, count int
		if n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes, %d allocs", &name, &at, &took, &size, &count); n == 5 {
			packages, allocations = packages+1, allocations+count
		}
	}
	if packages == 0 {
		return 0, 0, errors.New("no trace of the initialization")
	}
	return packages, allocations, nil
}

func equal(a, b string) string {
	if a == b {
		return "equal"
	}
	return "DIFFERENT"
}
