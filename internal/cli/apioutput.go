package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/apicall"
	"github.com/apiauth/apiauth/internal/oauth"
)

// maxPretty is the longest answer that is indented at a terminal: 4 MiB.
const maxPretty = 4 << 20

// apiOutput prints what an API answered, and remembers how it went.
type apiOutput struct {
	ws        *workspace
	opts      *apiOptions
	selection *apicall.Selection

	file   *os.File // of --output, before it gets its name
	path   string
	status int
	host   string
	count  int   // array elements printed
	late   error // to be reported when everything is printed
}

// to returns where the body of an answer goes: a file takes successes only.
func (o *apiOutput) to(status int) (io.Writer, error) {
	out := o.ws.app.Stdout
	if o.opts.Output == "" || status/100 != 2 {
		if o.ws.app.StdoutTTY {
			return &plainWriter{out: out}, nil
		}
		return out, nil
	}
	if o.file != nil {
		return o.file, nil
	}
	path, err := o.ws.location(o.opts.Output)
	if err != nil {
		return nil, err
	}
	// Made by CreateTemp: readable by its owner alone.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, o.unwritten(err)
	}
	o.file, o.path = f, path
	return f, nil
}

func (o *apiOutput) unwritten(err error) error {
	if o.opts.Output == "" {
		return fmt.Errorf("write the answer: %w", err)
	}
	return failf(exitFailure, "see whether its folder is there and can be written", "write %s: %w", oauth.Clean(o.opts.Output), pathReason(err))
}

// discard removes what --output began and did not finish.
func (o *apiOutput) discard() {
	if o.file != nil {
		_ = o.file.Close()
		_ = os.Remove(o.file.Name())
	}
}

// answer sends one request and prints what comes back, without keeping it where
// that can be avoided.
func (o *apiOutput) answer(ctx context.Context, c *apicall.Caller, r apicall.Request) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	o.saw(resp)
	if o.opts.Include {
		if err := o.head(resp); err != nil {
			return err
		}
	}
	if o.opts.Silent {
		return nil
	}
	if o.selection != nil && resp.StatusCode/100 == 2 {
		body, err := apicall.ReadAnswer(resp)
		if err != nil {
			return err
		}
		return o.selected(body)
	}
	out, err := o.to(resp.StatusCode)
	if err != nil {
		return err
	}
	body := io.Reader(resp.Body)
	if o.ws.app.StdoutTTY && o.file == nil && isJSON(resp.Header) {
		start, err := io.ReadAll(io.LimitReader(body, maxPretty+1))
		var pretty bytes.Buffer
		if err == nil && len(start) <= maxPretty && json.Indent(&pretty, bytes.TrimSpace(start), "", "  ") == nil {
			start = append(pretty.Bytes(), '\n')
		}
		body = io.MultiReader(bytes.NewReader(start), failing(err), resp.Body)
	}
	return o.copy(out, body)
}

