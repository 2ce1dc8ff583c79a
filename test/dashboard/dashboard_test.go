//go:build unix

package dashboard

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apiauth/apiauth/test/peers"
)

// definition describes the certified issuer.
func definition(is *peers.IssuerProc) string {
	u, _ := url.Parse(is.URL)
	return fmt.Sprintf(`id: peer
name: Peer
description: A certified issuer on this machine
issuer: %[1]s
authorization_endpoint: %[1]s/auth
token_endpoint: %[1]s/token
revocation_endpoint: %[1]s/token/revocation
userinfo_endpoint: %[1]s/me
authorization_response_iss_parameter_supported: true
token_endpoint_auth_method: %[2]s
flows: [browser]
redirect_uri: http://127.0.0.1:*/callback/peer
scopes:
  required: [openid]
  default: [profile, offline_access]
  catalog:
    - {name: openid, title: Sign in, category: Account}
    - {name: profile, title: Your name, category: Account}
    - {name: offline_access, title: Stay connected, category: Account}
    - {name: "api:read", title: Read, description: "Reads <everything> & more", category: API}
    - {name: "api:write", title: Write, category: API, broad: true}
token: {rotates: always}
identity: {subject: sub, label: "name,sub"}
api: {base_url: %[3]s, hosts: ["%[4]s"]}
env: PEER_ACCESS_TOKEN
revocation: {style: rfc7009}
allow_insecure_loopback: true
`, is.URL, is.Post.Method, strings.TrimSuffix(is.API, "/"), u.Host)
}

// world is a project that needs a connection, a running dashboard and a browser.
func world(t *testing.T) (*person, *peers.IssuerProc, *server, *browser) {
	t.Helper()
	b := newBrowser(t)
	is := peers.Issuer(t, peers.IssuerOptions{})
	p := newPerson(t)
	p.must("", "provider", "add", p.write("definition.yaml", definition(is)), "--yes")
	p.must("", "project", "init", "peer", "--label", "My <b>shop</b>")
	p.write("apiauth.yaml", "project: My <b>shop</b>\nconnections:\n  peer:\n    provider: peer\n    scopes: [openid, \"api:read\"]\n")
	return p, is, p.dashboard(), b
}

