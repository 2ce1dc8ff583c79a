package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"
)

// authorityLife is how long the certificates of a run are good.
const authorityLife = 24 * time.Hour

// authority signs the certificates with which one run answers for the pinned
// hosts. Its key is made for the run, lives in memory only, and is good for
// nothing but these hosts: the name constraints are critical.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	leaf  *ecdsa.PrivateKey // of all certificates that it signs
	until time.Time

	mu      sync.Mutex
	configs map[string]*tls.Config
}

// newAuthority makes an authority for hosts in normal form.
func newAuthority(hosts []string, now time.Time) (*authority, error) {
	a := &authority{until: now.Add(authorityLife), configs: make(map[string]*tls.Config)}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if a.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:                     pkix.Name{CommonName: "apiauth, this run only"},
		NotBefore:                   now.Add(-time.Minute),
		NotAfter:                    a.until,
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
	}
	for _, host := range hosts {
		name := hostname(host)
		if ip, err := netip.ParseAddr(name); err == nil {
			bits := ip.BitLen()
			template.PermittedIPRanges = append(template.PermittedIPRanges, &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(bits, bits)})
		} else {
			template.PermittedDNSDomains = append(template.PermittedDNSDomains, name)
		}
	}
	// A kind of name of which nothing is permitted is not constrained at all
	// (RFC 5280 section 4.2.1.10), so it is excluded.
	if len(template.PermittedIPRanges) == 0 {
		template.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
	if len(template.PermittedDNSDomains) == 0 {
		template.PermittedDNSDomains = []string{"none.invalid"}
	}
	if a.cert, err = sign(template, template, &a.key.PublicKey, a.key); err != nil {
		return nil, fmt.Errorf("make the authority of this run: %w", err)
	}
	return a, nil
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// pem returns the certificate of the authority. The key has no way out.
func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// config returns what answers for a host in normal form. It is made once, with
// the keys for resuming a TLS connection.
func (a *authority) config(host string) (*tls.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name := hostname(host)
	if c := a.configs[name]; c != nil {
		return c, nil
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "apiauth"},
		NotBefore:   a.cert.NotBefore,
		NotAfter:    a.until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	cert, err := sign(template, a.cert, &a.leaf.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate for %s: %w", name, err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: a.leaf, Leaf: cert}},
		NextProtos:   []string{"h2", "http/1.1"},
	}
	a.configs[name] = c
	return c, nil
}
