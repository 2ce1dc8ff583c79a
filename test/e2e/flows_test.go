//go:build unix

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/test/peers"
)

// signingKey makes a key of a client: its file in the person's home, and the
// public half as a JWK.
func signingKey(t *testing.T, p *person) (path string, jwk map[string]string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	point := public.Bytes() // 4, x, y
	path = p.write("client.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	coordinate := base64.RawURLEncoding.EncodeToString
	return path, map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": coordinate(point[1:33]), "y": coordinate(point[33:])}
}

// A client that signs with its key, at a certified issuer that takes nothing but
// pushed authorization requests: login, refresh, revocation, and by itself.
func TestClientsThatSign(t *testing.T) {
	t.Parallel()
	p := withFileStore(t)
	key, jwk := signingKey(t, p)
	is := peers.Issuer(t, peers.IssuerOptions{Auto: true, PublicKey: jwk, RequirePAR: true})
	more := "pushed_authorization_request_endpoint: " + is.URL + "/request\nrequire_pushed_authorization_requests: true\n"
	p.addProvider(definition("signed", is, is.URL+"/token", is.Signed, more+"client_id: "+is.Signed.ID+"\n"))
	p.addProvider(definition("shared", is, is.URL+"/token", is.Shared, more+"client_id: "+is.Shared.ID+"\n"))
	p.addProvider(definition("robot", is, is.URL+"/token", is.Robot, "client_id: "+is.Robot.ID+"\n"))

	visitor := &peers.Visitor{}
	for name, args := range map[string][]string{"signed": {"--key-file", key}, "shared": nil} {
		if args == nil {
			r := p.runIn(is.Shared.Secret.Reveal()+"\n", "client", "set", "shared", "--client-secret-stdin")
			if r.code != 0 {
				t.Fatalf("client set: status %d\n%s", r.code, r.redacted())
			}
		}
		connecting := p.start(append([]string{"connect", name, "--flow", "browser", "--no-browser", "--explain"}, args...)...)
		if _, err := visitor.Visit(t.Context(), strings.TrimSpace(connecting.waitLine("request_uri=urn"))); err != nil {
			t.Fatal(err)
		}
		r := connecting.wait()
		if r.code != 0 || !strings.Contains(r.err, "pushed authorization request (RFC 9126") || strings.Contains(r.err, "eyJ") {
			t.Fatalf("connect %s: status %d\n%s", name, r.code, r.redacted())
		}
		first := p.must("token", name).token()
		if second := p.must("token", name, "--refresh").token(); second == first || second == "" {
			t.Errorf("%s: the refresh brought no other token", name)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	p.must("token", "signed", "--refresh")
	p.must("disconnect", "signed")
	stats := is.Stats(t)
	if stats.Revoked == 0 || stats.Granted["refresh_token"] != 3 || stats.Requests["/request"] != 2 {
		t.Errorf("the issuer saw %+v", stats)
	}

	key, _ = signingKey(t, p)
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	// By standard input, but another key than the one that the issuer knows.
	r := p.runIn(string(content), "connect", "robot", "--flow", "client-credentials", "--scope", "api:read", "--key-stdin")
	if r.code == 0 || !strings.Contains(r.err, "invalid_client") {
		t.Errorf("a wrong key: status %d\n%s", r.code, r.redacted())
	}
}

// Clients that authenticate with a certificate (RFC 8705), at a certified issuer:
// login through a pushed request, refresh, introspection and revocation present it,
// to the endpoints for it and nowhere else; with another or none there is no login.
func TestClientsWithACertificate(t *testing.T) {
	t.Parallel()
	world := peers.NewMutualTLS(t)
	is := peers.Issuer(t, peers.IssuerOptions{Auto: true, Mutual: world})
	p := withFileStore(t)
	p.vars["APIAUTH_CA_FILE"] = world.AuthorityFile
	for id, c := range map[string]peers.Client{"certified": is.Certified, "registered": is.Registered} {
		p.addProvider("id: " + id + "\nname: Peer\nissuer: " + is.URL + "\ntoken_endpoint_auth_method: " + c.Method + "\nclient_id: " + c.ID +
			"\nredirect_uri: http://127.0.0.1:*/callback/peer\napi: {base_url: " + strings.TrimSuffix(is.API, "/") + "}\nallow_insecure_loopback: true\n")
	}
	certificate := p.write("app.crt", world.Certified.Certificate)
	key := p.write("app.key", world.Certified.Key)
	visitor := &peers.Visitor{}

	// What cannot do is told before a browser opens.
	for _, args := range [][]string{
		{"connect", "certified"},
		{"connect", "certified", "--client-key", key},
		{"connect", "certified", "--client-certificate", certificate, "--client-key", p.write("other.key", world.Stranger.Key)},
		{"connect", "certified", "--client-certificate", p.write("ended.pem", ended(t, world))},
	} {
		if r := p.run(append(args, "--no-browser")...); r.code != 2 || !strings.Contains(r.err, "certificate") {
			t.Errorf("%v: status %d\n%s", args, r.code, r.redacted())
		}
	}
	// The issuer judges what it is shown.
	stranger := p.write("stranger.pem", world.Stranger.Certificate+world.Stranger.Key)
	for _, name := range []string{"certified", "registered"} {
		connecting := p.start("connect", name, "--flow", "browser", "--no-browser", "--scope", "openid", "--client-certificate", stranger)
		if r := connecting.wait(); r.code != 2 || !strings.Contains(r.err, "invalid_client") || !strings.Contains(r.err, "compare the client's id and certificate") {
			t.Errorf("%s with a certificate that nobody knows: status %d\n%s", name, r.code, r.redacted())
		}
	}
	if got := is.Stats(t).Granted["authorization_code"]; got != 0 {
		t.Fatalf("%d logins", got)
	}

	for name, args := range map[string][]string{
		"certified":  {"--client-certificate", certificate, "--client-key", key},
		"registered": {"--key-stdin"},
	} {
		connecting := p.startIn(world.Registered.Certificate+world.Registered.Key,
			append([]string{"connect", name, "--flow", "browser", "--no-browser", "--explain", "--scope", "openid", "--scope", "offline_access"}, args...)...)
		if _, err := visitor.Visit(t.Context(), strings.TrimSpace(connecting.waitLine("request_uri=urn"))); err != nil {
			t.Fatal(err)
		}
		r := connecting.wait()
		if r.code != 0 || !strings.Contains(r.err, "presented in the TLS handshake") || !strings.Contains(r.err, "with its certificate and key") || !strings.Contains(r.err, "ends on") {
			t.Fatalf("connect %s: status %d\n%s", name, r.code, r.redacted())
		}
	}
	for _, file := range []string{certificate, key, stranger} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"certified", "registered"} {
		first := p.must("token", name).token()
		if second := p.must("token", name, "--refresh").token(); second == first || second == "" {
			t.Errorf("%s: the refresh brought no other token", name)
		}
		p.must("api", name, "things")
		if r := p.must("status", name); !strings.Contains(r.out, "certificate") || !strings.Contains(r.out, "store the next one") {
			t.Errorf("%s: status says\n%s", name, r.redacted())
		}
		if r := p.must("doctor"); !strings.Contains(r.out, "certificate ends") {
			t.Errorf("%s: doctor says\n%s", name, r.out)
		}
	}
	if r := p.must("client", "list", "--json"); strings.Count(r.out, "certificate_ends") != 2 {
		t.Errorf("client list says\n%s", r.out)
	}

	// Another certificate in its place, and the refresh is refused as the client's.
	p.must("client", "set", "certified", "--client-id", is.Certified.ID, "--client-certificate", p.write("stranger.pem", world.Stranger.Certificate+world.Stranger.Key))
	if r := p.run("token", "certified", "--refresh"); r.code != 2 || !strings.Contains(r.err, "invalid_client") {
		t.Errorf("a refresh with another certificate: status %d\n%s", r.code, r.redacted())
	}
	p.must("client", "set", "certified", "--client-id", is.Certified.ID, "--client-certificate", p.write("good.pem", world.Certified.Certificate+world.Certified.Key))
	p.must("token", "certified", "--refresh")

	// A definition that wants a secret now gets no key.
	p.addProvider("id: changed\nname: Peer\nissuer: " + is.URL + "\ntoken_endpoint_auth_method: tls_client_auth\nclient_id: " + is.Certified.ID + "\nallow_insecure_loopback: true\n")
	p.must("client", "set", "changed", "--client-certificate", p.write("good.pem", world.Certified.Certificate+world.Certified.Key))
	p.write("../.config/apiauth/providers/changed.yaml", "id: changed\nname: Peer\nissuer: "+is.URL+"\ntoken_endpoint: "+is.Mutual+"/token\nauthorization_endpoint: "+is.URL+
		"/auth\ntoken_endpoint_auth_method: client_secret_post\nclient_id: "+is.Certified.ID+"\napi: {hosts: [127.0.0.1]}\nallow_insecure_loopback: true\n")
	if r := p.run("connect", "changed", "--flow", "browser", "--no-browser"); r.code != 6 || !strings.Contains(r.err, "authenticates by tls_client_auth") {
		t.Errorf("a method that changed: status %d\n%s", r.code, r.redacted())
	}

	// In variables both come as one secret, and nothing is stored of the client.
	q := p.as("APIAUTH_CLIENT_SECRET_VARIABLE_FILE", p.write("both.pem", world.Certified.Key+world.Certified.Certificate), "APIAUTH_CLIENT_ISSUER_VARIABLE", is.Mutual+"/token")
	q.addProvider("id: variable\nname: Peer\nissuer: " + is.URL + "\ntoken_endpoint_auth_method: tls_client_auth\nclient_id: " + is.Certified.ID +
		"\nredirect_uri: http://127.0.0.1:*/callback/peer\nallow_insecure_loopback: true\n")
	if r := visitConnect(q, visitor, "variable", "--scope", "openid", "--scope", "offline_access"); r.code != 0 {
		t.Fatalf("connect with a client in a variable: status %d\n%s", r.code, r.redacted())
	}
	q.must("token", "variable", "--refresh")
	if r := p.run("token", "variable", "--refresh"); r.code != 2 || !strings.Contains(r.err, "no client secret is stored") {
		t.Errorf("without the variable: status %d\n%s", r.code, r.redacted())
	}
	q.must("disconnect", "variable")

	p.must("disconnect", "certified", "registered")
	stats := is.Stats(t)
	if stats.Revoked != 2 || stats.Certificates["/request"] != 5 || stats.Certificates["/token"] != stats.Requests["/token"] || stats.Certificates["/token/revocation"] != 3 ||
		len(stats.Certificates) != 3 {
		t.Errorf("the issuer saw %+v", stats)
	}
}

// Tokens that are bound to the client's certificate (RFC 8705 section 3): the account
// is asked for and the API is called with it, another client's certificate does not
// help, and what cannot present it says so.
func TestTokensBoundToACertificate(t *testing.T) {
	t.Parallel()
	world := peers.NewMutualTLS(t)
	is := peers.Issuer(t, peers.IssuerOptions{Auto: true, Mutual: world})
	p := withFileStore(t)
	p.vars["APIAUTH_CA_FILE"] = world.AuthorityFile
	definition := func(id, more string) string {
		return "id: " + id + "\nname: Peer\nissuer: " + is.URL + "\ntoken_endpoint_auth_method: tls_client_auth\nclient_id: " + is.Bound.ID +
			"\nredirect_uri: http://127.0.0.1:*/callback/peer\napi: {base_url: " + is.Mutual + "/api" + more + "}\nallow_insecure_loopback: true\n"
	}
	p.addProvider(definition("bound", ", client_certificate: true"))
	p.addProvider(definition("unsaid", ""))
	file := p.write("app.pem", world.Certified.Certificate+world.Certified.Key)
	for name, who := range map[string]string{"bound": "as alice", "unsaid": "did not say who signed in"} {
		if r := visitConnect(p, &peers.Visitor{}, name, "--scope", "openid", "--scope", "offline_access", "--client-certificate", file); r.code != 0 || !strings.Contains(r.err, who) {
			t.Fatalf("connect %s: status %d\n%s", name, r.code, r.redacted())
		}
	}
	p.must("token", "bound", "--refresh")
	for _, args := range [][]string{{"api", "bound", "things"}, {"status", "bound", "--live"}} {
		p.must(args...)
	}
	if r := p.run("api", "unsaid", "things"); r.code != 4 {
		t.Errorf("without the certificate: status %d\n%s", r.code, r.redacted())
	}
	for _, args := range [][]string{{"proxy", "bound"}, {"exec", "-c", "bound", "--placeholder", "--", "true"}} {
		if r := p.run(args...); r.code != 2 || !strings.Contains(r.err, "which a proxy does not present") {
			t.Errorf("%v: status %d\n%s", args, r.code, r.redacted())
		}
	}
	p.must("exec", "-c", "bound", "--", "true")
	p.must("client", "set", "bound", "--client-certificate", p.write("stranger.pem", world.Stranger.Certificate+world.Stranger.Key))
	if r := p.run("api", "bound", "things"); r.code == 0 {
		t.Error("another certificate was good enough for the API")
	}
}

// ended is a certificate of the authority that has ended, with its key.
func ended(t *testing.T, world *peers.MutualTLS) string {
	t.Helper()
	c := world.Issue(t, &x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return c.Certificate + c.Key
}

// A client by itself that signs.
func TestRobotSigns(t *testing.T) {
	t.Parallel()
	p := withFileStore(t)
	key, jwk := signingKey(t, p)
	is := peers.Issuer(t, peers.IssuerOptions{PublicKey: jwk})
	p.addProvider(definition("robot", is, is.URL+"/token", is.Robot, "client_id: "+is.Robot.ID+"\n"))
	p.must("connect", "robot", "--scope", "api:read", "--key-file", key)
	if r := p.must("token", "robot", "--format", "json"); !strings.Contains(r.out, `"api:read"`) {
		t.Error("the token has not the scope")
	}
	first := p.must("token", "robot").token()
	if p.must("token", "robot", "--refresh").token() == first {
		t.Error("a renewal brought no other token")
	}
}

// A token for one resource (RFC 8707), also after a refresh, and narrower than
// asked.
func TestResourceIndicator(t *testing.T) {
	t.Parallel()
	const resource = "https://api.example.test/v1"
	is := peers.Issuer(t, peers.IssuerOptions{Auto: true, Resource: resource})
	p := withFileStore(t)
	p.addProvider(definition("peer", is, is.URL+"/token", is.Public, "client_id: "+is.Public.ID+"\n"))
	if r := visitConnect(p, &peers.Visitor{}, "peer", "--scope", "offline_access", "--scope", "api:read", "--resource", resource); r.code != 0 {
		t.Fatalf("status %d\n%s", r.code, r.redacted())
	}
	for _, args := range [][]string{{"token", "peer"}, {"token", "peer", "--refresh"}} {
		parts := strings.Split(p.must(args...).token(), ".")
		if len(parts) != 3 {
			t.Fatal("the token is no JWT")
		}
		var claims struct{ Aud, Scope string }
		body, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || json.Unmarshal(body, &claims) != nil || claims.Aud != resource || claims.Scope != "api:read" {
			t.Errorf("audience %q, scope %q", claims.Aud, claims.Scope)
		}
	}
}

// The implicit grant in a real browser: its script hands the fragment over, and
// the address bar does not keep it.
func TestImplicitInABrowser(t *testing.T) {
	t.Parallel()
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/authorize" || q.Get("response_type") != "token" {
			http.NotFound(w, r)
			return
		}
		http.Redirect(w, r, q.Get("redirect_uri")+"#access_token=implicit-1&token_type=bearer&expires_in=3600&scope=read&state="+q.Get("state"), http.StatusFound)
	}))
	defer issuer.Close()
	chromium := peers.Browser(t, peers.BrowserOptions{Stay: true})
	p := withFileStore(t)
	p.vars["BROWSER"] = chromium.Script
	p.addProvider("id: legacy\nname: Legacy\nauthorization_endpoint: " + issuer.URL + "/authorize\nflows: [implicit]\nclient_id: c1\nscopes: {default: [read]}\n" +
		"api: {base_url: " + issuer.URL + "/v1}\nallow_insecure_loopback: true\n")
	r := p.must("connect", "legacy", "--flow", "implicit")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	page, err := chromium.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.Text, "You can close this window") || strings.Contains(page.URL, "#") {
		t.Errorf("the browser landed on a page that says %q", page.Text)
	}
	if !strings.Contains(r.err, "outdated") || strings.Contains(r.err, "implicit-1") {
		t.Errorf("connect says\n%s", r.redacted())
	}
	if got := p.must("token", "legacy").token(); got != "implicit-1" {
		t.Error("the token is another")
	}
}
