package proxy

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
)

func silentLog() *log.Logger { return log.New(io.Discard, "", 0) }

// echoing answers with all that it got.
func echoing() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw", r.Header.Get("Authorization"))
		fmt.Fprintf(w, "%s %s\nAuthorization: %s\n%s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body)
	})
}

func TestEgressSwapsThePlaceholder(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		r := newEgressRig(t)
		r.serve(apiHost, echoing())
		r.start()
		got := r.send(r.client(h2), "POST", "https://"+apiHost+"/v1/me?a=b", strings.NewReader("hello"), "Authorization: Bearer "+testPlaceholder)
		if got.StatusCode != 200 {
			t.Fatalf("http2 %v: %d %s", h2, got.StatusCode, got.body)
		}
		if want := 1 + map[bool]int{true: 1}[h2]; got.ProtoMajor != want {
			t.Errorf("the child was answered in HTTP/%d", got.ProtoMajor)
		}
		if !strings.Contains(r.arrived(apiHost), "Authorization: Bearer "+testToken+"\r\n") {
			t.Error("the token did not arrive")
		}
		if strings.Contains(r.arrived(apiHost), testPlaceholder) {
			t.Error("the placeholder arrived")
		}
		if got.body != "POST /v1/me?a=b\nAuthorization: Bearer "+testPlaceholder+"\nhello" {
			t.Error("the body is not what the child should see")
		}
		if got.Header.Get("X-Saw") != "Bearer "+testPlaceholder {
			t.Error("the header is not what the child should see")
		}
	}
}
