package fakes_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/sandbox/fakes"
	"github.com/apiauth/apiauth/internal/secret"
)

// deep lists the entries that must have a recording.
func deep() []string {
	return []string{
		"github", "github-app", "gitlab", "salesforce", "spotify", "stripe", "box", "contentful", "google", "microsoft", "slack", "notion", "dropbox", "discord",
		"linear", "atlassian", "figma", "bitbucket", "twitch", "reddit", "twitter", "linkedin", "zoom", "hubspot", "asana", "airtable", "shopify", "strava",
		"fitbit", "okta", "auth0", "digitalocean", "heroku", "facebook", "intercom", "zendesk", "mailchimp", "quickbooks", "xero", "paypal", "vercel",
	}
}

// recordings are all there are, by the id of their entry.
func recordings(t *testing.T) map[string]*fakes.Recording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "recorded", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	all := map[string]*fakes.Recording{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fakes.ReadRecording(filepath.Base(file), data)
		if err != nil {
			t.Error(err)
			continue
		}
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = r
	}
	return all
}

// TestRecorded plays each case of each recording: the catalogue entry itself,
// led to a table of what the provider documents, is what is tested.
func TestRecorded(t *testing.T) {
	for id, r := range recordings(t) {
		entry, err := os.ReadFile(filepath.Join("..", "..", "providers", "catalog", id+".yaml"))
		if err != nil {
			t.Errorf("the recording of %s has no entry: %v", id, err)
			continue
		}
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			playAll(t, id, entry, r)
		})
	}
}

// playAll plays each case of a recording by itself.
func playAll(t *testing.T, id string, entry []byte, r *fakes.Recording) {
	for _, c := range r.Cases {
		t.Run(c.Name, func(t *testing.T) {
			table := fakes.Play(t)
			definition, err := table.Rewrite(id, entry)
			if err != nil {
				t.Fatal(err)
			}
			p := &playback{life: live(t, table, id, string(definition)), r: r}
			for _, step := range r.Path(c.Name) {
				p.play(step)
				if faults := table.Faults(); t.Failed() || len(faults) > 0 {
					t.Fatalf("%s: %s", step.Name, strings.Join(p.warnings, "; "))
				}
			}
		})
	}
}

// TestRecordingOfTheDocs plays the recording that the documents show against the
// definition that they show.
func TestRecordingOfTheDocs(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "providers.md"))
	if err != nil {
		t.Fatal(err)
	}
	example := func(name string) []byte {
		t.Helper()
		_, rest, _ := strings.Cut(string(doc), "<!-- example: "+name+" -->\n```yaml\n")
		text, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("there is no example %q", name)
		}
		return []byte(text)
	}
	r, err := fakes.ReadRecording("docs", example("recording"))
	if err != nil {
		t.Fatal(err)
	}
	playAll(t, "intranet", example("definition"), r)
}

