package store

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

const keySize = 32

// The key derivations of file stores.
const (
	kdfRaw      = "raw"      // the key itself comes from outside: nothing on the hot path
	kdfArgon2id = "argon2id" // from a passphrase
)

type kdf struct {
	Name    string `json:"name"`
	Salt    []byte `json:"salt,omitempty"`
	Time    uint32 `json:"time,omitempty"`
	Memory  uint32 `json:"memory,omitempty"` // KiB
	Threads uint8  `json:"threads,omitempty"`
}

// NewKey makes a raw key for a file store: 32 random bytes as 43 characters of
// unpadded base64url.
func NewKey(random io.Reader) (secret.Text, error) {
	raw := make([]byte, keySize)
	if _, err := io.ReadFull(random, raw); err != nil {
		return secret.Text{}, err
	}
	return secret.New(base64.RawURLEncoding.EncodeToString(raw)), nil
}

func parseKey(t secret.Text) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(t.Reveal()))
	if err != nil || len(raw) != keySize {
		return nil, fmt.Errorf("%w: it is not in the form that 'apiauth store key' prints", connection.ErrStoreKey)
	}
	return raw, nil
}

// newMaster chooses the key of a new file store.
func (s *Store) newMaster(ctx context.Context) error {
	if raw, err := s.rawKey(); err != nil {
		return err
	} else if raw != nil {
		s.meta.KDF, s.master = &kdf{Name: kdfRaw}, raw
		return s.setCheck()
	}
	pass, err := s.passphrase(ctx, true)
	if err != nil {
		return err
	}
	k := &kdf{Name: kdfArgon2id, Salt: make([]byte, 16), Time: 2, Memory: 19 << 10, Threads: 1}
	if _, err := io.ReadFull(s.opt.rand(), k.Salt); err != nil {
		return err
	}
	s.meta.KDF, s.master = k, k.derive(pass)
	return s.setCheck()
}

func (k *kdf) derive(pass secret.Text) []byte {
	return argon2.IDKey([]byte(pass.Reveal()), k.Salt, k.Time, k.Memory, k.Threads, keySize)
}

// valid bounds what a store.json may ask of this machine.
func (k *kdf) valid() bool {
	return len(k.Salt) >= 8 && k.Time >= 1 && k.Time <= 16 && k.Memory >= 8<<10 && k.Memory <= 1<<20 && k.Threads >= 1 && k.Threads <= 16
}

func (s *Store) rawKey() ([]byte, error) {
	if s.opt.Key == nil {
		return nil, nil
	}
	t, err := s.opt.Key()
	if err != nil || t.IsZero() {
		return nil, err
	}
	return parseKey(t)
}

func (s *Store) passphrase(ctx context.Context, create bool) (secret.Text, error) {
	if s.opt.Passphrase != nil {
		t, err := s.opt.Passphrase(ctx, create)
		if err != nil || !t.IsZero() {
			return t, err
		}
	}
	return secret.Text{}, fmt.Errorf("%w: the file store needs APIAUTH_STORE_KEY or APIAUTH_STORE_PASSPHRASE", connection.ErrStoreKey)
}

// checkBinding binds the derivation itself, so that a weakened store.json is
// noticed.
func (s *Store) checkBinding() []byte {
	doc, _ := json.Marshal(s.meta.KDF) // numbers, bytes and a name: always encodable
	return s.binding("check", connection.Key{}, doc)
}

func (s *Store) setCheck() error {
	box, err := sealBox(s.opt.rand(), s.subkey("check"), []byte("apiauth"), s.checkBinding())
	if err != nil {
		return err
	}
	s.meta.Check = box
	return nil
}

// openMaster finds the key of a file store, once per process.
func (s *Store) openMaster(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.master != nil {
		return nil
	}
	if s.meta.KDF == nil {
		return fmt.Errorf("%w: store.json names no key derivation", connection.ErrCorrupt)
	}
	var master []byte
	switch s.meta.KDF.Name {
	case kdfRaw:
		raw, err := s.rawKey()
		if err != nil {
			return err
		}
		if raw == nil {
			return fmt.Errorf("%w: set APIAUTH_STORE_KEY, or APIAUTH_STORE_KEY_FILE, to the key that this store was made with", connection.ErrStoreKey)
		}
		master = raw
	case kdfArgon2id:
		if !s.meta.KDF.valid() {
			return fmt.Errorf("%w: store.json asks for a key derivation out of bounds", connection.ErrCorrupt)
		}
		pass, err := s.passphrase(ctx, false)
		if err != nil {
			return err
		}
		master = s.meta.KDF.derive(pass)
	default:
		return fmt.Errorf("%w: store.json names the key derivation %q", connection.ErrNewer, s.meta.KDF.Name)
	}
	s.master = master
	if _, err := openBox(s.subkey("check"), s.meta.Check, s.checkBinding()); err != nil {
		s.master = nil
		return fmt.Errorf("%w: it does not open this store", connection.ErrStoreKey)
	}
	return nil
}

