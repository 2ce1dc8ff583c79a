package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// An issuer or a keychain may repeat a credential in an error, in any form.
func TestDebugMasksWhatErrorsRepeat(t *testing.T) {
	const canary = `rt-"c4n4ry"/+7f3a=9d2b&01`
	quoted, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	for name, form := range map[string]string{
		"raw": canary, "base64": base64.StdEncoding.EncodeToString([]byte("user:" + canary)),
		"base64url": base64.RawURLEncoding.EncodeToString([]byte(canary)), "url": url.QueryEscape(canary),
		"json": string(quoted), "hex": hex.EncodeToString([]byte(canary)),
	} {
		var log strings.Builder
		tr := &trace{w: &log, now: time.Now}
		tr.learnItem(secret.New("1 7 " + canary))
		tr.done(time.Now(), errors.New("bad token ("+form+")"), "token request")
		if text := log.String(); strings.Contains(text, form) || strings.Contains(text, form[6:len(form)-6]) || !strings.Contains(text, "***") {
			t.Errorf("%s: the log tells it", name)
		}
	}
}
