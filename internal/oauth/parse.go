package oauth

import (
	"encoding/json"
	"errors"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

const (
	maxCredential = 64 << 10
	maxKept       = 4 << 10
	year          = 365 * 24 * time.Hour
)

// ParseToken reads the answer of a token endpoint (RFC 6749 sections 5.1 and
// 5.2). It accepts a 2xx answer whose body is a JSON object (or a form, when
// its content type says so) without an error in it, with a token_type as the
// rules say and an access_token that is safe in a header. An expires_in
// that cannot be read makes the expiry unknown and costs nothing else.
//
// Otherwise the error is an *Error for an OAuth error, also with status 200 as
// GitHub sends it; a *StatusError for 429 and 5xx, whose body may then condemn
// nothing (a failing issuer's invalid_grant is not believed); or it wraps
// ErrUnusable.
func ParseToken(a Answer, r Rules) (Token, error) {
	whole, o, err := openAnswer(a, r)
	if err != nil {
		return Token{}, err
	}
	for _, name := range []string{"access_token", "refresh_token", "token_type", "id_token"} {
		if o.repeated[name] {
			return Token{}, unusablef("the token response has %s twice", name)
		}
	}

	var t Token
	access, ok := o.text("access_token")
	switch {
	case !o.has("access_token") || ok && access == "":
		return Token{}, unusablef("the token response has no access_token")
	case !ok:
		return Token{}, unusablef("the access_token of the response is not a string")
	case !isAccessToken(access):
		return Token{}, unusablef("the access_token of the response is not one that fits into a header")
	}
	t.Access = secret.New(access)

	if t.Type, err = tokenType(o, r.Type); err != nil {
		return Token{}, err
	}
	if t.Refresh, err = o.credential("refresh_token"); err != nil {
		return Token{}, err
	}
	if t.IDToken, err = o.credential("id_token"); err != nil {
		// Nobody has to read it, and the rest of the response is good.
		t.IDToken = secret.Text{}
	}
	t.ExpiresIn, t.ExpiresKnown = o.seconds("expires_in", year)
	if !t.ExpiresKnown && r.Fields["expires_at"] != "" {
		t.ExpiresIn, t.ExpiresKnown = o.until("expires_at", a.clock(), year)
	}
	if r.SelfRenewing && t.Refresh.IsZero() {
		t.Refresh = t.Access
	}
	for _, name := range []string{"refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in"} {
		if d, ok := o.seconds(name, 10*year); ok && d > 0 {
			t.RefreshExpiresIn = d
			break
		}
	}
	t.Scopes, t.ScopesKnown = o.scopes(r.ScopeSeparator)
	if r.SecondScopes != "" {
		if second, known := whole.at(r.SecondScopes, "scope").scopes(r.ScopeSeparator); known {
			t.ScopesKnown = true
			for _, scope := range second {
				t.Scopes = append(t.Scopes, r.SecondPrefix+scope)
			}
		}
	}
	t.Kept = whole.keep(o, r)
	return t, nil
}

// openAnswer returns the body of a 2xx answer that is no error: the whole of it,
// and the fields of the response in standard names.
func openAnswer(a Answer, r Rules) (whole, o object, err error) {
	if a.Status < 200 || a.Status > 299 {
		return object{}, object{}, refusal(a, r)
	}
	if whole, err = readBody(a); err != nil {
		return object{}, object{}, unusablef("the answer with HTTP status %d is not usable: %s", a.Status, err)
	}
	o = whole.standard(r)
	places := []object{o}
	if r.Inside != "" {
		places = append(places, whole)
	}
	for _, each := range places {
		if e := oauthError(a, each, r); e != nil {
			return object{}, object{}, e
		}
		if s, ok := each.text("error"); each.has("error") && !(ok && s == "") || each.repeated["error"] {
			return object{}, object{}, unusablef("the answer with HTTP status %d holds an error of unknown form", a.Status)
		}
	}
	return whole, o, nil
}

// refusal turns an answer that is not 2xx into an error.
func refusal(a Answer, r Rules) error {
	busy := a.Status == 429 || a.Status >= 500
	if whole, err := readBody(a); err == nil {
		for _, o := range []object{whole.standard(r), whole} {
			if e := oauthError(a, o, r); e != nil && (!busy || temporaryCode(e.Code)) {
				return e
			}
		}
	}
	if busy || a.Status == 408 {
		return &StatusError{Status: a.Status, RetryAfter: a.retryAfter()}
	}
	return unusablef("the issuer answered HTTP status %d without an OAuth error", a.Status)
}

// readBody parses the body by its content type. An error answer may come as
// text/plain, which frameworks put on JSON; a good one may not.
func readBody(a Answer) (object, error) {
	mediaType, _, err := mime.ParseMediaType(a.ContentType)
	if err != nil {
		mediaType, _, _ = strings.Cut(strings.ToLower(a.ContentType), ";")
		mediaType = strings.TrimSpace(mediaType)
	}
	switch {
	case mediaType == "application/json", strings.HasSuffix(mediaType, "+json"), mediaType == "":
		return parseObject(a.Body)
	case mediaType == "application/x-www-form-urlencoded":
		return parseForm(a.Body)
	case mediaType == "text/plain" && a.Status >= 400:
		return parseObject(a.Body)
	case mediaType == "text/html":
		return object{}, errors.New("it is an HTML page")
	}
	return object{}, errors.New("it is not JSON")
}

// parseForm reads a form-encoded body into the same shape as JSON.
func parseForm(body []byte) (object, error) {
	values, err := url.ParseQuery(strings.TrimSpace(string(body)))
	if err != nil || len(values) == 0 {
		return object{}, errors.New("it is not a form")
	}
	o := object{members: map[string]json.RawMessage{}, repeated: map[string]bool{}}
	for name, all := range values {
		raw, err := json.Marshal(all[0])
		if err != nil {
			return object{}, errors.New("it is not a form")
		}
		o.members[name] = raw
		if len(all) > 1 {
			o.repeated[name] = true
		}
	}
	return o, nil
}

// oauthError returns the OAuth error in o, or nil.
func oauthError(a Answer, o object, r Rules) *Error {
	code, ok := o.text("error")
	if !ok || code == "" || o.repeated["error"] {
		return nil
	}
	e := &Error{Status: a.Status, Code: Clean(a.scrub(code)), RetryAfter: a.retryAfter()}
	if s, ok := o.text("error_description"); ok {
		e.Description = Clean(a.scrub(s))
	}
	if standard := r.ErrorCodes[code]; standard != "" {
		if e.Description == "" {
			e.Description = e.Code
		}
		e.Code = standard
	}
	if s, ok := o.text("error_uri"); ok {
		if u, err := CleanURL(a.scrub(s)); err == nil && len(u) <= maxCleanRunes {
			e.URI = u
		}
	}
	if _, ok := o.seconds("interval", year); ok {
		e.Interval = o.interval()
	}
	if e.Code == "" {
		return nil
	}
	return e
}

// scrub removes the credentials of the request that the issuer repeats.
func (a Answer) scrub(s string) string {
	for _, t := range a.sent {
		if t.Len() < 4 {
			continue
		}
		plain := t.Reveal()
		s = strings.ReplaceAll(s, plain, "[redacted]")
		if escaped := url.QueryEscape(plain); escaped != plain {
			s = strings.ReplaceAll(s, escaped, "[redacted]")
		}
	}
	return s
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3): seconds, or a date
// by the issuer's own clock. It is at most a year.
func (a Answer) retryAfter() time.Duration {
	s := strings.TrimSpace(a.RetryAfter)
	if d, ok := parseSeconds(s, year); ok {
		return d
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(a.clock()), 0), year)
}