// failing is a reader that ends, with an error if there is one.
func failing(err error) io.Reader {
	if err == nil {
		return bytes.NewReader(nil)
	}
	return errReader{err}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// copy tells an answer that breaks off from output that cannot be written.
func (o *apiOutput) copy(out io.Writer, body io.Reader) error {
	w := &watched{w: out}
	if _, err := io.Copy(w, body); w.err != nil {
		return o.unwritten(w.err)
	} else if err != nil {
		return failf(exitTemporary, "try again", "read the answer of %s: %w", o.host, err)
	}
	return nil
}

// watched remembers that writing failed.
type watched struct {
	w   io.Writer
	err error
}

func (w *watched) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

func (o *apiOutput) saw(resp *http.Response) {
	o.status, o.host = resp.StatusCode, oauth.Clean(resp.Request.URL.Host)
}

// head prints status line and headers.
func (o *apiOutput) head(resp *http.Response) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	_ = resp.Header.Write(&b) // into memory
	b.WriteByte('\n')
	out := o.ws.app.Stdout
	if o.ws.app.StdoutTTY {
		out = &plainWriter{out: out}
	}
	if _, err := out.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// refusal prints the answer that came in place of a page. After pages that were
// printed it only ends their list: the status says enough.
func (o *apiOutput) refusal(resp *http.Response, body []byte) error {
	begun := o.status != 0
	if err := o.closeList(); err != nil {
		return err
	}
	o.saw(resp)
	if o.opts.Silent || begun {
		return nil
	}
	out, err := o.to(resp.StatusCode)
	if err != nil {
		return err
	}
	return o.copy(out, bytes.NewReader(body))
}

// items prints one page of a list.
func (o *apiOutput) items(items []json.RawMessage) error {
	o.status = http.StatusOK
	if o.opts.Silent {
		return nil
	}
	if o.selection == nil {
		return o.elements(items)
	}
	page, err := json.Marshal(items)
	if err != nil {
		return err
	}
	return o.selected(page)
}

// selected prints what --select finds in a document.
func (o *apiOutput) selected(doc []byte) error {
	values, err := o.selection.Apply(doc)
	if err != nil {
		return err
	}
	if o.ws.cfg.JSON {
		if err := o.elements(values); err != nil || o.opts.Paginate {
			return err
		}
		return o.closeList()
	}
	var b bytes.Buffer
	for _, v := range values {
		b.Write(line(v))
	}
	return o.write(b.Bytes())
}

// listed reports whether the output is one array.
func (o *apiOutput) listed() bool {
	return !o.opts.Silent && (o.selection == nil && o.opts.Paginate || o.selection != nil && o.ws.cfg.JSON)
}

// elements adds to the array that is printed, one element on a line.
func (o *apiOutput) elements(values []json.RawMessage) error {
	var b bytes.Buffer
	for _, v := range values {
		b.WriteString(",\n")
		if o.count == 0 {
			b.Reset()
			b.WriteString("[\n")
		}
		if err := json.Compact(&b, v); err != nil {
			return err
		}
		o.count++
	}
	return o.write(b.Bytes())
}

// closeList ends the array, if one was begun or none was needed.
func (o *apiOutput) closeList() error {
	switch {
	case !o.listed():
		return nil
	case o.count == 0 && o.status == 0:
		return nil
	case o.count == 0:
		return o.write([]byte("[]\n"))
	}
	return o.write([]byte("\n]\n"))
}

func (o *apiOutput) write(p []byte) error {
	out, err := o.to(http.StatusOK)
	if err != nil {
		return err
	}
	if _, err := out.Write(p); err != nil {
		return o.unwritten(err)
	}
	return nil
}

// finish gives the file of --output its name, and turns the status into an
// error.
func (o *apiOutput) finish() error {
	if o.file != nil && o.status/100 == 2 {
		if err := o.file.Close(); err != nil {
			return o.unwritten(err)
		}
		if err := os.Rename(o.file.Name(), o.path); err != nil {
			return o.unwritten(err)
		}
		o.file = nil
	}
	if o.late != nil {
		return o.late
	}
	switch {
	case o.status/100 == 2, o.status/100 == 3:
		return nil
	case o.status == http.StatusUnauthorized:
		return failf(exitNeedsConnect, "if the answer does not say otherwise, run 'apiauth connect "+o.opts.Name+"' to grant access again",
			"%s refused the token: HTTP status 401", o.host)
	}
	return failf(exitFailure, "", "%s answered HTTP status %d", o.host, o.status)
}

// plainWriter shows an answer at a terminal: without what could steer it.
type plainWriter struct {
	out  io.Writer
	tail []byte // the beginning of a character that the next call completes
}

func (w *plainWriter) Write(p []byte) (int, error) {
	b := slices.Concat(w.tail, p)
	shown := make([]byte, 0, len(b))
	for len(b) > 0 && (utf8.FullRune(b) || len(b) >= utf8.UTFMax) {
		r, n := utf8.DecodeRune(b)
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && !(r == utf8.RuneError && n == 1) && !unicode.Is(unicode.Cf, r) {
			shown = append(shown, b[:n]...)
		}
		b = b[n:]
	}
	w.tail = append([]byte(nil), b...)
	if _, err := w.out.Write(shown); err != nil {
		return 0, err
	}
	return len(p), nil
}