// subkey derives a key of its own for each sealed thing.
func (s *Store) subkey(parts ...string) []byte {
	k, err := hkdf.Key(sha256.New, s.master, []byte(s.meta.ID), "apiauth\x00"+strings.Join(parts, "\x00"), keySize)
	if err != nil {
		panic("store: " + err.Error()) // only for a length that SHA-256 cannot give
	}
	return k
}

func keyItem(key connection.Key) string   { return key.String() + ".key" }
func grantItem(key connection.Key) string { return key.String() + ".grant" }

// sealingKey reads the key of a connection. For a keychain store it is an item
// that was written once, and a missing one makes the record unreadable.
func (s *Store) sealingKey(ctx context.Context, key connection.Key) ([]byte, error) {
	if s.meta.Kind == KindFile {
		if err := s.openMaster(ctx); err != nil {
			return nil, err
		}
		return s.subkey("connection", key.Project, key.Name), nil
	}
	s.mu.Lock()
	ahead := s.ahead[key]
	delete(s.ahead, key)
	s.mu.Unlock()
	if ahead != nil {
		read := <-ahead
		return read.key, read.err
	}
	return s.keyFromKeychain(ctx, key)
}

func (s *Store) keyFromKeychain(ctx context.Context, key connection.Key) ([]byte, error) {
	t, err := s.opt.Keychain.Get(ctx, s.service(), keyItem(key))
	if err != nil {
		if s.notFound(err) {
			return nil, fmt.Errorf("%w: the keychain no longer holds the key of %q", connection.ErrStoreKey, key.Name)
		}
		return nil, err
	}
	k, err := parseKey(t)
	if err != nil {
		return nil, fmt.Errorf("%w: the keychain item of %q is damaged", connection.ErrStoreKey, key.Name)
	}
	return k, nil
}

// keyRead is a key that was read ahead, or why it was not.
type keyRead struct {
	key []byte
	err error
}

// Ahead begins to read the key of a connection that is stored, for the next
// method that needs it: the keychain is at work while the record is taken apart.
func (s *Store) Ahead(ctx context.Context, key connection.Key) {
	dir, err := s.projectDir(key)
	if err != nil || s.meta.Kind != KindKeychain {
		return
	}
	if _, err := os.Lstat(filepath.Join(dir, key.Name+recordSuffix)); err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ahead[key] != nil {
		return
	}
	if s.ahead == nil {
		s.ahead = map[connection.Key]chan keyRead{}
	}
	read := make(chan keyRead, 1)
	s.ahead[key] = read
	go func() {
		k, err := s.keyFromKeychain(ctx, key)
		read <- keyRead{k, err}
	}()
}

// prove remembers a key of the keychain that has opened a record.
func (s *Store) prove(key connection.Key, k []byte) {
	if s.meta.Kind == KindFile {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proven == nil {
		s.proven = map[connection.Key][]byte{}
	}
	s.proven[key] = k
}

// provenKey returns the key that has opened the last record of that name, or nil.
// The connection may have been replaced since.
func (s *Store) provenKey(key connection.Key) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven[key]
}

// ensureKey is sealingKey that makes the key when there is none, and proves by
// reading it back that the keychain kept it. An existing key is never written
// over.
func (s *Store) ensureKey(ctx context.Context, key connection.Key) (k []byte, made bool, err error) {
	k, err = s.sealingKey(ctx, key)
	if err == nil || s.meta.Kind == KindFile || !errors.Is(err, connection.ErrStoreKey) {
		return k, false, err
	}
	if old, gerr := s.opt.Keychain.Get(ctx, s.service(), keyItem(key)); gerr == nil && !old.IsZero() {
		return nil, false, err // there is one, and it is damaged
	}
	fresh, err := NewKey(s.opt.rand())
	if err != nil {
		return nil, false, err
	}
	if err := s.opt.Keychain.Set(ctx, s.service(), keyItem(key), fresh); err != nil {
		return nil, false, err
	}
	back, err := s.opt.Keychain.Get(ctx, s.service(), keyItem(key))
	if err != nil && !s.notFound(err) {
		return nil, true, err
	}
	if err != nil || !back.Equal(fresh) {
		return nil, true, connection.ErrNotKept
	}
	k, err = parseKey(fresh)
	return k, true, err
}

func (s *Store) notFound(err error) bool { return s.opt.IsNotFound != nil && s.opt.IsNotFound(err) }

// encodeGrant is the form of a grant item: version, generation, token.
func encodeGrant(g connection.Grant) secret.Text {
	return secret.New("1 " + strconv.FormatUint(g.Generation, 10) + " " + g.Refresh.Reveal())
}

func decodeGrant(t secret.Text) (connection.Grant, bool) {
	parts := strings.SplitN(t.Reveal(), " ", 3)
	if len(parts) != 3 || parts[0] != "1" || parts[2] == "" {
		return connection.Grant{}, false
	}
	n, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return connection.Grant{}, false
	}
	return connection.Grant{Generation: n, Refresh: secret.New(parts[2])}, true
}
