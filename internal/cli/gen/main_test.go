package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// top is the repository's folder, seen from here.
const top = "../../.."

// TestGenerated fails when completions/, man/ or a schema is not what is generated.
// UPDATE=1 renews them.
func TestGenerated(t *testing.T) {
	if os.Getenv("UPDATE") != "" {
		if err := run(top); err != nil {
			t.Fatal(err)
		}
	}
	want, err := generate(top)
	if err != nil {
		t.Fatal(err)
	}
	const renew = "renew it with UPDATE=1 go test ./internal/cli/..."
	for name, content := range want {
		got, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("%s is missing: %s", name, renew)
			continue
		}
		if !bytes.Equal(got, content) {
			t.Errorf("%s is stale: %s", name, renew)
		}
	}
	for _, dir := range []string{"completions", "man"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			if _, ok := want[dir+"/"+d.Name()]; !ok {
				t.Errorf("%s belongs to no command: %s", path, renew)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestPages looks at the pages as a reader would.
func TestPages(t *testing.T) {
	files, err := generate(top)
	if err != nil {
		t.Fatal(err)
	}
	again, err := generate(top)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if !bytes.Equal(content, again[name]) {
			t.Errorf("%s differs from one run to the next", name)
		}
		if strings.Contains(string(content), "Auto generated") {
			t.Errorf("%s has the generator's tag, which has a date", name)
		}
	}
	for _, name := range []string{"apiauth.1", "apiauth-connect.1", "apiauth-client-set.1", "apiauth-environment.1", "apiauth-exit-codes.1"} {
		page, ok := files["man/"+name]
		if !ok {
			t.Errorf("there is no page %s", name)
		}
		if !bytes.Contains(page, []byte(`.SH NAME`)) {
			t.Errorf("%s has no NAME section", name)
		}
	}
	if page := files["man/apiauth-environment.1"]; !bytes.Contains(page, []byte("APIAUTH_CLIENT_ID_<ID>")) || bytes.Contains(page, []byte(".SH OPTIONS")) {
		t.Errorf("the page of the variables lacks a name, or has options:\n%s", page)
	}
	if _, ok := files["man/apiauth-login.1"]; ok {
		t.Error("hidden commands must have no page")
	}
}
