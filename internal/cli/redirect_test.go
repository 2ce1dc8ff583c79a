package cli

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// A redirect of the API is shown and not followed: the token must not travel
// along, not even to another path.
func TestAPIRedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	var to atomic.Value
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/again" {
			followed.Add(1)
			return
		}
		w.Header().Set("Location", to.Load().(string))
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	defer api.Close()

	ws := &workspace{app: &App{Now: time.Now}}
	access := connection.Access{Token: secret.New("canary"), Header: connection.Header{Pins: providers.Pins{
		APIBase: api.URL, APIHosts: []string{strings.TrimPrefix(api.URL, "http://")}, AllowInsecureLoopback: true,
		APIAuth: providers.APIAuthPin{In: "header", Name: "Authorization", Prefix: "Bearer "},
	}}}
	for _, location := range []string{elsewhere.URL, "/again", api.URL + "/again"} {
		to.Store(location)
		request, err := ws.apiRequest(&apiOptions{Path: "me"}, &access.Header.Pins, nil)
		if err != nil {
			t.Fatal(err)
		}
		caller, err := ws.caller(t.Context(), access)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := caller.Do(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusTemporaryRedirect || followed.Load() != 0 {
			t.Errorf("status %d, followed %d times", resp.StatusCode, followed.Load())
		}
	}
}
