package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// maxKeyFile is the largest key file that is read, in bytes.
const maxKeyFile = 64 << 10

// Key is a client's private key, as it is kept: the text of Encode is its secret.
type Key struct {
	// PKCS8 is the key in DER (RFC 5208), base64.
	PKCS8 secret.Text
	// ID is the kid of the JWS header (RFC 7515 section 4.1.4); may be empty.
	ID string
	// Secret is the client secret that the file holds beside the key (Box).
	Secret secret.Text
	// Certificates are those of the file, in DER (RFC 5280), base64. They are
	// public; mutual TLS needs them.
	Certificates []string
}

// KeyFile is what a key file says. ClientID and Subject may be empty.
type KeyFile struct {
	Key      Key
	ClientID string
	Subject  string
}

// keptKey is the form in which a key is kept.
type keptKey struct {
	PKCS8  string `json:"pkcs8"`
	ID     string `json:"kid,omitempty"`
	Secret string `json:"secret,omitempty"`
	// Certificates has the name and form of RFC 7517 section 4.7.
	Certificates []string `json:"x5c,omitempty"`
}

// Encode returns the key as one credential.
func (k Key) Encode() (secret.Text, error) {
	doc, err := json.Marshal(keptKey{k.PKCS8.Reveal(), k.ID, k.Secret.Reveal(), k.Certificates})
	if err != nil {
		return secret.Text{}, errors.New("write the key")
	}
	return secret.New(string(doc)), nil
}

// DecodeKey reads what Encode wrote, or the text of a key file.
func DecodeKey(t secret.Text) (Key, error) {
	var doc keptKey
	if json.Unmarshal([]byte(t.Reveal()), &doc) == nil && doc.PKCS8 != "" {
		return Key{PKCS8: secret.New(doc.PKCS8), ID: doc.ID, Secret: secret.New(doc.Secret), Certificates: doc.Certificates}, nil
	}
	file, err := ParseKeyFile(t, secret.Text{})
	if err != nil {
		return Key{}, errors.New("the client has a secret and no key")
	}
	return file.Key, nil
}

// ErrKeyEncrypted says that a private key is encrypted and that no passphrase came
// with it.
var ErrKeyEncrypted = errors.New("the private key is encrypted: decrypt it first, as in 'openssl pkey -in key.pem -out plain.pem'")

// ParseKeyFile reads a private key: PEM (PKCS #8, PKCS #1, SEC 1) with the
// certificates that stand beside it, the JSON that Google gives for a service
// account, or that Box gives for an application. The passphrase may be zero; it is
// for a key in PEM that is encrypted (RFC 5958), and without it such a key is
// ErrKeyEncrypted. Errors quote nothing of the file.
func ParseKeyFile(file, passphrase secret.Text) (KeyFile, error) {
	text := strings.TrimSpace(file.Reveal())
	switch {
	case len(text) > maxKeyFile:
		return KeyFile{}, fmt.Errorf("the key file is longer than %d KiB", maxKeyFile>>10)
	case strings.HasPrefix(text, "{"):
		return parseKeyJSON([]byte(text))
	}
	if len(text) > 1 && text[0] == 0x30 && text[1] >= 0x80 {
		return KeyFile{}, errors.New("the key file is no PEM but DER or PKCS #12: convert it first, as in 'openssl pkcs12 -in client.p12 -nodes -out client.pem'")
	}
	der, err := parsePEM(text, passphrase)
	if err != nil {
		return KeyFile{}, err
	}
	certificates, err := certificatesIn(text)
	if err != nil {
		return KeyFile{}, err
	}
	key := Key{PKCS8: der, Certificates: certificates}
	if c, err := key.Certificate(); err == nil {
		key.Certificates = nil
		for _, der := range c.tls.Certificate { // the key's own first
			key.Certificates = append(key.Certificates, base64.StdEncoding.EncodeToString(der))
		}
	}
	return KeyFile{Key: key}, nil
}

