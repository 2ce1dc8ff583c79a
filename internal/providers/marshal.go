package providers

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
)

// Marshal writes the definition as a file that Parse accepts. Fields that are
// empty are left out.
func (p *Provider) Marshal() ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(toNode(reflect.ValueOf(p).Elem())); err != nil {
		return nil, fmt.Errorf("write the definition %s: %w", p.ID, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write the definition %s: %w", p.ID, err)
	}
	return out.Bytes(), nil
}

func toNode(v reflect.Value) *yaml.Node {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		return scalarNode(time.Duration(v.Int()).String(), "!!str")
	}
	switch v.Kind() {
	case reflect.Struct:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for i := range v.NumField() {
			if field := v.Field(i); !isEmpty(field) {
				node.Content = append(node.Content, scalarNode(v.Type().Field(i).Tag.Get("yaml"), "!!str"), toNode(field))
			}
		}
		return node
	case reflect.Slice:
		node := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for i := range v.Len() {
			node.Content = append(node.Content, toNode(v.Index(i)))
		}
		if v.Type().Elem().Kind() == reflect.String {
			node.Style = yaml.FlowStyle
		}
		return node
	case reflect.Map:
		node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range sortedKeys(v.Interface().(map[string]string)) {
			node.Content = append(node.Content, scalarNode(key, "!!str"), scalarNode(v.MapIndex(reflect.ValueOf(key)).String(), "!!str"))
		}
		return node
	case reflect.Bool:
		return scalarNode("true", "!!bool") // false is empty
	}
	return scalarNode(v.String(), "!!str")
}

// isEmpty reports whether a field is left out. A struct is empty when all its
// fields are.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		for i := range v.NumField() {
			if !isEmpty(v.Field(i)) {
				return false
			}
		}
		return true
	}
	return v.IsZero()
}

func scalarNode(value, tag string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}
