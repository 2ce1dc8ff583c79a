// Mutate tests the tests: it breaks the product on purpose, one edit at a time
// in a copy of the committed files, and runs the tests that should notice.
//
//	go run ./test/mutate [-only REGEXP] [-check] [-doc FILE] [-v]
//
// The edits stand in test/mutate/edits; edit.go says how they are written. An
// edit whose text is no longer in the code, more than once in it, or that does
// not compile, is an error and not a killed mutant. The exit code is 0 when
// every mutant was killed, 1 when one survived, 2 when something is wrong with
// the edits or the tests fail without them.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
	}
	stop()
	os.Exit(code)
}

// result is what became of one mutant.
type result struct {
	edit
	outcome string // killed, survived or left out
	by      string // the test that failed, or why it was left out
}

func run(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	only := flags.String("only", "", "run the edits whose id or title matches this `regexp`")
	check := flags.Bool("check", false, "only see whether every edit still applies")
	doc := flags.String("doc", "", "renew the table of results in `file`")
	verbose := flags.Bool("v", false, "print what the tests print")
	if err := flags.Parse(args); err != nil {
		return 2, nil
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return 2, err
	}
	top, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return 2, err
	}
	top = strings.TrimSpace(top)
	commit, err := output(ctx, top, "git", "rev-parse", "--short", "HEAD")
	if err != nil {
		return 2, err
	}
	commit = strings.TrimSpace(commit)
	edits, err := readEdits(filepath.Join(top, "test", "mutate", "edits"))
	if err != nil {
		return 2, err
	}

	var selected []edit
	for _, e := range edits {
		if wanted.MatchString(e.id + " " + e.title) {
			selected = append(selected, e)
		}
	}
	if len(selected) == 0 {
		return 2, fmt.Errorf("no edit has an id and a title that match %q, such as %q", *only, edits[0].id+" "+edits[0].title)
	}

	scratch, err := os.MkdirTemp("", "apiauth-mutate.")
	if err != nil {
		return 2, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	tree := filepath.Join(scratch, "tree")
	if err := checkOut(ctx, top, tree); err != nil {
		return 2, err
	}
	var broken []error
	for _, e := range selected {
		undo, err := e.apply(tree)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		if err := undo(); err != nil {
			return 2, err
		}
	}
	if len(broken) > 0 {
		return 2, errors.Join(broken...)
	}
	if *check {
		fmt.Fprintf(out, "%d edits, all of them apply\n", len(selected))
		return 0, nil
	}

	lab := &lab{tree: tree, scratch: scratch, out: out, verbose: *verbose, sound: map[string]string{}}
	if err := lab.prepare(ctx); err != nil {
		return 2, err
	}
	var results []result
	survived := 0
	for _, e := range selected {
		began := time.Now()
		r, err := lab.try(ctx, e)
		if err := ctx.Err(); err != nil {
			return 2, err
		}
		if err != nil {
			broken = append(broken, fmt.Errorf("%s %s: %w", e.id, e.title, err))
			fmt.Fprintf(out, "%-8s  %-4s %s\n", "broken", e.id, e.title)
			continue
		}
		if r.outcome == "survived" {
			survived++
		}
		results = append(results, r)
		if *doc != "" {
			if err := writeTable(*doc, commit, time.Now(), edits, results); err != nil {
				return 2, err
			}
		}
		fmt.Fprintf(out, "%-8s  %-4s %s (%s; %.0f s)\n", r.outcome, e.id, e.title, r.by, time.Since(began).Seconds())
	}
	fmt.Fprintf(out, "%d mutants, %d survived\n", len(results), survived)
	if len(broken) > 0 {
		return 2, errors.Join(broken...)
	}
	if survived > 0 {
		return 1, nil
	}
	return 0, nil
}

// lab runs tests in the copy.
type lab struct {
	tree, scratch string
	env           []string
	out           io.Writer
	verbose       bool
	// sound remembers the test lines that were run without any edit: the reason
	// why one is left out, or nothing when it passed.
	sound map[string]string
}

// prepare makes an environment that holds nothing of the caller's settings.
func (l *lab) prepare(ctx context.Context) error {
	home := filepath.Join(l.scratch, "home")
	for _, dir := range []string{home, filepath.Join(l.scratch, "t"), filepath.Join(l.scratch, "run")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	l.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + filepath.Join(l.scratch, "t"), "LANG=C.UTF-8", "TZ=UTC",
		"TERM=xterm-256color", "XDG_RUNTIME_DIR=" + filepath.Join(l.scratch, "run"),
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOENV", "GOROOT", "GOFLAGS", "GOTOOLCHAIN"} {
		value, err := output(ctx, l.tree, "go", "env", name)
		if err != nil {
			return err
		}
		if value = strings.TrimSpace(value); value != "" {
			l.env = append(l.env, name+"="+value)
		}
	}
	return nil
}

