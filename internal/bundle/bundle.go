// Package bundle seals connections into one value for CI systems, which have no
// keychain, opens it again, and holds what comes out of it in memory: a store
// that a job reads and that nothing writes back.
package bundle

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// Format is the highest format that this version reads and writes.
const Format = 1

// A bundle is one line of four parts, all but the first two in unpadded base64url:
//
//	apiauth-bundle.1.<header, JSON>.<12 bytes nonce, AES-256-GCM of the body>
//
// Everything up to the last dot is the additional data, so that neither names,
// hosts nor the expiry can be changed without the seal breaking.
const (
	magic     = "apiauth-bundle"
	keySize   = 32
	nonceSize = 12
	maxValue  = 512 << 10
)

// Kind is the kind of the store that a bundle opens to.
const Kind = "bundle"

// Errors of Open and Read, wrapped with the reason.
var (
	ErrNewer   = errors.New("the bundle was written by a newer version")
	ErrDamaged = errors.New("the bundle is damaged")
	ErrKey     = errors.New("the key is not the bundle's")
)

// What a connection in a bundle holds.
const (
	HoldsRefresh = "refresh token"
	HoldsClient  = "client secret" // for client credentials
	HoldsKey     = "key"           // a token that nothing renews and no expiry is known of
	HoldsAccess  = "access token"  // until it expires
)

