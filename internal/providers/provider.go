// Package providers knows the facts about issuers and their APIs: the schema of
// a provider definition, its strict parser, and the catalogue of definitions
// that are built in or written by the user. It holds no secrets and does no I/O
// beyond reading definition files.
package providers

import (
	"slices"
	"time"
)

// Client authentication methods of a definition: those of RFC 7591 section 2
// and OpenID Connect Core section 9, those of mutual TLS (RFC 8705 section 2), and
// two of our own. AuthSecretUser is
// Stripe's: HTTP Basic with the secret as the user name, an empty password, and
// no client_id. AuthOmitted sends nothing of the client at all.
const (
	AuthNone          = "none"
	AuthBasic         = "client_secret_basic"
	AuthPost          = "client_secret_post"
	AuthSecretJWT     = "client_secret_jwt"
	AuthPrivateKeyJWT = "private_key_jwt"
	AuthTLS           = "tls_client_auth"
	AuthSelfSignedTLS = "self_signed_tls_client_auth"
	AuthSecretUser    = "secret_as_username"
	AuthOmitted       = "omitted"
)

// Values of pkce. PKCEHex is S256 with the challenge in hexadecimal instead of
// base64url, which is TikTok's way.
const (
	PKCES256 = "S256"
	PKCEHex  = "S256-hex"
	PKCENone = "none"
)

// CallbackScopes is the name under which a login hands on the parameter of the
// callback that scopes.callback names. No file can keep anything under it.
const CallbackScopes = "scopes.callback"

// Flows that a definition may list. Pasting the final URL is possible wherever
// the browser flow is, and the only way where the redirect is an https URL.
const (
	FlowBrowser           = "browser"
	FlowDevice            = "device"
	FlowClientCredentials = "client-credentials"
	FlowJWTBearer         = "jwt-bearer"
	FlowImplicit          = "implicit"
	FlowKey               = "key"
)

