package oauth

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"
)

func TestAddCertificates(t *testing.T) {
	a, b := newAuthority(t).cert, newAuthority(t).cert
	block := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	key := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	garbled := []byte("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n")
	for name, c := range map[string]struct {
		doc  []byte
		want []*x509.Certificate
	}{
		"plain":         {append(block(a), block(b)...), []*x509.Certificate{a, b}},
		"comments":      {bytes.Join([][]byte{[]byte("# A\n"), block(a), []byte("\n# B\n"), block(b)}, nil), []*x509.Certificate{a, b}},
		"other blocks":  {bytes.Join([][]byte{key, garbled, block(a)}, nil), []*x509.Certificate{a}},
		"Windows lines": {bytes.ReplaceAll(block(a), []byte("\n"), []byte("\r\n")), nil},
		"cut off":       {append(block(a), block(b)[:100]...), []*x509.Certificate{a}},
		"nothing":       {nil, nil},
	} {
		pool, want := x509.NewCertPool(), x509.NewCertPool()
		for _, cert := range c.want {
			want.AddCert(cert)
		}
		if any := addCertificates(pool, c.doc); any != (len(c.want) > 0) || !pool.Equal(want) {
			t.Errorf("%s: any is %v, or the pool differs", name, any)
		}
	}
}

// TestAddSystemCertificates compares with the general reader on the bundle of
// this machine.
func TestAddSystemCertificates(t *testing.T) {
	doc, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skip("no bundle file here")
	}
	pool, want := x509.NewCertPool(), x509.NewCertPool()
	want.AppendCertsFromPEM(doc)
	if !addCertificates(pool, doc) || !pool.Equal(want) {
		t.Error("the two pools differ")
	}
}

func BenchmarkBundle(b *testing.B) {
	for b.Loop() {
		if bundle() == nil {
			b.Skip("no bundle file here")
		}
	}
}
