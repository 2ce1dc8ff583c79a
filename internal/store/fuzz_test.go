package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/apiauth/apiauth/internal/connection"
)

func FuzzRecord(f *testing.F) {
	s := &Store{meta: Meta{ID: "0123456789abcdef", Kind: KindFile}}
	k := make([]byte, keySize)
	good, err := s.sealRecord(key("a"), sample("a", 1), auditSeal{}, k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte("apiauth-record 2\n{}\n"))
	f.Add([]byte("apiauth-record 1\n{\"name\":\"a\",\"ttl\":-1}\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		h, sealed, err := parseRecord(doc, "file", key("a"))
		if err != nil {
			if !errors.Is(err, connection.ErrCorrupt) && !errors.Is(err, connection.ErrNewer) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		if !bytes.Equal(append(bytes.Clone(sealed.clear), sealed.box...), doc) {
			t.Fatal("the parts are not the whole")
		}
		h.ExpiresAt()
		rec, err := s.unseal(key("a"), h, sealed, k)
		if err != nil {
			return
		}
		again, err := s.sealRecord(key("a"), rec, auditSeal{}, k)
		if err != nil {
			t.Fatal(err)
		}
		h2, sealed2, err := parseRecord(again, "file", key("a"))
		if err != nil {
			t.Fatal(err)
		}
		if rec2, err := s.unseal(key("a"), h2, sealed2, k); err != nil || !rec2.Body.Access.Equal(rec.Body.Access) || !rec2.Body.Refresh.Equal(rec.Body.Refresh) {
			t.Fatal("the record changed on the way", err)
		}
	})
}

func FuzzIntent(f *testing.F) {
	good, err := encodeIntent(intent(4))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(bytes.Clone(good), 0, 0, 0, 3, 'a', 'b', 'c', 0))
	f.Add(append(bytes.Clone(good), 0xff, 0xff, 0xff, 0xff))
	f.Add(good[:60])
	f.Add([]byte(journalMagic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		in, clear, box, ok := decodeIntent(doc)
		if !ok {
			return
		}
		if len(clear)+len(box) > len(doc) {
			t.Fatal("more came out than went in")
		}
		again, err := encodeIntent(in)
		if err != nil {
			t.Skip() // larger when it is written our way
		}
		in2, _, box2, ok := decodeIntent(again)
		if !ok || box2 != nil {
			t.Fatal("what was decoded does not encode")
		}
		a, err1 := json.Marshal(in)
		b, err2 := json.Marshal(in2)
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Fatal("the intent changed on the way")
		}
	})
}
