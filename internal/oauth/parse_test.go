package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// canary marks credentials that must not show up in an error.
const canary = "c4n4ry-0123456789"

func jsonAnswer(status int, body string) Answer {
	return Answer{
		Status: status, ContentType: "application/json; charset=utf-8", Body: []byte(body),
		ReceivedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func TestParseTokenAccepts(t *testing.T) {
	a := jsonAnswer(200, `{"access_token":"at","token_type":"Bearer","expires_in":3600,"refresh_token":"rt",
		"scope":"a b","id_token":"x.y.z","refresh_token_expires_in":7200,
		"instance_url":"https://acme.example","n":12345678901234567890,"deep":{"id":"T1"},"evil":"a\u001b[31m\nb","unknown":[1]}`)
	got, err := ParseToken(a, Rules{Keep: []string{"instance_url", "n", "deep.id", "evil", "missing", "deep", "access_token", "refresh_token"}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Access.Reveal() != "at" || got.Refresh.Reveal() != "rt" || got.IDToken.Reveal() != "x.y.z" || got.Type != "Bearer" {
		t.Error("a credential or the type is not what the response has")
	}
	if got.ExpiresIn != time.Hour || !got.ExpiresKnown || got.RefreshExpiresIn != 2*time.Hour {
		t.Errorf("lifetimes %v %v %v", got.ExpiresIn, got.ExpiresKnown, got.RefreshExpiresIn)
	}
	if !slices.Equal(got.Scopes, []string{"a", "b"}) || !got.ScopesKnown {
		t.Errorf("scopes %q", got.Scopes)
	}
	want := map[string]string{"instance_url": "https://acme.example", "n": "12345678901234567890", "deep.id": "T1", "evil": "a b"}
	if !maps.Equal(got.Kept, want) {
		t.Errorf("kept %q, want %q", got.Kept, want)
	}
}

// The cases of R-07: what is not a token response never yields a token.
func TestParseTokenRefuses(t *testing.T) {
	long := strings.Repeat("x", 64<<10+1)
	type testCase struct {
		name        string
		status      int
		contentType string
		body        string
		rules       Rules
	}
	var tests []testCase
	js := func(name, body string) {
		tests = append(tests, testCase{name, 200, "application/json", body, Rules{}})
	}
	js("empty body", ``)
	js("array", `[{"access_token":"at","token_type":"bearer"}]`)
	js("string", `"at"`)
	js("null", `null`)
	js("truncated", `{"access_token":"`+canary+`","token_type":"bear`)
	js("two objects", `{"access_token":"at","token_type":"bearer"}{}`)
	js("no access token", `{"token_type":"bearer"}`)
	js("empty access token", `{"access_token":"","token_type":"bearer"}`)
	js("null access token", `{"access_token":null,"token_type":"bearer"}`)
	js("number", `{"access_token":123,"token_type":"bearer"}`)
	js("object as token", `{"access_token":{"a":"`+canary+`"},"token_type":"bearer"}`)
	js("newline", `{"access_token":"`+canary+`\nx","token_type":"bearer"}`)
	js("escape", `{"access_token":"`+canary+`\u001b","token_type":"bearer"}`)
	js("blank", `{"access_token":"`+canary+` x","token_type":"bearer"}`)
	js("quote", `{"access_token":"`+canary+`\"x","token_type":"bearer"}`)
	js("backslash", `{"access_token":"`+canary+`\\x","token_type":"bearer"}`)
	js("not ASCII", `{"access_token":"`+canary+`ä","token_type":"bearer"}`)
	js("too long", `{"access_token":"`+long+`","token_type":"bearer"}`)
	js("no type", `{"access_token":"at"}`)
	js("empty type", `{"access_token":"at","token_type":""}`)
	js("mac", `{"access_token":"at","token_type":"mac"}`)
	js("DPoP", `{"access_token":"at","token_type":"DPoP"}`)
	js("type is a number", `{"access_token":"at","token_type":1}`)
	js("access token twice", `{"access_token":"at","access_token":"`+canary+`","token_type":"bearer"}`)
	js("refresh token twice", `{"access_token":"at","token_type":"bearer","refresh_token":"a","refresh_token":"b"}`)
	js("other case", `{"Access_Token":"at","token_type":"bearer"}`)
	js("refresh token is a number", `{"access_token":"at","token_type":"bearer","refresh_token":1}`)
	js("refresh token with newline", `{"access_token":"at","token_type":"bearer","refresh_token":"`+canary+`\n"}`)
	js("refresh token too long", `{"access_token":"at","token_type":"bearer","refresh_token":"`+long+`"}`)
	js("error object", `{"access_token":"at","token_type":"bearer","error":{"message":"`+canary+`"}}`)
	js("error twice", `{"access_token":"at","token_type":"bearer","error":"","error":"x"}`)
	js("deep", `{"access_token":"at","token_type":"bearer","x":`+strings.Repeat("[", 300_000)+strings.Repeat("]", 300_000)+`}`)
	js("not UTF-8 in the token", "{\"access_token\":\"a\xff\",\"token_type\":\"bearer\"}")
	good := `{"access_token":"` + canary + `","token_type":"bearer"}`
	tests = append(tests,
		testCase{"HTML", 200, "text/html; charset=utf-8", "<html>" + canary, Rules{}},
		testCase{"JSON as HTML", 200, "text/html", good, Rules{}},
		testCase{"JSON as text/plain", 200, "text/plain", good, Rules{}},
		testCase{"image", 200, "image/png", good, Rules{}},
		testCase{"form as JSON", 200, "application/json", "access_token=" + canary + "&token_type=bearer", Rules{}},
		testCase{"JSON as form", 200, "application/x-www-form-urlencoded", good, Rules{}},
		testCase{"form with the token twice", 200, "application/x-www-form-urlencoded", "access_token=a&access_token=b&token_type=bearer", Rules{}},
		testCase{"status 404", 404, "application/json", good, Rules{}},
		testCase{"status 302", 302, "application/json", good, Rules{}},
		testCase{"status 100", 100, "application/json", good, Rules{}},
		testCase{"other name than the rule's", 200, "application/json", `{"access_token":"at","token_type":"mac"}`, Rules{Type: "user"}},
		testCase{"absent allowed, mac sent", 200, "application/json", `{"access_token":"at","token_type":"mac"}`, Rules{Type: "absent"}},
	)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseToken(Answer{Status: tt.status, ContentType: tt.contentType, Body: []byte(tt.body)}, tt.rules)
			if !errors.Is(err, ErrUnusable) {
				t.Fatalf("error %v, want ErrUnusable", err)
			}
			if !IsTemporary(err) || ErrorCode(err) != "" {
				t.Errorf("%v: temporary %v, code %q", err, IsTemporary(err), ErrorCode(err))
			}
			if !got.Access.IsZero() || !got.Refresh.IsZero() {
				t.Error("a token came with the error")
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("the error shows a credential")
			}
			checkCleaned(t, "", err.Error())
		})
	}
}

func TestParseTokenDeviations(t *testing.T) {
	for _, tt := range []struct {
		name, contentType, body string
		rules                   Rules
		access                  string
	}{
		{"Salesforce characters", "application/json", `{"access_token":"00D!AQ.x|y~","token_type":"Bearer"}`, Rules{}, "00D!AQ.x|y~"},
		{"one byte", "application/json", `{"access_token":"!","token_type":"bearer"}`, Rules{}, "!"},
		{"64 KiB", "application/json", `{"access_token":"` + strings.Repeat("x", 64<<10) + `","token_type":"bearer"}`, Rules{}, strings.Repeat("x", 64<<10)},
		{"capitals", "application/json", `{"access_token":"at","token_type":"BEARER"}`, Rules{}, "at"},
		{"no content type", "", `{"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"+json", "application/token+json", `{"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"broken parameter", "application/json; charset", `{"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"byte order mark", "application/json", "\ufeff" + `{"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"form", "application/x-www-form-urlencoded; charset=utf-8", "access_token=a%7Et&token_type=bearer&scope=repo%2Cgist", Rules{}, "a~t"},
		{"type absent, allowed", "application/json", `{"access_token":"at"}`, Rules{Type: "absent"}, "at"},
		{"type allowed to be absent is bearer", "application/json", `{"access_token":"at","token_type":"bearer"}`, Rules{Type: "absent"}, "at"},
		{"named type", "application/json", `{"access_token":"at","token_type":"User"}`, Rules{Type: "user"}, "at"},
		{"named type, bearer sent", "application/json", `{"access_token":"at","token_type":"bearer"}`, Rules{Type: "user"}, "at"},
		{"error null and empty", "application/json", `{"error":null,"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"id_token is no string", "application/json", `{"id_token":{},"access_token":"at","token_type":"bearer"}`, Rules{}, "at"},
		{"32 levels", "application/json", `{"access_token":"at","token_type":"bearer","x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`, Rules{}, "at"},
		{"brackets in a string", "application/json", `{"access_token":"at","token_type":"bearer","x":"\"` + strings.Repeat("[", 99) + `"}`, Rules{}, "at"},
	} {
		got, err := ParseToken(Answer{Status: 200, ContentType: tt.contentType, Body: []byte(tt.body)}, tt.rules)
		if err != nil || got.Access.Reveal() != tt.access {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// whatever expires_in is, the new refresh token is not lost.
func TestParseTokenExpiresIn(t *testing.T) {
	for _, tt := range []struct {
		raw   string
		want  time.Duration
		known bool
	}{
		{`3600`, time.Hour, true},
		{`"3600"`, time.Hour, true},
		{`" 3600 "`, time.Hour, true},
		{`3600.0`, time.Hour, true},
		{`3.6e3`, time.Hour, true},
		{`0.5`, 500 * time.Millisecond, true},
		{`0`, 0, true},
		{`-1`, 0, true},
		{`-1e400`, 0, true},
		{`31536001`, year, true},
		{`10000000000`, year, true}, // more nanoseconds than an int64 holds
		{`9223372036854775807`, year, true},
		{`1e400`, year, true},
		{`"99999999999999999999999999"`, year, true},
		{``, 0, false},
		{`null`, 0, false},
		{`"never"`, 0, false},
		{`"Infinity"`, 0, false},
		{`"NaN"`, 0, false},
		{`"0x10"`, 0, false},
		{`""`, 0, false},
		{`true`, 0, false},
		{`{"a":1}`, 0, false},
		{`[3600]`, 0, false},
		{`3600,"expires_in":7200`, 0, false},
	} {
		body := `{"access_token":"at","token_type":"bearer","refresh_token":"new"`
		if tt.raw != "" {
			body += `,"expires_in":` + tt.raw
		}
		got, err := ParseToken(jsonAnswer(200, body+"}"), Rules{})
		if err != nil {
			t.Errorf("expires_in %s: %v", tt.raw, err)
			continue
		}
		if got.Refresh.Reveal() != "new" {
			t.Errorf("expires_in %s: the refresh token is lost", tt.raw)
		}
		if got.ExpiresIn != tt.want || got.ExpiresKnown != tt.known {
			t.Errorf("expires_in %s: %v %v, want %v %v", tt.raw, got.ExpiresIn, got.ExpiresKnown, tt.want, tt.known)
		}
	}
}

// absent, null and empty are no refresh token.
func TestParseTokenNoRefreshToken(t *testing.T) {
	for _, member := range []string{``, `,"refresh_token":null`, `,"refresh_token":""`} {
		got, err := ParseToken(jsonAnswer(200, `{"access_token":"at","token_type":"bearer"`+member+`}`), Rules{})
		if err != nil || !got.Refresh.IsZero() {
			t.Errorf("%s: %v", member, err)
		}
	}
}

func TestParseTokenScopes(t *testing.T) {
	for _, tt := range []struct {
		raw, separator string
		want           []string
		known          bool
	}{
		{`"a b"`, "", []string{"a", "b"}, true},
		{`"repo,gist"`, "", []string{"repo", "gist"}, true},
		{`"repo, gist"`, "", []string{"repo", "gist"}, true},
		{`"repo"`, "", []string{"repo"}, true},
		{`"a,b c"`, " ", []string{"a,b", "c"}, true},
		{`"a,b"`, ",", []string{"a", "b"}, true},
		{`"a, b"`, ",", []string{"a", "b"}, true},
		{`["a","b"]`, "", []string{"a", "b"}, true},
		{`" a  b a "`, "", []string{"a", "b"}, true},
		{`"good b\u001bad ug\"ly"`, "", []string{"good"}, true},
		{`""`, "", nil, true},
		{`[]`, "", nil, true},
		{`null`, "", nil, false},
		{`7`, "", nil, false},
		{`{}`, "", nil, false},
		{`["a",1]`, "", nil, false},
		{`"a","scope":"b"`, "", nil, false},
	} {
		got, err := ParseToken(jsonAnswer(200, `{"access_token":"at","token_type":"bearer","scope":`+tt.raw+`}`), Rules{ScopeSeparator: tt.separator})
		if err != nil || !slices.Equal(got.Scopes, tt.want) || got.ScopesKnown != tt.known {
			t.Errorf("scope %s by %q: %q %v, %v", tt.raw, tt.separator, got.Scopes, got.ScopesKnown, err)
		}
	}
}

func TestParseTokenErrors(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name      string
		answer    Answer
		want      error
		temporary bool
	}{
		{"invalid_grant", jsonAnswer(400, `{"error":"invalid_grant","error_description":"expired"}`),
			&Error{Status: 400, Code: "invalid_grant", Description: "expired"}, false},
		{"with status 200", jsonAnswer(200, `{"error":"bad_verification_code","error_description":"The code","error_uri":"https://docs.example/x"}`),
			&Error{Status: 200, Code: "bad_verification_code", Description: "The code", URI: "https://docs.example/x"}, false},
		{"with status 200 beside a token", jsonAnswer(200, `{"error":"x","access_token":"at","token_type":"bearer"}`),
			&Error{Status: 200, Code: "x"}, false},
		{"form", Answer{Status: 200, ContentType: "application/x-www-form-urlencoded", Body: []byte("error=incorrect_client_credentials&error_description=a+b")},
			&Error{Status: 200, Code: "incorrect_client_credentials", Description: "a b"}, false},
		{"text/plain", Answer{Status: 401, ContentType: "text/plain", Body: []byte(`{"error":"invalid_client"}`)},
			&Error{Status: 401, Code: "invalid_client"}, false},
		{"slow_down with interval", jsonAnswer(200, `{"error":"slow_down","interval":10}`),
			&Error{Status: 200, Code: "slow_down", Interval: 10 * time.Second}, true},
		{"slow_down with hostile interval", jsonAnswer(400, `{"error":"slow_down","interval":-1}`),
			&Error{Status: 400, Code: "slow_down", Interval: time.Second}, true},
		{"authorization_pending", jsonAnswer(400, `{"error":"authorization_pending"}`),
			&Error{Status: 400, Code: "authorization_pending"}, true},
		{"temporarily_unavailable", jsonAnswer(503, `{"error":"temporarily_unavailable"}`),
			&Error{Status: 503, Code: "temporarily_unavailable"}, true},
		{"a failing issuer condemns nothing", jsonAnswer(500, `{"error":"invalid_grant"}`), &StatusError{Status: 500}, true},
		{"a busy issuer condemns nothing", jsonAnswer(429, `{"error":"invalid_grant"}`), &StatusError{Status: 429}, true},
		{"hostile texts", jsonAnswer(400, `{"error":"::error::\u001b[31mx\r\n","error_description":"a\n::add-mask::b\u202e","error_uri":"javascript:x"}`),
			&Error{Status: 400, Code: ": :error::x", Description: "a ::add-mask::b"}, false},
		{"503 HTML", Answer{Status: 503, ContentType: "text/html", Body: []byte("<h1>")}, &StatusError{Status: 503}, true},
		{"429 seconds", Answer{Status: 429, RetryAfter: "2"}, &StatusError{Status: 429, RetryAfter: 2 * time.Second}, true},
		{"429 insane", Answer{Status: 429, RetryAfter: "999999999999"}, &StatusError{Status: 429, RetryAfter: year}, true},
		{"429 negative", Answer{Status: 429, RetryAfter: "-5"}, &StatusError{Status: 429}, true},
		{"429 garbage", Answer{Status: 429, RetryAfter: "soon"}, &StatusError{Status: 429}, true},
		{"429 date by the issuer's clock", Answer{Status: 429, RetryAfter: "Fri, 02 Jan 2026 03:04:15 GMT", Date: date, ReceivedAt: date.Add(-time.Hour)},
			&StatusError{Status: 429, RetryAfter: 10 * time.Second}, true},
		{"429 date by our clock", Answer{Status: 429, RetryAfter: "Fri, 02 Jan 2026 03:04:15 GMT", ReceivedAt: date}, &StatusError{Status: 429, RetryAfter: 10 * time.Second}, true},
		{"429 date in the past", Answer{Status: 429, RetryAfter: "Fri, 02 Jan 2025 03:04:15 GMT", Date: date}, &StatusError{Status: 429}, true},
		{"429 date far ahead", Answer{Status: 429, RetryAfter: "Fri, 02 Jan 2099 03:04:15 GMT", Date: date}, &StatusError{Status: 429, RetryAfter: year}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseToken(tt.answer, Rules{})
			got, _ := json.Marshal(err)
			want, _ := json.Marshal(tt.want)
			if string(got) != string(want) || fmt.Sprintf("%T", err) != fmt.Sprintf("%T", tt.want) {
				t.Errorf("got %T %s, want %T %s", err, got, tt.want, want)
			}
			if IsTemporary(err) != tt.temporary {
				t.Errorf("temporary: %v", !tt.temporary)
			}
		})
	}
	if IsTemporary(nil) || IsTemporary(errors.New("x")) || ErrorCode(nil) != "" {
		t.Error("no error, or one of another kind, is not temporary")
	}
}

// An issuer that repeats our credentials in its error does not get them onto
// the terminal.
func TestParseTokenScrubsEchoes(t *testing.T) {
	a := jsonAnswer(400, `{"error":"invalid_grant","error_description":"token `+canary+` or a%2Fb%2Bc is not known","error_uri":"https://x.example/`+canary+`"}`)
	a.sent = []secret.Text{secret.New(canary), secret.New("a/b+c"), {}}
	_, err := ParseToken(a, Rules{})
	if e, ok := errors.AsType[*Error](err); !ok || strings.Contains(fmt.Sprintf("%+v", *e), canary) || strings.Contains(e.Description, "a%2Fb") {
		t.Errorf("the error shows a credential that was sent")
	}
	if ErrorCode(err) != "invalid_grant" {
		t.Error("the code is lost")
	}
}

func TestAnswerDoesNotPrint(t *testing.T) {
	a := jsonAnswer(200, canary)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, v := range []any{a, &a, struct{ A Answer }{a}, []Answer{a}} {
			s := fmt.Sprintf(verb, v)
			if strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) || strings.Contains(s, "99 52 110") {
				t.Errorf("%s of %T prints the body", verb, v)
			}
		}
	}
	if strings.Contains(a.LogValue().String(), canary) {
		t.Error("the log prints the body")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(200, "application/json", []byte(`{"access_token":"at","token_type":"bearer","expires_in":1,"refresh_token":"rt","scope":"a b","k":"v"}`), "")
	f.Add(200, "application/x-www-form-urlencoded", []byte(`access_token=at&token_type=bearer`), "bearer")
	f.Add(400, "", []byte(`{"error":"invalid_grant","error_description":"x","interval":5}`), "absent")
	f.Add(503, "text/html", []byte(`<html>`), "user")
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte, kind string) {
		got, err := ParseToken(Answer{Status: status, ContentType: contentType, Body: body, RetryAfter: contentType}, Rules{Type: kind, Keep: []string{"k", "a.b", "a.0.c"}})
		if err != nil {
			if !got.Access.IsZero() || !got.Refresh.IsZero() {
				t.Error("a credential came with an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if strings.HasPrefix(line, "::") || strings.ContainsAny(line, "\x1b\r\x00") {
					t.Errorf("the error is not clean: %q", err)
				}
			}
			return
		}
		if status < 200 || status > 299 || !isAccessToken(got.Access.Reveal()) || !headerValue(got.Refresh.Reveal()) {
			t.Error("a token that must be refused")
		}
		if got.ExpiresIn < 0 || got.ExpiresIn > year || !got.ExpiresKnown && got.ExpiresIn != 0 || got.RefreshExpiresIn < 0 {
			t.Errorf("lifetimes %v %v", got.ExpiresIn, got.RefreshExpiresIn)
		}
		for _, s := range got.Scopes {
			if !isAccessToken(s) {
				t.Errorf("scope %q", s)
			}
		}
		for _, v := range got.Kept {
			if v != cleanLine(v) || strings.ContainsAny(v, "\r\n\x00\x1b") {
				t.Errorf("kept %q", v)
			}
		}
	})
}

// A login that ends on a missing or unknown type says what can be done.
func TestTypeThatIsNotThere(t *testing.T) {
	for body, want := range map[string]string{
		`{"access_token":"a"}`:                    "token: {type: absent}",
		`{"access_token":"a","token_type":"mac"}`: "token: {type: NAME}",
	} {
		_, err := ParseToken(Answer{Status: 200, ContentType: "application/json", Body: []byte(body)}, Rules{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}
