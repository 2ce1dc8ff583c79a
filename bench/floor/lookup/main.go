// Command lookup counts what finding and reading one entry of the catalogue
// allocates.
package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/apiauth/apiauth/internal/providers"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lookup ID")
		os.Exit(2)
	}
	id := os.Args[1]
	c := providers.Open("")
	count := func(look func() error) float64 {
		return testing.AllocsPerRun(100, func() {
			if err := look(); err != nil {
				fmt.Fprintln(os.Stderr, "lookup:", err)
				os.Exit(1)
			}
		})
	}
	digest := count(func() error { _, err := c.Digest(id); return err })
	whole := count(func() error { _, err := c.Get(id); return err })
	fmt.Printf("digest in %.0f allocations, definition in %.0f\n", digest, whole)
}
