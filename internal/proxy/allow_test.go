package proxy

import (
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	rules, err := ParseRules([]string{"GET /v1/me", "POST /v1/items/*", "* /free*", "GET /a%20b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path string
		want         bool
	}{
		{"GET", "/v1/me", true},
		{"GET", "/v1/%6de", true},
		{"POST", "/v1/me", false},
		{"HEAD", "/v1/me", false},
		{"get", "/v1/me", false},
		{"GET", "/v1/ME", false},
		{"GET", "/v1/me/", false},
		{"GET", "/v1/me2", false},
		{"GET", "/v1", false},
		{"POST", "/v1/items/", true},
		{"POST", "/v1/items/1/tags", true},
		{"POST", "/v1/items", false},
		{"GET", "/v1/items/1", false},
		{"DELETE", "/free", true},
		{"GET", "/freedom/x", true},
		{"GET", "/a%20b", true},
		{"GET", "/a b", true},
		{"GET", "/", false},
		{"GET", "", false},
		{"GET", "v1/me", false},
	} {
		if got := rules.Allow(c.method, c.path); got != c.want {
			t.Errorf("%s %s: allowed %v, want %v", c.method, c.path, got, c.want)
		}
	}
}

// ambiguous are paths that a server behind us could read as another path.
func ambiguous() []string {
	return []string{
		"/free/../v1/me", "/free/..", "/free/.", "/free/./x", "/free/%2e%2e/v1", "/free/%2E./v1", "/free/.%2e/v1",
		"/free/%252e%252e/v1", "/free//x", "//free", "/free/%2fx", "/free/%2Fx", "/free/%5cx", `/free/\x`, `/free\..\x`,
		"/free/%00", "/free/\x00", "/free/%0d%0ax", "/free/%7f", "/free/..;/v1", "/free/.;x/v1", "/free/%2e%2e;a=b/v1",
		"/free/%ff", "/free/%c0%ae%c0%ae/v1", "/free/%", "/free/%2", "/free/%zz", "/free/%+1", "/free/%C2%85",
	}
}

func TestAmbiguousPathsAreNeverAllowed(t *testing.T) {
	rules, err := ParseRules([]string{"* /*", "* /free*"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ambiguous() {
		if rules.Allow("GET", p) {
			t.Errorf("%q is allowed", p)
		}
		if !(Rules{}).Allow("GET", p) {
			t.Errorf("%q is refused although there are no rules", p)
		}
	}
	for _, p := range []string{"/free/...", "/free/a..b", "/free/.well-known", "/free/;x", "/free/a;b=1", "/free/%20", "/free/%C3%A9", "/free/@:!$&'()*+,=~"} {
		if !rules.Allow("GET", p) {
			t.Errorf("%q is refused", p)
		}
	}
}

func TestRuleFaults(t *testing.T) {
	for pattern, want := range map[string]string{
		"":              "one blank",
		"/v1/me":        "one blank",
		"get /v1":       "in capitals",
		" /v1":          "in capitals",
		"GET,POST /v1":  "in capitals",
		"GET v1":        "begins with /",
		"GET  /v1":      "begins with /",
		"GET /v1 x":     "no blanks",
		"GET /v1?x":     "no blanks",
		"GET /a*b":      "only at the end",
		"GET /a**":      "only at the end",
		"GET /a/../b":   "different ways",
		"GET /a%2fb":    "different ways",
		"GET /a//b":     "different ways",
		"GET /\x1b[31m": "different ways",
	} {
		_, err := ParseRules([]string{"GET /fine", pattern})
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsRune(err.Error(), 0x1b) {
			t.Errorf("%q: %v, want it to say %q", pattern, err, want)
		}
	}
}

// FuzzRules holds what a rule allows against another reading of the path: however
// often it is decoded and then cleaned, it lies below the rule's.
func FuzzRules(f *testing.F) {
	for _, p := range ambiguous() {
		f.Add(p)
	}
	f.Add("/free/a%20b;c")
	f.Fuzz(func(t *testing.T, p string) {
		rules, err := ParseRules([]string{"GET /free/*"})
		if err != nil {
			t.Fatal(err)
		}
		if !rules.Allow("GET", p) {
			return
		}
		for decoded := p; ; {
			if clean := path.Clean(decoded) + "/"; !strings.HasPrefix(clean, "/free/") {
				t.Fatalf("%q is allowed and leads to %q", p, clean)
			}
			next, err := url.PathUnescape(decoded)
			if err != nil || next == decoded {
				return
			}
			decoded = next
		}
	})
}

// A request that names its method or path a second time, for APIs that follow
// that, would be another one than the rules allow.
func TestRulesAreNotEvaded(t *testing.T) {
	some, err := ParseRules([]string{"POST /v1/*"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ query, header, place string }{
		{"", "X-HTTP-Method-Override: DELETE", "the header X-Http-Method-Override"},
		{"", "x_http_method_override: DELETE", "the header X-Http-Method-Override"},
		{"", "X-HTTP-Method: MERGE", "the header X-Http-Method"},
		{"", "X-Method-Override: DELETE", "the header X-Method-Override"},
		{"", "X-Original-URL: /admin", "the header X-Original-Url"},
		{"", "X-Rewrite-URL: /admin", "the header X-Rewrite-Url"},
		{"a=b&_method=DELETE", "Accept: */*", "the parameter _method"},
		{"%5Fmethod=DELETE", "Accept: */*", "the parameter _method"},
		{"a=b;_method=DELETE", "Accept: */*", "the parameter _method"},
		{"method=DELETE&a=_method", "X-Method: DELETE", ""},
	} {
		r := httptest.NewRequest("POST", "/v1/x?"+tt.query, nil)
		name, value, _ := strings.Cut(tt.header, ": ")
		r.Header.Set(name, value)
		if got := some.evaded(r); got != tt.place {
			t.Errorf("%s ?%s: %q, want %q", tt.header, tt.query, got, tt.place)
		}
		if got := (Rules{}).evaded(r); got != "" {
			t.Errorf("without rules: %q", got)
		}
	}
}
