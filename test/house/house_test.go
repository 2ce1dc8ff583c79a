// Package house tests the map that CONTRIBUTING.md draws: which room may know
// which, who alone imports an outside library, and what no room contains. It
// reads every Go file of the repository, those for other systems included.
package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const module = "github.com/apiauth/apiauth"

// file is one Go file, parsed.
type file struct {
	path    string // relative to the repository, with slashes
	room    string // the package's path below the module: internal/oauth
	test    bool
	syntax  *ast.File
	imports []string
}

// repository parses all Go files below the repository's top.
func repository(t *testing.T) (files []file, set *token.FileSet) {
	t.Helper()
	set = token.NewFileSet()
	root := top()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // a scratch file of somebody else that is gone
			}
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "node_modules", "testdata", "artifacts", "dist":
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := parse(set, filepath.ToSlash(rel), data)
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found %d Go files below %s: that is not the repository", len(files), root)
	}
	return files, set
}

func parse(set *token.FileSet, rel string, data []byte) (file, error) {
	syntax, err := parser.ParseFile(set, rel, data, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, err
	}
	f := file{path: rel, room: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), syntax: syntax}
	for _, spec := range syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, p)
	}
	return f, nil
}

// top is the repository's folder, seen from here.
func top() string { return filepath.Join("..", "..") }

// rooms is the map: what each package of the product may import of ours. A
// package that is not listed here is a room without a place in the house.
func rooms() map[string][]string {
	everything := []string{
		"apicall",
		"audit",
		"bundle",
		"config",
		"connection",
		"dashboard",
		"flow",
		"inject",
		"isolate",
		"keyring",
		"leak",
		"loopback",
		"netlify",
		"oauth",
		"project",
		"prompt",
		"providers",
		"proxy",
		"sandbox",
		"secret",
		"store",
		"strictyaml",
	}
	return map[string][]string{
		"cmd/apiauth":             {"audit", "cli", "inject"},
		"internal/apicall":        {"oauth", "providers", "secret"},
		"internal/audit":          nil,
		"internal/bundle":         {"connection", "secret"},
		"internal/cli":            everything,
		"internal/config":         {"secret", "strictyaml"},
		"internal/connection":     {"oauth", "providers", "secret"},
		"internal/dashboard":      {"loopback", "secret"},
		"internal/flow":           {"loopback", "oauth", "prompt", "providers", "secret"},
		"internal/inject":         {"leak", "secret"},
		"internal/isolate":        nil,
		"internal/keyring":        {"secret"},
		"internal/leak":           {"secret"},
		"internal/loopback":       nil,
		"internal/netlify":        {"secret"},
		"internal/oauth":          {"secret"},
		"internal/project":        {"strictyaml"},
		"internal/prompt":         {"secret"},
		"internal/providers":      {"providers/pack", "strictyaml"},
		"internal/providers/pack": nil,
		"internal/proxy":          {"loopback", "providers", "secret"},
		"internal/sandbox":        {"loopback", "secret"},
		"internal/secret":         nil,
		"internal/store":          {"audit", "connection", "keyring", "oauth", "providers", "secret"},
		"internal/strictyaml":     nil,
	}
}

// forTests reports whether a package is there for tests and the people who work
// here, and never shipped.
func forTests(room string) bool {
	return strings.HasPrefix(room, "test/") || room == "bench" || strings.HasPrefix(room, "bench/") || strings.HasPrefix(room, "scripts/") ||
		strings.HasPrefix(room, "internal/keyring/keyringtest") || strings.HasPrefix(room, "internal/sandbox/fakes") ||
		strings.HasPrefix(room, "internal/cli/gen") || strings.HasPrefix(room, "internal/gen") || strings.HasPrefix(room, "internal/deps")
}

func TestEveryImportOfOursIsOnTheMap(t *testing.T) {
	files, _ := repository(t)
	report(t, arrows(files))
	for room := range rooms() {
		if !slices.ContainsFunc(files, func(f file) bool { return f.room == room }) {
			t.Errorf("the map names %s, and there is no such package", room)
		}
	}
}