// parseKeyJSON reads the files of Google (developers.google.com/identity/protocols
// /oauth2/service-account) and Box (developer.box.com/guides/authentication/jwt).
func parseKeyJSON(data []byte) (KeyFile, error) {
	var doc struct {
		Type         string `json:"type"`
		ClientEmail  string `json:"client_email"`
		PrivateKey   string `json:"private_key"`
		PrivateKeyID string `json:"private_key_id"`
		EnterpriseID string `json:"enterpriseID"`
		Box          struct {
			ClientID     string `json:"clientID"`
			ClientSecret string `json:"clientSecret"`
			Auth         struct {
				PublicKeyID string `json:"publicKeyID"`
				PrivateKey  string `json:"privateKey"`
				Passphrase  string `json:"passphrase"`
			} `json:"appAuth"`
		} `json:"boxAppSettings"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return KeyFile{}, errors.New("the key file is not valid JSON")
	}
	f := KeyFile{ClientID: doc.ClientEmail, Key: Key{ID: doc.PrivateKeyID}}
	text := doc.PrivateKey
	if doc.Box.Auth.PrivateKey != "" {
		text = doc.Box.Auth.PrivateKey
		f = KeyFile{ClientID: doc.Box.ClientID, Subject: doc.EnterpriseID, Key: Key{ID: doc.Box.Auth.PublicKeyID, Secret: secret.New(doc.Box.ClientSecret)}}
	}
	if text == "" {
		return KeyFile{}, errors.New("the key file holds no private key: neither private_key nor boxAppSettings.appAuth.privateKey is there")
	}
	if !headerValue(f.ClientID) || !headerValue(f.Key.ID) || !headerValue(f.Subject) {
		return KeyFile{}, errors.New("the key file holds characters that it must not")
	}
	var err error
	f.Key.PKCS8, err = parsePEM(text, secret.New(doc.Box.Auth.Passphrase))
	return f, err
}

// parsePEM returns the first private key of a PEM text. The passphrase is the one
// that stands beside it in a provider's file.
func parsePEM(text string, passphrase secret.Text) (secret.Text, error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return secret.Text{}, errors.New("the key file holds no private key in PEM")
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" && !passphrase.IsZero() {
			plain, err := decryptPKCS8(block.Bytes, passphrase)
			if err != nil {
				return secret.Text{}, err
			}
			block.Type, block.Bytes = "PRIVATE KEY", plain
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return secret.Text{}, ErrKeyEncrypted
		}
		key, err := parseDER(block.Type, block.Bytes)
		if errors.Is(err, errOtherBlock) {
			continue
		}
		if err != nil {
			return secret.Text{}, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return secret.Text{}, errors.New("the private key is of a kind that is not known here")
		}
		return secret.New(base64.StdEncoding.EncodeToString(der)), nil
	}
}

var errOtherBlock = errors.New("not a private key")

func parseDER(kind string, der []byte) (key any, err error) {
	switch kind {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(der)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(der)
	default:
		return nil, errOtherBlock
	}
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	return key, checkKey(key)
}

// checkKey refuses keys that no algorithm of ours is for, and RSA keys of less
// than 2048 bits (RFC 7518 section 3.3).
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return fmt.Errorf("the RSA key has %d bits; 2048 are the least", k.N.BitLen())
		}
	case *ecdsa.PrivateKey:
		if _, ok := algOfCurve(k.Curve); !ok {
			return errors.New("the key lies on a curve other than P-256, P-384 and P-521")
		}
	case ed25519.PrivateKey:
	default:
		return errors.New("the private key is neither RSA nor EC nor Ed25519")
	}
	return nil
}

func algOfCurve(c elliptic.Curve) (string, bool) {
	switch c {
	case elliptic.P256():
		return "ES256", true
	case elliptic.P384():
		return "ES384", true
	case elliptic.P521():
		return "ES512", true
	}
	return "", false
}

// private returns the key itself.
func (k Key) private() (crypto.Signer, error) {
	der, err := base64.StdEncoding.DecodeString(k.PKCS8.Reveal())
	if err != nil {
		return nil, errors.New("the stored key cannot be read")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the stored key cannot be read")
	}
	if err := checkKey(parsed); err != nil {
		return nil, err
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errors.New("the stored key cannot sign")
	}
	return signer, nil
}

// signer returns the key and the algorithm to use: the one that is asked for,
// else RS256 for RSA and the only one of other keys.
func (k Key) signer(alg string) (crypto.Signer, string, error) {
	signer, err := k.private()
	if err != nil {
		return nil, "", err
	}
	var algs []string
	switch key := signer.(type) {
	case *rsa.PrivateKey:
		algs = []string{"RS256", "PS256"}
	case *ecdsa.PrivateKey:
		only, _ := algOfCurve(key.Curve)
		algs = []string{only}
	case ed25519.PrivateKey:
		algs = []string{"EdDSA"}
	}
	if alg == "" {
		return signer, algs[0], nil
	}
	for _, can := range algs {
		if can == alg {
			return signer, alg, nil
		}
	}
	return nil, "", fmt.Errorf("the provider wants %s, and this key is for %s", Clean(alg), strings.Join(algs, " or "))
}
