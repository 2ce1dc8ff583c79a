// Command tlspost is the floor of a refresh: one TLS handshake that trusts a
// single certificate, one request written by hand, one answer.
//
//	tlspost CA.pem HOST:PORT
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", os.Args[2], &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}) //nolint:noctx // a floor
	check(err)
	const form = "grant_type=refresh_token&refresh_token=r&client_id=bench"
	_, err = fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(form), form)
	check(err)
	answer, err := io.ReadAll(conn)
	check(err)
	_, rest, ok := strings.Cut(string(answer), `"access_token":"`)
	if !ok {
		check(fmt.Errorf("no token in the answer"))
	}
	token, _, _ := strings.Cut(rest, `"`)
	_, _ = os.Stdout.WriteString(token + "\n")
}

func check(err error) {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}
