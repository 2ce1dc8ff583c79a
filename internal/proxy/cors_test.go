package proxy

import (
	"net/http"
	"strings"
	"testing"
)

const page = "http://localhost:5173"

// TestReverseCORS: exact origins, headers from a list, never credentials, and the
// API's own CORS headers do not come through.
func TestReverseCORS(t *testing.T) {
	r := newReverseRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		w.Header().Set("Vary", "Accept")
	}, func(o *ReverseOptions) {
		o.Origins = []string{page, "https://app.example.com"}
		o.Routes[0].Headers = map[string]string{"X-One-Version": "1"}
	})
	for _, origin := range []string{page, "https://app.example.com"} {
		resp, _ := r.get("/one/x", "Origin: "+origin)
		h := resp.Header
		if resp.StatusCode != 200 || h.Get("Access-Control-Allow-Origin") != origin || h["Access-Control-Allow-Credentials"] != nil || strings.Join(h["Vary"], ", ") != "Accept, Origin" {
			t.Errorf("%s: status %d, %v", origin, resp.StatusCode, h)
		}
	}
	for _, origin := range []string{
		"http://localhost:5174", "https://localhost:5173", "http://127.0.0.1:5173", "http://localhost:5173/", "http://localhost", "null", "*", "",
		"http://localhost:5173.evil.example", "http://evil.example", "HTTP://LOCALHOST:5173", "https://sub.app.example.com", page + ", https://app.example.com",
	} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			resp, _ := r.do(r.request(method, "/one/x", nil, "Origin: "+origin, "Access-Control-Request-Method: GET"))
			if resp.StatusCode != http.StatusForbidden || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s from %q: status %d", method, origin, resp.StatusCode)
			}
		}
	}
	if resp, _ := r.get("/one/x"); resp.Header.Get("Access-Control-Allow-Origin") != "" || strings.Join(resp.Header["Vary"], ", ") != "Accept, Origin" {
		t.Errorf("a request of no page: %v", resp.Header)
	}

	// A page can read the proxy's own errors too.
	req := r.request(http.MethodGet, "/one/x", nil, "Origin: "+page)
	req.Header.Del("X-Apiauth-Key")
	if resp, body := r.do(req); resp.StatusCode != 401 || resp.Header.Get("Access-Control-Allow-Origin") != page || word(t, body) != "unauthorized" {
		t.Errorf("without the key: status %d, %v", resp.StatusCode, resp.Header)
	}

	ask := func(path, method, headers string, more ...string) *http.Response {
		req := r.request(http.MethodOptions, path, nil, append(more, "Origin: "+page, "Access-Control-Request-Method: "+method, "Access-Control-Request-Headers: "+headers)...)
		req.Header.Del("X-Apiauth-Key")
		resp, _ := r.do(req)
		return resp
	}
	resp := ask("/one/x", "DELETE", "authorization,X-Apiauth-Key, content-type,x-evil,x-one-version,cookie,authorization", "Access-Control-Request-Private-Network: true")
	h := resp.Header
	if resp.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != page || h.Get("Access-Control-Allow-Methods") != "DELETE" ||
		h.Get("Access-Control-Allow-Headers") != "authorization, x-apiauth-key, content-type, x-one-version" || h["Access-Control-Allow-Credentials"] != nil ||
		h.Get("Access-Control-Allow-Private-Network") != "true" || h.Get("Access-Control-Max-Age") != "600" || !strings.Contains(strings.Join(h["Vary"], ","), "Origin") {
		t.Errorf("preflight: status %d, %v", resp.StatusCode, h)
	}
	for _, method := range []string{"TRACE", "CONNECT", "*", "get"} {
		if resp := ask("/one/x", method, ""); resp.Header.Get("Access-Control-Allow-Methods") != "" {
			t.Errorf("preflight for %s: %v", method, resp.Header)
		}
	}
	if resp := ask("/two/x", "GET", ""); resp.StatusCode != 401 || resp.Header.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("preflight for a connection that is not served: status %d", resp.StatusCode)
	}
	if len(r.logged()) == 0 {
		t.Error("nothing was logged")
	}
}

func TestCheckOrigin(t *testing.T) {
	for _, good := range []string{"http://localhost:5173", "http://127.0.0.1:3000", "https://app.example.com", "http://[::1]:8080", "https://xn--bcher-kva.example"} {
		if err := CheckOrigin(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "*", "null", "localhost:5173", "localhost", "http://", "http://localhost:5173/", "http://localhost:5173/x", "http://localhost:5173?x", "http://localhost:5173#x",
		"http://u@localhost", "HTTP://localhost", "http://Localhost", "http://localhost:80", "https://localhost:443", "http://localhost:", "file:///x", "http://a b",
	} {
		if CheckOrigin(bad) == nil {
			t.Errorf("%q is taken for an origin", bad)
		}
	}
}
