package inject

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/secret"
)

// Secret is one connection in the form of Netlify's getSecrets: the members and
// their names are those that @netlify/functions 0.9.0 to 1.4.0 asked for and
// returned.
type Secret struct {
	FriendlyServiceName string         // as people write it: GitHub
	Service             string         // in capitals: GITHUB
	Token               secret.Text    // zero when no usable token exists now
	GrantedScopes       []GrantedScope // nil when the provider does not tell
}

// GrantedScope is one scope of a Secret.
type GrantedScope struct {
	Scope string
	Info  *ScopeInfo // nil when the definition does not know the scope
}

// ScopeInfo says what a scope is about. Empty texts become null, but for
// Display.
type ScopeInfo struct {
	Category    string
	Display     string
	IsDefault   bool
	IsRequired  bool
	Description string
	Title       string
}

// ServiceName returns the value of service for a provider's id: capitals, with _
// for -.
func ServiceName(id string) string { return strings.ToUpper(strings.ReplaceAll(id, "-", "_")) }

// secretJSON is a Secret on the wire: these five members and no others.
type secretJSON struct {
	FriendlyServiceName string      `json:"friendlyServiceName"`
	Service             string      `json:"service"`
	IsLoggedIn          bool        `json:"isLoggedIn"`
	BearerToken         *string     `json:"bearerToken"`
	GrantedScopes       []scopeJSON `json:"grantedScopes"`
}

type scopeJSON struct {
	Scope     string         `json:"scope"`
	ScopeInfo *scopeInfoJSON `json:"scopeInfo"`
}

type scopeInfoJSON struct {
	Category    *string `json:"category"`
	Scope       string  `json:"scope"`
	Display     string  `json:"display"`
	IsDefault   bool    `json:"isDefault"`
	IsRequired  bool    `json:"isRequired"`
	Description *string `json:"description"`
	Title       *string `json:"title"`
}

// Wire returns the secret as JSON: the element of loggedInServices.
func (s Secret) Wire() ([]byte, error) {
	doc := secretJSON{FriendlyServiceName: s.FriendlyServiceName, Service: s.Service}
	if !s.Token.IsZero() {
		token := s.Token.Reveal()
		doc.IsLoggedIn, doc.BearerToken = true, &token
	}
	for _, g := range s.GrantedScopes {
		one := scopeJSON{Scope: g.Scope}
		if i := g.Info; i != nil {
			one.ScopeInfo = &scopeInfoJSON{
				Category: orNull(i.Category), Scope: g.Scope, Display: i.Display, IsDefault: i.IsDefault,
				IsRequired: i.IsRequired, Description: orNull(i.Description), Title: orNull(i.Title),
			}
		}
		doc.GrantedScopes = append(doc.GrantedScopes, one)
	}
	if doc.GrantedScopes == nil && s.GrantedScopes != nil {
		doc.GrantedScopes = []scopeJSON{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// SecretKey is the name under which getSecrets returned a secret: gitHub for
// GitHub, else the friendly name in camel case.
func (s Secret) SecretKey() string {
	if s.Service == "GITHUB" {
		return "gitHub"
	}
	return camelCase(s.FriendlyServiceName)
}

// camelCase joins the parts between hyphens, underscores, dots and white space:
// each but the first begins with a capital, and the first letter is a small one.
func camelCase(name string) string {
	var b strings.Builder
	gap := false
	for _, r := range name {
		if r == '-' || r == '_' || r == '.' || unicode.IsSpace(r) {
			gap = true
			continue
		}
		if gap {
			r = unicode.ToUpper(r)
			gap = false
		}
		b.WriteRune(r)
	}
	first, size := utf8.DecodeRuneInString(b.String())
	if size == 0 {
		return ""
	}
	return string(unicode.ToLower(first)) + b.String()[size:]
}

// Secrets returns the object that getSecrets returned: each secret under its
// key, in the order of the keys. Of two secrets with one key the later holds, as
// it did there; taken is called with the key for each that is lost.
func Secrets(list []Secret, taken func(key string)) ([]byte, error) {
	byKey := map[string]json.RawMessage{}
	var keys []string
	for _, s := range list {
		raw, err := s.Wire()
		if err != nil {
			return nil, err
		}
		key := s.SecretKey()
		if _, there := byKey[key]; there {
			taken(key)
		} else {
			keys = append(keys, key)
		}
		byKey[key] = raw
	}
	slices.Sort(keys)
	var b bytes.Buffer
	b.WriteString("{")
	for i, key := range keys {
		if i > 0 {
			b.WriteString(",")
		}
		name, err := json.Marshal(key)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteString(":")
		b.Write(byKey[key])
	}
	b.WriteString("}")
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
