// Package strictyaml reads the YAML files that people write for apiauth, and
// accepts less than YAML does: one document, no anchors, aliases, merge keys or
// tags, no unknown or duplicate keys, no guessing between types. Everything it
// refuses is an *Error with file, line and column.
package strictyaml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits of a document.
const (
	MaxBytes = 256 << 10
	MaxDepth = 32
)

// Error is a fault in a file, at a place. Line and Column count from 1.
type Error struct {
	File   string
	Line   int
	Column int
	Msg    string
}

// Error prints the fault as file:line:col: msg.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// Position is a place in a document; both numbers count from 1. A struct field
// of this type with the tag `yaml:",position"` receives the place of the
// struct: of its key when it is the value of one, else of its first token.
type Position struct {
	Line   int
	Column int
}

// Document is a parsed file that satisfies the general rules, not yet decoded.
// It lets a caller say where a value stands that it does not like. It is for one
// goroutine at a time.
type Document struct {
	file   string
	root   *yaml.Node
	shapes map[reflect.Type]shape // of the types decoded into, so far
}

// Decode reads data, which is the content of file, into the struct that into
// points to. Keys are the names in the fields' yaml tags; fields without a tag
// are not filled. Field types may be string, bool, int kinds, time.Duration
// (written as 1h30m), structs, pointers to these, slices and maps with string
// keys of these. A slice of structs that have a field with the tag
// `yaml:",key"` is written as a mapping and keeps its order.
//
// A key whose value is null or missing leaves a struct, slice or map as it is;
// for other types null is an error. Numbers and dates are taken as written
// where a string is wanted; booleans and null must be in quotes there. A string
// is one line: the final line ends of a block scalar are dropped, and control
// and bidirectional formatting characters are refused.
func Decode(file string, data []byte, into any) error {
	doc, err := Parse(file, data)
	if err != nil {
		return err
	}
	return doc.Decode(into)
}

// Parse reads data and checks what holds for every document: the limits, valid
// UTF-8, one document that is not empty, and none of the refused YAML features.
func Parse(file string, data []byte) (*Document, error) {
	fault := func(line, column int, format string, args ...any) error {
		return &Error{File: file, Line: max(line, 1), Column: max(column, 1), Msg: fmt.Sprintf(format, args...)}
	}
	if len(data) > MaxBytes {
		return nil, fault(1, 1, "the file is larger than %d KiB", MaxBytes>>10)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at := badByte(data); at >= 0 {
		line, column := place(data, at)
		if data[at] < utf8.RuneSelf {
			return nil, fault(line, column, "control character U+%04X is not allowed", data[at])
		}
		return nil, fault(line, column, "the file is not valid UTF-8")
	}
	if line, column, deep := tooDeep(data); deep {
		return nil, fault(line, column, "nested more than %d levels deep", MaxDepth)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	if err := decoder.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fault(1, 1, "the file is empty")
		}
		line, msg := syntaxError(err)
		return nil, fault(line, 1, "%s", msg)
	}
	if len(root.Content) != 1 || root.Content[0].Kind == yaml.ScalarNode && root.Content[0].ShortTag() == "!!null" {
		return nil, fault(root.Line, root.Column, "the file is empty")
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fault(second.Line, second.Column, "a second document starts here; one file holds one document")
	case !errors.Is(err, io.EOF):
		line, msg := syntaxError(err)
		return nil, fault(line, 1, "%s", msg)
	}
	doc := &Document{file: file, root: root.Content[0]}
	if err := doc.check(doc.root, 1); err != nil {
		return nil, err
	}
	return doc, nil
}

// Errorf makes an *Error at the place that path leads to from the root of the
// document: string elements are keys, int elements are indexes. A key's own
// place is taken, not its value's. Where path leads further than the document,
// the error stands at the last element that exists.
func (d *Document) Errorf(path []any, format string, args ...any) *Error {
	node, at := d.root, d.root
	for _, element := range path {
		var next, place *yaml.Node
		switch element := element.(type) {
		case string:
			if node.Kind == yaml.MappingNode {
				for i := 0; i+1 < len(node.Content); i += 2 {
					if node.Content[i].Value == element {
						place, next = node.Content[i], node.Content[i+1]
						break
					}
				}
			}
		case int:
			if node.Kind == yaml.SequenceNode && element >= 0 && element < len(node.Content) {
				next = node.Content[element]
				place = next
			}
		}
		if next == nil {
			break
		}
		node, at = next, place
	}
	return d.errorf(at, format, args...)
}

