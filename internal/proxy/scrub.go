package proxy

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/secret"
)

// smallBody is the size in bytes up to which an answer of known length is read
// as a whole, so that its length is known again after the scrubbing.
const smallBody = 32 << 10

// echo is a token and what is shown in its place. Without a stand-in that is a
// filler as long as what was found.
type echo struct{ token, instead secret.Text }

// scrubber replaces tokens that an API sends back, in all the forms that formsOf
// knows. Its methods may be called at the same time.
type scrubber struct {
	m       *matcher
	instead [][]byte // by owner
	inPlace bool     // no token has a stand-in, so that no length changes
}

// newScrubber returns nil when there is nothing to scrub: no token, or none that
// has eight bytes.
func newScrubber(echoes ...echo) *scrubber {
	s := &scrubber{inPlace: true}
	var tokens []string
	for _, e := range echoes {
		tokens = append(tokens, e.token.Reveal())
		s.instead = append(s.instead, []byte(e.instead.Reveal()))
		s.inPlace = s.inPlace && e.instead.IsZero()
	}
	if s.m = newMatcher(tokens); s.m == nil {
		return nil
	}
	return s
}

// hit returns the stand-in of a match. Inside of base64 that is a filler of the
// same length.
func (s *scrubber) hit(p *pattern) []byte {
	if p.opaque || len(s.instead[p.owner]) == 0 {
		return filler(p)
	}
	return s.instead[p.owner]
}

// hitInPlace is hit where a text must keep its length.
func (s *scrubber) hitInPlace(p *pattern) []byte {
	if instead := s.hit(p); len(instead) == len(p.text) {
		return instead
	}
	return filler(p)
}

func filler(p *pattern) []byte { return bytes.Repeat([]byte("x"), len(p.text)) }

// header scrubs the values of h. A header whose name holds a token is dropped.
func (s *scrubber) header(h http.Header) {
	var onStack [2048]byte
	all := onStack[:0]
	for name, values := range h {
		all = append(append(all, name...), '\n')
		for _, v := range values {
			all = append(append(all, v...), '\n')
		}
	}
	if s.m.contains(all) == nil {
		return
	}
	for name, values := range h {
		if s.m.contains([]byte(name)) != nil {
			delete(h, name)
			continue
		}
		for i, v := range values {
			if b := []byte(v); s.m.contains(b) != nil {
				values[i] = string(s.m.replace(b, s.hit))
			}
		}
	}
}

// reader scrubs what r gives.
func (s *scrubber) reader(r io.Reader) io.Reader {
	return &stream{src: r, m: s.m, hit: func(p *pattern) ([]byte, error) { return s.hit(p), nil }}
}

// frames scrubs a stream whose length must stay, such as that of a WebSocket with
// its frames: every replacement is as long as what it replaces. A token that is
// cut by a frame's end is not seen.
func (s *scrubber) frames(r io.Reader) io.Reader {
	return &stream{src: r, m: s.m, hit: func(p *pattern) ([]byte, error) { return s.hitInPlace(p), nil }}
}

// CodingError says that an answer is compressed in a way that cannot be searched
// for tokens.
type CodingError struct{ Coding string }

// Error names the coding.
func (e *CodingError) Error() string {
	return fmt.Sprintf("the API answered compressed (%s), although it was asked not to", strconv.QuoteToASCII(e.Coding[:min(len(e.Coding), 40)]))
}

// response scrubs headers, body and trailers of resp. Of an answer in gzip or
// deflate it leaves the text behind, of unknown length; another coding is a
// *CodingError. A longer answer of known length keeps it: a stand-in of another
// length than the token is a filler there. One of at most 32 KiB is read here.
func (s *scrubber) response(resp *http.Response) error {
	s.header(resp.Header)
	if resp.Body == nil || resp.Body == http.NoBody || !hasBody(resp) {
		return nil
	}
	var text io.Reader = resp.Body
	coding := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header["Content-Encoding"], ",")))
	switch coding {
	case "", "identity":
	case "gzip", "x-gzip", "deflate":
		if resp.StatusCode == http.StatusPartialContent {
			return &CodingError{"a part of " + coding}
		}
		text = &inflater{src: resp.Body, gzip: coding != "deflate"}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
	default:
		return &CodingError{coding}
	}
	body := &scrubbedBody{s: s, resp: resp, raw: resp.Body}
	resp.Body = body
	switch {
	case resp.ContentLength < 0:
		body.text = s.reader(text)
		return nil
	case resp.ContentLength > smallBody || s.inPlace:
		body.text = s.frames(text)
		return nil
	}
	whole, err := readWhole(body.raw, resp.ContentLength)
	if err != nil {
		return err
	}
	if s.m.contains(whole) != nil {
		whole = s.m.replace(whole, s.hit)
		resp.ContentLength = int64(len(whole))
		resp.Header["Content-Length"] = []string{strconv.Itoa(len(whole))}
	}
	s.header(resp.Trailer)
	resp.Body = io.NopCloser(bytes.NewReader(whole))
	return nil
}

// readWhole reads a body of known length to its end, where its trailers are
// known, and closes it.
func readWhole(body io.ReadCloser, length int64) ([]byte, error) {
	defer func() { _ = body.Close() }()
	whole := make([]byte, length+1)
	for n := 0; ; {
		got, err := body.Read(whole[n:])
		n += got
		switch {
		case err == io.EOF && int64(n) == length:
			return whole[:n], nil
		case err == io.EOF || int64(n) > length:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}

// hasBody reports whether an answer may have one (RFC 9110 section 6.4.1).
func hasBody(resp *http.Response) bool {
	switch {
	case resp.Request != nil && resp.Request.Method == http.MethodHead:
		return false
	case resp.StatusCode < 200, resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusNotModified:
		return false
	}
	return true
}

// scrubbedBody is the body of an answer. Trailers are known at its end, and are
// scrubbed there.
type scrubbedBody struct {
	s    *scrubber
	resp *http.Response
	text io.Reader
	raw  io.ReadCloser
}

func (b *scrubbedBody) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err != nil {
		b.s.header(b.resp.Trailer)
	}
	return n, err
}

func (b *scrubbedBody) Close() error { return b.raw.Close() }

// inflater decompresses. It begins at the first read, since that waits for the
// first bytes.
type inflater struct {
	src  io.Reader
	gzip bool
	out  io.Reader
}

func (f *inflater) Read(p []byte) (int, error) {
	if f.out == nil {
		if err := f.begin(); err != nil {
			return 0, err
		}
	}
	return f.out.Read(p)
}

func (f *inflater) begin() error {
	in := bufio.NewReader(f.src)
	if f.gzip {
		out, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("decompress the answer: %w", err)
		}
		f.out = out
		return nil
	}
	// RFC 9110 section 8.4.1.2 means zlib, and names the servers that send the
	// bare stream.
	head, err := in.Peek(2)
	if err == nil && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		out, err := zlib.NewReader(in)
		if err != nil {
			return fmt.Errorf("decompress the answer: %w", err)
		}
		f.out = out
		return nil
	}
	f.out = flate.NewReader(in)
	return nil
}
