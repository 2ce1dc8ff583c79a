package oauth

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"runtime"
)

const maxCAFile = 16 << 20

// roots returns the certificates to trust; nil means the system's own
// verifier. all is false when only the first bundle file was read. Go's own
// loading reads the bundle and then every file of the certificate folder,
// which costs more than the rest of a token request, so that is left for the
// case that the bundle does not know an authority.
func (h *HTTP) roots(wantAll bool) (pool *x509.CertPool, all bool, err error) {
	switch {
	case h.o.Roots != nil:
		if pool, err = h.o.Roots(); err != nil {
			return nil, false, refusef("load the certificates to trust: %s", Clean(err.Error()))
		}
		pool, all = pool.Clone(), true
	case !wantAll:
		pool = bundle()
	}
	if pool == nil && h.o.CAFile == "" {
		return nil, true, nil
	}
	if pool == nil {
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
		all = true
	}
	if h.o.CAFile != "" {
		pem, err := readCapped(h.o.CAFile, maxCAFile)
		if err != nil {
			return nil, false, refusef("read the CA file %s: %s", Clean(h.o.CAFile), fileReason(err))
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, false, refusef("read the CA file %s: it holds no PEM certificate", Clean(h.o.CAFile))
		}
	}
	return pool, all, nil
}

// Roots returns all certificates that h trusts, for other code that connects by
// itself; nil means the system's own verifier.
func (h *HTTP) Roots() (*x509.CertPool, error) {
	pool, _, err := h.roots(true)
	return pool, err
}

// bundle reads the first bundle file that there is, in the order of Go's
// crypto/x509, or the one that SSL_CERT_FILE names. Go trusts it too, and
// besides it the folders of SSL_CERT_DIR or of the system. It returns nil where
// there is no such file.
func bundle() *x509.CertPool {
	var files []string
	switch runtime.GOOS {
	case "linux":
		files = []string{
			"/etc/ssl/certs/ca-certificates.crt",
			"/etc/pki/tls/certs/ca-bundle.crt",
			"/etc/ssl/ca-bundle.pem",
			"/etc/pki/tls/cacert.pem",
			"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
			"/etc/ssl/cert.pem",
		}
	case "freebsd", "netbsd", "openbsd", "dragonfly":
		files = []string{
			"/usr/local/etc/ssl/cert.pem",
			"/etc/ssl/cert.pem",
			"/usr/local/share/certs/ca-root-nss.crt",
			"/etc/openssl/certs/ca-certificates.crt",
		}
	default:
		return nil
	}
	if f := os.Getenv("SSL_CERT_FILE"); f != "" {
		files = []string{f}
	}
	for _, f := range files {
		pem, err := readCapped(f, maxCAFile)
		if err != nil {
			continue
		}
		pool := x509.NewCertPool()
		if addCertificates(pool, pem) || pool.AppendCertsFromPEM(pem) {
			return pool
		}
		return nil
	}
	return nil
}

// addCertificates is AppendCertsFromPEM for the bundles of operating systems:
// these hold plain blocks, for which the general reader of PEM takes three times
// as long. A block that is not plain, or holds no certificate, is passed over. It
// reports whether there was any certificate.
func addCertificates(pool *x509.CertPool, pem []byte) (any bool) {
	for {
		_, rest, found := bytes.Cut(pem, []byte("-----BEGIN CERTIFICATE-----\n"))
		if !found {
			return any
		}
		body, rest, found := bytes.Cut(rest, []byte("-----END CERTIFICATE-----"))
		if !found {
			return any
		}
		pem = rest
		der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
		n, err := base64.StdEncoding.Decode(der, body) // skips line ends
		if err != nil {
			continue
		}
		if cert, err := x509.ParseCertificate(der[:n]); err == nil {
			pool.AddCert(cert)
			any = true
		}
	}
}

func readCapped(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	var b bytes.Buffer
	b.Grow(int(min(fi.Size(), limit)) + bytes.MinRead)
	_, err = b.ReadFrom(io.LimitReader(f, limit))
	return b.Bytes(), err
}

// fileReason drops the path, which the message names already.
func fileReason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
