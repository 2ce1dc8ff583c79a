package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

// testKey is a private key with its public half.
type testKey struct {
	kept   secret.Text
	public crypto.PublicKey
}

func keyOf(t *testing.T, private crypto.Signer, id string) testKey {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseKeyFile(secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), secret.Text{})
	if err != nil {
		t.Fatal(err)
	}
	f.Key.ID = id
	kept, err := f.Key.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return testKey{kept, private.Public()}
}

func ecKey(t *testing.T, c elliptic.Curve) testKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyOf(t, k, "kid-1")
}

// open verifies a JWT as its receiver does and returns its header and claims.
func open(t *testing.T, jwt string, key any) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatal("it has not three parts")
	}
	part := func(i int) []byte {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal("a part is no base64url")
		}
		return b
	}
	if json.Unmarshal(part(0), &header) != nil || json.Unmarshal(part(1), &claims) != nil {
		t.Fatal("header or claims are no JSON")
	}
	input, signature := []byte(parts[0]+"."+parts[1]), part(2)
	sum := sha256.Sum256(input)
	ok := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		if header["alg"] == "PS256" {
			ok = rsa.VerifyPSS(k, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: 32}) == nil
		} else {
			ok = header["alg"] == "RS256" && rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], signature) == nil
		}
	case *ecdsa.PublicKey:
		size := (k.Curve.Params().BitSize + 7) / 8
		digest := sum[:]
		switch header["alg"] {
		case "ES384":
			d := sha512.Sum384(input)
			digest = d[:]
		case "ES512":
			d := sha512.Sum512(input)
			digest = d[:]
		}
		ok = len(signature) == 2*size && ecdsa.Verify(k, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case ed25519.PublicKey:
		ok = header["alg"] == "EdDSA" && ed25519.Verify(k, input, signature)
	case []byte:
		mac := hmac.New(sha256.New, k)
		mac.Write(input)
		ok = header["alg"] == "HS256" && hmac.Equal(mac.Sum(nil), signature)
	}
	if !ok {
		t.Fatalf("the signature by %v is not valid", header["alg"])
	}
	return header, claims
}

func TestAssertionAlgorithms(t *testing.T) {
	rsaPrivate, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, edKey := keyOf(t, rsaPrivate, "kid-1"), keyOf(t, edPrivate, "kid-1")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		key       testKey
		alg, want string
	}{
		{rsaKey, "", "RS256"}, {rsaKey, "RS256", "RS256"}, {rsaKey, "PS256", "PS256"}, {edKey, "", "EdDSA"},
		{ecKey(t, elliptic.P256()), "", "ES256"}, {ecKey(t, elliptic.P384()), "", "ES384"}, {ecKey(t, elliptic.P521()), "ES512", "ES512"},
	} {
		a := Assertion{Issuer: "robot@example.com", Subject: "alice", Audience: "https://issuer.example/token", Scope: "a b", Claims: map[string]string{"kind": "enterprise"},
			Lifetime: 3 * time.Minute, Key: test.key.kept, Alg: test.alg}
		signed, err := a.sign(now)
		if err != nil {
			t.Fatal(err)
		}
		header, claims := open(t, signed.Reveal(), test.key.public)
		if header["alg"] != test.want || header["kid"] != "kid-1" || header["typ"] != "JWT" {
			t.Errorf("header %v, want %s", header, test.want)
		}
		if claims["iss"] != "robot@example.com" || claims["sub"] != "alice" || claims["aud"] != "https://issuer.example/token" || claims["scope"] != "a b" || claims["kind"] != "enterprise" ||
			claims["iat"] != float64(now.Unix()) || claims["exp"] != float64(now.Unix()+180) {
			t.Errorf("claims %v", claims)
		}
	}
	// no other algorithm, none that is symmetric, no longer life.
	for name, a := range map[string]Assertion{
		"another algorithm": {Key: rsaKey.kept, Alg: "ES256", Lifetime: time.Minute},
		"symmetric":         {Key: rsaKey.kept, Alg: "HS256", Lifetime: time.Minute},
		"none":              {Key: rsaKey.kept, Alg: "none", Lifetime: time.Minute},
		"too long":          {Key: rsaKey.kept, Lifetime: 5*time.Minute + 1},
		"no life":           {Key: rsaKey.kept},
		"a secret":          {Key: secret.New("hunter2"), Lifetime: time.Minute},
	} {
		a.Issuer, a.Audience = "i", "https://issuer.example"
		if _, err := a.sign(now); !errors.Is(err, ErrRefused) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Assertion{Issuer: "i", Key: rsaKey.kept, Lifetime: time.Minute}).sign(now); !errors.Is(err, ErrRefused) {
		t.Errorf("no audience: %v", err)
	}
}