// Header is the clear part. It holds no credential, but it does hold names and
// hosts.
type Header struct {
	ID        string    `json:"id"`      // 16 hex digits, random
	Project   string    `json:"project"` // the project's id where it was made
	Label     string    `json:"label,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	// KeyID tells a wrong key from damage: the first 8 bytes of a hash of the
	// key, hex.
	KeyID       string    `json:"key_id"`
	Connections []Summary `json:"connections"`
}

// Summary is what the header tells of one connection.
type Summary struct {
	Name     string   `json:"name"`
	Provider string   `json:"provider"`
	Holds    string   `json:"holds"`
	Env      string   `json:"env,omitempty"` // the variable chosen for it; empty: the usual one
	APIHosts []string `json:"api_hosts,omitempty"`
	// ExpiresAt is when an access token that nothing renews ends; zero: no
	// expiry is known, or it is renewed.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Connection is one connection to seal.
type Connection struct {
	Record       connection.Record
	Env          string
	Holds        string
	ClientSecret secret.Text
}

// Bundle is an opened one.
type Bundle struct {
	Header
	Store   *Store
	secrets map[string]secret.Text
}

// ClientSecret returns the client secret that was sealed with a connection; zero
// when it needs none.
func (b *Bundle) ClientSecret(name string) secret.Text { return b.secrets[name] }

// Summary returns what the header tells of a connection.
func (b *Bundle) Summary(name string) (s Summary, ok bool) {
	for _, s := range b.Connections {
		if s.Name == name {
			return s, true
		}
	}
	return Summary{}, false
}

// wireConnection is a connection as it is sealed.
type wireConnection struct {
	Header       connection.Header `json:"header"`
	Access       string            `json:"access,omitempty"`
	Refresh      string            `json:"refresh,omitempty"`
	Kept         map[string]string `json:"kept,omitempty"`
	ClientSecret string            `json:"client_secret,omitempty"`
}

// Seal makes a bundle and the key that opens it. It fills in the header's ID,
// KeyID and Connections.
func Seal(random io.Reader, h *Header, list []Connection) (value, key secret.Text, err error) {
	raw := make([]byte, keySize+8)
	if _, err := io.ReadFull(random, raw); err != nil {
		return value, key, fmt.Errorf("make a key: %w", err)
	}
	k := raw[:keySize]
	h.ID, h.KeyID = hex.EncodeToString(raw[keySize:]), keyID(k)
	h.Connections = make([]Summary, 0, len(list))
	body := make([]wireConnection, 0, len(list))
	for _, c := range list {
		h.Connections = append(h.Connections, Summary{
			Name: c.Record.Name, Provider: c.Record.Provider, Holds: c.Holds, Env: c.Env,
			APIHosts: c.Record.Pins.APIHosts, ExpiresAt: ends(c),
		})
		body = append(body, wireConnection{
			Header: c.Record.Header, Access: c.Record.Body.Access.Reveal(), Refresh: c.Record.Body.Refresh.Reveal(),
			Kept: c.Record.Body.Kept, ClientSecret: c.ClientSecret.Reveal(),
		})
	}
	head, err := json.Marshal(h)
	if err != nil {
		return value, key, err
	}
	plain, err := json.Marshal(body)
	if err != nil {
		return value, key, err
	}
	bound := magic + "." + strconv.Itoa(Format) + "." + base64.RawURLEncoding.EncodeToString(head)
	gcm, err := aead(k)
	if err != nil {
		return value, key, err
	}
	box := make([]byte, nonceSize, nonceSize+len(plain)+gcm.Overhead())
	if _, err := io.ReadFull(random, box); err != nil {
		return value, key, fmt.Errorf("make a nonce: %w", err)
	}
	box = gcm.Seal(box, box, plain, []byte(bound))
	line := bound + "." + base64.RawURLEncoding.EncodeToString(box)
	if len(line) > maxValue {
		return value, key, fmt.Errorf("the bundle would have %d bytes, more than %d", len(line), maxValue)
	}
	return secret.New(line), secret.New(base64.RawURLEncoding.EncodeToString(k)), nil
}

func ends(c Connection) time.Time {
	if c.Holds != HoldsAccess {
		return time.Time{}
	}
	return c.Record.ExpiresAt()
}

// Read reads the header of a bundle without its key. What it returns is not
// authenticated: show it, do not trust it. Errors wrap ErrNewer or ErrDamaged.
func Read(value secret.Text) (*Header, error) {
	h, _, _, err := split(value)
	return h, err
}

func split(value secret.Text) (h *Header, bound, box []byte, err error) {
	line := strings.TrimSpace(value.Reveal())
	if len(line) > maxValue {
		return nil, nil, nil, fmt.Errorf("%w: it has more than %d bytes", ErrDamaged, maxValue)
	}
	parts := strings.Split(line, ".")
	if parts[0] != magic || len(parts) < 2 {
		return nil, nil, nil, fmt.Errorf("%w: it does not begin like a bundle", ErrDamaged)
	}
	format, err := strconv.Atoi(parts[1])
	switch {
	case err != nil || format < 1:
		return nil, nil, nil, fmt.Errorf("%w: its format is no number", ErrDamaged)
	case format > Format:
		return nil, nil, nil, fmt.Errorf("%w: it has format %d, this version knows %d", ErrNewer, format, Format)
	case len(parts) != 4:
		return nil, nil, nil, fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	head, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: its header is not whole", ErrDamaged)
	}
	h = new(Header)
	if err := decode(head, h); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: its header is no JSON object of that form", ErrDamaged)
	}
	if box, err = base64.RawURLEncoding.Strict().DecodeString(parts[3]); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: its sealed part is not whole", ErrDamaged)
	}
	return h, []byte(line[:len(line)-len(parts[3])-1]), box, nil
}

// Open authenticates and opens a bundle. Errors wrap ErrNewer, ErrDamaged or
// ErrKey and hold nothing of what was opened. Whether it has expired is for the
// caller to see.
func Open(value, key secret.Text) (*Bundle, error) {
	h, bound, box, err := split(value)
	if err != nil {
		return nil, err
	}
	k, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimSpace(key.Reveal()))
	if err != nil || len(k) != keySize {
		return nil, fmt.Errorf("%w: it is not in the form that 'apiauth bundle create' prints", ErrKey)
	}
	if keyID(k) != h.KeyID {
		return nil, fmt.Errorf("%w: it opens another one", ErrKey)
	}
	gcm, err := aead(k)
	if err != nil {
		return nil, err
	}
	if len(box) < nonceSize+gcm.Overhead() {
		return nil, fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	plain, err := gcm.Open(nil, box[:nonceSize], box[nonceSize:], bound)
	if err != nil {
		return nil, fmt.Errorf("%w: its seal is broken", ErrDamaged)
	}
	var body []wireConnection
	if err := decode(plain, &body); err != nil {
		return nil, fmt.Errorf("%w: its body is no JSON of that form", ErrDamaged)
	}
	b := &Bundle{Header: *h, Store: NewStore(h.ID, Kind), secrets: map[string]secret.Text{}}
	for _, c := range body {
		b.Store.Put(connection.Key{Project: h.Project, Name: c.Header.Name}, &connection.Record{
			Header: c.Header,
			Body:   connection.Body{Access: secret.New(c.Access), Refresh: secret.New(c.Refresh), Kept: c.Kept},
		})
		b.secrets[c.Header.Name] = secret.New(c.ClientSecret)
	}
	return b, nil
}

// decode is strict: a bundle with members that this version does not know would
// lose them.
func decode(doc []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more than one value")
	}
	return nil
}

// keyID says nothing about a key of 256 random bits.
func keyID(key []byte) string {
	sum := sha256.Sum256(append([]byte("apiauth bundle key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
