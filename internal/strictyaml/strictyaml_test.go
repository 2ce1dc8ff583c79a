package strictyaml_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

type inner struct {
	Name string `yaml:"name"`
	On   bool   `yaml:"on"`
}

type keyed struct {
	Key   string              `yaml:",key"`
	At    strictyaml.Position `yaml:",position"`
	Title string              `yaml:"title"`
}

type outer struct {
	Text    string            `yaml:"text"`
	Flag    bool              `yaml:"flag"`
	Maybe   *bool             `yaml:"maybe"`
	Count   int               `yaml:"count"`
	Small   int8              `yaml:"small"`
	Life    time.Duration     `yaml:"life"`
	List    []string          `yaml:"list"`
	Structs []inner           `yaml:"structs"`
	Map     map[string]string `yaml:"map"`
	Nested  inner             `yaml:"nested"`
	Keyed   []keyed           `yaml:"keyed"`
	Byname  map[string]inner  `yaml:"by_name"`
	Ignored string
	Dash    string `yaml:"-"`
}

func TestDecode(t *testing.T) {
	const text = `# a comment
text: hello: no
`
	if err := strictyaml.Decode("f", []byte(text), new(outer)); err == nil {
		t.Error("a colon in a plain text was accepted")
	}
	var got outer
	err := strictyaml.Decode("f", []byte(`
text: 2026-11-21
flag: true
maybe: false
count: 42
small: -128
life: 1h30m
list: [a, "true", 1.0, yes, 0x10, ~x]
structs:
  - name: one
    on: true
  - {name: two}
map: {a: b, 1: "2"}
nested: {name: "null"}
keyed:
  zebra: {title: Z}
  ant:
  bee: {title: B}
by_name:
  x: {name: y}
`), &got)
	if err != nil {
		t.Fatal(err)
	}
	no := false
	want := outer{
		Text: "2026-11-21", Flag: true, Maybe: &no, Count: 42, Small: -128, Life: 90 * time.Minute,
		List:    []string{"a", "true", "1.0", "yes", "0x10", "~x"},
		Structs: []inner{{"one", true}, {"two", false}},
		Map:     map[string]string{"a": "b", "1": "2"},
		Nested:  inner{Name: "null"},
		Keyed: []keyed{
			{"zebra", strictyaml.Position{Line: 16, Column: 3}, "Z"},
			{"ant", strictyaml.Position{Line: 17, Column: 3}, ""},
			{"bee", strictyaml.Position{Line: 18, Column: 3}, "B"},
		},
		Byname: map[string]inner{"x": {Name: "y"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeBlocksAndNull(t *testing.T) {
	var got outer
	err := strictyaml.Decode("f", []byte("text: >\n  folded\n  text\n\nlist:\nmap: ~\nnested: null\nstructs: []\n"), &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.Text != "folded text" || got.List != nil || got.Map != nil || got.Nested != (inner{}) {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeErrors(t *testing.T) {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	tests := []struct{ name, text, want string }{
		{"unknown key", "text: a\ntxet: b\n", `f:2:1: unknown key "txet"; did you mean "text"?`},
		{"unknown key, nothing near", "quux: b\n", `f:1:1: unknown key "quux"`},
		{"unknown nested key", "nested:\n  nmae: x\n", `f:2:3: unknown key "nmae"; did you mean "name"?`},
		{"untagged field", "Ignored: b\n", `f:1:1: unknown key "Ignored"`},
		{"dash field", "\"-\": b\n", `f:1:1: unknown key "-"`},
		{"control in key", "\"a\\e[31m\": b\n", `f:1:1: control character U+001B is not allowed`},
		{"duplicate key", "text: a\ntext: b\n", `f:2:1: duplicate key "text"`},
		{"duplicate map key", "map:\n  a: b\n  \"a\": c\n", `f:3:3: duplicate key "a"`},
		{"list for text", "text: [a]\n", `f:1:7: text must be a text, not a list`},
		{"mapping for text", "text: {a: b}\n", `f:1:7: text must be a text, not a mapping`},
		{"bool for text", "text: true\n", `f:1:7: text is a text: write "true" in quotes`},
		{"null for text", "text:\n", `f:1:6: text has no value; it must be a text`},
		{"tilde for text", "text: ~\n", `f:1:7: text is a text: write "~" in quotes`},
		{"text for bool", "flag: yes\n", `f:1:7: flag must be true or false, not "yes"`},
		{"quoted bool", "flag: \"true\"\n", `f:1:7: flag must be true or false, not "true"`},
		{"null for bool", "flag: ~\n", `f:1:7: flag has no value; it must be true or false`},
		{"null for pointer", "maybe: ~\n", `f:1:8: maybe has no value`},
		{"text for int", "count: many\n", `f:1:8: count must be a whole number, not "many"`},
		{"float for int", "count: 1.5\n", `f:1:8: count must be a whole number, not "1.5"`},
		{"hex for int", "count: 0x10\n", `f:1:8: count must be a whole number, not "0x10"`},
		{"int too large", "small: 128\n", `f:1:8: small must be a whole number, not "128"`},
		{"duration without unit", "life: 90\n", `f:1:7: life must be a duration such as 90s or 4380h, not "90"`},
		{"text for list", "list: a\n", `f:1:7: list must be a list, not "a"`},
		{"null in list", "list: [a, ~]\n", `f:1:11: an entry of list has no value`},
		{"bool in list", "list: [true]\n", `f:1:8: an entry of list is a text: write "true" in quotes`},
		{"text for struct", "nested: a\n", `f:1:9: nested must be a mapping (key: value), not "a"`},
		{"list for keyed", "keyed: []\n", `f:1:8: keyed must be a mapping (key: value), not a list`},
		{"list for map", "map: [a]\n", `f:1:6: map must be a mapping (key: value), not a list`},
		{"bool as map key", "map: {true: a}\n", `f:1:7: a key of map is a text: write "true" in quotes`},
		{"list as key", "map: {[a]: b}\n", `f:1:7: a key must be a plain word`},
		{"anchor", "text: &a b\n", `f:1:7: anchors (&) are not allowed`},
		{"alias", "text: *a\n", `f:1:1: not valid YAML: unknown anchor 'a' referenced`},
		{"anchor first", "text: &a b\nlist: [*a]\n", `f:1:7: anchors (&) are not allowed`},
		{"merge key", "nested:\n  <<: {name: a}\n", `f:2:3: merge keys (<<) are not allowed`},
		{"tag", "text: !!str a\n", `f:1:7: tags (!) are not allowed`},
		{"own tag", "text: !exec a\n", `f:1:7: tags (!) are not allowed`},
		{"binary tag", "text: !!binary aGk=\n", `f:1:7: tags (!) are not allowed`},
		{"second document", "text: a\n---\ntext: b\n", `f:2:1: a second document starts here; one file holds one document`},
		{"empty", "", `f:1:1: the file is empty`},
		{"comment only", "# nothing\n\n", `f:1:1: the file is empty`},
		{"empty document", "---\n", `f:1:1: the file is empty`},
		{"null document", "~\n", `f:1:1: the file is empty`},
		{"scalar document", "hello\n", `f:1:1: the file must be a mapping (key: value), not "hello"`},
		{"list document", "- a\n", `f:1:1: the file must be a mapping (key: value), not a list`},
		{"escape character", "text: \"a\\x1b[31m\"\n", `f:1:7: control character U+001B is not allowed`},
		{"raw escape character", "text: a\x1b[31m\n", `f:1:8: control character U+001B is not allowed`},
		{"NUL", "text: a\x00b\n", `f:1:8: control character U+0000 is not allowed`},
		{"escaped NUL", "text: \"a\\0b\"\n", `f:1:7: control character U+0000 is not allowed`},
		{"C1", "text: \"a\\x9b\"\n", `f:1:7: control character U+009B is not allowed`},
		{"bidi", "flag: true\ntext: \"a\u202eb\"\n", `f:2:7: bidirectional control character U+202E is not allowed`},
		{"newline", "text: \"a\\nb\"\n", `f:1:7: a value must be one line`},
		{"block of two lines", "text: |\n  a\n  b\n", `f:1:7: a value must be one line`},
		{"tab", "text: \"a\\tb\"\n", `f:1:7: control character U+0009 is not allowed`},
		{"UTF-8", "text: a\n# \xff\n", `f:2:3: the file is not valid UTF-8`},
		{"too deep", "list: " + deep, `f:1:38: nested more than 32 levels deep`},
		{"much too deep", "list: " + strings.Repeat("[", 5000), `f:1:263: nested more than 32 levels deep`},
		{"much too deep in block", strings.Repeat("- ", 5000), `f:1:513: nested more than 32 levels deep`},
		{"too large", strings.Repeat("#\n", 200<<10), `f:1:1: the file is larger than 256 KiB`},
		{"syntax", "text: a\n  b: c\n", `f:2:1: not valid YAML: mapping values are not allowed in this context`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := strictyaml.Decode("f", []byte(test.text), new(outer))
			var fault *strictyaml.Error
			if !errors.As(err, &fault) {
				t.Fatalf("got %v, want a *strictyaml.Error", err)
			}
			if fault.Error() != test.want {
				t.Errorf("got  %s\nwant %s", fault, test.want)
			}
		})
	}
}

func TestErrorf(t *testing.T) {
	doc, err := strictyaml.Parse("f", []byte("a: 1\nb:\n  c: [x, y]\n"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path         []any
		line, column int
	}{
		{nil, 1, 1},
		{[]any{"a"}, 1, 1},
		{[]any{"b"}, 2, 1},
		{[]any{"b", "c"}, 3, 3},
		{[]any{"b", "c", 1}, 3, 10},
		{[]any{"b", "c", 7}, 3, 3},
		{[]any{"b", "missing", "deeper"}, 2, 1},
		{[]any{"missing"}, 1, 1},
	}
	for _, test := range tests {
		if e := doc.Errorf(test.path, "no"); e.Line != test.line || e.Column != test.column {
			t.Errorf("%v: got %d:%d, want %d:%d", test.path, e.Line, e.Column, test.line, test.column)
		}
	}
}

func TestSuggest(t *testing.T) {
	among := []string{"spotify", "github", "gitlab", "salesforce", "salesforce-sandbox", "box"}
	tests := []struct{ word, want string }{
		{"spotfy", "spotify"},
		{"SPOTIFY", "spotify"},
		{"gihtub", "github"},
		{"gitlba", "gitlab"},
		{"sales", "salesforce"},
		{"bx", "box"},
		{"box", ""},
		{"zzz", ""},
		{"a", ""},
		{"", ""},
		{strings.Repeat("spotify", 20), ""},
	}
	for _, test := range tests {
		if got := strictyaml.Suggest(test.word, among); got != test.want {
			t.Errorf("Suggest(%q) = %q, want %q", test.word, got, test.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"text: a\nlist: [b]\n", "structs:\n  - name: x\n", "a: &x [*x]\n", "? [a]\n: b\n", "---\n---\n", "%TAG ! tag:x,2000:\n---\n!a b\n",
		"text: |\n  a\n", "keyed: {a: {title: b}}", "life: 1h\n", "\"\\u202e\": 1", "{", "[[[[", "- - - -", "text: !!float 1", "<<: 1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var into outer
		err := strictyaml.Decode("f", data, &into)
		if err == nil {
			if strings.ContainsAny(into.Text, "\x00\x1b\n\r") {
				t.Errorf("a control character came through")
			}
			return
		}
		var fault *strictyaml.Error
		if !errors.As(err, &fault) {
			t.Fatalf("%T is not a *strictyaml.Error", err)
		}
		if fault.Line < 1 || fault.Column < 1 {
			t.Errorf("no place: %v", fault)
		}
		for _, r := range fault.Error() {
			if r < 0x20 || r == 0x7f {
				t.Errorf("the message holds a control character: %q", fault.Error())
			}
		}
	})
}
