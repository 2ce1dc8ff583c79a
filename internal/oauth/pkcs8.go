package oauth

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // Box encrypts the keys that it gives out so
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the default of PBKDF2 in RFC 8018
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"hash"

	"github.com/apiauth/apiauth/internal/secret"
)

// maxIterations bounds the work that a key file may ask for.
const maxIterations = 2_000_000

var errPassphrase = errors.New("the private key cannot be decrypted: its passphrase or its encryption is not the right one")

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5208 section 6).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2 is PBES2-params, pbkdf2Params are PBKDF2-params (RFC 8018 appendix A).
type pbes2 struct{ KDF, Cipher pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// decryptPKCS8 opens an encrypted private key: PBES2 with PBKDF2 and AES or
// triple DES in CBC mode (RFC 8018 section 6.2), which is what OpenSSL writes.
func decryptPKCS8(der []byte, passphrase secret.Text) ([]byte, error) {
	var (
		box    encryptedKey
		scheme pbes2
		kdf    pbkdf2Params
		iv     []byte
	)
	if rest, err := asn1.Unmarshal(der, &box); err != nil || len(rest) > 0 || !box.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) {
		return nil, errPassphrase
	}
	if _, err := asn1.Unmarshal(box.Algorithm.Parameters.FullBytes, &scheme); err != nil || !scheme.KDF.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}) {
		return nil, errPassphrase
	}
	if _, err := asn1.Unmarshal(scheme.KDF.Parameters.FullBytes, &kdf); err != nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errPassphrase
	}
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, errPassphrase
	}
	var prf func() hash.Hash
	switch kdf.PRF.Algorithm.String() {
	case "", "1.2.840.113549.2.7":
		prf = sha1.New
	case "1.2.840.113549.2.9":
		prf = sha256.New
	case "1.2.840.113549.2.11":
		prf = sha512.New
	default:
		return nil, errPassphrase
	}
	var (
		size  int
		block func([]byte) (cipher.Block, error)
	)
	switch scheme.Cipher.Algorithm.String() {
	case "2.16.840.1.101.3.4.1.2":
		size, block = 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		size, block = 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		size, block = 24, des.NewTripleDESCipher
	default:
		return nil, errPassphrase
	}
	key, err := pbkdf2.Key(prf, passphrase.Reveal(), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, errPassphrase
	}
	b, err := block(key)
	if err != nil || len(iv) != b.BlockSize() || len(box.Data) == 0 || len(box.Data)%b.BlockSize() != 0 {
		return nil, errPassphrase
	}
	plain := bytes.Clone(box.Data)
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, plain)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > b.BlockSize() || pad > len(plain) {
		return nil, errPassphrase
	}
	plain = plain[:len(plain)-pad]
	// One wrong passphrase in 256 leaves a padding that could be one.
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(plain, &whole); err != nil || len(rest) > 0 || whole.Tag != asn1.TagSequence {
		return nil, errPassphrase
	}
	return plain, nil
}
