package providers

import (
	"net/http"
	"slices"
)

// Choices returns the only values that the key at path may have, nil where it is
// not one of a few. A path is written with dots; [] stands for an entry of a list,
// {} for a value of a mapping with names of the file's own, {key} for such a name.
// The parser refuses what is not among them, and the schema for editors lists them.
func Choices(path string) []string {
	switch path {
	case "status":
		return []string{"restricted", "retired"}
	case "token_endpoint_auth_method", "device_auth_method":
		return authMethods()
	case "token_endpoint_auth_signing_alg":
		return signingAlgs()
	case "pkce":
		return []string{PKCES256, PKCEHex, PKCENone}
	case "flows[]":
		return []string{FlowBrowser, FlowDevice, FlowClientCredentials, FlowJWTBearer, FlowImplicit, FlowKey}
	case "variables[].from":
		return []string{FromUser, FromCallback, FromToken, FromSite}
	case "authorize_rename{key}":
		return []string{"client_id", "redirect_uri", "scope"}
	case "token.rotates":
		return []string{"never", "sometimes", "always"}
	case "token.request", "token.upgrade.request", "token.renewal.request":
		return []string{RequestForm, RequestJSON, RequestGet}
	case "token.renewal.credential":
		return []string{"refresh_token", CredentialAccess}
	case "token.rename{key}":
		return []string{"client_id", "client_secret", "grant_type", "code", "redirect_uri", "refresh_token", "code_verifier", "scope", "device_code"}
	case "token.omit_params[]":
		return []string{"client_id", "grant_type", "redirect_uri", "scope"}
	case "token.fields{key}":
		return tokenFields()
	case "token.error_codes{}":
		return []string{"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "temporarily_unavailable"}
	case "jwt_bearer.subject":
		return []string{"required", "optional", "client"}
	case "jwt_bearer.scope":
		return []string{"param", "claim", "none"}
	case "jwt_bearer.auth_method":
		return []string{AuthOmitted, AuthNone, AuthBasic, AuthPost}
	case "token_exchange.auth_method":
		return append(authMethods(), AuthOmitted)
	case "identity.from":
		return []string{"userinfo", "token"}
	case "api.auth.in":
		return []string{"header", "query", "basic"}
	case "api.body":
		return []string{"json", "form"}
	case "api.pagination[].style":
		return []string{PagesLink, PagesNextURL, PagesCursor, PagesLastItem, PagesOffset, PagesNumber}
	case "revocation.style":
		return []string{RevokeStandard, RevokeRequest, RevokePage, RevokeNone, "github", "stripe-connect", "contentful"}
	case "revocation.method":
		return []string{http.MethodPost, http.MethodDelete, http.MethodGet}
	case "revocation.request":
		return []string{RequestForm, RequestJSON, RequestQuery}
	case "revocation.auth":
		return []string{AuthBearer, AuthNone, AuthBasic, AuthPost, AuthSecretUser, AuthOmitted}
	case "revocation.token":
		return []string{TokenAccess, TokenRefresh}
	case "revocation.rename{key}":
		return []string{"token", "client_id", "client_secret"}
	}
	return nil
}

// may reports whether a value is left out or one of the choices of path.
func may(path, value string) bool { return value == "" || slices.Contains(Choices(path), value) }
