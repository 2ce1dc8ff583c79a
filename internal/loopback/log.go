package loopback

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// At most logLines lines are written per logWindow: a flood of bad requests must
// not become a flood on the terminal.
const (
	logLines  = 10
	logWindow = time.Minute
	logWidth  = 200 // bytes of one line
)

// boundedLog writes single lines to out, a few per window, and says afterwards
// how many it left out.
type boundedLog struct {
	out func(string)

	mu      sync.Mutex
	since   time.Time
	written int
	left    int
}

func (b *boundedLog) line(s string) {
	if b.out == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := time.Now(); b.since.IsZero() || now.Sub(b.since) >= logWindow {
		left := b.left
		b.since, b.written, b.left = now, 0, 0
		if left > 0 {
			b.written++
			b.out(fmt.Sprintf("%d more lines were left out", left))
		}
	}
	if b.written >= logLines {
		b.left++
		return
	}
	b.written++
	b.out(oneLine(s))
}

// Write takes the error log of net/http. Its messages may quote a request or
// hold a stack, so only the fact is passed on.
func (b *boundedLog) Write(p []byte) (int, error) {
	b.line("a connection ended with an error")
	return len(p), nil
}

// oneLine keeps the printable ASCII of s and cuts it to logWidth bytes.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, s)
	return s[:min(len(s), logWidth)]
}
