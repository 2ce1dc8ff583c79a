package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
)

func TestWarm(t *testing.T) {
	ca := newAuthority(t)
	base, hits := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}})
	roots := func() (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		return pool, nil
	}
	var dials atomic.Int32
	o := Options{Roots: roots, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}

	t.Run("used", func(t *testing.T) {
		h := newHTTP(t, o)
		h.Warm(t.Context(), base+"/token")
		h.Warm(t.Context(), base+"/token") // no second one
		if _, err := h.PostToken(t.Context(), refresh(base+"/token")); err != nil {
			t.Fatal(err)
		}
		if dials.Load() != 1 || hits.Load() != 1 {
			t.Errorf("%d connections, %d requests", dials.Load(), hits.Load())
		}
		if _, err := h.PostToken(t.Context(), refresh(base+"/token")); err != nil || dials.Load() != 2 {
			t.Errorf("%d connections, %v", dials.Load(), err)
		}
	})
	t.Run("unused", func(t *testing.T) {
		h := newHTTP(t, o)
		before := hits.Load()
		h.Warm(t.Context(), base+"/token")
		h.Close()
		if hits.Load() != before {
			t.Error("a request was sent")
		}
	})
	t.Run("too old", func(t *testing.T) {
		h := newHTTP(t, o)
		h.Warm(t.Context(), base+"/token")
		u, _ := url.Parse(base)
		h.mu.Lock()
		w := h.warm[u.Host]
		w.start = w.start.Add(-maxWarm)
		h.warm[u.Host] = w
		h.mu.Unlock()
		before := dials.Load()
		if _, err := h.PostToken(t.Context(), refresh(base+"/token")); err != nil || dials.Load() < before+1 {
			t.Errorf("%d connections, %v", dials.Load()-before, err)
		}
	})
	t.Run("failed", func(t *testing.T) {
		h := newHTTP(t, Options{Roots: roots, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }})
		h.Warm(t.Context(), "https://issuer.example/token")
		if _, err := h.PostToken(t.Context(), refresh("https://issuer.example/token")); !errors.Is(err, ErrNotSent) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("certificates are verified", func(t *testing.T) {
		h := newHTTP(t, Options{Roots: func() (*x509.CertPool, error) { return x509.NewCertPool(), nil }})
		before := hits.Load()
		h.Warm(t.Context(), base+"/token")
		if _, err := h.PostToken(t.Context(), refresh(base+"/token")); !errors.Is(err, ErrNotSent) || hits.Load() != before {
			t.Errorf("error %v", err)
		}
	})
	t.Run("interrupted while opening", func(t *testing.T) {
		h := newHTTP(t, Options{Roots: roots, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		h.Warm(t.Context(), "https://issuer.example/token")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.PostToken(ctx, refresh("https://issuer.example/token")); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("not for http, a proxy, or a refused URL", func(t *testing.T) {
		proxied := Options{Roots: roots, Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://127.0.0.1:1") }}
		h, p := newHTTP(t, Options{Roots: roots}), newHTTP(t, proxied)
		h.Warm(t.Context(), "http://127.0.0.1:1/token")
		h.Warm(t.Context(), "file:///x")
		p.Warm(t.Context(), "https://issuer.example/token")
		if len(h.warm)+len(p.warm) != 0 {
			t.Error("a connection was opened")
		}
	})
}
