package proxy

import (
	"bytes"
	"cmp"
	"io"
	"slices"
)

// pattern is one text that a matcher looks for.
type pattern struct {
	form
	owner int // which of the matcher's secrets it belongs to
}

// matcher finds many patterns in one pass. Where no pattern can end, it moves on
// by nearly the length of the shortest one (Wu and Manber, "A fast algorithm for
// multi-pattern searching", 1994), so that a body without a match costs little.
// It does not change once it is made.
type matcher struct {
	patterns []pattern // shortest first
	window   int       // the part of every pattern that is looked at while moving on
	longest  int
	// shift says for the last two bytes of a window how far the next window
	// that may be the beginning of a pattern is away at least.
	shift [1 << 12]uint8
}

// newMatcher looks for all forms of the secrets. It returns nil, which finds
// nothing, when there are none.
func newMatcher(secrets []string) *matcher {
	m := &matcher{window: 256}
	for owner, s := range secrets {
		for _, f := range formsOf(s) {
			m.patterns = append(m.patterns, pattern{f, owner})
			m.window = min(m.window, len(f.text))
			m.longest = max(m.longest, len(f.text))
		}
	}
	if len(m.patterns) == 0 {
		return nil
	}
	slices.SortStableFunc(m.patterns, func(a, b pattern) int { return cmp.Compare(len(a.text), len(b.text)) })
	for i := range m.shift {
		m.shift[i] = uint8(m.window - 1)
	}
	for _, p := range m.patterns {
		for i := range m.window - 1 {
			h := pair(p.text[i], p.text[i+1])
			m.shift[h] = min(m.shift[h], uint8(m.window-2-i))
		}
	}
	return m
}

func pair(a, b byte) int { return (int(a)<<4 ^ int(b)) & 0xfff }

// next returns the first match in b that begins at from or later, and where. It
// prefers the shortest of several that begin at one place, so that what is found
// does not depend on how a stream was cut. Without a match it returns the place
// up to which b cannot be the beginning of one; that is its end where final says
// that nothing follows.
func (m *matcher) next(b []byte, from int, final bool) (*pattern, int) {
	if m == nil {
		return nil, len(b)
	}
	for end := from + m.window; end <= len(b); {
		if s := m.shift[pair(b[end-2], b[end-1])]; s > 0 {
			end += int(s)
			continue
		}
		at := end - m.window
		for i := range m.patterns {
			p := &m.patterns[i]
			if rest := b[at:]; len(rest) >= len(p.text) {
				if bytes.Equal(rest[:len(p.text)], p.text) {
					return p, at
				}
			} else if !final && bytes.HasPrefix(p.text, rest) {
				return nil, at
			}
		}
		end++
	}
	if final {
		return nil, len(b)
	}
	for at := max(from, len(b)-m.window+1); at < len(b); at++ {
		for i := range m.patterns {
			if bytes.HasPrefix(m.patterns[i].text, b[at:]) {
				return nil, at
			}
		}
	}
	return nil, len(b)
}

// contains returns the first match in a text that is complete.
func (m *matcher) contains(b []byte) *pattern {
	p, _ := m.next(b, 0, true)
	return p
}

// replace puts what hit returns in place of every match of a complete text. It
// returns b itself when there is none.
func (m *matcher) replace(b []byte, hit func(*pattern) []byte) []byte {
	var out []byte
	done := 0
	for {
		p, at := m.next(b, done, true)
		if p == nil {
			break
		}
		out = append(append(out, b[done:at]...), hit(p)...)
		done = at + len(p.text)
	}
	if done == 0 {
		return b
	}
	return append(out, b[done:]...)
}

// stream reads src through a matcher. A byte is held back only as long as it may
// be the beginning of a match, so that what a server sends now arrives now.
type stream struct {
	src io.Reader
	m   *matcher
	// hit returns what stands in place of a match, or the error with which the
	// reading ends before it.
	hit func(*pattern) ([]byte, error)

	held []byte // may begin a match
	out  []byte // ready to be read, a part of back
	back []byte
	work []byte
	err  error
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for len(s.out) == 0 && s.err == nil && len(p) > 0 {
		// Large reads are searched where they are, small ones in a buffer of
		// our own.
		b, own := p, false
		if len(p) < s.m.longest+512 {
			if s.work == nil {
				s.work = make([]byte, s.m.longest+4<<10)
			}
			b, own = s.work, true
		}
		kept := copy(b, s.held)
		n, err := s.src.Read(b[kept:])
		b = b[:kept+n]
		match, at := s.m.next(b, 0, err != nil)
		if match == nil && !own {
			s.held = append(s.held[:0], b[at:]...)
			s.err = err
			if at > 0 {
				return at, nil
			}
			continue
		}
		s.out = s.rewrite(b, match, at, err)
	}
	if len(s.out) > 0 {
		n := copy(p, s.out)
		s.out = s.out[n:]
		return n, nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	return 0, s.err
}

// rewrite returns b with its matches replaced, up to where the next may begin.
func (s *stream) rewrite(b []byte, match *pattern, at int, err error) []byte {
	out := s.back[:0]
	done := 0
	for match != nil {
		out = append(out, b[done:at]...)
		instead, stop := s.hit(match)
		if stop != nil {
			s.err, s.held = stop, nil
			return out
		}
		out = append(out, instead...)
		done = at + len(match.text)
		match, at = s.m.next(b, done, err != nil)
	}
	out = append(out, b[done:at]...)
	s.held = append(s.held[:0], b[at:]...)
	s.err, s.back = err, out
	return out
}
