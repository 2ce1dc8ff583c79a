package netlify

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Site is what a site token opens: chosen connections of one project, until it
// ends. It is what is kept of the token; the token itself is not.
type Site struct {
	TokenID     string    `json:"token_id"`
	ID          string    `json:"site_id"` // what programs see as SITE_ID
	Project     string    `json:"project"`
	Connections []string  `json:"connections"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires"`
	PID         int       `json:"pid"`  // of the process that serves it
	Hash        string    `json:"hash"` // SHA-256 of the token, hexadecimal
}

// Tokens keeps the hashes of site tokens, one file for each, so that a token can
// be listed and revoked from another process. A token is 256 random bits, which
// no dictionary holds: a plain hash of it gives nothing away.
type Tokens struct {
	Dir  string // made when it is needed, 0700
	Now  func() time.Time
	Rand io.Reader
}

const (
	prefix    = "apiauth_site_"
	idBytes   = 6
	keyBytes  = 32
	maxRecord = 64 << 10
)

// Mint makes a token that opens what site says; TokenID, Created and Hash are
// filled in. The caller shows it once and removes it with Revoke.
func (t *Tokens) Mint(site Site) (secret.Text, Site, error) {
	random := make([]byte, idBytes+keyBytes)
	if _, err := io.ReadFull(t.Rand, random); err != nil {
		return secret.Text{}, Site{}, fmt.Errorf("make a site token: %w", err)
	}
	site.TokenID = hex.EncodeToString(random[:idBytes])
	token := secret.New(prefix + site.TokenID + "_" + base64.RawURLEncoding.EncodeToString(random[idBytes:]))
	site.Hash = hash(token)
	site.Created = t.Now()
	doc, err := json.Marshal(site)
	if err != nil {
		return secret.Text{}, Site{}, fmt.Errorf("make a site token: %w", err)
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return secret.Text{}, Site{}, fmt.Errorf("keep a site token: %w", err)
	}
	f, err := os.OpenFile(t.file(site.TokenID), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return secret.Text{}, Site{}, fmt.Errorf("keep a site token: %w", err)
	}
	_, err = f.Write(doc)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return secret.Text{}, Site{}, fmt.Errorf("keep a site token: %w", err)
	}
	return token, site, nil
}

// Check tells what a token opens. Every reason why it opens nothing is one that
// wraps ErrToken, and none is told apart.
func (t *Tokens) Check(token secret.Text) (Site, error) {
	rest, ok := strings.CutPrefix(token.Reveal(), prefix)
	id, _, found := strings.Cut(rest, "_")
	if !ok || !found || !validID(id) {
		return Site{}, ErrToken
	}
	site, err := t.read(id)
	if err != nil || subtle.ConstantTimeCompare([]byte(site.Hash), []byte(hash(token))) != 1 {
		return Site{}, ErrToken
	}
	if !t.Now().Before(site.Expires) {
		return Site{}, ErrToken
	}
	return site, nil
}

// List returns all tokens that have not ended, the oldest first. Files of ended
// ones are removed.
func (t *Tokens) List() ([]Site, error) {
	entries, err := os.ReadDir(t.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the site tokens: %w", err)
	}
	list := []Site{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !validID(id) {
			continue
		}
		site, err := t.read(id)
		if err != nil {
			continue
		}
		if !t.Now().Before(site.Expires) {
			_ = os.Remove(t.file(id))
			continue
		}
		list = append(list, site)
	}
	slices.SortFunc(list, func(a, b Site) int { return a.Created.Compare(b.Created) })
	return list, nil
}

// Revoke ends a token at once, in every process that serves it. It reports
// whether there was one.
func (t *Tokens) Revoke(id string) (bool, error) {
	if !validID(id) {
		return false, nil
	}
	err := os.Remove(t.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("revoke a site token: %w", err)
	}
	return true, nil
}

func (t *Tokens) file(id string) string { return filepath.Join(t.Dir, id+".json") }

func (t *Tokens) read(id string) (Site, error) {
	f, err := os.Open(t.file(id))
	if err != nil {
		return Site{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return Site{}, err
	}
	var site Site
	if err := json.Unmarshal(data, &site); err != nil {
		return Site{}, err
	}
	if site.TokenID != id || site.Hash == "" {
		return Site{}, ErrToken
	}
	return site, nil
}

func hash(token secret.Text) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

func validID(id string) bool {
	if len(id) != 2*idBytes {
		return false
	}
	_, err := hex.DecodeString(id)
	return err == nil && strings.ToLower(id) == id
}
