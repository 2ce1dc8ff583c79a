package loopback_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/loopback"
)

// The policy of a page allows its style and nothing else.
func TestPageAndItsPolicyAgree(t *testing.T) {
	w := httptest.NewRecorder()
	loopback.Page(w, http.StatusOK, "Title", "<script>alert(1)</script>")
	body := w.Body.String()
	_, rest, _ := strings.Cut(body, "<style>")
	style, _, ok := strings.Cut(rest, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	if policy := w.Header().Get("Content-Security-Policy"); !ok || !strings.Contains(policy, want) {
		t.Errorf("the policy %q does not allow the style of the page", policy)
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "http") || !strings.Contains(body, "color-scheme:light dark") {
		t.Errorf("the page runs or loads something, or knows only one colour scheme: %s", body)
	}
}
