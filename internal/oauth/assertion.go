package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

const (
	// GrantJWTBearer is the grant of RFC 7523 section 2.1.
	GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer" //nolint:gosec // a name
	// assertionTypeJWT is the client_assertion_type of RFC 7523 section 2.2.
	assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

	// clientAssertionLife is what a client assertion lives.
	clientAssertionLife = time.Minute
	maxAssertionLife    = 5 * time.Minute
	// skewTold is how far the clocks must differ before the issuer's counts.
	skewTold = time.Minute
)

// Assertion is a JWT (RFC 7523 section 3) that is signed anew for each request.
type Assertion struct {
	Issuer   string
	Subject  string // left out when empty
	Audience string // exactly so
	Scope    string // a claim, when not empty
	Claims   map[string]string
	Lifetime time.Duration // above 0, 5 minutes at most
	Key      secret.Text   // as Key.Encode writes it
	Alg      string        // default by the key; asymmetric always
}

// JWTBearerForm is the form of a JWT bearer request (RFC 7523 section 2.1),
// without the assertion, which TokenRequest.Assertion adds. scope may be empty.
func JWTBearerForm(scope string, extra map[string]string) Form {
	f := Form{{Name: "grant_type", Value: GrantJWTBearer}}
	if scope != "" {
		f = append(f, Param{Name: "scope", Value: scope})
	}
	return f.With(extra)
}

// sign makes the assertion as of now.
func (a Assertion) sign(now time.Time) (secret.Text, error) {
	if a.Lifetime <= 0 || a.Lifetime > maxAssertionLife {
		return secret.Text{}, refusef("sign an assertion: its lifetime is not above 0 and up to 5 minutes")
	}
	if a.Issuer == "" || a.Audience == "" {
		return secret.Text{}, refusef("sign an assertion: it has no issuer or no audience")
	}
	key, err := DecodeKey(a.Key)
	if err != nil {
		return secret.Text{}, refusef("sign an assertion: %s", err)
	}
	signer, alg, err := key.signer(a.Alg)
	if err != nil {
		return secret.Text{}, refusef("sign an assertion: %s", err)
	}
	input, err := a.input(alg, key.ID, now)
	if err != nil {
		return secret.Text{}, err
	}
	signature, err := signJWS(signer, alg, input)
	if err != nil {
		return secret.Text{}, refusef("sign an assertion: the key failed")
	}
	return secret.New(string(input) + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

// input is the signing input of RFC 7515 section 5.1, with a jti that no other
// assertion has.
func (a Assertion) input(alg, kid string, now time.Time) ([]byte, error) {
	header := map[string]string{"alg": alg, "typ": "JWT"}
	if kid != "" {
		header["kid"] = kid
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	claims := map[string]any{}
	for name, value := range a.Claims {
		claims[name] = value
	}
	claims["iss"] = a.Issuer
	claims["aud"] = a.Audience
	claims["iat"] = now.Unix()
	claims["exp"] = now.Unix() + int64(a.Lifetime/time.Second)
	claims["jti"] = base64.RawURLEncoding.EncodeToString(id[:])
	if a.Subject != "" {
		claims["sub"] = a.Subject
	}
	if a.Scope != "" {
		claims["scope"] = a.Scope
	}
	head, err1 := json.Marshal(header)
	body, err2 := json.Marshal(claims)
	if err := errors.Join(err1, err2); err != nil {
		return nil, refusef("sign an assertion: its claims cannot be written")
	}
	e := base64.RawURLEncoding
	return e.AppendEncode(append(e.AppendEncode(nil, head), '.'), body), nil
}

// signJWS signs as RFC 7518 section 3 and RFC 8037 say.
func signJWS(signer crypto.Signer, alg string, input []byte) ([]byte, error) {
	switch alg {
	case "EdDSA":
		return signer.Sign(rand.Reader, input, crypto.Hash(0))
	case "PS256":
		sum := sha256.Sum256(input)
		return signer.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	case "RS256":
		sum := sha256.Sum256(input)
		return signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	}
	key, ok := signer.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("no such algorithm")
	}
	var sum []byte
	switch alg {
	case "ES256":
		s := sha256.Sum256(input)
		sum = s[:]
	case "ES384":
		s := sha512.Sum384(input)
		sum = s[:]
	case "ES512":
		s := sha512.Sum512(input)
		sum = s[:]
	default:
		return nil, errors.New("no such algorithm")
	}
	r, s, err := ecdsa.Sign(rand.Reader, key, sum)
	if err != nil {
		return nil, err
	}
	size := (key.Curve.Params().BitSize + 7) / 8
	out := make([]byte, 2*size)
	r.FillBytes(out[:size])
	s.FillBytes(out[size:])
	return out, nil
}

// clientAssertion proves who the client is (RFC 7523 section 2.2, OpenID Connect
// Core section 9).
func (c Client) clientAssertion(endpoint string, now time.Time) (secret.Text, error) {
	a := Assertion{Issuer: c.ID, Subject: c.ID, Audience: c.Audience, Lifetime: clientAssertionLife, Key: c.Secret, Alg: c.Alg}
	if a.Audience == "" {
		a.Audience = endpoint
	}
	if c.Method == AuthPrivateKeyJWT {
		return a.sign(now)
	}
	input, err := a.input("HS256", "", now)
	if err != nil {
		return secret.Text{}, err
	}
	mac := hmac.New(sha256.New, []byte(c.Secret.Reveal()))
	mac.Write(input)
	return secret.New(string(input) + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))), nil
}

// Skewed reports whether the refusal of r may come from a clock of ours that
// differs from the issuer's by more than a minute, and may be sent once more: the
// HTTP that sent it signs by the issuer's clock from now on. A request
// that uses something up, such as a code, is never sent again.
func (r TokenRequest) Skewed(a Answer, err error) bool {
	switch ErrorCode(err) {
	case "invalid_client", "invalid_grant", "invalid_request", "unauthorized_client":
	default:
		return false
	}
	if r.Assertion == nil && r.Client.Method != AuthPrivateKeyJWT && r.Client.Method != AuthSecretJWT || a.Date.IsZero() {
		return false
	}
	for _, p := range r.Form {
		if p.Name == "grant_type" && p.Value != GrantJWTBearer && p.Value != GrantClientCredentials && p.Value != GrantTokenExchange {
			return false
		}
	}
	return a.Date.Sub(a.ReceivedAt).Abs() > skewTold
}
