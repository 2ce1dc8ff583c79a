package inject

import (
	"fmt"
	"os"
)

// Append adds text to a variable file of a CI system, such as the one that
// GITHUB_ENV names, and makes the file (mode 0600) when it is not there. A link,
// what is no regular file, and a file of another user are refused; root, who
// runs the jobs of containers, may add to the file of the runner's user. When
// the file does not end with a line end, one goes before text, so that what
// somebody else left there stays as it is.
func Append(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|noFollow, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	if err := checkOwner(path, info); err != nil {
		return err
	}
	if size := info.Size(); size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	_, err = f.Write(text)
	return err
}
