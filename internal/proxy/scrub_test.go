package proxy

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/apiauth/apiauth/internal/secret"
)

// Made for the tests: a token with characters that encoders escape.
const (
	testToken       = "ya29.Kq/7+Zr~9-w_PL0x=eYb&Vt"
	testPlaceholder = "ph29.AAAABBBBCCCCDDDDEEEEFFFF"
)

func testScrubber() *scrubber {
	return newScrubber(echo{secret.New(testToken), secret.New(testPlaceholder)})
}

// writings are the ways in which a text may come back.
func writings(s string) map[string]string {
	js, _ := json.Marshal("Bearer " + s)
	list := map[string]string{
		"raw":          s,
		"query":        url.QueryEscape(s),
		"path":         url.PathEscape(s),
		"lower hex":    lowerHex(url.QueryEscape(s), '%', 2),
		"all escaped":  escapeAll(s),
		"json":         string(js),
		"json slashes": strings.ReplaceAll(s, "/", `\/`),
		"json unicode": upperHex(strings.ReplaceAll(string(js), "+", `\u002b`), `\u`, 4),
	}
	for _, before := range []string{"", "a", "ab", "user:"} {
		list["base64 "+before] = base64.StdEncoding.EncodeToString([]byte(before + s + "!!"))
		list["base64url "+before] = base64.RawURLEncoding.EncodeToString([]byte(before + s))
	}
	return list
}

func TestScrubberKnowsTheForms(t *testing.T) {
	s := testScrubber()
	for name, text := range writings(testToken) {
		in := "before " + text + " and " + text + text + " after"
		for _, chunk := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		} {
			out, err := io.ReadAll(s.reader(chunk(strings.NewReader(in))))
			if err != nil {
				t.Fatal(err)
			}
			if s.m.contains(out) != nil {
				t.Errorf("%s: a form of the token is left", name)
			}
			if !bytes.HasPrefix(out, []byte("before ")) || !bytes.HasSuffix(out, []byte(" after")) {
				t.Errorf("%s: the text around it changed", name)
			}
			if !strings.HasPrefix(name, "base64") && bytes.Count(out, []byte(testPlaceholder)) != 3 {
				t.Errorf("%s: the placeholder stands %d times in its place", name, bytes.Count(out, []byte(testPlaceholder)))
			}
		}
	}
	if newScrubber(echo{secret.New("short"), secret.New(testPlaceholder)}) != nil {
		t.Error("a token of five bytes would be found everywhere")
	}
}

// What cannot be the beginning of a token is there at once.
func TestScrubberHoldsBackNoMoreThanItMust(t *testing.T) {
	s := testScrubber()
	r, w := io.Pipe()
	out := s.reader(r)
	go func() {
		for _, part := range []string{"data: one\n\n", "data: ya29.Kq/", "7+Z no\n\n"} {
			_, _ = io.WriteString(w, part)
		}
		_ = w.Close()
	}()
	buf := make([]byte, 4096)
	for _, want := range []string{"data: one\n\n", "data: ", "ya29.Kq/7+Z no\n\n"} {
		n, err := out.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("read %q, %v, want %q", buf[:n], err, want)
		}
	}
}

func TestScrubberAnswers(t *testing.T) {
	plain := "the token is " + testToken + "."
	clean := "the token is " + testPlaceholder + "."
	pack := func(write func(io.Writer) io.WriteCloser) string {
		var b bytes.Buffer
		w := write(&b)
		_, _ = io.WriteString(w, plain)
		_ = w.Close()
		return b.String()
	}
	gz := pack(func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	bare := pack(func(w io.Writer) io.WriteCloser { f, _ := flate.NewWriter(w, 6); return f })
	zl := pack(func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	for _, tt := range []struct {
		name, coding, body, want string
		status                   int
		known                    bool
	}{
		{"plain", "", plain, clean, 200, true},
		{"plain, length unknown", "identity", plain, clean, 200, false},
		{"gzip", "gzip", gz, clean, 200, true},
		{"x-gzip", "X-GZIP", gz, clean, 200, false},
		{"zlib", "deflate", zl, clean, 200, true},
		{"bare deflate", "deflate", bare, clean, 200, true},
		{"part", "", plain[4:], clean[4:], 206, true},
	} {
		resp := &http.Response{StatusCode: tt.status, Header: http.Header{"X-Echo": {"a" + testToken}}, Body: io.NopCloser(strings.NewReader(tt.body)), ContentLength: -1}
		resp.Trailer = http.Header{"X-End": {testToken}}
		if tt.known {
			resp.ContentLength = int64(len(tt.body))
		}
		if tt.coding != "" {
			resp.Header.Set("Content-Encoding", tt.coding)
		}
		if err := testScrubber().response(resp); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: the body is not what it should be (%d bytes, %v)", tt.name, len(got), err)
		}
		if resp.ContentLength >= 0 && resp.ContentLength != int64(len(got)) {
			t.Errorf("%s: the length says %d, the body has %d", tt.name, resp.ContentLength, len(got))
		}
		if resp.Header.Get("X-Echo") != "a"+testPlaceholder {
			t.Errorf("%s: the header still holds the token", tt.name)
		}
		if resp.Trailer.Get("X-End") != testPlaceholder && resp.ContentLength < 0 {
			t.Errorf("%s: the trailer still holds the token", tt.name)
		}
	}
	for _, coding := range []string{"br", "zstd", "gzip, gzip"} {
		resp := &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {coding}}, Body: io.NopCloser(strings.NewReader("x"))}
		if err := testScrubber().response(resp); err == nil {
			t.Errorf("an answer in %s passed unread", coding)
		}
	}
}

// FuzzScrubber: whatever comes in and however it is cut, no form of the token
// comes out, and a text without one is not changed.
func FuzzScrubber(f *testing.F) {
	for _, text := range writings(testToken) {
		f.Add([]byte("x"+text+"y"), uint8(3))
		f.Add([]byte(text[:len(text)/2]+text), uint8(0))
	}
	// The stand-in shares no character with a form, so that no new one arises
	// at its edges.
	s := newScrubber(echo{secret.New(testToken), secret.New("(((((((((((((((((")})
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		whole := s.m.replace(bytes.Clone(data), s.hit)
		for _, p := range s.m.patterns {
			if !p.opaque && bytes.Contains(whole, p.text) {
				t.Fatal("a form of the token came out")
			}
			if bytes.Contains(data, p.text) && bytes.Equal(whole, data) {
				t.Fatal("a form of the token was not seen")
			}
		}
		if s.m.contains(data) == nil && !bytes.Equal(whole, data) {
			t.Fatal("a text without the token changed")
		}
		got, err := io.ReadAll(s.reader(&chunks{data: bytes.Clone(data), size: int(size) + 1}))
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("in pieces of %d the result differs", int(size)+1)
		}
	})
}

// chunks gives its data in pieces of at most size.
type chunks struct {
	data []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.data[:min(c.size, len(c.data))])
	c.data = c.data[n:]
	return n, nil
}

func BenchmarkScrubber(b *testing.B) {
	text := bytes.Repeat([]byte(`{"name":"a thing","url":"https://api.example.com/things/17?per_page=100","size":12345},`), 1<<12)
	s := testScrubber()
	b.SetBytes(int64(len(text)))
	buf := make([]byte, 32<<10)
	for b.Loop() {
		r := s.reader(bytes.NewReader(text))
		for {
			if _, err := r.Read(buf); err != nil {
				break
			}
		}
	}
}
