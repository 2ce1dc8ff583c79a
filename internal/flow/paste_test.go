package flow_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/flow"
)

// give pastes one line and waits until the flow has read it.
func (r *running) give(s string) {
	r.t.Helper()
	select {
	case r.paste <- s:
	case <-r.done:
		r.t.Fatalf("the flow ended before it read the paste: %v", r.err)
	}
}

func TestPaste(t *testing.T) {
	for name, uri := range map[string]string{
		"https redirect":    "https://app.example/oauth/receive",
		"https, bare host":  "https://app.example",
		"https, here":       "https://localhost/callback/acme",
		"loopback redirect": "http://127.0.0.1:*/callback/acme",
		"localhost, fixed":  "http://localhost:8123/callback/acme",
	} {
		t.Run(name, func(t *testing.T) {
			a := attempt()
			a.Pins.RedirectURI = uri
			a.Flow = flow.FlowPaste
			r := begin(t, a, true)
			if r.redirect.Scheme == "http" {
				if status, _, _ := r.browse(r.final(), nil); status != 0 {
					t.Errorf("somebody answers at the redirect URI with %d, though only a paste is waited for", status)
				}
			}
			r.give("") // by then everything has been said
			// A page that does not load would be taken for a failure.
			here := !strings.Contains(uri, "app.example")
			if said := strings.Join(strings.Fields(r.output()), " "); strings.Contains(said, "cannot open a page of "+r.redirect.Hostname()+", and that is right") != here {
				t.Errorf("it says %q", said)
			}
			r.give(r.final())
			r.wantCode(flow.FlowPaste)
		})
	}
}

// Wrong input is named, never repeated, and waiting goes on.
func TestWrongPastes(t *testing.T) {
	a := attempt()
	a.Pins.RedirectURI = "https://app.example/oauth/receive"
	a.Pins.IssParameterSupported = true
	r := begin(t, a, true)
	state := r.query.Get("state")
	cases := []struct{ name, in, names string }{
		{"no address", "canary-hello", "not an address"},
		{"bare code", code, "not an address"},
		{"blanks inside", "canary hello", "blank"},
		{"control character", "https://canary\x1b[31m", "control"},
		{"the start address", r.authURL.String(), "starts the login"},
		{"another host", strings.Replace(r.final(), "app.example", "canary.example", 1), "begins with https://app.example/oauth/receive"},
		{"host that begins right", strings.Replace(r.final(), "app.example", "app.example.canary.example", 1), "begins with"},
		{"host with a user", strings.Replace(r.final(), "app.example", "canary@app.example", 1), "begins with"},
		{"by http", strings.Replace(r.final(), "https:", "http:", 1), "begins with"},
		{"another port", strings.Replace(r.final(), "app.example", "app.example:444", 1), "begins with"},
		{"another path", strings.Replace(r.final(), "receive", "canary", 1), "begins with"},
		{"no query", "https://app.example/oauth/receive", "no code"},
		{"token behind a hash", "https://app.example/oauth/receive#access_token=canary", "token behind a #"},
		{"another login", r.final("state", "canary"), "another login"},
		{"no state", r.final("state", "-"), "no state"},
		{"no code", r.final("code", "-"), "neither a code nor an error"},
		{"repeated state", r.final() + "&state=" + state, "twice"},
		{"foreign issuer", r.final("iss", "https://honest.example"), "another issuer"},
		{"no issuer though announced", r.final("iss", "-"), "name the issuer"},
		{"error and code", r.final("error", "access_denied"), "a code and an error"},
		{"too long", r.final() + strings.Repeat("x", 64<<10), "64 KiB"},
		{"broken address", "https://app.example/%zz?canary", "cannot be read"},
	}
	for _, c := range cases {
		before := len(r.output())
		r.give(c.in)
		r.give("") // the flow reads again: it has said what was wrong
		said := strings.ReplaceAll(r.output()[before:], "\n", " ")
		if !strings.Contains(said, c.names) || !strings.Contains(said, "Still waiting") {
			t.Errorf("%s: said %q, want %q in it", c.name, said, c.names)
		}
		if strings.Contains(said, "canary") || strings.Contains(said, state) || strings.Contains(said, "honest") {
			t.Errorf("%s: what was pasted is repeated: %q", c.name, said)
		}
	}
	r.give("  <" + r.final() + ">\t")
	r.wantCode(flow.FlowPaste)
}

