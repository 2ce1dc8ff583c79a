package oauth

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// maxCertificates is how many certificates a chain may have.
const maxCertificates = 10

// certificatesIn returns the certificates of a PEM text in their order.
func certificatesIn(text string) ([]string, error) {
	var chain []string
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return chain, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, errors.New("a certificate in the file cannot be read")
		}
		if chain = append(chain, base64.StdEncoding.EncodeToString(block.Bytes)); len(chain) > maxCertificates {
			return nil, errors.New("the file holds more certificates than a chain has")
		}
	}
}

// ClientCertificate is the certificate of a client, with what a person needs to
// know of it.
type ClientCertificate struct {
	Subject string // cleaned for display
	Begins  time.Time
	Ends    time.Time
	// ForClients is false where the certificate says what it is for, and that is
	// not the authentication of clients (RFC 5280 section 4.2.1.12).
	ForClients bool
	tls        tls.Certificate
}

// Certificate returns the certificate that belongs to the key, followed by the
// others, which lead to the authority that issued it.
func (k Key) Certificate() (ClientCertificate, error) {
	signer, err := k.private()
	if err != nil {
		return ClientCertificate{}, err
	}
	if len(k.Certificates) == 0 {
		return ClientCertificate{}, errors.New("the client has a key and no certificate")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return ClientCertificate{}, errors.New("the key cannot be compared with the certificate")
	}
	c := ClientCertificate{tls: tls.Certificate{PrivateKey: signer}}
	for _, text := range k.Certificates {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return ClientCertificate{}, errors.New("the stored certificate cannot be read")
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return ClientCertificate{}, errors.New("the stored certificate cannot be read")
		}
		if c.tls.Leaf == nil && public.Equal(parsed.PublicKey) {
			c.tls.Leaf = parsed
			c.tls.Certificate = append([][]byte{der}, c.tls.Certificate...)
			continue
		}
		c.tls.Certificate = append(c.tls.Certificate, der)
	}
	leaf := c.tls.Leaf
	if leaf == nil {
		return ClientCertificate{}, errors.New("the certificate does not belong to the key: it was issued for another one")
	}
	c.Subject, c.Begins, c.Ends = Clean(leaf.Subject.String()), leaf.NotBefore, leaf.NotAfter
	c.ForClients = len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
	return c, nil
}

// SplitCertificates takes the certificates, which are public, out of a client's
// secret, so that a keychain with little room need not hold them. A secret that is
// no encoded key with certificates comes back as it was.
func SplitCertificates(t secret.Text) (rest secret.Text, certificates []string) {
	var doc keptKey
	if json.Unmarshal([]byte(t.Reveal()), &doc) != nil || doc.PKCS8 == "" || len(doc.Certificates) == 0 {
		return t, nil
	}
	certificates, doc.Certificates = doc.Certificates, nil
	text, err := json.Marshal(doc)
	if err != nil {
		return t, nil
	}
	return secret.New(string(text)), certificates
}

// JoinCertificates puts back what SplitCertificates has taken.
func JoinCertificates(t secret.Text, certificates []string) secret.Text {
	var doc keptKey
	if len(certificates) == 0 || json.Unmarshal([]byte(t.Reveal()), &doc) != nil || doc.PKCS8 == "" {
		return t
	}
	doc.Certificates = certificates
	text, err := json.Marshal(doc)
	if err != nil {
		return t
	}
	return secret.New(string(text))
}

// CertificateEnds returns when the first of certificates, as SplitCertificates
// gives them, ends; zero when there is none.
func CertificateEnds(certificates []string) time.Time {
	if len(certificates) == 0 {
		return time.Time{}
	}
	der, err := base64.StdEncoding.DecodeString(certificates[0])
	if err != nil {
		return time.Time{}
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return time.Time{}
	}
	return leaf.NotAfter
}

// presented is a client's certificate on its way in one request.
type presented struct {
	certificate tls.Certificate
	asked       atomic.Bool // by the server
	// optional says that a server which does not ask gets the request all the same.
	optional bool
}

