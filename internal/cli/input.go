package cli

import (
	"io"
	"os"
	"path/filepath"
)

// openInput opens a file that a flag names; "-" is standard input, and the empty
// name is nothing.
func openInput(stdin io.Reader, dir, name string) (io.Reader, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return stdin, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, failf(exitUsage, "", "read the input: %w", err)
	}
	return f, nil
}
