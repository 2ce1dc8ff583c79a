package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const example = `# a comment
== X1 a title of words
breaks: something
test: ./a -run ^TestA$
test: ./b
file: a/b.go
<<<
	one

	two
===
	three
>>>
<<<
four
===
>>>
`

func TestParseEdits(t *testing.T) {
	edits, err := parseEdits("x.patch", example)
	if err != nil || len(edits) != 1 {
		t.Fatalf("%v, %v", edits, err)
	}
	e := edits[0]
	if e.id != "X1" || e.title != "a title of words" || e.breaks != "something" || len(e.tests) != 2 || len(e.changes) != 2 {
		t.Errorf("%+v", e)
	}
	if c := e.changes[0]; c.file != "a/b.go" || c.from != "\tone\n\n\ttwo" || c.to != "\tthree" {
		t.Errorf("%+v", c)
	}
	for _, doc := range []string{
		"test: x\n", "== X\n", "== X1 y\n<<<\n", strings.Replace(example, "file: a/b.go", "file: ../b.go", 1),
		strings.Replace(example, "breaks: something\n", "", 1), strings.Replace(example, "four", "", 1),
		strings.TrimSuffix(example, ">>>\n"), strings.Replace(example, "\tthree", "\tone\n\n\ttwo", 1),
	} {
		if _, err := parseEdits("x.patch", doc); err == nil {
			t.Errorf("this was accepted:\n%s", doc)
		}
	}
}

func TestApply(t *testing.T) {
	edits, err := parseEdits("x.patch", example)
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	file := filepath.Join(tree, "a", "b.go")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	content := func() string {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	for _, moved := range []string{"\tone\n\n\ttwo\n", "\tone\n\n\ttwo\nfour\nfour\n", "four\n"} {
		if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := edits[0].apply(tree); err == nil || !strings.Contains(err.Error(), "the code has moved") {
			t.Errorf("%q: %v", moved, err)
		}
		if content() != moved {
			t.Errorf("an edit that does not apply left %q", content())
		}
	}
	const good = "\tone\n\n\ttwo\nfour\n"
	if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	undo, err := edits[0].apply(tree)
	if err != nil || content() != "\tthree\n\n" {
		t.Fatalf("%q, %v", content(), err)
	}
	if err := undo(); err != nil || content() != good {
		t.Errorf("%q, %v", content(), err)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, text string
		failed     bool
		want       outcome
	}{
		{"passed", "=== RUN   TestA\n--- PASS: TestA (0.00s)\nok\n", false, outcome{}},
		{"failed", "=== RUN   TestA\n=== RUN   TestA/b\n--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/b (0.00s)\n", true, outcome{failed: true, by: "TestA"}},
		{"skipped", "=== RUN   TestA\n--- SKIP: TestA (0.00s)\n", false, outcome{skipped: "TestA"}},
		{"nothing ran", "testing: warning: no tests to run\nok\n", false, outcome{none: true}},
		{"does not compile", "FAIL\tx [build failed]\n", true, outcome{failed: true, unbuilt: true, none: true, by: "the test process ended"}},
		{"the product does not compile", "build apiauth: exit status 1\nFAIL\tx 0.2s\nFAIL\n", true, outcome{failed: true, unbuilt: true, none: true, by: "the test process ended"}},
		{"hung", "=== RUN   TestA\npanic: test timed out after 3m0s\n\trunning tests:\n\t\tTestA (3m0s)\n", true, outcome{failed: true, by: "TestA, which hung"}},
	} {
		got := judge(c.text, c.failed)
		got.text = ""
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// The edits of the repository are readable; that they still apply is seen by
// scripts/mutate -check.
func TestEditsAreReadable(t *testing.T) {
	edits, err := readEdits("edits")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edits {
		if !strings.Contains("ABCDEFLPX", e.id[:1]) {
			t.Errorf("%s: groups are A to F, L, P and X", e.id)
		}
	}
}

func TestTableKeepsWhatWasNotRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(file, []byte("before\n"+tableBegin+"| A1 | old | old | `TestOld` |\n| A2 | a2 | b | **survived**: x |\n| A9 | gone | gone | `TestGone` |\n"+tableEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	edits := []edit{{id: "A1", title: "one"}, {id: "A2", title: "a2"}, {id: "A3", title: "three"}}
	results := []result{{edit: edits[0], outcome: "killed", by: "TestNew"}}
	if err := writeTable(file, "abc", time.Unix(0, 0), edits, results); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n" + tableBegin + "\n1970-01-01, commit abc: 3 edits, 1 killed, 1 survived, 0 left out, 1 not run.\n\n" +
		"| | Edit | What it breaks | Caught by |\n|---|---|---|---|\n| A1 | one |  | `TestNew` |\n| A2 | a2 | b | **survived**: x |\n\n" + tableEnd + "after\n"
	if string(doc) != want {
		t.Errorf("got\n%s\nwant\n%s", doc, want)
	}
}

// A run of nothing is no success.
func TestExpressionThatMatchesNothing(t *testing.T) {
	code, err := run(t.Context(), []string{"-check", "-only", "no edit is called so"}, io.Discard)
	if code != 2 || err == nil || !strings.Contains(err.Error(), "no edit has an id and a title that match") {
		t.Errorf("code %d, %v", code, err)
	}
}
