// Command keychain is the floor of a read from the OS keychain: one Get of the
// library that apiauth uses, and nothing else.
package main

import (
	"os"

	"github.com/zalando/go-keyring" //nolint:depguard // the library alone is what is measured
)

func main() {
	if len(os.Args) == 4 {
		check(keyring.Set(os.Args[1], os.Args[2], os.Args[3]))
		return
	}
	value, err := keyring.Get(os.Args[1], os.Args[2])
	check(err)
	_, _ = os.Stdout.WriteString(value + "\n")
}

func check(err error) {
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}
