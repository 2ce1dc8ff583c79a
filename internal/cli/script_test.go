package cli

import "testing"

// TestScripts runs what a person types.
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }
