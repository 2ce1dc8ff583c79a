package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// robots is an issuer of which clients ask with assertions that they sign (RFC
// 7523 section 2.1). It believes an assertion once.
type robots struct {
	url    string
	key    *ecdsa.PublicKey
	mu     sync.Mutex
	seen   map[string]bool
	tokens int
}

func (i *robots) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if why := i.refuses(r); why != "" {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": why})
		return
	}
	i.tokens++
	_, _ = fmt.Fprintf(w, `{"access_token":"robot-token-%d","token_type":"Bearer","expires_in":3600}`, i.tokens)
}

// refuses returns what is wrong with a request.
func (i *robots) refuses(r *http.Request) string {
	if r.URL.Path != "/token" || r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.Form.Has("client_secret") {
		return "not a request for a robot"
	}
	parts := strings.Split(r.FormValue("assertion"), ".")
	if len(parts) != 3 {
		return "no assertion"
	}
	var claims struct {
		Iss, Sub, Aud, Jti, Scope string
		Iat, Exp                  int64
	}
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch {
	case len(signature) != 64 || !ecdsa.Verify(i.key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])):
		return "bad signature"
	case json.Unmarshal(body, &claims) != nil || claims.Iss != "robot@example.com" || claims.Sub == "" || claims.Aud != i.url+"/token":
		return "bad claims"
	case claims.Exp-claims.Iat > 300 || claims.Jti == "" || i.seen[claims.Jti]:
		return "too long, or seen before"
	case claims.Scope != "read":
		return "bad scope"
	}
	i.seen[claims.Jti] = true
	return ""
}

// cmdRobot starts such an issuer, defines it as the provider "robot", and writes
// the key of its client to key.pem and, as providers give it, to robot.json.
func cmdRobot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: robot")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	doc, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "robot@example.com", "private_key_id": "k1", "private_key": string(text)})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("key.pem"), text, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("robot.json"), doc, 0o600))

	issuer := &robots{key: &key.PublicKey, seen: map[string]bool{}}
	server := httptest.NewServer(issuer)
	ts.Defer(server.Close)
	issuer.url = server.URL
	ts.Setenv("ROBOT_TOKEN_ENDPOINT", server.URL+"/token")
	dir := filepath.Join(ts.Getenv("APIAUTH_CONFIG_DIR"), "providers")
	ts.Check(os.MkdirAll(dir, 0o700))
	definition := "id: robot\nname: Robot\nallow_insecure_loopback: true\ntoken_endpoint: URL/token\ntoken_endpoint_auth_method: none\nflows: [jwt-bearer]\n" +
		"scopes: {default: [read]}\njwt_bearer: {subject: required, subject_title: the user, scope: claim}\napi: {base_url: URL/v1}\n"
	ts.Check(os.WriteFile(filepath.Join(dir, "robot.yaml"), []byte(strings.ReplaceAll(definition, "URL", server.URL)), 0o600))
}
