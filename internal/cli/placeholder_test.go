package cli

import (
	"maps"
	"testing"
)

// A kept field that is named like a secret has no stand-in, so a command under
// placeholders does not get it at all. What is kept stays as it is.
func TestKeptSecretsAreNotHandedOutBesidePlaceholders(t *testing.T) {
	kept := map[string]string{"instance_url": "https://a.example", "bot_access_token": "x", "Webhook_Secret": "y", "db_password": "z"}
	if got, want := openFields(kept), map[string]string{"instance_url": "https://a.example"}; !maps.Equal(got, want) {
		t.Errorf("handed out are %d fields, want 1", len(got))
	}
	if len(kept) != 4 || len(openFields(nil)) != 0 {
		t.Error("the kept fields themselves were changed")
	}
}
