// Package providers knows the facts about issuers and their APIs: the schema of
// a provider definition, its strict parser, and the catalogue of definitions
// that are built in or written by the user. It holds no secrets and does no I/O
// beyond reading definition files.
package providers

import "time"

// Client authentication methods of a definition. The first three are those of
// RFC 7591 section 2. AuthSecretUser is Stripe's: HTTP Basic with the secret as
// the user name, an empty password, and no client_id.
const (
	AuthNone       = "none"
	AuthBasic      = "client_secret_basic"
	AuthPost       = "client_secret_post"
	AuthSecretUser = "secret_as_username"
)

// Values of pkce.
const (
	PKCES256 = "S256"
	PKCENone = "none"
)

// Flows that a definition may list. Pasting the final URL is possible wherever
// the browser flow is, and the only way where the redirect is an https URL.
const (
	FlowBrowser           = "browser"
	FlowDevice            = "device"
	FlowClientCredentials = "client-credentials"
	FlowKey               = "key"
)

// Where a variable's value comes from.
const (
	FromUser     = "user"
	FromCallback = "callback"
	FromToken    = "token"
)

// Provider is one catalogue entry: the facts about one issuer and its APIs.
// Endpoint keys carry their RFC 8414 names. A value may use variables, written
// {name}, that are declared under Variables.
type Provider struct {
	ID          string `yaml:"id"`
	Name        string `yaml:"name"`
	Description string `yaml:"description"`
	// Status is empty for a provider in normal use, else "restricted" or
	// "retired"; StatusNote says why and what to do instead.
	Status     string `yaml:"status"`
	StatusNote string `yaml:"status_note"`
	// Replaces is set by `provider add --replace` in a user's file whose id is
	// also in the built-in catalogue. Without it such a file is an error.
	Replaces bool `yaml:"replaces"`

	// Issuer is the issuer identifier (RFC 8414 section 2). A definition that
	// has an issuer and no endpoints is discovered at connect.
	Issuer                      string `yaml:"issuer"`
	AuthorizationEndpoint       string `yaml:"authorization_endpoint"`
	TokenEndpoint               string `yaml:"token_endpoint"`
	DeviceAuthorizationEndpoint string `yaml:"device_authorization_endpoint"`
	RevocationEndpoint          string `yaml:"revocation_endpoint"`
	IntrospectionEndpoint       string `yaml:"introspection_endpoint"`
	UserinfoEndpoint            string `yaml:"userinfo_endpoint"`
	// RefreshEndpoint differs from TokenEndpoint at few providers.
	RefreshEndpoint string `yaml:"refresh_endpoint"`
	// IssParameterSupported is authorization_response_iss_parameter_supported
	// of RFC 9207: the callback must then carry iss.
	IssParameterSupported bool `yaml:"authorization_response_iss_parameter_supported"`

	// TokenEndpointAuthMethod is one of the Auth constants. SecretOptional
	// means that a client without a secret authenticates with none instead.
	// DeviceAuthMethod overrides both for the device flow (GitHub needs no
	// secret there).
	TokenEndpointAuthMethod string `yaml:"token_endpoint_auth_method"`
	SecretOptional          bool   `yaml:"secret_optional"`
	DeviceAuthMethod        string `yaml:"device_auth_method"`
	// DeviceNote says in one sentence what a person must know before choosing
	// the device flow: another kind of client, fewer scopes.
	DeviceNote string `yaml:"device_note"`
	PKCE       string `yaml:"pkce"` // S256 (default) | none
	// Flows lists what the provider offers, best first, as Flow constants. The
	// default is browser and device as far as there are endpoints for them.
	Flows []string `yaml:"flows"`
	// RedirectURI is the redirect of the browser flow: a loopback URL whose
	// port is * (any free port) or a number (fixed), or an https URL, which
	// means that the person pastes the final URL. The default is
	// http://127.0.0.1:*/callback/<id>. What to type into the provider's form
	// may differ: see RegisterURI.
	RedirectURI string `yaml:"redirect_uri"`
	// PasteCode says that the provider displays a bare code to copy.
	PasteCode bool `yaml:"paste_code"`

	Variables []Variable        `yaml:"variables"`
	Scopes    Scopes            `yaml:"scopes"`
	Authorize map[string]string `yaml:"authorize_params"` // extra parameters of the authorization request
	// LoginHintParam is the parameter of the authorization request that
	// suggests an account; the default is login_hint (OpenID Connect Core
	// section 3.1.2.1).
	LoginHintParam string     `yaml:"login_hint_param"`
	Token          TokenFacts `yaml:"token"`
	Identity       Identity   `yaml:"identity"`
	API            API        `yaml:"api"`

	// Env is the variable that carries the token; see CheckEnvName.
	Env string `yaml:"env"`
	// Placeholder is the shape of the provider's tokens: letters, digits,
	// . _ ! - as they are, and {N} for N random letters and digits.
	Placeholder string `yaml:"placeholder"`
	// GitHosts are the exact hosts whose git repositories take the token.
	GitHosts []string `yaml:"git_hosts"`
	// GitUsername is the user name that goes with the token as the password
	// there; default oauth2.
	GitUsername string     `yaml:"git_username"`
	Revocation  Revocation `yaml:"revocation"`
	Register    Register   `yaml:"register"`
	Notes       []string   `yaml:"notes"`
	Sources     []Source   `yaml:"sources"`

	// ClientID and AllowInsecureLoopback may be set in a user's file only.
	ClientID              string `yaml:"client_id"`
	AllowInsecureLoopback bool   `yaml:"allow_insecure_loopback"`
}

