package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// MutualTLS is a small world of certificates: an authority, a server of it, and the
// certificates of clients. All of it ends with the test.
type MutualTLS struct {
	// AuthorityFile holds the authority's certificate.
	AuthorityFile string
	// Certified is a client's certificate of the authority, Registered one that is
	// its own authority and known to the issuer as it is, Stranger one that nobody
	// knows, with the name of Certified. Each is PEM: the certificate, then its key.
	Certified, Registered, Stranger Certificate

	files map[string]string
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
}

// Certificate is a certificate and its key, in PEM.
type Certificate struct{ Certificate, Key string }

// NewMutualTLS makes certificates that are good for an hour.
func NewMutualTLS(t testing.TB) *MutualTLS {
	t.Helper()
	m := &MutualTLS{files: map[string]string{}}
	authority := m.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, true)
	block, _ := pem.Decode([]byte(authority.Certificate))
	var err error
	if m.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		t.Fatal(err)
	}
	block, _ = pem.Decode([]byte(authority.Key))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	m.key = key.(*ecdsa.PrivateKey)
	server := m.issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "issuer"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, false)
	client := func(alone bool) Certificate {
		return m.issue(t, &x509.Certificate{
			Subject: pkix.Name{CommonName: "app"}, DNSNames: []string{"app.example.test"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}, alone)
	}
	m.Certified, m.Registered, m.Stranger = client(false), client(true), client(true)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"authority": authority.Certificate, "certificate": server.Certificate, "key": server.Key, "registered": m.Registered.Certificate,
	} {
		m.files[name] = filepath.Join(dir, name+".pem")
		if err := os.WriteFile(m.files[name], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.AuthorityFile = m.files["authority"]
	return m
}

// Issue makes another certificate of the authority, changed as the caller wants.
func (m *MutualTLS) Issue(t testing.TB, template *x509.Certificate) Certificate {
	t.Helper()
	return m.issue(t, template, false)
}

func (m *MutualTLS) issue(t testing.TB, template *x509.Certificate, alone bool) Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		t.Fatal(err)
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := m.cert, m.key
	if alone {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Certificate{
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}
