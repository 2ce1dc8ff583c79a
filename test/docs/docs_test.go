// Package docs holds the documents against the code: what they name is there, and
// what is there and meant for people is named.
package docs

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/cli"
	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
)

func top() string { return filepath.Join("..", "..") }

// read returns a file of the repository.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top(), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// documents lists all Markdown files of ours.
func documents(t *testing.T) (list []string) {
	t.Helper()
	err := filepath.WalkDir(top(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{".git", "node_modules", "testdata", "artifacts", "dist"}, d.Name()) {
			return filepath.SkipDir
		}
		if filepath.Ext(path) == ".md" {
			rel, err := filepath.Rel(top(), path)
			if err != nil {
				return err
			}
			list = append(list, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, doc), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(top(), filepath.Dir(filepath.FromSlash(doc)), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", doc, m[1], err)
			}
		}
	}
}

// tests returns the names of all tests as room.Name.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	set := token.NewFileSet()
	for _, above := range []string{"internal", "test"} {
		err := filepath.WalkDir(filepath.Join(top(), above), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains([]string{"node_modules", "testdata", "artifacts"}, d.Name()) {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			room := filepath.Base(filepath.Dir(path))
			for _, decl := range f.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
					found[room+"."+fn.Name.Name] = true
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestRequirementsNameTests walks the table of docs/security.md.
func TestRequirementsNameTests(t *testing.T) {
	exists := tests(t)
	row := regexp.MustCompile(`(?m)^\| (R-\d+) \| (.*) \| (.*) \|$`)
	name := regexp.MustCompile("`([a-z0-9]+\\.(?:Test|Fuzz)\\w+)`")
	path := regexp.MustCompile("`(\\.[a-z]+/[a-z]+)`")
	seen := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/security.md"), -1) {
		id, shown := m[1], m[3]
		if seen[id] {
			t.Errorf("docs/security.md has two rows %s", id)
		}
		seen[id] = true
		named := name.FindAllStringSubmatch(shown, -1)
		for _, n := range named {
			if !exists[n[1]] {
				t.Errorf("%s names %s, and there is no such test", id, n[1])
			}
		}
		for _, p := range path.FindAllStringSubmatch(shown, -1) {
			if _, err := os.Stat(filepath.Join(top(), filepath.FromSlash(p[1]))); err != nil {
				t.Errorf("%s names %s: %v", id, p[1], err)
			}
			named = append(named, p)
		}
		if len(named) == 0 && !strings.HasPrefix(shown, "*later*: ") {
			t.Errorf("%s is neither shown by a test nor left for later: %q", id, shown)
		}
	}
	var missing []string
	for _, span := range [][2]int{{1, 18}, {20, 32}, {40, 50}, {60, 78}, {80, 92}, {100, 105}, {110, 116}} {
		for n := span[0]; n <= span[1]; n++ {
			if id := fmt.Sprintf("R-%02d", n); !seen[id] {
				missing = append(missing, id)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("docs/security.md has no row for %v", missing)
	}
}

// TestAnswersNameTests walks the table of docs/requirements.md: 49 rows in order,
// whose tests are there.
func TestAnswersNameTests(t *testing.T) {
	exists := tests(t)
	text := read(t, "docs/requirements.md")
	row := regexp.MustCompile(`(?m)^\| D(\d+) \| [^|]+ \| [^|]+ \|$`)
	rows := row.FindAllStringSubmatch(text, -1)
	for i, m := range rows {
		if m[1] != fmt.Sprint(i+1) {
			t.Fatalf("row %d is D%s", i+1, m[1])
		}
	}
	if len(rows) != 49 {
		t.Errorf("there are %d rows", len(rows))
	}
	for _, m := range regexp.MustCompile("`([a-z0-9]+\\.(?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(text, -1) {
		if !exists[m[1]] {
			t.Errorf("there is no test %s", m[1])
		}
	}
}

// TestWhatIsNotProtectedIsSaid is R-44: the limits of the store stand where
// people look.
func TestWhatIsNotProtectedIsSaid(t *testing.T) {
	text := flat(read(t, "docs/security.md"))
	for _, words := range []string{
		"Programs that run as you", "Any process of the same user can ask the keychain",
		"`security find-generic-password -w` prints them without asking", "hands a secret over D-Bus in clear",
		"Go does not promise to wipe a string", "the account's label",
	} {
		if !strings.Contains(text, words) {
			t.Errorf("docs/security.md does not say: %s", words)
		}
	}
	if text := flat(read(t, "README.md")); !strings.Contains(text, "any program that runs as you can ask the keychain") {
		t.Error("README.md does not say what is not protected")
	}
	if text := flat(help(t, "status")); !strings.Contains(text, "not protected from other programs of the same user") {
		t.Error("the help of status does not say what is not protected")
	}
}

func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

func app(stdout io.Writer) *cli.App {
	return &cli.App{
		Stdin: strings.NewReader(""), Stdout: stdout, Stderr: io.Discard,
		Env: func(string) (string, bool) { return "", false }, GOOS: "linux", Home: "/home/alice", Dir: "/home/alice",
	}
}

// help returns what a command prints with --help.
func help(t *testing.T, command ...string) string {
	t.Helper()
	var b strings.Builder
	if status := cli.Main(t.Context(), app(&b), append(slices.Clone(command), "--help")); status != 0 {
		return ""
	}
	return b.String()
}

// TestCommandsInDocumentsExist looks at every piece of code that begins with
// apiauth: its command must be there, and so must its flags.
func TestCommandsInDocumentsExist(t *testing.T) {
	span := regexp.MustCompile("(?s)`(apiauth [^`]+)`")
	line := regexp.MustCompile(`(?m)(?:^|\| |\$ |&& )(apiauth [a-z].*)$`)
	for _, doc := range documents(t) {
		text := read(t, doc)
		for _, found := range [][][]string{span.FindAllStringSubmatch(text, -1), line.FindAllStringSubmatch(fenced(text), -1)} {
			for _, m := range found {
				if err := checkCommand(t, flat(m[1])); err != nil {
					t.Errorf("%s: %s: %v", doc, flat(m[1]), err)
				}
			}
		}
	}
}

// fenced returns the shell blocks of a document.
func fenced(text string) string {
	var b strings.Builder
	for _, m := range regexp.MustCompile("(?ms)^```(?:sh|console)\n(.*?)^```").FindAllStringSubmatch(text, -1) {
		b.WriteString(m[1])
	}
	return b.String()
}

func checkCommand(t *testing.T, line string) error {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	words := strings.Fields(line)[1:]
	if i := slices.Index(words, "--"); i >= 0 {
		words = words[:i]
	}
	word := regexp.MustCompile(`^[a-z][a-z|-]*$`)
	if len(words) == 0 || !word.MatchString(words[0]) {
		return nil
	}
	// provider list|show stands for both.
	for i := range min(2, len(words)) {
		if !word.MatchString(words[i]) || !strings.Contains(words[i], "|") {
			continue
		}
		for one := range strings.SplitSeq(words[i], "|") {
			if err := checkCommand(t, strings.Join(slices.Concat([]string{"apiauth"}, words[:i], []string{one}, words[i+1:]), " ")); err != nil {
				return err
			}
		}
		return nil
	}
	if words[0] == "help" {
		words = words[1:]
	}
	for n := min(2, len(words)); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if slices.ContainsFunc(words[:n], func(w string) bool { return !word.MatchString(w) }) {
			continue
		}
		text := help(t, words[:n]...)
		if !regexp.MustCompile(`(?m)^  apiauth ` + regexp.QuoteMeta(name) + `(\s|$)`).MatchString(text) {
			if n == 1 && !slices.Contains([]string{"environment", "exit-codes"}, name) {
				return errors.New("there is no such command")
			}
			continue
		}
		if n < len(words) && strings.Contains(text, "Available Commands:") && word.MatchString(words[n]) {
			return fmt.Errorf("%s has no command %s", name, words[n])
		}
		for _, w := range words[n:] {
			flag, ok := strings.CutPrefix(w, "--")
			flag, _, _ = strings.Cut(flag, "=")
			if ok && !strings.Contains(text, "--"+flag+" ") {
				return fmt.Errorf("%s has no flag --%s", name, flag)
			}
		}
		return nil
	}
	return nil
}

// keys collects the names of the tags in a struct and all below it.
func keys(into map[string]bool, typ reflect.Type) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		if name != "" {
			into[name] = true
			keys(into, f.Type)
		}
	}
}

// inTables reports whether a document's tables name a key, alone or behind
// others and a dot.
func inTables(text, key string) bool {
	return regexp.MustCompile("(?m)^\\|.*`(?:[A-Za-z_\\[\\]]+\\.)*" + regexp.QuoteMeta(key) + "`").MatchString(text)
}

func TestEveryKeyOfADefinitionIsExplained(t *testing.T) {
	found := map[string]bool{}
	keys(found, reflect.TypeFor[providers.Provider]())
	text := read(t, "docs/providers.md")
	for key := range found {
		if !inTables(text, key) {
			t.Errorf("docs/providers.md does not explain %s", key)
		}
	}
}

func TestEveryKeyOfTheManifestIsExplained(t *testing.T) {
	found := map[string]bool{}
	keys(found, reflect.TypeFor[project.Manifest]())
	text := read(t, "docs/manifest.md")
	for key := range found {
		if !inTables(text, key) {
			t.Errorf("docs/manifest.md does not explain %s", key)
		}
	}
}

// example returns the YAML block below a comment.
func example(t *testing.T, doc, name string) []byte {
	t.Helper()
	m := regexp.MustCompile("(?s)<!-- example: " + name + " -->\n```yaml\n(.*?)```").FindStringSubmatch(read(t, doc))
	if m == nil {
		t.Fatalf("%s has no example %s", doc, name)
	}
	return []byte(m[1])
}

func TestExamplesAreValid(t *testing.T) {
	if _, err := providers.Parse("docs/providers.md", example(t, "docs/providers.md", "definition"), providers.User); err != nil {
		t.Error(err)
	}
	if _, err := project.ParseManifest("docs/manifest.md", example(t, "docs/manifest.md", "manifest"), providers.CheckEnvName); err != nil {
		t.Error(err)
	}
}

func TestEveryVariableIsExplained(t *testing.T) {
	text := read(t, "docs/scripting.md")
	for _, s := range config.Environment() {
		for _, name := range strings.Split(s.Name, ", ") {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("docs/scripting.md does not explain %s", name)
			}
		}
	}
	for _, f := range inject.Formats() {
		if !strings.Contains(text, "| `"+f+"` |") {
			t.Errorf("docs/scripting.md does not explain the format %s", f)
		}
	}
}

