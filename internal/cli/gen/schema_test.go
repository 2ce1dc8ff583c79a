package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// schemaOf compiles a schema that gen has written.
func schemaOf(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "schema", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mem:///"+name, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:///" + name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// valueOf is what an editor makes of a node.
func valueOf(t *testing.T, n *yaml.Node) any {
	t.Helper()
	switch n.Kind {
	case yaml.DocumentNode:
		return valueOf(t, n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = valueOf(t, n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, valueOf(t, c))
		}
		return list
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true"
	case "!!int", "!!float":
		number, err := strconv.ParseFloat(n.Value, 64)
		if err != nil {
			t.Fatalf("%q is no number", n.Value)
		}
		return number
	}
	return n.Value
}

func parseYAML(t *testing.T, text string) *yaml.Node {
	t.Helper()
	n := new(yaml.Node)
	if err := yaml.Unmarshal([]byte(text), n); err != nil {
		t.Fatal(err)
	}
	return n
}

// whole has every key of a definition once.
const whole = `id: whole
name: Whole
description: All keys.
status: restricted
status_note: why
replaces: true
issuer: https://auth.whole.example
authorization_endpoint: https://auth.whole.example/authorize
token_endpoint: https://auth.whole.example/token
device_authorization_endpoint: https://auth.whole.example/device
revocation_endpoint: https://auth.whole.example/revoke
introspection_endpoint: https://auth.whole.example/introspect
userinfo_endpoint: https://api.whole.example/me
refresh_endpoint: https://auth.whole.example/refresh
pushed_authorization_request_endpoint: https://auth.whole.example/par
require_pushed_authorization_requests: true
mtls_endpoint_aliases:
  token_endpoint: https://mtls.whole.example/token
  device_authorization_endpoint: https://mtls.whole.example/device
  revocation_endpoint: https://mtls.whole.example/revoke
  introspection_endpoint: https://mtls.whole.example/introspect
  pushed_authorization_request_endpoint: https://mtls.whole.example/par
  userinfo_endpoint: https://mtls.whole.example/me
authorization_response_iss_parameter_supported: true
token_endpoint_auth_method: private_key_jwt
secret_optional: true
device_auth_method: none
token_endpoint_auth_signing_alg: ES256
client_assertion_audience: https://auth.whole.example
device_note: another client
pkce: S256
flows: [browser, device]
redirect_uri: https://localhost/callback/whole
redirect_name: "{region}-name"
paste_code: true
variables:
  - {name: region, title: Region, description: Where., pattern: "[a-z]+", default: eu, values: [eu, us], from: user, host: false}
scopes:
  separator: ","
  default: [read]
  required: [read]
  omit: false
  prefix: "https://"
  fold_case: true
  callback: granted
  second: {param: user_scope, prefix: "user:", field: authed_user.scope}
  catalog:
    - {name: read, title: Read, description: All., category: API, broad: true, includes: [less], also: [r], unlisted: true}
    - {name: less, title: Less}
authorize_params: {access_type: offline}
authorize_rename: {client_id: client_key}
resources: ["https://api.whole.example/v1"]
code_param: auth_code
callback_keep: {realm_id: realmId}
login_hint_param: hint
token:
  expires_in: 3600
  type: bearer
  scope_separator: ","
  keep: [instance_url]
  keep_as: {team_id: team.id}
  inside: data
  fields: {access_token: accessToken, error: "code,error.code"}
  error_codes: {"40029": invalid_grant}
  rotates: always
  grant_lifetime: 4380h
  refresh_lifetime: 720h
  request: json
  rename: {client_id: appid}
  omit_params: [redirect_uri]
  params: {audience: x}
  exchange_params: {type: y}
  exchange_sends: [state]
  refresh_sends: [realm_id]
  refresh_params: {kind: z}
  upgrade: {endpoint: https://graph.whole.example/token, request: get, grant_type: exchange, param: token}
  renewal: {grant_type: refresh, credential: access_token, param: access_token, request: form, omit_client: true, before: 168h, after_end: false}
  headers: {X-Version: "1"}
jwt_bearer:
  audience: https://auth.whole.example
  subject: required
  subject_title: the user
  scope: claim
  claims: {kind: robot}
  auth_method: omitted
  lifetime: 60s
token_exchange: {scopes: [less], resources: ["https://api.whole.example"], audiences: [api], auth_method: omitted}
identity: {subject: id, label: name, headers: {X-Version: "1"}, from: userinfo, query: "{ viewer { id } }"}
site: {endpoint: https://api.whole.example/sites, list: data, label: name, keep: {site_id: id}}
api:
  base_url: https://{region}.api.whole.example/v1
  hosts: [api.whole.example, "{region}.api.whole.example"]
  auth: {in: header, name: Authorization, prefix: "Token "}
  headers: {X-Version: "1"}
  client_certificate: false
  body: form
  pagination:
    - {style: offset, param: offset, total: total, size: size, items: data}
    - {style: last_item, next: id, param: after, more: has_more}
    - {style: page, param: page, pages: pages, from_zero: true}
env: WHOLE_TOKEN
placeholder: whole_{36}
git_hosts: [git.whole.example]
git_username: oauth2
revocation: {style: request, page: https://whole.example/apps, notes: none, method: POST, request: form, auth: none, token: refresh_token, rename: {token: access_token}, params: {type: all}}
register: {page: https://whole.example/register, steps: [Press the button.], notes: none, redirect_uri: none}
notes: [one]
sources:
  - {url: https://docs.whole.example, checked: 2026-11-21, for: [endpoints], unverified: true}
client_id: app-1
allow_insecure_loopback: true
`

const wholeManifest = `project: my-site
connections:
  github-work: {provider: github, scopes: [repo], env: GITHUB_TOKEN, client_id: Iv1.abc}
exec: {placeholder: true, allow: ["GET /user/*"], egress: strict, scan: [dist]}
`

// The schema and the parser agree: on every key, every choice, every form, on what
// is required and on what is unknown.
func TestSchemasAgreeWithTheParsers(t *testing.T) {
	for _, tt := range []struct {
		schema, text string
		of           reflect.Type
		parse        func(data []byte) error
	}{
		{"provider.json", whole, reflect.TypeFor[providers.Provider](), func(data []byte) error {
			_, err := providers.Parse("whole.yaml", data, providers.User)
			return err
		}},
		{"manifest.json", wholeManifest, reflect.TypeFor[project.Manifest](), func(data []byte) error {
			_, err := project.ParseManifest("apiauth.yaml", data, providers.CheckEnvName)
			return err
		}},
	} {
		t.Run(tt.schema, func(t *testing.T) {
			schema := schemaOf(t, tt.schema)
			if err := tt.parse([]byte(tt.text)); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(valueOf(t, parseYAML(t, tt.text))); err != nil {
				t.Fatalf("%#v", err)
			}
			// refused holds a changed file against both.
			refused := func(what string, doc *yaml.Node, want string) {
				t.Helper()
				data, err := yaml.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				if err := tt.parse(data); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: the parser says %v, not %q", what, err, want)
				}
				if err := schema.Validate(valueOf(t, doc)); err == nil {
					t.Errorf("%s: the schema allows it", what)
				}
			}
			w := schemaWriter{choices: providers.Choices}
			if tt.schema == "manifest.json" {
				w.choices = manifestChoices
			}
			seen := map[string]bool{}
			var visit func(at *yaml.Node, of reflect.Type, path string, doc *yaml.Node)
			visit = func(at *yaml.Node, of reflect.Type, path string, doc *yaml.Node) {
				for of.Kind() == reflect.Pointer {
					of = of.Elem()
				}
				switch {
				case at.Kind == yaml.MappingNode && of.Kind() == reflect.Struct:
					at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: "nothing_known"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
					refused("an unknown key in "+path, doc, "unknown key")
					at.Content = at.Content[:len(at.Content)-2]
					keys, _ := strictyaml.Keys(of)
					for i := 0; i+1 < len(at.Content); i += 2 {
						name := at.Content[i].Value
						k := slices.IndexFunc(keys, func(k strictyaml.Key) bool { return k.Name == name })
						if k < 0 {
							t.Fatalf("%s.%s is no key", path, name)
						}
						visit(at.Content[i+1], keys[k].Type, strings.TrimPrefix(path+"."+name, "."), doc)
					}
				case at.Kind == yaml.MappingNode && of.Kind() == reflect.Slice:
					for i := 0; i+1 < len(at.Content); i += 2 {
						visit(at.Content[i+1], of.Elem(), path+"{}", doc)
					}
				case at.Kind == yaml.MappingNode: // names of the file's own
					for i := 0; i+1 < len(at.Content); i += 2 {
						if w.choices(path+"{key}") != nil {
							was := at.Content[i].Value
							at.Content[i].Value = "nonsense"
							refused("a name that is no choice in "+path, doc, "is not one of")
							at.Content[i].Value = was
						}
						visit(at.Content[i+1], of.Elem(), path+"{}", doc)
					}
				case at.Kind == yaml.SequenceNode:
					for _, c := range at.Content {
						visit(c, of.Elem(), path+"[]", doc)
					}
				default:
					was := *at
					if w.choices(path) != nil || form(path) != "" || at.Tag == "!!bool" || of.String() == "time.Duration" {
						at.Value, at.Tag, at.Style = "no such value", "!!str", yaml.DoubleQuotedStyle
						refused("nonsense at "+path, doc, "")
						*at = was
					}
					*at = yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "a"}, {Kind: yaml.ScalarNode, Value: "b"}}}
					refused("a mapping at "+path, doc, "must be")
					*at = was
				}
				seen[path] = true
			}
			doc := parseYAML(t, tt.text)
			visit(doc.Content[0], tt.of, "", doc)

			// Nothing that a file may say was left out above.
			var every func(of reflect.Type, path string)
			every = func(of reflect.Type, path string) {
				for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
					if of.Kind() == reflect.Slice && of.Elem().Kind() == reflect.Struct {
						mark := "[]"
						if _, keyed := strictyaml.Keys(of.Elem()); keyed {
							mark = "{}"
						}
						path += mark
					}
					of = of.Elem()
				}
				if of.Kind() != reflect.Struct {
					return
				}
				keys, _ := strictyaml.Keys(of)
				for _, key := range keys {
					at := strings.TrimPrefix(path+"."+key.Name, ".")
					if !seen[at] {
						t.Errorf("%s was not tried: add it to the file above", at)
					}
					every(key.Type, at)
				}
			}
			every(tt.of, "")
		})
	}
}

