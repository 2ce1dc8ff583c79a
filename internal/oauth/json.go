package oauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

const maxDepth = 32

// object is the top level of a JSON object, its members as written. Names
// compare exactly (encoding/json would match struct fields in any case), and a
// name that occurs twice is remembered, because two parsers may disagree on
// which one counts.
type object struct {
	members  map[string]json.RawMessage
	repeated map[string]bool
}

var errNoObject = errors.New("it is not a JSON object")

// parseObject reads data, which must be one JSON object nested at most 32 deep
// and nothing else. Its errors quote nothing of data.
func parseObject(data []byte) (object, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if err := checkDepth(data); err != nil {
		return object{}, err
	}
	if !json.Valid(data) {
		return object{}, errNoObject
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return object{}, errNoObject
	}
	o := object{members: map[string]json.RawMessage{}, repeated: map[string]bool{}}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return object{}, errNoObject
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return object{}, errNoObject
		}
		if _, ok := o.members[name]; ok {
			o.repeated[name] = true
		}
		o.members[name] = raw
	}
	return o, nil
}

// checkDepth counts brackets outside strings; the rest is json.Valid's work.
func checkDepth(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return errors.New("it is nested too deeply")
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// has reports whether name is there and not null.
func (o object) has(name string) bool {
	raw, ok := o.members[name]
	return ok && string(raw) != "null"
}

// text returns a string member. ok is false when it is absent, null or not a
// string.
func (o object) text(name string) (s string, ok bool) {
	return rawText(o.members[name])
}

func rawText(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// scalar returns a string, number or truth value as text.
func scalar(raw json.RawMessage) (string, bool) {
	if s, ok := rawText(raw); ok {
		return s, true
	}
	if len(raw) == 0 || raw[0] == '{' || raw[0] == '[' || string(raw) == "null" {
		return "", false
	}
	return string(raw), true
}

// texts returns a member that is an array of strings; absent and null are
// empty.
func (o object) texts(name string) (list []string, ok bool) {
	if !o.has(name) {
		return nil, true
	}
	raw := o.members[name]
	if raw[0] != '[' {
		return nil, false
	}
	var elements []json.RawMessage
	if json.Unmarshal(raw, &elements) != nil {
		return nil, false
	}
	for _, e := range elements {
		s, ok := rawText(e)
		if !ok {
			return nil, false
		}
		list = append(list, s)
	}
	return list, true
}

// find returns the member at a path such as "data.accessToken" or
// "errors.0.code", and whether a name on the way occurs twice.
func (o object) find(path string) (raw json.RawMessage, twice bool) {
	name, rest, more := strings.Cut(path, ".")
	if o.repeated[name] {
		return nil, true
	}
	raw = o.members[name]
	for more && len(raw) > 0 && raw[0] == '[' {
		name, rest, more = strings.Cut(rest, ".")
		raw = element(raw, name)
	}
	if !more {
		return raw, false
	}
	inner, err := parseObject(raw)
	if err != nil {
		return nil, false
	}
	return inner.find(rest)
}

// element returns the element of a list with the given number, or nothing.
func element(list json.RawMessage, number string) json.RawMessage {
	var elements []json.RawMessage
	i, err := strconv.Atoi(number)
	if err != nil || json.Unmarshal(list, &elements) != nil || i < 0 || i >= len(elements) {
		return nil
	}
	return elements[i]
}

// path returns the scalar at a path such as "id", "sys.id" or "items.0.id". A
// member that bears the whole path as its name comes first.
func (o object) path(path string) (string, bool) {
	if s, ok := scalar(o.members[path]); ok {
		return s, true
	}
	name, rest, more := strings.Cut(path, ".")
	raw := o.members[name]
	for more && len(raw) > 0 {
		name, rest, more = strings.Cut(rest, ".")
		switch raw[0] {
		case '{':
			inner, err := parseObject(raw)
			if err != nil {
				return "", false
			}
			raw = inner.members[name]
		case '[':
			raw = element(raw, name)
		default:
			return "", false
		}
	}
	return scalar(raw)
}
