package leak

// Match is a place where a secret stands.
type Match struct {
	Start, End int64 // offsets in bytes from the stream's beginning, [Start, End)
	Label
}

// Finder looks through one stream. Line ends and the colours of a terminal do
// not hide a secret: what stands between its characters is passed over.
type Finder struct {
	set    *Set
	state  int32
	offset int64   // of the next byte
	places []int64 // the offset of each byte that the state stands for
	escape int     // how many bytes of an escape sequence have been read
	until  int     // in the piece: up to here nothing is skipped
	gap    int     // how many bytes have been passed over since the last place
}

// NewFinder returns a Finder at the beginning of a stream.
func (s *Set) NewFinder() *Finder { return &Finder{set: s} }

// maxGap caps how many bytes in a row are passed over inside of a secret.
const maxGap = 1024

// maxEscape caps the length in bytes of an escape sequence that is passed over.
const maxEscape = 32

// Feed looks through the next piece of the stream and calls hit for every match
// that ends in it, in the order of their ends. Matches may overlap.
func (f *Finder) Feed(p []byte, hit func(Match)) {
	if f.set.Empty() {
		f.offset += int64(len(p))
		return
	}
	base := f.offset
	f.until = 0
	for i := 0; i < len(p); i++ {
		if f.state == 0 && f.escape == 0 && i >= f.until {
			if i, f.until = f.set.skip(p, i); i >= len(p) {
				break
			}
		}
		b := p[i]
		if f.transparent(b) {
			if f.gap++; f.gap > maxGap {
				f.state, f.places = 0, f.places[:0]
			}
			continue
		}
		f.gap = 0
		f.state = f.set.next(f.state, b)
		n := &f.set.nodes[f.state]
		if n.depth == 0 {
			f.places = f.places[:0]
			continue
		}
		f.places = append(f.places, base+int64(i))
		f.places = f.places[len(f.places)-int(n.depth):]
		if n.match >= 0 {
			m := &f.set.patterns[n.match]
			hit(Match{f.places[len(f.places)-int(m.length)], base + int64(i) + 1, m.label})
			if n.child == 0 { // nothing longer begins like this
				f.state = n.fail
				f.places = f.places[len(f.places)-f.depth():]
			}
		}
	}
	f.offset = base + int64(len(p))
}

// transparent says that b is passed over: a line end, or, once a secret seems to
// have begun, part of a terminal's control sequence (ECMA-48: ESC [, parameters,
// a final byte).
func (f *Finder) transparent(b byte) bool {
	switch {
	case b == '\r' || b == '\n':
		f.escape = 0
		return true
	case b == 0x1b && f.depth() >= telling:
		f.escape = 1
		return true
	case f.escape == 1:
		f.escape = 0
		if b == '[' {
			f.escape = 2
			return true
		}
		return false
	case f.escape > 1:
		f.escape++
		switch {
		case b >= 0x40 && b <= 0x7e:
			f.escape = 0
			return true
		case b < 0x20 || b > 0x7e || f.escape > maxEscape:
			f.escape = 0
			return false
		}
		return true
	}
	return false
}

// decided is the offset up to which no later byte can make a match any more.
func (f *Finder) decided() int64 {
	if f.state == 0 {
		return f.offset
	}
	return f.places[0]
}

// depth is how many bytes of a secret may have been read.
func (f *Finder) depth() int { return int(f.set.nodes[f.state].depth) }