// clock is the issuer's clock at the answer, or ours when it did not say.
func (a Answer) clock() time.Time {
	if a.Date.IsZero() {
		return a.ReceivedAt
	}
	return a.Date
}

// isAccessToken: 1 byte to 64 KiB of visible ASCII without quote and backslash.
// Salesforce tokens hold "!", Facebook's "|".
func isAccessToken(s string) bool {
	if s == "" || len(s) > maxCredential {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// tokenType checks token_type. A provider that sends another name may go over
// to the standard one.
func tokenType(o object, want string) (string, error) {
	got, ok := o.text("token_type")
	switch {
	case !o.has("token_type") || ok && got == "":
		if want == "absent" {
			return "", nil
		}
		return "", unusablef("the token response has no token_type; a definition of your own can allow that, with token: {type: absent}")
	case ok && strings.EqualFold(got, "bearer"):
		return got, nil
	case ok && want != "" && want != "absent" && strings.EqualFold(got, want) && headerValue(got):
		return got, nil
	case !ok:
		return "", unusablef("the token_type of the response is not a string")
	}
	return "", unusablef("the token response has the token_type %q, which is not bearer; a definition of your own can allow it, as token: {type: NAME}", Clean(got))
}

// credential returns an optional credential: absent, null and empty are zero.
func (o object) credential(name string) (secret.Text, error) {
	if !o.has(name) {
		return secret.Text{}, nil
	}
	s, ok := o.text(name)
	if !ok {
		return secret.Text{}, unusablef("the %s of the response is not a string", name)
	}
	if len(s) > maxCredential {
		return secret.Text{}, unusablef("the %s of the response is longer than %d KiB", name, maxCredential>>10)
	}
	if !headerValue(s) { // RFC 6749 appendix A.17: printable ASCII
		return secret.Text{}, unusablef("the %s of the response holds characters that it must not", name)
	}
	return secret.New(s), nil
}

// seconds reads a duration that may be a number, a numeric string or a
// fraction, clamped to [0, limit]. Anything else, and a name that occurs
// twice, is unknown.
func (o object) seconds(name string, limit time.Duration) (time.Duration, bool) {
	s, ok := scalar(o.members[name])
	if !ok || o.repeated[name] {
		return 0, false
	}
	return parseSeconds(strings.TrimSpace(s), limit)
}

func parseSeconds(s string, limit time.Duration) (time.Duration, bool) {
	// ParseFloat would also take Inf, hexadecimal and underscores.
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if math.IsNaN(f) || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	switch {
	case f <= 0:
		return 0, true
	case f >= limit.Seconds():
		return limit, true
	}
	return time.Duration(f * float64(time.Second)), true
}

// scopes reads scope: a string with the provider's separator, or an array.
func (o object) scopes(separator string) (list []string, known bool) {
	if !o.has("scope") || o.repeated["scope"] {
		return nil, false
	}
	if s, ok := o.text("scope"); ok {
		return SplitScopes(s, separator), true
	}
	parts, ok := o.texts("scope")
	if !ok {
		return nil, false
	}
	return validScopes(parts), true
}

// SplitScopes returns the scopes in s, each once. Without a separator they are
// split at blanks, or at commas when there is no blank. What cannot be a scope is
// left out.
func SplitScopes(s, separator string) []string {
	switch {
	case separator != "" && strings.TrimSpace(separator) != "":
		return validScopes(strings.Split(s, separator))
	case separator == "" && !strings.ContainsAny(strings.TrimSpace(s), " \t") && strings.Contains(s, ","):
		return validScopes(strings.Split(s, ","))
	case separator == "" && strings.Contains(s, ", "):
		return validScopes(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }))
	default:
		return validScopes(strings.Fields(s))
	}
}

func validScopes(parts []string) (list []string) {
	seen := map[string]bool{}
	for _, p := range parts {
		p = strings.TrimSpace(p)
		// The bytes of a scope are those of an access token (RFC 6749
		// appendix A.4). Others are not shown and not stored.
		if !isAccessToken(p) || len(p) > 1024 || seen[p] {
			continue
		}
		seen[p] = true
		list = append(list, p)
	}
	return list
}
