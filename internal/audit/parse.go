package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"runtime"
	"sync"
	"time"
)

// Line is a parsed line of a log.
type Line struct {
	Entry

	body []byte
	mac  [macSize]byte
}

// parser takes lines apart; it checks no code. The zero value is ready to use.
type parser struct {
	// texts holds each text once: paths and names come again and again.
	texts map[string]string
}

// maxTexts bounds what a parser keeps.
const maxTexts = 4096

func (p *parser) line(text []byte) (Line, error) {
	at := bytes.IndexByte(text, '\t')
	if at < 0 || len(text) > maxLine {
		return Line{}, errors.New("it is no line of a log")
	}
	l := Line{body: text[:at]}
	code := text[at+1:]
	if len(code) != 2*macSize {
		return Line{}, errors.New("it ends in no code")
	}
	if _, err := hex.Decode(l.mac[:], code); err != nil {
		return Line{}, errors.New("it ends in no code")
	}
	if p.entry(l.body, &l.Entry) {
		return l, nil
	}
	l.Entry = Entry{}
	if err := json.Unmarshal(l.body, &l.Entry); err != nil {
		return Line{}, errors.New("it is no JSON object")
	}
	return l, nil
}

// piece is a part of a file that was taken apart.
type piece struct {
	lines []Line
	// follows says of each line whether its code is right after the line before
	// it in the piece. Filled with a chain alone.
	follows []bool
	faults  map[int]error // by the number of the line in the piece, from 0
	count   int           // lines of the file in it, those with faults included
}

// smallest is how much text is worth a goroutine.
const smallest = 256 << 10

// pieces takes a file apart, on all processors. A chain for each checks the
// codes; newChain may be nil.
func pieces(doc []byte, newChain func() *chain) []piece {
	list := make([]piece, max(1, min(runtime.GOMAXPROCS(0), len(doc)/smallest)))
	var all sync.WaitGroup
	for i := range list {
		part := doc
		if left := len(list) - i; left > 1 {
			at := len(doc) / left
			at += bytes.IndexByte(doc[at:], '\n') + 1 // nothing, where no line ends any more
			part, doc = doc[:at], doc[at:]
		}
		all.Go(func() {
			var c *chain
			if newChain != nil {
				c = newChain()
			}
			list[i].read(part, c)
		})
	}
	all.Wait()
	return list
}

func (p *piece) read(doc []byte, c *chain) {
	var texts parser
	lines := bytes.Count(doc, []byte("\n"))
	p.lines = make([]Line, 0, lines)
	if c != nil {
		p.follows = make([]bool, 0, lines)
	}
	for ; len(doc) > 0; p.count++ {
		text, rest, whole := bytes.Cut(doc, []byte("\n"))
		doc = rest
		line, err := texts.line(text)
		if !whole {
			err = errors.New("the line is cut off")
		}
		if err != nil {
			if p.faults == nil {
				p.faults = map[int]error{}
			}
			p.faults[p.count] = err
			continue
		}
		if c != nil {
			n := len(p.lines)
			p.follows = append(p.follows, n > 0 && hmac.Equal(line.mac[:], c.next(p.lines[n-1].mac[:], line.body)))
		}
		p.lines = append(p.lines, line)
	}
}

// entry reads the form in which most lines are written: members with names of
// one letter, and values that are numbers or texts without escapes. It reports
// whether the whole body was of that form; package json has the last word on
// all others.
func (p *parser) entry(body []byte, e *Entry) bool {
	if len(body) < 2 || body[0] != '{' || body[len(body)-1] != '}' {
		return false
	}
	for rest := body[1 : len(body)-1]; ; {
		if len(rest) < 5 || rest[0] != '"' || rest[2] != '"' || rest[3] != ':' {
			return false
		}
		name := rest[1]
		rest = rest[4:]
		var ok bool
		if rest[0] == '"' {
			var text []byte
			if text, rest, ok = plainText(rest[1:]); !ok || !p.set(e, name, text) {
				return false
			}
		} else {
			var n uint64
			if n, rest, ok = plainNumber(rest); !ok || !setNumber(e, name, n) {
				return false
			}
		}
		if len(rest) == 0 {
			return true
		}
		if rest[0] != ',' {
			return false
		}
		rest = rest[1:]
	}
}

// plainText cuts a text off that ends in a quote.
func plainText(doc []byte) (text, rest []byte, ok bool) {
	for i, c := range doc {
		switch {
		case c == '"':
			return doc[:i], doc[i+1:], true
		case c == '\\' || c < ' ' || c > '~':
			return nil, nil, false
		}
	}
	return nil, nil, false
}

// plainNumber cuts a number off that an int holds.
func plainNumber(doc []byte) (n uint64, rest []byte, ok bool) {
	const digits = 9
	i := 0
	for i < len(doc) && i <= digits && doc[i] >= '0' && doc[i] <= '9' {
		n = 10*n + uint64(doc[i]-'0')
		i++
	}
	return n, doc[i:], i > 0 && i <= digits && (doc[0] != '0' || i == 1)
}

func (p *parser) set(e *Entry, name byte, text []byte) bool {
	switch name {
	case 't':
		return e.Time.UnmarshalText(text) == nil && e.Time.Location() == time.UTC
	case 'e':
		e.Event = p.keep(text)
	case 'p':
		e.Purpose = p.keep(text)
	case 'x':
		e.Caller = p.keep(text)
	case 'd':
		e.Folder = p.keep(text)
	case 'f':
		e.Print = p.keep(text)
	case 'w':
		e.Detail = p.keep(text)
	case 'k':
		e.Key = p.keep(text)
	default:
		return false
	}
	return true
}

func setNumber(e *Entry, name byte, n uint64) bool {
	switch name {
	case 'n':
		e.Number = n
	case 'c':
		e.Count = int(n) //nolint:gosec // of nine digits
	case 'r':
		e.Refused = int(n) //nolint:gosec // see above
	case 'z':
		e.Failed = int(n) //nolint:gosec // see above
	default:
		return false
	}
	return true
}

func (p *parser) keep(text []byte) string {
	if s, ok := p.texts[string(text)]; ok {
		return s
	}
	s := string(text)
	if p.texts == nil {
		p.texts = map[string]string{}
	}
	if len(p.texts) < maxTexts {
		p.texts[s] = s
	}
	return s
}
