package leak

import (
	"io"
	"slices"
)

// Mask stands in the place of a secret.
const Mask = "***"

const (
	// telling is how many characters of a secret may be shown: fewer are held
	// back for a moment only, so that a prompt which ends like a secret begins
	// still appears.
	telling = 4
	// cutOff is from how many characters on the beginning of a secret is masked
	// when the stream ends before the rest has come.
	cutOff = 8
)

// Masker writes a stream on with Mask in the place of every secret, in each of
// its forms. All else passes unchanged, byte for byte. What may be the beginning
// of a secret is held back until it is decided. It is not safe for concurrent
// use.
type Masker struct {
	w      io.Writer
	finder *Finder
	held   []byte // not yet written, from offset from on
	from   int64
	spans  []span // to be masked, in order, not overlapping
	out    []byte
}

type span struct{ start, end int64 }

// NewMasker returns a Masker that writes to w.
func (s *Set) NewMasker(w io.Writer) *Masker { return &Masker{w: w, finder: s.NewFinder()} }

// Write masks p and writes all of it that is decided. Errors are those of the
// writer behind it.
func (m *Masker) Write(p []byte) (int, error) {
	m.finder.Feed(p, func(f Match) { m.mark(span{f.Start, f.End}) })
	text := p
	if len(m.held) > 0 {
		m.held = append(m.held, p...)
		text = m.held
	}
	if err := m.release(text, m.finder.decided()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// mark adds a span behind the others and joins it with those that it overlaps.
func (m *Masker) mark(s span) {
	for len(m.spans) > 0 && m.spans[len(m.spans)-1].end > s.start {
		last := m.spans[len(m.spans)-1]
		s.start, s.end = min(s.start, last.start), max(s.end, last.end)
		m.spans = m.spans[:len(m.spans)-1]
	}
	m.spans = append(m.spans, s)
}

// release writes text, which begins at m.from, up to the offset upTo, and holds
// the rest.
func (m *Masker) release(text []byte, upTo int64) error {
	upTo = max(upTo, m.from)
	for _, s := range m.spans {
		if s.start < upTo && upTo < s.end {
			upTo = max(s.start, m.from) // all of it at once
		}
	}
	end := m.from + int64(len(text))
	out := m.out[:0]
	at, done := m.from, 0
	plain := true
	for _, s := range m.spans {
		if max(s.start, m.from) >= upTo {
			break
		}
		plain = false
		start := max(s.start, at)
		out = append(out, text[at-m.from:start-m.from]...)
		out = append(out, Mask...)
		out = passedOver(out, text[start-m.from:s.end-m.from])
		at = s.end
		done++
	}
	rest := text[upTo-m.from:]
	var err error
	if plain {
		if upTo > m.from {
			_, err = m.w.Write(text[:upTo-m.from])
		}
	} else {
		out = append(out, text[at-m.from:upTo-m.from]...)
		_, err = m.w.Write(out)
	}
	m.spans = slices.Delete(m.spans, 0, done)
	m.held = append(m.held[:0], rest...)
	m.from = end - int64(len(rest))
	m.out = out
	return err
}

// passedOver adds what of a masked text is no part of the secret: its line ends
// and colours.
func passedOver(out, text []byte) []byte {
	for i, escape := 0, false; i < len(text); i++ {
		switch b := text[i]; {
		case b == '\r' || b == '\n':
			out = append(out, b)
		case b == 0x1b:
			escape = true
			out = append(out, b)
		case escape:
			escape = b == '[' || b < 0x40 || b > 0x7e
			out = append(out, b)
		}
	}
	return out
}

// Holding says whether something is held back that Idle would write.
func (m *Masker) Holding() bool { return len(m.held) > 0 && m.finder.depth() < telling }

// Idle writes what is held back if it is too little to tell anything of a
// secret. It is called when nothing has come for a moment.
func (m *Masker) Idle() error {
	if !m.Holding() {
		return nil
	}
	return m.release(m.held, m.finder.offset)
}

// Close writes what is held back at the end of the stream. The greater part of a
// secret is masked as the whole would have been.
func (m *Masker) Close() error {
	if m.finder.depth() >= cutOff {
		m.mark(span{m.finder.places[0], m.finder.offset})
	}
	return m.release(m.held, m.finder.offset)
}
