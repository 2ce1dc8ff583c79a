package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apiauth/apiauth/internal/secret"
)

// canary has everything that an encoder may want to change.
const canary = `gho_Q7/x+Zk9"T\Lw&3=mN'bV<5>c8R~yP2dF`

// plainCanary is like most tokens: nothing in it is ever quoted.
const plainCanary = "ya29.A0ARrdaM8_vQx71LmZpR4tYk2sWcJnB6hGfDe3uXoI9"

func set(values ...string) *Set {
	var list []Secret
	for _, v := range values {
		list = append(list, Secret{Connection: "c", Kind: "access token", Value: secret.New(v)})
	}
	return NewSet(list)
}

// masked is what a Masker makes of pieces.
func masked(t *testing.T, s *Set, pieces ...string) string {
	t.Helper()
	var out bytes.Buffer
	m := s.NewMasker(&out)
	for _, p := range pieces {
		if n, err := m.Write([]byte(p)); err != nil || n != len(p) {
			t.Fatal(n, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// nasty lists outputs that hold v, and how each looks masked; without a want,
// only the core of v is looked for.
func nasty(v string) map[string]string {
	b64, b64u := base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString
	js := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	perByte := func(format string) string {
		var b strings.Builder
		for i := range len(v) {
			fmt.Fprintf(&b, format, v[i])
		}
		return b.String()
	}
	wrapped := func(s string, at int, end string) string {
		var b strings.Builder
		for len(s) > at {
			b.WriteString(s[:at] + end)
			s = s[at:]
		}
		return b.String() + s
	}
	wide := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			b.WriteByte(s[i])
			b.WriteByte(0)
		}
		return b.String()
	}
	cases := map[string]string{
		"alone":                   v,
		"in a line":               "token: " + v + "\n",
		"in a header":             "Authorization: Bearer " + v + "\r\n",
		"twice, touching":         v + v,
		"after its own beginning": v[:9] + v,
		"in JSON":                 js(map[string]string{"t": v}),
		"in JSON in JSON":         js(js(v))[1:],
		"in JSON, PHP":            strings.ReplaceAll(js(v), "/", `\/`),
		"in JSON, all escaped":    perByte(`\u%04x`),
		"in JSON, capitals":       perByte(`\u%04X`),
		"in JavaScript":           perByte(`\x%02x`),
		"query":                   "?access_token=" + url.QueryEscape(v) + "&x=1",
		"query, small":            lowerEscapes(url.QueryEscape(v)),
		"path":                    "/t/" + url.PathEscape(v) + "/x",
		"query, all escaped":      perByte("%%%02X"),
		"query, all small":        perByte("%%%02x"),
		"query in a query":        url.QueryEscape(url.QueryEscape(v)),
		"base64":                  b64([]byte(v)),
		"base64, no padding":      strings.TrimRight(b64([]byte(v)), "="),
		"base64, offset 1":        b64([]byte("u" + v)),
		"base64, offset 2":        b64([]byte("u:" + v)),
		"basic":                   "Basic " + b64([]byte("user:"+v)),
		"base64, more behind":     b64([]byte("abc" + v + "xyz")),
		"base64, offset 1 behind": b64([]byte("abcd" + v + "vwxyz")),
		"base64url":               b64u([]byte(v)),
		"base64url, offset 1":     b64u([]byte("u" + v)),
		"base64url, offset 2":     b64u([]byte("uv" + v + "w")),
		"base64 of the query":     b64([]byte(url.QueryEscape(v))),
		"base64 in a query":       url.QueryEscape(b64([]byte(v))),
		"base64 in JSON, PHP":     strings.ReplaceAll(b64([]byte(v)), "/", `\/`),
		"base64, wrapped":         wrapped(b64([]byte("xx"+v)), 20, "\n"),
		"base64, wrapped CRLF":    wrapped(b64([]byte(v)), 16, "\r\n"),
		"hex":                     hex.EncodeToString([]byte(v)),
		"HEX":                     strings.ToUpper(hex.EncodeToString([]byte(v))),
		"hex, wrapped":            wrapped(hex.EncodeToString([]byte(v)), 30, "\n"),
		"html":                    html.EscapeString(v),
		"shell":                   "+ curl -H '" + strings.ReplaceAll(v, "'", `'\''`) + "'",
		"utf-16":                  wide(v),
		"colour in it":            v[:6] + "\x1b[01;31m\x1b[K" + v[6:20] + "\x1b[m\x1b[K" + v[20:],
		"a colour in front":       "\x1b[32m" + v + "\x1b[0m",
		"wrapped by a terminal":   wrapped(v, 7, "\r\n"),
		"among binary":            "\x00\xff\xfe" + v + "\x00\x80",
		"after a long text":       strings.Repeat("lorem ipsum ", 9000) + v,
		"without its end":         "x " + v[:len(v)-1],
		"a progress bar":          "\r 10% " + v + "\r 20% " + v + "\x1b[K",
		"in a URL with a user":    "https://x:" + url.QueryEscape(v) + "@example.com/",
		"in a cookie":             "Set-Cookie: t=" + v + "; Path=/",
		"a dotenv line":           "TOKEN=\"" + v + "\"",
		"a Go dump":               fmt.Sprintf("%q", v),
		"a trace":                 "++ export TOKEN=" + v + "\n++ echo " + v,
		"a source map":            js(map[string][]string{"sourcesContent": {"const t=" + js(v)}}),
	}
	return cases
}

// leaks says whether text tells v: any ten characters in a row of it, in one of
// the forms that the nasty outputs have.
func leaks(text, v string) bool {
	text = strings.NewReplacer("\r", "", "\n", "", "\x1b[01;31m", "", "\x1b[K", "", "\x1b[m", "", "\x00", "").Replace(text)
	for i := 0; i+10 <= len(v); i++ {
		part := v[i : i+10]
		if strings.Contains(text, part) || strings.Contains(strings.ToLower(text), hex.EncodeToString([]byte(part))) {
			return true
		}
		for offset := range 3 {
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
				if strings.Contains(text, base64At(enc, part, offset)) {
					return true
				}
			}
		}
	}
	return false
}

func TestMaskNastyOutputs(t *testing.T) {
	for _, v := range []string{canary, plainCanary} {
		s := set(v)
		cases := nasty(v)
		if len(cases) < 50 {
			t.Errorf("%d nasty outputs", len(cases))
		}
		for name, text := range cases {
			whole := masked(t, s, text)
			if leaks(whole, v) || !strings.Contains(whole, Mask) {
				t.Errorf("%s: not masked", name)
			}
			if got := masked(t, s, strings.Split(text, "")...); got != whole {
				t.Errorf("%s: byte by byte it is masked otherwise", name)
			}
			for cut := 1; cut < min(len(text), 300) && len(text) < 5000; cut += 7 {
				if got := masked(t, s, text[:cut], text[cut:]); got != whole {
					t.Errorf("%s: cut at %d it is masked otherwise", name, cut)
				}
			}
		}
	}
}

func TestMaskExactly(t *testing.T) {
	s := set(plainCanary)
	for in, want := range map[string]string{
		"a " + plainCanary + " b\n":                                     "a *** b\n",
		plainCanary + plainCanary:                                       "******",
		plainCanary + "," + plainCanary:                                 "***,***",
		"\x1b[31m" + plainCanary[:8] + "\x1b[m" + plainCanary[8:] + "!": "\x1b[31m***\x1b[m!",
		plainCanary[:20] + "\r\n" + plainCanary[20:] + "\r\nend":        "***\r\n\r\nend",
		plainCanary[:20]:                                                "***",
		plainCanary[:7]:                                                 plainCanary[:7],
		plainCanary[:20] + "#" + plainCanary[20:]:                       plainCanary[:20] + "#" + plainCanary[20:],
	} {
		if got := masked(t, s, in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMaskLetsEverythingElsePass(t *testing.T) {
	data := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	s := set(canary, plainCanary)
	var out bytes.Buffer
	m := s.NewMasker(&out)
	if _, err := io.Copy(m, iotest.HalfReader(bytes.NewReader(data))); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil || !bytes.Equal(out.Bytes(), data) {
		t.Error("the bytes are not the same", err)
	}
}

func TestMaskDoesNotDelayAPrompt(t *testing.T) {
	var out bytes.Buffer
	m := set(plainCanary).NewMasker(&out)
	for _, prompt := range []string{"Password: ", "$ ", "\r 45% [====>   ]", "> ", "Continue? [y/N] "} {
		out.Reset()
		_, _ = m.Write([]byte(prompt))
		if out.String() != prompt || m.Holding() {
			t.Errorf("%q came as %q", prompt, out.String())
		}
	}
	// A few characters come after a moment, more of them when it is decided.
	out.Reset()
	_, _ = m.Write([]byte("say y"))
	if out.String() != "say " || !m.Holding() {
		t.Errorf("%q", out.String())
	}
	if err := m.Idle(); err != nil || out.String() != "say y" {
		t.Errorf("%q, %v", out.String(), err)
	}
	_, _ = m.Write([]byte(plainCanary[1:]))
	_, _ = m.Write([]byte("\n"))
	if out.String() != "say y***\n" {
		t.Error("the rest of the secret is not masked")
	}
	out.Reset()
	_, _ = m.Write([]byte(plainCanary[:15]))
	if err := m.Idle(); err != nil || out.Len() != 0 {
		t.Error("the greater part of a secret was written before it was decided")
	}
	_, _ = m.Write([]byte("?"))
	if out.String() != plainCanary[:15]+"?" {
		t.Error("what is no secret did not come in full")
	}
}

func TestMaskHoldsNoMoreThanItMust(t *testing.T) {
	var out bytes.Buffer
	m := set(plainCanary).NewMasker(&out)
	_, _ = m.Write([]byte(plainCanary[:10]))
	for range 100 {
		_, _ = m.Write(bytes.Repeat([]byte("\r\n"), 1000))
	}
	if len(m.held) > 4*maxGap {
		t.Errorf("%d bytes are held", len(m.held))
	}
}

func TestFindTellsPlaceAndForm(t *testing.T) {
	s := NewSet([]Secret{
		{Connection: "github", Kind: "access token", Value: secret.New(plainCanary)},
		{Connection: "box", Kind: "client secret", Value: secret.New(canary)},
		{Connection: "tiny", Kind: "access token", Value: secret.New("abc")},
	})
	filler := strings.Repeat("abc def ", 40000)
	text := filler + plainCanary + filler + base64.StdEncoding.EncodeToString([]byte("x"+canary))
	var got []Match
	f := s.NewFinder()
	for r := strings.NewReader(text); r.Len() > 0; {
		piece := make([]byte, 4093)
		n, _ := r.Read(piece)
		f.Feed(piece[:n], func(m Match) { got = append(got, m) })
	}
	want := []Match{
		{int64(len(filler)), int64(len(filler) + len(plainCanary)), Label{"github", "access token", "raw"}},
		{int64(2*len(filler)+len(plainCanary)) + 2, int64(len(text)), Label{"box", "client secret", "base64"}},
	}
	if len(got) != len(want) {
		t.Fatalf("%d places, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Start != want[i].Start || got[i].End < want[i].End-2 || got[i].Label != want[i].Label {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
}

func TestSetOfNothing(t *testing.T) {
	s := set("", "abc")
	if !s.Empty() {
		t.Error("what is too short is looked for")
	}
	if got := masked(t, s, "abc abc"); got != "abc abc" {
		t.Errorf("%q", got)
	}
	if got := masked(t, set("shorty"), "a shorty shorty!"); got != "a *** ***!" {
		t.Errorf("%q", got)
	}
}

// FuzzMask holds the automaton, its filter and its holding back against the
// plainest way to do the same.
func FuzzMask(f *testing.F) {
	f.Add([]byte("a"+plainCanary+"b"), uint16(3))
	f.Add([]byte(strings.Repeat("x", 300)+plainCanary[:30]+plainCanary+plainCanary[1:]), uint16(310))
	f.Add([]byte("["+plainCanary+"\n\n"+plainCanary[:12]+"\n"+plainCanary[12:]), uint16(20))
	s := set(plainCanary)
	f.Fuzz(func(t *testing.T, text []byte, cut uint16) {
		at := min(int(cut), len(text))
		got := masked(t, s, string(text[:at]), string(text[at:]))
		if bytes.Contains(text, []byte{0x1b}) {
			return // one in front of a secret may take its first character
		}
		if strings.Contains(got, plainCanary) {
			t.Fatal("not masked")
		}
		if got != masked(t, s, string(text)) {
			t.Fatal("masked otherwise in two pieces")
		}
		if plain := strings.ReplaceAll(string(text), plainCanary, Mask); len(text) < 40 && got != plain && !bytes.ContainsAny(text, "y89") {
			t.Fatal("changed what is no secret")
		}
	})
}

func BenchmarkMask(b *testing.B) {
	text := []byte(strings.Repeat(`{"level":"info","msg":"built in 3.4 s","path":"/srv/app/dist/assets/index-Dx81.js"}`+"\n", 800))
	m := set(canary, plainCanary, strings.Repeat("eyJhbGciOi", 80)).NewMasker(io.Discard)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, _ = m.Write(text)
	}
}
