// Tally reads the events of `go test -json` on standard input, prints what a
// person wants to see of them, and closes with one line that counts every test:
//
//	go test -json ./... | go run ./test/tally
//
// It prints a line for each package, the output of each test that failed, and
// why tests were left out. Its exit code is 1 when a test or a package failed,
// and 2 when there was no test at all or its input is not what it should be.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	failed, err := tally(os.Stdin, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	case failed:
		os.Exit(1)
	}
}

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// suite is what became of one package.
type suite struct {
	passed, failed, skipped int
	outcome                 string // pass, fail or skip, as its last event says
	elapsed                 float64
	output                  map[string][]string // by test; "" is the package's own
	failedTests             []string            // in the order in which they failed
}

// maxLine bounds one event; go test splits a test's longer lines itself.
const maxLine = 16 << 20

// tally copies events from in to a report on out. It reports whether something
// failed, and an error when in ended without any event.
func tally(in io.Reader, out io.Writer) (failed bool, err error) {
	w := bufio.NewWriter(out)
	defer func() { err = errors.Join(err, w.Flush()) }()

	suites := map[string]*suite{}
	builds := map[string][]string{} // output of the compiler, by import path
	reasons := map[string]int{}     // why tests were left out
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if !strings.HasPrefix(lines.Text(), "{") || json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(w, lines.Text()) // what go itself says, on its own behalf
			continue
		}
		if e.Action == "build-output" {
			builds[e.ImportPath] = append(builds[e.ImportPath], e.Output)
			continue
		}
		if e.Package == "" {
			continue
		}
		s := suites[e.Package]
		if s == nil {
			s = &suite{output: map[string][]string{}}
			suites[e.Package] = s
		}
		s.add(e, reasons)
		if e.Test == "" && e.FailedBuild != "" {
			s.output[""] = append(builds[e.FailedBuild], s.output[""]...)
		}
		if e.Test == "" && s.outcome != "" {
			s.print(w, e.Package)
			if err := w.Flush(); err != nil {
				return true, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return true, fmt.Errorf("read the events of go test: %w", err)
	}
	return summary(w, suites, reasons)
}

func (s *suite) add(e event, reasons map[string]int) {
	switch e.Action {
	case "output":
		s.output[e.Test] = append(s.output[e.Test], e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test == "" {
		s.outcome, s.elapsed = e.Action, e.Elapsed
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failedTests = append(s.failedTests, e.Test)
		return // its output is still needed
	case "skip":
		s.skipped++
		reasons[reason(s.output[e.Test])]++
	}
	delete(s.output, e.Test)
}

// reason is what a skipped test said, without the file and line before it.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if before, after, ok := strings.Cut(line, ": "); ok && strings.Contains(before, ".go:") {
			return after
		}
		return line
	}
	return "no reason given"
}

func (s *suite) print(w io.Writer, name string) {
	switch {
	case s.outcome == "fail":
		for _, test := range s.failedTests {
			fmt.Fprint(w, strings.Join(s.output[test], ""))
		}
		// The package's own output holds a panic, or what the compiler said. The
		// panic of a test that never ended is under that test's name.
		if len(s.failedTests) == 0 {
			for _, test := range slices.Sorted(maps.Keys(s.output)) {
				fmt.Fprint(w, strings.Join(s.output[test], ""))
			}
			s.failed++
		} else {
			fmt.Fprint(w, strings.Join(s.output[""], ""))
		}
		fmt.Fprintf(w, "FAIL  %-60s %6.1f s  %d failed\n", name, s.elapsed, s.failed)
	case s.passed+s.skipped > 0:
		fmt.Fprintf(w, "ok    %-60s %6.1f s  %d passed", name, s.elapsed, s.passed)
		if s.skipped > 0 {
			fmt.Fprintf(w, ", %d left out", s.skipped)
		}
		fmt.Fprintln(w)
	}
	s.output = map[string][]string{}
}

func summary(w io.Writer, suites map[string]*suite, reasons map[string]int) (failed bool, err error) {
	var passed, failures, skipped int
	var broken []string
	for _, name := range slices.Sorted(maps.Keys(suites)) {
		s := suites[name]
		if s.outcome == "" { // go test itself was ended
			s.outcome = "fail"
			s.print(w, name)
		}
		passed, failures, skipped = passed+s.passed, failures+s.failed, skipped+s.skipped
		if s.outcome == "fail" {
			broken = append(broken, name)
		}
	}
	if len(reasons) > 0 {
		fmt.Fprintln(w, "\nLeft out:")
		order := slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
			return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
		})
		for _, why := range order {
			fmt.Fprintf(w, "%4d  %s\n", reasons[why], why)
		}
	}
	if len(broken) > 0 {
		fmt.Fprintf(w, "\nFailed: %s\n", strings.Join(broken, " "))
	}
	fmt.Fprintf(w, "\n%d passed, %d failed, %d skipped\n", passed, failures, skipped)
	if passed+failures+skipped == 0 {
		return true, errors.New("no test ran")
	}
	return failures > 0, nil
}
