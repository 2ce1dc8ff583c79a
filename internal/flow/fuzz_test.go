package flow

import (
	"net/url"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// Whatever comes as an authorization response: it is accepted only with the
// right state, given once, from the right issuer, with a code or an error and
// never both.
func FuzzResponse(f *testing.F) {
	const state, issuer = "s3cret-state", "https://issuer.example"
	f.Add("code=c&state=" + state + "&iss=" + url.QueryEscape(issuer))
	f.Add("error=access_denied&error_description=%1b[31m&state=" + state)
	f.Add("code=c&code=d&state=" + state)
	f.Add("code=c;state=" + state)
	f.Add("code=c&device=d%26code=x&state=" + state)
	f.Add("%zz=1")
	f.Fuzz(func(t *testing.T, query string) {
		e := expectation{provider: "P", state: state, issuer: issuer, extra: map[string]string{"shop": "shop"}}
		wants := strings.Contains(query, "device")
		if wants {
			e.sends = []string{"device", "state"}
		}
		got, why := e.read(query)
		if why != "" {
			if !got.code.IsZero() || got.denied != nil || len(got.sends) > 0 {
				t.Fatal("a refused response carries something")
			}
			return
		}
		v, err := url.ParseQuery(query)
		if err != nil || len(v["state"]) != 1 || v.Get("state") != state || len(v["iss"]) > 1 || v.Has("iss") && v.Get("iss") != issuer {
			t.Fatalf("accepted %q", query)
		}
		if got.code.IsZero() == (got.denied == nil) || v.Has("code") && v.Has("error") {
			t.Fatalf("accepted neither or both: %q", query)
		}
		if !got.code.IsZero() && got.code.Reveal() != v.Get("code") {
			t.Fatal("the code was changed")
		}
		if wants && !got.code.IsZero() && (len(got.sends) != 1 || got.sends["device"] == "" || got.sends["device"] != v.Get("device") || !printable(got.sends["device"])) {
			t.Fatalf("%q is sent again as %q", query, got.sends)
		}
		if got.denied != nil && strings.ContainsFunc(got.denied.Error(), func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0x202e }) {
			t.Fatalf("the refusal is not clean: %q", got.denied.Error())
		}
	})
}

// A paste never ends the flow by itself and is never repeated.
func FuzzPaste(f *testing.F) {
	const redirect, state = "http://127.0.0.1:8123/callback/p", "s3cret-state"
	f.Add(redirect + "?code=c&state=" + state)
	f.Add("127.0.0.1:8123/callback/p?code=c&state=" + state)
	f.Add("https://issuer.example/authorize?client_id=c")
	f.Add("\x1b[200~x")
	f.Fuzz(func(t *testing.T, text string) {
		g := &login{a: Attempt{Provider: &providers.Provider{}}, redirect: redirect, url: "https://issuer.example/authorize", expect: expectation{state: state}}
		got, why, err := g.paste(line{text: text})
		if err != nil {
			t.Fatalf("ended by %q: %v", text, err)
		}
		if got != nil && (why != "" || !strings.Contains(text, state) || !strings.Contains(strings.ToLower(text), "127.0.0.1:8123")) {
			t.Fatalf("accepted %q", text)
		}
		if len(text) > 40 && !strings.Contains(redirect, text) && strings.Contains(why, text) {
			t.Fatalf("repeated %q", text)
		}
	})
}

// Redirect URIs come from definition files.
func FuzzRedirect(f *testing.F) {
	f.Add("http://127.0.0.1:*/callback/p", 0)
	f.Add("http://localhost:1717/OauthRedirect", 8080)
	f.Add("https://app.example/cb", 1)
	f.Fuzz(func(t *testing.T, raw string, port int) {
		r, err := parseRedirect(raw, port)
		if err != nil {
			return
		}
		u, err := url.Parse(r.at(8123))
		if err != nil || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
			t.Fatalf("%q became %q", raw, r.at(8123))
		}
		if r.local && (u.Port() != "8123" || u.Hostname() != "127.0.0.1" && u.Hostname() != "::1" && u.Hostname() != "localhost") {
			t.Fatalf("%q leads to %q", raw, r.at(8123))
		}
	})
}
