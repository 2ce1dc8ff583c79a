package proxy

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// insert puts a token into the one place that the provider names. What stood
// there is replaced.
func insert(r *http.Request, auth providers.APIAuthPin, token secret.Text) {
	switch auth.In {
	case "query":
		var kept []string
		for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
			if name, _, _ := strings.Cut(part, "="); part != "" && !sameName(name, auth.Name) {
				kept = append(kept, part)
			}
		}
		kept = append(kept, url.QueryEscape(auth.Name)+"="+url.QueryEscape(token.Reveal()))
		r.URL.RawQuery = strings.Join(kept, "&")
	case "basic":
		r.Header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(token.Reveal()+":"))}
	default:
		r.Header[textproto.CanonicalMIMEHeaderKey(auth.Name)] = []string{auth.Prefix + token.Reveal()}
	}
}

func sameName(escaped, name string) bool {
	if escaped == name {
		return true
	}
	plain, err := url.QueryUnescape(escaped)
	return err == nil && plain == name
}

// slot is where a placeholder stands in a request, in the place where its token
// belongs.
type slot struct {
	header        string // canonical name; empty for the query
	basic         bool   // before and after are inside of base64
	before, after string
}

// findSlot looks for a placeholder in the place that auth names: as the whole
// parameter of the query; as the value of the header, behind the prefix or an
// authentication scheme; as the user name or the password of Basic
// authentication where the header is Authorization. It reports false when it
// stands there not exactly once.
func findSlot(r *http.Request, auth providers.APIAuthPin, placeholder string) (slot, bool) {
	if auth.In == "query" {
		return findInQuery(r.URL.RawQuery, auth.Name, placeholder)
	}
	name := "Authorization"
	if auth.In != "basic" {
		name = textproto.CanonicalMIMEHeaderKey(auth.Name)
	}
	values := r.Header[name]
	if len(values) != 1 {
		return slot{}, false
	}
	value := values[0]
	if scheme, code, ok := strings.Cut(value, " "); ok && name == "Authorization" && strings.EqualFold(scheme, "Basic") {
		return findInBasic(scheme, code, placeholder)
	}
	before, found := strings.CutSuffix(value, placeholder)
	if auth.In == "basic" || !found {
		return slot{}, false
	}
	if strings.EqualFold(before, auth.Prefix) || before == "" || name == "Authorization" && isScheme(before) {
		return slot{header: name, before: before}, true
	}
	return slot{}, false
}

// isScheme reports whether s is one word and a blank, as in "token ".
func isScheme(s string) bool {
	word, ok := strings.CutSuffix(s, " ")
	return ok && word != "" && strings.IndexFunc(word, func(c rune) bool {
		return (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-'
	}) < 0
}

func findInBasic(scheme, code, placeholder string) (slot, bool) {
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(code))
	if err != nil {
		return slot{}, false
	}
	user, password, ok := strings.Cut(string(plain), ":")
	switch {
	case !ok:
		return slot{}, false
	case user == placeholder && password != placeholder:
		return slot{header: "Authorization", basic: true, before: scheme + " ", after: ":" + password}, true
	case password == placeholder && user != placeholder:
		return slot{header: "Authorization", basic: true, before: scheme + " " + user + ":"}, true
	}
	return slot{}, false
}

func findInQuery(query, name, placeholder string) (found slot, ok bool) {
	start := 0
	for part := range strings.SplitSeq(query, "&") {
		end := start + len(part)
		if key, value, _ := strings.Cut(part, "="); sameName(key, name) && sameName(value, placeholder) {
			if ok {
				return slot{}, false
			}
			found, ok = slot{before: query[:end-len(value)], after: query[end:]}, true
		}
		start = end + 1
	}
	return found, ok
}

