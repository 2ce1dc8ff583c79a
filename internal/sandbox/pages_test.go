package sandbox

import (
	"strings"
	"testing"
)

// TestPagesEscape puts markup wherever a page takes text.
func TestPagesEscape(t *testing.T) {
	const evil = `"'><script>alert(1)</script>&amp;`
	for name, p := range map[string]page{
		"message": message{evil, evil},
		"index":   indexPage{evil, evil, evil},
		"device":  devicePage{Unknown: true},
		"consent": consentPage{
			Action: evil, ID: evil, CSRF: evil, Client: evil, Origin: evil, Device: true, UserCode: evil,
			Scopes: []scopeInfo{{evil, evil, evil}}, Accounts: []*account{{evil, evil, evil, evil}}, Chosen: evil,
		},
		"consent in a browser": consentPage{Origin: evil},
	} {
		html := string(whole(p))
		if strings.Contains(html, "<script") || strings.Contains(html, evil[:3]) || strings.Contains(html, "&amp; ") {
			t.Errorf("%s lets markup through:\n%s", name, html)
		}
		if !strings.HasPrefix(html, "<!doctype html>\n") || !strings.HasSuffix(html, "</html>\n") || strings.Count(html, "<main>") != 1 {
			t.Errorf("%s is no whole page:\n%s", name, html)
		}
	}
}