// A key that the schema requires is one that the parser requires.
func TestRequiredKeys(t *testing.T) {
	schema := schemaOf(t, "provider.json")
	for _, drop := range []string{`(?m)^id: .*\n`, `(?m)^name: .*\n`, `name: region, `, `name: read, `, `, keep: \{site_id: id\}`, `scopes: \[less\], `, `style: offset, `,
		`url: https://docs.whole.example, `, `checked: 2026-11-21, `, `endpoint: https://graph.whole.example/token, `, ` grant_type: exchange,`, `, param: token`} {
		text := regexp.MustCompile(drop).ReplaceAllString(whole, "")
		if text == whole {
			t.Fatalf("%s is not in the definition", drop)
		}
		if _, err := providers.Parse("whole.yaml", []byte(text), providers.User); err == nil {
			t.Errorf("without %s: the parser allows it", drop)
		}
		if err := schema.Validate(valueOf(t, parseYAML(t, text))); err == nil {
			t.Errorf("without %s: the schema allows it", drop)
		}
	}
	count := 0
	for _, s := range regexp.MustCompile(`(?m)^ *"required": \[[^\]]*\]`).FindAllString(string(generated(t, "provider.json")), -1) {
		count += strings.Count(s, `"`)/2 - 1
	}
	if count != 12 {
		t.Errorf("the schema requires %d keys, and 12 are tried", count)
	}
}