// TestEveryMemberOfTheJSONIsExplained finds the tags of what the commands print.
func TestEveryMemberOfTheJSONIsExplained(t *testing.T) {
	// Read or written by the program itself, and not printed.
	private := []string{"issuer.go", "sandbox_demo.go", "sandbox.go"}
	text := read(t, "docs/scripting.md")
	files, err := filepath.Glob(filepath.Join(top(), "internal", "cli", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	tag := regexp.MustCompile("`json:\"([a-z_]+)")
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || slices.Contains(private, filepath.Base(file)) {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tag.FindAllStringSubmatch(string(source), -1) {
			found++
			if !strings.Contains(text, "`"+m[1]+"`") {
				t.Errorf("docs/scripting.md does not explain %q of %s", m[1], filepath.Base(file))
			}
		}
	}
	if found < 50 {
		t.Errorf("found %d members of JSON in internal/cli: that cannot be all", found)
	}
}

// TestExitCodesAgree compares the documents' tables with what help says.
func TestExitCodesAgree(t *testing.T) {
	code := regexp.MustCompile(`(?m)^\| (\d|128\+n) \|`)
	var codes strings.Builder
	if status := cli.Main(t.Context(), app(&codes), []string{"help", "exit-codes"}); status != 0 {
		t.Fatalf("help exit-codes ends with %d", status)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^  (\d|128\+n) +\S`).FindAllStringSubmatch(codes.String(), -1) {
		want = append(want, m[1])
	}
	for _, doc := range []string{"README.md", "docs/scripting.md"} {
		var got []string
		for _, m := range code.FindAllStringSubmatch(read(t, doc), -1) {
			got = append(got, m[1])
		}
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s lists the codes %v; apiauth help exit-codes %v", doc, got, want)
		}
	}
}

// TestChangelogEntries holds the entries to their form.
func TestChangelogEntries(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(top(), "changelog", "unreleased", "*"))
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^(Feature|Change|Fix|Security): [^\n]{10,100}\n\n(?s:.{20,})\n$`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(file) != ".md" || !form.Match(text) {
			t.Errorf("%s is not of the form that changelog/README.md asks for", filepath.Base(file))
		}
	}
}

// TestNoFlagTakesASecret is of R-48: what stands on a command line can be read by
// everybody on the machine, and ends up in the shell's history.
func TestNoFlagTakesASecret(t *testing.T) {
	root := cli.NewRoot(app(io.Discard))
	flag := regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)(?: (\S+))?  `)
	seen := 0
	for commands := root.Commands(); len(commands) > 0; commands = commands[1:] {
		cmd := commands[0]
		commands = append(commands, cmd.Commands()...)
		// --client-key is the path of a file; a key in its place is no file and not read.
		for _, m := range flag.FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			seen++
			if regexp.MustCompile(`secret|token|passphrase|password|(^|-)key($|-)|stdin`).MatchString(m[1]) && m[2] != "" && m[1] != "token-ttl" && m[1] != "client-key" && !strings.HasSuffix(m[1], "-file") {
				t.Errorf("%s --%s takes a value: a secret comes from a prompt, stdin or a file", cmd.CommandPath(), m[1])
			}
		}
	}
	if seen < 30 {
		t.Errorf("looked at %d flags: that cannot be all", seen)
	}
}
