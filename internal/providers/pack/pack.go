// Package pack holds many small texts in one: each is compressed by itself, against
// a dictionary of the lines that many of them have, so that one is found and read
// without a look at the others.
//
// A pack is, with all numbers big-endian:
//
//	count       2 bytes, how many texts there are
//	dictionary  2 bytes of length and the lines
//	index       44 bytes for each text, in order of the names: its SHA-256, where
//	            its compressed form begins (4 bytes, from the start of the pack),
//	            how long that is (4), and how long the text is (4)
//	names       of each text, 1 byte of length and the name; the offsets of these
//	            stand before them, 4 bytes each
//	texts       DEFLATE (RFC 1951)
package pack

import (
	"bytes"
	"cmp"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

const (
	headSize  = 4
	indexSize = sha256.Size + 12
	nameSize  = 4

	maxDictionary = 4 << 10 // bytes: more of it won nothing
	maxText       = 1 << 20 // bytes
)

// Pack is the bytes of a pack. The empty string is one without texts.
type Pack string

// Text is one text of a pack. The zero value is none.
type Text struct {
	Name   string
	Digest [sha256.Size]byte // SHA-256 of the text
	packed string
	size   int
}

// Len is how many texts there are.
func (p Pack) Len() int {
	if len(p) < headSize {
		return 0
	}
	return p.uint16(0)
}

// Name is the name of a text. They are in order.
func (p Pack) Name(i int) string {
	at := p.uint32(p.index() + p.Len()*indexSize + i*nameSize)
	return string(p[at+1 : at+1+int(p[at])])
}

// Find returns a text, not yet unpacked. It allocates nothing.
func (p Pack) Find(name string) (Text, bool) {
	i, found := sort.Find(p.Len(), func(i int) int { return cmp.Compare(name, p.Name(i)) })
	if !found {
		return Text{}, false
	}
	at := p.index() + i*indexSize
	t := Text{Name: p.Name(i), size: p.uint32(at + sha256.Size + 8)}
	copy(t.Digest[:], p[at:])
	from := p.uint32(at + sha256.Size)
	t.packed = string(p[from : from+p.uint32(at+sha256.Size+4)])
	return t, true
}

// Unpack returns the words of a text of this pack.
func (p Pack) Unpack(t Text) ([]byte, error) {
	r := flate.NewReaderDict(strings.NewReader(t.packed), []byte(p.dictionary()))
	text := make([]byte, t.size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", t.Name, err)
	}
	return text, nil
}

func (p Pack) uint16(at int) int { return int(p[at])<<8 | int(p[at+1]) }

func (p Pack) uint32(at int) int { return p.uint16(at)<<16 | p.uint16(at+2) }

func (p Pack) dictionary() string {
	if len(p) < headSize {
		return ""
	}
	return string(p[headSize : headSize+p.uint16(2)])
}

func (p Pack) index() int { return headSize + p.uint16(2) }

// Folder returns the texts of the files in dir that have a suffix, by their names
// without it.
func Folder(dir, suffix string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	texts := map[string][]byte{}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), suffix)
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		texts[name] = text
	}
	return texts, nil
}

// Make packs texts by their names. What has not changed since the pack before is
// taken from it as it is, and so is the dictionary: a change of one text changes
// little. An empty pack before makes everything anew.
func Make(before Pack, texts map[string][]byte) (Pack, error) {
	dictionary := before.dictionary()
	if before == "" {
		dictionary = common(texts)
	}
	names := slices.Sorted(maps.Keys(texts))
	head := binary.BigEndian.AppendUint16(nil, uint16(len(names)))
	head = binary.BigEndian.AppendUint16(head, uint16(len(dictionary)))
	head = append(head, dictionary...)

	var labels, offsets, packed []byte
	labelsAt := len(head) + len(names)*(indexSize+nameSize)
	for _, name := range names {
		if len(name) > 255 || len(texts[name]) > maxText {
			return "", fmt.Errorf("pack %s: it or its name is too long", name)
		}
		offsets = binary.BigEndian.AppendUint32(offsets, uint32(labelsAt+len(labels)))
		labels = append(append(labels, byte(len(name))), name...)
	}
	for _, name := range names {
		text := texts[name]
		digest := sha256.Sum256(text)
		var one string
		if old, ok := before.Find(name); ok && old.Digest == digest {
			one = old.packed
		} else {
			var err error
			if one, err = deflate(text, dictionary); err != nil {
				return "", fmt.Errorf("pack %s: %w", name, err)
			}
		}
		head = append(head, digest[:]...)
		head = binary.BigEndian.AppendUint32(head, uint32(labelsAt+len(labels)+len(packed)))
		head = binary.BigEndian.AppendUint32(head, uint32(len(one)))
		head = binary.BigEndian.AppendUint32(head, uint32(len(text)))
		packed = append(packed, one...)
	}
	return Pack(slices.Concat(head, offsets, labels, packed)), nil
}

func deflate(text []byte, dictionary string) (string, error) {
	var b bytes.Buffer
	w, err := flate.NewWriterDict(&b, flate.BestCompression, []byte(dictionary))
	if err != nil {
		return "", err
	}
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return b.String(), nil
}

// common returns the lines that win most as a dictionary, the best ones last:
// what is near costs fewer bits.
func common(texts map[string][]byte) string {
	const often, long = 4, 7 // fewer and shorter ones are not worth their place
	in := map[string]int{}
	for _, text := range texts {
		for line := range maps.Keys(lines(text)) {
			in[line]++
		}
	}
	maps.DeleteFunc(in, func(line string, n int) bool { return n < often || len(line) <= long })
	best := slices.SortedFunc(maps.Keys(in), func(a, b string) int {
		return cmp.Or(cmp.Compare((in[b]-1)*len(b), (in[a]-1)*len(a)), strings.Compare(a, b))
	})
	size := 0
	for i, line := range best {
		if size += len(line); size > maxDictionary {
			best = best[:i]
			break
		}
	}
	slices.Reverse(best)
	return strings.Join(best, "")
}

// lines returns the different lines of a text, with their ends.
func lines(text []byte) map[string]bool {
	set := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		set[line] = true
	}
	return set
}
