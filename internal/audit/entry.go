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
	Key     string    `json:"k"` // id of the key, see keyID
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

// keyID names a key in the lines without telling it.
func keyID(key []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("id"))
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// chain computes the codes of lines, each over the one before.
type chain struct {
	hash hash.Hash
	sum  [sha256.Size]byte
}

func newChain(key []byte) *chain { return &chain{hash: hmac.New(sha256.New, key)} }

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
	body, err := json.Marshal(e)
	if err != nil {
		return nil, nil, fmt.Errorf("write the audit log: %w", err)
	}
	mac = bytes.Clone(c.next(before, body))
	body = append(body, '\t')
	return append(hex.AppendEncode(body, mac), '\n'), mac, nil
}

func short(s string) string {
	if len(s) > maxText {
		return s[:maxText]
	}
	return s
}
