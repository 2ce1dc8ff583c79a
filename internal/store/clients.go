package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/secret"
)

// A client registration is a file like a record: a first line, a clear JSON
// line, and, in a file store, the sealed secret. A keychain store keeps the
// secret in an item, together with what it is bound to.
const (
	clientPrefix = "apiauth-client "
	clientMagic  = clientPrefix + "1\n"
	clientKind   = "client"
)

// clientBinding is what a stored secret belongs to.
type clientBinding struct {
	Provider      string `json:"provider"`
	ClientID      string `json:"client_id"`
	TokenEndpoint string `json:"token_endpoint"`
	AuthMethod    string `json:"auth_method"`
	Secret        string `json:"secret"`
}

func bindingOf(r *connection.Registration) clientBinding {
	return clientBinding{Provider: r.Provider, ClientID: r.ClientID, TokenEndpoint: r.TokenEndpoint, AuthMethod: r.AuthMethod}
}

func clientHash(provider, project string) string {
	sum := sha256.Sum256([]byte(provider + "\x00" + project))
	return hex.EncodeToString(sum[:12])
}

func clientItem(hash string) string { return "client." + hash }

func (s *Store) clientFile(hash string) (connection.Registration, []byte, error) {
	doc, err := readFile(filepath.Join(s.dir, clientsDir), hash+recordSuffix)
	if err != nil {
		return connection.Registration{}, nil, err
	}
	if bytes.HasPrefix(doc, []byte(clientPrefix)) && !bytes.HasPrefix(doc, []byte(clientMagic)) {
		return connection.Registration{}, nil, fmt.Errorf("%w: the client registration %s", connection.ErrNewer, hash)
	}
	rest, ok := bytes.CutPrefix(doc, []byte(clientMagic))
	line, box, cut := bytes.Cut(rest, []byte{'\n'})
	var r connection.Registration
	if !ok || !cut || json.Unmarshal(line, &r) != nil || clientHash(r.Provider, r.Project) != hash {
		return connection.Registration{}, nil, fmt.Errorf("%w: the client registration %s", connection.ErrCorrupt, hash)
	}
	return r, box, nil
}

// Registrations lists the client registrations of the store.
func (s *Store) Registrations() ([]connection.Registration, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, clientsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, readError("list the clients", err)
	}
	var all []connection.Registration
	for _, e := range entries {
		hash, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || strings.HasPrefix(hash, ".") {
			continue
		}
		r, _, err := s.clientFile(hash)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b connection.Registration) int {
		return strings.Compare(a.Provider+"\x00"+a.Project, b.Provider+"\x00"+b.Project)
	})
	return all, nil
}

// Registration finds the client of a provider: the project's own, else the
// user's.
func (s *Store) Registration(provider, project string) (*connection.Registration, error) {
	for _, scope := range []string{project, ""} {
		r, _, err := s.clientFile(clientHash(provider, scope))
		if err == nil {
			return &r, nil
		}
		if !errors.Is(err, connection.ErrNotStored) {
			return nil, err
		}
	}
	return nil, connection.ErrNotStored
}

// ClientSecret reads the secret of a registration. A secret that was stored for
// another client id, endpoint or method is not returned.
func (s *Store) ClientSecret(ctx context.Context, r *connection.Registration) (secret.Text, error) {
	if !r.HasSecret {
		return secret.Text{}, nil
	}
	hash := clientHash(r.Provider, r.Project)
	var doc []byte
	if s.meta.Kind == KindKeychain {
		t, err := s.opt.Keychain.Get(ctx, s.service(), clientItem(hash))
		if err != nil {
			if s.notFound(err) {
				return secret.Text{}, fmt.Errorf("%w: the keychain no longer holds the client secret of %s", connection.ErrStoreKey, r.Provider)
			}
			return secret.Text{}, err
		}
		doc = []byte(t.Reveal())
	} else {
		if err := s.openMaster(ctx); err != nil {
			return secret.Text{}, err
		}
		_, box, err := s.clientFile(hash)
		if err != nil {
			return secret.Text{}, err
		}
		doc, err = openBox(s.subkey(clientKind, hash), box, s.binding(clientKind, connection.Key{Name: hash}, nil))
		if err != nil {
			return secret.Text{}, fmt.Errorf("%w: the client secret of %s", connection.ErrCorrupt, r.Provider)
		}
	}
	var b clientBinding
	if err := json.Unmarshal(doc, &b); err != nil {
		return secret.Text{}, fmt.Errorf("%w: the client secret of %s", connection.ErrCorrupt, r.Provider)
	}
	t := secret.New(b.Secret)
	b.Secret = ""
	if b != bindingOf(r) {
		return secret.Text{}, fmt.Errorf("%w: the registration of %s was changed after its secret was stored", connection.ErrCorrupt, r.Provider)
	}
	return t, nil
}

