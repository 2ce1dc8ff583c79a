package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	for name, c := range map[string]struct {
		events string
		failed bool
		err    bool
		want   []string
		not    []string
	}{
		"all well": {
			events: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":0.5}`,
			want: []string{"ok    p", "0.5 s  2 passed\n", "\n2 passed, 0 failed, 0 skipped\n"},
			not:  []string{"=== RUN", "Left out", "Failed"},
		},
		"a failure shows its output and nothing of the others": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: fine\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p"}`,
			failed: true,
			want:   []string{"got 1, want 2", "FAIL  p", "Failed: p\n", "\n1 passed, 1 failed, 0 skipped\n"},
			not:    []string{"fine"},
		},
		"a skip gives its reason": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: missing peer: tmux: apt-get install tmux\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			want: []string{"1 passed, 1 left out\n", "   1  missing peer: tmux: apt-get install tmux\n", "\n1 passed, 0 failed, 1 skipped\n"},
		},
		"a package that does not build": {
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"./a.go:1: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			failed: true,
			want:   []string{"undefined: x", "Failed: p\n", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		"a package that panics before its tests": {
			events: `{"Action":"output","Package":"p","Output":"panic: no\n"}
{"Action":"fail","Package":"p"}
{"Action":"pass","Package":"q","Test":"TestA"}
{"Action":"pass","Package":"q"}`,
			failed: true,
			want:   []string{"panic: no", "\n1 passed, 1 failed, 0 skipped\n"},
		},
		"go test was ended": {
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"working\n"}`,
			failed: true,
			want:   []string{"working", "\n0 passed, 1 failed, 0 skipped\n"},
		},
		"words of go itself pass through": {
			events: "go: downloading x\n" + `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			want: []string{"go: downloading x\n", "1 passed"},
		},
		"a package without tests is silent": {
			events: `{"Action":"output","Package":"q","Output":"?   q [no test files]\n"}
{"Action":"skip","Package":"q"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`,
			not: []string{"q"},
		},
		"nothing ran": {events: "", failed: true, err: true},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			failed, err := tally(strings.NewReader(c.events), &out)
			if failed != c.failed || (err != nil) != c.err {
				t.Errorf("failed %v, error %v; want %v, %v", failed, err, c.failed, c.err)
			}
			for _, s := range c.want {
				if !strings.Contains(out.String(), s) {
					t.Errorf("the report lacks %q:\n%s", s, out.String())
				}
			}
			for _, s := range c.not {
				if strings.Contains(out.String(), s) {
					t.Errorf("the report has %q:\n%s", s, out.String())
				}
			}
		})
	}
}
