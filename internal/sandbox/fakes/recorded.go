package fakes

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/strictyaml"
)

// Recording is what the documentation of one provider says about its requests
// and answers: the file testdata/recorded/ID.yaml. Its addresses are the real
// ones, its credentials are invented.
type Recording struct {
	Sources []RecordingSource `yaml:"sources"`
	// Client is the registered client.
	Client RecordedClient `yaml:"client"`
	// Variables are the values of the entry's variables, such as a tenant.
	Variables map[string]string `yaml:"variables"`
	// Origins stand in answers, such as https://acme.my.salesforce.com, and give
	// way to that of the table.
	Origins []string       `yaml:"origins"`
	Cases   []RecordedCase `yaml:"cases"`
}

// RecordingSource is a page that the recording rests on.
type RecordingSource struct {
	URL     string `yaml:"url"`
	Checked string `yaml:"checked"`
	For     string `yaml:"for"`
}

// RecordedClient is a client as it is registered at the provider.
type RecordedClient struct {
	ID     string `yaml:"id"`
	Secret string `yaml:"secret"`
}

// RecordedCase is one thing that a person or a program does, what is sent and
// answered then, and what comes of it: a Result or an Error.
type RecordedCase struct {
	Name string `yaml:",key"`
	// After is the case that is played before this one.
	After string `yaml:"after"`
	// Do is connect, refresh, revoke or narrow.
	Do string `yaml:"do"`
	// Flow of a connect: browser (default), device, client-credentials or
	// jwt-bearer; Subject is the sub of the last one.
	Flow    string `yaml:"flow"`
	Subject string `yaml:"subject"`
	// Public says that the client has no secret.
	Public bool     `yaml:"public"`
	Scopes []string `yaml:"scopes"`
	// Resources of a narrower token (RFC 8693 section 2.1).
	Resources []string       `yaml:"resources"`
	Steps     []RecordedStep `yaml:"steps"`
	// Waits are the pauses between the polls of a device flow.
	Waits []time.Duration `yaml:"waits"`

	Result *RecordedResult `yaml:"result"`
	// Error is denied, expired (a device code), temporary, needs-connect, client or
	// refused; Code is the provider's word for it, or what the entry makes of it.
	Error string `yaml:"error"`
	Code  string `yaml:"code"`

	// Unverified says that no page of the vendor has what stands here.
	Unverified bool `yaml:"unverified"`
}

// RecordedStep is a request with its answer.
type RecordedStep struct {
	// Like takes the request of another case's step, "login/1"; only the answer
	// stands here then.
	Like string `yaml:"like"`

	Request string `yaml:"request"` // method and address
	Type    string `yaml:"type"`
	// Client says how the client authenticates: none, client_secret_basic,
	// client_secret_post or secret_as_username; without it not at all.
	Client string            `yaml:"client"`
	Header map[string]string `yaml:"header"`
	// Sends are the parameters, with "*" for any value; ":*" in a redirect_uri is
	// any port, and the code_challenge "hex:*" is one in hexadecimal.
	Sends map[string]string `yaml:"sends"`
	// Claims are those of the assertion, in which exp counts from iat and alg
	// stands in the header.
	Claims map[string]string `yaml:"claims"`

	Callback     map[string]string `yaml:"callback"`
	Status       int               `yaml:"status"`
	Answers      string            `yaml:"answers"`
	AnswerHeader map[string]string `yaml:"answer_header"`
	Body         string            `yaml:"body"`
	Repeats      bool              `yaml:"repeats"`
}

// RecordedResult is what is kept of a success. After a refresh, what is not named
// is as it was before; else what is not named is not there.
type RecordedResult struct {
	Access  string `yaml:"access"`
	Refresh string `yaml:"refresh"`
	// ExpiresIn is in seconds; 0 means that no end is known.
	ExpiresIn int64 `yaml:"expires_in"`
	// RefreshLasts and GrantLasts are the ends of the refresh token, when it is
	// not used, and of the consent.
	RefreshLasts time.Duration `yaml:"refresh_lasts"`
	GrantLasts   time.Duration `yaml:"grant_lasts"`
	// Scopes are those granted; Missing those that were asked for and not granted.
	Scopes  []string `yaml:"scopes"`
	Missing []string `yaml:"missing"`
	Subject string   `yaml:"subject"`
	Label   string   `yaml:"label"`
	// Kept are fields of answers that API calls need.
	Kept map[string]string `yaml:"kept"`
}