// Variable is a part of a provider's URLs that differs from user to user:
// tenant, subdomain, region, self-hosted host.
type Variable struct {
	Name        string `yaml:"name"`
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
	// Pattern is an RE2 expression that the whole value must match. Without
	// one a value may hold letters, digits, dots, hyphens and underscores.
	Pattern string   `yaml:"pattern"`
	Default string   `yaml:"default"`
	Values  []string `yaml:"values"` // the only values allowed, when not empty
	// From is user (default), callback or token: where the value comes from. A
	// value from the callback or the token response is known only after
	// connect, may stand in api, userinfo_endpoint, introspection_endpoint and
	// revocation_endpoint, and must lead to one of the declared hosts. Where it
	// begins a URL it is an https origin such as https://acme.example.com.
	From string `yaml:"from"`
	// Host says that the value is the host (and port) of self-hosted software,
	// and may therefore change the registrable domain. A variable without it
	// that makes a whole host must stay in the registrable domain of its
	// default.
	Host bool `yaml:"host"`
}

// Scopes describes the scopes a provider knows.
type Scopes struct {
	Separator string   `yaml:"separator"` // of the request; default one space
	Default   []string `yaml:"default"`
	// Required scopes are always asked for (offline access, identity).
	Required []string `yaml:"required"`
	// Omit says that the provider takes no scope parameter at all.
	Omit bool `yaml:"omit"`
	// Prefix may stand before each name in an answer, as in
	// https://graph.microsoft.com/Mail.Read for Mail.Read.
	Prefix string `yaml:"prefix"`
	// FoldCase says that the case of a name does not count.
	FoldCase bool    `yaml:"fold_case"`
	Catalog  []Scope `yaml:"catalog"`
}

// Scope is one scope with the words a person chooses by.
type Scope struct {
	Name        string `yaml:"name"`
	Title       string `yaml:"title"`
	Description string `yaml:"description"`
	Category    string `yaml:"category"`
	Broad       bool   `yaml:"broad"`
	// Includes names the scopes of the catalogue that this one contains, so
	// that they count as granted with it. Each names only the next below it.
	Includes []string `yaml:"includes"`
	// Also lists other names under which an answer may give the scope.
	Also []string `yaml:"also"`
	// Unlisted says that an answer need not name the scope although it was
	// granted.
	Unlisted bool `yaml:"unlisted"`
}

// TokenFacts says how the provider's token responses differ from RFC 6749
// section 5.1, and how its grants live.
type TokenFacts struct {
	// ExpiresIn is used when the response has no expires_in: seconds, or
	// "never" for tokens that do not expire.
	ExpiresIn string `yaml:"expires_in"`
	// Type is the token_type expected: "bearer" (default), "absent", or the
	// name that the provider sends.
	Type string `yaml:"type"`
	// ScopeSeparator of the response; default: space, and comma if there is
	// no space.
	ScopeSeparator string   `yaml:"scope_separator"`
	Keep           []string `yaml:"keep"` // fields of the response to keep (instance_url)
	// Rotates is never, sometimes or always (default sometimes).
	Rotates string `yaml:"rotates"`
	// GrantLifetime counts from consent, RefreshLifetime from the last
	// refresh (idle time). Go durations; warn ahead.
	GrantLifetime   time.Duration `yaml:"grant_lifetime"`
	RefreshLifetime time.Duration `yaml:"refresh_lifetime"`
	// Params are extra parameters of the code exchange and the refresh.
	Params map[string]string `yaml:"params"`
	// Headers are extra headers of token requests (Accept is always JSON).
	Headers map[string]string `yaml:"headers"`
}