func report(t *testing.T, faults []string) {
	t.Helper()
	for _, fault := range faults {
		t.Error(fault)
	}
}

func arrows(files []file) (faults []string) {
	allowed := rooms()
	for _, f := range files {
		if f.test || forTests(f.room) {
			continue
		}
		may, known := allowed[f.room]
		if !known {
			faults = append(faults, fmt.Sprintf("%s: the package %s has no place on the map of the house", f.path, f.room))
			continue
		}
		for _, p := range f.imports {
			ours, ok := strings.CutPrefix(p, module+"/internal/")
			if ok && !slices.Contains(may, ours) {
				faults = append(faults, fmt.Sprintf("%s imports %s; %s may know of ours: %v", f.path, ours, f.room, may))
			}
		}
	}
	return faults
}

// TestNothingIsReachedByADetour follows imports all the way: an arrow that is
// forbidden stays so through another room.
func TestNothingIsReachedByADetour(t *testing.T) {
	files, _ := repository(t)
	direct := map[string]map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		if direct[f.room] == nil {
			direct[f.room] = map[string]bool{}
		}
		for _, p := range f.imports {
			if ours, ok := strings.CutPrefix(p, module+"/"); ok {
				direct[f.room][ours] = true
			}
		}
	}
	var reach func(room string, seen map[string]bool)
	reach = func(room string, seen map[string]bool) {
		for next := range direct[room] {
			if !seen[next] {
				seen[next] = true
				reach(next, seen)
			}
		}
	}
	never := map[string][]string{
		"internal/oauth":      {"internal/store", "internal/connection", "internal/providers", "internal/cli", "internal/config", "internal/keyring"},
		"internal/connection": {"internal/flow", "internal/store", "internal/keyring", "internal/cli", "internal/config"},
		"internal/inject":     {"internal/connection", "internal/store", "internal/oauth", "internal/cli"},
		"internal/apicall":    {"internal/connection", "internal/store", "internal/flow", "internal/cli"},
		"internal/flow":       {"internal/connection", "internal/store", "internal/cli", "internal/config"},
		"internal/sandbox":    {"internal/oauth", "internal/flow", "internal/connection", "internal/store", "internal/cli"},
		"internal/project":    {"internal/providers", "internal/cli"},
		"internal/providers":  {"internal/project", "internal/oauth", "internal/cli"},
	}
	for _, room := range slices.Sorted(maps.Keys(never)) {
		seen := map[string]bool{}
		reach(room, seen)
		for _, wrong := range never[room] {
			if seen[wrong] {
				t.Errorf("%s comes to know %s, directly or through another room", room, wrong)
			}
		}
	}
	shipped := map[string]bool{}
	reach("cmd/apiauth", shipped)
	for room := range shipped {
		if forTests(room) {
			t.Errorf("the program contains %s, which is for tests", room)
		}
	}
}

// TestOutsideLibrariesHaveOneRoom: each library can be replaced in one place.
func TestOutsideLibrariesHaveOneRoom(t *testing.T) {
	files, _ := repository(t)
	report(t, libraries(files))
}

