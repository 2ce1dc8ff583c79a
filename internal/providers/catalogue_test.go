package providers_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/providers/pack"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// TestCatalogue walks over every built-in entry.
func TestCatalogue(t *testing.T) {
	c := providers.Open("")
	list, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.IDs()
	if err != nil {
		t.Fatal(err)
	}
	if len(ids) != len(list) {
		t.Errorf("%d ids, %d definitions", len(ids), len(list))
	}
	for _, want := range []string{"box", "contentful", "github", "gitlab", "google", "mapbox", "microsoft", "salesforce", "spotify", "stripe", "stripe-app"} {
		if !slices.Contains(ids, want) {
			t.Errorf("there is no entry %s", want)
		}
	}
	for i, d := range list {
		t.Run(d.ID, func(t *testing.T) {
			if d.ID != ids[i] || d.Origin != providers.BuiltIn || d.Path != "" || d.ReplacesEntry {
				t.Errorf("definition %s, id %s, origin %s, path %s", d.ID, ids[i], d.Origin, d.Path)
			}
			// An entry that rests on no page of the vendor may know less, but
			// says what it is.
			if d.Verified() {
				for _, finding := range providers.Lint(d.Provider) {
					t.Error(finding)
				}
			}
			if d.Description == "" || d.Env == "" || d.API.BaseURL == "" && len(d.API.Hosts) == 0 || len(d.Sources) == 0 {
				t.Error("the description, the variable, the API's address or the sources are missing")
			}
			pins, err := d.Pin(providers.PinOptions{ClientID: "client", HasSecret: true, Variables: needed(d)})
			if err != nil {
				t.Fatalf("it cannot be pinned with its defaults: %v", err)
			}
			for _, url := range []string{pins.AuthorizationEndpoint, pins.TokenEndpoint, pins.DeviceAuthorizationEndpoint, pins.RevocationEndpoint,
				pins.IntrospectionEndpoint, pins.UserinfoEndpoint, pins.RefreshEndpoint} {
				// An origin that is told later is checked when it is known.
				if url != "" && !strings.HasPrefix(url, "https://") && !strings.HasPrefix(url, "{") {
					t.Errorf("the endpoint %s is not https", url)
				}
			}
			if pins.Declared == nil {
				for _, host := range pins.APIHosts {
					if !pins.AllowsHost(host) {
						t.Errorf("the host %s is not in normal form", host)
					}
				}
			}
			if digest, err := c.Digest(d.ID); err != nil || digest != d.Digest || len(digest) != 64 {
				t.Errorf("digest %s, %v, want %s", digest, err, d.Digest)
			}
			if len(d.Name) > 24 || len(d.Description) > 80 {
				t.Error("the name or the description does not fit a line")
			}
			for _, scope := range d.Scopes.Catalog {
				if len(scope.Title) > 24 || len(scope.Description) > 70 {
					t.Errorf("the words of %s do not fit a line", scope.Name)
				}
			}
		})
	}
}

// needed gives a value to each variable that has no default.
func needed(d *providers.Definition) map[string]string {
	values := map[string]string{}
	for _, v := range d.Variables {
		if v.Default != "" || v.From != "" && v.From != providers.FromUser {
			continue
		}
		for _, candidate := range []string{"acme", "acme.eu", "1234567", "acme.auth.eu-west-1", "sso.acme.example"} {
			if v.Host && !strings.Contains(candidate, ".example") {
				continue
			}
			if re, err := regexp.Compile("^(?:" + v.Pattern + ")$"); v.Pattern == "" || err == nil && re.MatchString(candidate) {
				values[v.Name] = candidate
				break
			}
		}
	}
	return values
}

// choices returns the values of needed with each choice that the definition lists.
func choices(d *providers.Definition) []map[string]string {
	made := []map[string]string{needed(d)}
	for _, v := range d.Variables {
		if len(v.Values) == 0 {
			continue
		}
		var more []map[string]string
		for _, values := range made {
			for _, value := range v.Values {
				next := maps.Clone(values)
				next[v.Name] = value
				more = append(more, next)
			}
		}
		made = more
	}
	return made
}

