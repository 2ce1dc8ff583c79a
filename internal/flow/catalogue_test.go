package flow

import (
	"slices"
	"strings"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// Every entry of the catalogue can be chosen and led to its redirect.
func TestCatalogueEntriesCanBeConnected(t *testing.T) {
	list, err := providers.Open("").List()
	if err != nil {
		t.Fatal(err)
	}
	desk := Means{Browser: true, Terminal: true, Person: true, Secret: true}
	for _, d := range list {
		got, err := Choose(FlowAuto, d.Provider, desk)
		if err != nil || got != d.Flows[0] {
			t.Errorf("%s: %q, %v; want %s", d.ID, got, err, d.Flows[0])
		}
		if !slices.Contains(d.Flows, FlowBrowser) {
			continue
		}
		r, err := parseRedirect(d.DefaultRedirect(), 0)
		if err != nil {
			t.Errorf("%s: %v", d.ID, err)
		}
		if !r.local && !strings.HasPrefix(d.DefaultRedirect(), "https://") || !strings.Contains(r.path, d.ID) {
			t.Errorf("%s: the redirect %s is not the provider's own", d.ID, r.at(1))
		}
	}
}