// Where a variable's value comes from.
const (
	FromUser     = "user"
	FromCallback = "callback"
	FromToken    = "token"
	FromSite     = "site"
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
	// PushedEndpoint takes the authorization request before the browser opens
	// (RFC 9126); RequirePushed says that the issuer accepts no other.
	PushedEndpoint string `yaml:"pushed_authorization_request_endpoint"`
	RequirePushed  bool   `yaml:"require_pushed_authorization_requests"`
	// MTLS are the endpoints for clients that authenticate with a certificate,
	// where they are others.
	MTLS MTLSEndpoints `yaml:"mtls_endpoint_aliases"`
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
	// SigningAlg is the algorithm of private_key_jwt and of the jwt-bearer
	// grant; the default follows from the key.
	SigningAlg string `yaml:"token_endpoint_auth_signing_alg"`
	// AssertionAudience is the aud of a client assertion (RFC 7523 section 3);
	// the default is the token endpoint.
	AssertionAudience string `yaml:"client_assertion_audience"`
	// DeviceNote says in one sentence what a person must know before choosing
	// the device flow: another kind of client, fewer scopes.
	DeviceNote string `yaml:"device_note"`
	PKCE       string `yaml:"pkce"` // S256 (default) | S256-hex | none
	// Flows lists what the provider offers, best first, as Flow constants. The
	// default is browser and device as far as there are endpoints for them.
	Flows []string `yaml:"flows"`
	// RedirectURI is the redirect of the browser flow: a loopback URL whose
	// port is * (any free port) or a number (fixed), or an https URL, which
	// means that the person pastes the final URL. The default is
	// http://127.0.0.1:*/callback/<id>. What to type into the provider's form
	// may differ: see RegisterURI.
	RedirectURI string `yaml:"redirect_uri"`
	// RedirectName is what authorization and token requests carry as
	// redirect_uri where the provider gave the redirect a name (eBay's RuName);
	// it may hold variables of the user. The browser ends at RedirectURI all the
	// same, which was entered at the provider.
	RedirectName string `yaml:"redirect_name"`
	// PasteCode says that the provider displays a bare code to copy.
	PasteCode bool `yaml:"paste_code"`

	Variables []Variable        `yaml:"variables"`
	Scopes    Scopes            `yaml:"scopes"`
	Authorize map[string]string `yaml:"authorize_params"` // extra parameters of the authorization request
	// AuthorizeRename gives standard parameters of the authorization request
	// another name: client_id, redirect_uri, scope.
	AuthorizeRename map[string]string `yaml:"authorize_rename"`
	// Resources are sent as resource with authorization and token requests
	// (RFC 8707).
	Resources []string `yaml:"resources"`
	// CodeParam is the parameter of the callback that holds the code; the
	// default is code.
	CodeParam string `yaml:"code_param"`
	// CallbackKeep names parameters of the callback to keep, by the name they
	// are kept under (realm_id: realmId).
	CallbackKeep map[string]string `yaml:"callback_keep"`
	// LoginHintParam is the parameter of the authorization request that
	// suggests an account; the default is login_hint (OpenID Connect Core
	// section 3.1.2.1).
	LoginHintParam string        `yaml:"login_hint_param"`
	Token          TokenFacts    `yaml:"token"`
	JWTBearer      JWTBearer     `yaml:"jwt_bearer"`
	TokenExchange  TokenExchange `yaml:"token_exchange"`
	Identity       Identity      `yaml:"identity"`
	Site           Site          `yaml:"site"`
	API            API           `yaml:"api"`

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

// MTLSEndpoints are the mtls_endpoint_aliases of RFC 8705 section 5: each takes the
// place of the endpoint of the same name when the client authenticates with mutual
// TLS.
type MTLSEndpoints struct {
	TokenEndpoint               string `yaml:"token_endpoint"`
	DeviceAuthorizationEndpoint string `yaml:"device_authorization_endpoint"`
	RevocationEndpoint          string `yaml:"revocation_endpoint"`
	IntrospectionEndpoint       string `yaml:"introspection_endpoint"`
	PushedEndpoint              string `yaml:"pushed_authorization_request_endpoint"`
	// UserinfoEndpoint counts only where tokens are bound to the certificate.
	UserinfoEndpoint string `yaml:"userinfo_endpoint"`
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
	// From is user (default), callback, token or site: where the value comes
	// from. A value from the callback, the token response or the list of sites
	// is known only after connect, may stand in api, userinfo_endpoint, introspection_endpoint and
	// revocation_endpoint, and must lead to one of the declared hosts. Where it
	// begins a URL it is an https origin such as https://acme.example.com.
	From string `yaml:"from"`
	// Host says that the value is the host (and port) of self-hosted software,
	// and may therefore change the registrable domain. A variable without it
	// that makes a whole host, or the end of one, must stay in the registrable
	// domain of its default, unless Values lists all that there is.
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
	FoldCase bool `yaml:"fold_case"`
	// Callback is the parameter of the callback that names the scopes granted,
	// where the token response does not (Strava). They are split as those of the
	// response.
	Callback string       `yaml:"callback"`
	Second   SecondScopes `yaml:"second"`
	Catalog  []Scope      `yaml:"catalog"`
}

// SecondScopes describes a second scope parameter of the authorization request
// (Slack's user_scope). A scope whose name begins with Prefix goes there, without
// the prefix; Field is where the token response names those granted, which then
// count with the prefix.
type SecondScopes struct {
	Param  string `yaml:"param"`
	Prefix string `yaml:"prefix"`
	Field  string `yaml:"field"`
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
	// KeepAs keeps fields under another name: kept name to path (team_id:
	// team.id).
	KeepAs map[string]string `yaml:"keep_as"`
	// Inside is the path of the object that holds the response's fields (data,
	// authed_user). A response without that object is read as usual.
	Inside string `yaml:"inside"`
	// Fields says what the provider calls fields of the response, by their
	// standard names; expires_at, a point in time, may stand for expires_in.
	// A path leads below the object of Inside. An error may have several with
	// commas, of which the first that is there counts.
	Fields map[string]string `yaml:"fields"`
	// ErrorCodes translates the provider's error codes into those of RFC 6749
	// section 5.2.
	ErrorCodes map[string]string `yaml:"error_codes"`
	// Rotates is never, sometimes or always (default sometimes).
	Rotates string `yaml:"rotates"`
	// GrantLifetime counts from consent, RefreshLifetime from the last
	// refresh (idle time). Go durations; warn ahead.
	GrantLifetime   time.Duration `yaml:"grant_lifetime"`
	RefreshLifetime time.Duration `yaml:"refresh_lifetime"`
	// Request is how token requests are sent: form (default), json, or get,
	// with the parameters in the query.
	Request string `yaml:"request"`
	// Rename gives standard parameters of token requests another name
	// (client_id: appid); OmitParams leaves some out.
	Rename     map[string]string `yaml:"rename"`
	OmitParams []string          `yaml:"omit_params"`
	// Params are extra parameters of the code exchange and the refresh;
	// ExchangeParams and RefreshParams those of one of them.
	Params         map[string]string `yaml:"params"`
	ExchangeParams map[string]string `yaml:"exchange_params"`
	RefreshParams  map[string]string `yaml:"refresh_params"`
	// ExchangeSends is what the code exchange carries as well: scope for the
	// scopes asked for, state for the state of the login, and parameters of the
	// callback under their own names.
	ExchangeSends []string `yaml:"exchange_sends"`
	// RefreshSends is what a refresh carries as well: redirect_uri as in the
	// login, scope for the scopes that were granted of those asked for, state
	// for a new random value, and kept fields under the names they are kept by.
	RefreshSends []string `yaml:"refresh_sends"`
	Upgrade      Upgrade  `yaml:"upgrade"`
	Renewal      Renewal  `yaml:"renewal"`
	// Headers are extra headers of token and revocation requests (Accept is always
	// JSON).
	Headers map[string]string `yaml:"headers"`
}

// Upgrade is a second token request that exchanges the access token of a login
// for a long-lived one (Facebook, Instagram, Threads).
type Upgrade struct {
	Endpoint  string `yaml:"endpoint"`
	Request   string `yaml:"request"`    // form | json | get (default)
	GrantType string `yaml:"grant_type"` // such as fb_exchange_token
	Param     string `yaml:"param"`      // that carries the access token
}

// Renewal says how a refresh differs from RFC 6749 section 6.
type Renewal struct {
	GrantType string `yaml:"grant_type"` // default refresh_token
	// Credential is refresh_token (default) or access_token: a token that
	// renews itself while it is alive. Param carries it.
	Credential string `yaml:"credential"`
	Param      string `yaml:"param"`
	Request    string `yaml:"request"` // as token.request, which is the default
	// OmitClient leaves the client's id and secret out of the request.
	OmitClient bool `yaml:"omit_client"`
	// Before is how long before its end a token is renewed; the default is
	// up to 5 minutes.
	Before time.Duration `yaml:"before"`
	// AfterEnd says that the provider renews a token only once it has ended.
	AfterEnd bool `yaml:"after_end"`
}

// JWTBearer describes the grant of RFC 7523 section 2.1: what an assertion that
// apiauth signs with the client's key must say.
type JWTBearer struct {
	Audience string `yaml:"audience"` // aud; default the token endpoint
	// Subject says whether sub is required, optional, or the client itself
	// (default optional): --subject gives it.
	Subject string `yaml:"subject"`
	// SubjectTitle is what the subject is, for people.
	SubjectTitle string `yaml:"subject_title"`
	// Scope is where the scopes go: param (default), claim, or none where the
	// registration alone decides.
	Scope  string            `yaml:"scope"`
	Claims map[string]string `yaml:"claims"` // extra claims
	// AuthMethod authenticates the client beside the assertion; default
	// omitted.
	AuthMethod string        `yaml:"auth_method"`
	Lifetime   time.Duration `yaml:"lifetime"` // default 3 min, at most 5 min
}

// TokenExchange says what the provider's token exchange (RFC 8693) may be asked
// for, to hand out a token that can do less. Without scopes there is none.
type TokenExchange struct {
	Scopes    []string `yaml:"scopes"`    // the only ones that may be asked for
	Resources []string `yaml:"resources"` // URLs that a resource must equal or lie under
	Audiences []string `yaml:"audiences"` // the only audiences
	// AuthMethod of the request; the default is that of the other token
	// requests.
	AuthMethod string `yaml:"auth_method"`
}

// Site is a second call after login that tells which account, site or
// organisation the token reaches (Atlassian, Xero).
type Site struct {
	Endpoint string `yaml:"endpoint"` // on one of api.hosts
	List     string `yaml:"list"`     // path of the list in the answer; default the answer itself
	Label    string `yaml:"label"`    // path of the name that a person knows it by
	// Keep names fields of the chosen site to keep, by the name they are kept
	// under.
	Keep map[string]string `yaml:"keep"`
}

// Identity says which fields of the userinfo response name the account.
type Identity struct {
	Subject string            `yaml:"subject"` // path such as "id" or "sys.id"
	Label   string            `yaml:"label"`
	Headers map[string]string `yaml:"headers"`
	// Query is a GraphQL query, which goes to userinfo_endpoint by POST as
	// {"query": …}. It is sent as it stands.
	Query string `yaml:"query"`
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
	Hosts []string `yaml:"hosts"`
	Auth  APIAuth  `yaml:"auth"`
	// Headers may hold {client_id}, the id of the client.
	Headers map[string]string `yaml:"headers"`
	// ClientCertificate says that tokens are bound to the client's certificate
	// (RFC 8705 section 3), so that requests have to present it.
	ClientCertificate bool `yaml:"client_certificate"`
	// Body is what fields of a request become: json (default) | form.
	Body string `yaml:"body"`
	// Pagination says how lists go on. Of several rules the first that finds a
	// next page holds.
	Pagination []Pagination `yaml:"pagination"`
}

// APIAuth is the one place of a request that carries the token. The default is
// the header "Authorization: Bearer <token>".
type APIAuth struct {
	In     string `yaml:"in"`     // header (default) | query | basic (as the user name)
	Name   string `yaml:"name"`   // default Authorization
	Prefix string `yaml:"prefix"` // default "Bearer " for the Authorization header
}

// Register says where and how a client is registered.
type Register struct {
	Page  string   `yaml:"page"`
	Steps []string `yaml:"steps"`
	Notes string   `yaml:"notes"`
	// RedirectURI is what to type into the provider's form where that is not
	// the redirect itself: "none" where nothing is registered, and a URL with * for
	// the port where the form takes that. The default is the redirect, without the
	// port if that is *.
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

// Verified reports whether any fact of the definition was compared with the text
// of a page of the vendor. Commands say so of entries of which none was: those
// rest on what public libraries and memory agree on.
func (p *Provider) Verified() bool {
	return slices.ContainsFunc(p.Sources, func(s Source) bool { return !s.Unverified })
}
