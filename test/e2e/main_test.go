//go:build unix

package e2e

import (
	"os"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// binary is the program under test.
func binary() string { return peers.Binary() }