func TestPasteForms(t *testing.T) {
	for name, form := range map[string]func(string) string{
		"as it is":   func(s string) string { return s },
		"quotes":     func(s string) string { return `"` + s + `"` },
		"no scheme":  func(s string) string { return strings.TrimPrefix(s, "http://") },
		"a fragment": func(s string) string { return s + "#_=_" },
		"host in capitals": func(s string) string {
			return strings.Replace(s, "localhost", "LOCALHOST", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := attempt()
			a.Pins.RedirectURI = "http://localhost:*/callback/acme"
			r := begin(t, a, true)
			r.give(form(r.final()))
			r.wantCode(flow.FlowPaste)
		})
	}
}

func TestPasteOfARefusal(t *testing.T) {
	r := begin(t, attempt(), true)
	r.give(r.final("code", "-", "error", "access_denied"))
	<-r.done
	if denied, ok := errors.AsType[*flow.DeniedError](r.err); !ok || denied.Code != "access_denied" {
		t.Errorf("%v, want a DeniedError", r.err)
	}
}

func TestBareCode(t *testing.T) {
	a := attempt()
	a.Pins.RedirectURI = "https://app.example/code"
	a.Provider.PasteCode = true
	r := begin(t, a, true)
	r.give("code=canary&state=canary")
	r.give(code)
	r.wantCode(flow.FlowPaste)

	a.Pins.IssParameterSupported = true
	r = begin(t, a, true)
	r.give(code)
	r.give("")
	if !r.waiting() || !strings.Contains(strings.ReplaceAll(r.output(), "\n", " "), "whole address") {
		t.Errorf("a bare code passed where the issuer must be named: %s", r.output())
	}
	r.give(r.final())
	r.wantCode(flow.FlowPaste)
}

// Listener and terminal side by side: whichever is first wins, once.
func TestPasteBesideTheListener(t *testing.T) {
	r := begin(t, attempt(), true)
	r.browse(r.final("state", "wrong"), nil)
	r.give("nonsense")
	r.browse(r.final(), nil)
	r.wantCode(flow.FlowBrowser)

	r = begin(t, attempt(), true)
	r.give(r.final())
	r.wantCode(flow.FlowPaste)
	if status, _, _ := r.browse(r.final(), nil); status != 0 {
		t.Errorf("the listener still answers with %d", status)
	}
}

func TestPasteRace(t *testing.T) {
	for range 20 {
		r := begin(t, attempt(), true)
		go func() {
			select {
			case r.paste <- r.final():
			case <-r.done:
			}
		}()
		address := r.final()
		go func() {
			if resp, err := http.Get(address); err == nil { //nolint:gosec,noctx // the browser of this test
				_ = resp.Body.Close()
			}
		}()
		<-r.done
		if r.err != nil || formOf(r.result.Request)["code"] != code {
			t.Fatalf("no result: %v", r.err)
		}
	}
}

func TestEndOfInput(t *testing.T) {
	r := begin(t, attempt(), true)
	close(r.paste)
	r.browse(r.final(), nil)
	r.wantCode(flow.FlowBrowser)

	a := attempt()
	a.Flow = flow.FlowPaste
	r = begin(t, a, true)
	close(r.paste)
	<-r.done
	if !errors.Is(r.err, flow.ErrNoTerminal) || errors.Is(r.err, io.EOF) {
		t.Errorf("%v, want ErrNoTerminal", r.err)
	}
}