// fill writes a token in place of the placeholder; an empty one leaves the place
// empty.
func (s slot) fill(r *http.Request, token string) {
	switch {
	case s.header == "":
		r.URL.RawQuery = s.before + url.QueryEscape(token) + s.after
	case s.basic:
		scheme, user, _ := strings.Cut(s.before, " ")
		r.Header[s.header] = []string{scheme + " " + base64.StdEncoding.EncodeToString([]byte(user+token+s.after))}
	default:
		r.Header[s.header] = []string{s.before + token}
	}
}

// misplacedError says that a placeholder stands where no token belongs.
type misplacedError struct {
	owner int // of the finder's placeholders
	where string
}

// Error says where.
func (e *misplacedError) Error() string { return "a placeholder stands in " + e.where }

// finder looks for the placeholders of a run in a request, in all the forms that
// formsOf knows. The owner in what it returns is the placeholder's index.
type finder struct{ m *matcher }

// newFinder looks for these placeholders, of which there is at least one.
func newFinder(placeholders []string) finder { return finder{newMatcher(placeholders)} }

// head looks through the method, the path, the query and the headers of a request, in one
// pass where nothing is found.
func (f finder) head(r *http.Request, scratch []byte) *misplacedError {
	path, query := r.URL.EscapedPath(), r.URL.RawQuery
	b := append(append(append(scratch[:0], r.Method...), '\n'), path...)
	if strings.Contains(path, "%") {
		b = append(append(b, '\n'), r.URL.Path...)
	}
	b = append(append(b, '\n'), query...)
	if strings.Contains(query, "%") {
		b = append(append(b, '\n'), unescape(query)...)
	}
	for name, values := range r.Header {
		b = append(append(b, '\n'), name...)
		for _, v := range values {
			b = append(append(b, '\n'), v...)
		}
	}
	if f.m.contains(b) == nil {
		return nil
	}
	look := func(where string, texts ...string) *misplacedError {
		for _, text := range texts {
			if p := f.m.contains([]byte(text)); p != nil {
				return &misplacedError{p.owner, where}
			}
		}
		return nil
	}
	if bad := look("the method", r.Method); bad != nil {
		return bad
	}
	if bad := look("the path", path, r.URL.Path); bad != nil {
		return bad
	}
	if bad := look("the query", query, unescape(query)); bad != nil {
		return bad
	}
	for name, values := range r.Header {
		if bad := look("the name of a header", name); bad != nil {
			return bad
		}
		if bad := look("the header "+name[:min(len(name), 40)], values...); bad != nil {
			return bad
		}
	}
	return nil
}

// unescape decodes what can be decoded.
func unescape(query string) string {
	if plain, err := url.QueryUnescape(query); err == nil {
		return plain
	}
	var b strings.Builder
	for i := 0; i < len(query); i++ {
		if query[i] == '%' && i+2 < len(query) {
			if c, err := strconv.ParseUint(query[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(query[i])
	}
	return b.String()
}

// whole looks through a body that is there as a whole.
func (f finder) whole(body []byte) *misplacedError {
	if p := f.m.contains(body); p != nil {
		return &misplacedError{p.owner, "the body"}
	}
	return nil
}

// body looks through a body while it is read. The read that would give a part of
// a placeholder, or the end before trailers that hold one, fails with a
// *misplacedError instead.
func (f finder) body(src io.ReadCloser, trailer http.Header) io.ReadCloser {
	if f.m == nil {
		return src
	}
	return &searchedBody{
		Closer:  src,
		f:       f,
		trailer: trailer,
		text: &stream{src: src, m: f.m, hit: func(p *pattern) ([]byte, error) {
			return nil, &misplacedError{p.owner, "the body"}
		}},
	}
}

type searchedBody struct {
	io.Closer
	f       finder
	trailer http.Header // filled by the end of the body
	text    io.Reader
}

func (b *searchedBody) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err == io.EOF {
		for _, values := range b.trailer {
			for _, v := range values {
				if bad := b.f.m.contains([]byte(v)); bad != nil {
					return 0, &misplacedError{bad.owner, "a trailer"}
				}
			}
		}
	}
	return n, err
}