// a person registers a client, connects with chosen scopes, sees it live,
// changes the scopes, ends a leaked token and disconnects, and no answer holds a
// token or a secret. The pages are looked at in both schemes and at three widths.
func TestJourney(t *testing.T) {
	t.Parallel()
	p, is, s, b := world(t)
	var pictures string
	if os.Getenv("APIAUTH_TEST_ARTIFACTS") != "" {
		pictures = peers.Artifacts(t)
	}
	look := func(name string) {
		t.Helper()
		for _, found := range get[[]string](b, "look", name, pictures, []int{360, 768, 1440}) {
			t.Errorf("%s: %s", name, found)
		}
	}
	if got := get[int](b, "open", s.link); got != 200 {
		t.Fatalf("the link: status %d", got)
	}
	b.do("see", "h1", "Connections")
	b.do("see", ".card", "not connected")

	// The client, with its secret.
	b.do("click", ".card a.button")
	b.do("see", ".notice", "No client is stored")
	b.do("see", "dd code", "http://127.0.0.1/callback/peer")
	b.do("fill", "#id", is.Post.ID)
	b.do("fill", "#secret", is.Post.Secret.Reveal())
	b.do("click", "form[action=client] button")
	b.do("see", ".notice", "Stored client")
	b.do("see", "td code", is.Post.ID)
	look("clients")

	// Connect with chosen scopes.
	b.do("open", s.base+"provider?id=peer&connection=peer")
	for selector, want := range map[string]bool{"[value=openid]": true, `[value="api:read"]`: true, `[value="api:write"]`: false} {
		if got := get[bool](b, "checked", selector); got != want {
			t.Errorf("%s is ticked: %v", selector, got)
		}
	}
	if err := b.try(nil, "see", "[value=openid][disabled]", ""); err != nil {
		t.Errorf("a required scope can be unticked: %v", err)
	}
	look("provider")
	b.do("check", "[value=offline_access]")
	b.do("check", `[value="api:write"]`)
	b.do("uncheck", "[value=profile]")
	b.do("click", "button.primary")
	b.do("see", ".login a", "Log in at Peer")
	look("login")
	asked := strings.Fields(get[string](b, "login", ".login a"))
	slices.Sort(asked)
	if want := []string{"api:read", "api:write", "offline_access", "openid"}; !slices.Equal(asked, want) {
		t.Errorf("the issuer was asked for %q, not for %q", asked, want)
	}
	b.do("see", ".login.done", "peer is connected")
	b.do("see", ".card .state.ok", "connected")
	b.do("see", ".card tr", "api:write not needed broad")
	b.do("see", "#spoken", "peer is connected")
	look("connections")
	first := strings.TrimSpace(p.must("", "token", "peer"))

	// What another process does is seen without a reload.
	p.must("", "token", "peer", "--refresh")
	b.do("see", "#live dt", "Last refresh")
	second := strings.TrimSpace(p.must("", "token", "peer"))

	// Change the scopes.
	b.do("click", ".login button")
	b.do("gone", ".login")
	b.do("click", "#connect-peer")
	b.do("uncheck", `[value="api:write"]`)
	b.do("click", "button.primary")
	if asked := get[string](b, "login", ".login a"); strings.Contains(asked, "api:write") || !strings.Contains(asked, "api:read") {
		t.Errorf("the issuer was asked for %q", asked)
	}
	b.do("see", ".login.done", "peer is connected")
	if status := p.must("", "status", "--json"); strings.Contains(status, "api:write") {
		t.Error("the scope that was taken away is still there")
	}
	third := strings.TrimSpace(p.must("", "token", "peer"))

	// Keys alone lead to every page.
	b.do("open", s.base)
	b.do("press", "Tab")
	if got := get[string](b, "focused"); got != "Skip to the content" {
		t.Errorf("the first stop of the Tab key is %q", got)
	}
	b.do("press", "Tab", "Tab", "Enter")
	b.do("see", "h1", "Providers")
	b.do("fill", "#q", "spotify")
	b.do("press", "Enter")
	b.do("see", ".providers a", "Spotify")
	look("providers")

	// The log, drawn and in words.
	b.do("click", "nav a[href=log]")
	b.do("see", "figure", "Tokens handed out each day")
	b.do("see", "tbody tr", "token")
	b.do("see", ".proof li", "peer: the log is complete: 6 lines")
	look("log")

	// A client secret that leaked is told what it is; a token is ended.
	b.do("open", s.base+"leak")
	look("leak")
	b.do("fill", "#token", third)
	b.do("click", "button.danger")
	b.do("see", "h1", "Leaked token")
	b.do("see", ".notice[role=status]", "peer")
	if is.Stats(t).Revoked == 0 {
		t.Error("the leaked token was not revoked")
	}

	// Disconnect a fresh one.
	b.do("open", s.base+"provider?id=peer&connection=peer")
	b.do("click", "button.primary")
	_ = get[string](b, "login", ".login a")
	b.do("see", ".login.done", "peer is connected")
	b.do("click", "#disconnect-peer")
	look("disconnect")
	b.do("click", "button.danger")
	b.do("see", ".notice", "Disconnected peer: forgotten here and revoked at peer")
	b.do("see", ".card .state", "not connected")

	type seen struct {
		Origins, Errors []string
		Bodies          string
	}
	saw := get[seen](b, "seen")
	for name, value := range map[string]string{"first token": first, "second token": second, "third token": third, "client secret": is.Post.Secret.Reveal()} {
		if value == "" || strings.Contains(saw.Bodies, value) || strings.Contains(s.text(), value) {
			t.Errorf("the %s stands in an answer", name)
		}
	}
	if !strings.Contains(saw.Bodies, "My &lt;b&gt;shop") {
		t.Error("the answers were not looked at, or a label is not escaped")
	}
	for _, e := range saw.Errors {
		t.Errorf("the browser's console: %s", e)
	}
	u, _ := url.Parse(s.base)
	is1, _ := url.Parse(is.URL)
	for _, origin := range saw.Origins {
		host := strings.TrimPrefix(origin, "http://")
		if host != u.Host && host != is1.Host && !strings.HasPrefix(host, "127.0.0.1:") {
			t.Errorf("something was asked of %s", origin)
		}
	}
	_ = s.stop()
}

