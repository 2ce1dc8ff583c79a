package peers_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/apiauth/apiauth/test/peers"
)

// landing is a loopback page that a login ends on.
func landing(t *testing.T) (string, <-chan url.Values) {
	t.Helper()
	called := make(chan url.Values, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback/peer" {
			called <- r.URL.Query()
			_, _ = w.Write([]byte("<!DOCTYPE html><title>Connected</title><p>You can close this tab.</p>"))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/callback/peer", called
}

func authURL(is *peers.IssuerProc, back string) string {
	return is.URL + "/auth?" + url.Values{
		"client_id": {is.Public.ID}, "response_type": {"code"}, "redirect_uri": {back}, "scope": {"openid profile"}, "state": {"s"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(oauth2.GenerateVerifier())}, "code_challenge_method": {"S256"},
	}.Encode()
}

func TestBrowserSignsInAndConsents(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{})
	b := peers.Browser(t, peers.BrowserOptions{Account: "carol"})
	back, called := landing(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	out, err := exec.CommandContext(ctx, b.Script, authURL(is, back)).CombinedOutput()
	if err != nil {
		t.Fatalf("the browser failed: %v: %s", err, out)
	}
	visit, err := b.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if visit.Title != "Connected" || !strings.Contains(visit.Text, "You can close this tab.") || b.Starts() != 1 {
		t.Errorf("landed on %q saying %q after %d starts", visit.Title, visit.Text, b.Starts())
	}
	if q := <-called; q.Get("code") == "" || q.Get("iss") != is.URL {
		t.Errorf("the callback lacks code or iss: %v", keys(q))
	}
}

func TestBrowserDenies(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{})
	b := peers.Browser(t, peers.BrowserOptions{Deny: true})
	back, called := landing(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, b.Dir+"/xdg-open", authURL(is, back)).CombinedOutput(); err != nil {
		t.Fatalf("the browser failed: %v: %s", err, out)
	}
	if q := <-called; q.Get("error") != "access_denied" {
		t.Errorf("the callback got error %q", q.Get("error"))
	}
}

func TestBrowserConfirmsADevice(t *testing.T) {
	is := peers.Issuer(t, peers.IssuerOptions{})
	_, start := post(t, is.URL+"/device/auth", is.Public, url.Values{"client_id": {is.Public.ID}, "scope": {"openid"}})
	b := peers.Browser(t, peers.BrowserOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, b.Script, text(start, "verification_uri_complete")).CombinedOutput(); err != nil {
		t.Fatalf("the browser failed: %v: %s", err, out)
	}
	if visit, err := b.Wait(ctx); err != nil || !strings.Contains(visit.Text, "You can close this page.") {
		t.Errorf("landed on %q, error %v", visit.Text, err)
	}
}

func TestBrowserEndsWithItsTest(t *testing.T) {
	hung := make(chan struct{})
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hung) })

	var cmd *exec.Cmd
	t.Run("a page that never answers", func(t *testing.T) {
		b := peers.Browser(t, peers.BrowserOptions{})
		cmd = exec.Command(b.Script, server.URL) // it must end without our help
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
	})
	if cmd == nil || cmd.Process == nil {
		t.Skip("the browser is not here")
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the browser says that it got there")
	}
}