// TestCatalogueHosts holds the hosts of every entry against a list that is read
// whenever it changes, so that a slip or a hostile change of an entry is seen:
// each host belongs to the provider. UPDATE=1 writes the list.
func TestCatalogueHosts(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, d := range list {
		var hosts []string
		for _, values := range choices(d) {
			pins := pin(t, d, providers.PinOptions{Variables: values})
			hosts = append(hosts, pins.APIHosts...)
			for _, url := range []string{pins.AuthorizationEndpoint, pins.TokenEndpoint, pins.DeviceAuthorizationEndpoint, pins.RevocationEndpoint, pins.IntrospectionEndpoint, pins.UserinfoEndpoint, pins.RefreshEndpoint} {
				if url == "" {
					continue
				}
				if pins.Declared != nil && strings.Contains(url, "{") {
					continue // told later, and held to the hosts of the API then: TestBindAPI
				}
				host, err := providers.URLHost(url)
				if err != nil {
					t.Errorf("%s: %v", d.ID, err)
				}
				hosts = append(hosts, host)
			}
		}
		slices.Sort(hosts)
		fmt.Fprintf(&got, "%s: %s\n", d.ID, strings.Join(slices.Compact(hosts), " "))
	}
	const path = "testdata/hosts.txt"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil { //nolint:gosec // a list for people
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the hosts differ from %s; UPDATE=1 writes it, read the difference:\n%s", path, got.String())
	}
}