// SetClient stores a registration and its secret, over an earlier one.
func (s *Store) SetClient(ctx context.Context, r connection.Registration, t secret.Text) error {
	r.SetAt = s.opt.now().UTC()
	return s.putClient(ctx, r, t)
}

// putClient is SetClient that leaves the age of the registration as it is.
func (s *Store) putClient(ctx context.Context, r connection.Registration, t secret.Text) error {
	dir := filepath.Join(s.dir, clientsDir)
	if err := makeDir(dir); err != nil {
		return writeError("make the folder of the clients", err)
	}
	hash := clientHash(r.Provider, r.Project)
	unlock, err := s.lockClient(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.alive(); err != nil {
		return err
	}
	before, _, beforeErr := s.clientFile(hash)
	undo := func() {}
	r.HasSecret = !t.IsZero()
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	doc := append([]byte(clientMagic), append(line, '\n')...)
	if r.HasSecret {
		b := bindingOf(&r)
		b.Secret = t.Reveal()
		plain, err := json.Marshal(b)
		if err != nil {
			return err
		}
		if s.meta.Kind == KindKeychain {
			// A secret that works must survive when its successor cannot be
			// stored.
			if old, err := s.opt.Keychain.Get(ctx, s.service(), clientItem(hash)); err == nil {
				undo = func() { _ = s.opt.Keychain.Set(context.WithoutCancel(ctx), s.service(), clientItem(hash), old) }
			} else if !s.notFound(err) {
				return err
			} else {
				undo = func() { _ = s.opt.Keychain.Delete(context.WithoutCancel(ctx), s.service(), clientItem(hash)) }
			}
			if err := s.opt.Keychain.Set(ctx, s.service(), clientItem(hash), secret.New(string(plain))); err != nil {
				return err
			}
			back, err := s.opt.Keychain.Get(ctx, s.service(), clientItem(hash))
			if err != nil && !s.notFound(err) {
				return err
			}
			if err != nil || back.Reveal() != string(plain) {
				return fmt.Errorf("store the client secret: %w", connection.ErrNotKept)
			}
		} else {
			if err := s.openMaster(ctx); err != nil {
				return err
			}
			box, err := sealBox(s.opt.rand(), s.subkey(clientKind, hash), plain, s.binding(clientKind, connection.Key{Name: hash}, nil))
			if err != nil {
				return err
			}
			doc = append(doc, box...)
		}
	}
	if err := s.writeFile(dir, hash+recordSuffix, doc); err != nil {
		undo()
		return writeError("write the client registration of "+r.Provider, err)
	}
	if s.meta.Kind == KindKeychain && !r.HasSecret && beforeErr == nil && before.HasSecret {
		if err := s.opt.Keychain.Delete(ctx, s.service(), clientItem(hash)); err != nil && !s.notFound(err) {
			return fmt.Errorf("remove the earlier client secret of %s: %w", r.Provider, err)
		}
	}
	return nil
}

// lockClient keeps two writers of one registration apart, so that its file and
// its secret belong together.
func (s *Store) lockClient(ctx context.Context, hash string) (unlock func(), err error) {
	lock, err := s.locks.take(ctx, filepath.Join(s.dir, clientsDir, hash+lockSuffix), 10*time.Second)
	if err != nil {
		return nil, fmt.Errorf("lock the client registration: %w", err)
	}
	return lock.release, nil
}

// RemoveClient removes a registration and its secret. It returns
// connection.ErrNotStored when there is none of exactly that scope.
func (s *Store) RemoveClient(ctx context.Context, provider, project string) error {
	hash := clientHash(provider, project)
	if _, _, err := s.clientFile(hash); err != nil {
		return err
	}
	unlock, err := s.lockClient(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	r, _, err := s.clientFile(hash)
	if err != nil {
		return err
	}
	if r.HasSecret && s.meta.Kind == KindKeychain {
		if err := s.opt.Keychain.Delete(ctx, s.service(), clientItem(hash)); err != nil && !s.notFound(err) {
			return err
		}
	}
	dir := filepath.Join(s.dir, clientsDir)
	if err := removeFile(filepath.Join(dir, hash+recordSuffix)); err != nil {
		return writeError("remove the client registration of "+provider, err)
	}
	return syncDir(dir)
}
