package providers_test

import (
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func TestCatalogue(t *testing.T) {
	c := providers.Open("")
	list, err := c.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		for _, f := range providers.Lint(d.Provider) {
			t.Errorf("%s: %s", d.ID, f)
		}
	}
}