func libraries(files []file) (faults []string) {
	only := map[string][]string{
		"github.com/spf13/cobra":        {"internal/cli"},
		"github.com/spf13/pflag":        {"internal/cli"},
		"github.com/spf13/viper":        {"internal/config"},
		"golang.org/x/oauth2":           {"internal/oauth"},
		"github.com/zalando/go-keyring": {"internal/keyring"},
		"github.com/godbus/dbus":        {"internal/keyring"},
		"github.com/pkg/browser":        {"cmd/apiauth"},
		"github.com/gofrs/flock":        {"internal/store"},
		"github.com/creack/pty":         {"internal/inject"},
		"rsc.io/qr":                     {"internal/prompt"},
		"golang.org/x/term":             {"internal/inject", "internal/prompt", "cmd/apiauth"},
		"go.yaml.in/yaml":               {"internal/strictyaml", "internal/project", "internal/providers"},
		"golang.org/x/crypto":           {"internal/store"},
		"github.com/theory/jsonpath":    {"internal/apicall"},
	}
	for _, f := range files {
		if f.test || forTests(f.room) {
			continue
		}
		for _, p := range f.imports {
			for lib, where := range only {
				if (p == lib || strings.HasPrefix(p, lib+"/")) && !slices.Contains(where, f.room) {
					faults = append(faults, fmt.Sprintf("%s imports %s, which belongs to %v", f.path, p, where))
				}
			}
			if p == "testing" || strings.HasPrefix(p, "testing/") || p == "github.com/spf13/cobra/doc" || p == "net/http/pprof" {
				faults = append(faults, fmt.Sprintf("%s imports %s, which must not be shipped", f.path, p))
			}
		}
	}
	return faults
}

// TestNothingRunsOrChangesOutsideFunctions: no init, and no package variable
// that could change. What may stand there: errors made by errors.New or
// fmt.Errorf, embedded files, an assertion that a type fits an interface, and
// the three strings that the linker sets in main.
func TestNothingRunsOrChangesOutsideFunctions(t *testing.T) {
	files, set := repository(t)
	report(t, globals(files, set))
}

func globals(files []file, set *token.FileSet) (faults []string) {
	for _, f := range files {
		if f.test {
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					faults = append(faults, fmt.Sprintf("%s: an init function", set.Position(d.Pos())))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec)
					if !harmless(f, d, v) {
						faults = append(faults, fmt.Sprintf("%s: the package variable %s", set.Position(v.Pos()), v.Names[0].Name))
					}
				}
			}
		}
	}
	return faults
}

// harmless reports whether a package variable is one of those that never change.
func harmless(f file, d *ast.GenDecl, v *ast.ValueSpec) bool {
	if f.room == "cmd/apiauth" {
		switch v.Names[0].Name {
		case "version", "commit", "date":
			return true
		}
	}
	if len(v.Names) == 1 && v.Names[0].Name == "_" {
		return true
	}
	files, ok := v.Type.(*ast.SelectorExpr)
	text, isText := v.Type.(*ast.Ident)
	if (ok && files.Sel.Name == "FS" || isText && text.Name == "string") && len(v.Values) == 0 {
		for _, doc := range []*ast.CommentGroup{d.Doc, v.Doc} {
			if doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") }) {
				return true
			}
		}
	}
	if len(v.Values) != len(v.Names) {
		return false
	}
	for i, value := range v.Values {
		if !strings.HasPrefix(strings.ToLower(v.Names[i].Name), "err") {
			return false
		}
		declared, _ := v.Type.(*ast.Ident)
		if empty, ok := value.(*ast.CompositeLit); ok && len(empty.Elts) == 0 && declared != nil && declared.Name == "error" {
			continue
		}
		call, ok := value.(*ast.CallExpr)
		if !ok {
			return false
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := fn.X.(*ast.Ident)
		if !ok || !(pkg.Name == "errors" && fn.Sel.Name == "New" || pkg.Name == "fmt" && fn.Sel.Name == "Errorf") {
			return false
		}
	}
	return true
}

// TestNamesUseTheWordsOfTheHouse: words that mean two things, or nothing, name
// neither a package nor an exported type.
func TestNamesUseTheWordsOfTheHouse(t *testing.T) {
	files, set := repository(t)
	report(t, names(files, set))
}

