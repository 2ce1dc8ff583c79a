package leak

import (
	"encoding/binary"
	"math/bits"
)

// Set is what to look for, compiled: an Aho-Corasick automaton over all forms of
// all secrets, and a filter in front of it. It does not change and may be used
// by several goroutines. It holds the secrets in the clear; it never prints them.
type Set struct {
	patterns []pattern
	nodes    []node
	first    [256]int32 // the root's children; 0 for none

	// grams has a bit for each run of four bytes among the first gramSpan of a
	// pattern. A pattern that stands anywhere has one of them at a multiple of
	// stride, so that only every fourth or eighth position needs a look. Empty
	// when a pattern is too short for that.
	grams  []uint64
	shift  uint // 32 minus the binary logarithm of the number of bits
	stride int
}

type pattern struct {
	length int32
	label  Label
}

// Label says what was found, without the value.
type Label struct {
	Connection string
	Kind       string
	Form       string
}

// node is a state: the pattern's bytes read so far, depth of them.
type node struct {
	child, sibling int32 // 0 for none
	fail           int32 // the longest proper suffix that begins a pattern
	match          int32 // the longest pattern that ends here, -1 for none
	depth          int32
	label          byte
}

const (
	gramSize = 4
	gramSpan = 64
	// lookBack is how far in front of a hit of the filter a pattern may begin:
	// further than gramSpan, for what stands between its bytes and is passed over.
	lookBack = 96
)

// NewSet compiles secrets. Values that are too short to be told from ordinary
// text are left out.
func NewSet(secrets []Secret) *Set {
	s := &Set{nodes: []node{{match: -1}}}
	shortest, count := gramSpan, 0
	var starts []string
	for _, one := range secrets {
		for _, f := range forms(one.Value.Reveal()) {
			if s.add(f.text, Label{one.Connection, one.Kind, f.name}) {
				shortest = min(shortest, len(f.text))
				starts = append(starts, f.text[:min(len(f.text), gramSpan)])
				count += len(starts[len(starts)-1])
			}
		}
	}
	s.link()
	// A pattern that the filter must not miss is a stride and a gram long, less one.
	for _, stride := range []int{8, 4} {
		if shortest >= stride+gramSize-1 && count > 0 {
			s.stride = stride
			s.filter(starts, count)
			break
		}
	}
	return s
}

// Empty says that there is nothing to look for.
func (s *Set) Empty() bool { return len(s.patterns) == 0 }

func (s *Set) add(text string, label Label) bool {
	at := int32(0)
	for i := range len(text) {
		next := s.step(at, text[i])
		if next == 0 {
			next = int32(len(s.nodes)) //nolint:gosec // secrets of some kilobytes
			s.nodes = append(s.nodes, node{sibling: s.nodes[at].child, match: -1, depth: s.nodes[at].depth + 1, label: text[i]})
			s.nodes[at].child = next
		}
		at = next
	}
	if s.nodes[at].match >= 0 {
		return false // another secret has this very form
	}
	s.nodes[at].match = int32(len(s.patterns))                                       //nolint:gosec // as above
	s.patterns = append(s.patterns, pattern{length: int32(len(text)), label: label}) //nolint:gosec // as above
	return true
}

// step follows one byte down the tree; 0 when nothing continues with it.
func (s *Set) step(at int32, b byte) int32 {
	next := s.nodes[at].child
	for next != 0 && s.nodes[next].label != b {
		next = s.nodes[next].sibling
	}
	return next
}

// link sets the fail links, in the order of depth.
func (s *Set) link() {
	var queue []int32
	for n := s.nodes[0].child; n != 0; n = s.nodes[n].sibling {
		s.first[s.nodes[n].label] = n
		queue = append(queue, n)
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for n := s.nodes[at].child; n != 0; n = s.nodes[n].sibling {
			fail := s.next(s.nodes[at].fail, s.nodes[n].label)
			s.nodes[n].fail = fail
			if s.nodes[n].match < 0 {
				s.nodes[n].match = s.nodes[fail].match
			}
			queue = append(queue, n)
		}
	}
}

// next is the automaton: the state after one more byte.
func (s *Set) next(at int32, b byte) int32 {
	for at != 0 {
		if n := s.step(at, b); n != 0 {
			return n
		}
		at = s.nodes[at].fail
	}
	return s.first[b]
}

func (s *Set) filter(starts []string, count int) {
	width := uint(max(16, min(22, bits.Len(uint(count))+7))) //nolint:gosec // a small number
	s.grams = make([]uint64, 1<<(width-6))
	s.shift = 32 - width
	for _, text := range starts {
		for i := 0; i+gramSize <= len(text); i++ {
			h := hash(binary.LittleEndian.Uint32([]byte(text[i:]))) >> s.shift
			s.grams[h>>6] |= 1 << (h & 63)
		}
	}
}

func hash(gram uint32) uint32 { return gram * 0x9E3779B1 }

// skip returns the first position from i on at which the automaton has to look,
// and the position up to which it must then not skip again. In front of it no
// pattern begins.
func (s *Set) skip(p []byte, i int) (at, until int) {
	if s.grams == nil {
		for i < len(p) && s.first[p[i]] == 0 {
			i++
		}
		return i, i
	}
	shift, grams, stride := s.shift&31, s.grams, s.stride
	j := i
	for ; j+gramSize <= len(p); j += stride {
		h := hash(binary.LittleEndian.Uint32(p[j:])) >> shift
		if grams[h>>6]&(1<<(h&63)) != 0 {
			return max(i, j-lookBack), j + 1
		}
	}
	// The end may hold the beginning of a pattern that goes on in the next piece.
	return max(i, len(p)-lookBack), len(p)
}