func (d *Document) errorf(at *yaml.Node, format string, args ...any) *Error {
	return &Error{File: d.file, Line: max(at.Line, 1), Column: max(at.Column, 1), Msg: fmt.Sprintf(format, args...)}
}

// check walks the tree for what no document may hold.
func (d *Document) check(n *yaml.Node, depth int) error {
	switch {
	case depth > MaxDepth:
		return d.errorf(n, "nested more than %d levels deep", MaxDepth)
	case n.Kind == yaml.AliasNode:
		return d.errorf(n, "aliases (*) are not allowed")
	case n.Anchor != "":
		return d.errorf(n, "anchors (&) are not allowed")
	case n.Style&yaml.TaggedStyle != 0:
		return d.errorf(n, "tags (!) are not allowed")
	}
	switch n.Kind {
	case yaml.ScalarNode:
		return d.checkScalar(n)
	case yaml.MappingNode:
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Kind != yaml.ScalarNode {
				if key.Kind == yaml.AliasNode {
					return d.errorf(key, "aliases (*) are not allowed")
				}
				return d.errorf(key, "a key must be a plain word")
			}
			if key.ShortTag() == "!!merge" {
				return d.errorf(key, "merge keys (<<) are not allowed")
			}
			if err := d.check(key, depth); err != nil {
				return err
			}
			if seen[key.Value] {
				return d.errorf(key, "duplicate key %s", quote(key.Value))
			}
			seen[key.Value] = true
			if err := d.check(value, depth+1); err != nil {
				return err
			}
		}
	default:
		for _, child := range n.Content {
			if err := d.check(child, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Document) checkScalar(n *yaml.Node) error {
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		n.Value = strings.TrimRight(n.Value, "\n")
	}
	for _, r := range n.Value {
		switch {
		case r == '\n':
			return d.errorf(n, "a value must be one line")
		case r < 0x20, r >= 0x7f && r <= 0x9f, r == 0x2028, r == 0x2029, r == 0xfeff:
			return d.errorf(n, "control character U+%04X is not allowed", r)
		case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return d.errorf(n, "bidirectional control character U+%04X is not allowed", r)
		}
	}
	return nil
}

// badByte returns the offset of the first byte that is a control character
// (other than tab and line ends) or not UTF-8, or -1.
func badByte(data []byte) int {
	for i := 0; i < len(data); {
		c := data[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
				return i
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// tooDeep finds nesting that would make the YAML parser itself work hard, before
// it runs: more than MaxDepth brackets open at once, or block indicators in one
// line. Brackets inside quotes and comments count too, but there no sane file
// has so many.
func tooDeep(data []byte) (line, column int, deep bool) {
	open := 0
	for i, c := range data {
		switch c {
		case '[', '{':
			open++
		case ']', '}':
			open = max(open-1, 0)
		}
		if open > 8*MaxDepth {
			line, column = place(data, i)
			return line, column, true
		}
	}
	line = 1
	for text := range bytes.Lines(data) {
		dashes := 0
		for i, c := range text {
			if c == '-' || c == '?' || c == ':' {
				if i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t' || text[i+1] == '\n' {
					dashes++
				}
			} else if c != ' ' && c != '\t' {
				break
			}
			if dashes > 8*MaxDepth {
				return line, i + 1, true
			}
		}
		line++
	}
	return 0, 0, false
}

func place(data []byte, at int) (line, column int) {
	before := data[:at]
	line = 1 + bytes.Count(before, []byte("\n"))
	column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return line, column
}

// syntaxError takes the line out of the YAML library's message, which has the
// form "yaml: line 3: did not find expected key".
func syntaxError(err error) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return n, "not valid YAML: " + clean(text)
			}
		}
	}
	return 1, "not valid YAML: " + clean(msg)
}

// clean makes a text of the YAML library fit for one line.
func clean(s string) string {
	if text, ok := shorten(s, 200); ok {
		s = text
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// quote shows a value of the file inside a message: escaped and not too long.
func quote(s string) string {
	if text, cut := shorten(s, 40); cut {
		return strconv.Quote(text) + "..."
	}
	return strconv.Quote(s)
}

func shorten(s string, runes int) (text string, cut bool) {
	n := 0
	for i := range s {
		if n == runes {
			return s[:i], true
		}
		n++
	}
	return s, false
}