func names(files []file, set *token.FileSet) (faults []string) {
	vague := []string{
		"service", "integration", "profile", "session", "credential", "credentials", "cache", "manager",
		"util", "utils", "common", "types", "helper", "helpers", "misc", "base",
	}
	for _, f := range files {
		if name := strings.TrimSuffix(f.syntax.Name.Name, "_test"); slices.Contains(vague, name) {
			faults = append(faults, fmt.Sprintf("%s: a package named %s", f.path, name))
		}
		if f.test {
			continue
		}
		for _, decl := range f.syntax.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.TYPE {
				continue
			}
			for _, spec := range d.Specs {
				name := spec.(*ast.TypeSpec).Name
				if !name.IsExported() {
					continue
				}
				for _, word := range words(name.Name) {
					if slices.Contains(vague, word) {
						faults = append(faults, fmt.Sprintf("%s: the type %s: say what it is instead of %q", set.Position(name.Pos()), name.Name, word))
					}
				}
			}
		}
	}
	return faults
}

// TestTheRulesCatchWhatTheyForbid breaks each rule once.
func TestTheRulesCatchWhatTheyForbid(t *testing.T) {
	for _, c := range []struct{ name, path, source, want string }{
		{"arrow", "internal/oauth/a.go", `package oauth; import _ "` + module + `/internal/store"`, "imports store"},
		{"sibling", "internal/project/a.go", `package project; import _ "` + module + `/internal/providers"`, "imports providers"},
		{"unknown room", "internal/extra/a.go", `package extra`, "no place"},
		{"library", "internal/flow/a.go", `package flow; import _ "github.com/spf13/cobra"`, "belongs to"},
		{"below a library", "internal/flow/a.go", `package flow; import _ "golang.org/x/oauth2/google"`, "belongs to"},
		{"shipped test", "internal/flow/a.go", `package flow; import _ "testing"`, "must not be shipped"},
		{"init", "internal/flow/a.go", `package flow; func init() {}`, "init function"},
		{"variable", "internal/flow/a.go", `package flow; var table = map[string]int{}`, "variable table"},
		{"lazy variable", "internal/flow/a.go", `package flow; var once sync.Once`, "variable once"},
		{"error by another way", "internal/flow/a.go", `package flow; var errX = makeError()`, "variable errX"},
		{"error with fields", "internal/flow/a.go", `package flow; var errX error = xError{1}`, "variable errX"},
		{"version elsewhere", "internal/cli/a.go", `package cli; var version = "1"`, "variable version"},
		{"package name", "internal/flow/a.go", `package utils`, "named utils"},
		{"type name", "internal/flow/a.go", `package flow; type TokenManager struct{}`, "TokenManager"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := token.NewFileSet()
			f, err := parse(set, c.path, []byte(c.source))
			if err != nil {
				t.Fatal(err)
			}
			files := []file{f}
			faults := slices.Concat(arrows(files), libraries(files), globals(files, set), names(files, set))
			if !strings.Contains(strings.Join(faults, "\n"), c.want) {
				t.Errorf("nothing said %q: %q", c.want, faults)
			}
		})
	}
	set := token.NewFileSet()
	good := `package flow
		import ("errors"; _ "` + module + `/internal/oauth")
		var ErrX = errors.New("x")
		var ErrY error = XError{}
		var _ interface{ Error() string } = (*XError)(nil)
		type XError struct{}`
	f, err := parse(set, "internal/flow/a.go", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	files := []file{f}
	report(t, slices.Concat(arrows(files), libraries(files), globals(files, set), names(files, set)))
}

// words splits a Go name at its capitals, in lower case.
func words(name string) (list []string) {
	start := 0
	runes := []rune(name)
	for i := 1; i <= len(runes); i++ {
		if i == len(runes) || unicode.IsUpper(runes[i]) && !unicode.IsUpper(runes[i-1]) {
			list = append(list, strings.ToLower(string(runes[start:i])))
			start = i
		}
	}
	return list
}

// TestTheContributorsMapNamesEveryRoom holds CONTRIBUTING.md against the folders.
func TestTheContributorsMapNamesEveryRoom(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(top(), "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	for room := range rooms() {
		name, ok := strings.CutPrefix(room, "internal/")
		if ok && !strings.Contains(string(text), "\n  "+name+"/ ") {
			t.Errorf("CONTRIBUTING.md does not name internal/%s on its map", name)
		}
	}
}