// Identity says which fields of the userinfo response name the account.
type Identity struct {
	Subject string            `yaml:"subject"` // path such as "id" or "sys.id"
	Label   string            `yaml:"label"`
	Headers map[string]string `yaml:"headers"`
	// From is userinfo (default) or token: fields of the token response
	// (Stripe's stripe_user_id).
	From string `yaml:"from"`
}

// API says where the tokens of a provider may go.
type API struct {
	BaseURL string `yaml:"base_url"`
	// Hosts are the only hosts that may ever receive a token. A leading dot
	// only limits what connect may pin; a port may follow. The default is the
	// host of a base_url without variables.
	Hosts   []string          `yaml:"hosts"`
	Auth    APIAuth           `yaml:"auth"`
	Headers map[string]string `yaml:"headers"`
	// Body is what fields of a request become: json (default) | form.
	Body string `yaml:"body"`
	// Pagination says how lists go on. Of several rules the first that finds a
	// next page holds.
	Pagination []Pagination `yaml:"pagination"`
}

// Styles of Pagination.
const (
	PagesLink     = "link"      // the header Link with rel="next" (RFC 8288)
	PagesNextURL  = "next_url"  // a field holds the address of the next page
	PagesCursor   = "cursor"    // a field holds the value of a parameter
	PagesLastItem = "last_item" // a field of the last item is the value of a parameter
	PagesOffset   = "offset"    // a parameter counts the items before the page
)

// Pagination is how one page of a list leads to the next. Fields are found by
// paths, with dots between names.
type Pagination struct {
	Style string `yaml:"style"`
	// Next is the field of the address (next_url), of the cursor (cursor), or
	// of the last item (last_item).
	Next string `yaml:"next"`
	// Param is the query parameter of cursor, last_item and offset.
	Param string `yaml:"param"`
	// More is the field that says whether another page follows (last_item).
	More string `yaml:"more"`
	// Total is the field with the number of all items, Size the field with the
	// length of a page if it need not be full (offset).
	Total string `yaml:"total"`
	Size  string `yaml:"size"`
	// Items is the field of the list; the default is the answer itself, or the
	// only array in it.
	Items string `yaml:"items"`
}

// APIAuth is the one place of a request that carries the token. The default is
// the header "Authorization: Bearer <token>".
type APIAuth struct {
	In     string `yaml:"in"`     // header (default) | query | basic (as the user name)
	Name   string `yaml:"name"`   // default Authorization
	Prefix string `yaml:"prefix"` // default "Bearer " for the Authorization header
}

// Revocation says how a grant ends at the provider.
type Revocation struct {
	// Style is rfc7009, page, none, or a named style: github, box,
	// stripe-connect, contentful.
	Style string `yaml:"style"`
	Page  string `yaml:"page"` // where a person reviews and removes access
	Notes string `yaml:"notes"`
}

// Register says where and how a client is registered.
type Register struct {
	Page  string   `yaml:"page"`
	Steps []string `yaml:"steps"`
	Notes string   `yaml:"notes"`
	// RedirectURI is what to type into the provider's form where that is not
	// the redirect itself: "none" where nothing is registered. The default is
	// the redirect, without the port if that is *.
	RedirectURI string `yaml:"redirect_uri"`
}

// Source is where facts of the entry come from, and when they were checked.
type Source struct {
	URL string `yaml:"url"`
	// Checked is the day (YYYY-MM-DD) on which the facts were compared with
	// the text of the page, or written down where they are unverified.
	Checked string   `yaml:"checked"`
	For     []string `yaml:"for"`
	// Unverified marks facts for which no text of a page of the vendor was
	// read; the URL is where to look, or who says so instead.
	Unverified bool `yaml:"unverified"`
}
