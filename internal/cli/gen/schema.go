package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// schemas writes the JSON Schemas of the two kinds of files that people write. Keys
// and types are those that the parser knows, choices those that it allows, and
// words, defaults and what is required those of the tables in docs/.
func schemas(top string, files map[string][]byte) error {
	for _, s := range []struct {
		name, title, doc string
		of               reflect.Type
		choices          func(path string) []string
	}{
		{"provider.json", "A provider definition of apiauth", "providers.md", reflect.TypeFor[providers.Provider](), providers.Choices},
		{"manifest.json", "A manifest of apiauth (apiauth.yaml)", "manifest.md", reflect.TypeFor[project.Manifest](), manifestChoices},
	} {
		text, err := os.ReadFile(filepath.Join(top, "docs", s.doc))
		if err != nil {
			return err
		}
		w := schemaWriter{explained: explanations(string(text)), choices: s.choices}
		root := w.object(s.of, "")
		root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
		root["title"] = s.title
		root["type"] = "object" // a file that says nothing is no definition
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(root); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		files["internal/cli/schema/"+s.name] = b.Bytes()
	}
	return nil
}

func manifestChoices(path string) []string {
	if path == "exec.egress" {
		return project.EgressModes()
	}
	return nil
}

// form returns the form of the values at a path that the parser holds to one, or "".
func form(path string) string {
	const id = `^[a-z0-9][a-z0-9-]{0,62}$`
	switch path {
	case "id", "connections{key}":
		return id
	case "env", "connections{}.env":
		return `^[A-Z][A-Z0-9_]*$`
	case "sources[].checked":
		return `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	}
	return ""
}

// schemaWriter makes a schema of the types that the parser decodes into. Paths are
// those of providers.Choices.
type schemaWriter struct {
	explained map[string]explanation
	choices   func(path string) []string
}

func (w schemaWriter) of(t reflect.Type, path string) map[string]any {
	var node map[string]any
	switch {
	case t.Kind() == reflect.Pointer:
		return w.of(t.Elem(), path)
	case t == reflect.TypeFor[time.Duration]():
		node = map[string]any{"type": "string", "pattern": `^(0|([0-9]+(\.[0-9]*)?(ns|us|ms|s|m|h))+)$`}
	case t.Kind() == reflect.Struct:
		node = w.object(t, path)
	case t.Kind() == reflect.Slice:
		node = w.list(t, path)
	case t.Kind() == reflect.Map:
		node = w.mapping(w.of(t.Elem(), path+"{}"), path)
	case t.Kind() == reflect.Bool:
		node = map[string]any{"type": "boolean"}
	default:
		node = w.text(path)
	}
	if about := w.about(path); about != "" {
		node["description"] = about
	}
	return node
}

// about is what the documents say about a path.
func (w schemaWriter) about(path string) string {
	e, ok := w.explained[path]
	if !ok {
		return ""
	}
	about := e.meaning + "."
	switch {
	case strings.HasPrefix(e.usual, "required"):
		about += " R" + e.usual[1:] + "."
	case e.usual != "":
		about += " Default: " + e.usual + "."
	}
	return about
}

func (w schemaWriter) object(t reflect.Type, path string) map[string]any {
	properties := map[string]any{}
	var required []string
	keys, _ := strictyaml.Keys(t)
	for _, key := range keys {
		at := strings.TrimPrefix(path+"."+key.Name, ".")
		properties[key.Name] = w.of(key.Type, at)
		if w.explained[at].required {
			required = append(required, key.Name)
		}
	}
	node := map[string]any{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if required != nil {
		node["required"] = required
	}
	return node
}

func (w schemaWriter) list(t reflect.Type, path string) map[string]any {
	if element := t.Elem(); element.Kind() == reflect.Struct {
		if _, keyed := strictyaml.Keys(element); keyed {
			return w.mapping(w.of(element, path+"{}"), path)
		}
	}
	return map[string]any{"type": []string{"array", "null"}, "items": w.of(t.Elem(), path+"[]")}
}

// mapping is one from names of the file's own.
func (w schemaWriter) mapping(values map[string]any, path string) map[string]any {
	node := map[string]any{"type": []string{"object", "null"}, "additionalProperties": values}
	if names := w.choices(path + "{key}"); names != nil {
		node["propertyNames"] = map[string]any{"enum": names}
	} else if pattern := form(path + "{key}"); pattern != "" {
		node["propertyNames"] = map[string]any{"pattern": pattern}
	}
	return node
}

// text is a text, which YAML lets stand as a number.
func (w schemaWriter) text(path string) map[string]any {
	if values := w.choices(path); values != nil {
		return map[string]any{"enum": values}
	}
	node := map[string]any{"type": []string{"string", "number"}}
	if pattern := form(path); pattern != "" {
		node["pattern"] = pattern
	}
	return node
}

// explanation is what the documents say about a key.
type explanation struct {
	meaning  string
	usual    string // what holds when it is left out
	required bool
}

// explanations reads the tables of keys in a document, by the paths of the keys. A
// table belongs to the keys that the paragraph before it begins with.
func explanations(text string) map[string]explanation {
	found := map[string]explanation{}
	var (
		above  []string // the keys that the table is about
		inList bool     // each entry of them
	)
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		switch {
		case strings.HasPrefix(paragraph, "#"):
			above, inList = nil, false
		case strings.HasPrefix(paragraph, "`") && strings.HasSuffix(paragraph, ":"):
			begin, meaning, _ := strings.Cut(paragraph, ", ")
			begin, _, _ = strings.Cut(begin, " (")
			above, inList = codes(begin), strings.HasSuffix(paragraph, "each:")
			if meaning = plain(strings.TrimSuffix(meaning, ":")); len(above) == 1 && meaning != "" && !inList {
				found[above[0]] = explanation{meaning: sentence(meaning)}
			}
		}
		for line := range strings.Lines(paragraph) {
			if strings.HasPrefix(line, "| `") {
				explainRow(found, line, above, inList)
			}
		}
	}
	return found
}

// explainRow reads a row of a table.
func explainRow(found map[string]explanation, line string, above []string, inList bool) {
	cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
	e := explanation{meaning: plain(cells[1])}
	if !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") { // else it is a value
		e.meaning = sentence(e.meaning)
	}
	if len(cells) > 2 {
		e.usual = plain(cells[2])
	}
	if e.usual == "required" {
		e.required, e.usual = true, ""
	}
	if e.meaning == "See below" {
		return
	}
	for _, key := range codes(cells[0]) {
		found[pathOf(key, above, inList)] = e
	}
}

// codes returns what stands in a text between backquotes.
func codes(text string) []string {
	var list []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	return list
}

// sentence begins with a capital.
func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// pathOf is the path of a key that a table names.
func pathOf(key string, above []string, inList bool) string {
	key = strings.Replace(key, ".NAME", "{}", 1)
	if len(above) == 0 {
		return key
	}
	for _, name := range above {
		if strings.HasPrefix(key, name+".") {
			return key
		}
	}
	if inList {
		return above[0] + "[]." + key
	}
	return above[0] + "." + key
}

// plain takes the marks of Markdown out of a cell.
func plain(cell string) string {
	cell = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(cell, "$1")
	return strings.TrimRight(strings.TrimSpace(strings.NewReplacer("`", "", "**", "", "\n", " ").Replace(cell)), ".")
}