// try applies an edit and runs its tests until one of them fails.
func (l *lab) try(ctx context.Context, e edit) (r result, err error) {
	r = result{edit: e, outcome: "survived", by: "no test failed"}
	var lines []string
	for _, line := range e.tests {
		why, known := l.sound[line]
		if !known {
			run, err := l.test(ctx, line)
			if err != nil {
				return r, err
			}
			switch {
			case run.failed:
				return r, fmt.Errorf("go test %s fails without any edit:\n%s", line, run.text)
			case run.none:
				return r, fmt.Errorf("go test %s runs no test", line)
			case run.skipped != "":
				why = run.skipped + " was skipped here"
			}
			l.sound[line] = why
		}
		if why == "" {
			lines = append(lines, line)
		} else {
			r.outcome, r.by = "left out", why
		}
	}
	if len(lines) == 0 {
		return r, nil
	}
	undo, err := e.apply(l.tree)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, undo()) }()
	for _, line := range lines {
		run, err := l.test(ctx, line)
		if err != nil {
			return r, err
		}
		if run.unbuilt {
			return r, fmt.Errorf("it does not compile:\n%s", run.text)
		}
		if run.failed {
			r.outcome, r.by = "killed", run.by
			return r, nil
		}
	}
	r.outcome, r.by = "survived", "no test failed"
	return r, nil
}

// outcome is what one run of go test came to.
type outcome struct {
	text    string
	failed  bool
	unbuilt bool
	none    bool   // no test matched
	skipped string // a test that was skipped as a whole
	by      string // the first test that failed
}

func (l *lab) test(ctx context.Context, line string) (outcome, error) {
	args := append([]string{"test", "-count=1", "-vet=off", "-v", "-failfast", "-timeout=180s"}, strings.Fields(line)...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = l.tree, l.env
	cmd.WaitDelay = 5 * time.Second
	doc, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	if l.verbose {
		fmt.Fprintf(l.out, "go test %s\n%s", line, doc)
	}
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended && !errors.Is(err, exec.ErrWaitDelay) {
		return outcome{}, err
	}
	return judge(string(doc), err != nil), nil
}

// judge reads what go test printed.
func judge(text string, failed bool) outcome {
	o := outcome{text: text, failed: failed, none: true}
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, "[build failed]") || strings.Contains(line, "[setup failed]") {
			o.unbuilt = true
		}
		if name, ok := strings.CutPrefix(line, "=== RUN   "); ok && name != "" {
			o.none = false
		}
		if name, ok := strings.CutPrefix(line, "--- SKIP: "); ok && o.skipped == "" {
			o.skipped, _, _ = strings.Cut(name, " ")
		}
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok && o.by == "" {
			o.by, _, _ = strings.Cut(name, " ")
		}
		if name, ok := strings.CutPrefix(line, "\t\tTest"); ok && o.by == "" { // below "running tests:"
			name, _, _ = strings.Cut(name, " ")
			o.by = "Test" + name + ", which hung"
		}
	}
	if failed && o.none {
		o.unbuilt = true // a suite that builds the product before its tests
	}
	if failed && o.by == "" {
		o.by = "the test process ended"
	}
	return o
}

// checkOut copies the committed files, and the peers that were installed beside
// them.
func checkOut(ctx context.Context, top, tree string) error {
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	archive := exec.CommandContext(ctx, "git", "-C", top, "archive", "--format=tar", "HEAD")
	unpack := exec.CommandContext(ctx, "tar", "-x", "-C", tree)
	pipe, err := archive.StdoutPipe()
	if err != nil {
		return err
	}
	unpack.Stdin = pipe
	if err := archive.Start(); err != nil {
		return err
	}
	if err := unpack.Run(); err != nil {
		return fmt.Errorf("unpack the committed files: %w", err)
	}
	if err := archive.Wait(); err != nil {
		return fmt.Errorf("read the committed files: %w", err)
	}
	peers := filepath.Join("test", "peers", "node_modules")
	if _, err := os.Stat(filepath.Join(top, peers)); err == nil {
		return os.Symlink(filepath.Join(top, peers), filepath.Join(tree, peers))
	}
	return nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	doc, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return string(doc), nil
}
