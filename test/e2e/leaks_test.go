//go:build unix

package e2e

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

// A front end is built for real, once with a token in the bundle, its base64 and
// the source map, and once without.
func TestScanOfAViteBuild(t *testing.T) {
	t.Parallel()
	modules := peers.NodeModules(t)
	vite := filepath.Join(modules, "vite", "bin", "vite.js")
	if _, err := os.Stat(vite); err != nil {
		peers.Missing(t, "npm package vite", "npm ci --prefix test/peers")
	}
	node := peers.Program(t, "apt-get install nodejs", "node")
	const token = "pk.eyJ1IjoiYWRhIiwiYSI6ImNrdGVzdCJ9.c4n4ryQ7xZk9TLw3mN5bV" //nolint:gosec // of nobody
	p := withFileStore(t)
	if r := p.runIn(token+"\n", "connect", "mapbox", "--import-stdin"); r.code != 0 {
		t.Fatal(r.redacted())
	}
	p.write("app/index.html", `<!doctype html><script type="module" src="/main.js"></script>`)
	p.write("app/vite.config.mjs", `const token = process.env.LEAK ? process.env.MAPBOX_ACCESS_TOKEN : "none"
export default {
  define: { __PLAIN__: JSON.stringify(token), __CODED__: JSON.stringify(Buffer.from("user:" + token).toString("base64")) },
  build: { sourcemap: true },
  logLevel: "error",
}
`)
	main := "console.log(__PLAIN__)\nconsole.log(__CODED__)\n"
	p.write("app/main.js", main)
	q := p.in(filepath.Join("work", "app"))
	build := []string{"exec", "-c", "mapbox", "--scan", "dist", "--", node, vite, "build"}
	if r := q.run(build...); r.code != 0 || r.err != "" {
		t.Fatalf("a clean build: %s", r.redacted())
	}
	// A comment is gone from the bundle and stands in its map.
	p.write("app/main.js", "/* "+token+" */\n"+main)
	r := q.as("LEAK", "1").run(build...)
	if r.code != 1 || strings.Contains(r.err, token) || strings.Contains(r.out, token) {
		t.Fatalf("a build that leaks: %s", r.redacted())
	}
	forms := map[string]bool{}
	place := regexp.MustCompile(`(?m)^(.*/dist/assets/[^:]*):\d+: offset (\d+): access token of mapbox \(([a-z0-9]+)\)$`)
	for _, m := range place.FindAllStringSubmatch(r.err, -1) {
		text, err := os.ReadFile(m[1])
		must(t, err)
		offset, err := strconv.Atoi(m[2])
		must(t, err)
		want := []byte(token)
		if m[3] == "base64" {
			want = []byte(base64.StdEncoding.EncodeToString([]byte("user:" + token)))[7:40]
		}
		if !bytes.HasPrefix(text[offset:], want) {
			t.Errorf("%s is not at offset %d of %s", m[3], offset, m[1])
		}
		forms[m[3]+filepath.Ext(m[1])] = true
	}
	if !forms["raw.js"] || !forms["base64.js"] || !forms["raw.map"] {
		t.Errorf("found %v of a bundle with all of them:\n%s", forms, r.err)
	}
	// The same with scan, which looks for what is kept.
	doc := fromJSON[struct {
		Findings []struct{ Path, Connection, Form string }
		Files    int
	}](t, q.run("scan", "--json", "dist"))
	if len(doc.Findings) < 3 || doc.Files < 3 {
		t.Errorf("%+v", doc)
	}
}
