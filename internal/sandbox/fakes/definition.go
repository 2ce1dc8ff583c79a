package fakes

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Rewrite turns the catalogue entry that the fake stands for into a user's
// definition that leads to the fake: real origins become the fake's, the API
// hosts its own, http on loopback is allowed, and the entry is marked as a
// replacement. All else stays, so that the entry itself is what is tested. The
// entry's redirect URI is registered; that the provider's form refuses it is an
// error.
func (f *Fake) Rewrite(entry []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(entry, &doc); err != nil {
		return nil, fmt.Errorf("rewrite the entry %s: %w", f.ID, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("rewrite the entry " + f.ID + ": it is no mapping")
	}
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i].Value, root.Content[i+1]
		switch key {
		case "sources", "register":
			continue
		case "redirect_uri":
			if err := f.Register(strings.Replace(value.Value, ":*", "", 1)); err != nil {
				return nil, err
			}
			continue
		}
		f.rewriteStrings(value)
		if key == "api" {
			setKey(value, "hosts", f.Host())
		}
	}
	return standIn(f.ID, &doc)
}

// Rewrite turns a catalogue entry into a user's definition that leads to the
// table: https://api.github.com/user becomes the table's URL with the path
// /api.github.com/user, and so does every endpoint; the API's host is the table's
// and http on loopback is allowed. All else stays as it is: what a provider
// compares, such as a redirect URI or an audience, is still its own.
func (t *Table) Rewrite(id string, entry []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(entry, &doc); err != nil {
		return nil, fmt.Errorf("rewrite the entry %s: %w", id, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("rewrite the entry " + id + ": it is no mapping")
	}
	t.rewriteEndpoints(doc.Content[0])
	return standIn(id, &doc)
}

// rewriteEndpoints leads endpoints and the API's address to the table.
func (t *Table) rewriteEndpoints(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		if rest, ok := strings.CutPrefix(value.Value, "https://"); ok && (strings.HasSuffix(key, "endpoint") || key == "base_url") {
			value.Value = t.URL + "/" + rest
		}
		if key == "api" {
			setKey(value, "hosts", t.Host())
		}
		t.rewriteEndpoints(value)
	}
}

// standIn completes a rewritten entry and writes it.
func standIn(id string, doc *yaml.Node) ([]byte, error) {
	root := doc.Content[0]
	dropUnused(root)
	setTrue(root, "allow_insecure_loopback")
	setTrue(root, "replaces")
	out, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("rewrite the entry %s: %w", id, err)
	}
	return out, nil
}

func (f *Fake) rewriteStrings(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode {
		for _, o := range f.origins {
			rest, ok := strings.CutPrefix(n.Value, o)
			if ok && (rest == "" || strings.HasPrefix(rest, "/")) {
				n.Value, n.Style = f.base(o)+rest, 0
				return
			}
		}
	}
	for _, c := range n.Content {
		f.rewriteStrings(c)
	}
}

// base is where the fake serves a real origin.
func (f *Fake) base(origin string) string {
	return f.URL + "/" + strings.Trim(strings.TrimPrefix(origin, "https://"), "{}")
}

// setKey replaces the value of a key by a list of one string.
func setKey(mapping *yaml.Node, key, item string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			v := mapping.Content[i+1]
			v.Kind, v.Tag, v.Value = yaml.SequenceNode, "!!seq", ""
			v.Content = []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: item, Style: yaml.DoubleQuotedStyle}}
		}
	}
}

// setTrue sets a key to true, adding it if needed.
func setTrue(mapping *yaml.Node, key string) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			mapping.Content[i+1].Value = "true"
			return
		}
	}
	mapping.Content = append(mapping.Content,
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
}

// dropUnused removes variables that no value names any more.
func dropUnused(root *yaml.Node) {
	var text strings.Builder
	var collect func(n *yaml.Node)
	collect = func(n *yaml.Node) {
		if n.Kind == yaml.ScalarNode {
			text.WriteString(n.Value + "\n")
		}
		for _, c := range n.Content {
			collect(c)
		}
	}
	at := -1
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "variables" {
			at = i
		} else {
			collect(root.Content[i+1])
		}
	}
	if at < 0 {
		return
	}
	list := root.Content[at+1]
	list.Content = slices.DeleteFunc(list.Content, func(v *yaml.Node) bool {
		for i := 0; i+1 < len(v.Content); i += 2 {
			if v.Content[i].Value == "name" {
				return !strings.Contains(text.String(), "{"+v.Content[i+1].Value+"}")
			}
		}
		return false
	})
	if len(list.Content) == 0 {
		root.Content = slices.Delete(root.Content, at, at+2)
	}
}

// define fills a definition: %URL% is the fake's origin, %HOST% its host,
// %CLIENT% the client id.
func (f *Fake) define(text string) {
	text = strings.NewReplacer("%URL%", f.URL, "%HOST%", f.Host(), "%CLIENT%", f.ClientID).Replace(text)
	text = "id: " + f.ID + "\n" + strings.TrimLeft(text, "\n") + "client_id: " + f.ClientID + "\nallow_insecure_loopback: true\n"
	if f.ID != "keycloak" {
		text += "replaces: true\n"
	}
	f.Definition = []byte(text)
}
