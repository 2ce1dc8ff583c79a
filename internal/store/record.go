package store

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// A record file is two lines and a sealed rest:
//
//	apiauth-record 1
//	{"format":1,"generation":7,…}
//	<12 bytes nonce><AES-256-GCM of the body>
//
// Both lines, the store, the project, the name and the kind of file are the
// additional data, so that no part can be changed, swapped or replayed under
// another name without the seal breaking.
const (
	recordSuffix  = ".rec"
	recordMagic   = "apiauth-record "
	recordKind    = "record"
	nonceSize     = 12
	maxHeaderLine = 128 << 10
)

// wireBody is the sealed part of a record as it is written.
type wireBody struct {
	Access  string            `json:"access,omitempty"`
	Refresh string            `json:"refresh,omitempty"`
	Spare   string            `json:"spare,omitempty"`
	Kept    map[string]string `json:"kept,omitempty"`
	Log     string            `json:"log,omitempty"` // an auditSeal
}

// load reads a record file and parses its clear part.
func (s *Store) load(key connection.Key) (*connection.Header, sealedPart, error) {
	dir, err := s.projectDir(key)
	if err != nil {
		return nil, sealedPart{}, err
	}
	if err := s.checkFolders(dir); err != nil {
		return nil, sealedPart{}, err
	}
	doc, err := readFile(dir, key.Name+recordSuffix)
	if err != nil {
		return nil, sealedPart{}, err
	}
	return parseRecord(doc, filepath.Join(dir, key.Name+recordSuffix), key)
}

// sealedPart is what remains of a record file behind its clear lines.
type sealedPart struct {
	clear []byte // both lines, as they stand
	box   []byte // nonce and ciphertext
}

func parseRecord(doc []byte, file string, key connection.Key) (*connection.Header, sealedPart, error) {
	corrupt := func(why string) error { return fmt.Errorf("%w: %s: %s", connection.ErrCorrupt, file, why) }
	first, rest, ok := bytes.Cut(doc, []byte{'\n'})
	if !ok || !bytes.HasPrefix(first, []byte(recordMagic)) {
		return nil, sealedPart{}, corrupt("it does not begin like a record")
	}
	format, err := strconv.Atoi(string(first[len(recordMagic):]))
	if err != nil || format < 1 {
		return nil, sealedPart{}, corrupt("its format is no number")
	}
	if format > connection.Format {
		return nil, sealedPart{}, fmt.Errorf("%w: %s has format %d, this version knows %d", connection.ErrNewer, file, format, connection.Format)
	}
	line, box, ok := bytes.Cut(rest, []byte{'\n'})
	if !ok || len(line) > maxHeaderLine {
		return nil, sealedPart{}, corrupt("its header is cut off")
	}
	var h connection.Header
	if err := decodeHeader(line, &h); err != nil {
		return nil, sealedPart{}, corrupt("its header is no JSON object")
	}
	if h.Name != key.Name {
		return nil, sealedPart{}, corrupt("it belongs to another connection")
	}
	return &h, sealedPart{clear: doc[:len(doc)-len(box)], box: box}, nil
}

// unseal authenticates a record and opens its body.
func (s *Store) unseal(key connection.Key, h *connection.Header, p sealedPart, k []byte) (*connection.Record, error) {
	plain, err := openBox(k, p.box, s.binding(recordKind, key, p.clear))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: its seal is broken", connection.ErrCorrupt, key.Name)
	}
	var b wireBody
	if err := json.Unmarshal(plain, &b); err != nil {
		return nil, fmt.Errorf("%w: %s: its body is no JSON object", connection.ErrCorrupt, key.Name)
	}
	s.rememberSeal(key, parseAuditSeal(b.Log))
	return &connection.Record{Header: *h, Body: connection.Body{
		Access:  secret.New(b.Access),
		Refresh: secret.New(b.Refresh),
		Spare:   secret.New(b.Spare),
		Kept:    b.Kept,
	}}, nil
}

// sealRecord returns the bytes of a record file.
func (s *Store) sealRecord(key connection.Key, rec *connection.Record, log auditSeal, k []byte) ([]byte, error) {
	header := rec.Header
	header.Name = key.Name
	header.Format = connection.Format
	line, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("write the record of %q: %w", key.Name, err)
	}
	if len(line) > maxHeaderLine {
		return nil, fmt.Errorf("write the record of %q: its header has %d bytes, more than %d", key.Name, len(line), maxHeaderLine)
	}
	plain, err := json.Marshal(wireBody{rec.Body.Access.Reveal(), rec.Body.Refresh.Reveal(), rec.Body.Spare.Reveal(), rec.Body.Kept, log.String()})
	if err != nil {
		return nil, fmt.Errorf("write the record of %q: %w", key.Name, err)
	}
	doc := []byte(recordMagic + strconv.Itoa(connection.Format) + "\n")
	doc = append(append(doc, line...), '\n')
	box, err := sealBox(s.opt.rand(), k, plain, s.binding(recordKind, key, doc))
	if err != nil {
		return nil, fmt.Errorf("write the record of %q: %w", key.Name, err)
	}
	return append(doc, box...), nil
}

// binding is the additional data of everything that is sealed.
func (s *Store) binding(kind string, key connection.Key, doc []byte) []byte {
	var b strings.Builder
	for _, part := range []string{"apiauth", kind, s.meta.ID, key.Project, key.Name} {
		b.WriteString(part)
		b.WriteByte(0)
	}
	b.Write(doc)
	return []byte(b.String())
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func sealBox(random io.Reader, key, plain, bound []byte) ([]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	box := make([]byte, nonceSize, nonceSize+len(plain)+gcm.Overhead())
	if _, err := io.ReadFull(random, box); err != nil {
		return nil, err
	}
	return gcm.Seal(box, box, plain, bound), nil
}

func openBox(key, box, bound []byte) ([]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	if len(box) < nonceSize+gcm.Overhead() {
		return nil, fmt.Errorf("a sealed part of %d bytes is too short", len(box))
	}
	return gcm.Open(nil, box[:nonceSize], box[nonceSize:], bound)
}
