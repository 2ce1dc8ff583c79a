package apicall

import (
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func TestAddress(t *testing.T) {
	pins := &providers.Pins{APIBase: "https://api.example.com/v4", APIHosts: []string{"api.example.com"}}
	for path, want := range map[string]string{
		"projects/group%2Fname":                 "https://api.example.com/v4/projects/group%2Fname",
		"/me?a=b%2Fc&d=https://x.example/#f":    "https://api.example.com/v4/me?a=b%2Fc&d=https://x.example/",
		"people:search":                         "https://api.example.com/v4/people:search",
		"https://api.example.com/v5/x":          "https://api.example.com/v5/x",
		"https://API.example.com:443/v5/%2e%":   "",
		"":                                      "https://api.example.com/v4/",
		"//api.example.com/me":                  "",
		"../v5/me":                              "",
		"x/%2e%2e/%2E%2E/y":                     "",
		`\\evil.example\me`:                     "",
		"https://api.example.com@evil.example/": "",
		"https://evil.example/":                 "",
		"https://api.example.com.evil.example/": "",
		"https://api.example.com:8443/":         "",
		"http://api.example.com/":               "",
		"https://user@api.example.com/":         "",
	} {
		got, err := Address(pins, path)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was taken as %s", path, got)
		case want != "" && err != nil:
			t.Errorf("%q: %v", path, err)
		case want != "" && got.String() != want:
			t.Errorf("%q is %s, want %s", path, got, want)
		}
	}
}
