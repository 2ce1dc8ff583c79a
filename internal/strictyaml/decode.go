package strictyaml

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Decode fills the struct that into points to; see the function Decode.
func (d *Document) Decode(into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("strictyaml: Decode needs a pointer to a struct, not %T", into))
	}
	return d.decode(d.root, d.root, target.Elem(), "the file")
}

// field is one struct field that a key of the document can fill.
type field struct {
	name  string
	index int
}

// shape is how a struct type is written.
type shape struct {
	fields   []field
	key      int // index of the field with the tag ",key", or -1
	position int // index of the field with the tag ",position", or -1
}

// shapeOf returns how t is written. Looking through the tags costs more than
// decoding one struct, so it is done once for each type of a document.
func (d *Document) shapeOf(t reflect.Type) shape {
	if s, ok := d.shapes[t]; ok {
		return s
	}
	s := readShape(t)
	if d.shapes == nil {
		d.shapes = make(map[reflect.Type]shape)
	}
	d.shapes[t] = s
	return s
}

func readShape(t reflect.Type) shape {
	s := shape{key: -1, position: -1}
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("yaml")
		if !ok || !f.IsExported() {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		switch {
		case option == "key":
			s.key = i
		case option == "position":
			s.position = i
		case name != "" && name != "-":
			s.fields = append(s.fields, field{name, i})
		}
	}
	return s
}

// Key is one key of a mapping that Decode reads into a struct.
type Key struct {
	Name string
	Type reflect.Type // of the field that it fills
}

// Keys lists the keys that Decode knows in a mapping for the struct type t, in the
// order of the fields. With keyed, a list of t is written as a mapping from names
// of the file's own.
func Keys(t reflect.Type) (keys []Key, keyed bool) {
	s := readShape(t)
	for _, f := range s.fields {
		keys = append(keys, Key{f.name, t.Field(f.index).Type})
	}
	return keys, s.key >= 0
}

// decode fills target from n. The place at is n's key, or n itself; what names
// the value in messages.
func (d *Document) decode(at, n *yaml.Node, target reflect.Value, what string) error {
	if target.Kind() == reflect.Pointer {
		if isNull(n) {
			return d.errorf(n, "%s has no value", what)
		}
		target.Set(reflect.New(target.Type().Elem()))
		return d.decode(at, n, target.Elem(), what)
	}
	switch target.Kind() {
	case reflect.Struct:
		return d.decodeStruct(at, n, target, what)
	case reflect.Slice:
		return d.decodeSlice(n, target, what)
	case reflect.Map:
		return d.decodeMap(n, target, what)
	}
	if n.Kind != yaml.ScalarNode {
		return d.errorf(n, "%s must be %s, not %s", what, kindName(target.Type()), nodeName(n))
	}
	return d.decodeScalar(n, target, what)
}

func (d *Document) decodeStruct(at, n *yaml.Node, target reflect.Value, what string) error {
	s := d.shapeOf(target.Type())
	if s.position >= 0 {
		target.Field(s.position).Set(reflect.ValueOf(Position{Line: at.Line, Column: at.Column}))
	}
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s must be a mapping (key: value), not %s", what, nodeName(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		index := -1
		for _, f := range s.fields {
			if f.name == key.Value {
				index = f.index
			}
		}
		if index < 0 {
			names := make([]string, len(s.fields))
			for i, f := range s.fields {
				names[i] = f.name
			}
			if near := Suggest(key.Value, names); near != "" {
				return d.errorf(key, "unknown key %s; did you mean %q?", quote(key.Value), near)
			}
			return d.errorf(key, "unknown key %s", quote(key.Value))
		}
		if err := d.decode(key, value, target.Field(index), key.Value); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) decodeSlice(n *yaml.Node, target reflect.Value, what string) error {
	if isNull(n) {
		return nil
	}
	element := target.Type().Elem()
	if element.Kind() == reflect.Struct {
		if s := d.shapeOf(element); s.key >= 0 {
			return d.decodeKeyed(n, target, what, s.key)
		}
	}
	if n.Kind != yaml.SequenceNode {
		return d.errorf(n, "%s must be a list, not %s", what, nodeName(n))
	}
	list := reflect.MakeSlice(target.Type(), len(n.Content), len(n.Content))
	for i, child := range n.Content {
		if isNull(child) {
			return d.errorf(child, "an entry of %s has no value", what)
		}
		if err := d.decode(child, child, list.Index(i), "an entry of "+what); err != nil {
			return err
		}
	}
	target.Set(list)
	return nil
}

// decodeKeyed reads a mapping into a slice whose elements hold their key.
func (d *Document) decodeKeyed(n *yaml.Node, target reflect.Value, what string, keyField int) error {
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s must be a mapping (key: value), not %s", what, nodeName(n))
	}
	list := reflect.MakeSlice(target.Type(), len(n.Content)/2, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		element := list.Index(i / 2)
		if err := d.decodeScalar(key, element.Field(keyField), "a key of "+what); err != nil {
			return err
		}
		if err := d.decode(key, value, element, quote(key.Value)); err != nil {
			return err
		}
	}
	target.Set(list)
	return nil
}

func (d *Document) decodeMap(n *yaml.Node, target reflect.Value, what string) error {
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, "%s must be a mapping (key: value), not %s", what, nodeName(n))
	}
	t := target.Type()
	m := reflect.MakeMapWithSize(t, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		k, v := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := d.decodeScalar(key, k, "a key of "+what); err != nil {
			return err
		}
		if err := d.decode(key, value, v, quote(key.Value)); err != nil {
			return err
		}
		m.SetMapIndex(k, v)
	}
	target.Set(m)
	return nil
}

func (d *Document) decodeScalar(n *yaml.Node, target reflect.Value, what string) error {
	tag := n.ShortTag()
	wrong := func() error {
		if tag == "!!null" {
			return d.errorf(n, "%s has no value; it must be %s", what, kindName(target.Type()))
		}
		return d.errorf(n, "%s must be %s, not %s", what, kindName(target.Type()), quote(n.Value))
	}
	if target.Type() == reflect.TypeFor[time.Duration]() {
		value, err := time.ParseDuration(n.Value)
		if tag == "!!null" || err != nil {
			return wrong()
		}
		target.SetInt(int64(value))
		return nil
	}
	switch kind := target.Kind(); kind {
	case reflect.String:
		switch tag {
		case "!!null":
			if n.Value == "" {
				return d.errorf(n, "%s has no value; it must be a text", what)
			}
			return d.errorf(n, "%s is a text: write %s in quotes", what, quote(n.Value))
		case "!!bool":
			return d.errorf(n, "%s is a text: write %s in quotes", what, quote(n.Value))
		}
		target.SetString(n.Value)
	case reflect.Bool:
		if tag != "!!bool" || n.Value != "true" && n.Value != "false" {
			return wrong()
		}
		target.SetBool(n.Value == "true")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value, err := strconv.ParseInt(n.Value, 10, target.Type().Bits())
		if tag != "!!int" || err != nil {
			return wrong()
		}
		target.SetInt(value)
	default:
		panic(fmt.Sprintf("strictyaml: cannot decode into %s", target.Type()))
	}
	return nil
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func kindName(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return "a duration such as 90s or 4380h"
	}
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	}
	return "a whole number"
}

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return quote(n.Value)
}
