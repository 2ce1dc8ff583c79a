//go:build !windows

package inject

// terminal is a pseudo-terminal between a child and ours.
type terminal struct{}

func (t *terminal) suspend(int) {}
