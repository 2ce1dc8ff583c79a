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
	"github.com/apiauth/apiauth/internal/oauth"
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

// clientItem is the keychain item of a secret; slot tells those of one client
// apart.
func clientItem(hash, slot string) string { return "client." + hash + slot }

// clientFile reads the registration of a client.
func (s *Store) clientFile(hash string) (connection.Registration, []byte, error) {
	return s.clientDoc(hash, recordSuffix)
}

func (s *Store) clientDoc(hash, suffix string) (connection.Registration, []byte, error) {
	doc, err := readFile(filepath.Join(s.dir, clientsDir), hash+suffix)
	if err != nil {
		return connection.Registration{}, nil, err
	}
	if bytes.HasPrefix(doc, []byte(clientPrefix)) && !bytes.HasPrefix(doc, []byte(clientMagic)) {
		return connection.Registration{}, nil, fmt.Errorf("%w: the client registration %s", connection.ErrNewer, hash)
	}
	rest, ok := bytes.CutPrefix(doc, []byte(clientMagic))
	line, box, cut := bytes.Cut(rest, []byte{'\n'})
	var r connection.Registration
	if !ok || !cut || json.Unmarshal(line, &r) != nil || clientHash(r.Provider, r.Project) != hash || !slices.Contains(clientSlots(), r.Item) {
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
		s.noteNext(hash, &r)
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
		hash := clientHash(provider, scope)
		r, _, err := s.clientFile(hash)
		if err == nil {
			s.noteNext(hash, &r)
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
	held := *r
	for {
		t, err := s.clientSecret(ctx, hash, recordSuffix, &held)
		if err == nil || !errors.Is(err, connection.ErrStoreKey) {
			return t, err
		}
		// Another process may have put the next secret in its place meanwhile,
		// and then the item is another one.
		now, _, ferr := s.clientFile(hash)
		if ferr != nil || now.Item == held.Item || bindingOf(&now) != bindingOf(r) {
			return secret.Text{}, err
		}
		held = now
	}
}

// clientSecret opens the secret of r, which the file with suffix holds or names.
func (s *Store) clientSecret(ctx context.Context, hash, suffix string, r *connection.Registration) (secret.Text, error) {
	var doc []byte
	if s.meta.Kind == KindKeychain {
		t, err := s.opt.Keychain.Get(ctx, s.service(), clientItem(hash, r.Item))
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
		_, box, err := s.clientDoc(hash, suffix)
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
	t := oauth.JoinCertificates(secret.New(b.Secret), r.Certificates)
	b.Secret = ""
	if b != bindingOf(r) {
		return secret.Text{}, fmt.Errorf("%w: the registration of %s was changed after its secret was stored", connection.ErrCorrupt, r.Provider)
	}
	return t, nil
}

// SetClient stores a registration and its secret, over an earlier one and its
// next secret.
func (s *Store) SetClient(ctx context.Context, r connection.Registration, t secret.Text) error {
	r.SetAt = s.opt.now().UTC()
	return s.putClient(ctx, r, t)
}

// putClient is SetClient that leaves the age of the registration as it is.
func (s *Store) putClient(ctx context.Context, r connection.Registration, t secret.Text) error {
	hash := clientHash(r.Provider, r.Project)
	unlock, err := s.openClients(ctx, hash)
	if err != nil {
		return err
	}
	defer unlock()
	used := s.usedItems(ctx, hash)
	if err := s.writeClient(ctx, hash, recordSuffix, &r, t, used); err != nil {
		return err
	}
	if err := removeFile(filepath.Join(s.dir, clientsDir, hash+nextSuffix)); err != nil {
		return writeError("remove the next client secret of "+r.Provider, err)
	}
	if err := s.dropItems(ctx, hash, used); err != nil {
		return fmt.Errorf("remove the earlier client secret of %s: %w", r.Provider, err)
	}
	return nil
}

// writeClient stores r and its secret under suffix, durably. In a keychain the
// secret gets an item of its own, none of used: one that works must survive when
// its successor cannot be stored.
func (s *Store) writeClient(ctx context.Context, hash, suffix string, r *connection.Registration, t secret.Text, used []string) error {
	undo := func() {}
	r.HasSecret, r.Item, r.NextSetAt = !t.IsZero(), "", time.Time{}
	t, r.Certificates = oauth.SplitCertificates(t)
	b := bindingOf(r)
	b.Secret = t.Reveal()
	plain, err := json.Marshal(b)
	if err != nil {
		return err
	}
	var box []byte
	switch {
	case !r.HasSecret:
	case s.meta.Kind == KindKeychain:
		r.Item = freeItem(used)
		item := clientItem(hash, r.Item)
		undo = func() { _ = s.opt.Keychain.Delete(context.WithoutCancel(ctx), s.service(), item) }
		if err := s.opt.Keychain.Set(ctx, s.service(), item, secret.New(string(plain))); err != nil {
			undo()
			return err
		}
		back, err := s.opt.Keychain.Get(ctx, s.service(), item)
		if err != nil && !s.notFound(err) {
			undo()
			return err
		}
		if err != nil || back.Reveal() != string(plain) {
			undo()
			return fmt.Errorf("store the client secret: %w", connection.ErrNotKept)
		}
	default:
		if err := s.openMaster(ctx); err != nil {
			return err
		}
		if box, err = sealBox(s.opt.rand(), s.subkey(clientKind, hash), plain, s.binding(clientKind, connection.Key{Name: hash}, nil)); err != nil {
			return err
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		undo()
		return err
	}
	doc := append([]byte(clientMagic), append(line, '\n')...)
	if err := s.writeFile(filepath.Join(s.dir, clientsDir), hash+suffix, append(doc, box...)); err != nil {
		// The file may have been replaced all the same: then its secret stays.
		if now, _, ferr := s.clientDoc(hash, suffix); ferr != nil || now.Item != r.Item {
			undo()
		}
		return writeError("write the client registration of "+r.Provider, err)
	}
	return nil
}

// openClients makes the folder of the clients and takes the lock of one, in a
// store that is still there.
func (s *Store) openClients(ctx context.Context, hash string) (unlock func(), err error) {
	if err := makeDir(filepath.Join(s.dir, clientsDir)); err != nil {
		return nil, writeError("make the folder of the clients", err)
	}
	unlock, err = s.lockClient(ctx, hash)
	if err != nil {
		return nil, err
	}
	if err := s.alive(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
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
	if _, _, err := s.clientFile(hash); err != nil {
		return err
	}
	used := s.usedItems(ctx, hash)
	if len(used) > 0 {
		used = clientSlots() // what a process that was killed may have left, too
	}
	if err := s.dropItems(ctx, hash, used); err != nil {
		return err
	}
	dir := filepath.Join(s.dir, clientsDir)
	if err := removeFile(filepath.Join(dir, hash+nextSuffix)); err != nil {
		return writeError("remove the next client secret of "+provider, err)
	}
	if err := removeFile(filepath.Join(dir, hash+recordSuffix)); err != nil {
		return writeError("remove the client registration of "+provider, err)
	}
	return syncDir(dir)
}