// What a person types is taken: a static key, and the final address of a login
// whose last page does not load. Neither comes back in any answer. The log is
// proven, and a change is told with its place.
func TestTyping(t *testing.T) {
	t.Parallel()
	p, is, s, b := world(t)
	var pictures string
	if os.Getenv("APIAUTH_TEST_ARTIFACTS") != "" {
		pictures = peers.Artifacts(t)
	}
	p.must(is.Post.Secret.Reveal()+"\n", "client", "set", "peer", "--client-id", is.Post.ID, "--client-secret-stdin")
	look := func(name string) {
		t.Helper()
		for _, found := range get[[]string](b, "look", name, pictures, []int{360, 1440}) {
			t.Errorf("%s: %s", name, found)
		}
	}
	b.do("open", s.link)
	b.do("see", "h1", "Connections")

	const key = "sk-proj-a-key-that-nobody-may-see-again-0123456789"
	b.do("open", s.base+"provider?id=openai")
	look("key")
	b.do("fill", "#key", key)
	b.do("fill", "#expires", "2099-01-31")
	b.do("click", "button.primary")
	b.do("see", ".login.done", "openai is connected")
	b.do("see", ".card dd", "until 2099-01-31")
	b.do("see", "#connect-openai", "Replace the key")
	if got := strings.TrimSpace(p.must("", "token", "openai")); got != key {
		t.Error("another key is stored")
	}
	// What is renewed meanwhile takes no click away.
	manifest, err := os.ReadFile(filepath.Join(p.dir, "apiauth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	clicked := func(key ...any) {
		t.Helper()
		b.do(append([]any{"down", ".login button"}, key...)...)
		b.do("press", "Shift") // another key ends nothing
		p.write("apiauth.yaml", string(manifest)+"  meanwhile:\n    provider: peer\n")
		b.do("news")
		b.do(append([]any{"up"}, key...)...)
		b.do("gone", ".login")
		b.do("see", ".card h3", "meanwhile")
		p.write("apiauth.yaml", string(manifest))
	}
	clicked()
	b.do("open", s.base+"provider?id=openai")
	b.do("fill", "#key", key)
	b.do("click", "button.primary")
	b.do("see", ".login.done", "openai is connected")
	clicked("Space")

	b.do("open", s.base+"provider?id=peer&connection=peer")
	b.do("click", "button.primary")
	b.do("see", ".login a", "Log in at Peer")
	b.do("see", ".login label", "paste its whole address for peer")
	look("paste")
	b.do("fill", "#address-peer", "http://127.0.0.1:1/callback/peer?code=wrong&state=wrong")
	b.do("click", "#paste-peer")
	b.do("click", "summary")
	b.do("see", ".login li", "Still waiting.")
	// What is typed outlives what the script replaces.
	b.do("fill", "#address-peer", "half an address")
	p.must("", "token", "openai")
	p.must("", "rename", "openai", "other-name")
	b.do("see", ".card h3", "other-name")
	if got := get[string](b, "value", "#address-peer"); got != "half an address" {
		t.Errorf("typed was %q when the list was renewed", got)
	}
	person := peers.Visitor{Stay: true}
	landing, err := person.Visit(t.Context(), get[string](b, "href", ".login a"))
	if err != nil || !strings.Contains(landing.URL, "code=") {
		t.Fatalf("the login ended at status %d, %v", landing.Status, err)
	}
	b.do("fill", "#address-peer", landing.URL)
	b.do("click", "#paste-peer")
	b.do("see", ".login.done", "peer is connected")

	b.do("open", s.base+"log")
	b.do("see", ".proof li", "other-name: the log is complete: 5 lines")
	found, err := filepath.Glob(filepath.Join(p.home, ".local", "state", "apiauth", "stores", "*", "*", "other-name.log"))
	if err != nil || len(found) != 1 {
		t.Fatalf("logs: %v, %v", found, err)
	}
	doc, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(found[0], []byte(strings.Replace(string(doc), "\"e\":\"token\"", "\"e\":\"taken\"", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	b.do("open", s.base+"log")
	b.do("see", ".proof li", "other-name: the log is broken at other-name.log:2: its code is wrong")
	look("broken")

	type seen struct{ Bodies string }
	saw := get[seen](b, "seen")
	code := strings.TrimPrefix(landing.URL[strings.Index(landing.URL, "code="):], "code=")
	code, _, _ = strings.Cut(code, "&")
	for name, value := range map[string]string{"key": key, "code": code, "token": strings.TrimSpace(p.must("", "token", "peer"))} {
		if value == "" || strings.Contains(saw.Bodies, value) || strings.Contains(s.text(), value) {
			t.Errorf("the %s stands in an answer", name)
		}
	}
	_ = s.stop()
}

// refused without the link, for a link used twice, for a foreign Host or
// Origin, in a frame and without the token of the form; the cookie is not sent to
// another port.
func TestRefusals(t *testing.T) {
	t.Parallel()
	p, _, s, b := world(t)
	u, err := url.Parse(s.base)
	if err != nil {
		t.Fatal(err)
	}
	origin := "http://" + u.Host
	var cookie string
	status := func(method, address, body string, headers ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			if headers[i] == "Host" {
				req.Host = headers[i+1]
			} else {
				req.Header.Set(headers[i], headers[i+1])
			}
		}
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if c := res.Cookies(); len(c) > 0 {
			cookie = c[0].Name + "=" + c[0].Value
		}
		return res.StatusCode
	}
	paths := []string{"", "style.css", "page.js", "live", "clients", "leak", "provider?id=peer", "enter", "enter?code=0123", "nothing"}
	for _, path := range paths {
		if got := status("GET", s.base+path, ""); got != 401 {
			t.Errorf("%q without the cookie: %d", path, got)
		}
	}
	for _, path := range []string{"/", "/style.css", "/favicon.ico", strings.TrimSuffix(u.Path, "/")} {
		if got := status("GET", origin+path, ""); got != 401 {
			t.Errorf("%q without the secret: %d", path, got)
		}
	}
	for range 2 {
		if got := status("GET", s.link, "", "Host", "evil.example"); got != 421 {
			t.Errorf("the link with a foreign Host: %d", got)
		}
	}
	if got := status("GET", s.link, ""); got != 200 || cookie == "" {
		t.Fatalf("the link: %d", got)
	}
	if got := status("GET", s.link, ""); got != 401 {
		t.Errorf("the link for the second time: %d", got)
	}
	if got := status("GET", s.base, "", "Cookie", cookie); got != 200 {
		t.Fatalf("with the cookie: %d", got)
	}
	for name, c := range map[string]struct {
		want    int
		headers []string
	}{
		"foreign Host":            {421, []string{"Host", "evil.example:" + u.Port(), "Origin", origin}},
		"localhost for 127.0.0.1": {421, []string{"Host", "localhost:" + u.Port(), "Origin", origin}},
		"foreign Origin":          {403, []string{"Origin", "http://127.0.0.1:1"}},
		"Origin null":             {403, []string{"Origin", "null"}},
		"no Origin":               {403, nil},
		"no token of the form":    {403, []string{"Origin", origin}},
		"JSON":                    {415, []string{"Origin", origin, "Content-Type", "application/json"}},
	} {
		for _, action := range []string{"connect", "paste", "giveup", "disconnect", "client", "revoke"} {
			body := url.Values{"name": {"peer"}, "csrf": {"00000000000000000000000000000000"}}.Encode()
			if got := status("POST", s.base+action, body, append([]string{"Cookie", cookie}, c.headers...)...); got != c.want {
				t.Errorf("%s, %s: %d, want %d", action, name, got, c.want)
			}
		}
	}
	if got := status("PUT", s.base, "", "Cookie", cookie); got != 405 {
		t.Errorf("PUT: %d", got)
	}

	// The same in a browser that has the cookie.
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>evil</title><body>evil"))
	}))
	defer evil.Close()
	second := p.dashboard()
	b.do("open", second.link)
	b.do("see", "h1", "Connections")
	if got := get[int](b, "elsewhere"); got != 0 {
		t.Errorf("the cookie was sent to another port %d times", got)
	}
	if got := get[string](b, "framed", evil.URL, second.base); strings.Contains(got, "Connections") {
		t.Error("the page shows in a frame")
	}
	if got := get[int](b, "postFrom", evil.URL, second.base+"disconnect", map[string]string{"name": "peer"}); got != 403 {
		t.Errorf("a form of another origin: %d", got)
	}
	if got := get[any](b, "fetch", "live", map[string]string{}); got != float64(200) {
		t.Errorf("a fetch of our own: %v", got)
	}
}

