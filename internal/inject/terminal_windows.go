package inject

import "os"

// terminal does not exist here: what is masked goes through pipes.
type terminal struct{ screen, master, slave *os.File }

func openTerminal(*Child) (*terminal, error) { return nil, nil }

func (*terminal) start() {}
func (*terminal) close() {}

func survivePipes() (restore func()) { return func() {} }

func widen(*os.File) {}
