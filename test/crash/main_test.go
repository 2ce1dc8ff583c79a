//go:build linux

package crash

import (
	"os"
	"testing"

	"github.com/apiauth/apiauth/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// binaryPath is the program under test.
func binaryPath() string { return peers.Binary() }

// long reports whether the long form was asked for.
func long() bool { return os.Getenv("APIAUTH_TEST_LONG") != "" }