// Where a browser may be opened it is given a file that only its owner can read,
// and that leads to the page.
func TestOpensByAFile(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	p := newPerson(t)
	told := filepath.Join(p.home, "opened")
	if err := syscall.Mkfifo(told, 0o600); err != nil {
		t.Fatal(err)
	}
	opener := filepath.Join(p.home, "opener")
	if err := os.WriteFile(opener, []byte("#!/bin/sh\nprintf %s \"$1\" > "+told+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	cmd := p.command(ctx, "dashboard", "--idle", "2s")
	cmd.Env = append(cmd.Env, "BROWSER="+opener)
	s := &server{cmd: cmd, ended: make(chan error, 1)}
	cmd.Stderr = s
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = s.stop() })
	opened := make(chan string, 1)
	go func() {
		address, _ := os.ReadFile(told) // it waits for the opener
		opened <- string(address)
	}()
	var address string
	select {
	case address = <-opened:
	case <-time.After(patience):
		t.Fatalf("nothing was opened\n%s", s.text())
	}
	path, ok := strings.CutPrefix(address, "file://")
	if !ok {
		t.Fatal("the browser was not given a file")
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st.Mode(), err)
	}
	b.do("open", address)
	b.do("see", "h1", "Connections")
	// Its own looking for news does not keep it alive.
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil || !strings.Contains(s.text(), "Nobody has used the dashboard") {
			t.Errorf("the idle dashboard: %v\n%s", err, s.text())
		}
	case <-time.After(patience):
		t.Error("the idle dashboard did not end")
	}
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Error("the file is still there")
	}
	b.do("see", "#spoken", "The dashboard has ended.")
}