// ReadRecording reads a recording, which is the content of file, and checks what
// can be checked without playing it.
func ReadRecording(file string, data []byte) (*Recording, error) {
	doc, err := strictyaml.Parse(file, data)
	if err != nil {
		return nil, err
	}
	r := new(Recording)
	if err := doc.Decode(r); err != nil {
		return nil, err
	}
	for i, source := range r.Sources {
		u, err := url.Parse(source.URL)
		_, dateErr := time.Parse(time.DateOnly, source.Checked)
		if err != nil || u.Scheme != "https" || dateErr != nil || source.For == "" {
			return nil, doc.Errorf([]any{"sources", i}, "a source has an https address, the day on which it was checked, and what for")
		}
	}
	for i := range r.Cases {
		if why := r.complete(i); why != "" {
			return nil, doc.Errorf([]any{"cases", r.Cases[i].Name}, "%s", why)
		}
	}
	return r, nil
}

// complete fills in what a case takes from those before it. It returns what is
// wrong with it, or "".
func (r *Recording) complete(i int) string {
	c := &r.Cases[i]
	switch c.Do {
	case "connect":
		if c.Flow == "" {
			c.Flow = "browser"
		}
	case "refresh", "revoke", "narrow":
		if c.After == "" {
			return c.Do + " needs a case to come after"
		}
	default:
		return "do must be connect, refresh, revoke or narrow"
	}
	if c.After != "" {
		before, ok := r.before(i, c.After)
		if !ok || before.Result == nil {
			return "it comes after a case that is not above it, or that fails"
		}
		if c.Do == "refresh" && c.Result != nil {
			c.Result.inherit(before.Result)
		}
	}
	if (c.Result == nil) == (c.Error == "") && c.Do != "revoke" || c.Result != nil && c.Do == "revoke" {
		return "it has a result or an error, and a revocation that succeeds has neither"
	}
	if !slices.Contains([]string{"", "denied", "expired", "temporary", "needs-connect", "client", "refused"}, c.Error) {
		return "error must be denied, expired, temporary, needs-connect, client or refused"
	}
	if !slices.Contains([]string{"", "browser", "device", "client-credentials", "jwt-bearer"}, c.Flow) {
		return "flow must be browser, device, client-credentials or jwt-bearer"
	}
	if !c.Unverified && len(r.Sources) == 0 {
		return "it rests on no source and is not marked as unverified"
	}
	for n := range c.Steps {
		step := &c.Steps[n]
		if step.Like != "" {
			name, number, _ := strings.Cut(step.Like, "/")
			at, err := strconv.Atoi(number)
			from, ok := r.before(i+1, name)
			if err != nil || !ok || at < 1 || at > len(from.Steps) || from == c && at > n {
				return "like must name a step above: login/1"
			}
			if step.Request != "" || step.Client != "" || step.Type != "" || step.Header != nil || step.Sends != nil || step.Claims != nil {
				return "a step that is like another one has only an answer of its own"
			}
			one := from.Steps[at-1]
			step.Request, step.Client, step.Type, step.Header, step.Sends, step.Claims = one.Request, one.Client, one.Type, one.Header, one.Sends, one.Claims
		}
		if _, address, ok := strings.Cut(step.Request, " https://"); !ok || strings.Contains(address, "?") {
			return "a request is a method and an https address without a query: GET https://api.example.com/me"
		}
		if !slices.Contains([]string{"", "none", "client_secret_basic", "client_secret_post", "secret_as_username"}, step.Client) {
			return "client of a step must be none, client_secret_basic, client_secret_post or secret_as_username"
		}
		if step.Repeats && n < len(c.Steps)-1 {
			return "only the last step repeats"
		}
	}
	return ""
}

// before finds a case above the one at i.
func (r *Recording) before(i int, name string) (*RecordedCase, bool) {
	at := slices.IndexFunc(r.Cases[:i], func(c RecordedCase) bool { return c.Name == name })
	if at < 0 {
		return nil, false
	}
	return &r.Cases[at], true
}

// inherit takes over what a refresh does not change.
func (r *RecordedResult) inherit(before *RecordedResult) {
	if r.Refresh == "" {
		r.Refresh = before.Refresh
	}
	if r.ExpiresIn == 0 {
		r.ExpiresIn = before.ExpiresIn
	}
	if r.RefreshLasts == 0 {
		r.RefreshLasts = before.RefreshLasts
	}
	if r.GrantLasts == 0 {
		r.GrantLasts = before.GrantLasts
	}
	if r.Scopes == nil {
		r.Scopes, r.Missing = before.Scopes, before.Missing
	}
	if r.Subject == "" {
		r.Subject, r.Label = before.Subject, before.Label
	}
	if r.Kept == nil {
		r.Kept = before.Kept
	}
}

// Path returns the cases that lead to the one of that name, itself last.
func (r *Recording) Path(name string) []RecordedCase {
	var path []RecordedCase
	for i := len(r.Cases) - 1; i >= 0 && name != ""; i-- {
		if r.Cases[i].Name == name {
			path = append(path, r.Cases[i])
			name = r.Cases[i].After
		}
	}
	slices.Reverse(path)
	return path
}

