// Package connection keeps grants: what a stored connection is, and the Source
// that hands out live access tokens for it. The Source is the only code in the
// repository that refreshes; it owns the order in which a rotated refresh token
// becomes durable. Where records lie and what locks them is behind Store.
package connection

import (
	"time"

	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// Format is the highest record format that this version reads and writes.
const Format = 1

// Key names one connection in a store.
type Key struct {
	Project string // project id, [a-z0-9-]
	Name    string // connection name, [a-z0-9][a-z0-9-]{0,62}
}

// String returns "project.name".
func (k Key) String() string { return k.Project + "." + k.Name }

// State says whether a connection can be used without a person.
type State string

// The states of a connection.
const (
	StateOK           State = "ok"
	StateNeedsConnect State = "needs-connect" // the issuer no longer accepts the grant
)

// KeychainState says what the keychain is known to hold of the refresh token.
type KeychainState string

// The keychain states. A record keeps its own sealed copy of the refresh token
// in all of them except KeychainConfirmed.
const (
	KeychainNone      KeychainState = ""                // no refresh token, or a store without a keychain
	KeychainPending   KeychainState = "pending"         // written; no later process has read it back yet
	KeychainConfirmed KeychainState = "confirmed"       // a later process has read the equal grant generation
	KeychainSuspended KeychainState = "write-suspended" // a write failed or was lost; nothing more is tried until connect or doctor --fix
	KeychainTooLarge  KeychainState = "too-large"       // does not fit the platform's limit
)

// The ways a grant is renewed, from the flow that obtained it.
const (
	FlowBrowser           = "browser"
	FlowPaste             = "paste"
	FlowDevice            = "device"
	FlowClientCredentials = "client-credentials"
	FlowJWTBearer         = "jwt-bearer"
	FlowImplicit          = "implicit"
	FlowKey               = "key"    // a static key or personal access token
	FlowImport            = "import" // an existing refresh token
)

// Account is who agreed, as the provider names them. Both fields are cleaned
// for display and may be empty when the provider tells nothing.
type Account struct {
	Subject string `json:"subject,omitempty"`
	Label   string `json:"label,omitempty"`
}

// Header is the clear part of a record: enough for status, list and completion
// without waking the keychain. It is bound to the sealed body as additional
// data, so a changed header makes the record unreadable. It holds no
// credential, but it does hold the account's label.
type Header struct {
	Format          int    `json:"format"`
	Generation      uint64 `json:"generation"`       // of the record; grows with every write
	GrantGeneration uint64 `json:"grant_generation"` // of the refresh token; grows when it changes

	Name           string  `json:"name"`
	Provider       string  `json:"provider"`        // catalogue id or issuer URL
	ProviderDigest string  `json:"provider_digest"` // of the definition the pins were last compared with
	Flow           string  `json:"flow"`
	Account        Account `json:"account"`

	ScopesAsked   []string `json:"scopes_asked,omitempty"`
	ScopesGranted []string `json:"scopes_granted,omitempty"`
	ScopesKnown   bool     `json:"scopes_known,omitempty"` // the issuer said which scopes were granted

	State       State  `json:"state"`
	StateReason string `json:"state_reason,omitempty"`

	ConnectedAt time.Time `json:"connected_at"`
	ReceivedAt  time.Time `json:"received_at"`          // our clock, when the access token arrived
	IssuerDate  time.Time `json:"issuer_date,omitzero"` // the issuer's clock at that moment
	TTL         int64     `json:"ttl"`                  // seconds from ReceivedAt; meaningless without ExpiryKnown
	ExpiryKnown bool      `json:"expiry_known"`

	GrantDeadline   time.Time `json:"grant_deadline,omitzero"`   // consent ends, however often it is refreshed; or the key of FlowKey does
	RefreshDeadline time.Time `json:"refresh_deadline,omitzero"` // the refresh token dies when unused until then

	HasRefresh  bool          `json:"has_refresh"`
	Rotated     bool          `json:"rotated,omitempty"` // the issuer was seen to replace the refresh token
	Keychain    KeychainState `json:"keychain,omitempty"`
	KeychainRun string        `json:"keychain_run,omitempty"` // the process that wrote the grant item last

	Pins providers.Pins `json:"pins"`
}

// ExpiresAt returns when the access token ends by our clock, or the zero time
// when no expiry is known.
func (h *Header) ExpiresAt() time.Time {
	if !h.ExpiryKnown {
		return time.Time{}
	}
	return h.ReceivedAt.Add(time.Duration(h.TTL) * time.Second)
}

// Missing returns the scopes of needed that were not granted, not even as part
// of another one or under another name. It returns nothing when the issuer never
// said what it granted.
func (h *Header) Missing(needed []string) []string {
	if !h.ScopesKnown {
		return nil
	}
	return h.Pins.MissingScopes(needed, h.ScopesGranted)
}

// CanRenew reports whether a new access token can be had without a person.
func (h *Header) CanRenew() bool {
	return h.HasRefresh || h.ByClient()
}

// ByClient reports whether the client itself obtains the tokens, with its secret
// or its key, so that nothing else is needed to renew them.
func (h *Header) ByClient() bool {
	return h.Flow == FlowClientCredentials || h.Flow == FlowJWTBearer
}

// Body is the sealed part of a record.
type Body struct {
	Access secret.Text
	// Refresh is our own copy of the refresh token; zero when the keychain is
	// known to hold the newest one.
	Refresh secret.Text
	// Spare is the refresh token before Refresh, kept while it is not known
	// which of the two the issuer accepts: Refresh came in an answer that was
	// of no use otherwise. Zero in all other cases.
	Spare secret.Text
	Kept  map[string]string // kept fields of the token response or callback
}

// Record is a connection as it is stored.
type Record struct {
	Header
	Body Body
}

// Grant is the refresh token with its number, as the keychain's grant item
// holds it.
type Grant struct {
	Generation uint64
	Refresh    secret.Text
}

// Access is what the Source hands out.
type Access struct {
	Name      string
	Token     secret.Text
	ExpiresAt time.Time // zero: no expiry known
	Header    Header
	Kept      map[string]string
	Refreshed bool // a token request was made for this answer
}

// TTL returns how long the token still lives at now; ok is false when no
// expiry is known.
func (a Access) TTL(now time.Time) (ttl time.Duration, ok bool) {
	if a.ExpiresAt.IsZero() {
		return 0, false
	}
	return max(a.ExpiresAt.Sub(now), 0), true
}

func rules(p *providers.Pins) oauth.Rules {
	r := oauth.Rules{
		Type: p.Token.Type, ScopeSeparator: p.Token.ScopeSeparator, Keep: p.Token.Keep, KeepAs: p.Token.KeepAs,
		Inside: p.Token.Inside, Fields: p.Token.Fields, ErrorCodes: p.Token.ErrorCodes,
		SelfRenewing: p.Token.Renewal != nil && p.Token.Renewal.SelfRenews,
	}
	if second := p.Token.SecondScopes; second != nil {
		r.SecondScopes, r.SecondPrefix = second.Field, second.Prefix
	}
	return r
}
