package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// stateSuffix names the file with the end of the chain, beside the log.
const stateSuffix = ".end"

// state is the end of the chain, written down beside the log at every line.
type state struct {
	First  uint64 // number of the oldest line kept
	Before string // code of the line before that, in hex
	Last   uint64 // number of the newest line
	MAC    string // its code, in hex
	Size   int64  // of the file in use, in bytes
	Key    string // id of the key
	Anchor Anchor // the one that the log was last compared with
	Habits Habits
}

// stateForm begins the written form. What follows it are the members in order,
// with one space before each.
const stateForm = "end1"

// appendTo appends the written form. None of the texts has a space: they are hex.
func (st *state) appendTo(b []byte) []byte {
	b = append(b, stateForm...)
	b = strconv.AppendUint(append(b, ' '), st.First, 10)
	b = append(append(b, ' '), st.Before...)
	b = strconv.AppendUint(append(b, ' '), st.Last, 10)
	b = append(append(b, ' '), st.MAC...)
	b = strconv.AppendInt(append(b, ' '), st.Size, 10)
	b = append(append(b, ' '), st.Key...)
	b = strconv.AppendUint(append(b, ' '), st.Anchor.Last, 10)
	b = append(append(b, ' '), st.Anchor.MAC...)
	h := &st.Habits
	b = strconv.AppendInt(append(b, ' '), int64(h.Uses), 10)
	b = strconv.AppendInt(append(b, ' '), int64(h.Ended), 10)
	for _, w := range []*window{&h.Burst, &h.Errors, &h.Failed} {
		since := int64(0)
		if !w.Since.IsZero() {
			since = w.Since.UnixNano()
		}
		b = strconv.AppendInt(append(b, ' '), since, 10)
		b = strconv.AppendInt(append(b, ' '), int64(w.Count), 10)
		b = strconv.AppendInt(append(b, ' '), int64(w.Of), 10)
		b = strconv.AppendBool(append(b, ' '), w.Told)
	}
	for _, caller := range h.Callers {
		b = append(append(b, ' '), caller...)
	}
	return b
}

// parseState reads what appendTo wrote.
func parseState(body string) (st state, ok bool) {
	rest, ok := strings.CutPrefix(body, stateForm+" ")
	if !ok {
		return state{}, false
	}
	r := members{rest: rest}
	st.First, st.Before = uint64(r.number()), r.text() //nolint:gosec // not negative
	st.Last, st.MAC = uint64(r.number()), r.text()     //nolint:gosec // not negative
	st.Size, st.Key = r.number(), r.text()
	st.Anchor.Last, st.Anchor.MAC = uint64(r.number()), r.text() //nolint:gosec // not negative
	h := &st.Habits
	h.Uses, h.Ended = r.count(), r.count()
	for _, w := range []*window{&h.Burst, &h.Errors, &h.Failed} {
		if since := r.number(); since != 0 {
			w.Since = time.Unix(0, since)
		}
		w.Count, w.Of = r.count(), r.count()
		w.Told = r.text() == "true"
	}
	for !r.done {
		h.Callers = append(h.Callers, r.text())
	}
	return st, !r.bad
}

// members takes texts apart that stand behind each other, with a space between.
type members struct {
	rest      string
	done, bad bool // nothing is left; something was not as it should be
}

func (m *members) text() string {
	if m.done {
		m.bad = true
	}
	text, rest, more := strings.Cut(m.rest, " ")
	m.rest, m.done = rest, !more
	return text
}

func (m *members) number() int64 {
	n, err := strconv.ParseInt(m.text(), 10, 64)
	m.bad = m.bad || err != nil || n < 0
	return n
}

func (m *members) count() int {
	n := m.number()
	m.bad = m.bad || n > math.MaxInt
	return int(n)
}

// readState reads the end of the chain, from the start of the file and with a
// single call in all but odd cases. A text after the first line is left of a longer
// one and means nothing.
func (c *chain) readState(f *os.File) (state, bool) {
	var buf [4096]byte // four times of what the longest takes
	n, err := f.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF { //nolint:errorlint // as it is, by ReadAt's promise
		return state{}, false
	}
	text, _, _ := bytes.Cut(buf[:n], []byte("\n"))
	body, code, ok := bytes.Cut(text, []byte("\t"))
	if !ok {
		return state{}, false
	}
	st, ok := parseState(string(body))
	if !ok {
		return state{}, false
	}
	if st.Key != c.id {
		return st, true // under another key: nothing but that is taken from it
	}
	mac, err := hex.DecodeString(string(code))
	if err != nil || !hmac.Equal(mac, c.next([]byte("end"), body)) {
		return state{}, false
	}
	return st, true
}

// writeState writes the end down in place, with one call: a process that is
// killed leaves the old one or the new one.
func (c *chain) writeState(f *os.File, st *state) error {
	doc := st.appendTo(make([]byte, 0, 512))
	code := c.next([]byte("end"), doc)
	doc = append(hex.AppendEncode(append(doc, '\t'), code), '\n')
	if _, err := f.WriteAt(doc, 0); err != nil {
		return fmt.Errorf("write the end of the audit log: %w", err)
	}
	return nil
}
