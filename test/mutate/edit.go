package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// edit is one way to break the product. In a file it looks like this; a line
// that begins with # between two edits is a comment:
//
//	== A1 the code challenge is not sent
//	breaks: R-01, PKCE in every code flow
//	test: ./internal/oauth -run ^TestAuthorizeURL$
//	file: internal/oauth/authorize.go
//	<<<
//	the text as it is, exactly once in the file
//	===
//	the text as it becomes, possibly nothing
//	>>>
//
// More lines "test:" may follow the first one; they are run in order, as
// arguments of go test, until a test fails. More files and blocks may follow,
// too.
type edit struct {
	id, title string
	breaks    string
	tests     []string
	changes   []change
}

// change replaces a text in a file.
type change struct{ file, from, to string }

// readEdits reads every *.patch below dir, in order of their names.
func readEdits(dir string) ([]edit, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []edit
	seen := map[string]bool{}
	for _, f := range files {
		doc, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		edits, err := parseEdits(filepath.Base(f), string(doc))
		if err != nil {
			return nil, err
		}
		for _, e := range edits {
			if seen[e.id] {
				return nil, fmt.Errorf("%s: there are two edits %s", filepath.Base(f), e.id)
			}
			seen[e.id] = true
		}
		all = append(all, edits...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("there are no edits in %s", dir)
	}
	return all, nil
}

// parseEdits reads one file of edits.
func parseEdits(name, doc string) ([]edit, error) {
	var (
		edits []edit
		file  string
		block *change
		into  *[]string
		from  []string
		to    []string
	)
	for i, line := range strings.Split(doc, "\n") {
		fail := func(why string) ([]edit, error) { return nil, fmt.Errorf("%s:%d: %s", name, i+1, why) }
		switch {
		case block != nil && line == "===" && into == &from:
			into = &to
		case block != nil && line == ">>>" && into == &to:
			block.from, block.to = strings.Join(from, "\n"), strings.Join(to, "\n")
			if block.from == "" || block.from == block.to {
				return fail("a block without a text, or that changes nothing")
			}
			last := &edits[len(edits)-1]
			last.changes = append(last.changes, *block)
			block, into, from, to = nil, nil, nil, nil
		case block != nil:
			*into = append(*into, line)
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "== "):
			id, title, ok := strings.Cut(line[3:], " ")
			if !ok {
				return fail("an edit needs an id and a title")
			}
			edits, file = append(edits, edit{id: id, title: title}), ""
		case len(edits) == 0:
			return fail("a line before the first edit")
		case line == "<<<":
			if file == "" {
				return fail("a block without a file")
			}
			block, into = &change{file: file}, &from
		default:
			key, value, ok := strings.Cut(line, ": ")
			last := &edits[len(edits)-1]
			switch {
			case !ok:
				return fail("this line says nothing")
			case key == "breaks":
				last.breaks = value
			case key == "test":
				last.tests = append(last.tests, value)
			case key == "file" && filepath.IsLocal(value):
				file = value
			default:
				return fail("unknown key " + key)
			}
		}
	}
	if block != nil {
		return nil, fmt.Errorf("%s: the last block does not end", name)
	}
	for _, e := range edits {
		if e.breaks == "" || len(e.tests) == 0 || len(e.changes) == 0 {
			return nil, fmt.Errorf("%s: edit %s lacks breaks, test or a block", name, e.id)
		}
	}
	return edits, nil
}

// apply makes the changes of an edit below tree. undo puts everything back.
func (e edit) apply(tree string) (undo func() error, err error) {
	originals := map[string][]byte{}
	restore := func() error {
		var failed []error
		for path, doc := range originals {
			failed = append(failed, os.WriteFile(path, doc, 0o644))
		}
		return errors.Join(failed...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, restore())
		}
	}()
	for _, c := range e.changes {
		path := filepath.Join(tree, filepath.FromSlash(c.file))
		doc, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", e.id, e.title, err)
		}
		if n := strings.Count(string(doc), c.from); n != 1 {
			return nil, fmt.Errorf("%s %s: the code has moved: this stands %d times in %s and not once:\n%s", e.id, e.title, n, c.file, c.from)
		}
		if _, kept := originals[path]; !kept {
			originals[path] = doc
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(doc), c.from, c.to, 1)), 0o644); err != nil {
			return nil, err
		}
	}
	return restore, nil
}

// The lines between which writeTable writes.
const (
	tableBegin = "<!-- results: written by scripts/mutate -doc -->\n"
	tableEnd   = "<!-- end of results -->\n"
)

// writeTable puts results into a document. Rows of other edits stay as they
// are; rows whose edit is gone are left out.
func writeTable(file, commit string, now time.Time, edits []edit, results []result) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(doc), tableBegin)
	old, tail, found := strings.Cut(rest, tableEnd)
	if !ok || !found {
		return fmt.Errorf("%s lacks the lines between which the results stand", file)
	}
	rows := map[string]string{}
	for line := range strings.Lines(old) {
		if id, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok && id != "" {
			rows[id] = line
		}
	}
	for _, r := range results {
		rows[r.id] = r.row()
	}
	return os.WriteFile(file, []byte(head+tableBegin+"\n"+table(commit, now, edits, rows)+"\n"+tableEnd+tail), 0o644)
}

func table(commit string, now time.Time, edits []edit, rows map[string]string) string {
	var b strings.Builder
	count := map[string]int{}
	b.WriteString("| | Edit | What it breaks | Caught by |\n|---|---|---|---|\n")
	for _, e := range edits {
		row, ok := rows[e.id]
		switch {
		case !ok:
			count["not run"]++
			continue
		case strings.Contains(row, "**survived**"):
			count["survived"]++
		case strings.Contains(row, "**left out**"):
			count["left out"]++
		default:
			count["killed"]++
		}
		b.WriteString(row)
	}
	return fmt.Sprintf("%s, commit %s: %d edits, %d killed, %d survived, %d left out, %d not run.\n\n", now.UTC().Format("2006-01-02"), commit,
		len(edits), count["killed"], count["survived"], count["left out"], count["not run"]) + b.String()
}

// row is a line of the table.
func (r result) row() string {
	by := "`" + r.by + "`"
	if r.outcome != "killed" {
		by = "**" + r.outcome + "**: " + r.by
	}
	cell := strings.NewReplacer("|", "\\|").Replace
	return fmt.Sprintf("| %s | %s | %s | %s |\n", r.id, cell(r.title), cell(r.breaks), cell(by))
}
