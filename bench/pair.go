//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// row is one command of a section. The first row of a section is what the
// others are compared with.
type row struct {
	label string
	argv  []string
	env   []string // added to the session's
	goal  string   // the number of the goal in docs/performance.md
	limit float64  // that goal: the largest ratio to the first row
}

// sample is one run.
type sample struct{ wall, cpu time.Duration }

// result is a row with its runs.
type result struct {
	row
	runs   []sample
	rss    float64 // peak, MiB
	failed int
	why    string
}

// interleave runs the rows in turn, A B C, A B C, n times, so that what else
// happens on the machine happens to all of them. Three rounds before do not
// count.
func interleave(rows []row, env []string, n int) ([]result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	results := make([]result, len(rows))
	for i, r := range rows {
		results[i] = result{row: r, runs: make([]sample, 0, n)}
	}
	const warm = 3
	for round := range n + warm {
		for i := range results {
			r := &results[i]
			s, err := once(r.argv, append(slices.Clip(env), r.env...), null)
			if err != nil {
				r.failed++
				r.why = err.Error()
			}
			if round >= warm {
				r.runs = append(r.runs, s)
			}
		}
	}
	return results, nil
}

// once starts a process without the detours of os/exec, which would cost more
// than some of what is measured.
func once(argv, env []string, null *os.File) (sample, error) {
	fd := null.Fd()
	start := time.Now()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: env, Files: []uintptr{fd, fd, fd}})
	if err != nil {
		return sample{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	var status syscall.WaitStatus
	var use syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &use); err != syscall.EINTR { //nolint:errorlint // an errno
			break
		}
	}
	s := sample{
		wall: time.Since(start),
		cpu:  time.Duration(use.Utime.Nano() + use.Stime.Nano()),
	}
	switch {
	case err != nil:
		return s, err
	case status.Signaled():
		return s, fmt.Errorf("%s: signal %d", filepath.Base(argv[0]), status.Signal())
	case status.ExitStatus() != 0:
		return s, fmt.Errorf("%s: status %d", filepath.Base(argv[0]), status.ExitStatus())
	}
	return s, nil
}

// quantile of the wall times.
func (r *result) quantile(p float64) time.Duration {
	walls := make([]time.Duration, len(r.runs))
	for i, s := range r.runs {
		walls[i] = s.wall
	}
	return quantile(walls, p)
}

func quantile[T ~int64 | ~float64](values []T, p float64) T {
	v := slices.Sorted(slices.Values(values))
	if len(v) == 0 {
		return 0
	}
	at := p * float64(len(v)-1)
	i := int(at)
	if i+1 == len(v) {
		return v[i]
	}
	return v[i] + T((at-float64(i))*float64(v[i+1]-v[i]))
}

// ratio is the median of the rounds' ratios to the first row.
func (r *result) ratio(first *result) float64 {
	ratios := make([]float64, 0, len(r.runs))
	for i, s := range r.runs {
		ratios = append(ratios, float64(s.wall)/float64(first.runs[i].wall))
	}
	return quantile(ratios, 0.5)
}

// p10 divides the 10th percentiles: nearly free of what else the machine does.
func (r *result) p10(first *result) float64 {
	return float64(r.quantile(0.1)) / float64(first.quantile(0.1))
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

// table prints a section.
func table(w io.Writer, title string, results []result) {
	fmt.Fprintf(w, "\n%s  (%d rounds)\n", title, len(results[0].runs))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "command\tmedian ms\tp10 ms\tcpu ms\tRSS MiB\tratio\tr_p10\tgoal\t")
	first := &results[0]
	for i := range results {
		r := &results[i]
		var cpus []time.Duration
		for _, s := range r.runs {
			cpus = append(cpus, s.cpu)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%.1f\t%.2f\t%.2f\t%s\t\n", r.label, ms(r.quantile(0.5)), ms(r.quantile(0.1)),
			ms(quantile(cpus, 0.5)), r.rss, r.ratio(first), r.p10(first), r.verdict(r.p10(first)))
	}
	_ = tw.Flush()
	for i := range results {
		if r := &results[i]; r.failed > 0 {
			fmt.Fprintf(w, "!! %s failed %d times and does not count: %s\n", r.label, r.failed, r.why)
		}
	}
}

// verdict compares with the goal.
func (r *row) verdict(value float64) string {
	switch {
	case r.goal == "":
		return ""
	case value <= r.limit:
		return fmt.Sprintf("%s: <= %.2f  met", r.goal, r.limit)
	}
	return fmt.Sprintf("%s: <= %.2f  MISSED", r.goal, r.limit)
}

// find looks a peer up; a row whose peer is not there is left out.
func find(name string) string {
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		file := filepath.Join(dir, name)
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 && filepath.IsAbs(dir) {
			return file
		}
	}
	return ""
}