// TestCatalogueSources: nothing of an entry rests on nothing. What is easily
// taken from memory has a source too, be it one that is marked unverified. The
// entries that people use most rest on pages of the vendor.
func TestCatalogueSources(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"box", "contentful", "github", "github-app", "gitlab", "google", "mapbox", "microsoft",
		"salesforce", "salesforce-sandbox", "spotify", "stripe", "stripe-app"} {
		if !entry(t, id).Verified() {
			t.Errorf("%s rests on nothing that was read", id)
		}
	}
	for _, d := range list {
		topics := []string{"registration"}
		if d.Placeholder != "" {
			topics = append(topics, "placeholder")
		}
		if d.Register.Page == "" {
			topics = slices.DeleteFunc(topics, func(s string) bool { return s == "registration" })
		}
		if !d.Scopes.Omit {
			topics = append(topics, "scopes")
		}
		if slices.Contains(d.Flows, providers.FlowBrowser) {
			topics = append(topics, "endpoint", "redirect", "rotation", "pkce")
		}
		if slices.Contains(d.Flows, providers.FlowDevice) {
			topics = append(topics, "device flow")
		}
		for _, topic := range topics {
			if topic == "pkce" && d.PKCE == providers.PKCENone || topic == "rotation" && d.Token.Rotates == "sometimes" {
				continue
			}
			if !slices.ContainsFunc(d.Sources, func(s providers.Source) bool { return strings.Contains(strings.Join(s.For, ", "), topic) }) {
				t.Errorf("%s: no source says what %s rests on", d.ID, topic)
			}
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUserDefinitions(t *testing.T) {
	dir := t.TempDir()
	c := providers.Open(dir)
	path := write(t, dir, "acme.yaml", minimal)
	write(t, dir, "notes.txt", "no definition")
	write(t, dir, "Bad Name.yaml", "no definition")
	d, err := c.Get("acme")
	if err != nil {
		t.Fatal(err)
	}
	if d.Origin != providers.User || d.Path != path || d.ReplacesEntry {
		t.Errorf("origin %s, path %s, replaces %v", d.Origin, d.Path, d.ReplacesEntry)
	}
	if digest, err := c.Digest("acme"); err != nil || digest != d.Digest {
		t.Errorf("digest %s, %v", digest, err)
	}
	ids, err := c.IDs()
	if err != nil || !slices.Contains(ids, "acme") || !slices.Contains(ids, "spotify") || slices.Contains(ids, "Bad Name") || !slices.IsSorted(ids) {
		t.Errorf("ids %v, %v", ids, err)
	}
}

func TestUserDefinitionReplaces(t *testing.T) {
	dir := t.TempDir()
	c := providers.Open(dir)
	builtIn, err := c.Digest("spotify")
	if err != nil {
		t.Fatal(err)
	}
	own := strings.Replace(minimal, "id: acme", "id: spotify", 1)
	path := write(t, dir, "spotify.yaml", own)
	var shadow *providers.ShadowError
	if _, err := c.Get("spotify"); !errors.As(err, &shadow) || shadow.Path != path || !strings.Contains(err.Error(), "provider add --replace") {
		t.Errorf("got %v, want a *ShadowError with the remedy", err)
	}
	write(t, dir, "spotify.yaml", own+"replaces: true\n")
	d, err := c.Get("spotify")
	if err != nil {
		t.Fatal(err)
	}
	if !d.ReplacesEntry || d.TokenEndpoint != "https://auth.acme.example/token" || d.Digest == builtIn {
		t.Errorf("replaces %v, endpoint %s", d.ReplacesEntry, d.TokenEndpoint)
	}
	if ids, err := c.IDs(); err != nil || slices.Index(ids, "spotify") < 0 || len(ids) != len(slices.Compact(slices.Clone(ids))) {
		t.Errorf("ids %v, %v", ids, err)
	}
}

func TestUserDefinitionFaults(t *testing.T) {
	dir := t.TempDir()
	c := providers.Open(dir)

	path := write(t, dir, "other.yaml", minimal)
	_, err := c.Get("other")
	var fault *strictyaml.Error
	if !errors.As(err, &fault) || fault.File != path || !strings.Contains(fault.Msg, "the file is named other.yaml") {
		t.Errorf("another id than the file's name: %v", err)
	}
	write(t, dir, "large.yaml", strings.Repeat("#\n", 200<<10))
	if _, err := c.Get("large"); !errors.As(err, &fault) || !strings.Contains(fault.Msg, "larger than 256 KiB") {
		t.Errorf("a large file: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get("folder"); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	good := write(t, dir, "acme.yaml", minimal)
	if err := os.Chmod(good, 0o666); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(good); err == nil && info.Mode().Perm()&0o002 != 0 && os.PathSeparator == '/' {
		if _, err := c.Get("acme"); err == nil || !strings.Contains(err.Error(), "can be written by everybody") {
			t.Errorf("a file that everybody may write: %v", err)
		}
	}
	// One bad file does not hide the good ones.
	list, err := c.List()
	if err == nil || !slices.ContainsFunc(list, func(d *providers.Definition) bool { return d.ID == "spotify" }) {
		t.Errorf("%d definitions, %v", len(list), err)
	}
}

func TestUnknownProvider(t *testing.T) {
	c := providers.Open(filepath.Join(t.TempDir(), "missing"))
	tests := []struct{ id, suggestion string }{
		{"spotfy", "spotify"}, {"GitHub", "github"}, {"gitlab.com", ""}, {"", ""}, {"../../etc/passwd", ""}, {"spotify.yaml", ""}, {"a/b", ""}, {"nul\x00", ""},
	}
	for _, test := range tests {
		for _, get := range []func(string) error{
			func(id string) error { _, err := c.Get(id); return err },
			func(id string) error { _, err := c.Digest(id); return err },
		} {
			var unknown *providers.UnknownError
			if err := get(test.id); !errors.As(err, &unknown) || unknown.ID != test.id || test.suggestion != "" && unknown.Suggestion != test.suggestion {
				t.Errorf("%q: got %v, want an *UnknownError suggesting %q", test.id, err, test.suggestion)
			}
		}
	}
}

// TestCatalogueIsPacked: the files of the catalogue are what is built in.
func TestCatalogueIsPacked(t *testing.T) {
	files, err := pack.Folder("catalog", ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := providers.Open("")
	ids, err := c.IDs()
	if err != nil {
		t.Fatal(err)
	}
	const renew = "renew catalog.pack with go run ./internal/cli/gen"
	for _, id := range ids {
		if _, ok := files[id]; !ok {
			t.Errorf("%s is built in, and there is no file: %s", id, renew)
		}
	}
	for id, text := range files {
		digest, err := c.Digest(id)
		if sum := sha256.Sum256(text); err != nil || digest != hex.EncodeToString(sum[:]) {
			t.Errorf("%s.yaml is not what is built in (%v): %s", id, err, renew)
		}
	}
}
