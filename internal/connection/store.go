package connection

import (
	"context"
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Store is where records live durably, and whose lock guards them. Nothing
// above it may know whether it is local.
type Store interface {
	// ID is the store's own random id; Kind is "keychain" or "file".
	ID() string
	Kind() string

	// Header reads the clear header of a record. It wakes no keychain, takes no
	// lock, and does not authenticate what it reads: show it, do not trust it.
	// It returns ErrNotStored, ErrCorrupt or ErrNewer.
	Header(key Key) (*Header, error)
	// Names lists the connections of a project in alphabetical order, without
	// opening any of them.
	Names(project string) ([]string, error)
	// Read opens and authenticates a record, without a lock.
	Read(ctx context.Context, key Key) (*Record, error)
	// Pending reports whether a write-ahead file exists for key.
	Pending(key Key) bool

	// Prepare proves, before a person is bothered, that a record for key can be
	// stored: it makes the sealing key when there is none and reads it back,
	// and it writes and syncs a file where the record will lie. The returned
	// function undoes what Prepare made if no record has been stored since.
	Prepare(ctx context.Context, key Key) (undo func(), err error)
	// Lock takes the connection's exclusive lock, waiting until wait is over;
	// then it returns a *LockedError. wait 0 tries once.
	Lock(ctx context.Context, key Key, wait time.Duration) (Guard, error)

	// Client reads the secret of a registration, ClientRecord the registration
	// without it.
	Clients
}

// Guard is a locked connection. Its methods must not be used after Unlock.
type Guard interface {
	// Read opens the record as it is now, under the lock.
	Read(ctx context.Context) (*Record, error)
	// Journal returns the write-ahead file's content, or nil when there is none
	// that is of use: a torn intent, or a target that is not above the record's
	// generation, is removed.
	Journal(ctx context.Context) (*Journal, error)
	// Begin makes an intent durable and reserves the space for its answer. When
	// it fails, the request must not be sent.
	Begin(ctx context.Context, in Intent) error
	// Seal makes the raw answer durable, sealed, before anybody looks at it.
	Seal(ctx context.Context, raw []byte) error
	// Drop removes the write-ahead file.
	Drop() error
	// Commit writes rec, whose Generation must be above the stored one (else
	// ErrConflict), and then removes the write-ahead file.
	Commit(ctx context.Context, rec *Record) error
	// Next returns max(record, write-ahead file, grant item) + 1, for records
	// and for grants.
	Next(ctx context.Context) (generation, grant uint64)

	// Grant reads the keychain's grant item (ErrNotStored when there is none,
	// and always in a store without a keychain). SetGrant writes it and reads
	// it back. FitsGrant reports whether a token is small enough for the
	// platform and the store has a keychain at all.
	Grant(ctx context.Context) (Grant, error)
	SetGrant(ctx context.Context, g Grant) error
	FitsGrant(g Grant) bool

	// Delete removes record, write-ahead file and keychain items. When the
	// keychain cannot be reached the files are gone all the same, a tombstone
	// remembers the items, and the keychain's error is returned.
	Delete(ctx context.Context) error
	// MoveTo stores rec under another name and then deletes this one, in an
	// order that never leaves two live records of one grant.
	MoveTo(ctx context.Context, to Guard, rec *Record) error
	Unlock()
}

// IntentKind says what a journalled request was.
type IntentKind string

// The kinds of journalled requests.
const (
	IntentRefresh  IntentKind = "refresh"
	IntentExchange IntentKind = "exchange"
)

// Intent is what is durable before a token request leaves.
type Intent struct {
	Kind      IntentKind `json:"kind"`
	Target    uint64     `json:"target"`               // the generation the answer will become
	TokenHash string     `json:"token_hash,omitempty"` // SHA-256 of the refresh token sent, hex
	// Grant is the generation of that token; not below the record's.
	Grant uint64    `json:"grant,omitempty"`
	PID   int       `json:"pid"`
	Time  time.Time `json:"time"`
	// Draft is, for an exchange, the header of the record to be.
	Draft *Header           `json:"draft,omitempty"`
	Kept  map[string]string `json:"kept,omitempty"` // kept fields of the callback
}

// Journal is a write-ahead file as it was found.
type Journal struct {
	Intent Intent
	Raw    []byte // the unsealed raw answer; nil when only the intent is there
}

// Registration is a client registration as it is stored. It is bound to the
// endpoint and the authentication method that it was set for: the secret never
// goes anywhere else.
type Registration struct {
	Provider      string            `json:"provider"`          // catalogue id or issuer URL
	Project       string            `json:"project,omitempty"` // empty: for all projects of the user
	ClientID      string            `json:"client_id"`
	TokenEndpoint string            `json:"token_endpoint"`
	AuthMethod    string            `json:"auth_method"`
	RedirectURI   string            `json:"redirect_uri,omitempty"`
	Variables     map[string]string `json:"variables,omitempty"`
	HasSecret     bool              `json:"has_secret"`
	SetAt         time.Time         `json:"set_at"`
	// Certificates are those of a client that authenticates with one (RFC 8705),
	// its own first, in DER, base64. They are public. A store keeps them here and
	// not with the secret, and gives them back with it.
	Certificates []string `json:"certificates,omitempty"`
	// Item tells the keychain items of a client's secrets apart.
	Item string `json:"item,omitempty"`
	// Replaces is SetAt of the registration that a next secret was stored
	// beside; one that was set later voids it.
	Replaces time.Time `json:"replaces,omitzero"`
	// NextSetAt is when the next secret was stored that is to take the place of
	// the present one; zero when there is none.
	NextSetAt time.Time `json:"-"`
}

// Clients keeps client registrations.
type Clients interface {
	// Registrations lists what is stored, without secrets and without waking
	// the keychain.
	Registrations() ([]Registration, error)
	// Registration finds the one for a provider: the project's own first, then
	// the user's. ErrNotStored when there is none.
	Registration(provider, project string) (*Registration, error)
	// ClientSecret reads the secret of a registration; zero when it has none.
	ClientSecret(ctx context.Context, r *Registration) (secret.Text, error)
	SetClient(ctx context.Context, r Registration, s secret.Text) error
	RemoveClient(ctx context.Context, provider, project string) error
	// NextSecret reads the secret that is to take the place of the present one;
	// zero when there is none.
	NextSecret(ctx context.Context, r *Registration) (secret.Text, error)
	// PromoteNext makes the next secret the present one, durably, and removes
	// the old one; nothing when used is not the next one any more.
	PromoteNext(ctx context.Context, r *Registration, used secret.Text) error
}

// Client makes the authenticated client of a token request from pins and the
// secret that belongs to them, which is a key where assertions are signed.
func Client(p *providers.Pins, s secret.Text) oauth.Client {
	c := oauth.Client{ID: p.ClientID, Secret: s, Method: p.AuthMethod, Audience: p.AssertionAudience, Alg: p.SigningAlg}
	if p.JWTBearer == nil {
		return c
	}
	// The key signs the grant; the client authenticates with the secret beside it.
	c.Secret = secret.Text{}
	if key, err := oauth.DecodeKey(s); err == nil {
		c.Secret = key.Secret
	}
	return c
}

// ClientName is the name under which the client of a flow is registered. The key
// of the jwt-bearer flow belongs to a client of its own: it does not take the
// place of the one that people log in with.
func ClientName(provider, flow string) string {
	if flow == FlowJWTBearer {
		return provider + "#" + flow
	}
	return provider
}