// TestRecordingsThatAreRefused: what cannot be played, or could be played past
// what was meant, is refused with its place.
func TestRecordingsThatAreRefused(t *testing.T) {
	const head = "sources:\n  - {url: \"https://a.example\", checked: 2026-11-26, for: all}\nclient: {id: a, secret: b}\ncases:\n  login:\n    do: connect\n    steps:\n      - {request: GET https://a.example/x}\n    error: denied\n"
	if _, err := fakes.ReadRecording("x.yaml", []byte(head)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no source":            head[strings.Index(head, "client:"):],
		"a source without day": strings.Replace(head, "2026-11-26", "yesterday", 1),
		"unknown key":          head + "    wish: {}\n",
		"result and error":     head + "    result: {access: a}\n",
		"unknown error":        strings.Replace(head, "error: denied", "error: odd", 1),
		"unknown flow":         strings.Replace(head, "do: connect", "do: connect\n    flow: odd", 1),
		"nothing to do":        strings.Replace(head, "do: connect", "do: odd", 1),
		"a refresh of nothing": strings.Replace(head, "do: connect", "do: refresh", 1),
		"after what fails":     head + "  again:\n    do: connect\n    after: login\n    steps: []\n    error: denied\n",
		"like what is below":   strings.Replace(head, "request: GET https://a.example/x", "like: login/2", 1),
		"like with a request":  head + "  again:\n    do: connect\n    steps:\n      - {like: login/1, client: none}\n    error: denied\n",
		"an address with http": strings.Replace(head, "https://a.example/x", "http://a.example/x", 1),
		"a query":              strings.Replace(head, "https://a.example/x", "https://a.example/x?y=z", 1),
		"unknown client":       strings.Replace(head, "GET https://a.example/x", "GET https://a.example/x, client: post", 1),
		"repeats too early":    strings.Replace(head, "/x}\n", "/x, repeats: true}\n      - {request: GET https://a.example/y}\n", 1),
	} {
		if _, err := fakes.ReadRecording("x.yaml", []byte(text)); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// TestRecordedCover asks of each recording that it has a case for all that its
// entry can do, and that each entry that people meet first has one.
func TestRecordedCover(t *testing.T) {
	all := recordings(t)
	for _, id := range deep() {
		if all[id] == nil {
			t.Errorf("%s has no recording", id)
		}
	}
	catalogue := providers.Open("")
	for id, r := range all {
		def, err := catalogue.Get(id)
		if err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		has := map[string]bool{}
		for _, c := range r.Cases {
			what := c.Do
			if c.Error != "" {
				what += " " + c.Error
			}
			has[what] = true
			has[what+" "+c.Flow] = true
			if c.Do == "connect" && c.Result != nil {
				has["connect without a secret"] = has["connect without a secret"] || c.Public && c.Flow == flow.FlowBrowser
				person := c.Flow == flow.FlowBrowser || c.Flow == flow.FlowDevice
				has["refresh token"] = has["refresh token"] || c.Result.Refresh != ""
				if person && c.Result.Subject == "" && def.Identity.Subject != "" {
					t.Errorf("%s: %s does not say who signed in", id, c.Name)
				}
			}
		}
		want := []string{}
		for _, f := range def.Flows {
			want = append(want, "connect "+f)
		}
		if slices.Contains(def.Flows, flow.FlowBrowser) {
			want = append(want, "connect denied browser")
		}
		if has["refresh token"] {
			want = append(want, "refresh", "refresh temporary", "refresh needs-connect")
		} else {
			want = append(want, "connect refused", "connect temporary")
		}
		if style := def.Revocation.Style; style != "" && style != "none" && style != "page" {
			want = append(want, "revoke")
		}
		if def.SecretOptional && slices.Contains(def.Flows, flow.FlowBrowser) {
			want = append(want, "connect without a secret")
		}
		if len(def.TokenExchange.Scopes) > 0 {
			want = append(want, "narrow")
		}
		for _, w := range want {
			if !has[w] {
				t.Errorf("%s: no case for %q", id, w)
			}
		}
	}
}

// playback is a life that follows a recording.
type playback struct {
	*life
	r      *fakes.Recording
	pins   providers.Pins
	before *connection.Record // what was stored after the last success
}

func (p *playback) play(c fakes.RecordedCase) {
	p.Helper()
	p.warnings = nil
	p.r.Expect(p.table, c)
	switch c.Do {
	case "connect":
		rec, err := p.connect(c)
		if p.failed(c, err) {
			if _, err := p.source.Store.Read(p.Context(), p.key()); !errors.Is(err, connection.ErrNotStored) {
				p.Errorf("something is stored after a login that failed: %v", err)
			}
			return
		}
		p.kept(c, rec)
		if p.token("it", connection.Option{}) != c.Result.Access {
			p.Error("another access token is handed out than the provider gave")
		}
	case "refresh":
		access, err := p.source.Token(p.Context(), "it", connection.Option{Refresh: true})
		if p.failed(c, err) {
			p.lost(c)
			return
		}
		rec := p.stored()
		if access.Token.Reveal() != c.Result.Access {
			p.Error("another access token was handed out than the provider gave")
		}
		p.rotated(rec)
		p.kept(c, rec)
	case "revoke":
		farewell, err := p.source.Disconnect(p.Context(), "it", false)
		p.must(err)
		if c.Error == "" && (farewell.Err != nil || !farewell.Revoked) || oauth.ErrorCode(farewell.Err) != c.Code {
			p.Errorf("revoked %t, %v", farewell.Revoked, farewell.Err)
		}
	case "narrow":
		access, err := p.source.Downscope(p.Context(), "it", connection.Narrow{Scopes: c.Scopes, Resources: c.Resources}, connection.Option{})
		if p.failed(c, err) {
			return
		}
		if access.Token.Reveal() != c.Result.Access || !slices.Equal(access.Header.ScopesGranted, c.Result.Scopes) {
			p.Errorf("the narrower token is another one, or has the scopes %q", access.Header.ScopesGranted)
		}
		if left, _ := access.TTL(p.now); left.Round(time.Minute) != (time.Duration(c.Result.ExpiresIn) * time.Second).Round(time.Minute) {
			p.Errorf("the narrower token lives %s", left)
		}
	}
}

func (p *playback) key() connection.Key { return connection.Key{Project: "p1", Name: "it"} }

func (p *playback) stored() *connection.Record {
	p.Helper()
	rec, err := p.source.Store.Read(p.Context(), p.key())
	p.must(err)
	return rec
}

// connect obtains a grant by the case's flow and stores it.
func (p *playback) connect(c fakes.RecordedCase) (*connection.Record, error) {
	p.Helper()
	password := secret.New(p.r.Client.Secret)
	if c.Public {
		password = secret.Text{}
	}
	if c.Flow == flow.FlowJWTBearer {
		password = p.signingKey(password)
	}
	pins, err := p.def.Pin(providers.PinOptions{
		Flow: c.Flow, ClientID: p.r.Client.ID, HasSecret: !c.Public, Variables: p.r.Variables, Subject: c.Subject,
	})
	p.must(err)
	p.pins = pins
	client := connection.Client(&pins, password)
	p.client = oauth.Client{Secret: password} // what is stored of it
	scopes := p.scopes(c)
	attempt := flow.Attempt{Pins: pins, Provider: p.def.Provider, Client: client, Scopes: scopes}
	login := connection.Login{
		Draft:  connection.Header{Name: "it", Provider: p.def.ID, Flow: c.Flow, ScopesAsked: scopes, Pins: pins},
		Client: client,
	}
	var result *flow.Result
	switch c.Flow {
	case flow.FlowBrowser:
		ctx, giveUp := context.WithCancelCause(p.Context())
		defer giveUp(nil)
		result, err = flow.Authcode(ctx, p.person(&attempt, giveUp), attempt)
	case flow.FlowDevice:
		var waits []time.Duration
		result, err = flow.Device(p.Context(), flow.Env{
			HTTP: p.source.Issuer.(*oauth.HTTP),
			Now:  func() time.Time { return p.now },
			Sleep: func(ctx context.Context, d time.Duration) error {
				waits = append(waits, d)
				p.now = p.now.Add(d)
				return ctx.Err()
			},
		}, attempt)
		if c.Waits != nil && !slices.Equal(waits, c.Waits) {
			p.Errorf("it waited %v between the polls", waits)
		}
	case flow.FlowClientCredentials:
		result, err = flow.ClientCredentials(attempt)
	case flow.FlowJWTBearer:
		req := connection.JWTBearerRequest(&pins, password, scopes)
		result = &flow.Result{Request: &req}
	}
	if err != nil {
		return nil, err
	}
	login.Request, login.Answer, login.Callback = result.Request, result.Answer, result.Callback
	return p.source.Enroll(p.Context(), login)
}

// scopes are those that a person gets who asks for those of the case: the entry's
// own where there are none, and those that it always wants.
func (p *playback) scopes(c fakes.RecordedCase) []string {
	facts := &p.def.Scopes
	byPerson := c.Flow == flow.FlowBrowser || c.Flow == flow.FlowDevice
	scopes := slices.Clone(c.Scopes)
	switch {
	case facts.Omit:
		return nil
	case byPerson && len(scopes) == 0:
		scopes = slices.Clone(facts.Default)
	}
	if byPerson {
		for _, scope := range facts.Required {
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// person is somebody who answers at once, and gives up when a page does not open.
// A redirect to any port is received; of all others the final address is pasted,
// so that no test needs a fixed port.
func (p *playback) person(a *flow.Attempt, giveUp context.CancelCauseFunc) flow.Env {
	env := flow.Env{HTTP: p.source.Issuer.(*oauth.HTTP), Now: func() time.Time { return p.now }}
	if strings.Contains(a.Pins.RedirectURI, ":*/") {
		env.OpenBrowser = func(ctx context.Context, to string) error {
			err := p.table.Approve(ctx, to)
			if err != nil {
				giveUp(err)
			}
			return err
		}
		return env
	}
	a.Flow = flow.FlowPaste
	last := make(chan string, 1)
	env.OpenBrowser = func(ctx context.Context, to string) error {
		address, err := p.table.Consent(ctx, to)
		if err != nil {
			giveUp(err)
			return err
		}
		if a.Pins.RedirectName != "" { // the provider knows the address behind the name
			_, query, _ := strings.Cut(address, "?")
			address = a.Pins.RedirectURI + "?" + query
		}
		last <- address
		return nil
	}
	env.ReadPaste = func(ctx context.Context) (string, error) {
		select {
		case address := <-last:
			return address, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return env
}

// signingKey is a new key of the client, with its secret beside it.
func (p *playback) signingKey(password secret.Text) secret.Text {
	p.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	p.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	p.must(err)
	file, err := oauth.ParseKeyFile(secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))))
	p.must(err)
	file.Key.Secret = password
	encoded, err := file.Key.Encode()
	p.must(err)
	return encoded
}

// failed compares an error with the one of the case, and reports whether the case
// ends so.
func (p *playback) failed(c fakes.RecordedCase, err error) bool {
	p.Helper()
	if c.Error == "" {
		p.must(err)
		return false
	}
	var denied *flow.DeniedError
	code := oauth.ErrorCode(err)
	is := false
	switch c.Error {
	case "denied":
		if is = errors.As(err, &denied); is {
			code = denied.Code
		}
	case "expired":
		is = errors.Is(err, flow.ErrCodeExpired)
	case "temporary":
		is = errors.Is(err, connection.ErrTemporary)
	case "needs-connect":
		is = errors.Is(err, connection.ErrNeedsConnect)
	case "client":
		is = errors.Is(err, connection.ErrClient)
	case "refused":
		is = errors.Is(err, connection.ErrRefused)
	}
	if !is || code != c.Code {
		p.Errorf("got %v with the code %q, want %s with %q", err, code, c.Error, c.Code)
	}
	return true
}

// lost compares what is stored after a refresh that failed with what was stored
// before: neither token may be gone, and only an ended grant is marked.
func (p *playback) lost(c fakes.RecordedCase) {
	p.Helper()
	rec := p.stored()
	if !rec.Body.Access.Equal(p.before.Body.Access) || !rec.Body.Refresh.Equal(p.before.Body.Refresh) {
		p.Error("a token was lost")
	}
	if ended := rec.State == connection.StateNeedsConnect; ended != (c.Error == "needs-connect") {
		p.Errorf("the connection is %s", rec.State)
	}
}

// rotated compares a refresh with what the entry says about refresh tokens.
func (p *playback) rotated(rec *connection.Record) {
	p.Helper()
	if rec.ByClient() {
		return
	}
	changed := !rec.Body.Refresh.Equal(p.before.Body.Refresh)
	if rotates := p.pins.Token.Rotates; changed && rotates == "never" || !changed && rotates == "always" {
		p.Errorf("the entry says that refresh tokens rotate %s; this one changed: %t", rotates, changed)
	}
}

// kept compares a record with the result of a case. It prints no token.
func (p *playback) kept(c fakes.RecordedCase, rec *connection.Record) {
	p.Helper()
	want := c.Result
	if rec.Body.Access.Reveal() != want.Access {
		p.Error("the access token is another one")
	}
	refresh := ""
	if !rec.Body.Refresh.IsZero() {
		refresh = rec.Body.Refresh.Reveal()
	}
	if refresh != want.Refresh {
		p.Error("the refresh token is another one")
	}
	if rec.TTL != want.ExpiresIn || rec.ExpiryKnown != (want.ExpiresIn != 0) {
		p.Errorf("it expires in %d s (known: %t), want %d", rec.TTL, rec.ExpiryKnown, want.ExpiresIn)
	}
	for name, deadline := range map[string]struct {
		got  time.Time
		want time.Duration
	}{"refresh token": {rec.RefreshDeadline, want.RefreshLasts}, "grant": {rec.GrantDeadline, want.GrantLasts}} {
		since := rec.ReceivedAt
		if name == "grant" {
			since = rec.ConnectedAt
		}
		if deadline.got.IsZero() && deadline.want == 0 {
			continue
		}
		if got := deadline.got.Sub(since); got != deadline.want {
			p.Errorf("the %s lasts %s, want %s", name, got, deadline.want)
		}
	}
	if !slices.Equal(rec.ScopesGranted, want.Scopes) {
		p.Errorf("granted %q, want %q", rec.ScopesGranted, want.Scopes)
	}
	if missing := rec.Missing(rec.ScopesAsked); !slices.Equal(missing, want.Missing) {
		p.Errorf("missing %q, want %q", missing, want.Missing)
	}
	if rec.Account.Subject != want.Subject || rec.Account.Label != want.Label {
		p.Errorf("the account is %q with the label %q", rec.Account.Subject, rec.Account.Label)
	}
	kept := map[string]string{}
	for name, value := range want.Kept {
		kept[name] = p.r.AtTable(p.table, value)
	}
	if !maps.Equal(rec.Body.Kept, kept) {
		p.Errorf("kept %q, want %q", rec.Body.Kept, kept)
	}
	if len(p.warnings) > 0 {
		p.Errorf("warnings %q", p.warnings)
	}
	p.before = rec
}