// the jti of each assertion is another, and none lives longer than 5 min.
func TestAssertionsAreUnique(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	seen := map[any]bool{}
	for range 100 {
		signed, err := Assertion{Issuer: "i", Audience: "https://issuer.example", Lifetime: 5 * time.Minute, Key: key.kept}.sign(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, claims := open(t, signed.Reveal(), key.public)
		if seen[claims["jti"]] || len(fmt.Sprint(claims["jti"])) < 22 {
			t.Fatal("a jti comes again or is short")
		}
		seen[claims["jti"]] = true
		if claims["exp"].(float64)-claims["iat"].(float64) > 300 {
			t.Fatal("it lives too long")
		}
	}
}

func TestClientAssertion(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	now := time.Now()
	for _, test := range []struct {
		client Client
		verify any
		aud    string
	}{
		{Client{ID: "c1", Secret: secret.New("0123456789abcdef0123456789abcdef"), Method: AuthSecretJWT}, []byte("0123456789abcdef0123456789abcdef"), "https://issuer.example/token"},
		{Client{ID: "c1", Secret: key.kept, Method: AuthPrivateKeyJWT}, key.public, "https://issuer.example/token"},
		{Client{ID: "c1", Secret: key.kept, Method: AuthPrivateKeyJWT, Audience: "https://issuer.example"}, key.public, "https://issuer.example"},
	} {
		r := TokenRequest{Endpoint: "https://issuer.example/token", Client: test.client, Form: ClientCredentialsForm("", nil)}
		form, err := r.authenticated(http.Header{}, now)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, p := range form {
			got[p.Name] = p.value()
		}
		if got["client_id"] != "c1" || got["client_assertion_type"] != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || got["client_secret"] != "" {
			t.Errorf("%s: %d parameters", test.client.Method, len(form))
		}
		_, claims := open(t, got["client_assertion"], test.verify)
		if claims["iss"] != "c1" || claims["sub"] != "c1" || claims["aud"] != test.aud || claims["exp"].(float64)-claims["iat"].(float64) != 60 {
			t.Errorf("%s: claims %v", test.client.Method, claims)
		}
	}
}

// where the clocks differ, the issuer's counts for the next assertion; a
// request that uses something up is not for sending again.
func TestIssuersClockCounts(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	var iat []float64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, claims := open(t, r.FormValue("assertion"), key.public)
		iat = append(iat, claims["iat"].(float64))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"%s is from the future"}`, r.FormValue("assertion"))
	}))
	defer server.Close()
	h, err := NewHTTP(Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	r := TokenRequest{
		Endpoint: server.URL + "/token", Client: Client{Method: AuthOmitted}, Form: JWTBearerForm("", nil), AllowInsecureLoopback: true,
		Assertion: &Assertion{Issuer: "i", Audience: server.URL, Lifetime: time.Minute, Key: key.kept},
	}
	for range 2 {
		a, err := h.PostToken(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		_, err = ParseToken(a, Rules{})
		if !r.Skewed(a, err) {
			t.Errorf("the clock is not blamed: %v", err)
		}
		if strings.Contains(err.Error(), "eyJ") {
			t.Error("the assertion stands in the error")
		}
		code := r
		code.Form = CodeExchange(secret.New("c"), "", secret.Text{}, nil)
		if code.Skewed(a, err) {
			t.Error("a code would be sent twice")
		}
		plain := r
		plain.Assertion = nil
		if plain.Skewed(a, err) {
			t.Error("a request without an assertion would be sent twice")
		}
	}
	now := float64(time.Now().Unix())
	if len(iat) != 2 || iat[0] < now+3500 || iat[1] > now+5 || iat[1] < now-60 {
		t.Errorf("issued at %v, now is %v", iat, now)
	}
}

func TestParseKeyFile(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	pkcs8 := block("PRIVATE KEY", der)
	quoted, _ := json.Marshal(pkcs8)
	for name, test := range map[string]struct{ text, client, subject, id, secret string }{
		"PKCS #8": {text: pkcs8},
		"PKCS #1": {text: "Bag Attributes\n" + block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))},
		"SEC 1":   {text: block("EC PARAMETERS", []byte{6, 8}) + block("EC PRIVATE KEY", ecDER)},
		"Google":  {`{"type":"service_account","client_email":"r@p.iam.gserviceaccount.com","private_key_id":"k1","private_key":` + string(quoted) + `}`, "r@p.iam.gserviceaccount.com", "", "k1", ""},
		"Box": {`{"boxAppSettings":{"clientID":"b1","clientSecret":"s1","appAuth":{"publicKeyID":"pk","privateKey":` + string(quoted) + `,"passphrase":""}},"enterpriseID":"77"}`,
			"b1", "77", "pk", "s1"},
	} {
		f, err := ParseKeyFile(secret.New(test.text), secret.Text{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		kept, err := f.Key.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeKey(kept)
		if err != nil || again.ID != test.id || again.Secret.Reveal() != test.secret || f.ClientID != test.client || f.Subject != test.subject {
			t.Errorf("%s: %v, client %q, subject %q, kid %q", name, err, f.ClientID, f.Subject, again.ID)
		}
		if _, _, err := again.signer(""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skipf("no small key can be made here: %v", err)
	}
	for name, text := range map[string]string{
		"nothing":     "",
		"a secret":    canary,
		"public":      block("PUBLIC KEY", der),
		"broken":      block("PRIVATE KEY", []byte(canary)),
		"encrypted":   block("ENCRYPTED PRIVATE KEY", der),
		"old style":   "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
		"1024 bits":   block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small)),
		"no key":      `{"type":"service_account"}`,
		"broken JSON": `{"private_key":"` + canary,
		"escape":      `{"client_email":"a\u001b[31m","private_key":` + string(quoted) + `}`,
		"long":        strings.Repeat("x", 65<<10),
	} {
		if _, err := ParseKeyFile(secret.New(text), secret.Text{}); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEncryptedKeys: keys that OpenSSL encrypted, as Box gives them out beside
// their passphrase.
func TestEncryptedKeys(t *testing.T) {
	openssl := peers.Program(t, "apt-get install openssl", "openssl")
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.pem")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
		}
	}
	run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", plain)
	for _, options := range [][]string{{"-v2", "aes-256-cbc"}, {"-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"}, {"-v2", "des3", "-v2prf", "hmacWithSHA512"}} {
		out := filepath.Join(dir, "encrypted.pem")
		run(append([]string{"pkcs8", "-topk8", "-in", plain, "-out", out, "-passout", "pass:opensesame", "-iter", "1000"}, options...)...)
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		box := func(passphrase string) secret.Text {
			quoted, _ := json.Marshal(string(text))
			return secret.New(`{"boxAppSettings":{"clientID":"b1","appAuth":{"publicKeyID":"pk","privateKey":` + string(quoted) + `,"passphrase":"` + passphrase + `"}}}`)
		}
		f, err := ParseKeyFile(box("opensesame"), secret.Text{})
		if err != nil {
			t.Fatalf("%v: %v", options, err)
		}
		if _, alg, err := f.Key.signer(""); err != nil || alg != "RS256" {
			t.Errorf("%v: %v", options, err)
		}
		if _, err := ParseKeyFile(box("another"), secret.Text{}); err == nil || strings.Contains(err.Error(), "another") {
			t.Errorf("%v: a wrong passphrase gives %v", options, err)
		}
		if f, err := ParseKeyFile(secret.New(string(text)), secret.New("opensesame")); err != nil || f.Key.PKCS8.IsZero() {
			t.Errorf("%v: with its passphrase: %v", options, err)
		}
		if _, err := ParseKeyFile(secret.New(string(text)), secret.New("another")); err == nil || strings.Contains(err.Error(), "another") {
			t.Errorf("%v: with another passphrase: %v", options, err)
		}
		for i := range 600 { // every 256th leaves a padding that could be one
			if _, err := ParseKeyFile(secret.New(string(text)), secret.New(fmt.Sprint("another", i))); !errors.Is(err, errPassphrase) {
				t.Fatalf("%v: with passphrase %d: %v", options, i, err)
			}
		}
		if _, err := ParseKeyFile(secret.New(string(text)), secret.Text{}); !errors.Is(err, ErrKeyEncrypted) || !strings.Contains(err.Error(), "decrypt it first") {
			t.Errorf("%v: without a passphrase: %v", options, err)
		}
	}
}

func FuzzParseKeyFile(f *testing.F) {
	f.Add("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	f.Add("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	f.Add(`{"private_key":"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"}`)
	f.Fuzz(func(t *testing.T, text string) {
		file, err := ParseKeyFile(secret.New(text), secret.Text{})
		if err != nil {
			return
		}
		if _, _, err := file.Key.signer(""); err != nil {
			t.Fatal("a key that was taken cannot sign")
		}
	})
}
