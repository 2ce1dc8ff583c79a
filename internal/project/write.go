package project

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ExistsError says that there is a manifest already.
type ExistsError struct{ Path string }

func (e *ExistsError) Error() string { return fmt.Sprintf("%s exists already", e.Path) }

// Write writes a new manifest into dir and returns its path. It never
// overwrites: a file that exists is an *ExistsError. A manifest that would not
// be accepted again is an error, and nothing is written.
func Write(dir string, m *Manifest) (path string, err error) {
	path = filepath.Join(dir, ManifestName)
	data := render(m)
	if _, err := ParseManifest(path, data, nil); err != nil {
		return "", fmt.Errorf("write the manifest: %w", err)
	}
	// A manifest is part of a repository: it is readable as other sources are.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // see above
	if errors.Is(err, fs.ErrExist) {
		return "", &ExistsError{path}
	}
	if err != nil {
		return "", fmt.Errorf("write the manifest: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(path)
		}
	}()
	// Whatever the umask is: a manifest that everybody may write is refused.
	if err := f.Chmod(0o644); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return "", fmt.Errorf("write the manifest: %w", err)
	}
	if _, err := f.Write(data); err != nil {
		return "", fmt.Errorf("write the manifest: %w", err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("write the manifest: %w", err)
	}
	return path, nil
}

// render prints a manifest as a person would write it.
func render(m *Manifest) []byte {
	var b bytes.Buffer
	b.WriteString("# The API connections of this project; commit this file, it holds no secrets.\n")
	if m.Project != "" {
		fmt.Fprintf(&b, "project: %s # a label for people\n", scalar(m.Project))
	} else {
		b.WriteString("project: " + `""` + " # a label for people\n")
	}
	if len(m.Connections) == 0 {
		b.WriteString("connections: {}\n")
	} else {
		b.WriteString("connections:\n")
		for _, c := range m.Connections {
			b.WriteString(renderConnection(c, "  "))
		}
	}
	e := m.Exec
	if !e.Placeholder && e.Egress == "" && len(e.Allow)+len(e.Scan) == 0 {
		return b.Bytes()
	}
	b.WriteString("exec:\n")
	if e.Placeholder {
		b.WriteString("  placeholder: true\n")
	}
	if len(e.Allow) > 0 {
		b.WriteString("  allow: " + flow(e.Allow) + "\n")
	}
	if e.Egress != "" {
		b.WriteString("  egress: " + scalar(e.Egress) + "\n")
	}
	if len(e.Scan) > 0 {
		b.WriteString("  scan: " + flow(e.Scan) + "\n")
	}
	return b.Bytes()
}

// renderConnection prints one entry, its name indented by indent.
func renderConnection(c Connection, indent string) string {
	var b strings.Builder
	b.WriteString(indent + scalar(c.Name) + ":")
	inner := "\n" + indent + indent
	n := b.Len()
	if c.Provider != "" && c.Provider != c.Name {
		b.WriteString(inner + "provider: " + scalar(c.Provider))
	}
	if len(c.Scopes) > 0 {
		b.WriteString(inner + "scopes: " + flow(c.Scopes))
	}
	if c.Env != "" {
		b.WriteString(inner + "env: " + scalar(c.Env))
	}
	if c.ClientID != "" {
		b.WriteString(inner + "client_id: " + scalar(c.ClientID))
	}
	if b.Len() == n {
		b.WriteString(" {}")
	}
	return b.String() + "\n"
}

// scalar prints a text so that YAML reads it as that text, in quotes where it
// must be.
func scalar(s string) string {
	out, err := yaml.Marshal(s)
	text := strings.TrimSuffix(string(out), "\n")
	if err != nil || strings.ContainsAny(text, "\n") || strings.HasPrefix(text, "|") || strings.HasPrefix(text, ">") {
		return doubleQuoted(s)
	}
	return text
}