// AtTable puts the table in the place of the recording's origins in a text.
func (r *Recording) AtTable(t *Table, text string) string {
	for _, origin := range r.Origins {
		text = strings.ReplaceAll(text, origin, t.URL)
	}
	return text
}

// Expect adds the steps of a case to a table.
func (r *Recording) Expect(t *Table, c RecordedCase) {
	run := &recordedRun{client: r.Client}
	for _, step := range c.Steps {
		e := run.exchange(step)
		e.Body = r.AtTable(t, e.Body)
		t.Expect(e)
	}
}

// hexChallenge in a recording's code_challenge says how it is written.
const hexChallenge = "hex:*"

// recordedRun is what the steps of a case have in common while it is played.
type recordedRun struct {
	client       RecordedClient
	redirect     string // as it was sent first
	challenge    string
	hexChallenge bool
}

// exchange is the step as a Table plays it.
func (run *recordedRun) exchange(s RecordedStep) Exchange {
	e := Exchange{
		Request: strings.Replace(s.Request, " https://", " /", 1), Type: s.Type, Header: map[string]string{"Authorization": ""}, Sends: map[string]string{},
		Status: s.Status, Answers: s.Answers, AnswerHeader: s.AnswerHeader, Body: s.Body, Repeats: s.Repeats,
	}
	maps.Copy(e.Header, s.Header)
	maps.Copy(e.Sends, s.Sends)
	for name, value := range e.Sends {
		if strings.Contains(value, ":*/") || value == hexChallenge {
			e.Sends[name] = "*"
		}
	}
	id, password := run.client.ID, run.client.Secret
	switch s.Client {
	case "none":
		e.Sends["client_id"] = id
	case "client_secret_post":
		e.Sends["client_id"], e.Sends["client_secret"] = id, password
	case "client_secret_basic":
		e.Header["Authorization"] = basicOf(id, password)
	case "secret_as_username":
		e.Header["Authorization"] = basicOf(password, "")
	}
	if len(s.Callback) > 0 {
		query := url.Values{}
		for name, value := range s.Callback {
			query.Set(name, value)
		}
		e.Callback = query.Encode()
	}
	e.Check = func(sent map[string]string) error { return run.check(s, sent) }
	return e
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// check looks at what hangs together in the requests of a case.
func (run *recordedRun) check(s RecordedStep, sent map[string]string) error {
	for name, want := range s.Sends {
		if pattern, rest, ok := strings.Cut(want, ":*/"); ok {
			anyPort := regexp.MustCompile("^" + regexp.QuoteMeta(pattern) + ":[0-9]+/" + regexp.QuoteMeta(rest) + "$")
			if !anyPort.MatchString(sent[name]) {
				return fmt.Errorf("%s is not what the table has", name)
			}
		}
	}
	if got := sent["redirect_uri"]; got != "" {
		if run.redirect != "" && got != run.redirect {
			return errors.New("redirect_uri is not that of the authorization request")
		}
		run.redirect = got
	}
	if got := sent["code_challenge"]; got != "" {
		run.challenge, run.hexChallenge = got, s.Sends["code_challenge"] == hexChallenge
	}
	if verifier, ok := sent["code_verifier"]; ok || run.challenge != "" && sent["grant_type"] == "authorization_code" {
		sum := sha256.Sum256([]byte(verifier))
		want := base64.RawURLEncoding.EncodeToString(sum[:])
		if run.hexChallenge {
			want = hex.EncodeToString(sum[:])
		}
		if want != run.challenge {
			return errors.New("code_verifier is not that of the code_challenge")
		}
	}
	if s.Claims != nil {
		return claimsAre(sent["assertion"], s.Claims)
	}
	return nil
}

// claimsAre compares an assertion (RFC 7523 section 3) with what the table has.
// Its signature is not looked at.
func claimsAre(assertion string, want map[string]string) error {
	got := map[string]any{}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return errors.New("the assertion is no JWT")
	}
	for _, part := range parts[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || json.Unmarshal(text, &got) != nil {
			return errors.New("the assertion cannot be read")
		}
	}
	issued, ok1 := got["iat"].(float64)
	expires, ok2 := got["exp"].(float64)
	if !ok1 || !ok2 {
		return errors.New("the assertion has no iat or exp")
	}
	got["exp"] = strconv.Itoa(int(expires - issued))
	for _, name := range []string{"iat", "nbf", "jti", "typ"} {
		delete(got, name)
	}
	for name, value := range want {
		if got[name] != value {
			return fmt.Errorf("the claim %s is missing or not what the table has", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			return fmt.Errorf("the claim %s is not in the table", name)
		}
	}
	return nil
}
