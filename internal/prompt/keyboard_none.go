//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package prompt

import "io"

// dropInput has nothing to do: nothing is known of these terminals.
func dropInput(int) {}

// understandEscapes has nothing to do.
func understandEscapes(io.Writer) (restore func()) { return func() {} }