// flow prints a list in one line. Inside brackets a comma or a bracket needs
// quotes that it does not need elsewhere.
func flow(list []string) string {
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = scalar(s)
		if strings.ContainsAny(s, ",[]{}") && !strings.HasPrefix(parts[i], `"`) && !strings.HasPrefix(parts[i], "'") {
			parts[i] = doubleQuoted(s)
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func doubleQuoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// AddConnection adds c to the manifest at path, which Find has returned, and
// leaves every other line as it is, comments included. A connection of that
// name that stands there already, and a file whose form does not let a line be
// added (connections in one line), is an error that says what to write by hand.
func AddConnection(path string, c Connection) error {
	before, err := LoadManifest(path, nil)
	if err != nil {
		return err
	}
	if _, exists := before.Connection(c.Name); exists {
		return fmt.Errorf("add %q to %s: it stands there already", c.Name, path)
	}
	st, err := os.Lstat(path)
	if err != nil {
		return manifestError(path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return manifestError(path, err)
	}
	out, ok := insert(data, c)
	if ok {
		// The text was edited as text: make sure that it says what it should.
		var after *Manifest
		after, err = ParseManifest(path, out, nil)
		if err != nil {
			ok = false
		} else {
			ok = sameBut(before, after, c)
		}
	}
	if !ok {
		if err != nil {
			return fmt.Errorf("add %q to the manifest: %w", c.Name, err)
		}
		return fmt.Errorf("add %q to %s: its connections are written in a form that cannot be added to; write it yourself, under connections:\n%s",
			c.Name, path, renderConnection(c, "  "))
	}
	if err := replaceFile(path, path+"."+randomHex()+".tmp", out, st.Mode().Perm()); err != nil {
		return fmt.Errorf("write the manifest %s: %w", path, err)
	}
	return nil
}

// sameBut says whether after is before and c.
func sameBut(before, after *Manifest, c Connection) bool {
	if c.Provider == "" {
		c.Provider = c.Name
	}
	if before.Project != after.Project || !reflect.DeepEqual(before.Exec, after.Exec) || len(after.Connections) != len(before.Connections)+1 {
		return false
	}
	want := append(append([]Connection(nil), before.Connections...), c)
	for i, got := range after.Connections {
		w := want[i]
		got.Position = w.Position
		if len(got.Scopes) == 0 && len(w.Scopes) == 0 {
			got.Scopes, w.Scopes = nil, nil
		}
		if !reflect.DeepEqual(got, w) {
			return false
		}
	}
	return true
}

// insert adds c as the last connection of a manifest's text.
func insert(data []byte, c Connection) (out []byte, ok bool) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode || doc.Content[0].Style&yaml.FlowStyle != 0 {
		return nil, false
	}
	lines := strings.SplitAfter(string(data), "\n")
	if n := len(lines); lines[n-1] == "" {
		lines = lines[:n-1]
	} else {
		lines[n-1] += "\n"
	}
	top := doc.Content[0].Content
	for i := 0; i+1 < len(top); i += 2 {
		key, value := top[i], top[i+1]
		if key.Value != "connections" {
			continue
		}
		indent, at := "  ", key.Line
		switch {
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			if value.Style&yaml.FlowStyle != 0 || value.Content[0].Column < 2 {
				return nil, false
			}
			indent = strings.Repeat(" ", value.Content[0].Column-1)
			end := len(lines)
			if i+2 < len(top) {
				end = top[i+2].Line - 1
			}
			for at = end; at > key.Line && trailing(lines[at-1]); at-- {
			}
		case value.Kind == yaml.MappingNode && value.Line == key.Line: // {}
			line := lines[key.Line-1]
			if strings.Count(line, "{}") != 1 {
				return nil, false
			}
			lines[key.Line-1] = strings.Replace(line, " {}", "", 1)
		case value.Kind == yaml.ScalarNode && value.Value == "":
		default:
			return nil, false
		}
		return splice(lines, at, renderConnection(c, indent)), true
	}
	return splice(lines, len(lines), "connections:\n"+renderConnection(c, "  ")), true
}

// trailing says whether a line after the connections does not belong to them: it
// is blank, a comment at the margin, or the end of the document.
func trailing(line string) bool {
	return strings.TrimSpace(line) == "" || line[0] == '#' || strings.HasPrefix(line, "...")
}

func splice(lines []string, at int, text string) []byte {
	if strings.HasSuffix(lines[0], "\r\n") {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return []byte(strings.Join(lines[:at], "") + text + strings.Join(lines[at:], ""))
}
