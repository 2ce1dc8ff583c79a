package dashboard

import (
	"context"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// Work is all that the page shows and does. An error's text is shown as it is;
// nothing that these return may hold a credential.
type Work interface {
	// Projects lists the user's projects, the one that the dashboard was started
	// in first. Only that one can be changed.
	Projects(ctx context.Context) ([]Project, error)
	// Connections lists what is stored and what is needed in a project.
	Connections(ctx context.Context, project string) ([]Connection, error)
	// Providers lists those that a word occurs in, all for the empty word.
	Providers(ctx context.Context, word string) ([]Provider, error)
	// Provider describes one, with its scopes; nil when there is none.
	Provider(ctx context.Context, id string) (*Provider, error)
	// Clients lists the client registrations.
	Clients(ctx context.Context) ([]Client, error)
	// Uses lists what the log of this project tells since a moment, oldest first.
	Uses(ctx context.Context, since time.Time) ([]Use, error)
	// Proof proves the log of each connection of this project.
	Proof(ctx context.Context) ([]Proof, error)
	// Logins lists those that were begun here, the newest first.
	Logins() []Login

	// Connect begins a login. It returns when the person can go on, and not
	// later than 3 s.
	Connect(ctx context.Context, o Order) error
	// Paste gives the final address of a login that waits for it.
	Paste(name string, address secret.Text) error
	// GiveUp ends a login that is under way, and forgets one that is over.
	GiveUp(name string)
	// Disconnect forgets a grant and revokes it at the provider.
	Disconnect(ctx context.Context, name string) (Outcome, error)
	// SetClient stores a client registration.
	SetClient(ctx context.Context, f ClientForm) (Outcome, error)
	// Revoke finds what a leaked token belongs to and ends that.
	Revoke(ctx context.Context, token secret.Text) (Outcome, error)
}

// Outcome is what was done, in lines for a person.
type Outcome []string

// Project is one folder's, or the personal one.
type Project struct {
	ID, Label string
	Folders   []string
	Current   bool
}

// States of a connection.
const (
	StateOK           = "ok"
	StateNeedsConnect = "needs-connect"
	StateNotConnected = "not-connected"
	StateUnreadable   = "unreadable"
)

// Connection is one connection as it is shown.
type Connection struct {
	Name         string
	Provider     string // catalogue id or issuer URL
	ProviderName string
	Account      string
	State        string // one of the State constants
	Reason       string
	Key          bool // the grant is a key that a person brought
	Scopes       []ScopeUse
	ScopesKnown  bool // the provider said what it granted
	Facts        []Fact
	Page         string // where the account's owner removes access
}

// Fact is one line about a connection.
type Fact struct{ Label, Value string }

// ScopeUse is one scope of a connection. Missing means needed and not granted,
// Refused asked for and not granted, Superfluous granted and not needed by a
// project that says what it needs.
type ScopeUse struct {
	Name                          string
	Asked, Granted, Needed, Broad bool
	Missing, Refused, Superfluous bool
}

// Provider is one provider as it is shown.
type Provider struct {
	ID, Name, Description string
	Status, StatusNote    string
	Flows                 []string
	Verified, Own         bool
	RegisterPage          string
	RedirectURI           string // exactly as it is to be registered; empty for none
	Steps                 []string
	Variables             []Variable
	Scopes                []Scope
	NoScopes              bool // the provider takes none
	ClientID              string
	NoClient              bool // it takes a key, not a client
}

// Variable is a part of a provider's addresses that a person gives.
type Variable struct {
	Name, Title, Default string
	Values               []string
}

// Scope is one scope to choose. A required one is always asked for.
type Scope struct {
	Name, Title, Description, Category string
	Broad, Required, Default           bool
}

// Client is a registration without its secret.
type Client struct {
	Provider, ID, For, RedirectURI, Store, Set string
	HasSecret                                  bool
}

// Use is one line of the log.
type Use struct {
	Time                            time.Time
	Connection, Event, Purpose      string
	Executable, Folder, Fingerprint string
	// Count is how many tokens the line stands for; 0 for other events.
	Count int
}

// Proof is what was found about the log of one connection.
type Proof struct {
	Connection string
	Lines      int    // that were proven
	Former     int    // whose key is gone, with a former connection of that name
	Fault      string // the first place where it is not what was written
	More       int    // further faults
	Problem    string // why it could not be proven
}

// Order asks for a login.
type Order struct {
	Name, Provider, Flow string
	// Scopes are all that is asked for, beside those that are required.
	Scopes []string
	// Key is a key or a token that the person has, in place of a login.
	Key secret.Text
	// Expires is the day on which the key ends, YYYY-MM-DD; empty where it does
	// not.
	Expires string
}

// ClientForm is a client registration as it was typed.
type ClientForm struct {
	Provider, ID string
	Secret       secret.Text // zero for a client without one
	Project      bool        // for this project alone
	Variables    map[string]string
}

// States of a login.
const (
	LoginWaiting = "waiting"
	LoginDone    = "done"
	LoginFailed  = "failed"
)

// Login is one login that was begun here.
type Login struct {
	Name, Provider string
	State          string // one of the Login constants
	URL            string // that the person opens; empty until it is known
	Paste          bool   // it takes the final address as well
	Lines          []string
	Problem, Hint  string
}
