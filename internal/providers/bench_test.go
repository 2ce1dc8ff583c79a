package providers_test

import (
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

// Digest runs in every token command, Get in connect.
func BenchmarkDigest(b *testing.B) {
	c := providers.Open(b.TempDir())
	for b.Loop() {
		if _, err := c.Digest("spotify"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	c := providers.Open(b.TempDir())
	for b.Loop() {
		if _, err := c.Get("spotify"); err != nil {
			b.Fatal(err)
		}
	}
}
