package sandbox_test

import (
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox"
)

// TestDefinitionsParse holds both definitions against the strict parser.
func TestDefinitionsParse(t *testing.T) {
	r := start(t, sandbox.Options{RotateRefresh: true, ClientSecretBasic: true})
	id, _ := r.ConfidentialClient()
	for name, c := range map[string]struct {
		data     []byte
		client   string
		flow     string
		secret   bool
		wantAuth string
	}{
		"sandbox":    {r.ProviderYAML("sandbox"), r.ClientID(), "browser", false, "none"},
		"sandbox-ci": {r.ConfidentialYAML("sandbox-ci"), id, "client-credentials", true, "client_secret_basic"},
	} {
		p, err := providers.Parse(name+".yaml", c.data, providers.User)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		pins, err := (&providers.Definition{Provider: p, Origin: providers.User}).Pin(providers.PinOptions{Flow: c.flow, HasSecret: c.secret})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if pins.ClientID != c.client || pins.AuthMethod != c.wantAuth || pins.TokenEndpoint != r.Issuer()+"/token" || !pins.IssParameterSupported {
			t.Errorf("%s: client %q, method %q, token endpoint %q", name, pins.ClientID, pins.AuthMethod, pins.TokenEndpoint)
		}
	}
}
