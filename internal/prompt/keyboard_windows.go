package prompt

import (
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// dropInput throws away what has been typed and not been read.
func dropInput(fd int) {
	_ = windows.FlushConsoleInputBuffer(windows.Handle(fd)) //nolint:gosec // it was a handle
}

// understandEscapes has the console take escape sequences, which older ones do
// only when they are asked to.
func understandEscapes(out io.Writer) (restore func()) {
	f, ok := out.(*os.File)
	if !ok {
		return func() {}
	}
	h := windows.Handle(f.Fd())
	var old uint32
	if windows.GetConsoleMode(h, &old) != nil {
		return func() {}
	}
	if windows.SetConsoleMode(h, old|windows.ENABLE_PROCESSED_OUTPUT|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return func() {}
	}
	return func() { _ = windows.SetConsoleMode(h, old) }
}
