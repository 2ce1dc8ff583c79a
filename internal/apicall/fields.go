package apicall

import (
	"encoding/json"
	"net/url"
	"strings"

	"github.com/apiauth/apiauth/internal/oauth"
)

// Field is one parameter of a request.
type Field struct {
	Name  string // a name, or name[key] and name[] inside a JSON body
	Value any    // string, bool, json.Number or nil
}

// ParseField reads NAME=VALUE, whose value is text.
func ParseField(s string) (Field, error) {
	name, value, found := strings.Cut(s, "=")
	if !found || name == "" {
		return Field{}, badf("a field is written NAME=VALUE, not %q", oauth.Clean(s))
	}
	return Field{name, value}, nil
}

// ParseTyped reads NAME=VALUE, whose value is true, false, null or a number as
// in JSON, @FILE for the text of a file, which read returns, or else text.
func ParseTyped(s string, read func(name string) ([]byte, error)) (Field, error) {
	f, err := ParseField(s)
	if err != nil {
		return Field{}, err
	}
	text, _ := f.Value.(string)
	switch {
	case text == "true", text == "false":
		f.Value = text == "true"
	case text == "null":
		f.Value = nil
	case strings.HasPrefix(text, "@"):
		doc, err := read(text[1:])
		if err != nil {
			return Field{}, err
		}
		f.Value = string(doc)
	case text != "" && (text[0] == '-' || text[0] >= '0' && text[0] <= '9') && json.Valid([]byte(text)):
		f.Value = json.Number(text)
	}
	return f, nil
}

// Values returns fields as the parameters of a query or a form, in their order
// by name.
func Values(fields []Field) url.Values {
	values := make(url.Values)
	for _, f := range fields {
		text := ""
		switch v := f.Value.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		case bool:
			text = "false"
			if v {
				text = "true"
			}
		}
		values.Add(f.Name, text)
	}
	return values
}

// maxNesting bounds how deep name[a][b] goes.
const maxNesting = 16

// JSONBody returns fields as one JSON object. name[key] is a member of an object,
// name[] the next element of an array. A name given twice, or used as two kinds
// of things, is a *RequestError.
func JSONBody(fields []Field) ([]byte, error) {
	root := map[string]any{}
	for _, f := range fields {
		keys, err := nesting(f.Name)
		if err != nil {
			return nil, err
		}
		if _, err := place(root, keys, f); err != nil {
			return nil, err
		}
	}
	return marshal(root)
}

// nesting splits name[a][] into name, a and the empty key.
func nesting(name string) ([]string, error) {
	first, rest, nested := strings.Cut(name, "[")
	if !nested {
		return []string{name}, nil
	}
	keys := []string{first}
	for rest = "[" + rest; rest != ""; {
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 || first == "" || len(keys) > maxNesting {
			return nil, badf("%q is no name of a field: write name, name[key] or name[]", oauth.Clean(name))
		}
		keys = append(keys, rest[1:end])
		rest = rest[end+1:]
	}
	return keys, nil
}

// place puts a field below node, which is nil, an object or an array, and
// returns the node with it.
func place(node any, keys []string, f Field) (any, error) {
	if len(keys) == 0 {
		if node != nil {
			return nil, badf("the field %q is given twice", oauth.Clean(f.Name))
		}
		if f.Value == nil {
			return json.RawMessage("null"), nil
		}
		return f.Value, nil
	}
	if keys[0] == "" {
		list, ok := node.([]any)
		if node != nil && !ok {
			return nil, badf("the field %q is a list and something else", oauth.Clean(f.Name))
		}
		item, err := place(nil, keys[1:], f)
		return append(list, item), err
	}
	object, ok := node.(map[string]any)
	switch {
	case node == nil:
		object = map[string]any{}
	case !ok:
		return nil, badf("the field %q is an object and something else", oauth.Clean(f.Name))
	}
	below, err := place(object[keys[0]], keys[1:], f)
	if err != nil {
		return nil, err
	}
	object[keys[0]] = below
	return object, nil
}
