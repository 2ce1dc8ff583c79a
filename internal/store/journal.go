package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/apiauth/apiauth/internal/connection"
)

// A write-ahead file is an intent, and space for the answer it is about:
//
//	"apiauth-wal 1\n"
//	<4 bytes length of the intent> <intent, JSON> <32 bytes SHA-256 of it>
//	zeros up to a multiple of 4096
//	<4 bytes length of the box> <nonce and AES-256-GCM of the raw answer>
//	zeros, 256 KiB in all: reserved before anything is sent
//
// A torn intent does not match its sum, a torn answer breaks its seal.
const (
	journalSuffix  = ".wal"
	journalPrefix  = "apiauth-wal "
	journalMagic   = journalPrefix + "1\n"
	journalKind    = "wal"
	journalReserve = 256 << 10
	journalBlock   = 4096
	maxIntent      = 192 << 10
)

// encodeIntent returns the part of a write-ahead file before the answer.
func encodeIntent(in connection.Intent) ([]byte, error) {
	doc, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	if len(doc) > maxIntent {
		return nil, fmt.Errorf("the intent has %d bytes, more than %d", len(doc), maxIntent)
	}
	var b bytes.Buffer
	b.WriteString(journalMagic)
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(doc))))
	b.Write(doc)
	sum := sha256.Sum256(doc)
	b.Write(sum[:])
	if over := b.Len() % journalBlock; over > 0 {
		b.Write(make([]byte, journalBlock-over))
	}
	return b.Bytes(), nil
}

// decodeIntent returns the intent, the clear part as it stands, and the box of
// the answer, nil when there is none. ok is false for a torn intent.
func decodeIntent(file []byte) (in connection.Intent, clear, box []byte, ok bool) {
	rest, found := bytes.CutPrefix(file, []byte(journalMagic))
	if !found || len(rest) < 4 {
		return in, nil, nil, false
	}
	n := int(binary.BigEndian.Uint32(rest))
	if n > maxIntent || len(rest) < 4+n+sha256.Size {
		return in, nil, nil, false
	}
	doc := rest[4 : 4+n]
	if sum := sha256.Sum256(doc); !bytes.Equal(sum[:], rest[4+n:4+n+sha256.Size]) {
		return in, nil, nil, false
	}
	if err := json.Unmarshal(doc, &in); err != nil {
		return in, nil, nil, false
	}
	size := len(journalMagic) + 4 + n + sha256.Size
	if over := size % journalBlock; over > 0 {
		size += journalBlock - over
	}
	if len(file) < size+4 {
		return in, file[:min(size, len(file))], nil, true
	}
	length := int(binary.BigEndian.Uint32(file[size:]))
	if length == 0 || length > journalReserve || len(file) < size+4+length {
		return in, file[:size], nil, true
	}
	return in, file[:size], file[size+4 : size+4+length], true
}

// journal is an open write-ahead file.
type journal struct {
	file  *os.File
	clear []byte
	key   []byte
}

// begin makes an intent durable and reserves the space for the answer.
func (g *guard) begin(key []byte, in connection.Intent) (*journal, error) {
	clear, err := encodeIntent(in)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(g.dir, g.key.Name+journalSuffix)
	f, err := createFile(path)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*journal, error) {
		return nil, errors.Join(err, f.Close(), os.Remove(path))
	}
	if err := reserve(f, int64(len(clear)+journalReserve)); err != nil {
		return fail(err)
	}
	if _, err := f.WriteAt(clear, 0); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	if err := syncDir(g.dir); err != nil {
		return fail(err)
	}
	return &journal{file: f, clear: clear, key: key}, nil
}

// seal writes the answer into the reserved space.
// It returns how long the file has to be to hold it.
func (j *journal) seal(random io.Reader, bound, raw []byte) (size int64, err error) {
	box, err := sealBox(random, j.key, raw, bound)
	if err != nil {
		return 0, err
	}
	if len(box)+4 > journalReserve {
		return 0, fmt.Errorf("the answer has %d bytes, more than is reserved", len(raw))
	}
	block := append(binary.BigEndian.AppendUint32(nil, uint32(len(box))), box...)
	if _, err := j.file.WriteAt(block, int64(len(j.clear))); err != nil {
		return 0, err
	}
	return int64(len(j.clear) + len(block)), j.file.Sync()
}

// shrink gives the unused part of the reserve back, so that the record which
// the answer becomes finds room on a full disk. It reports whether there was
// something to give: a sealed answer, of this process or of an earlier one.
func (g *guard) shrink() bool {
	if g.sealedSize == 0 {
		return false
	}
	return os.Truncate(filepath.Join(g.dir, g.key.Name+journalSuffix), g.sealedSize) == nil
}

// Journal returns what an earlier process left in the write-ahead file.
func (g *guard) Journal(ctx context.Context) (*connection.Journal, error) {
	doc, err := readFile(g.dir, g.key.Name+journalSuffix)
	if errors.Is(err, connection.ErrNotStored) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if version, found := bytes.CutPrefix(doc, []byte(journalPrefix)); found && !bytes.HasPrefix(doc, []byte(journalMagic)) && len(version) > 0 && version[0] != 0 {
		return nil, fmt.Errorf("%w: the write-ahead file of %q", connection.ErrNewer, g.key.Name)
	}
	in, clear, box, ok := decodeIntent(doc)
	if !ok {
		return nil, g.Drop()
	}
	switch h, err := g.store.Header(g.key); {
	case err == nil && in.Target <= h.Generation:
		return nil, g.Drop() // it was promoted; only its removal was cut off
	case err != nil && !errors.Is(err, connection.ErrNotStored) && !errors.Is(err, connection.ErrCorrupt):
		return nil, err
	}
	j := &connection.Journal{Intent: in}
	if box == nil {
		return j, nil
	}
	g.sealedSize = int64(len(clear) + 4 + len(box))
	k, err := g.sealingKey(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := openBox(k, box, g.store.binding(journalKind, g.key, clear))
	if err != nil {
		return j, nil // torn while it was written: the intent is all there is
	}
	j.Raw = raw
	return j, nil
}
