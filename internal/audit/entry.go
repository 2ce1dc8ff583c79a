// Package audit keeps the local log of what was handed out: one file of lines
// per connection, chained by HMAC, with the end of the chain written down beside
// it. It knows neither stores nor connections: a path, a key and a lock are
// given to it.
package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"time"
)

// The events that a line can tell of.
const (
	// EventToken is a token that left apiauth.
	EventToken = "token"
	// EventCalls is calls that got a token while a command ran, or what came of
	// calls that a line before has counted.
	EventCalls = "calls"
	// EventConnect and EventDisconnect begin and end a connection.
	EventConnect    = "connect"
	EventDisconnect = "disconnect"
	// EventRekey is the first line under the new sealing key of a connection.
	EventRekey = "rekey"
	// EventRenamed is the first line under the new name of a connection; Detail is
	// the name before.
	EventRenamed = "renamed"
	// EventRefused is a token that was asked for and could not be had, because
	// the grant has ended.
	EventRefused = "refused"
	// EventAlert is something unusual; Detail says what.
	EventAlert = "alert"
	// EventResumed is written when the end of the log was not where it had been
	// written down: lines were cut off or changed, or the system went down.
	EventResumed = "resumed"
)

// Entry is one line of a log. Project and connection are in no line: the key is
// derived from them.
type Entry struct {
	Number  uint64    `json:"n"` // from 1, without gaps
	Time    time.Time `json:"t"` // UTC
	Event   string    `json:"e"`
	Purpose string    `json:"p,omitempty"` // the command: token, exec, git-credential
	Count   int       `json:"c,omitempty"` // EventCalls: how many
	Refused int       `json:"r,omitempty"` // EventCalls: answers by which an API refused the token (401)
	Failed  int       `json:"z,omitempty"` // EventCalls: answers of other kinds that Fails counts
	Caller  string    `json:"x,omitempty"` // path of the executable that started apiauth
	Folder  string    `json:"d,omitempty"` // its working directory
	Print   string    `json:"f,omitempty"` // of the token, see Fingerprint
	Detail  string    `json:"w,omitempty"`
	Key     string    `json:"k"` // id of the key, see chain
}

// Uses is how often the token was used by what a line tells of.
func (e *Entry) Uses() int {
	switch e.Event {
	case EventToken:
		return 1
	case EventCalls:
		return e.Count
	}
	return 0
}

const (
	macSize = 16 // bytes of HMAC-SHA-256 that a line carries
	maxLine = 16 << 10
	maxText = 1024 // bytes of a path or a detail
)

// Fingerprint tells one token from another for who holds the key of the log, and
// nothing else: 8 bytes of an HMAC, in hex.
func Fingerprint(key []byte, token string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("token\x00" + token))
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// chain computes the codes of lines, each over the one before.
type chain struct {
	id   string // names the key in the lines without telling it
	hash hash.Hash
	sum  [sha256.Size]byte
}

func newChain(key []byte) *chain {
	c := &chain{hash: hmac.New(sha256.New, key)}
	c.hash.Write([]byte("id"))
	c.id = hex.EncodeToString(c.hash.Sum(c.sum[:0])[:4])
	return c
}

// next returns the code of a line that follows the line with the code before.
func (c *chain) next(before, line []byte) []byte {
	c.hash.Reset()
	c.hash.Write(before)
	c.hash.Write([]byte{0})
	c.hash.Write(line)
	return c.hash.Sum(c.sum[:0])[:macSize]
}

// format returns the line of an entry, with its end, and its code.
func (c *chain) format(before []byte, e *Entry) (text, mac []byte, err error) {
	e.Caller, e.Folder, e.Detail = short(e.Caller), short(e.Folder), short(e.Detail)
	body, err := e.appendTo(make([]byte, 0, 512))
	if err != nil {
		return nil, nil, fmt.Errorf("write the audit log: %w", err)
	}
	mac = bytes.Clone(c.next(before, body))
	body = append(body, '\t')
	return append(hex.AppendEncode(body, mac), '\n'), mac, nil
}

// appendTo appends what package json makes of an entry, without its tables of
// types: they would cost more than all the rest of a line.
func (e *Entry) appendTo(b []byte) (_ []byte, err error) {
	b = strconv.AppendUint(append(b, `{"n":`...), e.Number, 10)
	if b, err = e.Time.AppendText(append(b, `,"t":"`...)); err != nil {
		return nil, err
	}
	b = append(b, '"')
	text := func(name, value string) {
		if value != "" {
			b = appendQuoted(append(append(append(b, `,"`...), name...), `":`...), value)
		}
	}
	number := func(name string, n int) {
		if n != 0 {
			b = strconv.AppendInt(append(append(append(b, `,"`...), name...), `":`...), int64(n), 10)
		}
	}
	b = appendQuoted(append(b, `,"e":`...), e.Event)
	text("p", e.Purpose)
	number("c", e.Count)
	number("r", e.Refused)
	number("z", e.Failed)
	text("x", e.Caller)
	text("d", e.Folder)
	text("f", e.Print)
	text("w", e.Detail)
	return append(appendQuoted(append(b, `,"k":`...), e.Key), '}'), nil
}

// appendQuoted appends a text as JSON. Package json has the word on all but plain
// ones.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(`"\<>&`, c) >= 0 {
			quoted, err := json.Marshal(s)
			if err != nil {
				panic("audit: " + err.Error()) // no text fails
			}
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func short(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}
