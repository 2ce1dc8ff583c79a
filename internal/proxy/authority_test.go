package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// The authority lives for a day, signs for the pinned hosts and is refused by
// everybody for any other.
func TestAuthorityIsConstrained(t *testing.T) {
	now := time.Now()
	for _, hosts := range [][]string{{apiHost, secondHost, "xn--mnchen-3ya.example"}, {"127.0.0.1:8080", "[::1]:8080", "localhost:8080"}, {"127.0.0.1:8080"}, {apiHost}} {
		a, err := newAuthority(hosts, now)
		if err != nil {
			t.Fatal(err)
		}
		block, rest := pem.Decode(a.pem())
		if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
			t.Fatal("the authority hands out more than a certificate")
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !ca.IsCA || !ca.MaxPathLenZero || !ca.PermittedDNSDomainsCritical || ca.NotAfter.After(now.Add(24*time.Hour)) || ca.KeyUsage != x509.KeyUsageCertSign {
			t.Errorf("the authority for %v may do too much", hosts)
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		verify := func(host string) error {
			config, err := a.config(host)
			if err != nil {
				t.Fatal(err)
			}
			leaf := config.Certificates[0].Leaf
			if leaf.NotAfter.After(ca.NotAfter) || leaf.IsCA {
				t.Errorf("the certificate for %s may do too much", host)
			}
			_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: hostname(host), CurrentTime: now})
			return err
		}
		for _, host := range hosts {
			if err := verify(host); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		for _, host := range []string{evilHost, "example.com", "evil" + apiHost, "192.0.2.1", "[2001:db8::1]", "127.0.0.2"} {
			if err := verify(host); err == nil {
				t.Errorf("a certificate for %s is good although only %v are pinned", host, hosts)
			}
		}
	}
}

// A server of the run's own authority is what a child trusts, and no more: the
// names it can be used for are in the certificate.
func TestHandshake(t *testing.T) {
	r := newEgressRig(t)
	r.serve(apiHost, echoing())
	r.start()
	for _, protocols := range [][]string{{"h2", "http/1.1"}, {"http/1.1"}, nil} {
		conn, err := net.Dial("tcp", r.egress.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", apiHost, r.auth())
		if _, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"}); err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(r.egress.CA())
		secure := tls.Client(conn, &tls.Config{ServerName: apiHost, RootCAs: pool, NextProtos: protocols})
		if err := secure.Handshake(); err != nil {
			t.Fatal(err)
		}
		want := ""
		if protocols != nil {
			want = protocols[0]
		}
		if got := secure.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("offered %q, got %q", protocols, got)
		}
	}
}