// certificate returns what a client presents in the handshake with endpoint. A
// certificate of an authority that has ended is not sent: no issuer accepts it,
// and its refusal would not say so. One that is registered itself is compared as it
// is (RFC 8705 section 2.2), so that its end is the issuer's to judge.
func (c Client) certificate(endpoint string, now time.Time) (*presented, error) {
	key, err := DecodeKey(c.Secret)
	if err != nil {
		return nil, certificatef("authenticate the client: %s", err)
	}
	own, err := key.Certificate()
	if err != nil {
		return nil, certificatef("authenticate the client: %s", err)
	}
	switch {
	case c.Method == AuthTLS && now.After(own.Ends):
		return nil, certificatef("the client's certificate ended on %s, and nothing was sent", own.Ends.Format(time.DateOnly))
	case c.Method == AuthTLS && now.Before(own.Begins):
		return nil, certificatef("the client's certificate is good from %s on, and nothing was sent", own.Begins.Format(time.DateOnly))
	case !strings.HasPrefix(strings.ToLower(endpoint), "https:"):
		return nil, certificatef("the address is http, and a client's certificate needs TLS")
	}
	return &presented{certificate: own.tls}, nil
}

// RoundTripperAs is RoundTripper for an API whose tokens are bound to the
// certificate of c (RFC 8705 section 3): it is presented to the server of each
// request that asks for one. The caller sees to it that requests go to hosts that
// may get the token.
func (h *HTTP) RoundTripperAs(c Client) (http.RoundTripper, error) {
	t, err := h.get(false)
	if err != nil {
		return nil, err
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = h.o.Timeouts.Header
	return presenter{h, t, c}, nil
}

type presenter struct {
	h *HTTP
	t *http.Transport
	c Client
}

// RoundTrip sends one request, on a connection of its own.
func (p presenter) RoundTrip(r *http.Request) (*http.Response, error) {
	own, err := p.c.certificate(r.URL.String(), p.h.o.Now())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, err
	}
	own.optional = true
	resp, err := p.h.presenting(p.t, r.URL, own).RoundTrip(r)
	if why := own.failed(r.URL.Host, err); why != nil {
		return nil, why
	}
	return resp, err
}

// presenting returns a copy of t, for one request, that presents the certificate to
// the server of u and to nobody else. It dials anew: a connection that was opened
// ahead has no certificate.
func (h *HTTP) presenting(t *http.Transport, u *url.URL, p *presented) *http.Transport {
	plain, config := t.TLSClientConfig, t.TLSClientConfig.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		p.asked.Store(true)
		return &p.certificate, nil
	}
	target := u.Host
	if u.Port() == "" {
		target = net.JoinHostPort(u.Hostname(), "443")
	}
	t = t.Clone()
	t.TLSClientConfig = config // inside the tunnel of a proxy
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != target {
			return h.dialTLS(ctx, plain, network, addr) // a proxy that speaks TLS itself
		}
		conn, err := h.dialTLS(ctx, config, network, addr)
		if err == nil && !p.asked.Load() && !p.optional {
			// The request would be one of nobody, and a code in it would be lost.
			drop(conn)
			return nil, certificatef("%s did not ask for the client's certificate, so nothing was sent: this is not its endpoint for mutual TLS", u.Host)
		}
		return conn, err
	}
	return t
}

// failed puts into words why a request with a certificate did not reach the issuer;
// nil when it may have.
func (p *presented) failed(host string, err error) error {
	if p == nil || err == nil || !p.asked.Load() {
		return nil
	}
	if alert := certificateAlert(err); alert != "" {
		return certificatef("%s refused the client's certificate (%s)", host, alert)
	}
	return nil
}

// certificateAlert returns the alert of a server that ended a handshake because of
// our certificate (RFC 8446 section 6.2), before it read any request; else "". The
// standard library has no type for it.
func certificateAlert(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" || op.Err == nil {
		return ""
	}
	switch alert := strings.TrimPrefix(op.Err.Error(), "tls: "); alert {
	case "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate",
		"unknown certificate authority", "certificate required", "access denied":
		return alert
	}
	return ""
}