func generated(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "schema", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Every entry of the catalogue and the examples of the documents are valid, and
// every key has a word of explanation.
func TestSchemasInUse(t *testing.T) {
	provider, manifest := schemaOf(t, "provider.json"), schemaOf(t, "manifest.json")
	entries, err := filepath.Glob(filepath.Join(top, "internal", "providers", "catalog", "*.yaml"))
	if err != nil || len(entries) < 200 {
		t.Fatalf("%d entries (%v)", len(entries), err)
	}
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := provider.Validate(valueOf(t, parseYAML(t, string(text)))); err != nil {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
	for doc, schema := range map[string]*jsonschema.Schema{"providers.md": provider, "manifest.md": manifest} {
		text, err := os.ReadFile(filepath.Join(top, "docs", doc))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "<!-- example: ")
		_, rest, _ = strings.Cut(rest, "```yaml\n")
		example, _, found := strings.Cut(rest, "```")
		if !found {
			t.Fatalf("%s has no example", doc)
		}
		if err := schema.Validate(valueOf(t, parseYAML(t, example))); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
	for _, s := range []*jsonschema.Schema{provider, manifest} {
		unexplained(t, s, "")
	}
}

// unexplained reports leaves without a description.
func unexplained(t *testing.T, s *jsonschema.Schema, path string) {
	t.Helper()
	for name, p := range s.Properties {
		at := strings.TrimPrefix(path+"."+name, ".")
		if p.Description == "" && p.Properties == nil {
			t.Errorf("%s has no description: does a table in docs/ name it?", at)
		}
		unexplained(t, p, at)
		if p.Items2020 != nil {
			unexplained(t, p.Items2020, at+"[]")
		}
		if values, ok := p.AdditionalProperties.(*jsonschema.Schema); ok {
			unexplained(t, values, at+"{}")
		}
	}
	if path == "" && len(s.Properties) == 0 {
		t.Error("the schema has no keys")
	}
}
