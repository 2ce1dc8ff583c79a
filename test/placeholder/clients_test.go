//go:build unix

package placeholder

import (
	"testing"
)

func TestCurl(t *testing.T) {
	w := newWorld(t, nil)
	r := w.sh(`curl -sS -H "Authorization: Bearer $SANDBOX_ACCESS_TOKEN" `+w.api.url("/me"), "--placeholder")
	t.Logf("%d %s %s", r.code, r.out, r.err)
	r = w.sh(`curl -sS -H "Authorization: Bearer $SANDBOX_ACCESS_TOKEN" `+w.api.url("/me")+`; id; ls -la ~ /tmp; env | cut -d= -f1 | sort | tr "\\n" " "; ps aux`, "--isolate")
	t.Logf("%d %s %s", r.code, r.out, r.err)
}
